//! Groups alerts and decides when people are told: what Alertmanager's dispatcher, de-duplication and notification log do.
//! Pure; every time is the one at which something was due, however late the tick comes.
//!
//! ```text
//!  alert ─→ group (by labels) ─ group_wait, then every group_interval ─→ mute ─→ new to the log? ─→ Notice
//! ```
//!
//! - A group is told of first `group_wait` after its first alert, or at once if that alert has fired for that long already.
//! - At each flush muted alerts are left out. Then it is told if: a firing alert is new; or a resolved one is and others
//!   still fire; or all are resolved and had been told; or `repeat_interval` has passed since it was told last.
//! - A resolved alert leaves its group with the flush; an alert that fired and was over between two flushes is never told.
//!
//! Beyond Alertmanager: the log holds the time at which a notice was due, so that a repeat every 5 minutes comes every 5
//! minutes, not every 10. And the end of an alert that people were told of is told even while another alert explains it;
//! there it never is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::alert::{Alert, AlertState, Notice};
use crate::sample::Labels;
use crate::slot::Timestamp;

/// The label that stands for all labels in `group_by`: each alert is a group of its own.
pub const GROUP_BY_ALL: &str = "...";

/// How alerts are grouped and how often they are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) group_by: Vec<String>,
    pub(super) group_wait: Duration,
    pub(super) group_interval: Duration,
    pub(super) repeat_interval: Duration,
}

/// What keeps an alert from being told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Muted {
    /// The silence with this id.
    Silence(Arc<str>),
    /// The alert with this fingerprint, which explains it.
    Explained(Arc<str>),
}

impl Muted {
    /// The id of the silence, or the fingerprint of the alert.
    pub(super) fn by(self) -> Arc<str> {
        match self {
            Self::Silence(id) => id,
            Self::Explained(fingerprint) => fingerprint,
        }
    }
}

/// Alerts that are told together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Group {
    labels: Labels,
    /// When it is looked at next.
    due: Timestamp,
    flushed: bool,
    /// By fingerprint.
    alerts: BTreeMap<Arc<str>, Alert>,
}

/// What people were told of a group last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Told {
    at: Timestamp,
    firing: BTreeSet<Arc<str>>,
    resolved: BTreeSet<Arc<str>>,
}

/// The part that has to outlive a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Book {
    groups: BTreeMap<Arc<str>, Group>,
    log: BTreeMap<Arc<str>, Told>,
}

/// The groups.
#[derive(Debug)]
pub(super) struct Dispatcher {
    policy: Policy,
    book: Book,
}

