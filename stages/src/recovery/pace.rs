//! How fast one RPC node is asked, and when it is left alone. Pure: time comes in.

use std::time::Duration;

use crate::slot::Timestamp;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it. Default 5.
    pub failures_to_open: u32,
    /// Its first rest; doubled each time the probe after it fails. Default 1 s.
    pub min_rest: Duration,
    /// Its longest rest. Default 60 s.
    pub max_rest: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures_to_open: 5, min_rest: Duration::from_secs(1), max_rest: Duration::from_secs(60) }
    }
}

/// How long a probe may be out before another is let through; a probe whose task was cancelled never reports.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// Spaces requests out: `burst` at once, then one each interval.
///
/// Keeps one number: the time at which the next request would be due if requests came evenly. A caller reserves its
/// place and gets the time to wait, so that callers are served in the order in which they asked.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    tolerance: Duration,
    due: Timestamp,
    paused_until: Timestamp,
}

impl RateLimit {
    /// `requests_per_second` and `burst` of at least 1.
    pub fn new(requests_per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / requests_per_second.max(1);
        Self {
            interval,
            tolerance: interval.saturating_mul(burst.max(1) - 1),
            due: Timestamp(0),
            paused_until: Timestamp(0),
        }
    }

    /// Reserves the next place and returns how long to wait for it.
    pub fn reserve(&mut self, now: Timestamp) -> Duration {
        let wait = self.wait(now);
        self.due = self.due.max(now).after(self.interval);
        wait
    }

    /// How long a request would wait that reserved its place now.
    pub fn wait(&self, now: Timestamp) -> Duration {
        self.due.max(now).since(now).saturating_sub(self.tolerance)
    }

    /// Nothing may be sent for `wait`: the server said so.
    pub fn pause(&mut self, now: Timestamp, wait: Duration) {
        self.due = self.due.max(now.after(wait).after(self.tolerance));
        self.paused_until = self.paused_until.max(now.after(wait));
    }

    /// How long the pause still lasts.
    pub fn pause_left(&self, now: Timestamp) -> Duration {
        self.paused_until.since(now)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Requests pass; the number is of failures in a row.
    Closed(u32),
    /// No request passes.
    Open { until: Timestamp, rest: Duration },
    /// One request is out to see whether the node is back.
    Probing { until: Timestamp, rest: Duration },
}

/// Leaves a node alone that fails again and again.
///
/// ```text
///        `failures_to_open`          rest is over
///   Closed ────────────> Open ───────────────────> Probing
///     ^                   ^        failure, rest doubled │
///     │                   └──────────────────────────────┤
///     └──────────────────────────────────────────────────┘ success
/// ```
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: State,
}

