//! Names degradation: whether a series has become worse than it was, with a confidence, not whether it crosses a line.
//! Pure.
//!
//! A series is thinned to a point every ten seconds; the last five minutes are held against the hour before them (at least
//! ten minutes of it):
//!
//! - *effect*: how much worse the median is, as a share of the baseline's;
//! - *confidence*: the normal probability that the medians differ in that direction. The spread is the baseline's median
//!   absolute deviation, so that outliers don't blunt it, and neighbours that resemble each other count for less (the
//!   effective number of points by lag-1 autocorrelation);
//! - *slope*: Theil and Sen's median of all pairs' slopes over the five minutes;
//! - *change point*: where Page's CUSUM (drift 0.5 σ, threshold 5 σ) last left zero before its alarm.

use std::collections::VecDeque;
use std::time::Duration;

use crate::slot::Timestamp;

/// Time between two points.
const STEP: Duration = Duration::from_secs(10);
/// Points that are held against the baseline: five minutes.
const RECENT: usize = 30;
/// The least points of a baseline: ten minutes.
const MIN_BASELINE: usize = 60;
/// All points: an hour of baseline and the recent ones.
const POINTS: usize = 360 + RECENT;
/// CUSUM's drift and threshold, in standard deviations.
const DRIFT: f64 = 0.5;
const ALARM: f64 = 5.0;
/// Changes of less than this share of the baseline are nobody's concern, however sure they are; from twice this on they
/// count in full.
const MIN_EFFECT: f64 = 0.1;

/// Which way is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worse {
    Up,
    Down,
}

/// What a trend says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Finding {
    /// Change of the value a minute, by its recent slope.
    pub(super) slope_per_minute: f64,
    /// How much worse it has become, as a share of the baseline; negative if it has become better.
    pub(super) effect: f64,
    /// 0 to 1: how sure it is that the value has become worse by an amount that matters.
    pub(super) degradation: f64,
    /// How long ago it changed, if it did.
    pub(super) changed: Option<Duration>,
}

/// One series.
#[derive(Debug)]
pub(super) struct Trend {
    worse: Worse,
    /// Changes below this are noise, in the unit of the series.
    floor: f64,
    points: VecDeque<(Timestamp, f64)>,
    step: (Option<Timestamp>, f64, u32),
}

impl Trend {
    /// A series of which nothing is known.
    pub(super) fn new(worse: Worse, floor: f64) -> Self {
        Self { worse, floor, points: VecDeque::new(), step: (None, 0.0, 0) }
    }

    /// Takes a value; values of ten seconds become one point, their mean.
    pub(super) fn push(&mut self, at: Timestamp, value: f64) {
        let (begun, sum, count) = &mut self.step;
        let begin = *begun.get_or_insert(at);
        if at.since(begin) >= STEP && *count > 0 {
            if self.points.len() == POINTS {
                self.points.pop_front();
            }
            self.points.push_back((begin, *sum / f64::from(*count)));
            (*begun, *sum, *count) = (Some(at), 0.0, 0);
        }
        *sum += value;
        *count += 1;
    }

