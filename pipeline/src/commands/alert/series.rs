//! Series in promtool's notation, and what is expected of rules that run over them.
//!
//! ```toml
//! interval = "1s"                      # time between two values
//!
//! [[series]]
//! metric = "lag_slots"
//! labels = { endpoint = "ams" }
//! values = "10x9 200+5x30 _x10 3"      # 10 ten times, 200 205 … 350, nothing ten times, 3
//!
//! [[alerts]]
//! at = "14s"
//! rule = "behind"
//! state = "firing"                     # or pending, or inactive
//!
//! [[notices]]
//! at = "25s"
//! firing = ["behind"]                  # the rules of the alerts that are told of then; none: nobody is told
//! resolved = []
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use sluice_stages::sample::{Reading, Sample};
use sluice_stages::slot::Timestamp;

/// Most values of a series: four months of seconds would be more than anybody wants to wait for.
const MAX_VALUES: usize = 1_000_000;

/// A file of series.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SeriesFile {
    #[serde(with = "sluice_config::units::option_duration")]
    interval: Option<Duration>,
    series: Vec<Series>,
    pub(super) alerts: Vec<ExpectedAlert>,
    pub(super) notices: Vec<ExpectedNotice>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    metric: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    values: String,
}

/// What is expected of a rule at a time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedAlert {
    #[serde(with = "sluice_config::units::duration")]
    pub(super) at: Duration,
    pub(super) rule: String,
    pub(super) state: ExpectedState,
    /// Labels that the alert has to have, among others.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ExpectedState {
    Inactive,
    Pending,
    Firing,
}

impl ExpectedState {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// What people are expected to be told at a time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedNotice {
    #[serde(with = "sluice_config::units::duration")]
    pub(super) at: Duration,
    #[serde(default)]
    pub(super) firing: Vec<String>,
    #[serde(default)]
    pub(super) resolved: Vec<String>,
}

impl SeriesFile {
    /// The samples: one each interval, from time 0 on.
    pub(super) fn samples(&self) -> anyhow::Result<Vec<Sample>> {
        let interval = self.interval.unwrap_or(Duration::from_secs(1));
        ensure!(!interval.is_zero(), "`interval` is no time at all");
        let mut columns = Vec::new();
        for series in &self.series {
            let values =
                expand(&series.values).with_context(|| format!("the values of `{}`", series.metric))?;
            columns.push((series, values));
        }
        let length = columns.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
        let sample = |at: usize| {
            let reading = |(series, values): &(&Series, Vec<Option<f64>>)| {
                let value = values.get(at).copied().flatten()?;
                let reading = Reading::new(series.metric.as_str(), value);
                Some(
                    series
                        .labels
                        .iter()
                        .fold(reading, |reading, (name, value)| reading.with(name.as_str(), value.as_str())),
                )
            };
            let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).saturating_mul(at as u64);
            Sample { at: Timestamp(micros), readings: columns.iter().filter_map(reading).collect() }
        };
        Ok((0..length).map(sample).collect())
    }
}

/// The values of promtool's notation: `a`, `_`, `stale`, `axn`, `_xn`, `a+bxn` and `a-bxn`. As there, `axn` stands for
/// n + 1 values and `_xn` for n.
fn expand(text: &str) -> anyhow::Result<Vec<Option<f64>>> {
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        let (first, step, count) = parse(word).with_context(|| format!("`{word}` can't be read"))?;
        ensure!(values.len() + count <= MAX_VALUES, "more than {MAX_VALUES} values");
        values.extend((0..count).map(|at| first.map(|first| first + step * at as f64)));
    }
    Ok(values)
}

/// The first value, the step, and how many there are.
fn parse(word: &str) -> anyhow::Result<(Option<f64>, f64, usize)> {
    let (value, times) = match word.rsplit_once('x') {
        Some((value, times)) => {
            (value, Some(times.parse::<usize>().context("the number behind `x` is none")?))
        }
        None => (word, None),
    };
    if value == "_" || value == "stale" {
        return Ok((None, 0.0, times.unwrap_or(1)));
    }
    // A sign at the begin belongs to the value, one behind an `e` to its exponent.
    let is_step = |(at, letter): &(usize, char)| {
        *at > 0 && ['+', '-'].contains(letter) && !value[..*at].ends_with(['e', 'E'])
    };
    let split = value.char_indices().find(is_step).map(|(at, _)| at);
    let (first, step) = match (split, times) {
        (Some(at), Some(_)) => (&value[..at], value[at..].parse().context("the step is not a number")?),
        (Some(_), None) => bail!("a step needs a number of times, e.g. `1+2x10`"),
        (None, _) => (value, 0.0),
    };
    let first = first.parse::<f64>().context("the value is not a number")?;
    Ok((Some(first), step, times.map_or(1, |times| times.saturating_add(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_expanded_as_promtool_expands_them() {
        let expand = |text: &str| expand(text).expect("values");
        assert_eq!(expand("1+2x3"), [1.0, 3.0, 5.0, 7.0].map(Some));
        assert_eq!(expand("-1-1x1 4x2"), [-1.0, -2.0, 4.0, 4.0, 4.0].map(Some));
        assert_eq!(expand("_x2 _ 1e-3 stale"), [None, None, None, Some(0.001), None]);
        assert_eq!(expand(""), []);
    }

    #[test]
    fn what_can_not_be_read_is_refused() {
        for text in ["a", "1x", "1+2", "1+ax3", "1xx2", "1x2000000"] {
            assert!(expand(text).is_err(), "{text}");
        }
    }

    #[test]
    fn series_line_up_by_time() {
        let text = "interval = '10s'\n[[series]]\nmetric = 'a'\nvalues = '1 2'\n[[series]]\nmetric = 'b'\nlabels = { x = 'y' }\nvalues = '_ 3 4'";
        let file: SeriesFile = toml::from_str(text).expect("series");
        let samples = file.samples().expect("samples");
        let sizes: Vec<_> = samples.iter().map(|sample| (sample.at.0, sample.readings.len())).collect();
        assert_eq!(sizes, [(0, 1), (10_000_000, 2), (20_000_000, 1)]);
    }
}
