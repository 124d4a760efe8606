//! A [`Standing`] that can be waited for.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::standing::Standing;

/// Lets as many requests through at a time as the node bears.
#[derive(Debug)]
pub(super) struct Gate {
    standing: Mutex<Standing>,
    freed: Notify,
}

impl Gate {
    pub(super) fn new(standing: Standing) -> Self {
        Self { standing: Mutex::new(standing), freed: Notify::new() }
    }

    /// Waits for a place; it is given back when the guard is dropped.
    pub(super) async fn pass(&self) -> Passage<'_> {
        self.standing().on_pending();
        let mut passage = Passage { gate: self, begun: false };
        while !passage.begun {
            // Registered before the attempt, so that a place freed in between is not missed.
            let freed = self.freed.notified();
            passage.begun = self.standing().try_begin();
            if !passage.begun {
                freed.await;
            }
        }
        passage
    }

    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place for one request, or one that is waited for.
#[derive(Debug)]
pub(super) struct Passage<'g> {
    gate: &'g Gate,
    begun: bool,
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.gate.standing().on_over(self.begun);
        // The limit may have risen, too.
        self.gate.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::super::RpcOptions;
    use super::*;

    #[tokio::test]
    async fn a_freed_place_wakes_who_waits_and_who_gives_up_leaves_no_trace() {
        let options = RpcOptions { max_in_flight: 1, ..RpcOptions::new("http://localhost") };
        let gate = Gate::new(Standing::new(&options));
        let first = gate.pass().await;
        {
            let given_up = gate.pass();
            tokio::pin!(given_up);
            assert!(futures::poll!(&mut given_up).is_pending());
        }
        let second = gate.pass();
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        assert!(!gate.standing().has_room());
        drop(first);
        let std::task::Poll::Ready(second) = futures::poll!(&mut second) else { panic!("a place is free") };
        assert_eq!(gate.standing().in_flight(), 1);
        drop(second);
        assert!(gate.standing().has_room());
    }
}
