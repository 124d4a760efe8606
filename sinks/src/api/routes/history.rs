//! How series went over a range of time.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sluice_stages::matcher::Matcher;
use sluice_stages::sample::Labels;
use sluice_stages::slot::Timestamp;
use utoipa::{IntoParams, ToSchema};

use crate::api::problem::Problem;
use crate::api::query::{MAX_INTEGER, Params, short, within};
use crate::api::shared::{Api, Shared};
use crate::api::state::{POINTS_CAPACITY, PointView, SeriesView, texts};
use crate::history::{Series, SeriesQuery};

/// Most points of a series in one answer; a finer step is made coarser.
const MAX_POINTS: u64 = 2_000;
/// Points, if no step is asked for.
const DEFAULT_POINTS: u64 = 300;
/// The range, if none is asked for.
const DEFAULT_RANGE_MS: u64 = 15 * 60 * 1_000;
/// The longest range: longer than anything is kept.
const MAX_RANGE_MS: u64 = 5 * 366 * 86_400 * 1_000;
/// Most series in one answer.
const MAX_SERIES: usize = 200;

/// Which series, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct HistoryParams {
    /// The metric. Without one the answer lists the metrics that there are.
    #[param(max_length = 200, example = "lag_slots")]
    metric: Option<String>,
    /// Only series with this `endpoint` label.
    #[param(max_length = 200)]
    endpoint: Option<String>,
    /// Only series with this `window` label, e.g. `10s`.
    #[param(max_length = 20)]
    window: Option<String>,
    /// The begin of the range, unix milliseconds. Default: a quarter of an hour before its end.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    from: Option<u64>,
    /// The end of the range, unix milliseconds. Default: now.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    to: Option<u64>,
    /// Seconds between points. Default: as many as make some 300 points. Never finer than makes 2,000.
    #[param(minimum = 1, maximum = 31_622_400)]
    step: Option<u64>,
}

/// Series over a range.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct HistoryView {
    /// Where the answer comes from: `store`, or `memory` if the pipeline keeps no history (a quarter of an hour).
    origin: &'static str,
    /// The begin of the range that was looked at, unix milliseconds.
    from_ms: u64,
    /// Its end.
    to_ms: u64,
    /// Seconds between points, as used.
    step_seconds: u64,
    /// The metrics that there are, if none was asked for.
    metrics: Vec<String>,
    /// The series; empty if no metric was asked for, or it has no values in the range.
    series: Vec<SeriesView>,
}

struct Range {
    from_ms: u64,
    to_ms: u64,
    step: u64,
}

impl HistoryParams {
    fn checked(self) -> Result<Self, Problem> {
        Ok(Self {
            metric: short("metric", self.metric, 200)?,
            endpoint: short("endpoint", self.endpoint, 200)?,
            window: short("window", self.window, 20)?,
            ..self
        })
    }

    fn range(&self, now: Timestamp) -> Result<Range, Problem> {
        let to_ms =
            within("to", self.to.unwrap_or(now.as_millis()), 0..=MAX_INTEGER)?.min(now.as_millis() + 1_000);
        let from =
            within("from", self.from.unwrap_or(to_ms.saturating_sub(DEFAULT_RANGE_MS)), 0..=MAX_INTEGER)?;
        let from_ms = from.max(to_ms.saturating_sub(MAX_RANGE_MS));
        let seconds = to_ms.saturating_sub(from_ms).div_ceil(1_000);
        let step = within("step", self.step.unwrap_or((seconds / DEFAULT_POINTS).max(1)), 1..=31_622_400)?;
        Ok(Range { from_ms, to_ms, step: step.max(seconds.div_ceil(MAX_POINTS)) })
    }

    fn matchers(&self) -> Vec<Matcher> {
        let wanted = [("endpoint", &self.endpoint), ("window", &self.window)];
        let matcher = |(name, value): (&str, &Option<String>)| {
            value.as_ref().map(|value| Matcher::equal(name, value.as_str()))
        };
        wanted.into_iter().filter_map(matcher).collect()
    }

    fn fit(&self, labels: &Labels) -> bool {
        let has = |name: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| labels.get(name).is_some_and(|value| **value == **wanted))
        };
        has("endpoint", &self.endpoint) && has("window", &self.window)
    }
}

/// How a metric's series went over a range of time.
///
/// From the history, if the pipeline keeps one; else from memory. Ranges and steps are bounded: what is too much is cut
/// or made coarser, and the answer says what was used. A range that ends before it begins is empty.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "performance", params(HistoryParams),
    responses((status = 200, description = "The series", body = HistoryView))
)]
pub(in crate::api) async fn history(
    State(api): Shared,
    Params(params): Params<HistoryParams>,
) -> Result<Json<HistoryView>, Problem> {
    let params = params.checked()?;
    let Range { from_ms, to_ms, step } = params.range(api.now())?;
    let (mut metrics, mut series, mut origin) = (Vec::new(), Vec::new(), "memory");
    match &params.metric {
        None => (origin, metrics) = names(&api).await?,
        Some(metric) if from_ms < to_ms => {
            let query = SeriesQuery {
                metric: metric.clone(),
                matchers: params.matchers(),
                from: Timestamp(from_ms * 1_000),
                to: Timestamp(to_ms * 1_000 - 1),
                step: Duration::from_secs(step),
            };
            (origin, series) = read(&api, &params, query).await?;
        }
        Some(_) => {}
    }
    Ok(Json(HistoryView { origin, from_ms, to_ms, step_seconds: step, metrics, series }))
}

async fn names(api: &Api) -> Result<(&'static str, Vec<String>), Problem> {
    if api.history.is_open() {
        return Ok(("store", api.history.metrics().await?));
    }
    Ok(("memory", api.live().series.metrics()))
}

/// The newest quarter of an hour is in memory, to the second; what reaches further back is in the store.
async fn read(
    api: &Api,
    params: &HistoryParams,
    query: SeriesQuery,
) -> Result<(&'static str, Vec<SeriesView>), Problem> {
    let reaches_back = Timestamp(api.now().0.saturating_sub(POINTS_CAPACITY as u64 * 1_000_000));
    if api.history.is_open() && query.from < reaches_back.max(api.started) {
        let series = api.history.query(&query).await?;
        return Ok(("store", series.into_iter().take(MAX_SERIES).map(view).collect()));
    }
    let range = (query.from, query.to.after(Duration::from_micros(1)));
    let step_ms = query.step.as_secs() * 1_000;
    let live = api.live();
    Ok(("memory", live.series.query(&query.metric, |labels| params.fit(labels), range, step_ms, MAX_SERIES)))
}

fn view(series: Series) -> SeriesView {
    let point = |point: &crate::history::Point| PointView {
        at_ms: point.at.as_millis(),
        min: point.min,
        mean: point.mean,
        max: point.max,
        last: point.last,
    };
    SeriesView {
        metric: series.metric.to_string(),
        labels: texts(&series.labels),
        points: series.points.iter().map(point).collect(),
    }
}
