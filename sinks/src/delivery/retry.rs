//! What comes of one try to deliver, and how long to wait before the next: pure, so that a test can go through all of it.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

/// The longest wait that a receiver's `Retry-After` is followed for: a typo in it must not stop deliveries for a year.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// Doublings after which a wait grows no more: far beyond any sensible longest wait.
const MAX_DOUBLINGS: u32 = 20;

/// What a receiver made of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has it.
    Delivered,
    /// It may take it later, not before the wait that it asked for.
    Retry {
        /// Why it did not take it now, without secrets.
        reason: String,
        /// The wait that it asked for.
        after: Option<Duration>,
    },
    /// It will never take it.
    Refused {
        /// Why, without secrets.
        reason: String,
    },
}

impl Verdict {
    /// The verdict that an HTTP status stands for, with the wait of its `Retry-After`.
    pub(crate) fn of_status(status: http::StatusCode, after: Option<Duration>) -> Self {
        let reason = format!("HTTP {status}");
        match status.as_u16() {
            200..=299 => Self::Delivered,
            300..=399 => Self::Refused { reason: format!("{reason}: redirects are not followed") },
            408 | 425 | 429 | 500..=599 => {
                Self::Retry { reason, after: after.map(|after| after.min(LONGEST_RETRY_AFTER)) }
            }
            _ => Self::Refused { reason },
        }
    }
}

/// How tries are spaced: exponentially, with jitter, so that many senders don't come back at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// About the first wait.
    pub(crate) min: Duration,
    /// The longest.
    pub(crate) max: Duration,
}

impl Backoff {
    /// The wait after `failures` tries in a row that failed. What the receiver asked for is never cut short.
    pub(crate) fn wait(&self, failures: u32, after: Option<Duration>, random: &mut SmallRng) -> Duration {
        let doubled = self.min.saturating_mul(1 << failures.saturating_sub(1).min(MAX_DOUBLINGS));
        // At least half, so that unlucky draws don't hammer a receiver that just refused.
        let own = doubled.min(self.max).mul_f64(random.random_range(0.5..=1.0));
        after.map_or(own, |after| after.max(own))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    fn verdict(status: u16) -> Verdict {
        let status = http::StatusCode::from_u16(status).expect("a status");
        Verdict::of_status(status, Some(Duration::from_secs(1_000_000)))
    }

    #[test]
    fn statuses_are_sorted_into_taken_later_and_never() {
        for status in [200, 201, 202, 204] {
            assert_eq!(verdict(status), Verdict::Delivered, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            let Verdict::Retry { after, .. } = verdict(status) else { panic!("{status}") };
            assert_eq!(after, Some(LONGEST_RETRY_AFTER), "{status}");
        }
        for status in [301, 302, 307, 308, 400, 401, 403, 404, 410, 413, 422] {
            assert!(matches!(verdict(status), Verdict::Refused { .. }), "{status}");
        }
    }

    proptest! {
        #[test]
        fn waits_grow_up_to_the_longest_and_keep_what_was_asked_for(
            failures in 1..200u32,
            after in proptest::option::of(0..100_000u64),
            seed: u64,
        ) {
            let backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(60) };
            let after = after.map(Duration::from_millis);
            let wait = backoff.wait(failures, after, &mut SmallRng::seed_from_u64(seed));
            let ceiling = backoff.min.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(backoff.max);
            prop_assert!(wait >= ceiling / 2);
            prop_assert!(wait <= ceiling.max(after.unwrap_or_default()));
            prop_assert!(wait >= after.unwrap_or_default());
        }
    }
}
