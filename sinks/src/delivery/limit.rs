//! How many notices a channel tells in a minute, and the one notice that stands for those it held back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sluice_stages::alert::{Alert, AlertState, Notice, Severity};
use sluice_stages::sample::Labels;
use sluice_stages::slot::Timestamp;

/// What the limit counts over.
const WINDOW: Duration = Duration::from_secs(60);
/// Rules that a summary names; the rest is counted together.
const NAMED_RULES: usize = 20;
/// The rule of a summary, and its metric.
const SUMMARY_RULE: &str = "notices_held_back";

/// Lets so many notices through in any minute and sums up the others.
#[derive(Debug)]
pub(crate) struct NoticeLimit {
    channel: String,
    /// `None`: no limit.
    max_per_minute: Option<usize>,
    /// When the latest notices were told, at most as many as the limit.
    told: VecDeque<Timestamp>,
    held: Held,
}

/// What was held back since the last summary.
#[derive(Debug, Default)]
struct Held {
    notices: u64,
    severity: Option<Severity>,
    since: Option<Timestamp>,
    /// Notices by their worst alert's rule. Bounded by [`NAMED_RULES`].
    rules: BTreeMap<Arc<str>, u64>,
}

impl NoticeLimit {
    /// A limit for the channel of this name.
    pub(crate) fn new(channel: &str, max_per_minute: Option<u32>) -> Self {
        let max_per_minute = max_per_minute.map(|most| most as usize);
        Self { channel: channel.to_owned(), max_per_minute, told: VecDeque::new(), held: Held::default() }
    }

    /// Whether `notice` may be told now; if not, the next summary counts it.
    pub(crate) fn admit(&mut self, now: Timestamp, notice: &Notice) -> bool {
        // What is held back comes first, and with a room of one the summary needs it.
        if self.held.notices == 0 && self.has_room(now) {
            self.count(now);
            return true;
        }
        self.held.add(now, notice);
        false
    }

    /// Counts a notice that was held back for another reason, such as a full queue.
    pub(crate) fn hold(&mut self, now: Timestamp, notice: &Notice) {
        self.held.add(now, notice);
    }

    /// The notice that stands for those held back, once there is room for one.
    pub(crate) fn summary(&mut self, now: Timestamp) -> Option<Notice> {
        if self.held.notices == 0 || !self.has_room(now) {
            return None;
        }
        self.count(now);
        Some(self.take_summary(now))
    }

    /// The same at the end, when there will be no room.
    pub(crate) fn last_summary(&mut self, now: Timestamp) -> Option<Notice> {
        (self.held.notices > 0).then(|| self.take_summary(now))
    }

    /// When [`Self::summary`] is worth asking again; `None` if nothing is held back.
    pub(crate) fn summary_due(&self, now: Timestamp) -> Option<Timestamp> {
        let most = self.max_per_minute.unwrap_or(usize::MAX);
        let oldest = (self.told.len() >= most).then(|| self.told.front().copied()).flatten();
        (self.held.notices > 0).then(|| oldest.map_or(now, |told| told.after(WINDOW)))
    }

    fn has_room(&mut self, now: Timestamp) -> bool {
        let Some(most) = self.max_per_minute else { return true };
        while self.told.front().is_some_and(|told| told.after(WINDOW) <= now) {
            self.told.pop_front();
        }
        self.told.len() < most
    }

    fn count(&mut self, now: Timestamp) {
        if self.max_per_minute.is_some() {
            self.told.push_back(now);
        }
    }

    fn take_summary(&mut self, now: Timestamp) -> Notice {
        let held = std::mem::take(&mut self.held);
        let threshold = self.max_per_minute.map_or(0.0, |most| most as f64);
        let group_key = format!("{SUMMARY_RULE}/{}", self.channel);
        let labels = Labels::from([(Arc::from("channel"), Arc::from(self.channel.as_str()))]);
        let alert = Alert {
            fingerprint: fingerprint(&group_key).into(),
            rule: SUMMARY_RULE.into(),
            severity: held.severity.unwrap_or_default(),
            state: AlertState::Firing,
            metric: SUMMARY_RULE.into(),
            labels: labels.clone(),
            value: held.notices as f64,
            threshold,
            message: held.message().into(),
            active_at: held.since.unwrap_or(now),
            fired_at: Some(now),
            resolved_at: None,
            suppressed_by: None,
        };
        Notice { group_key: group_key.into(), group_labels: labels, at: now, alerts: vec![alert] }
    }
}

