//! What is proven next, and what becomes of a slot by its verdict, as a pure state machine.
//!
//! Items and verdicts go in; items, events, requests and tasks come out. Whoever drives it runs the tasks, in any order;
//! verdicts are looked at, and items go on, in the order in which they came. So what came before a slot is known when it
//! is judged, whether it names its parent rightly too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::ancestry::Ancestry;
use super::chain::{Break, History, Reason};
use super::{Mode, ProofOptions, REPEAT_AFTER};
use crate::batch::{Arrival, Batch, EndpointId, Gap, Item, Missing, Standing, Update};
use crate::block::{Block, Way};
use crate::entry::Entry;
use crate::slot::{Hash, Slot, Timestamp};
use crate::stage::{Event, Metric, Output, Stage};

/// Items that wait behind a slot under way; beyond, nothing more is taken. A slot has a handful of statuses.
const MOST_WAITING_ITEMS: usize = 4_096;
/// Slots behind the newest for which it is remembered what was held back and what passed: what is older can no longer be
/// committed in order, and whoever needs it asks by itself.
const REMEMBERED_SLOTS: u64 = 4_096;

/// A slot to prove.
#[derive(Debug, Clone)]
pub struct Task {
    ticket: u64,
    block: Arc<Block>,
    max_hashes: u64,
    /// It is one endpoint's claim, and goes on only if it holds.
    is_claim: bool,
}

/// What came of a task.
#[derive(Debug, Clone)]
pub struct Verdict {
    task: Task,
    result: Result<u64, Flaw>,
}

/// Why a slot is not proven.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flaw {
    /// Where the chain breaks, if it could be looked at.
    broken: Option<Break>,
    /// The word in metrics.
    word: &'static str,
    reason: String,
    endpoint: EndpointId,
}

impl Task {
    /// Recomputes the slot's chain; takes some 70 ms of one core at mainnet's number of hashes.
    pub fn run(self) -> Verdict {
        let block = &*self.block;
        let result = match History::of(block, self.max_hashes) {
            Ok(Some(history)) => history.prove().map_err(|broken| Flaw::of(block, broken)),
            Ok(None) => Err(Flaw::without_entries(block)),
            Err(error) => Err(Flaw {
                broken: None,
                word: "malformed",
                reason: error.to_string(),
                endpoint: block.meta_update.session.endpoint,
            }),
        };
        Verdict { task: self, result }
    }
}

impl Flaw {
    /// The chain holds, and the parent that the block names is not the one that it builds on.
    fn wrong_parent(block: &Block, reason: Reason) -> Self {
        let endpoint = block.meta_update.session.endpoint;
        Self { endpoint, ..Self::of(block, Break { index: 0, reason }) }
    }

    fn of(block: &Block, broken: Break) -> Self {
        Self {
            broken: Some(broken),
            word: broken.reason.word(),
            reason: broken.reason.to_string(),
            endpoint: deliverer(block, broken.index),
        }
    }

    fn without_entries(block: &Block) -> Self {
        Self {
            broken: None,
            word: "no_entries",
            reason: "its entries did not come whole".to_owned(),
            endpoint: block.meta_update.session.endpoint,
        }
    }
}

/// The endpoint that delivered an entry. What came twice is the first's, who may not say that it belongs to this version:
/// then it is whose block meta says so.
fn deliverer(block: &Block, entry: u32) -> EndpointId {
    let entries = block.entries.updates().unwrap_or_default();
    let update: &Update = entries.get(entry as usize).unwrap_or(&block.meta_update);
    let endpoint = update.session.endpoint;
    if block.witnesses.contains(&endpoint) { endpoint } else { block.meta_update.session.endpoint }
}

fn first_has_transactions(block: &Block) -> bool {
    let first = block.entries.updates().and_then(|entries| entries.first());
    let first = first.and_then(|first| Entry::read(first.frame.body()).ok());
    first.is_some_and(|first| first.executed_transaction_count > 0)
}

/// An item that goes on in its turn.
#[derive(Debug)]
enum Waiting {
    Ready(Item),
    Proving(u64),
}

