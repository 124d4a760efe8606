//! The stage: what is held, what goes out, and what is let go.

mod switching;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smallvec::SmallVec;

use super::tiers::{Tier, Tiers};
use super::{CommitmentOptions, Strategy};
use crate::batch::{Batch, Item, Status};
use crate::block::Block;
use crate::chain::{Chain, Changes};
use crate::frame::SlotStatus;
use crate::slot::{Commitment as Level, Hash, Slot, Timestamp};
use crate::stage::{Event, Metric, Output, Stage};
use switching::Adaptive;

/// What is held of one slot.
#[derive(Debug, Default)]
struct Held {
    /// Whole versions that wait for the level.
    blocks: SmallVec<[Arc<Block>; 1]>,
    /// Versions of it were let go while memory was short.
    shed: bool,
    /// The versions that were let out: the canonical one, and at processed any.
    emitted: SmallVec<[Hash; 1]>,
    /// When it was last asked for.
    requested_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Counters {
    emitted: u64,
    dead: u64,
    orphaned: u64,
    shed: u64,
    contradictions: u64,
}

/// The stage.
#[derive(Debug)]
pub struct Commitment {
    options: CommitmentOptions,
    level: Level,
    adaptive: Option<Adaptive>,
    tiers: Tiers,
    slots: BTreeMap<Slot, Held>,
    /// What lies below was looked through for what can be forgotten.
    floor: Slot,
    /// Slots that may be ready to go out.
    ready: BTreeSet<Slot>,
    /// There is memory for what was let go.
    has_room: bool,
    counters: Counters,
}

impl Commitment {
    /// A stage that holds nothing yet.
    pub fn new(options: CommitmentOptions) -> Self {
        let is_adaptive = options.strategy == Strategy::Adaptive;
        let adaptive = is_adaptive.then(|| Adaptive::new(&options));
        Self {
            level: options.level,
            adaptive,
            tiers: Tiers::new(options.level, is_adaptive),
            slots: BTreeMap::new(),
            floor: 0,
            ready: BTreeSet::new(),
            has_room: true,
            counters: Counters::default(),
            options,
        }
    }

    fn tier(&self) -> &Tier {
        self.tiers.at(self.level)
    }

    fn chain(&self) -> &Chain {
        &self.tier().chain
    }

    fn on_block(&mut self, now: Timestamp, block: Arc<Block>, out: &mut Output) {
        match &mut self.adaptive {
            Some(adaptive) => adaptive.on_block(now, &block),
            // Nothing has to be remembered for a level that will never be another.
            None if self.level == Level::Processed => {
                self.counters.emitted += 1;
                return out.push(Item::Block(block));
            }
            None => {}
        }
        let learnt = self.tiers.on_block(&block, self.level);
        self.observe(&learnt);
        self.hold(block, out);
        self.follow(learnt.decided(), out);
    }

    fn hold(&mut self, block: Arc<Block>, out: &mut Output) {
        let (slot, blockhash) = (block.slot(), block.blockhash());
        let canonical = self.chain().canonical(slot);
        let is_orphan = canonical.is_some_and(|canonical| canonical != blockhash);
        if is_orphan || self.chain().is_passed_over(slot) {
            return self.discard(slot, Fate::Orphaned, out);
        }
        let held = self.slots.entry(slot).or_default();
        if held.emitted.contains(&blockhash) {
            // Parts that were missing the first time, or a slot that was asked for again.
            return out.push(Item::Block(block));
        }
        match held.blocks.iter_mut().find(|other| other.blockhash() == blockhash) {
            Some(other) => *other = Arc::new(Block::clone(other).or_parts_of(&block)),
            None => held.blocks.push(block),
        }
        self.ready.insert(slot);
    }

    fn on_status(&mut self, status: Status, out: &mut Output) {
        out.push(Item::Status(status));
        let Some(blockhash) = status.blockhash else { return };
        if status.status == SlotStatus::Dead {
            return self.on_dead(status.slot, blockhash, out);
        }
        let learnt = self.tiers.on_status(status, blockhash, self.level);
        self.observe(&learnt);
        self.follow(learnt.decided(), out);
    }

    fn on_dead(&mut self, slot: Slot, dead: Hash, out: &mut Output) {
        let Some(held) = self.slots.get_mut(&slot) else { return };
        let before = held.blocks.len();
        held.blocks.retain(|block| block.blockhash() != dead);
        if held.blocks.len() < before {
            self.discard(slot, Fate::Dead, out);
        }
    }

    /// Draws the consequences of what the chain has learnt.
    fn follow(&mut self, changes: Changes, out: &mut Output) {
        if let Some(slot) = changes.contradiction {
            self.counters.contradictions += 1;
            out.report(Event::Contradiction {
                slot,
                reason: "two versions of it are called canonical",
                endpoints: Vec::new(),
            });
        }
        for range in changes.passed_over {
            let orphans: Vec<Slot> = self.slots.range(range).map(|(&slot, _)| slot).collect();
            for slot in orphans {
                let held = self.slots.remove(&slot).unwrap_or_default();
                held.blocks.iter().for_each(|_| self.discard(slot, Fate::Orphaned, out));
            }
        }
        for slot in changes.canonical {
            self.keep_canonical(slot, out);
            self.ready.insert(slot);
        }
    }

    fn keep_canonical(&mut self, slot: Slot, out: &mut Output) {
        let canonical = self.chain().canonical(slot);
        let held = self.slots.entry(slot).or_default();
        let before = held.blocks.len();
        held.blocks.retain(|block| Some(block.blockhash()) == canonical);
        for _ in held.blocks.len()..before {
            self.discard(slot, Fate::Orphaned, out);
        }
    }

