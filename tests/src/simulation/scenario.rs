//! What a seed stands for. Swarm testing: each seed switches features and faults on and off and draws its own rates, so
//! that rare combinations come up which no fixed mix would reach.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sluice_cluster::ledger::{FIRST_SLOT, Shape};
use sluice_cluster::{Config, GeneratedLedger, Ledger, Profile};
use sluice_stages::commitment::CommitmentOptions;
use sluice_stages::component::Start;
use sluice_stages::dedupe::DedupeOptions;
use sluice_stages::gap_detector::GapDetectorOptions;
use sluice_stages::merge::MergeOptions;
use sluice_stages::recovery::RecoveryOptions;
use sluice_stages::recovery::rpc::RpcOptions;
use sluice_stages::slot::Commitment;
use sluice_stages::yellowstone::YellowstoneOptions;
use sluice_stages::yellowstone::filters::{Selection, TransactionFilterOptions};

/// Different ledgers; seeds that share one must end up with the same output.
const LEDGERS: u64 = 64;
/// Slots at the end of a ledger that are played without faults. Longer than any wait before a reconnect.
const CALM_SLOTS: u64 = 14;
/// A replay window that holds any of these ledgers whole; the plugin's default.
const WHOLE_WINDOW_SLOTS: u64 = 150;

/// How the way to one endpoint behaves.
#[derive(Debug, Clone, Copy)]
pub struct LinkHabits {
    /// Time that a message is under way.
    pub latency: Duration,
    /// Messages that are handed on together, at most.
    pub batch_updates: usize,
    /// Time between two looks at the link.
    pub poll_interval: Duration,
    /// Probability that a look finds the connection broken, with what was read last lost in part.
    pub break_rate: f64,
    /// Probability that nothing comes through for a while.
    pub clog_rate: f64,
    /// The longest such while.
    pub clog: Duration,
}

/// Everything that one run depends on.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The seed that it was made from.
    pub seed: u64,
    /// The ledger; it depends on `seed % 64` alone.
    pub ledger: GeneratedLedger,
    /// Slots that are played with faults, before the calm.
    pub storm_slots: u64,
    /// How the cluster plays the storm.
    pub cluster: Config,
    /// When the pipeline starts, on the cluster's clock.
    pub joins_at: Duration,
    /// Where it begins to read.
    pub start: Start,
    /// What it subscribes to.
    pub subscription: YellowstoneOptions,
    /// Options of the stages.
    pub merge: MergeOptions,
    /// Options of the stages.
    pub dedupe: DedupeOptions,
    /// Options of the stages.
    pub gap_detector: GapDetectorOptions,
    /// Options of the stages.
    pub recovery: RecoveryOptions,
    /// Options of the stages.
    pub commitment: CommitmentOptions,
    /// One for each endpoint.
    pub links: Vec<LinkHabits>,
    /// Time that an RPC node takes to answer.
    pub rpc_latency: RangeInclusive<Duration>,
    /// Probability of a tick to find memory short.
    pub pressure_rate: f64,
    /// Probability of a block to be asked for again by the sink.
    pub ask_again_rate: f64,
}

