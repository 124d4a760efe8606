//! The cluster's time by the wall clock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::cluster::Cluster;

/// Stands at zero until enough subscriptions are open, then runs.
#[derive(Debug)]
pub(crate) struct Clock {
    cluster: Cluster,
    start: OnceLock<Instant>,
    awaited: usize,
    seen: AtomicUsize,
    started: Notify,
}

impl Clock {
    /// The time of `cluster`.
    pub(crate) fn new(cluster: Cluster, awaited: usize) -> Self {
        let clock = Self {
            cluster,
            start: OnceLock::new(),
            awaited,
            seen: AtomicUsize::new(0),
            started: Notify::new(),
        };
        if awaited == 0 {
            clock.start();
        }
        clock
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.get().map(Instant::elapsed).unwrap_or_default()
    }

    /// Counts a subscription.
    pub(crate) fn subscribed(&self) {
        if self.seen.fetch_add(1, Ordering::Relaxed) + 1 >= self.awaited {
            self.start();
        }
    }

    fn start(&self) {
        self.start.get_or_init(|| {
            self.cluster.begin(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
            Instant::now()
        });
        self.started.notify_waiters();
    }

    /// Waits until a time has come, if ever.
    pub(crate) async fn sleep_until(&self, deadline: Option<Duration>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        loop {
            let started = self.started.notified();
            if let Some(start) = self.start.get() {
                return tokio::time::sleep_until((*start + deadline).into()).await;
            }
            if deadline.is_zero() {
                return;
            }
            started.await;
        }
    }
}
