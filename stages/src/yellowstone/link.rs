//! One endpoint's connection, shared by its subscription, its health checks and replays, and the pace at which requests
//! may be sent along it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tonic::transport::Channel;

use super::failure::{Failure, FailureKind};
use super::options::YellowstoneOptions;
use super::{client, windows};
use crate::recovery::pace::RateLimit;
use crate::slot::Timestamp;

/// The pause after a "too many requests" that does not say how long.
const DEFAULT_PAUSE: Duration = Duration::from_millis(500);

/// A connection that is made when it is first needed.
#[derive(Debug)]
pub struct Link {
    channel: Mutex<Arc<OnceCell<Channel>>>,
    limit: Mutex<RateLimit>,
    /// The receive window of a stream where the options have none.
    window_bytes: AtomicU32,
    started: Instant,
}

impl Link {
    /// A link at the pace of `options`; nothing is connected yet.
    pub fn new(options: &YellowstoneOptions) -> Self {
        Self {
            channel: Mutex::default(),
            limit: Mutex::new(RateLimit::new(options.max_requests_per_second, options.burst)),
            window_bytes: AtomicU32::new(windows::MAX_SHARE_BYTES),
            started: Instant::now(),
        }
    }

    /// Bounds what the server may send before it is read, from the next connection on, unless the options say otherwise.
    pub fn bound_window(&self, bytes: u32) {
        self.window_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The connection, made if there is none; several callers wait for the same one. Waits for the request's turn.
    ///
    /// # Errors
    /// If it can't be had.
    pub async fn channel(&self, options: &YellowstoneOptions) -> Result<Channel, Failure> {
        self.turn().await;
        let cell = Arc::clone(&lock(&self.channel));
        let window_bytes = options.window_bytes.unwrap_or(self.window_bytes.load(Ordering::Relaxed));
        cell.get_or_try_init(|| client::connect(options, window_bytes)).await.cloned()
    }

    /// Waits until another request may be sent.
    pub async fn turn(&self) {
        let wait = lock(&self.limit).reserve(self.now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes note of a failure: the next request makes a new connection if this one is broken, and waits if the server
    /// wants to be asked less.
    pub fn on_failure(&self, kind: FailureKind) {
        match kind {
            FailureKind::RateLimited { retry_after } => {
                lock(&self.limit).pause(self.now(), retry_after.unwrap_or(DEFAULT_PAUSE));
            }
            FailureKind::Unavailable | FailureKind::Idle | FailureKind::Stalled | FailureKind::Ended => {
                self.reset();
            }
            _ => {}
        }
    }

    /// Lets go of the connection: the next request makes a new one.
    pub fn reset(&self) {
        *lock(&self.channel) = Arc::default();
    }

    fn now(&self) -> Timestamp {
        Timestamp(0).after(self.started.elapsed())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rate_limit_makes_the_next_request_wait() {
        let link = Link::new(&YellowstoneOptions::new("http://127.0.0.1:1"));
        link.on_failure(FailureKind::RateLimited { retry_after: Some(Duration::from_millis(80)) });
        let began = Instant::now();
        link.turn().await;
        assert!(began.elapsed() >= Duration::from_millis(70));
    }

    #[tokio::test]
    async fn a_connection_that_could_not_be_made_is_tried_again() {
        let options = YellowstoneOptions::new("http://127.0.0.1:1");
        let link = Link::new(&options);
        for _ in 0..2 {
            let failure = link.channel(&options).await.expect_err("nobody listens there");
            assert_eq!(failure.kind, FailureKind::Unavailable);
        }
    }
}
