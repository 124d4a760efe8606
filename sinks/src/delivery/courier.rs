//! Brings one message after the other to a receiver, and does not go on before it has it, refuses it for good, or the
//! pipeline ends.
//!
//! ```text
//!             ┌──── wait: backoff, Retry-After, breaker ←─── retry ─┐
//!  message ───┴─→ one try (timeout) ──────────────────────────────────┼─→ delivered
//!                                                                     └─→ refused, too old ─→ dead letter (synced)
//! ```

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use sluice_stages::node::{Clock, NodeContext};
use sluice_stages::slot::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::counters::{Counters, add, show_forever};
use super::dead_letters::{DeadLetters, Letter};
use super::options::RetryOptions;
use super::retry::{Backoff, Verdict};

/// A message, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The same on every try.
    pub(crate) id: String,
    /// What the body is.
    pub(crate) content_type: String,
    /// The body.
    pub(crate) body: Bytes,
}

/// Who takes messages.
pub(crate) trait Receiver: Send + Sync {
    /// One try.
    fn take<'a>(&'a self, now: Timestamp, message: &'a Message) -> BoxFuture<'a, Verdict>;

    /// Where it is, without secrets.
    fn place(&self) -> &str;
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It will never be taken; it was written down where there is a file for that.
    DeadLettered,
    /// The pipeline ended first.
    Abandoned,
}

/// What the couriers of one sink have in common.
#[derive(Clone)]
pub(crate) struct Service {
    /// The sink's name, for the log.
    pub(crate) node: Arc<str>,
    /// Who takes the messages.
    pub(crate) receiver: Arc<dyn Receiver>,
    /// The receiver's breaker.
    pub(crate) breaker: Arc<Mutex<Breaker>>,
    /// Where to put what will never be taken.
    pub(crate) letters: Option<Arc<DeadLetters>>,
    /// What is counted.
    pub(crate) counters: Arc<Counters>,
    /// The clock.
    pub(crate) clock: Clock,
    /// How tries are spaced.
    pub(crate) backoff: Backoff,
    /// Cancelled when there is no more time: what is not delivered then is abandoned.
    pub(crate) expired: CancellationToken,
}

/// Delivers messages in order.
pub(crate) struct Courier {
    service: Service,
    /// How long a message is tried; `None` for as long as it takes.
    give_up_after: Option<Duration>,
    random: SmallRng,
}

impl Courier {
    /// A courier who tries a message for `give_up_after`, or for as long as it takes.
    pub(crate) fn new(service: Service, give_up_after: Option<Duration>) -> Self {
        Self { service, give_up_after, random: SmallRng::from_os_rng() }
    }

    /// What it shares with the others of its sink.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// Tries until there is an outcome.
    pub(crate) async fn deliver(&mut self, message: &Message) -> Outcome {
        self.deliver_fresh(|_| Some(message.clone())).await
    }

    /// Tries until there is an outcome, each time with what `make` makes at that time. Once it makes nothing there is nothing
    /// left to be delivered.
    pub(crate) async fn deliver_fresh<F>(&mut self, mut make: F) -> Outcome
    where
        F: FnMut(Timestamp) -> Option<Message> + Send,
    {
        let expired = self.service.expired.clone();
        let outcome = tokio::select! {
            biased;
            () = expired.cancelled() => Outcome::Abandoned,
            outcome = self.try_until_done(&mut make) => outcome,
        };
        let counters = &self.service.counters;
        match outcome {
            Outcome::Delivered => {}
            Outcome::DeadLettered => add(&counters.dead_letters, 1),
            Outcome::Abandoned => add(&counters.abandoned, 1),
        }
        outcome
    }

    async fn try_until_done<F>(&mut self, make: &mut F) -> Outcome
    where
        F: FnMut(Timestamp) -> Option<Message> + Send,
    {
        let began = self.service.clock.now();
        let mut failures = 0;
        loop {
            self.service.until_admitted().await;
            let now = self.service.clock.now();
            let Some(message) = make(now) else { return Outcome::Delivered };
            let verdict = self.service.receiver.take(now, &message).await;
            let now = self.service.clock.now();
            self.service.note(now, &verdict);
            let (reason, after) = match verdict {
                Verdict::Delivered => {
                    add(&self.service.counters.messages, 1);
                    add(&self.service.counters.bytes, message.body.len() as u64);
                    return Outcome::Delivered;
                }
                Verdict::Refused { reason } => (reason, None),
                Verdict::Retry { reason, after } => {
                    failures += 1;
                    self.log_failure(&message, failures, &reason);
                    if self.give_up_after.is_none_or(|most| now.since(began) < most) {
                        tokio::time::sleep(self.backoff(failures, after)).await;
                        continue;
                    }
                    (reason, None)
                }
            };
            if self.service.bury(&message, &reason, failures.max(1)).await {
                return Outcome::DeadLettered;
            }
            failures += 1;
            tokio::time::sleep(self.backoff(failures, after)).await;
        }
    }

