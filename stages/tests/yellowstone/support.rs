//! A source that runs outside of a pipeline, for tests.

use std::sync::Arc;
use std::time::Duration;

use sluice_stages::batch::{Item, Session, Update};
use sluice_stages::budget::Budget;
use sluice_stages::component::{BuildContext, Component, Node};
use sluice_stages::edge::{EdgeConfig, Inbox, Outbox, connect};
use sluice_stages::node::{Clock, EventSink, MetricBoard, NodeContext, NodeError, RequestSender};
use sluice_stages::stage::Event;
use sluice_stages::watch::Watch;
use sluice_stages::yellowstone::YellowstoneOptions;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest time for anything that should happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running source and its surroundings.
pub(crate) struct Running {
    pub(crate) inbox: Inbox,
    pub(crate) events: mpsc::Receiver<(Arc<str>, Event)>,
    pub(crate) metrics: MetricBoard,
    pub(crate) budget: Arc<Budget>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), NodeError>>,
}

/// Runs the source of these options with one edge.
pub(crate) fn run(options: YellowstoneOptions, edge: EdgeConfig, budget_bytes: usize) -> Running {
    let mut context = BuildContext::new();
    context.node = "ams".to_owned();
    let Ok(Node::Source(source)) = options.build(&mut context) else { panic!("it is a source") };
    let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
    connect(&mut outbox, &mut inbox, edge);
    let (event_sender, events) = mpsc::channel(64);
    let (metrics, budget, stop) =
        (MetricBoard::default(), Budget::new(budget_bytes), CancellationToken::new());
    let context = NodeContext {
        name: "ams".to_owned(),
        stop: stop.clone(),
        clock: Clock::start(),
        budget: Arc::clone(&budget),
        events: EventSink::new("ams", event_sender),
        requests: RequestSender::default(),
        metrics: metrics.clone(),
        watch: Watch::default(),
    };
    let task = tokio::spawn(source.run(outbox, context));
    Running { inbox, events, metrics, budget, stop, task }
}

/// The same with more room than a test needs.
pub(crate) fn run_plain(options: YellowstoneOptions) -> Running {
    run(options, EdgeConfig::default(), 1 << 30)
}

impl Running {
    /// Items until `enough` of them satisfy the condition.
    pub(crate) async fn items(&mut self, enough: impl Fn(&[Item]) -> bool) -> Vec<Item> {
        let mut items = Vec::new();
        while !enough(&items) {
            let received = tokio::time::timeout(PATIENCE, self.inbox.recv()).await.expect("in time");
            items.extend(received.expect("the source is running").1);
        }
        items
    }

    /// What the next report of a lost connection says.
    pub(crate) async fn disconnect_reason(&mut self) -> String {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("in time");
            if let (_, Event::Disconnected { reason, .. }) = event.expect("the source is running") {
                return reason;
            }
        }
    }

    /// Stops the source, which has to end promptly.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        self.inbox = Inbox::default();
        let ended = tokio::time::timeout(Duration::from_secs(2), self.task).await.expect("promptly");
        ended.expect("no panic").expect("a clean end");
    }
}

/// The updates among items.
pub(crate) fn updates(items: &[Item]) -> Vec<&Update> {
    fn update(item: &Item) -> Option<&Update> {
        if let Item::Update(update) = item { Some(update) } else { None }
    }
    items.iter().filter_map(update).collect()
}

/// Sessions that were opened (true) and closed, by number.
pub(crate) fn sessions(items: &[Item]) -> Vec<(bool, u32)> {
    let session = |item: &Item| match item {
        Item::Session(Session::Opened { id, .. }) => Some((true, id.number)),
        Item::Session(Session::Closed { id, .. }) => Some((false, id.number)),
        _ => None,
    };
    items.iter().filter_map(session).collect()
}