#[derive(Debug, Default)]
struct Counters {
    proven: u64,
    counted: u64,
    hashes: u64,
    busy: Duration,
    failed: BTreeMap<&'static str, u64>,
    endpoints: BTreeMap<EndpointId, u64>,
}

/// The state machine. As a [`Stage`] it proves each batch before it returns, which suits tests and simulations.
#[derive(Debug)]
pub struct Prover {
    options: ProofOptions,
    waiting: VecDeque<Waiting>,
    tasks: VecDeque<Task>,
    in_flight: usize,
    next_ticket: u64,
    /// Verdicts that came before those of slots in front of theirs, at most as many as are in flight.
    verdicts: BTreeMap<u64, (Verdict, Duration)>,
    next_verdict: u64,
    /// Slots that were held back, and when they were last asked for.
    refused: BTreeMap<Slot, Timestamp>,
    /// The best that was found of each version: one that passed and fails later is not asked for.
    standings: BTreeMap<Slot, SmallVec<[(Hash, Standing); 1]>>,
    /// What passed, by which parents are known.
    ancestry: Ancestry,
    newest: Slot,
    counters: Counters,
}

impl Prover {
    /// A prover that has nothing to do.
    pub fn new(options: ProofOptions) -> Self {
        Self {
            options,
            waiting: VecDeque::new(),
            tasks: VecDeque::new(),
            in_flight: 0,
            next_ticket: 0,
            verdicts: BTreeMap::new(),
            next_verdict: 0,
            refused: BTreeMap::new(),
            standings: BTreeMap::new(),
            ancestry: Ancestry::default(),
            newest: 0,
            counters: Counters::default(),
        }
    }

    /// Takes a batch in.
    pub fn take(&mut self, now: Timestamp, batch: Batch, out: &mut Output) {
        for item in batch {
            match item {
                Item::Block(block) if self.options.mode != Mode::Off => self.on_block(now, block, out),
                Item::Claim(block) if self.options.mode != Mode::Off => self.on_claim(block),
                Item::Arrivals(arrivals) => {
                    let marked = arrivals.iter().map(|arrival| self.mark(arrival)).collect();
                    self.waiting.push_back(Waiting::Ready(Item::Arrivals(marked)));
                }
                other => self.waiting.push_back(Waiting::Ready(other)),
            }
        }
        self.release(out);
    }

    /// The next slot to prove.
    pub fn next_task(&mut self) -> Option<Task> {
        if self.in_flight >= self.options.max_in_flight {
            return None;
        }
        let task = self.tasks.pop_front()?;
        self.in_flight += 1;
        Some(task)
    }

    /// Takes what came of a task that took `took`.
    pub fn on_verdict(&mut self, now: Timestamp, verdict: Verdict, took: Duration, out: &mut Output) {
        self.verdicts.insert(verdict.task.ticket, (verdict, took));
        while let Some((verdict, took)) = self.verdicts.remove(&self.next_verdict) {
            self.next_verdict += 1;
            self.in_flight -= 1;
            self.counters.busy += took;
            self.judge(now, verdict, out);
        }
        self.release(out);
    }

    fn judge(&mut self, now: Timestamp, verdict: Verdict, out: &mut Output) {
        let Verdict { task, result } = verdict;
        let flaw = match (result, self.ancestry.contradiction(&task.block.meta)) {
            (Ok(hashes), None) => return self.on_proven(task, hashes, out),
            (Ok(_), Some(reason)) => Flaw::wrong_parent(&task.block, reason),
            (Err(flaw), _) => self.with_what_is_known_of_the_parent(&task.block, flaw),
        };
        if task.is_claim {
            self.on_false_claim(&task.block, flaw, out);
        } else {
            self.on_failure(now, &task.block, flaw, out);
            self.settle(task, false);
        }
    }

    fn on_proven(&mut self, task: Task, hashes: u64, out: &mut Output) {
        self.counters.hashes += hashes;
        let before = self.standing(task.block.slot(), task.block.blockhash());
        self.note(&task.block, Standing::Proven);
        match task.is_claim {
            // Another endpoint's claim, or what recovery brought, was the same.
            true if before == Some(Standing::Proven) => {}
            true => {
                self.counters.proven += 1;
                out.push(Item::Block(task.block));
            }
            false => {
                self.counters.proven += 1;
                self.settle(task, true);
            }
        }
    }

