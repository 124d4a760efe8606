//! Merges samples into rows of one second, one minute and one hour. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use sluice_stages::sample::{Labels, Sample};

use super::query::Aggregate;

/// The lengths of rows, in seconds, rising.
pub(super) const RESOLUTIONS: [u64; 3] = [1, 60, 3_600];

/// A series as the store knows it: the same number in every run.
pub(super) type SeriesId = i64;

/// A row's key: series, resolution, begin in seconds.
pub(super) type RowKey = (SeriesId, u64, u64);

/// A series that the store may not know yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NewSeries {
    pub(super) id: SeriesId,
    pub(super) metric: Arc<str>,
    pub(super) labels: String,
}

/// Merges samples; holds what came in until it is told that it was written.
#[derive(Debug)]
pub(super) struct Rollup {
    pipeline: String,
    windows: Vec<String>,
    max_series: usize,
    ids: HashMap<(Arc<str>, Labels), SeriesId>,
    new: Vec<NewSeries>,
    rows: BTreeMap<RowKey, Aggregate>,
    discarded: u64,
}

impl Rollup {
    /// An empty one. Of series with a label `window` those of `windows` are kept.
    pub(super) fn new(pipeline: &str, windows: Vec<String>, max_series: usize) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            windows,
            max_series,
            ids: HashMap::new(),
            new: Vec::new(),
            rows: BTreeMap::new(),
            discarded: 0,
        }
    }

    /// Takes a sample in.
    pub(super) fn add(&mut self, sample: &Sample) {
        let second = sample.at.0 / 1_000_000;
        for reading in &sample.readings {
            let window = reading.labels.get("window");
            if window.is_some_and(|window| self.windows.iter().all(|kept| **kept != **window)) {
                continue;
            }
            if !reading.value.is_finite() {
                continue;
            }
            let Some(series) = self.series(&reading.metric, &reading.labels) else {
                self.discarded += 1;
                continue;
            };
            for resolution in RESOLUTIONS {
                let row = self.rows.entry((series, resolution, second - second % resolution));
                let value = Aggregate::of(reading.value);
                row.and_modify(|earlier| earlier.merge(value)).or_insert(value);
            }
        }
    }

    /// Series to be made known to the store.
    pub(super) fn new_series(&self) -> &[NewSeries] {
        &self.new
    }

    /// Rows to be merged into the store's; a key stands once, or PostgreSQL would refuse to merge them.
    pub(super) fn rows(&self) -> Vec<(RowKey, Aggregate)> {
        self.rows.iter().map(|(key, row)| (*key, *row)).collect()
    }

    /// How many rows there are to be written.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Forgets what was written: all that it holds.
    pub(super) fn clear(&mut self) {
        self.new.clear();
        self.rows.clear();
    }

    /// Readings beyond the bound of series so far.
    pub(super) fn discarded(&self) -> u64 {
        self.discarded
    }

    fn series(&mut self, metric: &Arc<str>, labels: &Labels) -> Option<SeriesId> {
        let key = (Arc::clone(metric), labels.clone());
        if let Some(id) = self.ids.get(&key) {
            return Some(*id);
        }
        if self.ids.len() >= self.max_series {
            return None;
        }
        // Labels are texts, which JSON can hold.
        let labels = serde_json::to_string(labels).unwrap_or_default();
        let id = series_id(&self.pipeline, metric, &labels);
        self.new.push(NewSeries { id, metric: Arc::clone(metric), labels });
        self.ids.insert(key, id);
        Some(id)
    }
}

fn series_id(pipeline: &str, metric: &str, labels: &str) -> SeriesId {
    let mut hasher = Sha256::new();
    for part in [pipeline, metric, labels] {
        hasher.update(part);
        hasher.update([0]);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize()[..8]);
    i64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use sluice_stages::sample::Reading;
    use sluice_stages::slot::Timestamp;

    use super::*;

    fn sample(second: u64, readings: Vec<Reading>) -> Sample {
        Sample { at: Timestamp(second * 1_000_000), readings }
    }

    #[test]
    fn a_value_counts_at_every_resolution() {
        let mut rollup = Rollup::new("p", Vec::new(), 10);
        rollup.add(&sample(3_659, vec![Reading::new("m", 4.0)]));
        rollup.add(&sample(3_660, vec![Reading::new("m", 2.0)]));
        let id = rollup.new_series()[0].id;
        let keys: Vec<_> = rollup.rows().iter().map(|(key, row)| (*key, row.count)).collect();
        let expected = [
            ((id, 1, 3_659), 1),
            ((id, 1, 3_660), 1),
            ((id, 60, 3_600), 1),
            ((id, 60, 3_660), 1),
            ((id, 3_600, 3_600), 2),
        ];
        assert_eq!(keys, expected);
        rollup.clear();
        assert_eq!((rollup.new_series(), rollup.len()), (&[][..], 0));
    }

    #[test]
    fn a_series_is_the_same_in_every_run_and_another_in_every_pipeline() {
        let id = |pipeline: &str| {
            let mut rollup = Rollup::new(pipeline, Vec::new(), 10);
            rollup.add(&sample(0, vec![Reading::new("m", 1.0).with("a", "x")]));
            rollup.new_series()[0].id
        };
        assert_eq!(id("p"), id("p"));
        assert_ne!(id("p"), id("q"));
    }

    #[test]
    fn series_beyond_the_bound_and_unwanted_windows_are_left_out() {
        let mut rollup = Rollup::new("p", vec!["10s".to_owned()], 2);
        let of = |window: &str| Reading::new("m", 1.0).with("window", window);
        rollup.add(&sample(0, vec![of("1m"), of("10s"), Reading::new("b", 1.0), Reading::new("c", 1.0)]));
        rollup.add(&sample(1, vec![Reading::new("b", f64::NAN)]));
        let series = rollup.new_series().iter();
        assert_eq!(series.map(|series| &*series.metric).collect::<Vec<_>>(), ["m", "b"]);
        assert_eq!(rollup.discarded(), 1);
    }
}
