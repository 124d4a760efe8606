//! How one RPC node stands: what it bears, what a question costs there, whether it is left alone. Pure: time comes in.
//!
//! A request passes three gates in this order: the breaker ([`Standing::pass`]: refuses at once while the node is down or
//! wants a pause), as many requests at a time as the node bears ([`Standing::try_begin`]), and the rate limit
//! ([`Standing::turn`]: a wait, for retries like for all others). Who waits there when a pause begins is refused, too
//! ([`Standing::pause`]): another node may be free. What came of a request goes to [`Standing::on_outcome`].

use std::cmp::Ordering;
use std::time::Duration;

use super::error::FetchError;
use super::options::RpcOptions;
use crate::recovery::concurrency::Concurrency;
use crate::recovery::pace::{Breaker, RateLimit};
use crate::slot::Timestamp;
use crate::yellowstone::health::Ewma;

/// The pause after a "too many requests" that does not say how long.
const DEFAULT_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause that is kept, whatever the node asks for: a typo in it must not stop recovery for a year.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// Share of the newest answers that may be failures before they count as overload: of the last ten some three. Single
/// failures say nothing of how much a node bears, and halving for each would leave most of its limit unused.
const MAX_FAILING: f64 = 1.0 / 3.0;

/// What a question costs more at a node that only fails: such a one answers quickly, and would draw all questions.
const FAILING_COST: f64 = 10.0;

/// What was counted of one RPC node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RpcCounts {
    /// Requests sent.
    pub requests: u64,
    /// Requests that were not answered as they should be, rate limits apart.
    pub errors: u64,
    /// Requests that were refused because there were too many.
    pub rate_limited: u64,
}

/// What a request says of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is there and answers.
    Answered,
    /// It is there, but can't answer such questions.
    Useless,
    /// It wants to be asked less, for so long if it said so.
    RateLimited(Option<Duration>),
    /// It is in trouble, and says for how long.
    Unavailable(Duration),
    /// It did not answer, or as a node in trouble does.
    Failed,
}

/// What the choice among nodes goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    /// Whether the node is left alone because it failed repeatedly, or asked for a pause.
    pub rests: bool,
    /// Whether it has as many requests as it bears.
    pub is_full: bool,
    /// What another request would cost there, in milliseconds.
    pub cost: f64,
}

impl Offer {
    /// The better one first.
    pub fn compare(&self, other: &Self) -> Ordering {
        self.class().cmp(&other.class()).then(self.cost.total_cmp(&other.cost))
    }

    /// Whether only the cost tells them apart.
    pub fn is_of_the_same_class_as(&self, other: &Self) -> bool {
        self.class() == other.class()
    }

    fn class(&self) -> (bool, bool) {
        (self.rests, self.is_full)
    }
}

/// The state.
#[derive(Debug)]
pub struct Standing {
    breaker: Breaker,
    concurrency: Concurrency,
    limit: RateLimit,
    latency_ms: Ewma,
    failing: Ewma,
    /// Requests under way, and those that wait to be.
    pending: usize,
    counts: RpcCounts,
}

impl Standing {
    /// Of a node that was not asked yet.
    pub fn new(options: &RpcOptions) -> Self {
        let mut failing = Ewma::default();
        failing.record(0.0);
        Self {
            breaker: Breaker::default(),
            concurrency: Concurrency::new(options.max_in_flight),
            limit: RateLimit::new(options.requests_per_second, options.burst),
            latency_ms: Ewma::default(),
            failing,
            pending: 0,
            counts: RpcCounts::default(),
        }
    }

    /// Whether a request may be made.
    ///
    /// # Errors
    /// Why not, with the wait.
    pub fn pass(&mut self, now: Timestamp) -> Result<(), FetchError> {
        self.pause(now)?;
        self.breaker.pass(now).map_err(|retry_after| FetchError::Resting { retry_after })
    }

    /// Whether no pause is under way that the node asked for.
    ///
    /// # Errors
    /// [`FetchError::Paused`].
    pub fn pause(&self, now: Timestamp) -> Result<(), FetchError> {
        let retry_after = self.pause_left(now);
        if retry_after.is_zero() { Ok(()) } else { Err(FetchError::Paused { retry_after }) }
    }