/// Which parts of a slot are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Transactions,
    Entries,
    Accounts,
    All,
    /// Transactions that are no votes.
    Filtered,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let ledger = ledger(seed % LEDGERS);
        let storm_slots = ledger.slots.unwrap_or_default() - CALM_SLOTS;
        let wish = wish(&mut random);
        let cluster = cluster(seed, wish, &mut random);
        let (joins_at, start) = beginning(&cluster, storm_slots, &mut random);
        let mut scenario = Self {
            seed,
            storm_slots,
            joins_at,
            start,
            subscription: subscription(wish, &cluster, &mut random),
            merge: MergeOptions::default(),
            dedupe: DedupeOptions::default(),
            gap_detector: GapDetectorOptions::default(),
            recovery: recovery(&mut random),
            commitment: CommitmentOptions::default(),
            links: links(&cluster, &mut random),
            rpc_latency: Duration::from_millis(5)..=millis(&mut random, 20..=1_500),
            pressure_rate: rare(&mut random, 0.05),
            ask_again_rate: rare(&mut random, 0.05),
            ledger,
            cluster,
        };
        scenario.draw_stages(&mut random);
        scenario.close_last_way(&mut random);
        scenario
    }

    fn draw_stages(&mut self, random: &mut StdRng) {
        let finality = self.cluster.finalized_after;
        if random.random_bool(0.3) {
            self.merge.max_lag_slots = random.random_range(8..64);
        }
        if random.random_bool(0.5) {
            self.dedupe.keep_slots = random.random_range(0..32);
            self.dedupe.max_slots = finality + random.random_range(16..64);
        }
        if random.random_bool(0.5) {
            self.gap_detector.keep_slots = random.random_range(0..32);
            self.gap_detector.max_open_slots = finality + random.random_range(16..64);
        }
        self.gap_detector.grace = millis(random, 50..=2_000);
        self.gap_detector.extras_grace = millis(random, 100..=3_000);
        if random.random_bool(0.15) {
            self.commitment.level = Commitment::Confirmed;
        }
        if random.random_bool(0.5) {
            self.commitment.keep_slots = finality + random.random_range(32..256);
        }
        self.commitment.request_interval = millis(random, 500..=5_000);
    }

    /// One of the two ways to recover is taken away in some runs. Replays alone can be relied on only where the servers'
    /// windows hold everything.
    fn close_last_way(&mut self, random: &mut StdRng) {
        match random.random_range(0..10) {
            0 => {
                self.recovery.rpc = None;
                self.recovery.replay = true;
                self.recovery.max_replay_slots = WHOLE_WINDOW_SLOTS;
                self.cluster.replay_window = WHOLE_WINDOW_SLOTS;
            }
            1..=2 => self.recovery.replay = false,
            _ => {}
        }
    }

    /// The number of the ledger that it plays.
    pub fn ledger_number(&self) -> u64 {
        self.ledger.seed
    }

    /// The ledger, ready to be played.
    pub fn make_ledger(&self) -> Ledger {
        Ledger::generated(self.ledger.clone())
    }

    /// Whether nothing at all goes wrong, so that no slot may need recovery.
    pub fn is_calm(&self) -> bool {
        let quiet = |link: &LinkHabits| link.break_rate == 0.0 && link.clog_rate == 0.0;
        // RPC is asked for a final slot when none came for long, which says nothing about a loss.
        let first_final = self.cluster.slot_time * (self.cluster.finalized_after as u32 + 3);
        // Of the first slot's accounts nobody can tell live whether they are all there.
        let countable = self.subscription.accounts.is_nothing();
        // Filtered slots are whole when they are confirmed.
        let confirmed = self.cluster.slot_time * (self.cluster.confirmed_after as u32 + 2);
        let patience = self.gap_detector.grace + self.gap_detector.extras_grace;
        // Of a filtered fork nothing ever tells that it is whole.
        countable
            && !(self.is_filtered() && self.ledger.forks)
            && (!self.is_filtered() || patience > confirmed + Duration::from_secs(1))
            && self.cluster.faults == Profile::None
            && self.start == Start::At(FIRST_SLOT)
            && self.cluster.slot_time * self.cluster.finalized_after as u32
                > patience + Duration::from_secs(1)
            && self.links.iter().all(quiet)
            && self.joins_at.is_zero()
            && self.pressure_rate == 0.0
            && self.ask_again_rate == 0.0
            && self.recovery.tip_interval > first_final
    }

    /// Whether what is emitted is the whole ledger, which all runs of one ledger share.
    pub fn takes_all(&self) -> bool {
        self.start == Start::At(FIRST_SLOT) && !self.is_filtered() && self.recovery.rpc.is_some()
    }

    /// Whether only some transactions are subscribed to.
    pub fn is_filtered(&self) -> bool {
        matches!(self.subscription.transactions, Selection::Named(_))
    }

    /// Whether entries and accounts can always be had again, so that none may be missing in the end.
    pub fn can_replay_all(&self) -> bool {
        self.recovery.replay
            && self.recovery.max_replay_slots >= WHOLE_WINDOW_SLOTS
            && self.cluster.replay_window >= WHOLE_WINDOW_SLOTS
    }
}

fn ledger(number: u64) -> GeneratedLedger {
    let mut random = StdRng::seed_from_u64(number);
    GeneratedLedger {
        seed: number,
        slots: Some(random.random_range(16..=46) + CALM_SLOTS),
        transactions_per_slot: 0..=random.random_range(1..=9),
        mainnet_blocks: false,
        forks: random.random_bool(0.9),
        // The least work that still makes a chain.
        shape: Shape { ticks: 2, hashes_per_tick: 8 },
        ..GeneratedLedger::default()
    }
}

fn wish(random: &mut StdRng) -> Wish {
    match random.random_range(0..100) {
        0..55 => Wish::Transactions,
        55..70 => Wish::Entries,
        70..75 => Wish::Accounts,
        75..90 => Wish::All,
        _ => Wish::Filtered,
    }
}

