//! The notices that wait for a receiver, and which of them is told next: pure, so that a test can go through all of it.
//!
//! ```text
//!  push ─→ waiting, in order (bounded) ─→ on its way ─→ done
//!            │ no room in the rate limit: the newest of each group stays, resolutions of older ones join it
//!            └ no place: what fires is let go, the mildest first, resolutions last ─→ missed ─→ a summary
//! ```
//!
//! A notice that is held back is told later, when there is room, as its group is then: so an alert that was told always has
//! its end told, too. Only what a newer one replaced, or what had no place, is counted in a summary ([`Missed`]).

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sluice_stages::alert::{Alert, AlertState, Notice};
use sluice_stages::slot::Timestamp;

use super::limit::Rate;
use super::missed::{Missed, summary_over};

/// Ended alerts that a notice takes over from older ones of its group: ten times what is told of one notice.
const MAX_CARRIED_ALERTS: usize = 1_000;

/// What a restart has to know of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The notice that is on its way: nobody knows whether the receiver has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_its_way: Option<Notice>,
    /// Those behind it.
    notices: VecDeque<Notice>,
    /// What no notice stands for.
    #[serde(default)]
    missed: Missed,
    /// The summary that fired and is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    summary: Option<Alert>,
}

impl Kept {
    /// Notices of it that were not told.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.on_its_way.is_some()) + self.notices.len()
    }
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Tell this one, and then call [`Waiting::done`].
    Tell(Notice),
    /// Nothing before this time, unless another notice comes.
    At(Timestamp),
    /// Nothing until another notice comes.
    Idle,
}

/// Notices that wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    channel: String,
    capacity: usize,
    rate: Rate,
    kept: Kept,
    /// Whether the last one told was a summary; they take turns with notices.
    told_summary: bool,
    /// Notices that were replaced or let go.
    held_back: u64,
    /// Grows with each change of what is kept.
    version: u64,
}

impl Waiting {
    /// At most `capacity` notices for the channel of this name; first those that the process before this one kept.
    pub(crate) fn new(channel: &str, capacity: usize, max_per_minute: Option<u32>, kept: Kept) -> Self {
        let Kept { on_its_way, mut notices, missed, summary } = kept;
        if let Some(notice) = on_its_way {
            notices.push_front(notice);
        }
        let kept = Kept { on_its_way: None, notices, missed, summary };
        Self {
            channel: channel.to_owned(),
            capacity: capacity.max(1),
            rate: Rate::new(max_per_minute),
            kept,
            told_summary: false,
            held_back: 0,
            version: 0,
        }
    }

    /// What a restart has to know, and its version.
    pub(crate) fn kept(&self) -> (u64, &Kept) {
        (self.version, &self.kept)
    }

    /// Notices that were replaced or let go since the last call.
    pub(crate) fn take_held_back(&mut self) -> u64 {
        std::mem::take(&mut self.held_back)
    }

    /// Adds a notice; never fails.
    pub(crate) fn push(&mut self, now: Timestamp, notice: Notice) {
        self.version += 1;
        self.kept.notices.push_back(notice);
        if self.kept.notices.len() > self.capacity {
            self.merge_groups(now);
        }
        while self.kept.notices.len() > self.capacity {
            self.let_one_go(now);
        }
    }

    /// What is to be told now.
    pub(crate) fn next(&mut self, now: Timestamp) -> Next {
        if let Some(notice) = &self.kept.on_its_way {
            return Next::Tell(notice.clone());
        }
        if !self.has_something() {
            return Next::Idle;
        }
        if !self.rate.has_room(now) {
            self.merge_groups(now);
            return self.rate.room_at().map_or(Next::Idle, Next::At);
        }
        let next = if self.is_summary_due() { None } else { self.kept.notices.pop_front() };
        self.told_summary = next.is_none();
        let next = next.or_else(|| self.take_summary(now));
        next.map_or(Next::Idle, |notice| self.send(now, notice))
    }

