//! Several RPC nodes as one: each request goes to the cheaper of two nodes drawn at random, and to the others when that
//! one can't answer it or asked for a pause.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use rand::Rng;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rpc::{
    FetchError, FetchedBlock, Offer, RpcCounts, RpcFetcher, RpcOptions, Standing, all_paused, verdict,
};
use crate::component::Problem;
use crate::http_url;
use crate::node::Clock;
use crate::slot::{Commitment, Slot};
use crate::stage::Metric;

/// How long a request waits for the end of a pause when all nodes want one: most are over by then, and whoever asks has
/// better things to do than to ask again each second.
const PATIENCE: Duration = Duration::from_secs(5);

/// One RPC node, `{ url = "…" }`, or a list of them.
#[derive(Debug, Clone)]
pub struct RpcList(Vec<RpcOptions>);

impl RpcList {
    /// The nodes.
    pub fn nodes(&self) -> &[RpcOptions] {
        &self.0
    }

    /// What types can't rule out; options are named from `rpc` on.
    pub fn problems(&self) -> Vec<Problem> {
        let of = |(place, node): (usize, &RpcOptions)| {
            let named = |found: Problem| Problem {
                option: format!("{}.{}", self.name(place), found.option),
                ..found
            };
            node.problems().into_iter().map(named).collect::<Vec<_>>()
        };
        let mut problems: Vec<Problem> = self.0.iter().enumerate().flat_map(of).collect();
        if let Some((again, first)) = http_url::repeated(self.0.iter().map(|node| node.url.expose())) {
            problems.push(Problem {
                option: format!("rpc[{again}].url"),
                message: format!("is that of rpc[{first}], too"),
                help: "give each node once, with all that it allows".to_owned(),
            });
        }
        if self.0.is_empty() {
            problems.push(Problem {
                option: "rpc".to_owned(),
                message: "is an empty list".to_owned(),
                help: "give at least one `{ url = \"https://…\" }`, or leave it out".to_owned(),
            });
        }
        problems
    }

    /// What the node at `place` is called: the way to it in the file.
    fn name(&self, place: usize) -> String {
        if self.0.len() == 1 { "rpc".to_owned() } else { format!("rpc[{place}]") }
    }
}

impl From<RpcOptions> for RpcList {
    fn from(node: RpcOptions) -> Self {
        Self(vec![node])
    }
}

impl From<Vec<RpcOptions>> for RpcList {
    fn from(nodes: Vec<RpcOptions>) -> Self {
        Self(nodes)
    }
}

impl Serialize for RpcList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [node] => node.serialize(serializer),
            nodes => nodes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RpcList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: serde's untagged enums forget where in the file a value stands.
        deserializer.deserialize_any(RpcListVisitor)
    }
}

struct RpcListVisitor;

impl<'de> Visitor<'de> for RpcListVisitor {
    type Value = RpcList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an rpc node `{ url = \"…\" }`, or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RpcList, A::Error> {
        RpcOptions::deserialize(MapAccessDeserializer::new(map)).map(RpcList::from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RpcList, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(RpcList)
    }
}

impl JsonSchema for RpcList {
    fn schema_name() -> Cow<'static, str> {
        "RpcList".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let node = generator.subschema_for::<RpcOptions>();
        json_schema!({
            "description": "an RPC node, or a list of them",
            "anyOf": [node, { "type": "array", "items": node }],
        })
    }
}

/// Asks several RPC nodes.
pub struct RpcPool {
    nodes: Vec<RpcFetcher>,
    clock: Clock,
}

