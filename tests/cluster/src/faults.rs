//! Faults: what goes wrong, decided by the seed alone.
//!
//! Whatever goes wrong, every slot stays obtainable: lies and refusals of the RPC side are bounded in number, every
//! fourth connect succeeds, and a replay asked for again is whole.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use rand::Rng;
use rand::rngs::StdRng;

use crate::random::random;

/// Every so many connects to an endpoint, and calls to the RPC side, one is sure to work.
const SURE_PERIOD: u64 = 4;
/// Outages are drawn once for so many slots.
const OUTAGE_PERIOD: u64 = 64;
/// The longest outage, in slots.
const OUTAGE_SLOTS: u64 = 12;
/// How often the RPC side lies about one slot before it tells the truth.
const LIES_PER_SLOT: u32 = 2;
/// How often a replay of one slot may lack something on one endpoint.
const POOR_REPLAYS: u32 = 1;

/// How much goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Profile {
    /// Endpoints and RPC are perfect.
    None,
    /// A bad day.
    #[default]
    Default,
    /// All that can go wrong does, all the time.
    Harsh,
}

impl Profile {
    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Default => "default",
            Self::Harsh => "harsh",
        }
    }

    fn rates(self) -> Rates {
        match self {
            Self::None => Rates::default(),
            Self::Default => DEFAULT_RATES,
            Self::Harsh => HARSH_RATES,
        }
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::None, Self::Default, Self::Harsh];
        let found = all.into_iter().find(|profile| profile.name() == text);
        found.ok_or_else(|| format!("{text:?} is no fault profile; there are none, default and harsh"))
    }
}

/// Probabilities; of a slot on one endpoint unless said otherwise.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    disconnect: f64,
    hang: f64,
    lag: f64,
    stall: f64,
    garbage: f64,
    oversize: f64,
    duplicate: f64,
    drop: f64,
    /// Of a slot, on all endpoints at once.
    drop_everywhere: f64,
    late_meta: f64,
    early_meta: f64,
    reorder: f64,
    wrong_count: f64,
    /// Of [`OUTAGE_PERIOD`] slots.
    outage: f64,
    /// Of [`OUTAGE_PERIOD`] slots, on all endpoints at once.
    outage_everywhere: f64,
    /// Of a connect.
    connect: f64,
    poor_replay: f64,
    /// Of an RPC call.
    rpc_failure: f64,
    /// Of a slot asked for by RPC.
    rpc_lie: f64,
}

const DEFAULT_RATES: Rates = Rates {
    disconnect: 0.012,
    hang: 0.002,
    lag: 0.003,
    stall: 0.01,
    garbage: 0.002,
    oversize: 0.001,
    duplicate: 0.1,
    drop: 0.03,
    drop_everywhere: 0.01,
    late_meta: 0.05,
    early_meta: 0.03,
    reorder: 0.05,
    wrong_count: 0.005,
    outage: 0.1,
    outage_everywhere: 0.03,
    connect: 0.1,
    poor_replay: 0.02,
    rpc_failure: 0.05,
    rpc_lie: 0.03,
};

const HARSH_RATES: Rates = Rates {
    disconnect: 0.03,
    hang: 0.006,
    lag: 0.012,
    stall: 0.025,
    garbage: 0.01,
    oversize: 0.005,
    duplicate: 0.3,
    drop: 0.1,
    drop_everywhere: 0.03,
    late_meta: 0.15,
    early_meta: 0.1,
    reorder: 0.2,
    wrong_count: 0.02,
    outage: 0.35,
    outage_everywhere: 0.12,
    connect: 0.25,
    poor_replay: 0.08,
    rpc_failure: 0.2,
    rpc_lie: 0.1,
};

/// A kind of fault, as the counts name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is named for what it is")]
pub enum Fault {
    Disconnect,
    Hang,
    Lag,
    Stall,
    Garbage,
    Oversize,
    Duplicate,
    Drop,
    DropEverywhere,
    LateMeta,
    EarlyMeta,
    Reorder,
    WrongCount,
    Outage,
    Refusal,
    PoorReplay,
    RpcFailure,
    RpcLie,
}

impl Fault {
    /// The word in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::Hang => "hang",
            Self::Lag => "lag",
            Self::Stall => "stall",
            Self::Garbage => "garbage",
            Self::Oversize => "oversize",
            Self::Duplicate => "duplicate",
            Self::Drop => "drop",
            Self::DropEverywhere => "drop_everywhere",
            Self::LateMeta => "late_meta",
            Self::EarlyMeta => "early_meta",
            Self::Reorder => "reorder",
            Self::WrongCount => "wrong_count",
            Self::Outage => "outage",
            Self::Refusal => "refusal",
            Self::PoorReplay => "poor_replay",
            Self::RpcFailure => "rpc_failure",
            Self::RpcLie => "rpc_lie",
        }
    }
}

