//! Carries out what the planner decides to fetch, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use sluice_cluster::RpcOutcome;
use sluice_stages::batch::{SessionId, Update};
use sluice_stages::recovery::convert;
use sluice_stages::recovery::fetch::RPC_ENDPOINT;
use sluice_stages::recovery::ledger_format::MAX_VERSION;
use sluice_stages::recovery::plan::{Fetch, Fetched};
use sluice_stages::slot::{Commitment, Slot};
use sluice_stages::yellowstone::YellowstoneOptions;

use super::mutant::Mutant;
use super::replay::{Asked, Replay};
use super::scenario::Scenario;
use super::timestamp;
use super::world::World;

/// How long an answer that never comes is waited for, as the program has it by default.
const RPC_TIMEOUT: Duration = Duration::from_secs(10);
/// Codes of an RPC node that calls a slot skipped.
const SKIPPED_CODES: [i64; 2] = [-32_007, -32_009];

/// A result and when it arrives; the number keeps results of one moment in order.
type Due = (Duration, u64);

pub(super) struct Fetches {
    options: YellowstoneOptions,
    latencies: Vec<Duration>,
    rpc_latency: RangeInclusive<Duration>,
    under_way: BTreeMap<Due, (Fetch, Fetched)>,
    replays: Vec<Replay>,
    number: u32,
    mutant: Option<Mutant>,
    /// Slots that the mutant which believes skips has given up.
    believed: BTreeSet<Slot>,
    random: StdRng,
}

impl Fetches {
    pub(super) fn new(scenario: &Scenario, mutant: Option<Mutant>, random: StdRng) -> Self {
        Self {
            options: scenario.subscription.clone(),
            latencies: scenario.links.iter().map(|link| link.latency).collect(),
            rpc_latency: scenario.rpc_latency.clone(),
            under_way: BTreeMap::new(),
            replays: Vec::new(),
            number: 0,
            mutant,
            believed: BTreeSet::new(),
            random,
        }
    }

    /// When the next result arrives; replays are looked at with each tick.
    pub(super) fn due(&self) -> Option<Duration> {
        self.under_way.first_key_value().map(|((due, _), _)| *due)
    }

    pub(super) fn begin(&mut self, now: Duration, fetch: Fetch, world: &World) {
        self.number += 1;
        match fetch {
            Fetch::Replay { endpoint, first, last } => {
                let asked = Asked { endpoint, first, last, number: self.number };
                let latency = self.latencies[usize::from(endpoint)];
                match Replay::begin(now, world, &self.options, asked, latency) {
                    Ok(replay) => self.replays.push(replay),
                    Err(failed) => self.arrive(now + latency, fetch, failed),
                }
            }
            _ => self.ask(now, fetch, world),
        }
    }

    /// What has arrived by now.
    pub(super) fn step(&mut self, now: Duration, world: &World) -> Vec<(Fetch, Fetched)> {
        let mut out = Vec::new();
        while let Some(first) = self.under_way.first_entry().filter(|first| first.key().0 <= now) {
            out.push(first.remove());
        }
        self.replays.retain_mut(|replay| {
            let results = replay.step(now, world);
            let over = matches!(results.last(), Some(Fetched::Done | Fetched::Failed { .. }));
            out.extend(results.into_iter().map(|fetched| (replay.fetch, fetched)));
            !over
        });
        out
    }

    fn arrive(&mut self, due: Duration, fetch: Fetch, fetched: Fetched) {
        self.number += 1;
        self.under_way.insert((due, u64::from(self.number)), (fetch, fetched));
    }

    fn ask(&mut self, now: Duration, fetch: Fetch, world: &World) {
        let (method, params) = call(fetch);
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let due = now + self.random.random_range(self.rpc_latency.clone());
        let slot = if let Fetch::Block { slot, .. } = fetch { Some(slot) } else { None };
        match world.rpc(now).request(now, &body) {
            RpcOutcome::Timeout => self.arrive(now + RPC_TIMEOUT, fetch, failed("no answer".to_owned())),
            RpcOutcome::Http(code) => self.arrive(due, fetch, failed(format!("HTTP {code}"))),
            RpcOutcome::Answer(_) if slot.is_some_and(|slot| self.believed.contains(&slot)) => {
                self.arrive(due, fetch, failed("believed to be skipped".to_owned()));
            }
            RpcOutcome::Answer(mut answer) => match answer.get_mut("result").map(Value::take) {
                Some(result) => self.answered(now, due, fetch, result),
                None => {
                    self.believe(fetch, &answer["error"]);
                    self.arrive(due, fetch, failed(answer["error"].to_string()));
                }
            },
        }
    }

    fn believe(&mut self, fetch: Fetch, error: &Value) {
        let skipped = error["code"].as_i64().is_some_and(|code| SKIPPED_CODES.contains(&code));
        if let Fetch::Block { slot, .. } = fetch
            && skipped
            && self.mutant == Some(Mutant::BelievesSkips)
        {
            self.believed.insert(slot);
        }
    }

    fn answered(&mut self, now: Duration, due: Duration, fetch: Fetch, result: Value) {
        let slots = match fetch {
            Fetch::Tip => result.as_u64().map(|slot| vec![slot]),
            Fetch::List { .. } => result.as_array().map(|all| all.iter().filter_map(Value::as_u64).collect()),
            Fetch::Block { slot, .. } => return self.block(now, due, fetch, slot, result),
            Fetch::Replay { .. } => None,
        };
        let fetched = slots.map_or_else(|| failed("not a list".to_owned()), Fetched::Slots);
        self.arrive(due, fetch, fetched);
    }

    fn block(&mut self, now: Duration, due: Duration, fetch: Fetch, slot: Slot, result: Value) {
        let frames = match convert::block(slot, result) {
            Ok(frames) => frames,
            Err(error) => return self.arrive(due, fetch, failed(error.to_string())),
        };
        let session = SessionId { endpoint: RPC_ENDPOINT, number: self.number };
        let received_at = timestamp(now);
        let updates = frames.into_iter().map(|frame| Update { frame, session, received_at, lease: None });
        self.arrive(due, fetch, Fetched::Updates { slot, updates: updates.collect() });
        self.arrive(due, fetch, Fetched::Done);
    }
}

/// The method and parameters of a fetch, as the program sends them.
fn call(fetch: Fetch) -> (&'static str, Value) {
    match fetch {
        Fetch::Tip | Fetch::Replay { .. } => ("getSlot", json!([{ "commitment": "finalized" }])),
        Fetch::List { first, last } => ("getBlocks", json!([first, last, { "commitment": "confirmed" }])),
        Fetch::Block { slot, commitment } => {
            // Nodes know no blocks below confirmed.
            let commitment = commitment.max(Commitment::Confirmed).to_string();
            let config = json!({
                "encoding": "base64",
                "transactionDetails": "full",
                "rewards": true,
                "maxSupportedTransactionVersion": MAX_VERSION,
                "commitment": commitment,
            });
            ("getBlock", json!([slot, config]))
        }
    }
}

fn failed(reason: String) -> Fetched {
    Fetched::Failed { reason, retry_after: None, first_available: None }
}