impl RpcPool {
    /// A pool of these nodes; nothing is sent yet. `list` has no [`RpcList::problems`].
    ///
    /// # Errors
    /// If the system's TLS can't be set up, or a header is not usable.
    pub fn try_new(list: &RpcList, clock: Clock) -> Result<Self, FetchError> {
        let node = |(place, options)| RpcFetcher::try_new(list.name(place), options, clock);
        let nodes = list.nodes().iter().enumerate().map(node);
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()?, clock })
    }

    /// See [`RpcFetcher::blocks`]. A node lists nothing where it keeps nothing, too, so an empty list is the answer only
    /// when no other node has more.
    ///
    /// # Errors
    /// See [`FetchError`]; what the most telling of the nodes said.
    pub async fn blocks(
        &self,
        first: Slot,
        last: Slot,
        commitment: Commitment,
    ) -> Result<Vec<Slot>, FetchError> {
        self.ask(|node| node.blocks(first, last, commitment), |slots| !slots.is_empty()).await
    }

    /// See [`RpcFetcher::block`].
    ///
    /// # Errors
    /// See [`FetchError`]; what the most telling of the nodes said.
    pub async fn block(&self, slot: Slot, commitment: Commitment) -> Result<FetchedBlock, FetchError> {
        self.ask(|node| node.block(slot, commitment), |_| true).await
    }

    /// See [`RpcFetcher::slot`].
    ///
    /// # Errors
    /// See [`FetchError`]; what the most telling of the nodes said.
    pub async fn slot(&self, commitment: Commitment) -> Result<Slot, FetchError> {
        self.ask(|node| node.slot(commitment), |_| true).await
    }

    /// See [`RpcFetcher::block_time`].
    ///
    /// # Errors
    /// See [`FetchError`]; what the most telling of the nodes said.
    pub async fn block_time(&self, slot: Slot) -> Result<Option<i64>, FetchError> {
        self.ask(|node| node.block_time(slot), |_| true).await
    }

    /// The first slot that any of the nodes keeps the block of. All of them have to say so: one that doesn't may keep more.
    ///
    /// # Errors
    /// See [`FetchError`]; what the most telling of the nodes said.
    pub async fn first_available(&self) -> Result<Slot, FetchError> {
        let answers = futures::future::join_all(self.nodes.iter().map(RpcFetcher::first_available)).await;
        let (mut first, mut errors) = (Slot::MAX, Vec::new());
        for answer in answers {
            match answer {
                Ok(slot) => first = first.min(slot),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(first) } else { Err(verdict(errors)) }
    }

    /// The most requests at a time that the nodes seem to bear that don't rest; one, which finds out, if all do.
    pub fn concurrency_limit(&self) -> usize {
        let now = self.clock.now();
        let bears = |node: &RpcFetcher| {
            let standing = node.standing();
            if standing.rests(now) { 0 } else { standing.concurrency_limit() }
        };
        self.nodes.iter().map(bears).sum::<usize>().max(1)
    }

    /// How long all nodes are left alone from now on; nothing while one may be asked.
    fn wait(&self) -> Duration {
        let now = self.clock.now();
        self.nodes.iter().map(|node| node.standing().rest_left(now)).min().unwrap_or_default()
    }

    /// Shows what was counted of all nodes.
    pub fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        let now = self.clock.now();
        let sum =
            |one: fn(&Standing) -> u64| self.nodes.iter().map(|node| one(&node.standing())).sum::<u64>();
        let resting = self.nodes.iter().filter(|node| node.standing().rests(now)).count();
        let counted = |one: fn(RpcCounts) -> u64| {
            self.nodes.iter().map(|node| one(node.standing().counts())).sum::<u64>()
        };
        show(Metric::new("rpc_requests_total", counted(|counts| counts.requests)));
        show(Metric::new("rpc_errors_total", counted(|counts| counts.errors)));
        show(Metric::new("rpc_rate_limited_total", counted(|counts| counts.rate_limited)));
        show(Metric::new("rpc_concurrency_limit", sum(|standing| standing.concurrency_limit() as u64)));
        show(Metric::new("rpc_in_flight", sum(|standing| standing.in_flight() as u64)));
        show(Metric::new("rpc_resting", resting as u64));
        show(Metric::new("rpc_wait_seconds", self.wait().as_secs_f64().ceil() as u64));
    }

    async fn ask<'n, T, F>(
        &'n self,
        request: impl Fn(&'n RpcFetcher) -> F,
        is_enough: impl Fn(&T) -> bool,
    ) -> Result<T, FetchError>
    where
        F: Future<Output = Result<T, FetchError>>,
    {
        let give_up_at = self.clock.now().after(PATIENCE);
        loop {
            let errors = match self.ask_each(&request, &is_enough).await {
                Ok(answer) => return Ok(answer),
                Err(errors) => errors,
            };
            let waits = all_paused(&errors);
            let error = verdict(errors);
            match error.retry_after() {
                Some(wait) if waits && self.clock.now().after(wait) <= give_up_at => {
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Asks one node after the other until one has an answer, and one that is enough if there is such a one.
    async fn ask_each<'n, T, F>(
        &'n self,
        request: &impl Fn(&'n RpcFetcher) -> F,
        is_enough: &impl Fn(&T) -> bool,
    ) -> Result<T, Vec<FetchError>>
    where
        F: Future<Output = Result<T, FetchError>>,
    {
        let (mut poor, mut errors) = (None, Vec::new());
        for place in self.order() {
            match request(&self.nodes[place]).await {
                Ok(answer) if is_enough(&answer) => return Ok(answer),
                Ok(answer) => poor = Some(answer),
                // A claim that a slot was skipped is weighed by whoever asked; other nodes would only repeat it.
                Err(error @ FetchError::ClaimedSkipped { .. }) => return Err(vec![error]),
                Err(error) => errors.push(error),
            }
        }
        poor.ok_or(errors)
    }

    fn order(&self) -> Vec<usize> {
        let now = self.clock.now();
        let offers: Vec<Offer> = self.nodes.iter().map(|node| node.standing().offer(now)).collect();
        order(&offers, |count| rand::rng().random_range(0..count))
    }
}

/// The order in which nodes are asked: first the cheaper of two of the best ones, which `draw` draws from so many; then the
/// others, those that have room before those that don't, and those that rest last.
pub(crate) fn order(offers: &[Offer], mut draw: impl FnMut(usize) -> usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..offers.len()).collect();
    order.sort_by(|&one, &other| offers[one].compare(&offers[other]));
    let best = order.first().map_or(0, |&best| {
        offers.iter().filter(|offer| offer.is_of_the_same_class_as(&offers[best])).count()
    });
    // Of two both are drawn.
    if best > 2 {
        let first = draw(best).min(draw(best));
        let chosen = order.remove(first);
        order.insert(0, chosen);
    }
    order
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::recovery::rpc::fake_node::{FakeNode, result};

    fn list(text: &str) -> RpcList {
        #[derive(Deserialize)]
        struct Table {
            rpc: RpcList,
        }
        toml::from_str::<Table>(text).expect("valid options").rpc
    }

    #[test]
    fn one_node_and_a_list_are_both_understood_and_written_as_they_were() {
        let one = list("rpc = { url = 'https://a' }");
        assert_eq!(one.nodes().len(), 1);
        assert!(serde_json::to_value(&one).expect("serializable").is_object());
        let two = list("rpc = [{ url = 'https://a' }, { url = 'b', burst = 0 }]");
        assert!(serde_json::to_value(&two).expect("serializable").is_array());
        let wrong: Vec<_> = two.problems().into_iter().map(|problem| problem.option).collect();
        assert_eq!(wrong, ["rpc[1].url", "rpc[1].burst"]);
        assert_eq!(list("rpc = []").problems()[0].option, "rpc");
        let twice = list("rpc = [{ url = 'http://a' }, { url = 'https://a' }, { url = 'http://A:80/' }]");
        let wrong: Vec<_> = twice.problems().into_iter().map(|problem| problem.option).collect();
        assert_eq!(wrong, ["rpc[2].url"]);
    }

    #[tokio::test]
    async fn when_no_node_can_be_reached_the_error_says_so_and_all_were_asked() {
        let nodes = [1, 2, 3].map(|port| RpcOptions::new(format!("http://127.0.0.1:{port}")));
        let pool = RpcPool::try_new(&RpcList::from(nodes.to_vec()), Clock::start()).expect("valid options");
        let error = pool.slot(Commitment::Finalized).await.expect_err("nobody listens there");
        assert!(matches!(error, FetchError::Transport(_)), "{error}");
        let asked = pool.nodes.iter().filter(|node| node.standing().counts().errors == 1).count();
        assert_eq!(asked, 3);
    }

    fn offer(rests: bool, is_full: bool, cost: f64) -> Offer {
        Offer { rests, is_full, cost }
    }

    #[test]
    fn of_two_nodes_with_room_the_cheaper_is_asked_first_and_those_without_come_later() {
        let offers = [
            offer(true, false, 1.0),
            offer(false, true, 2.0),
            offer(false, false, 9.0),
            offer(false, false, 7.0),
        ];
        assert_eq!(order(&offers, |_| 0), [3, 2, 1, 0]);
    }

    #[test]
    fn of_many_nodes_two_are_drawn_and_the_cheaper_one_is_asked_first() {
        let offers = [5.0, 4.0, 3.0, 2.0].map(|cost| offer(false, false, cost));
        let mut draws = [3, 2].into_iter();
        assert_eq!(order(&offers, |_| draws.next().expect("two draws")), [1, 3, 2, 0]);
    }

    #[tokio::test]
    async fn a_node_that_rests_is_asked_last() {
        let nodes = [1, 2].map(|port| RpcOptions::new(format!("http://127.0.0.1:{port}")));
        let pool = RpcPool::try_new(&RpcList::from(nodes.to_vec()), Clock::start()).expect("valid options");
        for _ in 0..5 {
            pool.nodes[0].slot(Commitment::Finalized).await.expect_err("nobody listens there");
        }
        assert_eq!(pool.order(), [1, 0]);
    }

    fn pool(nodes: &[&FakeNode]) -> RpcPool {
        let nodes: Vec<RpcOptions> = nodes.iter().map(|node| RpcOptions::new(&node.url)).collect();
        RpcPool::try_new(&nodes.into(), Clock::start()).expect("valid options")
    }

    fn limited(seconds: &str) -> (&'static str, String) {
        let head = match seconds {
            "20" => "429 Too Many Requests\r\nretry-after: 20",
            _ => "429 Too Many Requests\r\nretry-after: 0.2",
        };
        (head, String::new())
    }

    #[tokio::test]
    async fn a_node_that_wants_a_pause_holds_nothing_up_while_another_answers() {
        let (limited, well) =
            (FakeNode::start(vec![limited("20")]).await, FakeNode::start(vec![result(json!(7))]).await);
        let pool = pool(&[&limited, &well]);
        let asks = (0..50).map(|_| pool.slot(Commitment::Finalized));
        let answers = tokio::time::timeout(Duration::from_secs(15), futures::future::join_all(asks)).await;
        assert!(answers.expect("nobody sleeps").into_iter().all(|answer| answer.is_ok_and(|slot| slot == 7)));
        // Only what was under way when it asked for the pause.
        assert!(limited.requests().len() <= 2, "{}", limited.requests().len());
        assert_eq!((pool.order(), pool.wait()), (vec![1, 0], Duration::ZERO));
    }

    #[tokio::test]
    async fn a_short_pause_of_all_nodes_is_waited_for_and_a_long_one_told() {
        let node = FakeNode::start(vec![limited("0.2"), result(json!(7)), limited("20")]).await;
        let pool = pool(&[&node]);
        pool.slot(Commitment::Finalized).await.expect_err("the limit");
        assert_eq!(pool.slot(Commitment::Finalized).await.expect("behind the pause"), 7);
        pool.slot(Commitment::Finalized).await.expect_err("the limit");
        let error = pool.slot(Commitment::Finalized).await.expect_err("the pause");
        assert!(matches!(error, FetchError::Paused { .. }), "{error}");
        assert!(pool.wait() > Duration::from_secs(15) && node.requests().len() == 3);
    }

    #[tokio::test]
    async fn a_node_that_lists_nothing_does_not_speak_for_one_that_has_more() {
        let empty = FakeNode::start(vec![result(json!([])), result(json!(90))]).await;
        let full = FakeNode::start(vec![result(json!([5])), result(json!(3))]).await;
        let pool = pool(&[&empty, &full]);
        // So that the other one is asked first.
        pool.nodes[1].standing().on_pending();
        pool.nodes[1].standing().on_pending();
        assert_eq!(pool.blocks(1, 9, Commitment::Finalized).await.expect("a list"), [5]);
        assert_eq!(empty.requests().len(), 1);
        assert_eq!(pool.first_available().await.expect("both say it"), 3);
    }
}