    fn backoff(&mut self, failures: u32, after: Option<Duration>) -> Duration {
        add(&self.service.counters.retries, 1);
        self.service.backoff.wait(failures, after, &mut self.random)
    }

    /// The first failure of a message is worth a line, and then each time that it has doubled.
    fn log_failure(&self, message: &Message, failures: u32, reason: &str) {
        if failures.is_power_of_two() {
            let Service { node, receiver, .. } = &self.service;
            let (id, place) = (message.id.as_str(), receiver.place());
            tracing::warn!(node = %node, id, receiver = place, failures, reason, "not delivered, to be tried again");
        }
    }
}

impl Service {
    /// What the couriers of the sink that runs in `context` share.
    pub(crate) fn new(
        context: &NodeContext,
        receiver: Arc<dyn Receiver>,
        retry: &RetryOptions,
        letters: Option<DeadLetters>,
    ) -> Self {
        Self {
            node: Arc::from(context.name.as_str()),
            receiver,
            breaker: Arc::new(Mutex::new(retry.breaker())),
            letters: letters.map(Arc::new),
            counters: Arc::default(),
            clock: context.clock,
            backoff: retry.backoff(),
            expired: CancellationToken::new(),
        }
    }

    /// Shows the counters, and ends deliveries `drain_timeout` after the pipeline was asked to stop. The tasks end with
    /// what is returned.
    pub(crate) fn attend(&self, context: &NodeContext, drain_timeout: Duration) -> JoinSet<()> {
        let mut attendants = JoinSet::new();
        attendants.spawn(show_forever(Arc::clone(&self.counters), context.metrics.clone()));
        attendants.spawn(expire_from_stop(context.stop.clone(), drain_timeout, self.expired.clone()));
        attendants
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until_admitted(&self) {
        loop {
            let wait = self.breaker().admit(self.clock.now());
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn note(&self, now: Timestamp, verdict: &Verdict) {
        let mut breaker = self.breaker();
        match verdict {
            Verdict::Delivered | Verdict::Refused { .. } => breaker.on_success(),
            // A receiver that names a time works; it is not asked before that anyway.
            Verdict::Retry { after: Some(_), .. } => {
                breaker.on_success();
                add(&self.counters.throttled, 1);
            }
            Verdict::Retry { after: None, .. } => breaker.on_failure(now),
        }
        self.counters.breaker_open.store(breaker.is_open(), Ordering::Relaxed);
    }

    /// Writes a message to the dead letters; false if that did not work, and it has to be tried again.
    async fn bury(&self, message: &Message, reason: &str, attempts: u32) -> bool {
        let Some(letters) = self.letters.clone() else {
            tracing::error!(node = %self.node, id = message.id, reason, "refused and lost: there is no `state_path`");
            return true;
        };
        let (now, message, reason) = (self.clock.now(), message.clone(), reason.to_owned());
        let (node, id, why) = (Arc::clone(&self.node), message.id.clone(), reason.clone());
        let path = letters.path().display().to_string();
        let written = tokio::task::spawn_blocking(move || {
            let Message { id, content_type, body } = &message;
            letters.append(now, &Letter { id, reason: &reason, attempts, content_type, body })
        });
        match written.await {
            Ok(Ok(())) => {
                tracing::error!(node = %node, id, reason = why, path, "refused, kept as a dead letter");
                true
            }
            Ok(Err(error)) => {
                tracing::error!(node = %node, id, reason = why, path, %error, "dead letter not written, to be tried again");
                false
            }
            Err(error) => {
                tracing::error!(node = %node, id, %error, "the writer of dead letters panicked, to be tried again");
                false
            }
        }
    }
}

/// From the stop on, the receiver has `timeout` to take what is there: a full queue must not hold up the end of everything.
async fn expire_from_stop(stop: CancellationToken, timeout: Duration, expired: CancellationToken) {
    stop.cancelled().await;
    expire_after(timeout, expired).await;
}

/// The receiver has `timeout` from now on.
pub(crate) async fn expire_after(timeout: Duration, expired: CancellationToken) {
    tokio::time::sleep(timeout).await;
    expired.cancel();
}
