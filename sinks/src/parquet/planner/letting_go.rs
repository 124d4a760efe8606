//! What is let go of: extras that did not come in time, and what is held while memory is short.

use sluice_stages::slot::Slot;
use sluice_stages::stage::Event;

use super::{CommitRange, Load, Planner, Step, Successor, Track, close};

/// Ranges for which entries and accounts may stay behind the content.
const EXTRAS_BEHIND_RANGES: u64 = 2;
/// Slots for which they may in any case: as far as a server's replay window reaches, which may bring them yet.
const EXTRAS_BEHIND_SLOTS: u64 = 150;

impl Planner {
    /// Entries and accounts that are still not there so long after the content are a hole.
    pub(super) fn abandon_extras(&mut self, committed: CommitRange, steps: &mut Vec<Step>) {
        let behind = EXTRAS_BEHIND_SLOTS.max(EXTRAS_BEHIND_RANGES * committed.slots());
        let end = committed.first.saturating_sub(behind);
        let late: Vec<Slot> = self.ranges.range(..end).map(|(&first, _)| first).collect();
        for first in late {
            let Some(open) = self.ranges.get(&first) else { continue };
            if !open.is_open(Track::Content) {
                for track in [Track::Entries, Track::Accounts] {
                    self.abandon(first, track, "they did not come in time", steps);
                }
            }
        }
    }

    fn abandon(&mut self, first: Slot, track: Track, reason: &str, steps: &mut Vec<Step>) {
        let Some(open) = self.ranges.get_mut(&first) else { return };
        let range = open.range;
        let Some(tail) = open.track(track).map(|track| track.tail) else { return };
        self.waiting_bytes -= close(open, track);
        let closed = open.is_closed();
        self.holes[usize::from(track == Track::Accounts)] += 1;
        let slot = match self.successor(range, tail) {
            Successor::Block(slot) => slot,
            _ => tail.unwrap_or(first),
        };
        let what = if track == Track::Entries { "entries" } else { "accounts" };
        steps.push(Step::Forget(range, track));
        steps.push(Step::Report(Event::HoleOpened { slot, reason: format!("no {what}: {reason}") }));
        if closed {
            self.close_range(first);
        }
    }

    /// Lets go of what costs least to have again: sources wait for the memory that it holds. False if there is nothing.
    pub(crate) fn on_pressure(&mut self, steps: &mut Vec<Step>) -> bool {
        self.abandon_oldest_extras(steps) || self.give_up_youngest(steps) || self.drop_youngest(steps)
    }

    pub(super) fn enforce_bound(&mut self, steps: &mut Vec<Step>) {
        while self.waiting_bytes > self.config.max_waiting_bytes && self.on_pressure(steps) {}
    }

    /// Extras that wait although the content went on can't be asked for, so they go first.
    fn abandon_oldest_extras(&mut self, steps: &mut Vec<Step>) -> bool {
        let behind = self.ranges.values().find_map(|open| {
            let late = |&track: &Track| open.waits(track) && !open.waits(Track::Content);
            [Track::Accounts, Track::Entries].into_iter().find(late).map(|track| (open.range.first, track))
        });
        let Some((first, track)) = behind else { return false };
        self.abandon(first, track, "memory is short", steps);
        true
    }

    /// The youngest range that waits is given up, unless it is the oldest that does.
    fn give_up_youngest(&mut self, steps: &mut Vec<Step>) -> bool {
        let mut waiting = self.ranges.values().filter(|open| open.waits(Track::Content));
        let (Some(oldest), Some(youngest)) = (waiting.next(), waiting.next_back()) else { return false };
        let range = youngest.range;
        debug_assert!(oldest.range < range);
        let slots: Vec<Slot> = self.links.range(range.first..=range.last).map(|(&slot, _)| slot).collect();
        let Some(open) = self.ranges.get_mut(&range.first) else { return false };
        open.given_up = true;
        open.dropped.extend(slots);
        for track in Track::ALL {
            if let Some(state) = open.track(track) {
                let forgotten = std::mem::take(state);
                self.waiting_bytes -= forgotten.waiting.values().map(Load::size_bytes).sum::<usize>();
                steps.push(Step::Forget(range, track));
            }
        }
        steps.push(Step::Report(Event::GivenUp { first: range.first, last: range.last }));
        true
    }

    /// Of the only range that waits, the youngest slots are let go: what is encoded of it stays.
    fn drop_youngest(&mut self, steps: &mut Vec<Step>) -> bool {
        let Some(open) = self.ranges.values_mut().find(|open| open.waits(Track::Content)) else {
            return false;
        };
        let Some(content) = open.track(Track::Content) else { return false };
        let (Some((&first, _)), Some((&slot, _))) =
            (content.waiting.iter().next(), content.waiting.iter().next_back())
        else {
            return false;
        };
        if first == slot {
            return false;
        }
        for track in Track::ALL {
            let load = open.track(track).and_then(|track| track.waiting.remove(&slot));
            self.waiting_bytes -= load.map_or(0, |load| load.size_bytes());
        }
        open.dropped.insert(slot);
        steps.push(Step::Report(Event::GivenUp { first: slot, last: slot }));
        true
    }
}
