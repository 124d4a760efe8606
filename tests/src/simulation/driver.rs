//! The clock: goes from one thing that is due to the next, and never waits.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sluice_cluster::ledger::FIRST_SLOT;
use sluice_stages::block::Way;
use sluice_stages::component::Start;
use sluice_stages::recovery::plan::Fetched;
use sluice_stages::slot::{Slot, Timestamp};

use super::fetches::Fetches;
use super::link::Link;
use super::mutant::Mutant;
use super::oracle::{Digest, Oracle, Violation};
use super::pipeline::{Pipeline, Yield};
use super::scenario::Scenario;
use super::timestamp;
use super::trace::Trace;
use super::world::World;

/// Stages are ticked at least ten times a second.
const TICK: Duration = Duration::from_millis(100);
/// What comes this long after everything is there would be a repeat.
const LINGER: Duration = Duration::from_secs(3);
/// How long after the last slot is final everything has to be there. Replays of a chain that stands still run into their
/// timeout of two minutes, and there may be one for each endpoint in a row.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// The shortest step of the clock.
const LEAST_STEP: Duration = Duration::from_micros(1);

/// How a run went that kept all promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The hash over all that came out.
    pub digest: Digest,
    /// Slots that came out.
    pub slots: usize,
    /// Blocks that came out by each way: live, replay, RPC.
    pub ways: [usize; 3],
    /// Fetches that were made.
    pub fetches: usize,
    /// Everything that happened, line by line.
    pub trace: String,
}

/// A run that broke a promise.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The scenario's seed.
    pub seed: u64,
    /// Which promise, and where.
    pub violation: Violation,
    /// When, on the cluster's clock.
    pub at: Duration,
    /// Everything that happened up to there.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {} (at {:.3} s)", self.seed, self.violation, self.at.as_secs_f64())?;
        write!(
            f,
            "run it again: SLUICE_SEED={} cargo test -p sluice-tests --test simulation -- --nocapture",
            self.seed
        )
    }
}

/// Plays a scenario to its end.
///
/// # Errors
/// If a promise is broken.
pub fn run(scenario: &Scenario) -> Result<Report, Box<Failure>> {
    Driver::new(scenario, None).run()
}

/// Plays a scenario with a pipeline that is broken on purpose.
///
/// # Errors
/// If a promise is broken, which is what is hoped for.
pub fn run_mutant(scenario: &Scenario, mutant: Mutant) -> Result<Report, Box<Failure>> {
    Driver::new(scenario, Some(mutant)).run()
}

struct Driver<'a> {
    scenario: &'a Scenario,
    world: World,
    links: Vec<Link>,
    fetches: Fetches,
    pipeline: Pipeline,
    oracle: Oracle,
    random: StdRng,
    trace: Trace,
    now: Duration,
    next_tick: Duration,
    floor: Option<Slot>,
    complete_at: Option<Duration>,
    ways: [usize; 3],
    fetch_count: usize,
}

impl<'a> Driver<'a> {
    fn new(scenario: &'a Scenario, mutant: Option<Mutant>) -> Self {
        let world = World::new(scenario);
        let mut random = StdRng::seed_from_u64(scenario.seed ^ 0x5eed);
        let mut fork = || StdRng::seed_from_u64(random.random());
        let links = (0..scenario.links.len() as u16).map(|id| Link::new(scenario, id, mutant, fork()));
        let links = links.collect();
        let fetches = Fetches::new(scenario, mutant, fork());
        let mut oracle = Oracle::new(world.truth(), scenario.is_filtered());
        if scenario.recovery.rpc.is_none() {
            // The last slots have no successors that would tell of them or end their replay; RPC alone knows them.
            oracle.end_before(FIRST_SLOT + scenario.storm_slots);
        }
        Self {
            scenario,
            links,
            fetches,
            pipeline: Pipeline::new(scenario, mutant, random.random()),
            oracle,
            world,
            random,
            trace: Trace::default(),
            now: scenario.joins_at,
            next_tick: scenario.joins_at,
            floor: None,
            complete_at: None,
            ways: [0; 3],
            fetch_count: 0,
        }
    }

    fn run(mut self) -> Result<Report, Box<Failure>> {
        loop {
            match self.step() {
                Ok(true) => break,
                Ok(false) => self.now = self.next().max(self.now + LEAST_STEP),
                Err(violation) => {
                    let (seed, at) = (self.scenario.seed, self.now);
                    return Err(Box::new(Failure { seed, violation, at, trace: self.trace.into_text() }));
                }
            }
        }
        Ok(Report {
            digest: self.oracle.digest(),
            slots: self.oracle.count(),
            ways: self.ways,
            fetches: self.fetch_count,
            trace: self.trace.into_text(),
        })
    }

    /// When something is due next.
    fn next(&self) -> Duration {
        let links = self.links.iter().map(|link| link.due);
        links.chain(self.fetches.due()).chain([self.next_tick]).min().unwrap_or(self.next_tick)
    }

    /// Does what is due; true once everything is there.
    fn step(&mut self) -> Result<bool, Violation> {
        for position in 0..self.links.len() {
            if self.links[position].due <= self.now {
                let batches = self.links[position].step(self.now, &self.world);
                for batch in batches {
                    self.trace.note(self.now, format_args!("endpoint {position}: {} items", batch.len()));
                    self.advance(|pipeline, now, out| pipeline.on_batch(now, position, batch, out))?;
                }
            }
        }
        for (fetch, fetched) in self.fetches.step(self.now, &self.world) {
            self.trace.note(self.now, format_args!("{fetch:?}: {}", outcome(&fetched)));
            self.advance(|pipeline, now, out| pipeline.on_fetched(now, fetch, fetched, out))?;
        }
        if self.next_tick <= self.now {
            self.next_tick = self.now + TICK;
            self.tick()?;
        }
        self.is_over()
    }

