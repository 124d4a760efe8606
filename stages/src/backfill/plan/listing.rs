//! Which slots are listed next, and what empty lists say.
//!
//! A list is a hint: what it leaves out is found by the parent links of what it has. But where whole lists are empty the
//! reason mostly is that the nodes keep no history that far back, and there are no links either. So after the first one
//! they are asked where their history begins: all before that is a hole at once. If it is not for that, the same slots are
//! listed again, then those behind them; beyond the end of a stretch ever more at a time.

use super::question::Ask;
use super::{Planner, backoff};
use crate::backfill::SlotRange;
use crate::recovery::rpc::MAX_LISTED_SLOTS;
use crate::slot::{Slot, Timestamp};

/// Slots listed at once: a second's answer at most nodes, and few enough to be remembered.
const LIST_SLOTS: u64 = 1_000;

/// Slots beyond the end of a stretch that are listed with it, to find the block that proves the end.
const BEYOND_SLOTS: u64 = 32;

/// Doublings of [`LIST_SLOTS`] after which there are more than nodes list at once.
const MAX_DOUBLINGS: u32 = 10;

/// Looks for a block between the end of a stretch and the tip before the stretch is called unfinished.
const MAX_LOOKS_BEYOND: u32 = 3;

/// What is known of how far back the nodes' history goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum History {
    /// Nothing yet, and nothing has to be.
    Unasked,
    /// A list that began here was empty, so they have to be asked.
    Due { first: Slot },
    /// They were asked. In one stretch that is enough.
    Asked,
}

/// The list of slots that is known so far of the stretch under way.
#[derive(Debug)]
pub(super) struct Listing {
    /// The first slot that is not listed.
    pub(super) next: Slot,
    pub(super) due: Timestamp,
    pub(super) in_flight: bool,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Those of them in which a node answered, but not with what was asked for.
    pub(super) refusals: u32,
    /// Empty lists in a row.
    empty: u32,
    looks_beyond: u32,
    pub(super) history: History,
}

impl Listing {
    /// Nothing is listed yet before `next`.
    pub(super) fn new(next: Slot, now: Timestamp) -> Self {
        let history = History::Unasked;
        Self {
            next,
            due: now,
            in_flight: false,
            failures: 0,
            refusals: 0,
            empty: 0,
            looks_beyond: 0,
            history,
        }
    }

    /// A question was answered.
    pub(super) fn on_answered(&mut self, now: Timestamp) {
        (self.in_flight, self.due) = (false, now);
        (self.failures, self.refusals) = (0, 0);
    }

    /// Slots to list beyond the end of a stretch: a node without a history there lists nothing for millions of slots.
    fn slots_beyond(&self) -> u64 {
        (LIST_SLOTS << self.empty.min(MAX_DOUBLINGS)).min(MAX_LISTED_SLOTS)
    }
}

impl Planner {
    pub(super) fn list_due(&self, now: Timestamp) -> bool {
        !self.listing.in_flight && self.listing.due <= now
    }

    /// More slots are listed when those that are known run out, and until one beyond the end is known.
    pub(super) fn next_list(&self, stretch: SlotRange, tip: Slot, now: Timestamp) -> Option<Ask> {
        if !self.list_due(now) {
            return None;
        }
        if let History::Due { .. } = self.listing.history {
            // What was listed before comes first: a hole would give it up.
            return self.searches.is_empty().then_some(Ask::FirstAvailable);
        }
        // One that failed may be made up: another one behind it tells.
        let mut beyond = self.searches.range(stretch.last.saturating_add(1)..);
        let knows_end = beyond.any(|(_, search)| search.attempts == 0 || search.block().is_some());
        let next = self.listing.next;
        if knows_end || self.searches.len() > self.window() || next > tip {
            return None;
        }
        let (end, slots) = match next <= stretch.last {
            true => (stretch.last.saturating_add(BEYOND_SLOTS), LIST_SLOTS),
            false => (Slot::MAX, self.listing.slots_beyond()),
        };
        Some(Ask::List { first: next, last: tip.min(end).min(next.saturating_add(slots - 1)) })
    }

    pub(super) fn on_listed(&mut self, now: Timestamp, first: Slot, last: Slot, slots: &[Slot]) {
        let Some(stretch) = self.stretches.front().copied() else { return };
        self.listing.in_flight = false;
        if first != self.listing.next {
            // The stretch that it was for is over.
            return;
        }
        self.listing.on_answered(now);
        self.listing.next = last.saturating_add(1);
        self.listing.empty = if slots.is_empty() { self.listing.empty + 1 } else { 0 };
        if slots.is_empty() && matches!(self.listing.history, History::Unasked) {
            self.listing.history = History::Due { first };
        }
        let after_tail = self.tail.map_or(stretch.first, |(tail, _)| tail + 1);
        let within = slots.iter().copied().filter(|slot| (after_tail..=stretch.last).contains(slot));
        let beyond = slots.iter().copied().find(|&slot| slot > stretch.last);
        for slot in within.chain(beyond) {
            self.want(now, slot);
        }
    }

    /// The nodes keep no block before `first_available`.
    pub(super) fn on_first_available(&mut self, now: Timestamp, first_available: Slot) {
        let Some(stretch) = self.stretches.front().copied() else { return };
        self.listing.in_flight = false;
        let History::Due { first } = self.listing.history else { return };
        self.listing.on_answered(now);
        self.listing.history = History::Asked;
        if first_available < self.listing.next {
            // One that keeps them may not have been asked for the list.
            self.listing.next = first;
            return;
        }
        let last = stretch.last.min(first_available - 1);
        self.open_hole(now, last, format!("no RPC node keeps a block before slot {first_available}"));
    }

    /// Nothing is wanted, nothing is left to be listed, and no block beyond the end is final: that's all there is yet.
    pub(super) fn end_if_unfinished(&mut self, now: Timestamp) {
        let (Some(stretch), Some(tip)) = (self.stretches.front().copied(), self.tip) else { return };
        let asks_history = matches!(self.listing.history, History::Due { .. });
        if !self.searches.is_empty() || self.listing.next <= tip || self.listing.in_flight || asks_history {
            return;
        }
        self.listing.looks_beyond += 1;
        if self.listing.looks_beyond < MAX_LOOKS_BEYOND {
            // A list may lie, and the chain goes on: look again behind the last block that is known.
            self.listing.next = self.tail.map_or(stretch.first, |(tail, _)| tail + 1).min(self.listing.next);
            self.listing.due = now.after(backoff(self.listing.looks_beyond, &mut self.random));
            self.tip = None;
            return;
        }
        self.open_hole(
            now,
            stretch.last,
            format!("no final block follows it yet; the chain is final up to {tip}"),
        );
    }
}