impl Breaker {
    /// A breaker that lets requests pass.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: State::Closed(0) }
    }

    /// Whether a request may be sent; if not, how long to wait before asking again.
    ///
    /// # Errors
    /// The wait.
    pub fn pass(&mut self, now: Timestamp) -> Result<(), Duration> {
        match self.state {
            State::Closed(_) => Ok(()),
            State::Open { until, .. } | State::Probing { until, .. } if until > now => Err(until.since(now)),
            State::Open { rest, .. } | State::Probing { rest, .. } => {
                self.state = State::Probing { until: now.after(PROBE_TIMEOUT), rest };
                Ok(())
            }
        }
    }

    /// The node answered, whatever it said.
    pub fn on_answer(&mut self) {
        self.state = State::Closed(0);
    }

    /// The node could not be reached, or did not answer as a node does.
    pub fn on_failure(&mut self, now: Timestamp) {
        let BreakerPolicy { failures_to_open, min_rest, max_rest } = self.policy;
        self.state = match self.state {
            State::Closed(failures) if failures + 1 < failures_to_open => State::Closed(failures + 1),
            State::Closed(_) => State::Open { until: now.after(min_rest), rest: min_rest },
            State::Probing { rest, .. } => {
                let rest = rest.saturating_mul(2).min(max_rest);
                State::Open { until: now.after(rest), rest }
            }
            // A request that was out before the breaker opened says nothing new.
            open @ State::Open { .. } => open,
        };
    }

    /// Whether requests pass as usual.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// How long no request passes from now on.
    pub fn rest_left(&self, now: Timestamp) -> Duration {
        match self.state {
            State::Open { until, .. } => until.since(now),
            State::Closed(_) | State::Probing { .. } => Duration::ZERO,
        }
    }

    /// Whether a probe is out that has not been given up.
    pub fn is_probing(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Probing { until, .. } if until > now)
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new(BreakerPolicy::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp(millis * 1_000)
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rest_is_spaced_out() {
        let mut limit = RateLimit::new(10, 3);
        let waits: Vec<u128> = (0..5).map(|_| limit.reserve(at(1_000)).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
    }

    #[test]
    fn a_pause_holds_even_a_burst() {
        let mut limit = RateLimit::new(10, 3);
        limit.pause(at(0), Duration::from_secs(7));
        assert_eq!(limit.reserve(at(0)), Duration::from_secs(7));
        assert_eq!(limit.reserve(at(20_000)), Duration::ZERO);
    }

    #[test]
    fn who_has_a_place_already_waits_for_the_end_of_a_pause() {
        let mut limit = RateLimit::new(10, 1);
        limit.reserve(at(0));
        assert_eq!(limit.reserve(at(0)), Duration::from_millis(100));
        limit.pause(at(50), Duration::from_secs(1));
        assert_eq!(limit.pause_left(at(100)), Duration::from_millis(950));
        assert_eq!(limit.pause_left(at(1_050)), Duration::ZERO);
    }

    #[test]
    fn a_node_that_is_down_is_probed_ever_more_rarely() {
        let mut breaker = Breaker::default();
        for _ in 0..BreakerPolicy::default().failures_to_open {
            assert_eq!(breaker.pass(at(0)), Ok(()));
            breaker.on_failure(at(0));
        }
        assert_eq!(breaker.pass(at(0)), Err(BreakerPolicy::default().min_rest));
        assert_eq!(breaker.pass(at(1_000)), Ok(()), "the probe");
        assert!(breaker.pass(at(1_000)).is_err(), "one probe at a time");
        breaker.on_failure(at(1_100));
        assert_eq!(breaker.pass(at(1_100)), Err(Duration::from_secs(2)));
    }

    #[test]
    fn one_answer_closes_it() {
        let mut breaker = Breaker::default();
        (0..BreakerPolicy::default().failures_to_open).for_each(|_| breaker.on_failure(at(0)));
        assert!(!breaker.is_closed());
        assert_eq!(breaker.pass(at(5_000)), Ok(()));
        breaker.on_answer();
        assert!(breaker.is_closed());
    }

    #[test]
    fn a_probe_that_never_reports_does_not_close_the_door_for_good() {
        let mut breaker = Breaker::default();
        (0..BreakerPolicy::default().failures_to_open).for_each(|_| breaker.on_failure(at(0)));
        assert_eq!(breaker.pass(at(1_000)), Ok(()));
        assert_eq!(breaker.pass(at(1_000).after(PROBE_TIMEOUT)), Ok(()));
    }

    proptest! {
        #[test]
        fn no_second_sees_more_than_the_rate_and_the_burst(
            rate in 1_u32..50, burst in 1_u32..20, gaps in proptest::collection::vec(0_u64..200, 1..300)
        ) {
            let mut limit = RateLimit::new(rate, burst);
            let mut now = at(1_000_000);
            let mut sent = Vec::new();
            for gap in gaps {
                now = now.after(Duration::from_millis(gap));
                sent.push(now.after(limit.reserve(now)));
            }
            for (position, &first) in sent.iter().enumerate() {
                let within = sent[position..].iter().filter(|time| time.since(first) < Duration::from_millis(999));
                prop_assert!(within.count() as u32 <= rate + burst);
            }
        }
    }
}
