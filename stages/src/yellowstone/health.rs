//! What is known of an endpoint: written by its source, read by whoever watches.
//!
//! Latencies are kept twice: as an exponentially weighted mean, which follows, and as a histogram of the last one to two
//! minutes, which tells the tail.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::slot::{Slot, Timestamp};

/// Weight of the newest value in a mean: half of it is made of the last seven.
const NEWEST_WEIGHT: f64 = 0.1;
/// How long values stay in a histogram before it becomes the previous one.
const WINDOW: Duration = Duration::from_secs(60);
/// The longest latency that is told apart: an hour.
const MAX_MICROS: u64 = 3_600_000_000;
/// Two digits: within one percent.
const DIGITS: u8 = 2;

/// What an endpoint is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// There is no connection yet, or none any more.
    #[default]
    Connecting,
    /// Subscribed in full.
    Active,
    /// Subscribed to slots only.
    Standby,
    /// Left alone after failing again and again.
    Resting,
    /// Not used because its data was proven wrong.
    Quarantined,
}

impl EndpointState {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Resting => "resting",
            Self::Quarantined => "quarantined",
        }
    }
}

/// A mean that follows the newest values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ewma(Option<f64>);

impl Ewma {
    /// Takes a value in.
    pub fn record(&mut self, value: f64) {
        self.0 = Some(self.0.map_or(value, |mean| mean + NEWEST_WEIGHT * (value - mean)));
    }

    /// The mean, `None` before the first value.
    pub fn get(self) -> Option<f64> {
        self.0
    }
}

/// How long something takes.
#[derive(Debug)]
pub struct Latency {
    mean: Ewma,
    current: Histogram<u32>,
    previous: Histogram<u32>,
    turned_at: Timestamp,
}

/// A [`Latency`] at one moment, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct LatencySnapshot {
    /// The mean that follows the newest values.
    pub mean: f64,
    /// Half of the last minute's are not above this.
    pub p50: f64,
    /// Nine in ten are not.
    pub p90: f64,
    /// Ninety-nine in a hundred are not.
    pub p99: f64,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = || Histogram::new_with_max(MAX_MICROS, DIGITS).expect("the bounds are valid");
        Self {
            mean: Ewma::default(),
            current: histogram(),
            previous: histogram(),
            turned_at: Timestamp::default(),
        }
    }
}

impl Latency {
    /// Takes a value in.
    pub fn record(&mut self, now: Timestamp, latency: Duration) {
        if now.since(self.turned_at) >= WINDOW {
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.reset();
            self.turned_at = now;
        }
        self.mean.record(latency.as_secs_f64() * 1_000.0);
        self.current.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// What it says now; `None` before the first value.
    pub fn snapshot(&self) -> Option<LatencySnapshot> {
        let mean = self.mean.get()?;
        let mut both = self.previous.clone();
        both.add(&self.current).expect("both have the same bounds");
        let millis = |quantile: f64| both.value_at_quantile(quantile) as f64 / 1_000.0;
        Some(LatencySnapshot { mean, p50: millis(0.5), p90: millis(0.9), p99: millis(0.99) })
    }
}

#[derive(Debug, Default)]
struct Known {
    state: EndpointState,
    slot: Slot,
    lag_slots: u64,
    round_trip: Latency,
    first_arrival: Latency,
    error_rate: Ewma,
    counts: HealthCounts,
    version: Option<String>,
    first_replayable: Option<Slot>,
    last_error: Option<String>,
}

/// What was counted of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct HealthCounts {
    /// Health checks that were answered.
    pub checks_total: u64,
    /// Requests and sessions that failed, rate limits apart.
    pub errors_total: u64,
    /// Requests that were refused because there were too many.
    pub rate_limited_total: u64,
    /// Times that it became active.
    pub promotions_total: u64,
    /// Times that it was put into quarantine.
    pub quarantines_total: u64,
}

/// All that is known of an endpoint at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct HealthSnapshot {
    /// What it is doing.
    pub state: EndpointState,
    /// The newest slot that it has shown, 0 if none.
    pub slot: Slot,
    /// How many slots it is behind the best endpoint of its source.
    pub lag_slots: u64,
    /// How long it takes to answer a request, in milliseconds.
    pub round_trip_ms: Option<LatencySnapshot>,
    /// How much later than the first endpoint of its source it shows slots, in milliseconds.
    pub first_arrival_ms: Option<LatencySnapshot>,
    /// The share of requests and sessions that failed lately.
    pub error_rate: f64,
    /// What was counted.
    #[serde(flatten)]
    pub counts: HealthCounts,
    /// What it says that it runs.
    pub version: Option<String>,
    /// The first slot that it can replay, where it says so.
    pub first_replayable_slot: Option<Slot>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Replays under way.
    pub replays_in_flight: u32,
}

/// What a health check learnt.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// How long the ping took.
    pub round_trip: Duration,
    /// What the endpoint says that it runs.
    pub version: Option<String>,
    /// Its newest slot.
    pub slot: Option<Slot>,
    /// The first slot that it can replay.
    pub first_replayable: Option<Slot>,
}

/// The shared view of one endpoint. Locked for as long as a copy takes.
#[derive(Debug, Default)]
pub struct EndpointHealth {
    known: Mutex<Known>,
    replays: AtomicU32,
}

