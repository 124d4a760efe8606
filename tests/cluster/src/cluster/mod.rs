//! The cluster itself: pure, in virtual time.
//!
//! Time is a [`Duration`] since the cluster's start and always an argument, so that a test can drive all of it from
//! one thread, and the servers can by the wall clock. Nothing here waits, spawns or opens a socket.

mod answer;
mod emit;
mod endpoint;
mod filter;
mod frame;
mod rpc;
mod script;
mod subscription;
mod timeline;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::faults::{Fault, FaultPlan, Profile};
use crate::ledger::{Ledger, Lie, hash, verify};
use crate::truth::Truth;

pub use endpoint::{Endpoint, Refusal};
pub use rpc::{Rpc, RpcOutcome};
pub use subscription::{Emission, Subscription};
pub use timeline::Level;

use timeline::Timeline;

/// When a cluster starts whose start matters to nobody.
const EPOCH: Duration = Duration::from_secs(1_744_200_000);

/// How a ledger is played.
#[derive(Debug, Clone)]
pub struct Config {
    /// Number of endpoints.
    pub endpoints: usize,
    /// Seeds the faults and latencies; never the ledger.
    pub seed: u64,
    /// How much goes wrong.
    pub faults: Profile,
    /// From slot to slot; 400 ms on mainnet.
    pub slot_time: Duration,
    /// Slots that an endpoint can replay; 0 is a server without replay. Plugins have 150 by default.
    pub replay_window: u64,
    /// Slots from processed to confirmed.
    pub confirmed_after: u64,
    /// Slots from processed to finalized; 32 on mainnet.
    pub finalized_after: u64,
    /// The `x-token` that endpoints ask for.
    pub x_token: Option<String>,
    /// Whether some endpoints play servers of another kind: proto 12 (no bank ids), or a leader's own node (0
    /// entries in block metas).
    pub mixed_servers: bool,
    /// What endpoints lie about: the endpoint's index, the slot, the lie. About recorded slots only replays lie.
    pub lies: Vec<(usize, u64, Lie)>,
    /// Unix time of the cluster's start, for `created_at`; `None` is when a server's time begins to run, so that clients
    /// see how long updates take to them.
    pub unix_start: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoints: 3,
            seed: 0,
            faults: Profile::default(),
            slot_time: Duration::from_millis(400),
            replay_window: 150,
            confirmed_after: 2,
            finalized_after: 32,
            x_token: None,
            mixed_servers: true,
            lies: Vec::new(),
            unix_start: Some(EPOCH),
        }
    }
}

/// What all parts of a cluster share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) ledger: Ledger,
    pub(crate) config: Config,
    pub(crate) timeline: Timeline,
    pub(crate) plan: FaultPlan,
    /// When it was started, where the configuration leaves that open.
    begun: OnceLock<Duration>,
}

impl Shared {
    /// Unix time at a time of the cluster.
    pub(crate) fn unix(&self, at: Duration) -> Duration {
        self.config.unix_start.or_else(|| self.begun.get().copied()).unwrap_or(EPOCH) + at
    }
}

/// A simulated cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    endpoints: Vec<Arc<Endpoint>>,
    rpc: Arc<Rpc>,
}

impl Cluster {
    /// A cluster that plays a ledger.
    pub fn new(ledger: Ledger, config: Config) -> Self {
        let timeline = Timeline::new(&config, ledger.length());
        let plan = FaultPlan::new(config.faults, config.seed);
        let shared = Arc::new(Shared { ledger, config, timeline, plan, begun: OnceLock::new() });
        let endpoint = |index| Arc::new(Endpoint::new(Arc::clone(&shared), index));
        Self {
            endpoints: (0..shared.config.endpoints).map(endpoint).collect(),
            rpc: Arc::new(Rpc::new(Arc::clone(&shared))),
            shared,
        }
    }

    /// The Yellowstone endpoints.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Its time begins to run at this unix time, unless the configuration says otherwise; the first call counts.
    pub fn begin(&self, unix: Duration) {
        self.shared.begun.set(unix).ok();
    }

    /// The JSON-RPC side.
    pub fn rpc(&self) -> &Arc<Rpc> {
        &self.rpc
    }

    /// What a correct client ends up with.
    pub fn truth(&self) -> Truth {
        Truth::new(Arc::clone(&self.shared))
    }

    /// Where the chain of hashes breaks in what `endpoint` tells of `slot`: the first entry that does not follow. `None`
    /// if it tells the truth, or the slot has no block.
    pub fn breaks_at(&self, endpoint: usize, slot: u64) -> Option<usize> {
        let told =
            self.shared.ledger.slot(slot)?.canonical().map(|version| self.shared.shown(endpoint, version))?;
        let parent = hash(&told.block.parent_blockhash)?;
        match verify(parent, &told.block.entries, &told.block.transactions) {
            Err(entry) => Some(entry),
            Ok(reached) => (Some(reached) != hash(&told.block.blockhash)).then_some(told.block.entries.len()),
        }
    }

    /// How it is played.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The newest slot at a commitment level.
    pub fn tip(&self, now: Duration, level: Level) -> Option<u64> {
        let position = self.shared.timeline.reached(now, level)?;
        self.shared.ledger.number(position)
    }

    /// When the last slot of the ledger is finalized; `None` if it has no end.
    pub fn end(&self) -> Option<Duration> {
        self.shared.timeline.end()
    }

    /// Faults that came to pass so far.
    pub fn fault_counts(&self) -> BTreeMap<Fault, u64> {
        self.shared.plan.counts()
    }
}

#[cfg(test)]
mod tests;
