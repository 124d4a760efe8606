//! The slot map: what became of each recent slot.
//!
//! ```text
//!  open ─→ complete (live) │ recovered (replay, rpc) ─→ orphaned (a final child passes over it)
//!    ├───→ missing ─→ hole ─→ recovered
//!    ├───→ dead
//!    └───→ skipped (a final child's parent lies before it)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sluice_stages::batch::Status;
use sluice_stages::block::{Block, Way};
use sluice_stages::frame::SlotStatus;
use sluice_stages::slot::{Commitment, Hash, Slot, Timestamp};
use utoipa::ToSchema;

/// Longest run of slots that a final child may pass over at once: more are a fault of the feed, not skips.
const LONGEST_SKIP: u64 = 512;
/// Final slots whose parent is not known: a few while gaps are open, and the one below the first slot of all.
const AWAITED_CAPACITY: usize = 1_024;
/// Changes that wait for the next tick of the stream.
const CHANGES_CAPACITY: usize = 1_024;

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum SlotState {
    /// It is coming in.
    Open,
    /// It came whole from the live streams.
    Complete,
    /// It came whole by replay or RPC.
    Recovered,
    /// It is known to be missing and looked for.
    Missing,
    /// It can't be had for now.
    Hole,
    /// Nobody produced it: a final child's parent lies before it.
    Skipped,
    /// Its bank failed.
    Dead,
    /// It is whole, but a final child passes over it.
    Orphaned,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::api) struct SlotView {
    /// Its number.
    pub(in crate::api) slot: u64,
    /// What became of it.
    pub(in crate::api) state: SlotState,
    /// The highest commitment that was heard of it: `processed`, `confirmed` or `finalized`.
    pub(in crate::api) commitment: Option<&'static str>,
    /// The slot that it builds on.
    pub(in crate::api) parent_slot: Option<u64>,
    /// The blockhash of the version that is known, base58.
    pub(in crate::api) blockhash: Option<String>,
    /// How it came: `live`, `replay` or `rpc`.
    pub(in crate::api) way: Option<&'static str>,
    /// Transactions that it holds; none if it is not whole or they were not subscribed to.
    pub(in crate::api) transactions: Option<u64>,
    /// Transactions that the chain says it holds.
    pub(in crate::api) executed_transactions: Option<u64>,
    /// Versions of it that were seen whole.
    pub(in crate::api) versions: u32,
    /// Bytes of its frames.
    pub(in crate::api) size_bytes: u64,
    /// When the first status of it came, unix milliseconds.
    pub(in crate::api) first_seen_ms: Option<u64>,
    /// When its block meta came, unix milliseconds.
    pub(in crate::api) completed_ms: Option<u64>,
    /// Why it can't be had, if it is a hole.
    pub(in crate::api) reason: Option<String>,
}

#[derive(Debug, Default)]
struct Known {
    parent: Option<Slot>,
    block: Option<Whole>,
    versions: u32,
    canonical: Option<Hash>,
    commitment: Option<Commitment>,
    first_seen: Option<Timestamp>,
    filled: Option<Way>,
    missing: bool,
    hole: Option<String>,
    skipped: bool,
    dead: bool,
    orphaned: bool,
    /// It is final, and what lies between it and its parent was marked.
    linked: bool,
}

#[derive(Debug, Clone, Copy)]
struct Whole {
    blockhash: Hash,
    way: Way,
    transactions: Option<u64>,
    executed: u32,
    size_bytes: usize,
    completed: Timestamp,
}

impl Known {
    fn state(&self) -> SlotState {
        match &self.block {
            Some(_) if self.orphaned => SlotState::Orphaned,
            Some(_) if self.dead => SlotState::Dead,
            Some(whole) if whole.way == Way::Live => SlotState::Complete,
            Some(_) => SlotState::Recovered,
            None if self.dead => SlotState::Dead,
            None if self.skipped => SlotState::Skipped,
            None if self.hole.is_some() => SlotState::Hole,
            None if self.missing => SlotState::Missing,
            None => SlotState::Open,
        }
    }