    fn discard(&mut self, slot: Slot, fate: Fate, out: &mut Output) {
        match fate {
            Fate::Dead => self.counters.dead += 1,
            Fate::Orphaned => self.counters.orphaned += 1,
        }
        out.report(Event::Discarded { slot, reason: fate.name() });
    }

    /// Lets out what has the level, in slot order: what is canonical, and at processed everything.
    fn emit(&mut self, out: &mut Output) {
        for slot in std::mem::take(&mut self.ready) {
            let canonical = self.chain().canonical(slot);
            if canonical.is_none() && self.level > Level::Processed {
                continue;
            }
            let Some(held) = self.slots.get_mut(&slot) else { continue };
            for block in std::mem::take(&mut held.blocks) {
                let blockhash = block.blockhash();
                if canonical.is_none_or(|canonical| canonical == blockhash)
                    && !held.emitted.contains(&blockhash)
                {
                    held.emitted.push(blockhash);
                    self.counters.emitted += 1;
                    out.push(Item::Block(block));
                }
            }
        }
    }

    /// What was recovered from further down and waits for its child stays, and so does what was let go and has to come
    /// again; with them the links that lead there.
    fn forget(&mut self) {
        let floor = self.tier().highest.saturating_sub(self.options.keep_slots);
        if floor <= self.floor {
            return;
        }
        self.floor = floor;
        let kept = self.slots.split_off(&floor);
        let mut old = std::mem::replace(&mut self.slots, kept);
        let chain = self.chain();
        old.retain(|&slot, held| {
            let is_awaited = held.shed || !held.blocks.is_empty() || chain.is_settled_and_seen(slot);
            !is_done(held, chain.canonical(slot)) && is_awaited
        });
        self.tiers.forget(old.first_key_value().map_or(floor, |(&lowest, _)| lowest));
        self.slots.append(&mut old);
    }

    /// Asks for canonical slots of which only another version came, or whose content was given up. While memory is short,
    /// for the lowest alone, behind which all others wait: the rest would only be let go again.
    fn request_missing(&mut self, now: Timestamp, out: &mut Output) {
        let interval = self.options.request_interval;
        let chain = &self.tiers.at(self.level).chain;
        let missing = self.slots.iter_mut().filter(|(slot, held)| {
            let is_done = is_done(held, chain.canonical(**slot));
            !is_done && held.blocks.is_empty() && chain.is_settled_and_seen(**slot)
        });
        let most = if self.has_room { usize::MAX } else { 1 };
        for (&slot, held) in missing.take(most) {
            if held.requested_at.is_none_or(|at| now.since(at) >= interval) {
                held.requested_at = Some(now);
                out.requests.push(slot);
            }
        }
    }
}

/// Whether the canonical version was let out.
fn is_done(held: &Held, canonical: Option<Hash>) -> bool {
    canonical.is_some_and(|canonical| held.emitted.contains(&canonical))
}

/// Why a version does not go on.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Dead,
    Orphaned,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Orphaned => "orphaned",
        }
    }
}

impl Stage for Commitment {
    fn on_batch(&mut self, now: Timestamp, _: usize, batch: Batch, out: &mut Output) {
        for item in batch {
            match item {
                Item::Block(block) => self.on_block(now, block, out),
                Item::Status(status) => self.on_status(status, out),
                Item::Arrivals(arrivals) => {
                    if let Some(adaptive) = &mut self.adaptive {
                        adaptive.on_arrivals(&arrivals);
                    }
                    out.push(Item::Arrivals(arrivals));
                }
                item @ Item::Begin(_) => out.push(item),
                // Gaps and disputes were for recovery, claims for a proof; what is not of blocks doesn't come here.
                Item::Gap(_)
                | Item::Claim(_)
                | Item::Dispute(_)
                | Item::Update(_)
                | Item::Echo(_)
                | Item::Session(_)
                | Item::Sample(_)
                | Item::Alert(_) => {}
            }
        }
        self.emit(out);
        self.forget();
    }

    fn on_room(&mut self, has_room: bool) {
        self.has_room = has_room;
    }

    fn on_tick(&mut self, now: Timestamp, out: &mut Output) {
        self.adapt(now, out);
        self.request_missing(now, out);
    }

    fn on_pressure(&mut self, _: Timestamp, out: &mut Output) {
        let holding = self.slots.iter_mut().filter(|(_, held)| !held.blocks.is_empty());
        let mut holding: Vec<(Slot, &mut Held)> = holding.map(|(&slot, held)| (slot, held)).collect();
        // The newest half: the oldest go out first, and what they wait for is nearly there.
        let shed = holding.split_off(holding.len() / 2);
        self.counters.shed += shed.len() as u64;
        if let (Some(&(first, _)), Some(&(last, _))) = (shed.first(), shed.last()) {
            out.report(Event::GivenUp { first, last });
        }
        for (_, held) in shed {
            held.blocks.clear();
            held.shed = true;
        }
    }

    fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        let held = self.slots.values().map(|held| held.blocks.len() as u64).sum();
        show(Metric::new("committed_blocks_total", self.counters.emitted));
        show(Metric::new("discarded_blocks_total", self.counters.dead).with("reason", "dead"));
        show(Metric::new("discarded_blocks_total", self.counters.orphaned).with("reason", "orphaned"));
        show(Metric::new("chain_contradictions_total", self.counters.contradictions));
        show(Metric::new("shed_blocks_total", self.counters.shed));
        show(Metric::new("held_blocks", held));
        Metric::slot("watermark_slot", self.tier().highest).into_iter().for_each(&mut *show);
        show(Metric::new("commitment_level", self.level as u64));
        if let Some(adaptive) = &self.adaptive {
            adaptive.metrics(&self.options.thresholds, show);
        }
    }
}

#[cfg(test)]
mod tests;