/// What goes wrong with the stream itself while a slot is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamFault {
    /// The server ends it with an error.
    Disconnect,
    /// The server ends it without one.
    Close,
    /// Nothing comes any more, and nobody says so.
    Hang,
    /// The server says that the client is too slow.
    Lag,
    /// Nothing comes for a few slots, then all at once.
    Stall {
        /// Length of the silence.
        slots: u32,
    },
    /// A message that is not one.
    Garbage,
    /// A message larger than gRPC clients take by default.
    Oversize,
}

/// What goes wrong with the content of a slot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ContentFaults {
    /// Probability of each update to come twice.
    pub(crate) duplicate: f64,
    /// Probability of each update not to come.
    pub(crate) drop: f64,
    /// Probability of each transaction and block meta not to come on any endpoint.
    pub(crate) drop_everywhere: f64,
    /// The block meta comes while the next slot is played.
    pub(crate) late_meta: bool,
    /// The last updates come behind the block meta.
    pub(crate) early_meta: bool,
    /// Updates change places.
    pub(crate) reorder: bool,
    /// What the block meta's count is off by.
    pub(crate) count_skew: i64,
}

/// A connect that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectFault {
    /// gRPC `UNAVAILABLE`.
    Unavailable,
    /// gRPC `UNAUTHENTICATED`, as a load balancer answers whose list of tokens is out of date.
    Unauthenticated,
    /// gRPC `RESOURCE_EXHAUSTED`.
    TooMany,
    /// A plain HTTP answer from a proxy.
    Http(u16),
}

/// An RPC call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RpcFault {
    /// A plain HTTP answer.
    Http(u16),
    /// No answer at all.
    Timeout,
}

/// The seeded script.
#[derive(Debug)]
pub(crate) struct FaultPlan {
    seed: u64,
    rates: Rates,
    counts: Mutex<BTreeMap<Fault, u64>>,
}

impl FaultPlan {
    pub(crate) fn new(profile: Profile, seed: u64) -> Self {
        Self { seed, rates: profile.rates(), counts: Mutex::default() }
    }

    /// Faults that came to pass so far, by kind.
    pub(crate) fn counts(&self) -> BTreeMap<Fault, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count(&self, fault: Fault, by: u64) {
        if by > 0 {
            *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(fault).or_default() += by;
        }
    }

    /// The generator for the details of an endpoint's slot.
    pub(crate) fn random(&self, purpose: &str, endpoint: u64, position: u64) -> StdRng {
        random(purpose, &[self.seed, endpoint, position])
    }

    /// The generator for what happens to a slot on all endpoints at once.
    pub(crate) fn random_everywhere(&self, position: u64) -> StdRng {
        random("everywhere", &[self.seed, position])
    }

    pub(crate) fn stream(&self, endpoint: u64, position: u64) -> Option<StreamFault> {
        let rates = &self.rates;
        let mut random = self.random("stream", endpoint, position);
        let mut left: f64 = random.random();
        let slots = random.random_range(2..=6);
        let clean = random.random_bool(0.5);
        let end = if clean { StreamFault::Close } else { StreamFault::Disconnect };
        let chances = [
            (rates.disconnect, end),
            (rates.hang, StreamFault::Hang),
            (rates.lag, StreamFault::Lag),
            (rates.stall, StreamFault::Stall { slots }),
            (rates.garbage, StreamFault::Garbage),
            (rates.oversize, StreamFault::Oversize),
        ];
        for (rate, fault) in chances {
            if left < rate {
                return Some(fault);
            }
            left -= rate;
        }
        None
    }

    pub(crate) fn content(&self, endpoint: u64, position: u64) -> ContentFaults {
        let rates = &self.rates;
        let mut random = self.random("content", endpoint, position);
        let mut faults = ContentFaults {
            duplicate: if random.random_bool(rates.duplicate) { random.random_range(0.02..0.4) } else { 0.0 },
            drop: if random.random_bool(rates.drop) { random.random_range(0.01..0.3) } else { 0.0 },
            drop_everywhere: 0.0,
            late_meta: random.random_bool(rates.late_meta),
            early_meta: random.random_bool(rates.early_meta),
            reorder: random.random_bool(rates.reorder),
            count_skew: 0,
        };
        let mut everywhere = self.random_everywhere(position);
        if everywhere.random_bool(rates.drop_everywhere) {
            faults.drop_everywhere = everywhere.random_range(0.01..0.2);
        }
        if random.random_bool(rates.wrong_count) {
            faults.count_skew = if random.random_bool(0.5) { 1 } else { -1 };
        }
        // A count too low beside updates that are late or lost can't be told from the truth by anyone.
        if faults.count_skew < 0 {
            faults = ContentFaults { count_skew: faults.count_skew, ..ContentFaults::default() };
        }
        faults
    }

