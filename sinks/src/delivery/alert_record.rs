//! The record of a notice: what the default webhook body, the files and the console's JSON hold.
//!
//! ```json
//! {"type":"alert","severity":"error","state":"firing","rule":"latency","metric":"latency_ms","value":1250.5,
//!  "threshold":1000.0,"message":"…","timestamp":"2026-01-31T12:00:00.000000Z","labels":{"endpoint":"ams"},
//!  "fingerprint":"…","group_key":"…","group_labels":{},"pipeline":"demo","channel":"ops","truncated_alerts":0,
//!  "alerts":[{"severity":"error","state":"firing","rule":"latency",…,"active_at":"…","fired_at":"…","resolved_at":null}]}
//! ```
//!
//! The fields in front are those of the worst alert, which is the first of `alerts`; `severity` and `state` are those of
//! the notice: `firing` as long as any of its alerts is.

use serde::Serialize;
use sluice_stages::alert::{Alert, AlertState, Notice};
use sluice_stages::sample::Labels;

use super::time_text::rfc3339;

/// Alerts of one notice that are told one by one; the rest is counted. Receivers refuse what is much larger.
pub(crate) const MAX_ALERTS: usize = 100;

/// The fields of a notice's record, which a template may ask for.
pub(crate) const FIELDS: [&str; 17] = [
    "type",
    "severity",
    "state",
    "rule",
    "metric",
    "value",
    "threshold",
    "message",
    "timestamp",
    "labels",
    "fingerprint",
    "group_key",
    "group_labels",
    "pipeline",
    "channel",
    "truncated_alerts",
    "alerts",
];

/// Who tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Teller {
    /// The pipeline's name.
    pub(crate) pipeline: String,
    /// The sink's name.
    pub(crate) channel: String,
}

/// A notice as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct NoticeRecord<'a> {
    r#type: &'static str,
    severity: &'static str,
    state: AlertState,
    rule: &'a str,
    metric: &'a str,
    value: f64,
    threshold: f64,
    message: &'a str,
    timestamp: String,
    labels: &'a Labels,
    fingerprint: &'a str,
    group_key: &'a str,
    group_labels: &'a Labels,
    pipeline: &'a str,
    channel: &'a str,
    truncated_alerts: usize,
    alerts: Vec<AlertRecord<'a>>,
}

/// One of its alerts.
#[derive(Debug, Serialize)]
struct AlertRecord<'a> {
    severity: &'static str,
    state: AlertState,
    rule: &'a str,
    metric: &'a str,
    value: f64,
    threshold: f64,
    message: &'a str,
    labels: &'a Labels,
    fingerprint: &'a str,
    active_at: String,
    fired_at: Option<String>,
    resolved_at: Option<String>,
}

impl<'a> NoticeRecord<'a> {
    /// The record of `notice`; `None` if it has no alert, which never is.
    pub(crate) fn new(notice: &'a Notice, teller: &'a Teller) -> Option<Self> {
        let worst = notice.alerts.first()?;
        Some(Self {
            r#type: "alert",
            severity: notice.severity().name(),
            state: state_of(notice),
            rule: &worst.rule,
            metric: &worst.metric,
            value: worst.value,
            threshold: worst.threshold,
            message: &worst.message,
            timestamp: rfc3339(notice.at),
            labels: &worst.labels,
            fingerprint: &worst.fingerprint,
            group_key: &notice.group_key,
            group_labels: &notice.group_labels,
            pipeline: &teller.pipeline,
            channel: &teller.channel,
            truncated_alerts: notice.alerts.len().saturating_sub(MAX_ALERTS),
            alerts: notice.alerts.iter().take(MAX_ALERTS).map(AlertRecord::new).collect(),
        })
    }
}

impl<'a> AlertRecord<'a> {
    fn new(alert: &'a Alert) -> Self {
        Self {
            severity: alert.severity.name(),
            state: alert.state,
            rule: &alert.rule,
            metric: &alert.metric,
            value: alert.value,
            threshold: alert.threshold,
            message: &alert.message,
            labels: &alert.labels,
            fingerprint: &alert.fingerprint,
            active_at: rfc3339(alert.active_at),
            fired_at: alert.fired_at.map(rfc3339),
            resolved_at: alert.resolved_at.map(rfc3339),
        }
    }
}

/// `firing` as long as any alert is.
pub(crate) fn state_of(notice: &Notice) -> AlertState {
    if notice.is_firing() { AlertState::Firing } else { AlertState::Resolved }
}

/// The word for a state.
pub(crate) fn state_name(state: AlertState) -> &'static str {
    match state {
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
    }
}

#[cfg(test)]
mod tests {
    use sluice_stages::alert::Severity;

    use super::*;
    use crate::delivery::testing::{alert, notice, resolved};

    fn record(notice: &Notice) -> serde_json::Value {
        let teller = Teller { pipeline: "demo".to_owned(), channel: "ops".to_owned() };
        serde_json::to_value(NoticeRecord::new(notice, &teller).expect("an alert")).expect("JSON")
    }

    #[test]
    fn the_worst_alert_stands_in_front() {
        let record = record(&notice("latency", Severity::Error));
        for (field, value) in [
            ("severity", serde_json::json!("error")),
            ("state", serde_json::json!("firing")),
            ("metric", serde_json::json!("latency_ms")),
            ("value", serde_json::json!(1250.5)),
            ("threshold", serde_json::json!(1000.0)),
            ("timestamp", serde_json::json!("2026-01-31T12:00:00.000000Z")),
            ("labels", serde_json::json!({"endpoint": "ams"})),
        ] {
            assert_eq!(record[field], value, "{field}");
        }
        assert_eq!(record["alerts"][0]["resolved_at"], serde_json::Value::Null);
    }

    #[test]
    fn a_notice_is_resolved_when_all_of_its_alerts_are() {
        let mut both = notice("latency", Severity::Error);
        both.alerts.push(resolved("holes", Severity::Critical));
        assert_eq!(
            (record(&both)["state"].as_str(), record(&both)["severity"].as_str()),
            (Some("firing"), Some("error"))
        );
        both.alerts.remove(0);
        assert_eq!(record(&both)["state"], "resolved");
        assert_eq!(record(&both)["alerts"][0]["resolved_at"], "2026-01-31T12:01:00.000000Z");
    }

    #[test]
    fn a_storm_is_cut_short_and_says_so() {
        let mut storm = notice("latency", Severity::Error);
        storm.alerts = (0..250).map(|number| alert(&format!("rule-{number}"), Severity::Info)).collect();
        let record = record(&storm);
        assert_eq!(
            (record["alerts"].as_array().map(Vec::len), record["truncated_alerts"].as_u64()),
            (Some(100), Some(150))
        );
    }
}
