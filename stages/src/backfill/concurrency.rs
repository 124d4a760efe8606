//! How many questions a node bears at a time. Pure.

use std::time::Duration;

use crate::slot::Timestamp;

/// Questions at a time to begin with, before anything is known of the node.
const FIRST_LIMIT: f64 = 4.0;

/// Time in which several refusals count as one: they answer questions that were asked together.
const CALM: Duration = Duration::from_secs(1);

/// Grows by one for each round of answers, and is halved when the node pushes back (TCP's additive increase and
/// multiplicative decrease, RFC 5681).
#[derive(Debug)]
pub(super) struct Concurrency {
    limit: f64,
    max: f64,
    lowered_at: Option<Timestamp>,
}

impl Concurrency {
    /// At most `max` questions at a time, and always one.
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1) as f64;
        Self { limit: FIRST_LIMIT.min(max), max, lowered_at: None }
    }

    /// Questions that may be under way now.
    pub(super) fn allowed(&self) -> usize {
        self.limit as usize
    }

    /// The node answered.
    pub(super) fn on_answer(&mut self) {
        self.limit = (self.limit + 1.0 / self.limit).min(self.max);
    }

    /// The node wants to be asked less, or did not answer.
    pub(super) fn on_pushback(&mut self, now: Timestamp) {
        if self.lowered_at.is_none_or(|at| now.since(at) >= CALM) {
            self.lowered_at = Some(now);
            self.limit = (self.limit / 2.0).max(1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_willing_node_is_asked_ever_more_up_to_the_bound() {
        let mut concurrency = Concurrency::new(16);
        assert_eq!(concurrency.allowed(), 4);
        (0..200).for_each(|_| concurrency.on_answer());
        assert_eq!(concurrency.allowed(), 16);
    }

    #[test]
    fn refusals_that_come_together_count_once() {
        let mut concurrency = Concurrency::new(4);
        (0..8).for_each(|_| concurrency.on_pushback(Timestamp(5)));
        assert_eq!(concurrency.allowed(), 2);
        concurrency.on_pushback(Timestamp(5).after(CALM));
        concurrency.on_pushback(Timestamp(5).after(CALM * 2));
        assert_eq!(concurrency.allowed(), 1, "one question is always allowed");
    }
}
