//! The memory budget: how many bytes of frames may be alive at once.
//!
//! A source takes a [`Lease`] for the bytes that it has read, before it hands them on; the lease is shared by the
//! updates read together and given back when the last of them is dropped, wherever that is. When the budget is spent,
//! sources wait, their sockets fill, and the servers feel it. A read larger than the whole budget is let through when
//! nothing else is alive, so that one giant block can't lock the pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts the bytes of all frames alive, and makes sources wait when there are too many.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
    waiting: AtomicU64,
    released: Notify,
}

impl Budget {
    /// A budget of `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
            waiting: AtomicU64::new(0),
            released: Notify::new(),
        })
    }

    /// Takes `bytes`, waiting until they fit.
    pub async fn lease(self: &Arc<Self>, bytes: usize) -> Arc<Lease> {
        loop {
            // Registered before the attempt, so that a release in between is not missed.
            let released = self.released.notified();
            if let Some(lease) = self.try_lease(bytes) {
                return lease;
            }
            let _waiting = Waiting::among(&self.waiting);
            released.await;
        }
    }

    /// Takes `bytes` if they fit.
    pub fn try_lease(self: &Arc<Self>, bytes: usize) -> Option<Arc<Lease>> {
        let take = |used: usize| (used == 0 || used + bytes <= self.limit_bytes).then_some(used + bytes);
        let before = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        self.peak_bytes.fetch_max(before + bytes, Ordering::Relaxed);
        Some(Arc::new(Lease { bytes, budget: Arc::clone(self) }))
    }

    /// The limit.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Bytes alive now.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// The most bytes that were ever alive at once.
    pub fn peak_bytes(&self) -> usize {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    /// Whether there is room for more than what comes by itself: nobody waits, and half of it is free.
    pub fn has_room(&self) -> bool {
        self.waiting() == 0 && self.used_bytes() <= self.limit_bytes / 2
    }

    /// Sources that wait for memory now.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Counts a waiting source for as long as it waits, also when it is cancelled.
struct Waiting<'b>(&'b AtomicU64);

impl<'b> Waiting<'b> {
    fn among(waiting: &'b AtomicU64) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes taken from a budget, given back on drop.
#[derive(Debug)]
pub struct Lease {
    bytes: usize,
    budget: Arc<Budget>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiting_source_goes_on_when_memory_is_given_back() {
        let budget = Budget::new(100);
        let first = budget.lease(80).await;
        assert!(budget.try_lease(21).is_none());
        let waiter = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.lease(50).await }
        });
        tokio::task::yield_now().await;
        drop(first);
        drop(waiter.await.expect("not cancelled"));
        assert_eq!((budget.used_bytes(), budget.peak_bytes()), (0, 80));
    }

    #[tokio::test]
    async fn a_source_that_is_stopped_while_it_waits_is_not_counted_any_more() {
        let budget = Budget::new(1);
        let _all = budget.lease(1).await;
        let waiting = budget.lease(1);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(budget.waiting(), 1);
        waiting.set(budget.lease(1));
        assert_eq!(budget.waiting(), 0);
    }

    #[test]
    fn there_is_room_as_long_as_half_of_it_is_free() {
        let budget = Budget::new(100);
        let half = budget.try_lease(50);
        assert!(half.is_some() && budget.has_room());
        let more = budget.try_lease(1);
        assert!(more.is_some() && !budget.has_room());
        drop(half);
        assert!(budget.has_room());
    }

    #[test]
    fn a_read_larger_than_the_budget_is_let_through_alone() {
        let budget = Budget::new(100);
        let giant = budget.try_lease(1_000);
        assert!(giant.is_some());
        assert!(budget.try_lease(1).is_none());
    }
}
