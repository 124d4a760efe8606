//! Alerts that are not over, and those that were over last.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sluice_stages::alert::{Alert, AlertState, Severity};
use sluice_stages::slot::Timestamp;

/// Alerts that are not over: more than rules times series of any pipeline.
const OPEN_CAPACITY: usize = 2_000;
/// Alerts that are over: the history keeps all of them.
const RESOLVED_CAPACITY: usize = 1_000;

/// Which alerts are wanted; what is left out is not asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::api) struct AlertFilter {
    /// How far they have come.
    pub(in crate::api) state: Option<AlertState>,
    /// How bad they are.
    pub(in crate::api) severity: Option<Severity>,
    /// When they began to hold, at the earliest.
    pub(in crate::api) from: Option<Timestamp>,
    /// And before.
    pub(in crate::api) to: Option<Timestamp>,
}

impl AlertFilter {
    fn matches(&self, alert: &Alert) -> bool {
        self.state.is_none_or(|state| state == alert.state)
            && self.severity.is_none_or(|severity| severity == alert.severity)
            && self.from.is_none_or(|from| alert.active_at >= from)
            && self.to.is_none_or(|to| alert.active_at < to)
    }
}

/// Alerts by their fingerprints.
#[derive(Debug, Default)]
pub(in crate::api) struct AlertBook {
    open: BTreeMap<Arc<str>, Alert>,
    resolved: VecDeque<Alert>,
}

impl AlertBook {
    /// An alert has changed its state, or shows another value.
    pub(in crate::api) fn on_alert(&mut self, alert: &Alert) {
        if alert.state == AlertState::Resolved {
            self.open.remove(&alert.fingerprint);
            if alert.fired_at.is_some() {
                self.resolved.push_front(alert.clone());
                self.resolved.truncate(RESOLVED_CAPACITY);
            }
        } else if self.open.len() < OPEN_CAPACITY || self.open.contains_key(&alert.fingerprint) {
            self.open.insert(Arc::clone(&alert.fingerprint), alert.clone());
        }
    }

    /// The alerts that match: firing ones first, then pending, then resolved; the worst first, then the newest. With
    /// their number without `offset` and `limit`.
    pub(in crate::api) fn list(
        &self,
        filter: &AlertFilter,
        offset: usize,
        limit: usize,
    ) -> (usize, Vec<Alert>) {
        let all = self.open.values().chain(&self.resolved);
        let mut found: Vec<&Alert> = all.filter(|alert| filter.matches(alert)).collect();
        found.sort_by_key(|alert| {
            let rank = match alert.state {
                AlertState::Firing => 0,
                AlertState::Pending => 1,
                AlertState::Resolved => 2,
            };
            let at = alert.resolved_at.unwrap_or(alert.active_at);
            let severity = if rank == 2 { Severity::Critical } else { alert.severity };
            (rank, std::cmp::Reverse(severity), std::cmp::Reverse(at))
        });
        (found.len(), found.into_iter().skip(offset).take(limit).cloned().collect())
    }

    /// How many alerts fire, by severity.
    pub(in crate::api) fn firing(&self) -> BTreeMap<Severity, u64> {
        let mut counts = BTreeMap::new();
        for alert in self.open.values().filter(|alert| alert.state == AlertState::Firing) {
            *counts.entry(alert.severity).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use sluice_stages::sample::Labels;

    use super::*;

    fn alert(fingerprint: &str, severity: Severity, state: AlertState, at: u64) -> Alert {
        let text: Arc<str> = "x".into();
        Alert {
            fingerprint: fingerprint.into(),
            rule: text.clone(),
            severity,
            state,
            metric: text.clone(),
            labels: Labels::new(),
            value: 1.0,
            threshold: 0.0,
            message: text,
            active_at: Timestamp(at),
            fired_at: (state != AlertState::Pending).then_some(Timestamp(at)),
            resolved_at: (state == AlertState::Resolved).then_some(Timestamp(at)),
            suppressed_by: None,
        }
    }

    #[test]
    fn the_worst_that_fires_comes_first_and_what_is_over_last() {
        let mut book = AlertBook::default();
        book.on_alert(&alert("a", Severity::Critical, AlertState::Pending, 1));
        book.on_alert(&alert("b", Severity::Warning, AlertState::Firing, 2));
        book.on_alert(&alert("c", Severity::Error, AlertState::Firing, 3));
        book.on_alert(&alert("d", Severity::Critical, AlertState::Firing, 4));
        book.on_alert(&alert("d", Severity::Critical, AlertState::Resolved, 5));
        let (total, found) = book.list(&AlertFilter::default(), 0, 10);
        let order: Vec<&str> = found.iter().map(|alert| &*alert.fingerprint).collect();
        assert_eq!((total, order), (4, vec!["c", "b", "a", "d"]));
        let firing = AlertFilter { state: Some(AlertState::Firing), ..AlertFilter::default() };
        assert_eq!(&*book.list(&firing, 1, 10).1[0].fingerprint, "b");
    }

    #[test]
    fn what_never_fired_is_not_remembered() {
        let mut book = AlertBook::default();
        book.on_alert(&alert("a", Severity::Info, AlertState::Pending, 1));
        let over = Alert { fired_at: None, ..alert("a", Severity::Info, AlertState::Resolved, 2) };
        book.on_alert(&over);
        assert_eq!(book.list(&AlertFilter::default(), 0, 10).0, 0);
    }

    #[test]
    fn an_alert_that_fires_on_is_shown_with_what_is_now() {
        let mut book = AlertBook::default();
        book.on_alert(&alert("a", Severity::Critical, AlertState::Firing, 1));
        let now = Alert {
            value: 50.0,
            message: "50".into(),
            ..alert("a", Severity::Critical, AlertState::Firing, 1)
        };
        book.on_alert(&now);
        assert_eq!(book.list(&AlertFilter::default(), 0, 10), (1, vec![now]));
    }
}
