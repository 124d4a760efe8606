//! Recent values of every series: what `/performance/metrics` shows, and the history of a pipeline that keeps none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use sluice_stages::sample::{Labels, Reading, Sample};
use sluice_stages::slot::Timestamp;
use utoipa::ToSchema;

/// Values kept of a series: a quarter of an hour at one a second.
pub(in crate::api) const POINTS_CAPACITY: usize = 900;
/// Series that are kept: with all values some 30 MB. What comes beyond is counted.
const SERIES_CAPACITY: usize = 2_000;

/// A series over a range.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(in crate::api) struct SeriesView {
    /// The metric, its unit at the end of its name.
    pub(in crate::api) metric: String,
    /// What tells it apart from other series of the metric.
    pub(in crate::api) labels: BTreeMap<String, String>,
    /// Its values, one a step, the oldest first. Steps without a value are left out.
    pub(in crate::api) points: Vec<PointView>,
}

/// What a series did in one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(in crate::api) struct PointView {
    /// When the step began, unix milliseconds.
    pub(in crate::api) at_ms: u64,
    /// The lowest value.
    pub(in crate::api) min: f64,
    /// The mean.
    pub(in crate::api) mean: f64,
    /// The highest value.
    pub(in crate::api) max: f64,
    /// The last value.
    pub(in crate::api) last: f64,
}

type Key = (Arc<str>, Labels);

/// Recent values.
#[derive(Debug, Default)]
pub(in crate::api) struct LiveSeries {
    latest: Arc<Sample>,
    series: BTreeMap<Key, VecDeque<(Timestamp, f64)>>,
    /// Readings of series for which there was no room.
    pub(in crate::api) discarded: u64,
}

impl LiveSeries {
    /// Takes in what was measured at one moment.
    pub(in crate::api) fn on_sample(&mut self, sample: &Arc<Sample>) {
        for reading in &sample.readings {
            self.push(sample.at, reading);
        }
        self.latest = Arc::clone(sample);
    }

    fn push(&mut self, at: Timestamp, reading: &Reading) {
        if !reading.value.is_finite() {
            return;
        }
        let key = (Arc::clone(&reading.metric), reading.labels.clone());
        if self.series.len() >= SERIES_CAPACITY && !self.series.contains_key(&key) {
            let oldest = Timestamp(at.0.saturating_sub(POINTS_CAPACITY as u64 * 1_000_000));
            self.series.retain(|_, points| points.back().is_some_and(|(last, _)| *last >= oldest));
            if self.series.len() >= SERIES_CAPACITY {
                self.discarded += 1;
                return;
            }
        }
        let points = self.series.entry(key).or_default();
        if points.len() >= POINTS_CAPACITY {
            points.pop_front();
        }
        points.push_back((at, reading.value));
    }

    /// The latest sample.
    pub(in crate::api) fn latest(&self) -> Arc<Sample> {
        Arc::clone(&self.latest)
    }

    /// Every metric that has a series.
    pub(in crate::api) fn metrics(&self) -> Vec<String> {
        let mut names: Vec<String> = self.series.keys().map(|(metric, _)| metric.to_string()).collect();
        names.dedup();
        names
    }

    /// The series of `metric` whose labels `fit`, from `from` to before `to`, at most `limit` of them.
    pub(in crate::api) fn query(
        &self,
        metric: &str,
        fit: impl Fn(&Labels) -> bool,
        (from, to): (Timestamp, Timestamp),
        step_ms: u64,
        limit: usize,
    ) -> Vec<SeriesView> {
        let first = (Arc::from(metric), Labels::new());
        let of_metric = self.series.range(first..).take_while(|((name, _), _)| &**name == metric);
        let fitting = of_metric.filter(|((_, labels), _)| fit(labels)).take(limit);
        fitting
            .map(|((metric, labels), points)| {
                let within = points.iter().filter(|(at, _)| *at >= from && *at < to);
                SeriesView {
                    metric: metric.to_string(),
                    labels: texts(labels),
                    points: resample(within.copied(), step_ms.max(1)),
                }
            })
            .collect()
    }
}

/// Labels as texts.
pub(in crate::api) fn texts(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn resample(points: impl Iterator<Item = (Timestamp, f64)>, step_ms: u64) -> Vec<PointView> {
    let mut steps: Vec<PointView> = Vec::new();
    let mut count = 0.0;
    for (at, value) in points {
        let at_ms = at.as_millis() / step_ms * step_ms;
        match steps.last_mut().filter(|step| step.at_ms == at_ms) {
            Some(step) => {
                count += 1.0;
                step.mean += (value - step.mean) / count;
                (step.min, step.max, step.last) = (step.min.min(value), step.max.max(value), value);
            }
            None => {
                count = 1.0;
                steps.push(PointView { at_ms, min: value, mean: value, max: value, last: value });
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u64, value: f64) -> Arc<Sample> {
        let readings = vec![
            Reading::new("lag_slots", value).with("endpoint", "ams"),
            Reading::new("lag_slots", value + 1.0).with("endpoint", "us"),
        ];
        Arc::new(Sample { at: Timestamp(second * 1_000_000), readings })
    }

    #[test]
    fn steps_keep_their_extremes() {
        let mut series = LiveSeries::default();
        [(10, 1.0), (11, 5.0), (12, 3.0), (20, 7.0)]
            .into_iter()
            .for_each(|(second, value)| series.on_sample(&sample(second, value)));
        let ams = |labels: &Labels| labels.get("endpoint").is_some_and(|value| &**value == "ams");
        let all = (Timestamp(0), Timestamp(u64::MAX));
        let found = series.query("lag_slots", ams, all, 10_000, 10);
        let first = PointView { at_ms: 10_000, min: 1.0, mean: 3.0, max: 5.0, last: 3.0 };
        let second = PointView { at_ms: 20_000, min: 7.0, mean: 7.0, max: 7.0, last: 7.0 };
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].points, [first, second]);
        assert_eq!(series.metrics(), ["lag_slots"]);
    }

    #[test]
    fn values_and_series_are_bounded() {
        let mut series = LiveSeries::default();
        (0..2_000).for_each(|second| series.on_sample(&sample(second, 0.0)));
        assert!(series.series.values().all(|points| points.len() == POINTS_CAPACITY));
        let many = (0..3_000).map(|id| Reading::new(format!("metric_{id:04}"), 1.0)).collect();
        series.on_sample(&Arc::new(Sample { at: Timestamp(2_000_000_000), readings: many }));
        assert_eq!(series.series.len(), SERIES_CAPACITY);
        assert_eq!(series.discarded, 3_002 - SERIES_CAPACITY as u64);
    }
}
