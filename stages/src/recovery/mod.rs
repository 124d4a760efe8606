//! `recovery`: fetches what the ledger says is missing.
//!
//! Blocks, statuses and gaps in; the same blocks and statuses, and the recovered blocks, out. What to fetch next is
//! decided by a pure [`plan::Planner`]; this file runs the fetches around it.
//!
//! ```text
//!  inbox ──→ planner ──→ outbox            at most `max_in_flight` fetches at a time;
//!              │  ▲                        each is a task of a JoinSet that this node owns
//!       fetches│  │results (bounded)
//!              ▼  │
//!     replay: endpoint from_slot     rpc: getBlocks, getBlock
//! ```
//!
//! Behind a spool, what replays bring goes to its log as well, and what an earlier run had fetched comes back from there.

mod bypass;
pub mod concurrency;
pub mod convert;
pub mod fetch;
pub mod kept;
pub mod ledger_format;
pub mod pace;
pub mod plan;
pub mod pool;
pub mod replay;
pub mod rpc;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::batch::{EndpointId, Item, Scope};
use crate::component::{
    Accepts, BuildContext, BuildError, Component, Emits, Endpoint, Node, Problem, Role, Start,
};
use crate::edge::{Inbox, Outbox};
use crate::filter::TransactionFilters;
use crate::node::{NodeContext, NodeError, Transform};
use crate::slot::Slot;
use crate::stage::{Flow, Metric, Output};
use fetch::Fetcher;
use kept::{FetchedSlot, Handover, RecoveryEnds};
use plan::{Fetch, Fetched, Planner};
use pool::{RpcList, RpcPool};

/// How often the planner looks for searches that have become due.
const TICK: Duration = Duration::from_millis(50);
/// Results that wait for the planner: a fetch may bring tens of megabytes, so few.
const RESULTS_CAPACITY: usize = 4;

/// Options of `recovery`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecoveryOptions {
    /// Whether anything is fetched at all. Default true. Without it a slot that is missing stays missing, and holds up every
    /// file after it.
    pub enabled: bool,
    /// The RPC node to ask for blocks, `rpc = { url = "https://…" }`, or a list of them among which requests are spread.
    /// Without one only replays are tried, and what they can't give stays a hole.
    pub rpc: Option<RpcList>,
    /// Whether to ask the pipeline's endpoints for a `from_slot` replay before RPC. Default true.
    pub replay: bool,
    /// How many slots behind the tip a replay may begin: it brings everything since. Default 150, the plugin's default
    /// window.
    pub max_replay_slots: u64,
    /// Slots that are looked at together for one replay. Default 100.
    pub batch_size: usize,
    /// Fetches under way at a time. Default 8.
    pub max_in_flight: usize,
    /// How long nothing may become final before RPC is asked for its finalized slot. Default 5s: a dozen slots.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub tip_interval: Duration,
    /// How long a fetch may take before the next way is tried beside it. Default 3s: a replay of a hundred slots takes
    /// about one, and one that hangs must not hold a slot up.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub hedge_after: Duration,
    /// Tries of RPC before a slot is called a hole. Default 3.
    pub max_retries: u32,
    /// The first wait between tries. Default 250ms; doubled with each try, with full jitter.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub min_backoff: Duration,
    /// The longest wait between tries. Default 30s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub max_backoff: Duration,
    /// How often a hole is tried again, for as long as the pipeline runs; sooner if nodes that rest are asked again sooner.
    /// Default 30s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub hole_interval: Duration,
}

impl Default for RecoveryOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            rpc: None,
            replay: true,
            max_replay_slots: 150,
            batch_size: 100,
            max_in_flight: 8,
            tip_interval: Duration::from_secs(5),
            hedge_after: Duration::from_secs(3),
            max_retries: 3,
            min_backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(30),
            hole_interval: Duration::from_secs(30),
        }
    }
}

impl Component for RecoveryOptions {
    const KIND: &'static str = "recovery";
    const ROLE: Role = Role::Stage;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Blocks);
    const EMITS: Emits = Emits::Only(Flow::Blocks);
    const SUMMARY: &'static str =
        "Fetches missing slots, by replay and RPC, until each is there or proven to be skipped.";

    fn problems(&self) -> Vec<Problem> {
        let zeros = [("batch_size", self.batch_size == 0), ("max_in_flight", self.max_in_flight == 0)];
        let zeros = zeros.iter().filter(|(_, zero)| *zero).map(|(option, _)| Problem {
            option: (*option).to_owned(),
            message: "nothing would ever be fetched".to_owned(),
            help: "give 1 or more, or leave it out for the default".to_owned(),
        });
        let mut problems: Vec<Problem> = zeros.collect();
        problems.extend(self.rpc.iter().flat_map(RpcList::problems));
        if self.rpc.is_none() && !self.replay {
            problems.push(Problem {
                option: "replay".to_owned(),
                message: "there is no way left to recover a slot".to_owned(),
                help: "allow replays, or give an rpc node".to_owned(),
            });
        }
        problems
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        if !self.enabled {
            return Ok(Node::Stage(Box::new(bypass::Bypass)));
        }
        let mut filters = TransactionFilters::Any(Vec::new());
        for endpoint in &context.endpoints {
            let own = TransactionFilters::try_new(endpoint.options.selected_transactions());
            filters = filters.or(own.map_err(|error| BuildError::Other(error.to_string()))?);
        }
        Ok(Node::Transform(Box::new(Recovery {
            options: self,
            scope: context.scope,
            filters,
            start: context.start,
            endpoints: context.endpoints.clone(),
            spool: context.shared.get::<Handover>().and_then(Handover::take),
        })))
    }
}

