//! Slots that exist and are not whole, and when they are gaps.

use super::GapDetector;
use super::GapDetectorOptions;
use crate::batch::{Gap, Item, Missing, Want};
use crate::slot::{Slot, Timestamp};
use crate::stage::{Event, Output};

impl GapDetector {
    /// Notes that `slot` exists.
    pub(super) fn owe(&mut self, slot: Slot, now: Timestamp) {
        let wanted = self.floor.is_some_and(|floor| slot >= floor) && slot >= self.forgotten;
        let whole = self.slots.get(&slot).is_some_and(|open| !open.emitted.is_empty());
        if wanted && !whole && !self.is_reported(slot) {
            self.owed.entry(slot).or_insert(now);
        }
    }

    pub(super) fn is_reported(&self, slot: Slot) -> bool {
        self.reported.range(slot..).next().is_some_and(|(_, &first)| first <= slot)
    }

    /// Reports owed slots that have had their time.
    pub(super) fn report_gaps(&mut self, now: Timestamp, out: &mut Output) {
        let GapDetectorOptions { grace, extras_grace, .. } = self.options;
        let due = |&(&slot, &since): &(&Slot, &Timestamp)| match now.since(since) {
            passed if passed < grace => false,
            passed if passed < grace + extras_grace => !self.only_waits(slot),
            // Its transactions are there; it goes on without the rest in a moment.
            _ => !self.waiting.contains_key(&slot),
        };
        let due: Vec<Slot> = self.owed.iter().filter(due).map(|(&slot, _)| slot).collect();
        for slot in due {
            self.report_gap(slot, out);
        }
    }

    /// Whether nothing of `slot` is known to be missing: it waits for its confirmation, or for entries and accounts.
    fn only_waits(&self, slot: Slot) -> bool {
        let covered =
            || self.slots.get(&slot).is_some_and(|open| open.lanes.iter().any(|lane| lane.may_cover()));
        self.waiting.contains_key(&slot) || self.scope.transactions == Want::Filtered && covered()
    }

    pub(super) fn report_gap(&mut self, last: Slot, out: &mut Output) {
        self.owed.remove(&last);
        let first = self.first_unknown(last);
        self.reported.insert(last, first);
        self.counters.gaps += 1;
        out.report(Event::GapFound { first, last });
        out.push(Item::Gap(Gap { first, last, missing: Missing::Content }));
    }

    /// The lowest slot below `last` of which nothing is known up to it: how far the gap may reach.
    fn first_unknown(&self, last: Slot) -> Slot {
        let known =
            self.slots.range(..last).rev().find(|(_, open)| open.has_content()).map(|(&slot, _)| slot + 1);
        let reported = self.reported.range(..last).next_back().map(|(&last, _)| last + 1);
        let below =
            known.into_iter().chain(reported).chain(self.floor).chain([self.forgotten]).max().unwrap_or(last);
        below.min(last)
    }
}
