//! Notices as Alertmanager's receivers know them (webhook body version 4), and alerts as Alertmanager itself takes them
//! (`POST /api/v2/alerts`).
//!
//! A rule's name is the label `alertname`, its severity the label `severity`; `message`, `metric`, `value` and
//! `threshold` are annotations.

use std::collections::BTreeMap;

use serde::Serialize;
use sluice_stages::alert::{Alert, AlertState, Notice};
use sluice_stages::sample::Labels;
use sluice_stages::slot::Timestamp;

use super::alert_record::{MAX_ALERTS, Teller, state_name, state_of};
use super::time_text::rfc3339;

/// What Go writes for a time that is not set; receivers know it as "still firing".
const NO_TIME: &str = "0001-01-01T00:00:00Z";

type Texts = BTreeMap<String, String>;

/// The webhook body, version 4.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookBody<'a> {
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: usize,
    status: &'static str,
    receiver: &'a str,
    group_labels: &'a Labels,
    common_labels: Texts,
    common_annotations: Texts,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: Vec<WebhookAlert<'a>>,
}

/// One alert of the webhook body.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookAlert<'a> {
    status: &'static str,
    labels: Texts,
    annotations: Texts,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    fingerprint: &'a str,
}

/// One alert as the API takes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PostedAlert<'a> {
    labels: Texts,
    annotations: Texts,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator_url: &'a str,
}

impl<'a> WebhookBody<'a> {
    /// The body for `notice`; `external_url` is where people can look at it, or empty.
    pub(crate) fn new(notice: &'a Notice, teller: &'a Teller, external_url: &'a str) -> Self {
        let told = || notice.alerts.iter().take(MAX_ALERTS);
        let alert = |alert: &'a Alert| WebhookAlert {
            status: state_name(alert.state),
            labels: labels(alert, teller),
            annotations: annotations(alert),
            starts_at: rfc3339(alert.active_at),
            ends_at: alert.resolved_at.map_or_else(|| NO_TIME.to_owned(), rfc3339),
            generator_url: external_url,
            fingerprint: &alert.fingerprint,
        };
        Self {
            version: "4",
            group_key: &notice.group_key,
            truncated_alerts: notice.alerts.len().saturating_sub(MAX_ALERTS),
            status: state_name(state_of(notice)),
            receiver: &teller.channel,
            group_labels: &notice.group_labels,
            common_labels: common(told().map(|alert| labels(alert, teller))),
            common_annotations: common(told().map(annotations)),
            external_url,
            alerts: told().map(alert).collect(),
        }
    }
}

impl<'a> PostedAlert<'a> {
    /// `alert`, which Alertmanager is to take for over at `ends_at` unless it hears of it again.
    pub(crate) fn new(alert: &'a Alert, teller: &Teller, external_url: &'a str, ends_at: Timestamp) -> Self {
        let ends_at = match alert.state {
            AlertState::Resolved => alert.resolved_at.unwrap_or(ends_at),
            AlertState::Pending | AlertState::Firing => ends_at,
        };
        Self {
            labels: labels(alert, teller),
            annotations: annotations(alert),
            starts_at: rfc3339(alert.active_at),
            ends_at: rfc3339(ends_at),
            generator_url: external_url,
        }
    }
}

fn labels(alert: &Alert, teller: &Teller) -> Texts {
    let own = alert.labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let mut labels: Texts = own.collect();
    // Alertmanager refuses labels without a value.
    labels.retain(|_, value| !value.is_empty());
    labels.insert("alertname".to_owned(), alert.rule.to_string());
    labels.insert("severity".to_owned(), alert.severity.name().to_owned());
    if !teller.pipeline.is_empty() {
        labels.insert("pipeline".to_owned(), teller.pipeline.clone());
    }
    labels
}

fn annotations(alert: &Alert) -> Texts {
    Texts::from([
        ("summary".to_owned(), alert.message.to_string()),
        ("metric".to_owned(), alert.metric.to_string()),
        ("value".to_owned(), alert.value.to_string()),
        ("threshold".to_owned(), alert.threshold.to_string()),
    ])
}

/// What all of them say alike.
fn common(mut all: impl Iterator<Item = Texts>) -> Texts {
    let mut common = all.next().unwrap_or_default();
    all.for_each(|other| common.retain(|name, value| other.get(name) == Some(value)));
    common
}

#[cfg(test)]
mod tests {
    use sluice_stages::alert::Severity;

    use super::*;
    use crate::delivery::testing::{alert, notice, resolved};

    #[test]
    fn the_body_is_version_4() {
        let mut notice = notice("latency", Severity::Error);
        notice.alerts.push(resolved("holes", Severity::Error));
        let teller = Teller { pipeline: "demo".to_owned(), channel: "ops".to_owned() };
        let body = WebhookBody::new(&notice, &teller, "http://localhost:3002/performance");
        let expected = serde_json::json!({
            "version": "4", "groupKey": "{rule=\"latency\"}", "truncatedAlerts": 0, "status": "firing", "receiver": "ops",
            "groupLabels": {"rule": "latency"},
            "commonLabels": {"endpoint": "ams", "pipeline": "demo", "severity": "error"},
            "commonAnnotations": {"metric": "latency_ms", "value": "1250.5", "threshold": "1000"},
            "externalURL": "http://localhost:3002/performance",
            "alerts": [
                {"status": "firing",
                 "labels": {"alertname": "latency", "endpoint": "ams", "pipeline": "demo", "severity": "error"},
                 "annotations": {"metric": "latency_ms", "value": "1250.5", "threshold": "1000",
                                 "summary": "latency: \"1250.5\" is > 1000 <for long>"},
                 "startsAt": "2026-01-31T12:00:00.000000Z", "endsAt": "0001-01-01T00:00:00Z",
                 "generatorURL": "http://localhost:3002/performance", "fingerprint": notice.alerts[0].fingerprint},
                {"status": "resolved",
                 "labels": {"alertname": "holes", "endpoint": "ams", "pipeline": "demo", "severity": "error"},
                 "annotations": {"metric": "latency_ms", "value": "1250.5", "threshold": "1000",
                                 "summary": "holes: \"1250.5\" is > 1000 <for long>"},
                 "startsAt": "2026-01-31T12:00:00.000000Z", "endsAt": "2026-01-31T12:01:00.000000Z",
                 "generatorURL": "http://localhost:3002/performance", "fingerprint": notice.alerts[1].fingerprint},
            ],
        });
        assert_eq!(serde_json::to_value(body).expect("JSON"), expected);
    }

    #[test]
    fn a_posted_alert_ends_by_itself_and_a_resolved_one_when_it_did() {
        let teller = Teller { pipeline: String::new(), channel: "ops".to_owned() };
        let ends = |alert: &Alert| {
            let posted = PostedAlert::new(alert, &teller, "", Timestamp(0));
            serde_json::to_value(posted).expect("JSON")["endsAt"].clone()
        };
        assert_eq!(ends(&alert("latency", Severity::Info)), "1970-01-01T00:00:00.000000Z");
        assert_eq!(ends(&resolved("latency", Severity::Info)), "2026-01-31T12:01:00.000000Z");
    }
}
