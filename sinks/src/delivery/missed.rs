//! What a channel has not told of, and the one notice that stands for it.
//!
//! The summary is an incident only while it has to be: it fires if it counts notices of firing alerts that nobody was told
//! of, at the severity of the worst of them, and it is over as soon as nothing waits any more. What was told by a newer
//! notice of the same group, and resolutions, are counted in a summary that is over from the start, so that whoever opens
//! incidents opens none for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sluice_stages::alert::{Alert, AlertState, Notice, Severity};
use sluice_stages::sample::Labels;
use sluice_stages::slot::Timestamp;

use super::limit::fingerprint;

/// Rules that a summary names; the rest is counted together.
const NAMED_RULES: usize = 20;
/// The rule of a summary, and its metric.
const SUMMARY_RULE: &str = "notices_held_back";

/// Notices that will not be told one by one, since the last summary.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Missed {
    /// Notices of which an alert fires.
    firing: u64,
    /// Notices of which all alerts are over.
    resolved: u64,
    /// The worst that fires and that no newer notice tells of.
    untold: Option<Severity>,
    since: Option<Timestamp>,
    /// Notices by their worst alert's rule. Bounded by [`NAMED_RULES`].
    rules: BTreeMap<Arc<str>, u64>,
}

impl Missed {
    /// Counts a notice that a newer one of its group stands for.
    pub(crate) fn replace(&mut self, now: Timestamp, notice: &Notice) {
        *(if notice.is_firing() { &mut self.firing } else { &mut self.resolved }) += 1;
        self.since.get_or_insert(now);
        let Some(worst) = notice.alerts.first() else { return };
        if self.rules.len() < NAMED_RULES || self.rules.contains_key(&worst.rule) {
            *self.rules.entry(Arc::clone(&worst.rule)).or_default() += 1;
        }
    }

    /// Counts a notice for which nothing but the summary stands.
    pub(crate) fn forgo(&mut self, now: Timestamp, notice: &Notice) {
        if notice.is_firing() {
            self.untold = self.untold.max(Some(notice.severity()));
        }
        self.replace(now, notice);
    }

    /// How many there are.
    pub(crate) fn notices(&self) -> u64 {
        self.firing + self.resolved
    }

    /// Whether something fires that nobody was told of.
    pub(crate) fn is_urgent(&self) -> bool {
        self.untold.is_some()
    }

    /// The notice that stands for them.
    pub(crate) fn summary(&self, channel: &str, most: usize, now: Timestamp) -> Notice {
        let ended = Alert {
            severity: self.untold.unwrap_or(Severity::Info),
            value: self.notices() as f64,
            message: self.message().into(),
            ..ended(channel, most, self.since.unwrap_or(now), now)
        };
        let fires = Alert { state: AlertState::Firing, resolved_at: None, ..ended.clone() };
        notice_of(if self.is_urgent() { fires } else { ended }, now)
    }

    fn message(&self) -> String {
        let Self { firing, resolved, .. } = self;
        let named: u64 = self.rules.values().sum();
        let mut rules: Vec<_> = self.rules.iter().map(|(rule, count)| format!("{rule} ×{count}")).collect();
        if named < self.notices() {
            rules.push(format!("others ×{}", self.notices() - named));
        }
        let plural = if self.notices() == 1 { "notice was" } else { "notices were" };
        let rest = match self.untold {
            Some(severity) => format!("the worst that nothing else tells of is {}", severity.name()),
            None => "newer ones tell of all that fires".to_owned(),
        };
        let count = self.notices();
        format!(
            "{count} {plural} held back, {firing} firing and {resolved} resolved: {}; {rest}",
            rules.join(", ")
        )
    }
}

/// The end of a summary that fired.
pub(crate) fn summary_over(fired: &Alert, most: usize, now: Timestamp) -> Notice {
    let channel = fired.labels.get("channel").map(|channel| &**channel).unwrap_or_default();
    let over = Alert { severity: fired.severity, ..ended(channel, most, fired.active_at, now) };
    notice_of(over, now)
}

fn ended(channel: &str, most: usize, since: Timestamp, now: Timestamp) -> Alert {
    Alert {
        fingerprint: fingerprint(&group_key(channel)).into(),
        rule: SUMMARY_RULE.into(),
        severity: Severity::Info,
        state: AlertState::Resolved,
        metric: SUMMARY_RULE.into(),
        labels: Labels::from([(Arc::from("channel"), Arc::from(channel))]),
        value: 0.0,
        threshold: most as f64,
        message: "no notice is held back any more".into(),
        active_at: since,
        fired_at: Some(now),
        resolved_at: Some(now),
        suppressed_by: None,
    }
}

fn group_key(channel: &str) -> String {
    format!("{SUMMARY_RULE}/{channel}")
}

fn notice_of(alert: Alert, now: Timestamp) -> Notice {
    let channel = alert.labels.get("channel").map(|channel| &**channel).unwrap_or_default();
    Notice {
        group_key: group_key(channel).into(),
        group_labels: alert.labels.clone(),
        at: now,
        alerts: vec![alert],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::testing::{notice, over};

    fn summary(missed: &Missed) -> Notice {
        missed.summary("ops", 2, Timestamp(1))
    }

    #[test]
    fn firing_and_resolved_ones_are_counted_apart_and_only_those_that_fire_make_it_bad() {
        let mut missed = Missed::default();
        missed.forgo(Timestamp(0), &over("holes", Severity::Critical));
        missed.forgo(Timestamp(0), &notice("latency", Severity::Error));
        missed.replace(Timestamp(0), &notice("latency", Severity::Critical));
        let told = summary(&missed);
        assert_eq!((told.is_firing(), told.severity(), told.alerts[0].value), (true, Severity::Error, 3.0));
        let message = "3 notices were held back, 2 firing and 1 resolved: holes ×1, latency ×2; \
                       the worst that nothing else tells of is error";
        assert_eq!(&*told.alerts[0].message, message);
        let end = summary_over(&told.alerts[0], 2, Timestamp(2));
        assert_eq!((end.is_firing(), end.severity(), end.alerts[0].value), (false, Severity::Error, 0.0));
        assert_eq!(end.alerts[0].fingerprint, told.alerts[0].fingerprint);
        assert_eq!((end.group_key, end.group_labels), (told.group_key, told.group_labels));
    }

    #[test]
    fn what_newer_ones_tell_of_opens_no_incident() {
        let mut missed = Missed::default();
        missed.replace(Timestamp(0), &notice("holes", Severity::Critical));
        missed.forgo(Timestamp(0), &over("latency", Severity::Critical));
        assert_eq!((summary(&missed).is_firing(), summary(&missed).severity()), (false, Severity::Info));
    }

    #[test]
    fn rules_beyond_those_named_are_counted() {
        let mut missed = Missed::default();
        for number in 0..50 {
            missed.forgo(Timestamp(0), &notice(&format!("rule-{number:02}"), Severity::Info));
        }
        let told = summary(&missed);
        assert!(told.alerts[0].message.contains("others ×30"), "{}", told.alerts[0].message);
    }
}
