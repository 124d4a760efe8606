//! What becomes of questions that failed: tries, waits and holes.

use std::time::Duration;

use super::listing::History;
use super::question::{Ask, Failure, FailureKind};
use super::{Planner, State, backoff};
use crate::slot::{Slot, Timestamp};
use crate::stage::Event;

/// Tries of a slot that the node calls skipped while no later block tells, as a multiple of `max_retries`.
const PATIENCE_WITH_CLAIMS: u32 = 4;

/// Failures in a row after which it is told that nothing is listed, and why.
const TOLD_FAILURES: u32 = 3;

/// How long the node may be silent before the backfill ends: longer than a restart. What is there stays.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(120);

impl Planner {
    pub(super) fn on_failed(&mut self, now: Timestamp, ask: Ask, failure: Failure) {
        self.counters.failures += 1;
        match failure.kind {
            FailureKind::Pushback | FailureKind::Silence => {
                self.counters.pushbacks += u64::from(failure.kind == FailureKind::Pushback);
            }
            // The node is there, and that is what it says.
            _ => self.answered_at = now,
        }
        // A pause that the node asked for is no silence.
        if let Some(pause) = failure.retry_after.filter(|&pause| pause > MAX_SILENCE) {
            self.paused_until = self.paused_until.max(now.after(pause));
        }
        if now.since(self.answered_at.max(self.paused_until)) > MAX_SILENCE {
            self.fatal = Some(format!(
                "the RPC node has not answered for {} s: {}; what is there stays, start again when it is back",
                MAX_SILENCE.as_secs(),
                failure.reason
            ));
        }
        let Failure { kind, reason, retry_after } = failure;
        match ask {
            Ask::Block(slot) => self.on_try_failed(now, slot, kind, reason, retry_after),
            Ask::Tip | Ask::List { .. } | Ask::FirstAvailable => {
                self.on_list_failed(now, ask, kind, &reason, retry_after);
            }
        }
    }

    fn on_list_failed(
        &mut self,
        now: Timestamp,
        ask: Ask,
        kind: FailureKind,
        reason: &str,
        retry: Option<Duration>,
    ) {
        self.listing.in_flight = false;
        self.listing.failures += 1;
        self.listing.refusals += u32::from(!matches!(kind, FailureKind::Pushback | FailureKind::Silence));
        let (failures, most) = (self.listing.failures, self.bounds.max_retries);
        if failures == TOLD_FAILURES {
            tracing::warn!(reason, failures, "the RPC node lists no slots, it is asked again");
        }
        if ask == Ask::FirstAvailable {
            // Not all nodes know the method: what lists and links say has to do.
            if failures > most {
                self.listing.history = History::Asked;
            }
        } else if self.listing.refusals > most {
            self.fatal = Some(format!("the RPC node lists no slots: {reason}"));
        }
        let wait = backoff(failures, &mut self.random);
        self.listing.due = now.after(wait.max(retry.unwrap_or_default()));
    }

    pub(super) fn on_try_failed(
        &mut self,
        now: Timestamp,
        slot: Slot,
        kind: FailureKind,
        reason: String,
        retry: Option<Duration>,
    ) {
        let answered_at = self.answered_at;
        let Some(search) = self.searches.get_mut(&slot) else { return };
        let answers_others = match search.state {
            State::InFlight { since } => answered_at > since,
            State::Due(_) | State::Arrived(_) => false,
        };
        let counts = match kind {
            FailureKind::Pushback => false,
            // A node that is away says nothing of the slot; one that answers all other questions does.
            FailureKind::Silence => answers_others,
            _ => true,
        };
        search.attempts += u32::from(counts);
        let wait = backoff(search.attempts, &mut self.random);
        search.state = State::Due(now.after(wait.max(retry.unwrap_or_default())));
        let attempts = search.attempts;
        if self.stretches.front().is_some_and(|stretch| slot > stretch.last) && !self.listing.in_flight {
            self.listing.next = slot.saturating_add(1);
        }
        if counts && self.is_lost(slot, kind, attempts) {
            self.open_hole(now, slot, reason);
        }
    }

    /// Whether a slot is given up. One that the node calls skipped may be just that, which the next block will tell.
    fn is_lost(&self, slot: Slot, kind: FailureKind, attempts: u32) -> bool {
        let mut later = self.searches.range(slot.saturating_add(1)..);
        let is_named = later.next().is_some_and(|(_, search)| search.block().is_some());
        let patience = if is_named { 1 } else { PATIENCE_WITH_CLAIMS };
        match kind {
            FailureKind::Gone => true,
            FailureKind::ClaimedSkipped => attempts > self.bounds.max_retries.saturating_mul(patience),
            _ => attempts > self.bounds.max_retries,
        }
    }

    /// Gives up the commit range of `slot` and goes on behind it.
    pub(super) fn open_hole(&mut self, now: Timestamp, slot: Slot, reason: String) {
        let Some(stretch) = self.stretches.front_mut() else { return };
        let within = slot.min(stretch.last);
        let last = within - within % self.bounds.commit_slots + (self.bounds.commit_slots - 1);
        let begun = self.tail.map_or(stretch.first, |(tail, _)| tail + 1);
        self.events.push(Event::HoleOpened { slot, reason: reason.clone() });
        self.counters.holes += 1;
        self.counters.settled_slots += last.min(stretch.last).saturating_sub(begun) + 1;
        if self.counters.holes >= self.bounds.max_holes {
            self.fatal = Some(format!("{} holes, the last one because {reason}", self.counters.holes));
        }
        if last >= stretch.last {
            return self.end_stretch(now);
        }
        stretch.first = last + 1;
        self.tail = None;
        self.searches = self.searches.split_off(&(last + 1));
        self.listing.next = self.listing.next.max(last + 1);
    }
}
