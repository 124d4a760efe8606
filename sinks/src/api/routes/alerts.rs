//! Alerts: those that are not over, those that were, and every change.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sluice_stages::alert::{Alert, AlertState, Severity};
use sluice_stages::slot::Timestamp;
use utoipa::{IntoParams, ToSchema};

use crate::api::problem::Problem;
use crate::api::query::{DEFAULT_PAGE, MAX_INTEGER, MAX_PAGE, Params, short, within};
use crate::api::shared::{Api, Shared};
use crate::api::state::{AlertFilter, texts};
use crate::history::AlertQuery;

/// How far an alert has come.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum StateWord {
    /// Its condition holds, but not for long enough.
    Pending,
    /// It is to be told.
    Firing,
    /// It was firing and is over.
    Resolved,
}

impl From<StateWord> for AlertState {
    fn from(word: StateWord) -> Self {
        match word {
            StateWord::Pending => Self::Pending,
            StateWord::Firing => Self::Firing,
            StateWord::Resolved => Self::Resolved,
        }
    }
}

impl From<AlertState> for StateWord {
    fn from(state: AlertState) -> Self {
        match state {
            AlertState::Pending => Self::Pending,
            AlertState::Firing => Self::Firing,
            AlertState::Resolved => Self::Resolved,
        }
    }
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum SeverityWord {
    /// Worth knowing.
    Info,
    /// To be looked at within the day.
    Warning,
    /// To be looked at now.
    Error,
    /// Data is at stake.
    Critical,
}

impl From<SeverityWord> for Severity {
    fn from(word: SeverityWord) -> Self {
        match word {
            SeverityWord::Info => Self::Info,
            SeverityWord::Warning => Self::Warning,
            SeverityWord::Error => Self::Error,
            SeverityWord::Critical => Self::Critical,
        }
    }
}

impl From<Severity> for SeverityWord {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Warning => Self::Warning,
            Severity::Error => Self::Error,
            Severity::Critical => Self::Critical,
        }
    }
}

/// An alert: one rule on one series.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct AlertView {
    /// Tells it apart from all others, in every run.
    fingerprint: String,
    /// The rule's name.
    rule: String,
    /// How bad it is.
    severity: SeverityWord,
    /// How far it has come.
    state: StateWord,
    /// The metric that the rule reads.
    metric: String,
    /// The series' labels and the rule's own.
    labels: BTreeMap<String, String>,
    /// What the series showed last; none if it is no number.
    value: Option<f64>,
    /// What it is compared with; none if it is no number.
    threshold: Option<f64>,
    /// A sentence for people.
    message: String,
    /// When its condition began to hold, unix milliseconds.
    active_ms: u64,
    /// When it began to fire.
    fired_ms: Option<u64>,
    /// When it was over.
    resolved_ms: Option<u64>,
    /// The silence or the alert that keeps it from being told.
    suppressed_by: Option<String>,
}

impl From<Alert> for AlertView {
    fn from(alert: Alert) -> Self {
        Self {
            fingerprint: alert.fingerprint.to_string(),
            rule: alert.rule.to_string(),
            severity: alert.severity.into(),
            state: alert.state.into(),
            metric: alert.metric.to_string(),
            labels: texts(&alert.labels),
            value: Some(alert.value).filter(|value| value.is_finite()),
            threshold: Some(alert.threshold).filter(|value| value.is_finite()),
            message: alert.message.to_string(),
            active_ms: alert.active_at.as_millis(),
            fired_ms: alert.fired_at.map(Timestamp::as_millis),
            resolved_ms: alert.resolved_at.map(Timestamp::as_millis),
            suppressed_by: alert.suppressed_by.map(|by| by.to_string()),
        }
    }
}

/// A page of alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct AlertsView {
    /// How many there are on all pages.
    total: usize,
    /// How many fire, by severity.
    firing: BTreeMap<&'static str, u64>,
    /// Firing ones first, then pending, then resolved; the worst first, then the newest.
    alerts: Vec<AlertView>,
}

/// Which alerts are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct AlertsParams {
    /// Only alerts that have come so far.
    #[param(inline)]
    state: Option<StateWord>,
    /// Only alerts that are so bad.
    #[param(inline)]
    severity: Option<SeverityWord>,
    /// Only alerts whose condition began to hold at this time or later, unix milliseconds.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    from: Option<u64>,
    /// Only alerts whose condition began to hold before this time, unix milliseconds.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    to: Option<u64>,
    /// Alerts to leave out. Default 0.
    #[param(maximum = 100_000)]
    offset: Option<u64>,
    /// Alerts in the answer. Default 100.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u64>,
}

