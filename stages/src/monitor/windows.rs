//! Values over windows: counters and latencies of the last ten seconds, minute, five minutes and hour. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::slot::Timestamp;

/// A length of time over which something is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// The value of the label `window`.
    pub(super) name: &'static str,
    pub(super) length: Duration,
}

const fn window(name: &'static str, seconds: u64) -> Window {
    Window { name, length: Duration::from_secs(seconds) }
}

/// The windows, rising.
pub(super) const WINDOWS: [Window; 4] =
    [window("10s", 10), window("1m", 60), window("5m", 300), window("1h", 3_600)];

/// The quantiles that are shown.
pub(super) const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

/// Single values are kept for this long; ten-second steps for the longest window.
const FINE: Duration = Duration::from_secs(61);
const STEP: Duration = Duration::from_secs(10);
/// How much longer than a window its values are kept, so that one is always at or before its begin.
const SLACK: Duration = Duration::from_secs(11);

/// What a counter showed when. Holds some 70 fine and 360 coarse values for ticks of a second.
#[derive(Debug, Default)]
pub(super) struct Counter {
    fine: VecDeque<(Timestamp, f64)>,
    coarse: VecDeque<(Timestamp, f64)>,
}

impl Counter {
    /// Takes the counter's value at a time.
    pub(super) fn push(&mut self, at: Timestamp, value: f64) {
        self.fine.push_back((at, value));
        if self.coarse.back().is_none_or(|(last, _)| at.since(*last) >= STEP) {
            self.coarse.push_back((at, value));
        }
        let longest = WINDOWS[WINDOWS.len() - 1].length + SLACK;
        forget(&mut self.fine, at, FINE + SLACK);
        forget(&mut self.coarse, at, longest);
    }

    /// How much it grew over a window, and in how many seconds: none before the window has passed once, but for the
    /// longer ones, which begin with what there is after a minute.
    pub(super) fn growth(&self, window: Window) -> Option<(f64, f64)> {
        let (now, value) = *self.fine.back()?;
        let values = if window.length < FINE { &self.fine } else { &self.coarse };
        let begin = values.iter().rev().find(|(at, _)| now.since(*at) >= window.length);
        let (at, before) = *begin.or_else(|| values.front())?;
        let passed = now.since(at);
        let enough = window.length.min(WINDOWS[1].length);
        (passed >= enough).then_some((value - before, passed.as_secs_f64()))
    }

    /// How much it grew a second.
    pub(super) fn rate(&self, window: Window) -> Option<f64> {
        self.growth(window).map(|(growth, seconds)| growth / seconds)
    }
}

fn forget<T>(values: &mut VecDeque<(Timestamp, T)>, now: Timestamp, after: Duration) {
    while values.front().is_some_and(|(at, _)| now.since(*at) > after) {
        values.pop_front();
    }
}

/// Latencies with the time at which each was measured, at most [`Latencies::CAPACITY`]: beyond that the oldest go.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    values: VecDeque<(Timestamp, u64)>,
}

impl Latencies {
    /// An hour of the live chain from several endpoints; after that the longest window is shorter than it says.
    const CAPACITY: usize = 20_000;
    /// The longest latency that is told apart, in microseconds: an hour.
    const HIGHEST_MICROS: u64 = 3_600_000_000;

    /// Takes a latency.
    pub(super) fn push(&mut self, at: Timestamp, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if self.values.len() == Self::CAPACITY {
            self.values.pop_front();
        }
        self.values.push_back((at, micros.clamp(1, Self::HIGHEST_MICROS)));
    }

    /// Forgets what is older than the longest window.
    pub(super) fn forget(&mut self, now: Timestamp) {
        forget(&mut self.values, now, WINDOWS[WINDOWS.len() - 1].length);
    }

    /// The distribution over a window: each quantile in milliseconds; none if nothing was measured.
    pub(super) fn quantiles(&self, now: Timestamp, window: Window) -> Option<[f64; QUANTILES.len()]> {
        // Two digits: an error of a hundredth at most, and a histogram that is small enough to be made each second.
        let mut histogram = Histogram::<u32>::new_with_bounds(1, Self::HIGHEST_MICROS, 2).ok()?;
        for (_, micros) in self.values.iter().rev().take_while(|(at, _)| now.since(*at) <= window.length) {
            histogram.saturating_record(*micros);
        }
        let value = |(_, quantile): (&str, f64)| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        (!histogram.is_empty()).then(|| QUANTILES.map(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    #[test]
    fn a_rate_is_the_growth_over_exactly_its_window() {
        let mut counter = Counter::default();
        for at in 0..4_000 {
            counter
                .push(second(at), if at < 3_990 { at as f64 } else { 3_990.0 + 5.0 * (at - 3_990) as f64 });
        }
        assert_eq!(counter.growth(WINDOWS[0]), Some((46.0, 10.0)));
        let (growth, seconds) = counter.growth(WINDOWS[3]).expect("an hour");
        assert!((3_600.0..=3_610.0).contains(&seconds), "{seconds}");
        assert_eq!(growth, seconds + 36.0);
        assert!(counter.fine.len() < 80 && counter.coarse.len() < 370);
    }

    #[test]
    fn a_window_that_has_not_passed_shows_nothing_but_for_the_long_ones() {
        let mut counter = Counter::default();
        (0..10).for_each(|at| counter.push(second(at), at as f64));
        assert_eq!(counter.rate(WINDOWS[0]), None);
        counter.push(second(10), 10.0);
        assert_eq!(counter.rate(WINDOWS[0]), Some(1.0));
        assert_eq!(counter.rate(WINDOWS[3]), None);
        (11..70).for_each(|at| counter.push(second(at), at as f64));
        assert_eq!(counter.rate(WINDOWS[3]), Some(1.0));
    }

    #[test]
    fn quantiles_are_of_the_window_alone() {
        let mut latencies = Latencies::default();
        latencies.push(second(0), Duration::from_secs(9));
        (1..=100).for_each(|number| latencies.push(second(50), Duration::from_millis(number)));
        let [p50, p90, p99, max] = latencies.quantiles(second(55), WINDOWS[0]).expect("values");
        for (found, expected) in [(p50, 50.0), (p90, 90.0), (p99, 99.0), (max, 100.0)] {
            assert!((found / expected - 1.0_f64).abs() < 0.01, "{found} {expected}");
        }
        let [.., max] = latencies.quantiles(second(55), WINDOWS[1]).expect("values");
        assert!((max / 9_000.0 - 1.0_f64).abs() < 0.01);
        assert_eq!(latencies.quantiles(second(90), WINDOWS[0]), None);
        latencies.forget(second(3_700));
        assert_eq!(latencies.values.len(), 0);
    }

    #[test]
    fn latencies_are_bounded() {
        let mut latencies = Latencies::default();
        (0..=Latencies::CAPACITY as u64).for_each(|_| latencies.push(second(0), Duration::MAX));
        assert_eq!(latencies.values.len(), Latencies::CAPACITY);
    }
}