    /// What is still to be told at the end, when nobody will wait for room and nothing is kept: resolutions one by one, then
    /// one summary. If that fires, nobody will tell its end.
    pub(crate) fn last(&mut self, now: Timestamp) -> Next {
        self.merge_groups(now);
        let ends = self.kept.notices.iter().position(ends_something);
        let resolution = ends.and_then(|position| self.kept.notices.remove(position));
        if resolution.is_none() {
            while !self.kept.notices.is_empty() {
                self.let_one_go(now);
            }
        }
        let next = resolution.or_else(|| self.take_summary(now));
        if next.as_ref().is_some_and(Notice::is_firing) {
            self.kept.summary = None;
        }
        next.map_or(Next::Idle, |notice| self.send(now, notice))
    }

    /// What was on its way has arrived, or never will.
    pub(crate) fn done(&mut self) {
        self.version += 1;
        self.kept.on_its_way = None;
    }

    fn send(&mut self, now: Timestamp, notice: Notice) -> Next {
        self.rate.count(now);
        self.version += 1;
        self.kept.on_its_way = Some(notice.clone());
        Next::Tell(notice)
    }

    fn has_something(&self) -> bool {
        let Kept { notices, missed, summary, .. } = &self.kept;
        !notices.is_empty() || missed.notices() > 0 || summary.is_some()
    }

    /// A summary of what fires goes before the notices that wait, but never twice in a row; any other behind them.
    fn is_summary_due(&self) -> bool {
        self.kept.notices.is_empty() || (self.kept.missed.is_urgent() && !self.told_summary)
    }

    /// A summary of what was missed, or the end of the one before.
    fn take_summary(&mut self, now: Timestamp) -> Option<Notice> {
        let most = self.rate.max_per_minute();
        if self.kept.missed.notices() == 0 {
            return self.kept.summary.take().map(|fired| summary_over(&fired, most, now));
        }
        let notice = std::mem::take(&mut self.kept.missed).summary(&self.channel, most, now);
        self.kept.summary = notice.alerts.first().filter(|_| notice.is_firing()).cloned();
        Some(notice)
    }

    /// Leaves the newest notice of each group, where its oldest was.
    fn merge_groups(&mut self, now: Timestamp) {
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        let mut merged: VecDeque<Notice> = VecDeque::with_capacity(self.kept.notices.len());
        for notice in std::mem::take(&mut self.kept.notices) {
            let place = *places.entry(Arc::clone(&notice.group_key)).or_insert(merged.len());
            match merged.get_mut(place) {
                Some(older) => {
                    self.kept.missed.replace(now, older);
                    self.held_back += 1;
                    self.version += 1;
                    *older = following(older, notice);
                }
                None => merged.push_back(notice),
            }
        }
        self.kept.notices = merged;
    }

    /// Lets the mildest notice go that ends nothing, the newest of several; if all end something, the newest.
    fn let_one_go(&mut self, now: Timestamp) {
        let notices = self.kept.notices.iter().enumerate();
        let order = |(position, notice): &(usize, &Notice)| {
            (ends_something(notice), notice.severity(), Reverse(*position))
        };
        let position = notices.min_by_key(order).map(|(position, _)| position);
        if let Some(notice) = position.and_then(|position| self.kept.notices.remove(position)) {
            self.kept.missed.forgo(now, &notice);
            self.held_back += 1;
            self.version += 1;
        }
    }
}

fn ends_something(notice: &Notice) -> bool {
    notice.alerts.iter().any(|alert| alert.state == AlertState::Resolved)
}

/// `newer`, with what was over in `older` and is not told by it.
fn following(older: &Notice, mut newer: Notice) -> Notice {
    let is_new = |alert: &&Alert| newer.alerts.iter().all(|told| told.fingerprint != alert.fingerprint);
    let ended = older.alerts.iter().filter(|alert| alert.state == AlertState::Resolved);
    let carried: Vec<_> = ended.filter(is_new).take(MAX_CARRIED_ALERTS).cloned().collect();
    newer.alerts.extend(carried);
    newer
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
