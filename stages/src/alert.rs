//! Alerts: what the alert evaluator says of its rules, as channels, the history and the API read it.
//!
//! ```text
//!             for passed             condition gone, keep_firing_for passed
//!  inactive ─→ pending ─→ firing ────────────────────────────────────────→ resolved
//!                 └── condition gone: over without ever having fired ─────────↗
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sample::Labels;
use crate::slot::Timestamp;

/// How bad it is, in rising order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// To be looked at within the day.
    #[default]
    Warning,
    /// To be looked at now.
    Error,
    /// Data is at stake.
    Critical,
}

impl Severity {
    /// The word in TOML, logs and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// How far an alert has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Its condition holds, but not for long enough.
    Pending,
    /// It is to be told.
    Firing,
    /// It is over. If it never fired, `fired_at` is none.
    Resolved,
}

/// One rule on one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Tells it apart from all others: the same in every run for the same rule and labels. 16 hexadecimal digits.
    pub fingerprint: Arc<str>,
    /// The rule's name.
    pub rule: Arc<str>,
    /// How bad it is.
    pub severity: Severity,
    /// How far it has come.
    pub state: AlertState,
    /// The metric that the rule reads.
    pub metric: Arc<str>,
    /// The series' labels and the rule's own.
    pub labels: Labels,
    /// What the series showed last; 0 if it was never there.
    pub value: f64,
    /// What it is compared with.
    pub threshold: f64,
    /// A sentence for people.
    pub message: Arc<str>,
    /// When its condition began to hold.
    pub active_at: Timestamp,
    /// When it began to fire; none while it is pending.
    pub fired_at: Option<Timestamp>,
    /// When it was over; none until then.
    pub resolved_at: Option<Timestamp>,
    /// What keeps it from being told, if anything does: the id of a silence or the fingerprint of the alert that inhibits it.
    pub suppressed_by: Option<Arc<str>>,
}

impl Alert {
    /// The value of a label for matchers and groups: `rule` (or `alertname`, as Alertmanager calls it), `severity` and
    /// `metric` stand beside its own labels.
    pub fn label(&self, name: &str) -> Option<&str> {
        match name {
            "rule" | "alertname" => Some(&self.rule),
            "severity" => Some(self.severity.name()),
            "metric" => Some(&self.metric),
            _ => self.labels.get(name).map(|value| &**value),
        }
    }
}

/// Word to people about a group of alerts, for the channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The same for every notice of one group, so that channels can thread them.
    pub group_key: Arc<str>,
    /// What the alerts of the group have in common.
    pub group_labels: Labels,
    /// When it was due.
    pub at: Timestamp,
    /// The alerts, the worst first; resolved ones last. Never empty.
    pub alerts: Vec<Alert>,
}

impl Notice {
    /// Whether any of its alerts is firing.
    pub fn is_firing(&self) -> bool {
        self.alerts.iter().any(|alert| alert.state == AlertState::Firing)
    }

    /// What a channel that is told of alerts from `severity` on is told of it: the milder ones are left out, and `None` is
    /// left of a notice that has no others. So the end of an alert goes where its beginning went, whatever else is in its
    /// group.
    pub fn at_least(&self, severity: Severity) -> Option<Cow<'_, Self>> {
        let wanted = || self.alerts.iter().filter(|alert| alert.severity >= severity);
        match wanted().count() {
            0 => None,
            all if all == self.alerts.len() => Some(Cow::Borrowed(self)),
            _ => Some(Cow::Owned(Self { alerts: wanted().cloned().collect(), ..self.clone() })),
        }
    }

    /// The worst of its alerts that still fire, or of all if none does.
    pub fn severity(&self) -> Severity {
        let firing = self.alerts.iter().filter(|alert| alert.state == AlertState::Firing);
        let worst = firing.map(|alert| alert.severity).max();
        worst.or_else(|| self.alerts.iter().map(|alert| alert.severity).max()).unwrap_or_default()
    }
}

/// What an alert evaluator gives out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertItem {
    /// An alert changed its state, or what suppresses it: for the history and the API.
    Changed(Alert),
    /// A firing alert whose value or message is another one while its state is the same, at most once a second: for those
    /// who show what is now. It is no part of the history, and nobody is told.
    Measured(Alert),
    /// People are to be told: for the channels.
    Notice(Notice),
}

impl AlertItem {
    /// Bytes that it holds in memory, about.
    pub fn size_bytes(&self) -> usize {
        const LABELS_BYTES: usize = 512;
        let alerts = match self {
            Self::Changed(_) | Self::Measured(_) => 1,
            Self::Notice(notice) => notice.alerts.len(),
        };
        alerts * (size_of::<Alert>() + LABELS_BYTES)
    }
}
