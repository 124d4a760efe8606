//! The lane of notices of a channel: a bounded list in front of a courier, so that a receiver that is slow or dead holds
//! up neither the alert evaluator nor the other channels.
//!
//! ```text
//!  sink's inbox ─→ NoticeQueue ─→ waiting (bounded) ─→ NoticeLane: rate limit ─→ body ─→ courier
//!                                    │ bell of one
//!                                    └─→ keeper ─→ waiting_notices.json (synced), if there is a `state_path`
//! ```
//!
//! A notice leaves the file once the receiver has it, or never will. One that was sent right before a crash is sent again,
//! under the same id.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_stages::alert::Notice;
use sluice_stages::node::Clock;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::counters::{Counters, add};
use super::courier::{Courier, Message, Outcome};
use super::limit::fingerprint;
use super::waiting::{Next, Waiting};
use super::waiting_file::{Keeper, WaitingFile};

/// Makes the message that tells of a notice.
pub(crate) trait Compose: Send + Sync {
    /// The message with this id.
    ///
    /// # Errors
    /// Why there can be none, for the log.
    fn compose(&self, id: String, notice: &Notice) -> Result<Message, String>;
}

/// What waits, as all tasks of a lane see it.
#[derive(Debug, Clone)]
pub(crate) struct SharedWaiting(Arc<Mutex<Waiting>>);

impl SharedWaiting {
    /// A look at it, or a change.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sink's end of a lane.
pub(crate) struct NoticeQueue {
    waiting: SharedWaiting,
    /// Rings for the courier; it holds one ring, which stands for all changes since it was heard.
    bell: mpsc::Sender<()>,
    keeper: mpsc::Sender<()>,
    counters: Arc<Counters>,
    clock: Clock,
}

impl NoticeQueue {
    /// Adds a notice; never waits.
    pub(crate) fn push(&self, notice: Notice) {
        let held_back = {
            let mut waiting = self.waiting.lock();
            waiting.push(self.clock.now(), notice);
            waiting.take_held_back()
        };
        add(&self.counters.held_back, held_back);
        ring(&self.keeper);
        ring(&self.bell);
    }
}

/// The courier's end of a lane.
struct NoticeLane {
    node: Arc<str>,
    waiting: SharedWaiting,
    bell: mpsc::Receiver<()>,
    keeper: mpsc::Sender<()>,
    /// Whether the next run goes on with what waits.
    is_kept: bool,
    composer: Arc<dyn Compose>,
    courier: Courier,
    counters: Arc<Counters>,
    clock: Clock,
}

/// Starts a lane for what waits, with a keeper if there is a file. Its tasks end with what is returned, when all is told or
/// there is no more time.
pub(crate) fn start(
    waiting: Waiting,
    file: Option<WaitingFile>,
    composer: Arc<dyn Compose>,
    courier: Courier,
    tasks: &mut JoinSet<()>,
) -> NoticeQueue {
    let waiting = SharedWaiting(Arc::new(Mutex::new(waiting)));
    let ((bell, rung), (keeper, changed)) = (mpsc::channel(1), mpsc::channel(1));
    let service = courier.service();
    let (node, counters, clock) = (Arc::clone(&service.node), Arc::clone(&service.counters), service.clock);
    let is_kept = file.is_some();
    if let Some(file) = file {
        let (node, waiting) = (Arc::clone(&node), waiting.clone());
        tasks.spawn(Keeper { node, waiting, file, changed }.run());
    }
    let lane = NoticeLane {
        node,
        waiting: waiting.clone(),
        bell: rung,
        keeper: keeper.clone(),
        is_kept,
        composer,
        courier,
        counters: Arc::clone(&counters),
        clock,
    };
    tasks.spawn(lane.run());
    NoticeQueue { waiting, bell, keeper, counters, clock }
}

impl NoticeLane {
    /// Delivers what comes until the queue's other end is gone, and then what may still be told.
    async fn run(mut self) {
        loop {
            let next = self.next(Waiting::next);
            let due = match next {
                Next::Tell(notice) => match self.tell(&notice).await {
                    Outcome::Abandoned => return self.give_up(),
                    Outcome::Delivered | Outcome::DeadLettered => continue,
                },
                Next::At(due) => Some(due),
                Next::Idle => None,
            };
            let now = self.clock.now();
            let room = async {
                match due {
                    Some(due) => tokio::time::sleep(due.since(now)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                rung = self.bell.recv() => if rung.is_none() { break },
                () = room => {}
            }
        }
        self.end().await;
    }

    /// Nobody will add anything: tells what no next run will.
    async fn end(mut self) {
        while !self.is_kept
            && let Next::Tell(notice) = self.next(Waiting::last)
        {
            if self.tell(&notice).await == Outcome::Abandoned {
                return self.give_up();
            }
        }
    }

    fn next(&self, choose: impl Fn(&mut Waiting, sluice_stages::slot::Timestamp) -> Next) -> Next {
        let (next, held_back) = {
            let mut waiting = self.waiting.lock();
            (choose(&mut waiting, self.clock.now()), waiting.take_held_back())
        };
        add(&self.counters.held_back, held_back);
        ring(&self.keeper);
        next
    }

    async fn tell(&mut self, notice: &Notice) -> Outcome {
        let outcome = match self.composer.compose(notice_id(notice), notice) {
            Ok(message) => self.courier.deliver(&message).await,
            Err(reason) => {
                add(&self.counters.dead_letters, 1);
                let group = &notice.group_key;
                tracing::error!(node = %self.node, %group, reason, "a notice could not be put into words");
                Outcome::DeadLettered
            }
        };
        if outcome == Outcome::Delivered {
            add(&self.counters.notices, 1);
        }
        if outcome != Outcome::Abandoned {
            self.waiting.lock().done();
            ring(&self.keeper);
        }
        outcome
    }

    /// There is no more time. The courier has counted the notice that was on its way.
    fn give_up(self) {
        let notices = self.waiting.lock().kept().1.len();
        add(&self.counters.abandoned, notices.saturating_sub(1) as u64);
        if !self.is_kept {
            let help = "give the sink a `state_path` to have the next run deliver them";
            tracing::warn!(node = %self.node, notices, kept = false, help, "ended with notices that were not delivered");
        }
    }
}

fn ring(bell: &mpsc::Sender<()>) {
    // A bell that rings already, or that nobody listens to, needs no other ring.
    bell.try_send(()).ok();
}

/// The same for the same notice, also when it is told again after a restart.
pub(crate) fn notice_id(notice: &Notice) -> String {
    let mut states = String::new();
    for alert in &notice.alerts {
        states.push_str(&format!("/{}:{:?}", alert.fingerprint, alert.state));
    }
    format!("alert_{}", fingerprint(&format!("{}/{}{states}", notice.group_key, notice.at.0)))
}
