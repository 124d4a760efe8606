//! Runs a sink on its own, for tests.

use std::sync::Arc;
use std::time::Duration;

use sluice_stages::alert::{AlertItem, Notice};
use sluice_stages::batch::{Batch, Item};
use sluice_stages::budget::Budget;
use sluice_stages::component::{BuildContext, Component, Node};
use sluice_stages::edge::{EdgeConfig, EdgeStats, Inbox, Outbox, connect};
use sluice_stages::node::{Clock, EventSink, MetricBoard, NodeContext, NodeError, RequestSender, Sink};
use sluice_stages::watch::Watch;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a condition may take before a test gives up: many times what a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A sink that runs.
pub(crate) struct RunningSink {
    outbox: Outbox,
    task: JoinHandle<Result<(), NodeError>>,
    /// Asks it to stop, as the pipeline would.
    pub(crate) stop: CancellationToken,
    /// What it shows.
    pub(crate) board: MetricBoard,
    /// What its edge has seen.
    pub(crate) edge: Arc<EdgeStats>,
    _events: mpsc::Receiver<(Arc<str>, sluice_stages::stage::Event)>,
}

/// Options from TOML.
pub(crate) fn options<C: Component>(text: &str) -> C {
    let options: C = toml_like(text);
    assert_eq!(options.problems(), []);
    options
}

fn toml_like<C: Component>(text: &str) -> C {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

impl RunningSink {
    /// Starts a sink with these options, written as JSON.
    pub(crate) fn start<C: Component>(text: &str) -> Self {
        Self::start_with(options::<C>(text), &mut BuildContext::new())
    }

    /// Starts a sink made in `build`.
    pub(crate) fn start_with<C: Component>(options: C, build: &mut BuildContext) -> Self {
        let Ok(Node::Sink(sink)) = options.build(build) else { panic!("not a sink") };
        Self::start_sink(sink)
    }

    /// Starts a sink.
    pub(crate) fn start_sink(sink: Box<dyn Sink>) -> Self {
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
        let edge = connect(&mut outbox, &mut inbox, EdgeConfig::default());
        let (sender, events) = mpsc::channel(16);
        let (stop, board) = (CancellationToken::new(), MetricBoard::default());
        let context = NodeContext {
            name: "ops".to_owned(),
            stop: stop.clone(),
            clock: Clock::start(),
            budget: Budget::new(usize::MAX),
            events: EventSink::new("ops", sender),
            requests: RequestSender::default(),
            metrics: board.clone(),
            watch: Watch::default(),
        };
        let task = tokio::spawn(sink.run(inbox, context));
        Self { outbox, task, stop, board, edge, _events: events }
    }

    /// Sends a batch along its edge.
    pub(crate) async fn send(&self, batch: Batch) {
        self.outbox.send(batch).await.expect("the sink runs");
    }

    /// Sends a notice.
    pub(crate) async fn tell(&self, notice: Notice) {
        self.send(vec![Item::Alert(Arc::new(AlertItem::Notice(notice)))]).await;
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        self.board.read().iter().find(|metric| metric.name == name).map(|metric| metric.value)
    }

    /// Ends its input and waits for it.
    pub(crate) async fn end(self) -> Result<(), NodeError> {
        drop(self.outbox);
        tokio::time::timeout(PATIENCE, self.task).await.expect("ends").expect("no panic")
    }

    /// Ends it as a kill would: nothing is passed on any more.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()));
    }
}

/// Waits until `holds`.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("never: {what}"));
}