    fn view(&self, slot: Slot) -> SlotView {
        let whole = self.block.as_ref();
        let hash = whole.map(|whole| whole.blockhash).or(self.canonical);
        SlotView {
            slot,
            state: self.state(),
            commitment: self.commitment.map(word),
            parent_slot: self.parent,
            blockhash: hash.map(Hash::to_base58),
            way: whole.map(|whole| whole.way.name()),
            transactions: whole.and_then(|whole| whole.transactions),
            executed_transactions: whole.map(|whole| u64::from(whole.executed)),
            versions: self.versions,
            size_bytes: whole.map_or(0, |whole| whole.size_bytes as u64),
            first_seen_ms: self.first_seen.map(Timestamp::as_millis),
            completed_ms: whole.map(|whole| whole.completed.as_millis()),
            reason: self.hole.clone().filter(|_| self.block.is_none() && !self.skipped),
        }
    }
}

fn word(level: Commitment) -> &'static str {
    match level {
        Commitment::Processed => "processed",
        Commitment::Confirmed => "confirmed",
        Commitment::Finalized => "finalized",
    }
}

/// Recent slots.
#[derive(Debug)]
pub(in crate::api) struct SlotMap {
    capacity: usize,
    slots: BTreeMap<Slot, Known>,
    /// Final slots whose parent is not known yet: the chain goes on below them once it is.
    awaited: BTreeSet<Slot>,
    changed: BTreeSet<Slot>,
}

impl SlotMap {
    /// A map of `capacity` slots: the lowest make room.
    pub(in crate::api) fn new(capacity: usize) -> Self {
        Self { capacity, slots: BTreeMap::new(), awaited: BTreeSet::new(), changed: BTreeSet::new() }
    }

    /// A whole version of a slot.
    pub(in crate::api) fn on_block(&mut self, block: &Block) {
        let (slot, blockhash) = (block.slot(), block.blockhash());
        let Some(known) = self.at(slot) else { return };
        if known.canonical.is_some_and(|canonical| canonical != blockhash) {
            known.versions += 1;
            return;
        }
        let before = known.block.as_ref().map(|whole| whole.blockhash);
        known.versions += u32::from(before != Some(blockhash));
        known.parent = Some(block.meta.parent_slot);
        known.block = Some(Whole {
            blockhash,
            way: block.way,
            transactions: block.transactions.updates().map(|updates| updates.len() as u64),
            executed: block.meta.executed_transaction_count,
            size_bytes: block.size_bytes(),
            completed: block.meta_update.received_at,
        });
        (known.missing, known.hole) = (false, None);
        let vouched = block.vouched.filter(|level| Some(*level) > known.commitment);
        known.commitment = vouched.or(known.commitment);
        if known.commitment == Some(Commitment::Finalized) || self.awaited.contains(&slot) {
            self.settle(slot);
        }
    }

    /// What a lane said of a slot.
    pub(in crate::api) fn on_status(&mut self, status: &Status) {
        let Some(known) = self.at(status.slot) else { return };
        known.first_seen.get_or_insert(status.at);
        if known.block.is_none() {
            known.parent = status.parent.or(known.parent);
        }
        if status.status == SlotStatus::Dead {
            let version = known.block.as_ref().map(|whole| whole.blockhash);
            known.dead |= version.is_none() || version == status.blockhash;
            return;
        }
        if let Some(level) = status.commitment() {
            known.commitment = known.commitment.max(Some(level));
            if level == Commitment::Finalized {
                self.on_final(status);
            }
        }
        if self.awaited.contains(&status.slot) {
            self.settle(status.slot);
        }
    }

    fn on_final(&mut self, status: &Status) {
        let Some(known) = self.slots.get_mut(&status.slot) else { return };
        if let Some(blockhash) = status.blockhash {
            known.canonical = Some(blockhash);
            // Another version is the one that counts: it is still to come.
            known.block = known.block.filter(|whole| whole.blockhash == blockhash);
            known.dead = false;
        }
        self.settle(status.slot);
    }

