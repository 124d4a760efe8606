//! What can be asked of the history, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sluice_stages::alert::{Alert, AlertState, Severity};
use sluice_stages::matcher::Matcher;
use sluice_stages::sample::Labels;
use sluice_stages::slot::Timestamp;
use thiserror::Error;

/// Most points of a series in one answer: Prometheus' own limit, more than any screen has columns.
pub const MAX_POINTS: u64 = 11_000;
/// Most series in one answer.
pub const MAX_SERIES: usize = 500;
/// Most rows that are read for one answer: about a second's work.
pub const MAX_ROWS: u64 = 1_000_000;
/// Most alert changes on a page.
pub const MAX_PAGE: usize = 1_000;

/// Asks for the series of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesQuery {
    /// The metric.
    pub metric: String,
    /// Which of its series: those whose labels fit all of these.
    pub matchers: Vec<Matcher>,
    /// The begin of the range; rounded down to a multiple of `step`.
    pub from: Timestamp,
    /// The end of the range, included.
    pub to: Timestamp,
    /// Time between points, in whole seconds; at least one.
    pub step: Duration,
}

impl SeriesQuery {
    /// The step in seconds.
    pub(super) fn step_seconds(&self) -> u64 {
        self.step.as_secs().max(1)
    }

    /// The first and the last second of the range; the first is a multiple of the step.
    pub(super) fn seconds(&self) -> (u64, u64) {
        let (step, from, to) = (self.step_seconds(), self.from.0 / 1_000_000, self.to.0 / 1_000_000);
        (from - from % step, to)
    }

    /// Checks it before the store is asked.
    pub(super) fn check(&self) -> Result<(), HistoryError> {
        if self.to < self.from {
            return Err(HistoryError::Backwards);
        }
        let (from, to) = self.seconds();
        let points = (to - from) / self.step_seconds() + 1;
        if points > MAX_POINTS { Err(HistoryError::TooManyPoints(points)) } else { Ok(()) }
    }
}

/// One series over a range.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// The metric.
    pub metric: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its points, rising in time; a step without a value has none.
    pub points: Vec<Point>,
}

/// What a series did in one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The begin of the step.
    pub at: Timestamp,
    /// The lowest value.
    pub min: f64,
    /// The highest value.
    pub max: f64,
    /// The mean of the values. Of a quantile it is the mean of what was shown, not the quantile of the step.
    pub mean: f64,
    /// The latest value.
    pub last: f64,
}

/// Asks for changes of alerts, the newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AlertQuery {
    /// Only changes into one of these states; empty for all.
    pub states: Vec<AlertState>,
    /// Only alerts of these severities; empty for all.
    pub severities: Vec<Severity>,
    /// Only alerts of this rule.
    pub rule: Option<String>,
    /// Only changes at or after this time.
    pub from: Option<Timestamp>,
    /// Only changes at or before this time.
    pub to: Option<Timestamp>,
    /// Only changes before this one: [`AlertPage::next`] of the page before.
    pub before: Option<i64>,
    /// Changes on the page; at most 1,000.
    pub limit: usize,
}

/// A page of alert changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlertPage {
    /// The changes, the newest first.
    pub changes: Vec<AlertChange>,
    /// Where the next page begins; none on the last one.
    pub next: Option<i64>,
}

/// One change of one alert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlertChange {
    /// Orders the changes of a pipeline.
    pub id: i64,
    /// When it was written down.
    pub at: Timestamp,
    /// The alert as it was from then on.
    pub alert: Alert,
}

/// Why the history has no answer.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The pipeline has no `history` sink, or it has not opened its store yet.
    #[error(
        "no history is kept: add a sink of type `history` to the pipeline, or try again if it has just started"
    )]
    NotKept,
    /// The range ends before it begins.
    #[error("the range ends before it begins")]
    Backwards,
    /// The answer would be too long.
    #[error("{0} points a series are more than {MAX_POINTS}, ask for a longer step or a shorter range")]
    TooManyPoints(u64),
    /// Too many series fit.
    #[error("{0} series fit, more than {MAX_SERIES}; name more of their labels")]
    TooManySeries(usize),
    /// The store would have to read too much.
    #[error("{0} rows would have to be read, more than {MAX_ROWS}; ask for fewer series or a shorter range")]
    TooManyRows(u64),
    /// The store did not answer in time.
    #[error("the store of the history did not answer in time")]
    Timeout,
    /// The store failed.
    #[error("the store of the history failed: {0}")]
    Store(#[from] sqlx::Error),
}

impl HistoryError {
    /// Whether the same question may be answered later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NotKept | Self::Timeout | Self::Store(_))
    }
}

/// A row of the store, or several merged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Aggregate {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) sum: f64,
    pub(super) count: i64,
    pub(super) last: f64,
}

impl Aggregate {
    /// One value.
    pub(super) fn of(value: f64) -> Self {
        Self { min: value, max: value, sum: value, count: 1, last: value }
    }

    /// Takes in what came later.
    pub(super) fn merge(&mut self, later: Self) {
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.sum += later.sum;
        self.count += later.count;
        self.last = later.last;
    }

    fn point(self, second: u64) -> Point {
        let Self { min, max, sum, count, last } = self;
        Point { at: Timestamp(second * 1_000_000), min, max, mean: sum / count.max(1) as f64, last }
    }
}

/// Turns rows of a series into points of a step.
#[derive(Debug)]
pub(super) struct Resampler {
    step: u64,
    steps: BTreeMap<u64, Aggregate>,
}

impl Resampler {
    /// A resampler to steps of `step` seconds.
    pub(super) fn new(step: u64) -> Self {
        Self { step, steps: BTreeMap::new() }
    }

    /// Takes the row of a second; rows come in the order of time.
    pub(super) fn take(&mut self, second: u64, row: Aggregate) {
        let step = self.steps.entry(second - second % self.step);
        step.and_modify(|earlier| earlier.merge(row)).or_insert(row);
    }

    /// The points.
    pub(super) fn points(self) -> Vec<Point> {
        self.steps.into_iter().map(|(second, row)| row.point(second)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(from: u64, to: u64, step: u64) -> SeriesQuery {
        let at = |seconds: u64| Timestamp(seconds * 1_000_000);
        SeriesQuery {
            metric: "m".to_owned(),
            matchers: Vec::new(),
            from: at(from),
            to: at(to),
            step: Duration::from_secs(step),
        }
    }

    #[test]
    fn ranges_are_bounded_and_aligned() {
        assert_eq!(query(7, 20, 5).seconds(), (5, 20));
        assert!(query(0, MAX_POINTS - 1, 1).check().is_ok());
        assert!(matches!(query(0, MAX_POINTS, 1).check(), Err(HistoryError::TooManyPoints(_))));
        assert!(matches!(query(2, 1, 1).check(), Err(HistoryError::Backwards)));
    }

    #[test]
    fn rows_of_a_step_become_one_point() {
        let mut resampler = Resampler::new(10);
        for (second, value) in [(10, 4.0), (19, 2.0), (20, 7.0)] {
            resampler.take(second, Aggregate::of(value));
        }
        let first = Point { at: Timestamp(10_000_000), min: 2.0, max: 4.0, mean: 3.0, last: 2.0 };
        let second = Point { at: Timestamp(20_000_000), min: 7.0, max: 7.0, mean: 7.0, last: 7.0 };
        assert_eq!(resampler.points(), [first, second]);
    }
}