fn cluster(seed: u64, wish: Wish, random: &mut StdRng) -> Config {
    let faults = match random.random_range(0..8) {
        // Of a filtered stream nothing can tell a lost update.
        _ if wish == Wish::Filtered => Profile::None,
        0 => Profile::None,
        1..=3 => Profile::Default,
        _ => Profile::Harsh,
    };
    Config {
        endpoints: random.random_range(1..=4),
        seed,
        faults,
        slot_time: millis(random, 50..=800),
        replay_window: [0, random.random_range(4..40), WHOLE_WINDOW_SLOTS][random.random_range(0..3)],
        confirmed_after: random.random_range(1..=3),
        finalized_after: random.random_range(4..=32),
        mixed_servers: random.random_bool(0.6),
        ..Config::default()
    }
}

fn beginning(cluster: &Config, storm_slots: u64, random: &mut StdRng) -> (Duration, Start) {
    let late = random.random_bool(0.3);
    let slots = if late { random.random_range(0.0..storm_slots as f64 / 2.0) } else { 0.0 };
    let start = match random.random_range(0..10) {
        0 => Start::Tip,
        1 => Start::TipRoundedDown(random.random_range(1..20)),
        _ => Start::At(FIRST_SLOT),
    };
    (cluster.slot_time.mul_f64(slots), start)
}

/// A reconnect takes a fraction of the calm at most, so that the calm is calm.
fn subscription(wish: Wish, cluster: &Config, random: &mut StdRng) -> YellowstoneOptions {
    let calm = cluster.slot_time * CALM_SLOTS as u32;
    let mut options = YellowstoneOptions::new("http://endpoint");
    options.transactions = Selection::Everything;
    match wish {
        Wish::Transactions => {}
        Wish::Entries => options.entries = Selection::Everything,
        Wish::Accounts => options.accounts = Selection::Everything,
        Wish::All => {
            options.entries = Selection::Everything;
            options.accounts = Selection::Everything;
        }
        Wish::Filtered => {
            let filter = TransactionFilterOptions { vote: Some(false), ..Default::default() };
            options.transactions = Selection::Named([("no votes".to_owned(), filter)].into());
        }
    }
    options.reconnect_min = (calm / 100).max(Duration::from_millis(1));
    options.reconnect_max = calm.mul_f64(random.random_range(0.1..0.25));
    options.idle_timeout = calm.mul_f64(random.random_range(0.3..2.0));
    options.progress_timeout = calm.mul_f64(random.random_range(0.3..2.0));
    options.ping_interval = millis(random, 500..=15_000);
    options
}

fn recovery(random: &mut StdRng) -> RecoveryOptions {
    RecoveryOptions {
        enabled: true,
        rpc: Some(RpcOptions::new("http://rpc").into()),
        replay: true,
        max_replay_slots: if random.random_bool(0.7) { WHOLE_WINDOW_SLOTS } else { 20 },
        batch_size: random.random_range(1..=100),
        max_in_flight: random.random_range(1..=8),
        tip_interval: millis(random, 1_000..=8_000),
        hedge_after: millis(random, 200..=5_000),
        max_retries: random.random_range(0..=5),
        min_backoff: millis(random, 10..=500),
        max_backoff: millis(random, 500..=10_000),
        hole_interval: millis(random, 500..=20_000),
    }
}

/// Faster than the chain, so that a link never falls behind for good.
fn links(cluster: &Config, random: &mut StdRng) -> Vec<LinkHabits> {
    let quiet = cluster.faults == Profile::None && random.random_bool(0.5);
    let slot_millis = cluster.slot_time.as_millis() as u64;
    let link = |_| LinkHabits {
        latency: millis(random, 0..=slot_millis),
        batch_updates: random.random_range(1..=256),
        poll_interval: millis(random, 5..=slot_millis / 2),
        break_rate: if quiet { 0.0 } else { rare(random, 0.02) },
        clog_rate: if quiet { 0.0 } else { rare(random, 0.02) },
        clog: millis(random, 100..=8_000),
    };
    (0..cluster.endpoints).map(link).collect()
}

/// Zero half of the time, else up to `most`.
fn rare(random: &mut StdRng, most: f64) -> f64 {
    if random.random_bool(0.5) { random.random_range(0.0..most) } else { 0.0 }
}

fn millis(random: &mut StdRng, range: RangeInclusive<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}