    /// Marks what lies between a final slot and its parent, down to what was marked before.
    fn settle(&mut self, from: Slot) {
        let mut at = from;
        loop {
            let Some(known) = self.slots.get_mut(&at) else { return self.wait_for(at) };
            known.commitment = Some(Commitment::Finalized);
            (known.skipped, known.orphaned) = (false, false);
            if known.linked {
                return;
            }
            let Some(parent) = known.parent.filter(|parent| *parent < at) else { return self.wait_for(at) };
            known.linked = true;
            self.awaited.remove(&at);
            self.changed.insert(at);
            if at - parent <= LONGEST_SKIP {
                (parent + 1..at).for_each(|slot| self.pass_over(slot));
            }
            at = parent;
        }
    }

    fn wait_for(&mut self, slot: Slot) {
        self.awaited.insert(slot);
        if self.awaited.len() > AWAITED_CAPACITY {
            self.awaited.pop_first();
        }
    }

    fn pass_over(&mut self, slot: Slot) {
        let Some(known) = self.at(slot) else { return };
        known.orphaned = known.block.is_some();
        known.skipped = !known.orphaned;
        (known.missing, known.hole) = (false, None);
    }

    /// Slots that are missing.
    pub(in crate::api) fn on_gap(&mut self, first: Slot, last: Slot) {
        for slot in last.saturating_sub(LONGEST_SKIP).max(first)..=last {
            if let Some(known) = self.at(slot) {
                known.missing = known.block.is_none() && !known.skipped;
            }
        }
    }

    /// A slot that can't be had for now.
    pub(in crate::api) fn on_hole(&mut self, slot: Slot, reason: &str) {
        if let Some(known) = self.at(slot) {
            known.hole = Some(reason.to_owned()).filter(|_| known.block.is_none() && !known.skipped);
        }
    }

    /// A missing slot came.
    pub(in crate::api) fn on_filled(&mut self, slot: Slot, way: Way) {
        if let Some(known) = self.at(slot) {
            (known.missing, known.hole, known.filled) = (false, None, Some(way));
        }
    }

    /// A version of a slot was let go; `reason` is `dead` or `orphaned`.
    pub(in crate::api) fn on_discarded(&mut self, slot: Slot, reason: &str) {
        let Some(known) = self.at(slot) else { return };
        if known.commitment == Some(Commitment::Finalized) || known.versions > 1 {
            // It was another version of a slot that goes on.
            return;
        }
        match reason {
            "dead" => known.dead = true,
            _ => known.orphaned = true,
        }
    }

    /// The slot, which counts as changed; `None` if it lies below all that are remembered.
    fn at(&mut self, slot: Slot) -> Option<&mut Known> {
        if self.slots.len() >= self.capacity && !self.slots.contains_key(&slot) {
            let lowest = *self.slots.first_key_value()?.0;
            if slot < lowest {
                return None;
            }
            self.slots.pop_first();
        }
        self.changed.insert(slot);
        if self.changed.len() > CHANGES_CAPACITY {
            self.changed.pop_first();
        }
        Some(self.slots.entry(slot).or_default())
    }

    /// One slot.
    pub(in crate::api) fn get(&self, slot: Slot) -> Option<SlotView> {
        self.slots.get(&slot).map(|known| known.view(slot))
    }

    /// The highest `limit` slots of those below `before` and in one of `states`, the highest first; all states if none
    /// is given.
    pub(in crate::api) fn list(
        &self,
        before: Option<Slot>,
        states: &[SlotState],
        limit: usize,
    ) -> Vec<SlotView> {
        let below = self.slots.range(..before.unwrap_or(Slot::MAX)).rev();
        let wanted = below.filter(|(_, known)| states.is_empty() || states.contains(&known.state()));
        wanted.take(limit).map(|(&slot, known)| known.view(slot)).collect()
    }