    /// Whether another batch may be taken in.
    pub fn has_room(&self) -> bool {
        self.in_flight + self.tasks.len() < self.options.max_in_flight
            && self.waiting.len() < MOST_WAITING_ITEMS
    }

    /// Whether all that was taken in has gone on.
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.tasks.is_empty() && self.waiting.is_empty()
    }

    fn on_block(&mut self, now: Timestamp, block: Arc<Block>, out: &mut Output) {
        self.newest = self.newest.max(block.slot());
        let whole = block.entries.updates().is_some() && block.transactions.updates().is_some();
        match (whole, block.way) {
            (true, _) => self.begin(block),
            (false, Way::Rpc) => {
                self.counters.counted += 1;
                self.note(&block, Standing::Counted);
                self.pass(block);
            }
            // The version went on with its entries, and what comes without adds nothing that can be proven.
            (false, Way::Live | Way::Replay)
                if self.standing(block.slot(), block.blockhash()) == Some(Standing::Proven) =>
            {
                if self.options.mode == Mode::Audit {
                    self.pass(block);
                }
            }
            (false, Way::Live | Way::Replay) => {
                self.on_failure(now, &block, Flaw::without_entries(&block), out);
                match self.options.mode {
                    Mode::Enforce => self.waiting.push_back(Waiting::Ready(gap(&block))),
                    Mode::Off | Mode::Audit => self.pass(block),
                }
            }
        }
    }

    fn begin(&mut self, block: Arc<Block>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back(match self.options.mode {
            Mode::Enforce => Waiting::Proving(ticket),
            Mode::Off | Mode::Audit => Waiting::Ready(Item::Block(Arc::clone(&block))),
        });
        self.add_task(ticket, block, false);
    }

    /// Nothing waits for a claim: it goes on if it holds, whenever that is known.
    fn on_claim(&mut self, block: Arc<Block>) {
        self.newest = self.newest.max(block.slot());
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.add_task(ticket, block, true);
    }

    fn add_task(&mut self, ticket: u64, block: Arc<Block>, is_claim: bool) {
        self.tasks.push_back(Task { ticket, block, max_hashes: self.options.max_hashes, is_claim });
    }

    fn pass(&mut self, block: Arc<Block>) {
        self.waiting.push_back(Waiting::Ready(Item::Block(block)));
    }

    fn report(&mut self, slot: Slot, flaw: Flaw, out: &mut Output) {
        *self.counters.failed.entry(flaw.word).or_default() += 1;
        *self.counters.endpoints.entry(flaw.endpoint).or_default() += 1;
        let Flaw { broken, reason, endpoint, .. } = flaw;
        let index = broken.map(|broken| broken.index);
        out.report(Event::ProofFailed { slot, index, reason, endpoint });
    }

    /// Nothing is asked for: the slot is a gap, since endpoints differ about it, unless another form of it passed.
    fn on_false_claim(&mut self, block: &Block, flaw: Flaw, out: &mut Output) {
        let endpoint = block.meta_update.session.endpoint;
        self.report(block.slot(), Flaw { endpoint, ..flaw }, out);
        self.note(block, Standing::Failed);
    }

    /// A first entry that does not hold is the parent's fault or its own; whose, a proven parent tells.
    fn with_what_is_known_of_the_parent(&self, block: &Block, flaw: Flaw) -> Flaw {
        let meta = &block.meta;
        let is_right = || self.standing(meta.parent_slot, meta.parent_blockhash) == Some(Standing::Proven);
        match flaw.broken {
            Some(Break { index: 0, reason: Reason::Parent }) if is_right() => {
                let reason = if first_has_transactions(block) { Reason::Transactions } else { Reason::Tick };
                Flaw { endpoint: flaw.endpoint, ..Flaw::of(block, Break { index: 0, reason }) }
            }
            _ => flaw,
        }
    }

    fn on_failure(&mut self, now: Timestamp, block: &Block, flaw: Flaw, out: &mut Output) {
        let slot = block.slot();
        self.report(slot, flaw, out);
        let passed = self.standing(slot, block.blockhash()) > Some(Standing::Failed);
        self.note(block, Standing::Failed);
        if self.options.mode == Mode::Enforce && !passed {
            self.refused.insert(slot, now);
            out.requests.push(slot);
        }
    }

    fn note(&mut self, block: &Block, standing: Standing) {
        let standings = self.standings.entry(block.slot()).or_default();
        match standings.iter_mut().find(|(version, _)| *version == block.blockhash()) {
            Some((_, best)) => *best = standing.max(*best),
            None => standings.push((block.blockhash(), standing)),
        }
        if standing > Standing::Failed {
            self.refused.remove(&block.slot());
            self.ancestry.note(block.slot(), block.blockhash());
        }
    }

    /// The best that was found of a version.
    fn standing(&self, slot: Slot, version: Hash) -> Option<Standing> {
        let standings = self.standings.get(&slot)?;
        standings.iter().find(|(other, _)| *other == version).map(|&(_, standing)| standing)
    }

    /// Arrivals come long after the slots that they are about.
    fn mark(&self, arrival: &Arrival) -> Arrival {
        let standing = arrival.blockhash.and_then(|version| self.standing(arrival.slot, version));
        Arrival { standing: standing.or(arrival.standing), ..arrival.clone() }
    }

    /// Lets a slot that waited go on, or a gap in its place.
    fn settle(&mut self, task: Task, proven: bool) {
        if self.options.mode != Mode::Enforce {
            return;
        }
        let mine = |waiting: &Waiting| matches!(waiting, Waiting::Proving(ticket) if *ticket == task.ticket);
        let Some(place) = self.waiting.iter().position(mine) else { return };
        self.waiting[place] = Waiting::Ready(if proven { Item::Block(task.block) } else { gap(&task.block) });
    }

    fn release(&mut self, out: &mut Output) {
        while let Some(Waiting::Ready(_)) = self.waiting.front()
            && let Some(Waiting::Ready(item)) = self.waiting.pop_front()
        {
            out.push(item);
        }
    }
}