    /// Whether an endpoint is out of order while a slot is played.
    pub(crate) fn is_down(&self, endpoint: u64, position: u64) -> bool {
        let everywhere = u64::MAX;
        self.is_out(self.rates.outage, endpoint, position)
            || self.is_out(self.rates.outage_everywhere, everywhere, position)
    }

    fn is_out(&self, rate: f64, endpoint: u64, position: u64) -> bool {
        if rate == 0.0 {
            return false;
        }
        let mut random = self.random("outage", endpoint, position / OUTAGE_PERIOD);
        let start = random.random_range(1..OUTAGE_PERIOD - OUTAGE_SLOTS);
        let slots = random.random_range(2..=OUTAGE_SLOTS);
        random.random_bool(rate) && (start..start + slots).contains(&(position % OUTAGE_PERIOD))
    }

    /// What happens to the `number`-th connect to an endpoint.
    pub(crate) fn connect(&self, endpoint: u64, number: u64) -> Option<ConnectFault> {
        let mut random = self.random("connect", endpoint, number);
        if number % SURE_PERIOD == SURE_PERIOD - 1 || !random.random_bool(self.rates.connect) {
            return None;
        }
        let kinds = [
            ConnectFault::Unavailable,
            ConnectFault::Unauthenticated,
            ConnectFault::TooMany,
            ConnectFault::Http(502),
            ConnectFault::Http(503),
        ];
        Some(kinds[random.random_range(0..kinds.len())])
    }

    /// Whether the `number`-th replay of a slot by an endpoint lacks something.
    pub(crate) fn is_poor_replay(&self, endpoint: u64, position: u64, number: u32) -> bool {
        let mut random = self.random("replay", endpoint, position);
        number < POOR_REPLAYS && random.random_bool(self.rates.poor_replay)
    }

    /// What happens to the `number`-th RPC call.
    pub(crate) fn rpc(&self, number: u64) -> Option<RpcFault> {
        let mut random = self.random("rpc", 0, number);
        if number % SURE_PERIOD == SURE_PERIOD - 1 || !random.random_bool(self.rates.rpc_failure) {
            return None;
        }
        let kinds = [RpcFault::Http(429), RpcFault::Http(429), RpcFault::Http(500), RpcFault::Timeout];
        Some(kinds[random.random_range(0..kinds.len())])
    }

    /// The error that the `number`-th question about a slot that exists is answered with.
    pub(crate) fn rpc_lie(&self, slot: u64, number: u32) -> Option<i64> {
        let mut random = self.random("lie", u64::from(number), slot);
        if number >= LIES_PER_SLOT || !random.random_bool(self.rates.rpc_lie) {
            return None;
        }
        let codes = [-32_007, -32_009, -32_004];
        Some(codes[random.random_range(0..codes.len())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_faults_and_others_give_others() {
        let script = |seed| {
            let plan = FaultPlan::new(Profile::Harsh, seed);
            (0..500)
                .map(|slot| (plan.stream(1, slot), plan.content(1, slot), plan.is_down(1, slot)))
                .collect::<Vec<_>>()
        };
        assert_eq!(script(7), script(7));
        assert_ne!(script(7), script(8));
    }

    #[test]
    fn without_faults_nothing_goes_wrong() {
        let plan = FaultPlan::new(Profile::None, 3);
        for number in 0..1000 {
            assert_eq!(plan.stream(0, number), None);
            assert_eq!(plan.content(0, number), ContentFaults::default());
            assert!(!plan.is_down(0, number) && !plan.is_poor_replay(0, number, 0));
            assert!(plan.connect(0, number).is_none() && plan.rpc(number).is_none());
            assert_eq!(plan.rpc_lie(number, 0), None);
        }
    }

    #[test]
    fn refusals_and_lies_come_to_an_end() {
        let plan = FaultPlan::new(Profile::Harsh, 1);
        for number in 0..100 {
            assert!((number..number + SURE_PERIOD).any(|one| plan.connect(0, one).is_none()));
            assert!((number..number + SURE_PERIOD).any(|one| plan.rpc(one).is_none()));
            assert_eq!(plan.rpc_lie(number, LIES_PER_SLOT), None);
        }
    }

    #[test]
    fn harsh_has_every_stream_fault() {
        let plan = FaultPlan::new(Profile::Harsh, 5);
        let seen: Vec<_> = (0..3000).filter_map(|slot| plan.stream(0, slot)).collect();
        for fault in [StreamFault::Disconnect, StreamFault::Close, StreamFault::Hang, StreamFault::Lag] {
            assert!(seen.contains(&fault), "{fault:?}");
        }
        assert!(seen.contains(&StreamFault::Garbage) && seen.contains(&StreamFault::Oversize));
        assert!(seen.iter().any(|fault| matches!(fault, StreamFault::Stall { .. })));
    }
}