    /// A request wants a place.
    pub fn on_pending(&mut self) {
        self.pending += 1;
    }

    /// Takes a place for it, if there is one.
    pub fn try_begin(&mut self) -> bool {
        self.concurrency.try_begin()
    }

    /// The request is over, or given up; `begun` if it had a place.
    pub fn on_over(&mut self, begun: bool) {
        self.pending = self.pending.saturating_sub(1);
        if begun {
            self.concurrency.on_over();
        }
    }

    /// Reserves the next turn and returns how long to wait for it.
    pub fn turn(&mut self, now: Timestamp) -> Duration {
        self.limit.reserve(now)
    }

    /// How long a pause still lasts that the node asked for.
    pub fn pause_left(&self, now: Timestamp) -> Duration {
        self.limit.pause_left(now)
    }

    /// A request is sent.
    pub fn on_sent(&mut self) {
        self.counts.requests += 1;
    }

    /// What came of it, after `took`. Returns the pause that begins with it, if one does; one under way only grows.
    pub fn on_outcome(&mut self, now: Timestamp, took: Duration, outcome: Outcome) -> Option<Duration> {
        self.latency_ms.record(took.as_secs_f64() * 1_000.0);
        self.failing.record(f64::from(u8::from(outcome != Outcome::Answered)));
        match outcome {
            Outcome::Answered | Outcome::Useless => {
                self.counts.errors += u64::from(outcome == Outcome::Useless);
                self.concurrency.on_answer();
                self.breaker.on_answer();
                None
            }
            Outcome::RateLimited(wait) => {
                self.counts.rate_limited += 1;
                self.concurrency.on_overload(now);
                self.breaker.on_answer();
                self.begin_pause(now, wait)
            }
            Outcome::Unavailable(wait) => {
                self.on_failed(now);
                self.begin_pause(now, Some(wait))
            }
            Outcome::Failed => {
                self.on_failed(now);
                None
            }
        }
    }

    fn on_failed(&mut self, now: Timestamp) {
        self.counts.errors += 1;
        if self.failing() > MAX_FAILING {
            self.concurrency.on_overload(now);
        }
        self.breaker.on_failure(now);
    }

    fn begin_pause(&mut self, now: Timestamp, asked: Option<Duration>) -> Option<Duration> {
        let begins = self.pause_left(now).is_zero();
        // A wait of nothing is what a date that just passed amounts to.
        let wait = asked.filter(|wait| !wait.is_zero()).unwrap_or(DEFAULT_PAUSE).min(LONGEST_PAUSE);
        self.limit.pause(now, wait);
        begins.then_some(wait)
    }

    /// Whether the node is left alone: it failed repeatedly, or asked for a pause.
    pub fn rests(&self, now: Timestamp) -> bool {
        !self.breaker.is_closed() || !self.pause_left(now).is_zero()
    }

    /// How long it is left alone from now on.
    pub fn rest_left(&self, now: Timestamp) -> Duration {
        self.breaker.rest_left(now).max(self.pause_left(now))
    }

    /// Whether a request would get a place at once.
    pub fn has_room(&self) -> bool {
        self.pending < self.concurrency.limit()
    }

    /// The most requests at a time that the node seems to bear.
    pub fn concurrency_limit(&self) -> usize {
        self.concurrency.limit()
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.concurrency.in_flight()
    }

    /// What was counted so far.
    pub fn counts(&self) -> RpcCounts {
        self.counts
    }

    /// What it offers.
    pub fn offer(&self, now: Timestamp) -> Offer {
        Offer { rests: self.rests(now), is_full: !self.has_room(), cost: self.cost(now) }
    }

    /// What another request would cost here, in milliseconds: the wait for its turn, and the mean time to an answer times
    /// what is pending; more where answers fail.
    pub fn cost(&self, now: Timestamp) -> f64 {
        let mean = self.latency_ms.get().unwrap_or(1.0).max(0.1);
        let wait = self.limit.wait(now).as_secs_f64() * 1_000.0;
        (wait + mean * (1 + self.pending) as f64) * (1.0 + FAILING_COST * self.failing())
    }

