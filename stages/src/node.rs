//! Nodes that do I/O: sources, sinks and recovery. Each is a task of its own that the runner starts with a context.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::edge::{Inbox, Outbox};
use crate::slot::{Slot, Timestamp};
use crate::stage::{Event, Metric};
use crate::watch::Watch;

/// The time, as stages are told it: the wall clock at start plus what a monotonic clock counted since.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_at: Timestamp,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_at = Timestamp(u64::try_from(wall.as_micros()).unwrap_or(u64::MAX));
        Self { started: Instant::now(), started_at }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.started_at.after(self.started.elapsed())
    }
}

/// What a node that does I/O is given to run with.
pub struct NodeContext {
    /// The node's name in the TOML.
    pub name: String,
    /// Asks sources to stop. Other nodes end when their inputs do.
    pub stop: CancellationToken,
    /// The clock.
    pub clock: Clock,
    /// The memory that frames may take.
    pub budget: Arc<Budget>,
    /// Where events go: the log, the counters, the alert evaluator. Bounded, and lossy only when nobody reads.
    pub events: EventSink,
    /// Slots that have to be fetched (again): sinks send, recovery nodes receive.
    pub requests: RequestSender,
    /// Where the node shows its metrics.
    pub metrics: MetricBoard,
    /// The pipeline as a whole, for nodes that watch it.
    pub watch: Watch,
}

/// Sends events to the runner.
#[derive(Debug, Clone)]
pub struct EventSink {
    node: Arc<str>,
    sender: mpsc::Sender<(Arc<str>, Event)>,
}

impl EventSink {
    /// A sink for the node called `node`.
    pub fn new(node: &str, sender: mpsc::Sender<(Arc<str>, Event)>) -> Self {
        Self { node: Arc::from(node), sender }
    }

    /// Reports an event. The pipeline never waits for its log: an event beyond the channel's bound is not shown.
    pub fn report(&self, event: Event) {
        if self.sender.try_send((Arc::clone(&self.node), event)).is_err() {
            tracing::trace!(node = %self.node, "event not shown, the log is behind");
        }
    }
}

/// Sends the numbers of slots that have to be fetched to the recovery nodes upstream.
#[derive(Debug, Clone, Default)]
pub struct RequestSender {
    targets: Vec<mpsc::Sender<Vec<Slot>>>,
}

impl RequestSender {
    /// A sender to these recovery nodes.
    pub fn new(targets: Vec<mpsc::Sender<Vec<Slot>>>) -> Self {
        Self { targets }
    }

    /// Asks for `slots`; false if there is no recovery upstream or it is busy, in which case the caller asks again.
    pub fn request(&self, slots: &[Slot]) -> bool {
        let accepted = |target: &mpsc::Sender<Vec<Slot>>| target.try_send(slots.to_vec()).is_ok();
        !self.targets.is_empty() && self.targets.iter().all(accepted)
    }
}

/// The latest metrics of one node, overwritten by the node and read by whoever shows them.
#[derive(Debug, Clone, Default)]
pub struct MetricBoard {
    latest: Arc<std::sync::Mutex<Vec<Metric>>>,
}

impl MetricBoard {
    /// Replaces what the board shows.
    pub fn show(&self, fill: impl FnOnce(&mut dyn FnMut(Metric))) {
        let mut fresh = Vec::new();
        fill(&mut |metric| fresh.push(metric));
        *self.latest.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = fresh;
    }

    /// What the board shows.
    pub fn read(&self) -> Vec<Metric> {
        self.latest.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// Why a node ended before its time.
#[derive(Debug, Error)]
pub enum NodeError {
    /// It can't go on, and a restart of the same configuration would not help.
    #[error("{0}")]
    Fatal(String),
    /// All nodes that it sends to have ended.
    #[error("every node downstream has ended")]
    Downstream(#[from] crate::edge::Closed),
    /// A disk refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: std::path::PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

/// A node that brings updates in.
pub trait Source: Send {
    /// Runs until asked to stop, or until there is nothing more to come.
    fn run(
        self: Box<Self>,
        outbox: Outbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>>;
}

/// A node between others that does I/O.
pub trait Transform: Send {
    /// Runs until its inputs end. `requests` brings the slots that nodes downstream ask for.
    fn run(
        self: Box<Self>,
        inbox: Inbox,
        outbox: Outbox,
        requests: mpsc::Receiver<Vec<Slot>>,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>>;
}

/// A node that takes items out.
pub trait Sink: Send {
    /// Runs until its inputs end, and returns when all that it accepted is as durable as it will get.
    fn run(self: Box<Self>, inbox: Inbox, context: NodeContext) -> BoxFuture<'static, Result<(), NodeError>>;
}