    fn tick(&mut self) -> Result<(), Violation> {
        self.advance(Pipeline::on_tick)?;
        if !self.world.is_calm(self.now) && self.random.random_bool(self.scenario.pressure_rate) {
            self.trace.note(self.now, format_args!("memory is short"));
            self.advance(Pipeline::on_pressure)?;
        }
        self.check_bounds()
    }

    /// Lets the pipeline do something, and looks at what came of it.
    fn advance(&mut self, act: impl FnOnce(&mut Pipeline, Timestamp, &mut Yield)) -> Result<(), Violation> {
        let mut out = Yield::default();
        act(&mut self.pipeline, timestamp(self.now), &mut out);
        for event in &out.events {
            self.trace.note(self.now, format_args!("{event:?}"));
        }
        self.find_floor();
        for block in &out.blocks {
            let (slot, hash, way) = (block.slot(), block.blockhash(), block.way);
            self.trace.note(self.now, format_args!("out: slot {slot} {hash} by {}", way.name()));
            self.oracle.on_block(block)?;
            self.ways[way_position(way)] += 1;
            if !self.world.is_calm(self.now) && self.random.random_bool(self.scenario.ask_again_rate) {
                self.trace.note(self.now, format_args!("the sink asks for slot {slot} again"));
                self.oracle.ask_again(slot);
                self.pipeline.ask_again(timestamp(self.now), slot);
            }
        }
        self.start_fetches()
    }

    fn start_fetches(&mut self) -> Result<(), Violation> {
        while let Some(fetch) = self.pipeline.next_fetch(timestamp(self.now)) {
            self.trace.note(self.now, format_args!("fetch {fetch:?}"));
            self.fetch_count += 1;
            if self.scenario.is_calm() && self.now < self.world.calm_at {
                return Err(Violation::NeedlessFetch);
            }
            self.fetches.begin(self.now, fetch, &self.world);
        }
        Ok(())
    }

    /// Where the pipeline begins, once it knows.
    fn find_floor(&mut self) {
        if self.floor.is_some() {
            return;
        }
        // If no endpoint ever came up, RPC said where the tip was.
        let late = self.oracle.lowest().filter(|_| self.now >= self.world.end);
        self.floor = match (self.scenario.start, self.pipeline.first_meta) {
            (Start::At(slot), _) => Some(slot),
            (Start::Tip, first) => first.or(late),
            (Start::TipRoundedDown(slots), Some(first)) => Some(first - first % slots),
            (Start::TipRoundedDown(_), None) => late,
        };
        if let Some(floor) = self.floor {
            self.oracle.begin_with(floor);
        }
    }

    fn is_over(&mut self) -> Result<bool, Violation> {
        let lacking = self.lacking();
        if self.now < self.world.end || !self.oracle.outstanding.is_empty() || !lacking.is_empty() {
            if self.now < self.world.end + PATIENCE {
                return Ok(false);
            }
            let slots: Vec<Slot> = self.oracle.outstanding.iter().copied().collect();
            return Err(match slots.is_empty() {
                true => Violation::MissingParts { slots: lacking },
                false => Violation::Missing { slots },
            });
        }
        let complete_at = *self.complete_at.get_or_insert(self.now);
        Ok(self.now >= complete_at + LINGER)
    }

    /// Slots of the storm whose entries or accounts could be had and are not there.
    fn lacking(&self) -> Vec<Slot> {
        if self.now < self.world.end || !self.scenario.can_replay_all() {
            return Vec::new();
        }
        self.oracle.lacking(self.floor.unwrap_or_default(), FIRST_SLOT + self.scenario.storm_slots)
    }

    fn check_bounds(&self) -> Result<(), Violation> {
        let slots = self.scenario.ledger.slots.unwrap_or_default();
        let bounds = [
            // The slots of the bound, the tip itself, and what lies ahead of it.
            ("dedupe_open_slots", self.scenario.dedupe.max_slots + 2),
            ("ledger_open_slots", self.scenario.gap_detector.max_open_slots + 2),
            ("recovery_in_flight", self.scenario.recovery.max_in_flight as u64),
            ("recovery_searches", slots),
            ("held_blocks", 2 * slots),
        ];
        let mut broken = None;
        self.pipeline.metrics(&mut |metric| {
            let bound = bounds.iter().find(|(name, _)| *name == metric.name);
            if let Some(&(name, bound)) = bound.filter(|(_, bound)| metric.value > *bound as f64) {
                broken = Some(Violation::Unbounded { metric: name, value: metric.value as u64, bound });
            }
        });
        broken.map_or(Ok(()), Err)
    }
}

fn way_position(way: Way) -> usize {
    match way {
        Way::Live => 0,
        Way::Replay => 1,
        Way::Rpc => 2,
    }
}

fn outcome(fetched: &Fetched) -> String {
    match fetched {
        Fetched::Slots(slots) => format!("{} slots", slots.len()),
        Fetched::Updates { slot, updates } => format!("slot {slot}, {} updates", updates.len()),
        Fetched::Done => "done".to_owned(),
        Fetched::Failed { reason, .. } => format!("failed: {reason}"),
    }
}
