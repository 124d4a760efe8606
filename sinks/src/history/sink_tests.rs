use sluice_stages::budget::Budget;
use sluice_stages::edge::{EdgeConfig, Outbox, connect};
use sluice_stages::node::{EventSink, RequestSender};
use sluice_stages::sample::Reading;
use sluice_stages::stage::Label;
use sluice_stages::watch::Watch;
use tokio_util::sync::CancellationToken;

use super::super::query::SeriesQuery;
use super::*;

fn context() -> NodeContext {
    let (events, _) = mpsc::channel(1);
    NodeContext {
        name: "history".to_owned(),
        stop: CancellationToken::new(),
        clock: Clock::start(),
        budget: Budget::new(usize::MAX),
        events: EventSink::new("history", events),
        requests: RequestSender::default(),
        metrics: MetricBoard::default(),
        watch: Watch::default(),
    }
}

fn sample(clock: Clock) -> Item {
    Item::Sample(Arc::new(Sample { at: clock.now(), readings: vec![Reading::new("holes", 1.0)] }))
}

fn metric(board: &MetricBoard, name: &str, label: Option<&'static str>) -> f64 {
    let fits = |metric: &Metric| {
        metric.name == name && metric.label.map(|(_, label)| label) == label.map(Label::Word)
    };
    board.read().into_iter().find(fits).expect("shown").value
}

async fn run(options: HistoryOptions, samples: usize) -> (HistoryReader, MetricBoard, Clock) {
    let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
    connect(&mut outbox, &mut inbox, EdgeConfig::default());
    let (context, reader) = (context(), HistoryReader::default());
    let (board, clock) = (context.metrics.clone(), context.clock);
    let sink = Box::new(HistorySink::new(options, reader.clone()));
    let running = tokio::spawn(sink.run(inbox, context));
    for _ in 0..samples {
        outbox.send(vec![sample(clock)]).await.expect("the sink runs");
    }
    drop(outbox);
    running.await.expect("no panic").expect("no error");
    (reader, board, clock)
}

#[tokio::test]
async fn the_end_writes_what_has_come_and_another_run_reads_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = HistoryOptions { path: Some(folder.path().join("h.db")), ..HistoryOptions::default() };
    let (_, board, clock) = run(options.clone(), 3).await;
    assert_eq!(metric(&board, "history_open", None), 1.0);
    assert_eq!(metric(&board, "history_failures_total", None), 0.0);
    let store = Store::open(&options, "").await.expect("a store");
    let query = SeriesQuery {
        metric: "holes".to_owned(),
        matchers: Vec::new(),
        from: Timestamp(0),
        to: clock.now(),
        step: Duration::from_secs(10_000_000),
    };
    let series = store.series(&query, clock.now()).await.expect("an answer");
    assert_eq!(series[0].points.last().map(|point| point.last), Some(1.0));
}

#[tokio::test]
async fn a_store_that_can_not_be_had_costs_history_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let occupied = folder.path().join("file");
    std::fs::write(&occupied, "not a folder").expect("a file");
    let options = HistoryOptions { path: Some(occupied.join("h.db")), ..HistoryOptions::default() };
    let (reader, board, _) = run(options, 3).await;
    assert!(metric(&board, "history_failures_total", None) >= 1.0);
    assert!(matches!(reader.metrics().await, Err(HistoryError::NotKept)));
}

#[tokio::test]
async fn what_does_not_fit_into_the_queue_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = HistoryOptions { path: Some(folder.path().join("h.db")), ..HistoryOptions::default() };
    let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
    connect(&mut outbox, &mut inbox, EdgeConfig::default());
    let context = context();
    let (board, clock) = (context.metrics.clone(), context.clock);
    // In one batch: on this thread the writer gets no turn before all of it was offered to the queue.
    outbox.send((0..QUEUE_CAPACITY + 7).map(|_| sample(clock)).collect()).await.expect("room");
    drop(outbox);
    Box::new(HistorySink::new(options, HistoryReader::default()))
        .run(inbox, context)
        .await
        .expect("no error");
    assert_eq!(metric(&board, "history_discarded_total", Some("queue")), 7.0);
}