    /// How many slots are in each state.
    pub(in crate::api) fn counts(&self) -> BTreeMap<SlotState, u64> {
        let mut counts = BTreeMap::new();
        for known in self.slots.values() {
            *counts.entry(known.state()).or_default() += 1;
        }
        counts
    }

    /// Slots that changed since the last call, the lowest first.
    pub(in crate::api) fn take_changed(&mut self) -> Vec<SlotView> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|slot| self.get(slot)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parquet::testing::{Chain, block_of};

    fn status(slot: Slot, parent: Option<Slot>, status: SlotStatus) -> Status {
        Status { slot, parent, blockhash: None, status, at: Timestamp(slot * 1_000) }
    }

    fn state(map: &SlotMap, slot: Slot) -> Option<SlotState> {
        map.get(slot).map(|view| view.state)
    }

    #[test]
    fn a_final_child_proves_what_it_passes_over_to_be_skipped() {
        let mut map = SlotMap::new(100);
        map.on_status(&status(10, Some(9), SlotStatus::Processed));
        map.on_gap(11, 12);
        map.on_status(&status(13, Some(10), SlotStatus::Processed));
        assert_eq!(state(&map, 11), Some(SlotState::Missing));
        map.on_status(&status(13, Some(10), SlotStatus::Finalized));
        assert_eq!([11, 12].map(|slot| state(&map, slot)), [Some(SlotState::Skipped); 2]);
        assert_eq!(map.get(10).and_then(|view| view.commitment), Some("finalized"), "its child is final");
    }

    #[test]
    fn the_final_chain_goes_on_below_a_slot_that_comes_late() {
        let mut map = SlotMap::new(100);
        map.on_gap(11, 11);
        map.on_status(&status(14, Some(12), SlotStatus::Finalized));
        assert_eq!(map.get(12), None, "nobody has told of it");
        map.on_status(&status(12, Some(10), SlotStatus::Processed));
        assert_eq!([11, 13].map(|slot| state(&map, slot)), [Some(SlotState::Skipped); 2]);
        map.on_status(&status(10, None, SlotStatus::Processed));
        assert_eq!(map.get(10).and_then(|view| view.commitment), Some("finalized"));
    }

    #[test]
    fn a_hole_is_one_until_the_slot_comes() {
        let chain = Chain::generate(10, 12, 3);
        let slot = chain.slots()[0];
        let mut map = SlotMap::new(100);
        map.on_gap(slot, slot);
        map.on_hole(slot, "pruned");
        let hole = map.get(slot).expect("known");
        assert_eq!((hole.state, hole.reason.as_deref()), (SlotState::Hole, Some("pruned")));
        map.on_block(&block_of(&chain, slot));
        let whole = map.get(slot).expect("known");
        assert_eq!((whole.state, whole.reason, whole.transactions), (SlotState::Complete, None, Some(3)));
    }

    #[test]
    fn a_dead_slot_is_dead_and_a_late_word_of_its_death_kills_no_other_version() {
        let chain = Chain::generate(10, 12, 3);
        let slot = chain.slots()[0];
        let mut map = SlotMap::new(100);
        map.on_status(&status(99, None, SlotStatus::Dead));
        assert_eq!(state(&map, 99), Some(SlotState::Dead));
        map.on_block(&block_of(&chain, slot));
        map.on_status(&Status { blockhash: Some(Hash([9; 32])), ..status(slot, None, SlotStatus::Dead) });
        assert_eq!(state(&map, slot), Some(SlotState::Complete));
    }

    #[test]
    fn the_lowest_slots_make_room_and_do_not_come_back() {
        let mut map = SlotMap::new(3);
        (1..=5).for_each(|slot| map.on_status(&status(slot, None, SlotStatus::Processed)));
        map.on_status(&status(1, None, SlotStatus::Processed));
        let slots: Vec<_> = map.list(None, &[], 10).iter().map(|view| view.slot).collect();
        assert_eq!(slots, [5, 4, 3]);
        assert_eq!(map.list(Some(5), &[SlotState::Open], 1).len(), 1);
    }
}
