//! Samples: what the performance monitor measured, as the alert evaluator, the history and the API read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::slot::Timestamp;

/// Names and values of the labels of a series, in the order of their names.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// All that was measured at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Every series that has a value now; one that has none is absent, which is not the same as zero.
    pub readings: Vec<Reading>,
}

/// One value of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The metric, with its unit at the end of its name, e.g. `latency_ms`.
    pub metric: Arc<str>,
    /// What tells it apart from other series of the metric, e.g. `endpoint`, `quantile`, `window`.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

impl Reading {
    /// A reading without labels.
    pub fn new(metric: impl Into<Arc<str>>, value: f64) -> Self {
        Self { metric: metric.into(), labels: Labels::new(), value }
    }

    /// The same with a label more.
    #[must_use]
    pub fn with(mut self, name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }
}

impl Sample {
    /// Bytes that it holds in memory, about.
    pub fn size_bytes(&self) -> usize {
        // A reading has some two labels, whose texts are shared.
        const LABELS_BYTES: usize = 128;
        self.readings.len() * (size_of::<Reading>() + LABELS_BYTES)
    }
}
