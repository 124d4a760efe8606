//! The latest sample, and the exposition for Prometheus.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use sluice_stages::sample::Reading;
use utoipa::{IntoParams, ToSchema};

use crate::api::problem::Problem;
use crate::api::query::{Nothing, Params, short};
use crate::api::shared::{Api, Shared};

/// What was measured last.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct MetricsView {
    /// When, unix milliseconds; none if no monitor feeds this API, or before its first sample.
    at_ms: Option<u64>,
    /// Every series that has a value.
    readings: Vec<ReadingView>,
}

/// One value of one series.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ReadingView {
    /// The metric, its unit at the end of its name.
    metric: String,
    /// What tells it apart from other series of the metric.
    labels: BTreeMap<String, String>,
    /// The value.
    value: f64,
}

/// Which readings are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct MetricsParams {
    /// Only this metric.
    #[param(max_length = 200, example = "lag_slots")]
    metric: Option<String>,
    /// Only series with this `endpoint` label.
    #[param(max_length = 200)]
    endpoint: Option<String>,
    /// Only series with this `window` label, e.g. `10s`.
    #[param(max_length = 20)]
    window: Option<String>,
}

impl MetricsParams {
    fn checked(self) -> Result<Self, Problem> {
        Ok(Self {
            metric: short("metric", self.metric, 200)?,
            endpoint: short("endpoint", self.endpoint, 200)?,
            window: short("window", self.window, 20)?,
        })
    }

    fn matches(&self, reading: &Reading) -> bool {
        let has = |name: &str, wanted: &Option<String>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| reading.labels.get(name).is_some_and(|value| **value == **wanted))
        };
        self.metric.as_ref().is_none_or(|metric| *reading.metric == **metric)
            && has("endpoint", &self.endpoint)
            && has("window", &self.window)
    }
}

/// The latest sample's readings that are wanted.
pub(in crate::api) fn latest(api: &Api, wanted: &dyn Fn(&Reading) -> bool) -> MetricsView {
    let sample = api.live().series.latest();
    let view = |reading: &Reading| ReadingView {
        metric: reading.metric.to_string(),
        labels: crate::api::state::texts(&reading.labels),
        value: reading.value,
    };
    let finite = sample.readings.iter().filter(|reading| reading.value.is_finite());
    MetricsView {
        at_ms: (sample.at.0 > 0).then(|| sample.at.as_millis()),
        readings: finite.filter(|reading| wanted(reading)).map(view).collect(),
    }
}

/// What was measured last: throughput, latency, lag, coverage, errors and more.
#[utoipa::path(
    get, path = "/api/v1/performance/metrics", tag = "performance", params(MetricsParams),
    responses((status = 200, description = "The latest sample", body = MetricsView))
)]
pub(in crate::api) async fn metrics(
    State(api): Shared,
    Params(params): Params<MetricsParams>,
) -> Result<Json<MetricsView>, Problem> {
    let params = params.checked()?;
    Ok(Json(latest(&api, &|reading| params.matches(reading))))
}

/// All metrics of all nodes and edges, as Prometheus text.
#[utoipa::path(
    get, path = "/metrics", tag = "performance",
    responses((status = 200, description = "Exposition format 0.0.4", content_type = "text/plain", body = String))
)]
pub(in crate::api) async fn exposition(
    State(api): Shared,
    Params(Nothing {}): Params<Nothing>,
) -> Result<impl IntoResponse, Problem> {
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.watch.exposition()))
}