/// What stands in for a slot that is held back.
fn gap(block: &Block) -> Item {
    Item::Gap(Gap { first: block.slot(), last: block.slot(), missing: Missing::Content })
}

impl Stage for Prover {
    fn on_batch(&mut self, now: Timestamp, _: usize, batch: Batch, out: &mut Output) {
        self.take(now, batch, out);
        while let Some(task) = self.next_task() {
            self.on_verdict(now, task.run(), Duration::ZERO, out);
        }
    }

    /// Asks again for what is still held back.
    fn on_tick(&mut self, now: Timestamp, out: &mut Output) {
        let oldest = self.newest.saturating_sub(REMEMBERED_SLOTS);
        self.refused = self.refused.split_off(&oldest);
        self.standings = self.standings.split_off(&oldest);
        self.ancestry.forget_below(oldest);
        let due = self.refused.iter_mut().filter(|(_, asked_at)| now.since(**asked_at) >= REPEAT_AFTER);
        for (&slot, asked_at) in due {
            *asked_at = now;
            out.requests.push(slot);
        }
    }

    fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        let counters = &self.counters;
        show(Metric::new("proof_proven_total", counters.proven));
        show(Metric::new("proof_counted_total", counters.counted));
        for (&word, &failed) in &counters.failed {
            show(Metric::new("proof_failed_total", failed).with("reason", word));
        }
        for (&endpoint, &failed) in &counters.endpoints {
            show(Metric::new("proof_endpoint_failed_total", failed).with("endpoint", endpoint));
        }
        show(Metric::new("proof_hashes_total", counters.hashes));
        let seconds = counters.busy.as_secs_f64();
        let rate = if seconds > 0.0 { counters.hashes as f64 / seconds } else { 0.0 };
        show(Metric::new("proof_hashes_per_second", rate as u64));
        show(Metric::new("proof_in_flight", self.in_flight as u64));
        show(Metric::new("proof_held_back_slots", self.refused.len() as u64));
    }
}