    /// What it says; nothing before there is a baseline.
    pub(super) fn finding(&self, now: Timestamp) -> Option<Finding> {
        let split = self.points.len().checked_sub(RECENT).filter(|split| *split >= MIN_BASELINE)?;
        let sign = if self.worse == Worse::Up { 1.0 } else { -1.0 };
        let values: Vec<f64> = self.points.iter().map(|(_, value)| sign * value).collect();
        let (baseline, recent) = values.split_at(split);
        let middle = median(baseline);
        let scale = middle.abs().max(self.floor);
        // 1.4826 makes the median absolute deviation of a normal distribution its standard deviation.
        let deviations: Vec<f64> = baseline.iter().map(|value| (value - middle).abs()).collect();
        let spread = (1.4826 * median(&deviations)).max(0.01 * scale).max(0.1 * self.floor);
        let difference = median(recent) - middle;
        let effect = difference / scale;
        // A median's standard error is 1.2533 times that of a mean.
        let error = 1.2533 * spread * (1.0 / effective(recent) + 1.0 / effective(baseline)).sqrt();
        let weight = ((effect - MIN_EFFECT) / MIN_EFFECT).clamp(0.0, 1.0);
        let changed = change_point(&values, middle, spread).and_then(|at| self.points.get(at));
        Some(Finding {
            slope_per_minute: sign * slope_per_step(recent) * 60.0 / STEP.as_secs_f64(),
            effect,
            degradation: normal(difference / error) * weight,
            changed: changed.map(|(at, _)| now.since(*at)),
        })
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// How many independent points these are worth.
fn effective(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let covariance: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    // Capped: a perfect ramp would be worth no point at all.
    let correlation = if variance > 0.0 { (covariance / variance).clamp(0.0, 0.9) } else { 0.0 };
    (count * (1.0 - correlation) / (1.0 + correlation)).max(1.0)
}

/// Theil and Sen's slope.
fn slope_per_step(values: &[f64]) -> f64 {
    let pairs = (0..values.len()).flat_map(|from| (from + 1..values.len()).map(move |to| (from, to)));
    let slopes: Vec<f64> = pairs.map(|(from, to)| (values[to] - values[from]) / (to - from) as f64).collect();
    median(&slopes)
}

/// Where the values began to rise, if CUSUM says that they did and they have not come back.
fn change_point(values: &[f64], middle: f64, spread: f64) -> Option<usize> {
    let (mut sum, mut begun) = (0.0_f64, None);
    for (at, value) in values.iter().enumerate() {
        sum = (sum + (value - middle) / spread - DRIFT).clamp(0.0, 10.0 * ALARM);
        begun = if sum > 0.0 { begun.or(Some(at)) } else { None };
    }
    begun.filter(|_| sum > ALARM)
}

/// The standard normal distribution, by Abramowitz and Stegun 26.2.17 (error below 7.5e-8).
fn normal(deviations: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * deviations.abs());
    let polynomial = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530]
        .iter()
        .fold(0.0, |sum, factor| (sum + factor) * t);
    let tail = (-deviations * deviations / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * polynomial;
    if deviations >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn second(second: u64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    /// An hour of `value` a second.
    fn finding(worse: Worse, value: impl Fn(u64) -> f64) -> Finding {
        let mut trend = Trend::new(worse, 1.0);
        (0..=3_600).for_each(|at| trend.push(second(at), value(at)));
        trend.finding(second(3_600)).expect("a baseline")
    }

    fn noise(at: u64) -> f64 {
        StdRng::seed_from_u64(at).random_range(-5.0..5.0)
    }

    #[test]
    fn a_steady_series_with_noise_is_no_degradation() {
        for seed in 0..20 {
            let found = finding(Worse::Up, |at| 100.0 + noise(at + 10_000 * seed));
            assert!(found.degradation < 0.1, "{found:?}");
        }
    }

    #[test]
    fn a_step_for_the_worse_is_named_with_when_it_came() {
        let found = finding(Worse::Up, |at| if at < 3_400 { 100.0 } else { 150.0 } + noise(at));
        assert!(found.degradation > 0.95 && found.effect > 0.4, "{found:?}");
        let ago = found.changed.expect("a change point").as_secs();
        assert!((180..=230).contains(&ago), "{ago}");
    }

    #[test]
    fn the_same_step_in_the_better_direction_is_none() {
        let found = finding(Worse::Down, |at| if at < 3_400 { 100.0 } else { 150.0 } + noise(at));
        assert!(found.degradation < 0.05 && found.effect < -0.4 && found.changed.is_none(), "{found:?}");
    }

    #[test]
    fn a_creeping_fall_has_its_slope_and_is_named() {
        let found =
            finding(Worse::Down, |at| 1_000.0 - 10.0 * (at.saturating_sub(3_000)) as f64 / 10.0 + noise(at));
        assert!((found.slope_per_minute + 60.0).abs() < 1.0, "{found:?}");
        assert!(found.degradation > 0.95, "{found:?}");
    }

    #[test]
    fn a_single_spike_is_forgiven() {
        let found = finding(Worse::Up, |at| if at / 10 == 350 { 900.0 } else { 100.0 } + noise(at));
        assert!(found.degradation < 0.1, "{found:?}");
    }

    #[test]
    fn what_is_sure_but_small_does_not_matter() {
        let found = finding(Worse::Up, |at| if at < 3_300 { 100.0 } else { 105.0 });
        assert_eq!(found.degradation, 0.0);
    }

    #[test]
    fn nothing_is_said_before_there_is_a_baseline() {
        let mut trend = Trend::new(Worse::Up, 1.0);
        (0..890).for_each(|at| trend.push(second(at), 1.0));
        assert_eq!(trend.finding(second(890)), None);
        (890..=910).for_each(|at| trend.push(second(at), 1.0));
        assert!(trend.finding(second(910)).is_some());
    }

    #[test]
    fn the_normal_distribution_is_the_known_one() {
        for (deviations, share) in [(0.0, 0.5), (1.0, 0.841_344_7), (1.96, 0.975_002_1), (-1.0, 0.158_655_3)]
        {
            assert!((normal(deviations) - share).abs() < 1e-6);
        }
    }
}
