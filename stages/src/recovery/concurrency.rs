//! How many requests one RPC node bears at a time: found by trying. Pure: time comes in.
//!
//! The limit begins at `FIRST_LIMIT` and doubles with each round of answers that comes while it is reached, until the node
//! shows signs of overload. From then on it rises by one in each such round, and overload halves it, once in `CALM` (slow
//! start, additive increase, multiplicative decrease: TCP's, RFC 5681).

use std::time::Duration;

use crate::slot::Timestamp;

/// Where the limit begins.
const FIRST_LIMIT: f64 = 2.0;

/// After a decrease, the answers to what was under way by then don't decrease it again.
const CALM: Duration = Duration::from_secs(1);

/// The limit and what counts against it.
#[derive(Debug)]
pub struct Concurrency {
    limit: f64,
    ceiling: f64,
    in_flight: usize,
    decreased_at: Option<Timestamp>,
}

impl Concurrency {
    /// A limit that stays between 1 and `ceiling`.
    pub fn new(ceiling: usize) -> Self {
        let ceiling = ceiling.max(1) as f64;
        Self { limit: FIRST_LIMIT.min(ceiling), ceiling, in_flight: 0, decreased_at: None }
    }

    /// Takes a place if there is one.
    pub fn try_begin(&mut self) -> bool {
        let free = self.in_flight < self.limit();
        self.in_flight += usize::from(free);
        free
    }

    /// A request is over, whatever came of it.
    pub fn on_over(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The node answered one of the requests under way.
    pub fn on_answer(&mut self) {
        if self.in_flight >= self.limit() {
            let rise = if self.decreased_at.is_none() { 1.0 } else { 1.0 / self.limit };
            self.limit = (self.limit + rise).min(self.ceiling);
        }
    }

    /// The node bears less than this.
    pub fn on_overload(&mut self, now: Timestamp) {
        if self.decreased_at.is_none_or(|at| now.since(at) >= CALM) {
            self.limit = (self.limit / 2.0).max(1.0);
            self.decreased_at = Some(now);
        }
    }

    /// The most requests at a time, now.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp(0).after(Duration::from_millis(millis))
    }

    /// Plays a node that answers everything in rounds and bears `bears` at a time; returns the limits of the rounds.
    fn limits(concurrency: &mut Concurrency, bears: usize, rounds: u64) -> Vec<usize> {
        let round = |round: u64| {
            while concurrency.try_begin() {}
            let asked = concurrency.in_flight();
            for request in 0..asked {
                if request < bears {
                    concurrency.on_answer();
                } else {
                    concurrency.on_overload(at(round * 2_000));
                }
            }
            (0..asked).for_each(|_| concurrency.on_over());
            concurrency.limit()
        };
        (1..=rounds).map(round).collect()
    }

    #[test]
    fn the_limit_finds_what_the_node_bears_and_stays_near_it() {
        let mut concurrency = Concurrency::new(64);
        let limits = limits(&mut concurrency, 12, 200);
        assert!(limits.iter().any(|&limit| limit >= 12));
        assert!(limits[3..].iter().all(|&limit| limit <= 14), "{limits:?}");
        assert!(limits[50..].iter().all(|&limit| limit >= 6), "{limits:?}");
    }

    #[test]
    fn what_is_not_used_is_not_raised() {
        let mut concurrency = Concurrency::new(64);
        for _ in 0..1_000 {
            assert!(concurrency.try_begin());
            concurrency.on_answer();
            concurrency.on_over();
        }
        assert_eq!(concurrency.limit(), 2);
    }

    #[test]
    fn one_bad_moment_halves_it_once() {
        let mut concurrency = Concurrency::new(64);
        limits(&mut concurrency, 64, 100);
        let before = concurrency.limit();
        (0..20).for_each(|_| concurrency.on_overload(at(1_000_000)));
        assert_eq!(concurrency.limit(), before / 2);
    }

    proptest! {
        #[test]
        fn the_limit_is_kept_and_stays_within_its_bounds(
            ceiling in 1_usize..40,
            acts in proptest::collection::vec(0_u8..4, 0..300),
        ) {
            let mut concurrency = Concurrency::new(ceiling);
            for (act, now) in acts.into_iter().zip(0..) {
                let (before, limit) = (concurrency.in_flight(), concurrency.limit());
                match act {
                    0 => prop_assert_eq!(concurrency.try_begin(), before < limit),
                    1 => concurrency.on_over(),
                    2 => concurrency.on_answer(),
                    _ => concurrency.on_overload(at(now * 400)),
                }
                prop_assert!((1..=ceiling).contains(&concurrency.limit()));
            }
        }
    }
}
