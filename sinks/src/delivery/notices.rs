//! The lane of notices of a channel: a bounded queue in front of a courier, so that a receiver that is slow or dead holds
//! up neither the alert evaluator nor the other channels.
//!
//! ```text
//!  sink's inbox ─→ NoticeQueue (bounded) ─→ rate limit ─→ body ─→ courier
//!                    └ full: held back ───────┴─→ one summary, when there is room
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_stages::alert::Notice;
use sluice_stages::node::Clock;
use tokio::sync::mpsc;

use super::counters::{Counters, add};
use super::courier::{Courier, Message, Outcome};
use super::limit::{NoticeLimit, fingerprint};

/// Makes the message that tells of a notice.
pub(crate) trait Compose: Send + Sync {
    /// The message with this id.
    ///
    /// # Errors
    /// Why there can be none, for the log.
    fn compose(&self, id: String, notice: &Notice) -> Result<Message, String>;
}

/// The sink's end of a lane.
pub(crate) struct NoticeQueue {
    sender: mpsc::Sender<Notice>,
    limit: Arc<Mutex<NoticeLimit>>,
    counters: Arc<Counters>,
    clock: Clock,
}

impl NoticeQueue {
    /// Adds a notice; never waits. What finds the queue full is held back.
    pub(crate) fn push(&self, notice: Notice) {
        let (full, closed) = match self.sender.try_send(notice) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(notice)) => (Some(notice), None),
            Err(mpsc::error::TrySendError::Closed(notice)) => (None, Some(notice)),
        };
        if let Some(notice) = full.or(closed) {
            add(&self.counters.held_back, 1);
            lock(&self.limit).hold(self.clock.now(), &notice);
        }
    }
}

/// The courier's end of a lane.
pub(crate) struct NoticeLane {
    receiver: mpsc::Receiver<Notice>,
    limit: Arc<Mutex<NoticeLimit>>,
    counters: Arc<Counters>,
    clock: Clock,
}

/// A lane that holds `capacity` notices.
pub(crate) fn lane(
    capacity: usize,
    limit: NoticeLimit,
    counters: &Arc<Counters>,
    clock: Clock,
) -> (NoticeQueue, NoticeLane) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let limit = Arc::new(Mutex::new(limit));
    let queue = NoticeQueue { sender, limit: Arc::clone(&limit), counters: Arc::clone(counters), clock };
    (queue, NoticeLane { receiver, limit, counters: Arc::clone(counters), clock })
}

impl NoticeLane {
    /// Delivers what comes until the queue's other end is gone; then sums up what is still held back.
    pub(crate) async fn run(mut self, composer: Arc<dyn Compose>, mut courier: Courier) {
        loop {
            let due = lock(&self.limit).summary_due(self.clock.now());
            let now = self.clock.now();
            let summary_time = async {
                match due {
                    Some(due) => tokio::time::sleep(due.since(now)).await,
                    None => std::future::pending().await,
                }
            };
            let received = tokio::select! {
                received = self.receiver.recv() => match received {
                    Some(notice) => Some(notice),
                    None => break,
                },
                () = summary_time => None,
            };
            if let Some(notice) = received {
                self.on_notice(&notice, &*composer, &mut courier).await;
            }
            let summary = lock(&self.limit).summary(self.clock.now());
            if let Some(summary) = summary {
                self.tell(&summary, &*composer, &mut courier).await;
            }
        }
        let summary = lock(&self.limit).last_summary(self.clock.now());
        if let Some(summary) = summary {
            self.tell(&summary, &*composer, &mut courier).await;
        }
    }

    async fn on_notice(&self, notice: &Notice, composer: &dyn Compose, courier: &mut Courier) {
        let admitted = lock(&self.limit).admit(self.clock.now(), notice);
        if admitted {
            self.tell(notice, composer, courier).await;
        } else {
            add(&self.counters.held_back, 1);
        }
    }

    async fn tell(&self, notice: &Notice, composer: &dyn Compose, courier: &mut Courier) {
        match composer.compose(notice_id(notice), notice) {
            Ok(message) => {
                if courier.deliver(&message).await == Outcome::Delivered {
                    add(&self.counters.notices, 1);
                }
            }
            Err(reason) => {
                add(&self.counters.dead_letters, 1);
                tracing::error!(group = %notice.group_key, reason, "a notice could not be put into words");
            }
        }
    }
}

/// The same for the same notice, also when it is told again after a restart.
pub(crate) fn notice_id(notice: &Notice) -> String {
    let mut states = String::new();
    for alert in &notice.alerts {
        states.push_str(&format!("/{}:{:?}", alert.fingerprint, alert.state));
    }
    format!("alert_{}", fingerprint(&format!("{}/{}{states}", notice.group_key, notice.at.0)))
}

fn lock(limit: &Mutex<NoticeLimit>) -> MutexGuard<'_, NoticeLimit> {
    limit.lock().unwrap_or_else(PoisonError::into_inner)
}
