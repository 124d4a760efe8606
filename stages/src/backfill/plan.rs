//! What a backfill asks for next, and what it lets out: a pure state machine.
//!
//! Answers and the time go in, questions ([`Ask`]), blocks and events come out. One stretch of slots after the other is
//! worked on, from the bottom up. Lists say which slots to ask for; the parent link of each block says which of them there
//! are: a parent that was not listed is asked for, too, and what a link passes over is proven to be skipped. A block goes
//! out when the block before it is its parent, by slot and by hash, so what goes out is one chain.
//!
//! ```text
//!           tail          lowest search                       at most `window` blocks wait
//!   ─ ■ ─ ■ ─ ■ ········· ○ ──── ● ──── ● ──── ○              ■ let out  ● arrived  ○ wanted
//!                         └ asked for first: it holds up all others
//! ```

mod failures;
mod listing;
mod question;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand::rngs::SmallRng;

use self::listing::Listing;
pub use self::question::{Answer, Ask, Bounds, Failure, FailureKind, Room};
use super::options::SlotRange;
use super::search::{Search, State, backoff};
use crate::block::Block;
use crate::slot::{Hash, Slot, Timestamp};
use crate::stage::{Event, Metric};

/// Blocks that may wait, as a multiple of the questions under way. The memory budget bounds their bytes.
const WINDOW_ROUNDS: usize = 4;

#[derive(Debug, Default)]
struct Counters {
    blocks: u64,
    skips_proven: u64,
    settled_slots: u64,
    failures: u64,
    pushbacks: u64,
    holes: u64,
}

/// The state machine.
#[derive(Debug)]
pub struct Planner {
    bounds: Bounds,
    stretches: VecDeque<SlotRange>,
    tip: Option<Slot>,
    listing: Listing,
    searches: BTreeMap<Slot, Search>,
    /// The last block of the stretch that went out.
    tail: Option<(Slot, Hash)>,
    ready: VecDeque<Arc<Block>>,
    events: Vec<Event>,
    in_flight: usize,
    answered_at: Timestamp,
    /// Until when a node wants a pause that is longer than the silence that is borne.
    paused_until: Timestamp,
    fatal: Option<String>,
    random: SmallRng,
    counters: Counters,
}

impl Planner {
    /// A planner for `ranges`, which rise and don't overlap. `random` draws the jitter.
    pub fn new(bounds: Bounds, ranges: Vec<SlotRange>, now: Timestamp, random: SmallRng) -> Self {
        let mut planner = Self {
            bounds,
            stretches: ranges.into(),
            tip: None,
            listing: Listing::new(0, now),
            searches: BTreeMap::new(),
            tail: None,
            ready: VecDeque::new(),
            events: Vec::new(),
            in_flight: 0,
            answered_at: now,
            paused_until: now,
            fatal: None,
            random,
            counters: Counters::default(),
        };
        planner.begin_stretch(now);
        planner
    }

    /// Whether there is nothing left to ask for or to let out.
    pub fn is_done(&self) -> bool {
        self.stretches.is_empty() && self.ready.is_empty() && self.events.is_empty()
    }

    /// Why the backfill can't go on, if it can't.
    pub fn fatal(&self) -> Option<&str> {
        self.fatal.as_deref()
    }

    /// The next block to let out.
    pub fn next_block(&mut self) -> Option<Arc<Block>> {
        self.ready.pop_front()
    }

