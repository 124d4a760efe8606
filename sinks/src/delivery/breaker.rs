//! A circuit breaker: after some failures in a row nothing is tried for a while, then one message is.
//!
//! ```text
//!           failures in a row reach the threshold          reset_timeout passed
//!  closed ───────────────────────────────────────→ open ──────────────────────→ half open
//!    ↑                                              ↑ ── the trial fails ─────────┤
//!    └────────────────────────────────────────────────── the trial succeeds ─────┘
//! ```

use std::time::Duration;

use sluice_stages::slot::Timestamp;

/// The breaker of one receiver, shared by all that is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Breaker {
    error_threshold: u32,
    reset_timeout: Duration,
    failures: u32,
    /// No try before this, while it is open.
    open_until: Option<Timestamp>,
    /// When the trial that runs now began; one that never ends does not lock the breaker.
    trial_since: Option<Timestamp>,
}

impl Breaker {
    /// A closed breaker that opens after `error_threshold` failures in a row, for `reset_timeout`.
    pub(crate) fn new(error_threshold: u32, reset_timeout: Duration) -> Self {
        Self { error_threshold, reset_timeout, failures: 0, open_until: None, trial_since: None }
    }

    /// How long to wait before a try may be made; zero means now, and the caller has to report what came of it.
    pub(crate) fn admit(&mut self, now: Timestamp) -> Duration {
        let Some(open_until) = self.open_until else { return Duration::ZERO };
        if now < open_until {
            return open_until.since(now);
        }
        if let Some(since) = self.trial_since
            && now < since.after(self.reset_timeout)
        {
            return since.after(self.reset_timeout).since(now);
        }
        self.trial_since = Some(now);
        Duration::ZERO
    }

    /// A message was taken, or refused for its own sake: the receiver works.
    pub(crate) fn on_success(&mut self) {
        (self.failures, self.open_until, self.trial_since) = (0, None, None);
    }

    /// The receiver did not work.
    pub(crate) fn on_failure(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.trial_since = None;
        if self.failures >= self.error_threshold {
            self.open_until = Some(now.after(self.reset_timeout));
        }
    }

    /// Whether it keeps messages from being tried.
    pub(crate) fn is_open(&self) -> bool {
        self.open_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(3, SECOND);
        for _ in 0..3 {
            assert_eq!(breaker.admit(Timestamp(0)), Duration::ZERO);
            breaker.on_failure(Timestamp(0));
        }
        breaker
    }

    #[test]
    fn it_opens_only_after_failures_in_a_row() {
        let mut breaker = Breaker::new(3, SECOND);
        for _ in 0..10 {
            breaker.on_failure(Timestamp(0));
            breaker.on_failure(Timestamp(0));
            breaker.on_success();
        }
        assert!(!breaker.is_open());
        assert_eq!(opened().admit(Timestamp(250_000)), Duration::from_millis(750));
    }

    #[test]
    fn one_trial_decides_when_the_time_has_passed() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(Timestamp(1_000_000)), Duration::ZERO);
        assert_eq!(breaker.admit(Timestamp(1_000_000)), SECOND, "a trial runs");
        breaker.on_failure(Timestamp(1_500_000));
        assert_eq!(breaker.admit(Timestamp(1_500_000)), SECOND);
        assert_eq!(breaker.admit(Timestamp(2_500_000)), Duration::ZERO);
        breaker.on_success();
        assert_eq!(breaker.admit(Timestamp(2_500_000)), Duration::ZERO);
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_trial_that_never_ends_does_not_lock_it() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(Timestamp(1_000_000)), Duration::ZERO);
        assert_eq!(breaker.admit(Timestamp(2_000_000)), Duration::ZERO);
    }
}