    fn failing(&self) -> f64 {
        self.failing.get().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(50);

    fn standing() -> Standing {
        Standing::new(&RpcOptions { max_in_flight: 16, ..RpcOptions::new("http://localhost") })
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp(millis * 1_000)
    }

    /// Rounds of as many requests as the node bears; `fails` tells by its number which one fails. Returns the limits.
    fn limits(standing: &mut Standing, requests: u64, fails: impl Fn(u64) -> bool) -> Vec<usize> {
        let one = |number| {
            while standing.try_begin() {
                standing.on_pending();
            }
            let outcome = if fails(number) { Outcome::Failed } else { Outcome::Answered };
            standing.on_outcome(at(number * 1_500), TOOK, outcome);
            standing.on_over(true);
            standing.concurrency_limit()
        };
        (1..=requests).map(one).collect()
    }

    #[test]
    fn single_failures_do_not_lower_what_a_node_is_asked() {
        let limits = limits(&mut standing(), 1_000, |number| number.is_multiple_of(12));
        assert_eq!(limits[100..].iter().min(), Some(&16));
    }

    #[test]
    fn a_node_that_fails_half_of_the_time_is_asked_less() {
        let limits = limits(&mut standing(), 1_000, |number| number > 500 && number.is_multiple_of(2));
        assert_eq!(limits[499], 16);
        assert!(limits[600..].iter().all(|&limit| limit <= 3), "{limits:?}");
    }

    #[test]
    fn a_node_that_fails_at_once_costs_more_than_one_that_takes_its_time() {
        let (mut failing, mut slow) = (standing(), standing());
        for number in 0..50 {
            failing.on_outcome(at(number), Duration::from_millis(20), Outcome::Useless);
            slow.on_outcome(at(number), Duration::from_millis(100), Outcome::Answered);
        }
        assert!(failing.cost(at(100)) > slow.cost(at(100)));
    }

    #[test]
    fn a_node_that_asked_for_a_pause_is_left_alone_until_it_is_over() {
        let (mut paused, mut full) = (standing(), standing());
        let asked = Outcome::RateLimited(Some(Duration::from_secs(20)));
        assert_eq!(paused.on_outcome(at(0), TOOK, asked), Some(Duration::from_secs(20)));
        assert_eq!(paused.on_outcome(at(10), TOOK, asked), None, "it is told once");
        while full.try_begin() {
            full.on_pending();
        }
        let order = paused.offer(at(100)).compare(&full.offer(at(100)));
        assert_eq!(order, Ordering::Greater, "even one that is full is asked first");
        assert!(
            matches!(paused.pass(at(5_010)), Err(FetchError::Paused { retry_after }) if retry_after.as_secs() == 15)
        );
        assert!(paused.pass(at(20_010)).is_ok() && !paused.rests(at(20_010)));
    }

    #[test]
    fn no_pause_is_longer_than_an_hour_and_none_is_nothing() {
        for (asked, kept) in
            [(Some(86_400_000), 3_600_000), (Some(1_500), 1_500), (Some(0), 500), (None, 500)]
        {
            let (mut limited, mut away) = (standing(), standing());
            let asked = asked.map(Duration::from_millis);
            limited.on_outcome(at(0), TOOK, Outcome::RateLimited(asked));
            assert_eq!(limited.pause_left(at(0)), Duration::from_millis(kept));
            away.on_outcome(at(0), TOOK, Outcome::Unavailable(asked.unwrap_or_default()));
            assert_eq!(away.rest_left(at(0)), Duration::from_millis(kept));
            assert_eq!((limited.counts().errors, away.counts().errors), (0, 1));
        }
    }

    #[test]
    fn a_node_whose_limit_is_used_up_costs_the_wait_for_its_turn() {
        let (mut busy, idle) = (standing(), standing());
        (0..150).for_each(|_| assert!(busy.turn(at(0)) <= Duration::from_secs(1)));
        assert!(busy.cost(at(0)) > idle.cost(at(0)) + 900.0);
    }
}