    /// What an operator may want to read about.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The next question, if there is one and room for it. Without memory only the block that all others wait for is asked
    /// for.
    pub fn next_ask(&mut self, now: Timestamp, room: Room) -> Option<Ask> {
        let stretch = *self.stretches.front()?;
        if self.in_flight >= room.questions.min(self.bounds.max_in_flight) || self.fatal.is_some() {
            return None;
        }
        let ask = match self.tip {
            None => self.list_due(now).then_some(Ask::Tip),
            Some(tip) => {
                let list = self.next_list(stretch, tip, now);
                list.or_else(|| self.next_search(now, room.memory).map(Ask::Block))
            }
        }?;
        match ask {
            Ask::Tip | Ask::List { .. } | Ask::FirstAvailable => self.listing.in_flight = true,
            Ask::Block(slot) => {
                let search = self.searches.get_mut(&slot)?;
                search.state = State::InFlight { since: now };
            }
        }
        self.in_flight += 1;
        Some(ask)
    }

    /// Takes an answer in.
    pub fn on_answer(&mut self, now: Timestamp, ask: Ask, answer: Answer) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match (ask, answer) {
            (_, Answer::Failed(failure)) => self.on_failed(now, ask, failure),
            (Ask::Tip, Answer::Tip(tip)) => {
                self.on_answered(now);
                self.tip = Some(tip);
                self.listing.on_answered(now);
            }
            (Ask::List { first, last }, Answer::Slots(slots)) => {
                self.on_answered(now);
                self.on_listed(now, first, last, &slots);
            }
            (Ask::FirstAvailable, Answer::FirstAvailable(slot)) => {
                self.on_answered(now);
                self.on_first_available(now, slot);
            }
            (Ask::Block(slot), Answer::Block(block)) => {
                self.on_answered(now);
                self.on_block(now, slot, block);
            }
            (ask, _) => tracing::debug!(?ask, "an answer to another question"),
        }
        self.advance(now);
    }

    /// Shows the metrics.
    pub fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        let waiting = self.searches.values().filter(|search| search.block().is_some()).count();
        show(Metric::new("backfill_slots_total", self.counters.settled_slots));
        show(Metric::new("backfill_blocks_total", self.counters.blocks));
        show(Metric::new("backfill_skips_proven_total", self.counters.skips_proven));
        show(Metric::new("backfill_failures_total", self.counters.failures));
        show(Metric::new("backfill_pushbacks_total", self.counters.pushbacks));
        show(Metric::new("backfill_waiting_blocks", waiting as u64));
        show(Metric::new("backfill_in_flight", self.in_flight as u64));
        show(Metric::new("holes", self.counters.holes));
    }

    /// Blocks that may wait for an earlier one, or to be taken: as many as come while one that failed is tried again.
    fn window(&self) -> usize {
        self.bounds.max_in_flight.saturating_mul(WINDOW_ROUNDS).max(2)
    }

    fn next_search(&self, now: Timestamp, has_memory: bool) -> Option<Slot> {
        // Blocks that were let out and not taken wait, too.
        let within = if has_memory { self.window().saturating_sub(self.ready.len()) } else { 1 };
        let mut within = self.searches.iter().take(within);
        within.find(|(_, search)| search.is_due(now)).map(|(&slot, _)| slot)
    }

    fn on_answered(&mut self, now: Timestamp) {
        self.answered_at = now;
    }

    fn want(&mut self, now: Timestamp, slot: Slot) {
        self.searches.entry(slot).or_insert_with(|| Search::new(now));
    }

    fn on_block(&mut self, now: Timestamp, slot: Slot, block: Arc<Block>) {
        if !self.searches.contains_key(&slot) {
            return;
        }
        if let Err(reason) = self.check_links(&block) {
            return self.on_try_failed(now, slot, FailureKind::Slot, reason.to_owned(), None);
        }
        let parent = block.meta.parent_slot;
        let passed_over: Vec<Slot> = self.between(parent, slot).map(|(at, _)| at).collect();
        for slot in passed_over {
            self.searches.remove(&slot);
        }
        if self.is_wanted_as_parent(parent, slot) {
            self.want(now, parent);
        }
        if let Some(search) = self.searches.get_mut(&slot) {
            search.state = State::Arrived(block);
        }
    }

    /// What a block's links say against those that are there.
    fn check_links(&self, block: &Block) -> Result<(), &'static str> {
        let (slot, meta) = (block.slot(), &block.meta);
        if meta.parent_slot >= slot && slot != 0 {
            return Err("its parent is not before it");
        }
        if let Some((tail, hash)) = self.tail
            && (meta.parent_slot < tail || (meta.parent_slot == tail && meta.parent_blockhash != hash))
        {
            return Err("it does not follow from the block before it");
        }
        if self.between(meta.parent_slot, slot).any(|(_, search)| search.block().is_some()) {
            return Err("it passes over a block that the node has, too");
        }
        Ok(())
    }

    /// What is searched for between a parent and its child.
    fn between(&self, parent: Slot, child: Slot) -> impl Iterator<Item = (Slot, &Search)> {
        let below = self.searches.range(..child).rev().map(|(&slot, search)| (slot, search));
        below.take_while(move |(slot, _)| *slot > parent)
    }

    /// Whether a parent belongs to the stretch and did not go out yet.
    fn is_wanted_as_parent(&self, parent: Slot, child: Slot) -> bool {
        let first = self.stretches.front().map_or(Slot::MAX, |stretch| stretch.first);
        child != 0 && parent >= first && self.tail.is_none_or(|(tail, _)| parent > tail)
    }

    /// Lets out what is linked to what went out, and looks whether the stretch is over.
    fn advance(&mut self, now: Timestamp) {
        while let Some(stretch) = self.stretches.front().copied() {
            let Some(entry) = self.searches.first_entry() else { break };
            let slot = *entry.key();
            let Some(block) = entry.get().block().filter(|block| follows(block, self.tail, stretch)) else {
                break;
            };
            let (block, begun) = (Arc::clone(block), self.tail.map_or(stretch.first, |(tail, _)| tail + 1));
            entry.remove();
            self.let_out(block, begun, stretch);
            if slot > stretch.last {
                self.end_stretch(now);
            }
        }
        self.shrink();
        self.end_if_unfinished(now);
    }

    fn let_out(&mut self, block: Arc<Block>, begun: Slot, stretch: SlotRange) {
        let slot = block.slot();
        self.counters.settled_slots += slot.min(stretch.last).saturating_add(1).saturating_sub(begun);
        self.counters.skips_proven += slot.min(stretch.last.saturating_add(1)).saturating_sub(begun);
        self.counters.blocks += u64::from(slot <= stretch.last);
        self.tail = Some((slot, block.blockhash()));
        self.ready.push_back(block);
    }

    /// Blocks beyond the window go, the latest first, and are fetched again: a list with gaps leads to parents one by one.
    fn shrink(&mut self) {
        let arrived = self.searches.values().filter(|search| search.block().is_some()).count();
        let excess = arrived.saturating_sub(self.window());
        let latest = self.searches.values_mut().rev().filter(|search| search.block().is_some());
        for search in latest.take(excess) {
            search.state = State::Due(Timestamp(0));
        }
    }

    fn end_stretch(&mut self, now: Timestamp) {
        self.stretches.pop_front();
        self.begin_stretch(now);
    }

    fn begin_stretch(&mut self, now: Timestamp) {
        let next = self.stretches.front().map_or(Slot::MAX, |stretch| stretch.first);
        let in_flight = self.listing.in_flight;
        self.listing = Listing::new(next, now);
        self.listing.in_flight = in_flight;
        self.searches.clear();
        self.tail = None;
    }
}

/// Whether a block is the next one of the chain behind `tail`, or the first one of a stretch.
fn follows(block: &Block, tail: Option<(Slot, Hash)>, stretch: SlotRange) -> bool {
    match tail {
        Some((tail, hash)) => block.meta.parent_slot == tail && block.meta.parent_blockhash == hash,
        // Genesis is its own parent.
        None => block.meta.parent_slot < stretch.first || block.slot() == 0,
    }
}

#[cfg(test)]
mod tests;