fn page(api: &Api, filter: &AlertFilter, offset: usize, limit: usize) -> AlertsView {
    let live = api.live();
    let (total, alerts) = live.alerts.list(filter, offset, limit);
    let firing = live.alerts.firing().into_iter().map(|(severity, count)| (severity.name(), count)).collect();
    drop(live);
    AlertsView { total, firing, alerts: alerts.into_iter().map(AlertView::from).collect() }
}

/// The first page of all alerts.
pub(in crate::api) fn first_page(api: &Api, limit: usize) -> AlertsView {
    page(api, &AlertFilter::default(), 0, limit)
}

/// Alerts that are not over, and those that were over last.
#[utoipa::path(
    get, path = "/api/v1/alerts", tag = "alerts", params(AlertsParams),
    responses((status = 200, description = "A page of alerts", body = AlertsView))
)]
pub(in crate::api) async fn alerts(
    State(api): Shared,
    Params(params): Params<AlertsParams>,
) -> Result<Json<AlertsView>, Problem> {
    let time = |name, value: Option<u64>| value.map(|value| moment(name, value)).transpose();
    let filter = AlertFilter {
        state: params.state.map(AlertState::from),
        severity: params.severity.map(Severity::from),
        from: time("from", params.from)?,
        to: time("to", params.to)?,
    };
    let offset = within("offset", params.offset.unwrap_or(0), 0..=100_000)?;
    let limit = within("limit", params.limit.unwrap_or(DEFAULT_PAGE), 1..=MAX_PAGE)?;
    Ok(Json(page(&api, &filter, offset as usize, limit as usize)))
}

fn moment(name: &str, millis: u64) -> Result<Timestamp, Problem> {
    Ok(Timestamp(within(name, millis, 0..=MAX_INTEGER)? * 1_000))
}

/// Which changes are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct ChangesParams {
    /// Only changes into this state.
    #[param(inline)]
    state: Option<StateWord>,
    /// Only alerts that are so bad.
    #[param(inline)]
    severity: Option<SeverityWord>,
    /// Only alerts of this rule.
    #[param(max_length = 200)]
    rule: Option<String>,
    /// Only changes at this time or later, unix milliseconds.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    from: Option<u64>,
    /// Only changes at this time or before, unix milliseconds.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    to: Option<u64>,
    /// The `next` of the page before.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    before: Option<u64>,
    /// Changes in the answer. Default 100.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u64>,
}

/// A change of an alert.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ChangeView {
    /// When it was written down, unix milliseconds.
    at_ms: u64,
    /// The alert as it was from then on.
    alert: AlertView,
}

/// A page of changes.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ChangesView {
    /// Whether the pipeline keeps a history; if not, there are no changes.
    kept: bool,
    /// The changes, the newest first.
    changes: Vec<ChangeView>,
    /// What to give as `before` for the next page; none on the last one.
    next: Option<i64>,
}

/// Every change of every alert, over restarts, from the history.
#[utoipa::path(
    get, path = "/api/v1/alerts/history", tag = "alerts", params(ChangesParams),
    responses((status = 200, description = "A page of changes", body = ChangesView))
)]
pub(in crate::api) async fn changes(
    State(api): Shared,
    Params(params): Params<ChangesParams>,
) -> Result<Json<ChangesView>, Problem> {
    let time = |name, value: Option<u64>| value.map(|value| moment(name, value)).transpose();
    let before = params.before.map(|before| within("before", before, 0..=MAX_INTEGER)).transpose()?;
    let query = AlertQuery {
        states: params.state.map(AlertState::from).into_iter().collect(),
        severities: params.severity.map(Severity::from).into_iter().collect(),
        rule: short("rule", params.rule, 200)?,
        from: time("from", params.from)?,
        to: time("to", params.to)?,
        before: before.and_then(|before| i64::try_from(before).ok()),
        limit: within("limit", params.limit.unwrap_or(DEFAULT_PAGE), 1..=MAX_PAGE)? as usize,
    };
    if !api.history.is_open() {
        return Ok(Json(ChangesView { kept: false, changes: Vec::new(), next: None }));
    }
    let page = api.history.alerts(&query).await?;
    let view = |change: crate::history::AlertChange| ChangeView {
        at_ms: change.at.as_millis(),
        alert: change.alert.into(),
    };
    Ok(Json(ChangesView {
        kept: true,
        changes: page.changes.into_iter().map(view).collect(),
        next: page.next,
    }))
}
