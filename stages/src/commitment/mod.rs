//! `commitment`: holds each slot until it has the wanted level, and lets only the canonical chain through.
//!
//! Blocks, statuses and gaps in; blocks and statuses out. A version of a slot is canonical when
//!
//! * a status of the level, from a lane that is bound to its blockhash, says so, or
//! * a canonical child names it as its parent, or
//! * whoever delivered it vouches for the level (RPC is asked for it).
//!
//! From each canonical version the parent links lead down: what they name is canonical, what they pass over is orphaned.
//! Blocks that are let out at one time go in slot order; a hole holds up nobody but itself. Dead and orphaned versions
//! are reported and counted (`discarded_blocks_total{reason}`). At `processed` nothing is held.
//!
//! Bounded by finality: what lies `keep_slots` below the highest slot of the level is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::batch::{Batch, Item, Status};
use crate::block::Block;
use crate::chain::{Chain, Changes};
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Role};
use crate::frame::SlotStatus;
use crate::slot::{Commitment as Level, Hash, Slot, Timestamp};
use crate::stage::{Event, Flow, Metric, Output, Stage};

/// Options of `commitment`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommitmentOptions {
    /// The level that a slot has to reach: `processed`, `confirmed` or `finalized`. Default finalized, which never takes
    /// anything back; it costs some 13 seconds.
    #[schemars(with = "String", extend("enum" = ["processed", "confirmed", "finalized"]))]
    pub level: Level,
    /// How many slots below the highest one of the level are remembered, so that parts which come late still find their
    /// slot. Default 4,096: half an hour.
    pub keep_slots: u64,
    /// How long a canonical slot may be missing before it is asked for again. Default 5s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub request_interval: Duration,
}

impl Default for CommitmentOptions {
    fn default() -> Self {
        Self { level: Level::Finalized, keep_slots: 4_096, request_interval: Duration::from_secs(5) }
    }
}

impl Component for CommitmentOptions {
    const KIND: &'static str = "commitment";
    const ROLE: Role = Role::Stage;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Blocks);
    const EMITS: Emits = Emits::Only(Flow::Blocks);
    const SUMMARY: &'static str = "Holds slots until they are settled; discards dead and orphaned forks.";

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Stage(Box::new(Commitment::new(self))))
    }
}

/// What is held of one slot.
#[derive(Debug, Default)]
struct Held {
    /// Whole versions that wait for the level.
    blocks: SmallVec<[Arc<Block>; 1]>,
    /// Versions of it were let go while memory was short.
    shed: bool,
    /// It was let out.
    emitted: bool,
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
    chain: Chain,
    slots: BTreeMap<Slot, Held>,
    highest: Slot,
    /// What lies below was looked through for what can be forgotten.
    floor: Slot,
    /// Slots that may be ready to go out.
    ready: BTreeSet<Slot>,
    counters: Counters,
}

impl Commitment {
    /// A stage that holds nothing yet.
    pub fn new(options: CommitmentOptions) -> Self {
        Self {
            options,
            chain: Chain::default(),
            slots: BTreeMap::new(),
            highest: 0,
            floor: 0,
            ready: BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    fn on_block(&mut self, block: Arc<Block>, out: &mut Output) {
        if self.options.level == Level::Processed {
            self.counters.emitted += 1;
            return out.push(Item::Block(block));
        }
        let (slot, blockhash) = (block.slot(), block.blockhash());
        let mut changes = Changes::default();
        self.chain.link(&block.meta, &mut changes);
        if block.vouched.is_some_and(|level| level >= self.options.level) {
            self.highest = self.highest.max(slot);
            self.chain.settle(slot, blockhash, &mut changes);
        }
        self.hold(block, out);
        self.follow(changes, out);
    }

    fn hold(&mut self, block: Arc<Block>, out: &mut Output) {
        let (slot, blockhash) = (block.slot(), block.blockhash());
        let canonical = self.chain.canonical(slot);
        if canonical.is_some_and(|canonical| canonical != blockhash) || self.chain.is_passed_over(slot) {
            return self.discard(slot, Fate::Orphaned, out);
        }
        let held = self.slots.entry(slot).or_default();
        if held.emitted {
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
        if status.commitment().is_some_and(|level| level >= self.options.level) {
            self.highest = self.highest.max(status.slot);
            let mut changes = Changes::default();
            self.chain.settle(status.slot, blockhash, &mut changes);
            self.follow(changes, out);
        }
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
            out.report(Event::Contradiction { slot, reason: "two versions of it are called canonical" });
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
        let canonical = self.chain.canonical(slot);
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

    /// Lets out what is canonical and there, in slot order.
    fn emit(&mut self, out: &mut Output) {
        for slot in std::mem::take(&mut self.ready) {
            let Some(canonical) = self.chain.canonical(slot) else { continue };
            let Some(held) = self.slots.get_mut(&slot) else { continue };
            let blocks = std::mem::take(&mut held.blocks);
            if let Some(block) = blocks.into_iter().find(|block| block.blockhash() == canonical) {
                held.emitted = true;
                self.counters.emitted += 1;
                out.push(Item::Block(block));
            }
        }
    }

    /// What was recovered from further down and waits for its child stays, and so does what was let go and has to come
    /// again; with them the links that lead there.
    fn forget(&mut self) {
        let floor = self.highest.saturating_sub(self.options.keep_slots);
        if floor <= self.floor {
            return;
        }
        self.floor = floor;
        let kept = self.slots.split_off(&floor);
        let mut old = std::mem::replace(&mut self.slots, kept);
        old.retain(|&slot, held| {
            !held.emitted && (held.shed || !held.blocks.is_empty() || self.chain.is_settled_and_seen(slot))
        });
        self.chain.forget(old.first_key_value().map_or(floor, |(&lowest, _)| lowest));
        self.slots.append(&mut old);
    }

    /// Asks for canonical slots of which only another version came, or whose content was given up.
    fn request_missing(&mut self, now: Timestamp, out: &mut Output) {
        let interval = self.options.request_interval;
        for (&slot, held) in &mut self.slots {
            if held.emitted || !held.blocks.is_empty() || !self.chain.is_settled_and_seen(slot) {
                continue;
            }
            if held.requested_at.is_none_or(|at| now.since(at) >= interval) {
                held.requested_at = Some(now);
                out.requests.push(slot);
            }
        }
    }
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
    fn on_batch(&mut self, _: Timestamp, _: usize, batch: Batch, out: &mut Output) {
        for item in batch {
            match item {
                Item::Block(block) => self.on_block(block, out),
                Item::Status(status) => self.on_status(status, out),
                item @ (Item::Arrivals(_) | Item::Begin(_)) => out.push(item),
                // Gaps were for recovery; what is not of blocks doesn't come here.
                Item::Gap(_)
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

    fn on_tick(&mut self, now: Timestamp, out: &mut Output) {
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
        show(Metric::new("watermark_slot", self.highest));
    }
}

#[cfg(test)]
mod tests;