/// The node.
struct Recovery {
    options: RecoveryOptions,
    scope: Scope,
    filters: TransactionFilters,
    start: Start,
    endpoints: Vec<Endpoint>,
    /// A spool upstream keeps what is fetched from streams.
    spool: Option<RecoveryEnds>,
}

impl Transform for Recovery {
    fn run(
        self: Box<Self>,
        inbox: Inbox,
        outbox: Outbox,
        requests: mpsc::Receiver<Vec<Slot>>,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move { Loop::try_new(*self, outbox, context)?.run(inbox, requests).await })
    }
}

/// The next slot that an earlier run fetched; never, if there is no spool.
async fn played(spool: &mut Option<RecoveryEnds>) -> Option<FetchedSlot> {
    match spool {
        Some(spool) => spool.played.recv().await,
        None => std::future::pending().await,
    }
}

/// The planner and the fetches around it.
struct Loop {
    planner: Planner,
    fetcher: Arc<Fetcher>,
    fetches: JoinSet<()>,
    endpoints: Vec<Endpoint>,
    scope: Scope,
    spool: Option<RecoveryEnds>,
    /// Slots that were fetched and that the spool did not take.
    unspooled: u64,
    outbox: Outbox,
    context: NodeContext,
}

impl Loop {
    fn try_new(recovery: Recovery, outbox: Outbox, context: NodeContext) -> Result<Self, NodeError> {
        let rpc = recovery.options.rpc.as_ref().map(|list| RpcPool::try_new(list, context.clock));
        let rpc = rpc.transpose().map_err(|error| NodeError::Fatal(error.to_string()))?;
        let ids: Vec<EndpointId> = recovery.endpoints.iter().map(|endpoint| endpoint.id).collect();
        let seed = context.clock.now().0;
        let planner =
            Planner::new(recovery.options, recovery.scope, recovery.filters, ids, recovery.start, seed);
        let budget = Arc::clone(&context.budget);
        let fetcher = Arc::new(Fetcher::new(recovery.endpoints.clone(), rpc, context.clock, budget));
        Ok(Self {
            planner,
            fetcher,
            fetches: JoinSet::new(),
            endpoints: recovery.endpoints,
            scope: recovery.scope,
            spool: recovery.spool,
            unspooled: 0,
            outbox,
            context,
        })
    }

    async fn run(
        mut self,
        mut inbox: Inbox,
        mut requests: mpsc::Receiver<Vec<Slot>>,
    ) -> Result<(), NodeError> {
        let (results, mut fetched) = mpsc::channel(RESULTS_CAPACITY);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut out = Output::default();
            tokio::select! {
                received = inbox.recv() => match received {
                    Some((_, batch)) => self.planner.on_batch(self.context.clock.now(), batch, &mut out),
                    None => break,
                },
                Some((fetch, result)) = fetched.recv() => {
                    let kept = self.to_keep(fetch, &result);
                    self.planner.on_fetched(self.context.clock.now(), fetch, result, &mut out);
                    self.keep(kept, &out).await;
                }
                Some(slot) = played(&mut self.spool) => {
                    self.planner.on_spooled(self.context.clock.now(), slot.slot, slot.updates, &mut out);
                }
                Some(slots) = requests.recv() => self.planner.on_request(self.context.clock.now(), &slots),
                Some(ended) = self.fetches.join_next() => ended
                    .map_err(|error| NodeError::Fatal(format!("a fetch panicked: {error}")))?,
                _ = ticks.tick() => {
                    self.planner.set_costs(self.fetcher.costs());
                    self.planner.set_room(self.context.budget.has_room());
                    self.show_metrics();
                }
            }
            self.flush(out).await?;
            self.start_fetches(&results);
        }
        // Whoever reads further down has all that will come; what is under way would have nowhere to go.
        self.fetches.shutdown().await;
        self.show_metrics();
        Ok(())
    }

    /// What a replay brought, for the spool.
    fn to_keep(&self, fetch: Fetch, result: &Fetched) -> Option<FetchedSlot> {
        let (Fetch::Replay { endpoint, .. }, Fetched::Updates { slot, updates }) = (fetch, result) else {
            return None;
        };
        self.spool.as_ref()?;
        let endpoint = self.endpoints.iter().find(|known| known.id == endpoint)?;
        let (endpoint, updates) = (Arc::clone(&endpoint.name), updates.clone());
        Some(FetchedSlot { slot: *slot, endpoint, scope: self.scope, updates })
    }

    /// Gives it to the spool, if anything of it goes on.
    async fn keep(&mut self, slot: Option<FetchedSlot>, out: &Output) {
        let (Some(slot), Some(spool)) = (slot, &self.spool) else { return };
        let goes_on = |item: &Item| matches!(item, Item::Block(block) if block.slot() == slot.slot);
        if out.items.iter().any(goes_on) && !spool.keep(slot).await {
            self.unspooled += 1;
        }
    }

    fn show_metrics(&self) {
        self.context.metrics.show(|show| {
            show(Metric::new("recovery_unspooled_slots_total", self.unspooled));
            self.planner.metrics(show);
            self.fetcher.metrics(show);
        });
    }

    async fn flush(&self, mut out: Output) -> Result<(), NodeError> {
        for event in out.events.drain(..) {
            self.context.events.report(event);
        }
        for batch in out.into_batches() {
            self.outbox.send(batch).await?;
        }
        Ok(())
    }

    fn start_fetches(&mut self, results: &fetch::Results) {
        while let Some(fetch) = self.planner.next_fetch(self.context.clock.now()) {
            let (fetcher, results) = (Arc::clone(&self.fetcher), results.clone());
            self.fetches.spawn(async move { fetcher.run(fetch, &results).await });
        }
    }
}