impl Held {
    fn add(&mut self, now: Timestamp, notice: &Notice) {
        self.notices += 1;
        self.severity = self.severity.max(Some(notice.severity()));
        self.since.get_or_insert(now);
        let Some(worst) = notice.alerts.first() else { return };
        if self.rules.len() < NAMED_RULES || self.rules.contains_key(&worst.rule) {
            *self.rules.entry(Arc::clone(&worst.rule)).or_default() += 1;
        }
    }

    fn message(&self) -> String {
        let named: u64 = self.rules.values().sum();
        let mut rules: Vec<_> = self.rules.iter().map(|(rule, count)| format!("{rule} ×{count}")).collect();
        if named < self.notices {
            rules.push(format!("others ×{}", self.notices - named));
        }
        let plural = if self.notices == 1 { "notice was" } else { "notices were" };
        let severity = self.severity.unwrap_or_default().name();
        format!("{} {plural} held back: {}; the worst was {severity}", self.notices, rules.join(", "))
    }
}

/// 16 hexadecimal digits that tell one text from another.
pub(crate) fn fingerprint(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::testing::notice;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn what_is_beyond_the_limit_is_summed_up_when_there_is_room() {
        let mut limit = NoticeLimit::new("ops", Some(2));
        let at = |seconds: u64| Timestamp(seconds * SECOND);
        assert!(limit.admit(at(0), &notice("latency", Severity::Error)));
        assert!(limit.admit(at(1), &notice("latency", Severity::Error)));
        assert!(!limit.admit(at(2), &notice("holes", Severity::Critical)));
        assert!(!limit.admit(at(3), &notice("latency", Severity::Error)));
        assert_eq!(limit.summary(at(59)), None);
        assert_eq!(limit.summary_due(at(59)), Some(at(60)));
        let summary = limit.summary(at(60)).expect("the first one is a minute old");
        assert_eq!(summary.severity(), Severity::Critical);
        assert_eq!((summary.alerts[0].value, summary.alerts[0].threshold), (2.0, 2.0));
        let message = "2 notices were held back: holes ×1, latency ×1; the worst was critical";
        assert_eq!(&*summary.alerts[0].message, message);
        assert_eq!((limit.summary(at(200)), limit.summary_due(at(200))), (None, None));
        assert!(limit.admit(at(200), &notice("latency", Severity::Error)));
    }

    #[test]
    fn without_a_limit_everything_is_told_and_nothing_is_kept() {
        let mut limit = NoticeLimit::new("log", None);
        for second in 0..1_000 {
            assert!(limit.admit(Timestamp(second), &notice("latency", Severity::Info)));
        }
        assert!(limit.told.is_empty());
    }

    #[test]
    fn rules_beyond_those_named_are_counted() {
        let mut limit = NoticeLimit::new("ops", Some(0));
        for number in 0..50 {
            limit.admit(Timestamp(0), &notice(&format!("rule-{number:02}"), Severity::Info));
        }
        let summary = limit.last_summary(Timestamp(1)).expect("all were held back");
        assert!(summary.alerts[0].message.contains("others ×30"), "{}", summary.alerts[0].message);
    }

    proptest! {
        #[test]
        fn no_minute_tells_more_than_the_limit_and_nothing_is_forgotten(
            waits in proptest::collection::vec(0..30_000_000u64, 1..200),
            most in 1..10u32,
        ) {
            let mut limit = NoticeLimit::new("ops", Some(most));
            let (mut now, mut told, mut counted) = (0, Vec::new(), 0.0);
            for wait in &waits {
                now += wait;
                if let Some(summary) = limit.summary(Timestamp(now)) {
                    told.push(now);
                    counted += summary.alerts[0].value;
                }
                if limit.admit(Timestamp(now), &notice("latency", Severity::Info)) {
                    told.push(now);
                    counted += 1.0;
                }
            }
            counted += limit.last_summary(Timestamp(now)).map_or(0.0, |summary| summary.alerts[0].value);
            prop_assert_eq!(counted, waits.len() as f64);
            for (position, &first) in told.iter().enumerate() {
                let within = told[position..].iter().take_while(|&&at| at < first + 60 * SECOND).count();
                prop_assert!(within <= most as usize);
            }
        }
    }
}