impl EndpointHealth {
    /// All that is known now.
    pub fn snapshot(&self) -> HealthSnapshot {
        let known = self.lock();
        HealthSnapshot {
            state: known.state,
            slot: known.slot,
            lag_slots: known.lag_slots,
            round_trip_ms: known.round_trip.snapshot(),
            first_arrival_ms: known.first_arrival.snapshot(),
            error_rate: known.error_rate.get().unwrap_or_default(),
            counts: known.counts,
            version: known.version.clone(),
            first_replayable_slot: known.first_replayable,
            last_error: known.last_error.clone(),
            replays_in_flight: self.replays.load(Ordering::Relaxed),
        }
    }

    /// What a request costs here: the mean round trip in milliseconds times what is in flight, for the choice of the
    /// cheaper of two.
    pub fn load(&self) -> f64 {
        let (mean, errors) = {
            let known = self.lock();
            (known.round_trip.mean.get().unwrap_or(1.0), known.error_rate.get().unwrap_or_default())
        };
        // An endpoint that answers nothing at all counts as twenty times as far away.
        mean.max(0.1) * f64::from(1 + self.replays.load(Ordering::Relaxed)) * (1.0 + 19.0 * errors)
    }

    /// A replay begins; it is under way until the guard is dropped.
    pub fn begin_replay(&self) -> ReplayInFlight<'_> {
        self.replays.fetch_add(1, Ordering::Relaxed);
        ReplayInFlight(&self.replays)
    }

    /// What it is doing from now on; counts promotions and quarantines.
    pub fn set_state(&self, state: EndpointState) {
        let mut known = self.lock();
        if known.state != state {
            known.counts.promotions_total += u64::from(state == EndpointState::Active);
            known.counts.quarantines_total += u64::from(state == EndpointState::Quarantined);
            known.state = state;
        }
    }

    /// It has shown `slot`, `late` after the first of its source did.
    pub fn on_slot(&self, now: Timestamp, slot: Slot, late: Duration) {
        let mut known = self.lock();
        known.slot = known.slot.max(slot);
        known.first_arrival.record(now, late);
    }

    /// How many slots it is behind the best.
    pub fn set_best(&self, best: Slot) {
        let mut known = self.lock();
        known.lag_slots = best.saturating_sub(known.slot);
    }

    /// A health check was answered.
    pub fn on_check(&self, now: Timestamp, report: &CheckReport) {
        let mut known = self.lock();
        known.counts.checks_total += 1;
        known.round_trip.record(now, report.round_trip);
        known.error_rate.record(0.0);
        known.slot = known.slot.max(report.slot.unwrap_or_default());
        known.first_replayable = report.first_replayable;
        if report.version.is_some() {
            known.version.clone_from(&report.version);
        }
    }

    /// A request or a session failed.
    pub fn on_error(&self, reason: &str) {
        let mut known = self.lock();
        known.counts.errors_total += 1;
        known.error_rate.record(1.0);
        known.last_error = Some(reason.to_owned());
    }

    /// A request was refused because there were too many.
    pub fn on_rate_limited(&self) {
        self.lock().counts.rate_limited_total += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a replay for as long as it is under way.
#[derive(Debug)]
pub struct ReplayInFlight<'h>(&'h AtomicU32);

impl Drop for ReplayInFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0).after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_mean_follows_and_quantiles_forget() {
        let mut latency = Latency::default();
        assert_eq!(latency.snapshot(), None);
        (0..100).for_each(|_| latency.record(at(100), Duration::from_millis(200)));
        let before = latency.snapshot().expect("there are values");
        assert!((before.mean - 200.0).abs() < 1.0 && (before.p99 - 200.0).abs() < 3.0, "{before:?}");
        for minute in 3..6 {
            (0..100).for_each(|_| latency.record(at(minute * 60), Duration::from_millis(10)));
        }
        let after = latency.snapshot().expect("there are values");
        assert!(after.mean < 11.0 && after.p99 < 11.0, "{after:?}");
    }

    #[test]
    fn rate_limits_are_no_errors() {
        let health = EndpointHealth::default();
        health.on_rate_limited();
        let counts = health.snapshot().counts;
        assert_eq!((counts.errors_total, counts.rate_limited_total), (0, 1));
        assert_eq!(health.snapshot().error_rate, 0.0);
    }

    #[test]
    fn busy_far_and_failing_endpoints_cost_more() {
        let (near, far) = (EndpointHealth::default(), EndpointHealth::default());
        let check =
            |millis| CheckReport { round_trip: Duration::from_millis(millis), ..CheckReport::default() };
        near.on_check(at(1), &check(10));
        far.on_check(at(1), &check(30));
        assert!(near.load() < far.load());
        let replays: Vec<_> = (0..3).map(|_| near.begin_replay()).collect();
        assert!(near.load() > far.load());
        drop(replays);
        (0..5).for_each(|_| near.on_error("reset"));
        assert!(near.load() > far.load());
    }

    #[test]
    fn becoming_active_is_counted_once() {
        let health = EndpointHealth::default();
        for state in [EndpointState::Standby, EndpointState::Active, EndpointState::Active] {
            health.set_state(state);
        }
        assert_eq!(health.snapshot().counts.promotions_total, 1);
    }
}
