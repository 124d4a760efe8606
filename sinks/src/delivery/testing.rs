//! Alerts for tests.

use std::sync::Arc;

use sluice_stages::alert::{Alert, AlertState, Notice, Severity};
use sluice_stages::sample::Labels;
use sluice_stages::slot::Timestamp;

use super::limit::fingerprint;

/// When the alerts of tests began to fire: 2026-01-31T12:00:00Z.
pub(crate) const FIRED_AT: Timestamp = Timestamp(1_769_860_800_000_000);

/// An alert of the rule `rule` that fires.
pub(crate) fn alert(rule: &str, severity: Severity) -> Alert {
    Alert {
        fingerprint: fingerprint(rule).into(),
        rule: rule.into(),
        severity,
        state: AlertState::Firing,
        metric: "latency_ms".into(),
        labels: Labels::from([(Arc::from("endpoint"), Arc::from("ams"))]),
        value: 1_250.5,
        threshold: 1_000.0,
        message: format!("{rule}: \"1250.5\" is > 1000 <for long>").into(),
        active_at: FIRED_AT,
        fired_at: Some(FIRED_AT),
        resolved_at: None,
        suppressed_by: None,
    }
}

/// The same, over again.
pub(crate) fn resolved(rule: &str, severity: Severity) -> Alert {
    Alert {
        state: AlertState::Resolved,
        resolved_at: Some(FIRED_AT.after(std::time::Duration::from_secs(60))),
        ..alert(rule, severity)
    }
}

/// The notice that the alert of [`notice`] is over.
pub(crate) fn over(rule: &str, severity: Severity) -> Notice {
    Notice { alerts: vec![resolved(rule, severity)], ..notice(rule, severity) }
}

/// A notice of one alert.
pub(crate) fn notice(rule: &str, severity: Severity) -> Notice {
    Notice {
        group_key: format!("{{rule=\"{rule}\"}}").into(),
        group_labels: Labels::from([(Arc::from("rule"), Arc::from(rule))]),
        at: FIRED_AT,
        alerts: vec![alert(rule, severity)],
    }
}