impl Dispatcher {
    /// No groups.
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, book: Book::default() }
    }

    /// What has to outlive a restart.
    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    /// Goes on with what was saved. Alerts are grouped anew and as they are `current`ly, since `group_by` and their rules
    /// may be others now.
    pub(super) fn restore<'a>(
        &mut self,
        book: Book,
        now: Timestamp,
        current: impl Fn(&Alert) -> Option<&'a Alert>,
    ) {
        self.book.log = book.log;
        for group in book.groups.into_values() {
            for alert in group.alerts.into_values() {
                let is_firing = alert.state == AlertState::Firing;
                let alert = current(&alert).filter(|_| is_firing).cloned().unwrap_or(alert);
                self.insert(alert, now);
            }
        }
    }

    /// Takes in an alert that fires or is over, or refreshes it.
    pub(super) fn insert(&mut self, alert: Alert, now: Timestamp) {
        if alert.fired_at.is_none() {
            return;
        }
        let labels = self.policy.labels(&alert);
        let (key, wait) = (group_key(&labels), self.policy.group_wait);
        let new = || Group { labels, due: now.after(wait), flushed: false, alerts: BTreeMap::new() };
        let group = self.book.groups.entry(key).or_insert_with(new);
        if !group.flushed && alert.fired_at.is_some_and(|fired_at| fired_at.after(wait) < now) {
            group.due = now;
        }
        group.alerts.insert(Arc::clone(&alert.fingerprint), alert);
    }

    /// Flushes the groups that are due, in the order in which they became due. `mute` says what mutes an alert at a time.
    pub(super) fn flush(
        &mut self,
        now: Timestamp,
        mute: impl Fn(&Alert, Timestamp) -> Option<Muted>,
    ) -> Vec<Notice> {
        let due =
            |(key, group): (&Arc<str>, &Group)| (group.due <= now).then(|| (group.due, Arc::clone(key)));
        let mut due: Vec<_> = self.book.groups.iter().filter_map(due).collect();
        due.sort();
        let notices =
            due.into_iter().filter_map(|(at, key)| self.flush_group(&key, at, now, &mute)).collect();
        self.forget(now);
        notices
    }

    /// When the next group is due.
    #[cfg(test)]
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.book.groups.values().map(|group| group.due).min()
    }

    fn flush_group(
        &mut self,
        key: &Arc<str>,
        at: Timestamp,
        now: Timestamp,
        mute: &impl Fn(&Alert, Timestamp) -> Option<Muted>,
    ) -> Option<Notice> {
        let group = self.book.groups.get_mut(key)?;
        let told = self.book.log.get(key);
        let is_heard = |alert: &&Alert| match mute(alert, at) {
            None => true,
            Some(Muted::Explained(_)) => told.is_some_and(|told| told.is_ended_by(alert)),
            Some(Muted::Silence(_)) => false,
        };
        let heard: Vec<Alert> = group.alerts.values().filter(is_heard).cloned().collect();
        let labels = group.labels.clone();
        group.flushed = true;
        group.alerts.retain(|_, alert| alert.state != AlertState::Resolved);
        if group.alerts.is_empty() {
            self.book.groups.remove(key);
        } else {
            group.due = next_due(at, self.policy.group_interval, now);
        }
        if heard.is_empty() {
            return None;
        }
        let of = |state: AlertState| -> BTreeSet<Arc<str>> {
            let alerts = heard.iter().filter(|alert| alert.state == state);
            alerts.map(|alert| Arc::clone(&alert.fingerprint)).collect()
        };
        let told = Told { at, firing: of(AlertState::Firing), resolved: of(AlertState::Resolved) };
        if !told.is_news(self.book.log.get(key), self.policy.repeat_interval) {
            return None;
        }
        self.book.log.insert(Arc::clone(key), told);
        Some(notice(Arc::clone(key), labels, at, heard))
    }

    /// Forgets what was told so long ago that it would be told again anyway.
    fn forget(&mut self, now: Timestamp) {
        let (groups, repeat) = (&self.book.groups, self.policy.repeat_interval);
        self.book.log.retain(|key, told| groups.contains_key(key) || now.since(told.at) < 2 * repeat);
    }
}

impl Policy {
    /// The labels of an alert's group.
    fn labels(&self, alert: &Alert) -> Labels {
        if self.group_by.iter().any(|name| name == GROUP_BY_ALL) {
            let mut labels = alert.labels.clone();
            labels.insert(Arc::from("rule"), Arc::clone(&alert.rule));
            return labels;
        }
        let named = |name: &String| Some((Arc::from(name.as_str()), Arc::from(alert.label(name)?)));
        self.group_by.iter().filter_map(named).collect()
    }
}

impl Told {
    /// Whether this alert is the end of one that people were told of.
    fn is_ended_by(&self, alert: &Alert) -> bool {
        alert.state == AlertState::Resolved && self.firing.contains(&alert.fingerprint)
    }

    /// Whether people have to be told this, who were told `before`.
    fn is_news(&self, before: Option<&Self>, repeat: Duration) -> bool {
        let Some(before) = before else { return !self.firing.is_empty() };
        if !self.firing.is_subset(&before.firing) {
            return true;
        }
        if self.firing.is_empty() {
            return !before.firing.is_empty();
        }
        !self.resolved.is_subset(&before.resolved) || self.at.since(before.at) >= repeat
    }
}

/// The next multiple of the interval after `at` that lies ahead.
fn next_due(at: Timestamp, interval: Duration, now: Timestamp) -> Timestamp {
    let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
    let missed = (now.0.saturating_sub(at.0)) / micros;
    Timestamp(at.0.saturating_add(micros.saturating_mul(missed + 1)))
}

fn group_key(labels: &Labels) -> Arc<str> {
    let mut hasher = Sha256::new();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        hasher.update(&**text);
        hasher.update([0xff]);
    }
    Arc::from(hasher.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn notice(group_key: Arc<str>, group_labels: Labels, at: Timestamp, mut alerts: Vec<Alert>) -> Notice {
    let rank = |alert: &Alert| {
        (
            alert.state == AlertState::Resolved,
            std::cmp::Reverse(alert.severity),
            alert.fired_at,
            Arc::clone(&alert.fingerprint),
        )
    };
    alerts.sort_by_cached_key(rank);
    Notice { group_key, group_labels, at, alerts }
}

#[cfg(test)]
#[path = "grouping_tests.rs"]
mod tests;
