//! The sink: a queue, and a writer behind it that may fail without the pipeline noticing.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use sluice_stages::alert::{Alert, AlertItem};
use sluice_stages::batch::Item;
use sluice_stages::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use sluice_stages::edge::Inbox;
use sluice_stages::node::{Clock, MetricBoard, NodeContext, NodeError, Sink};
use sluice_stages::sample::Sample;
use sluice_stages::slot::Timestamp;
use sluice_stages::stage::{Flow, Metric};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::options::HistoryOptions;
use super::query::{AlertChange, HistoryError};
use super::reader::HistoryReader;
use super::rollup::Rollup;
use super::store::{Store, Write};

/// Entries between the sink and the writer: eight minutes of samples, some 30 MB at most.
const QUEUE_CAPACITY: usize = 512;
/// Rows that wait for a store that is away before the queue is left to fill: a minute of a large pipeline.
const WAITING_ROWS: usize = 100_000;
/// How long one write may take before it counts as failed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the last write at the end may take: a store that is away must not hold up the shutdown.
const LAST_WRITE: Duration = Duration::from_secs(3);
/// Time between two looks for rows that are too old.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// The sink.
pub(super) struct HistorySink {
    options: HistoryOptions,
    reader: HistoryReader,
}

/// What the writer is given.
enum Entry {
    Sample(Arc<Sample>),
    Changed(Alert, Timestamp),
}

/// What happened; shown on the board.
#[derive(Debug, Default)]
struct Counters {
    written_rows: AtomicU64,
    failures: AtomicU64,
    discarded_queue: AtomicU64,
    discarded_series: AtomicU64,
    is_open: AtomicU64,
}

impl HistorySink {
    /// A sink that opens its store when it runs, and then lets `reader` read it.
    pub(super) fn new(options: HistoryOptions, reader: HistoryReader) -> Self {
        Self { options, reader }
    }
}

impl Component for HistoryOptions {
    const KIND: &'static str = "history";
    const ROLE: Role = Role::Sink;
    const ACCEPTS: Accepts = Accepts::AnyOf(&[Flow::Samples, Flow::Alerts]);
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str =
        "Keeps samples and alerts in SQLite or PostgreSQL, thinned out with their age.";

    fn problems(&self) -> Vec<Problem> {
        self.found()
    }

    fn claims(&self) -> Vec<PathBuf> {
        self.file().into_iter().collect()
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        let reader = HistoryReader::shared(context);
        Ok(Node::Sink(Box::new(HistorySink::new(self, reader))))
    }
}

impl Sink for HistorySink {
    fn run(
        self: Box<Self>,
        mut inbox: Inbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move {
            let counters = Arc::new(Counters::default());
            let (sender, queue) = mpsc::channel(QUEUE_CAPACITY);
            let writer = Writer::new(*self, &context, Arc::clone(&counters));
            let writing = tokio::spawn(writer.run(queue));
            while let Some((_, batch)) = inbox.recv().await {
                let now = context.clock.now();
                for entry in batch.into_iter().filter_map(|item| entry(item, now)) {
                    if sender.try_send(entry).is_err() {
                        counters.discarded_queue.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            drop(sender);
            if writing.await.is_err() {
                tracing::error!(node = context.name, "the history's writer panicked");
            }
            Ok(())
        })
    }
}

fn entry(item: Item, now: Timestamp) -> Option<Entry> {
    match item {
        Item::Sample(sample) => Some(Entry::Sample(sample)),
        Item::Alert(alert) => match &*alert {
            AlertItem::Changed(alert) => Some(Entry::Changed(alert.clone(), now)),
            AlertItem::Measured(_) | AlertItem::Notice(_) => None,
        },
        _ => None,
    }
}

/// The task that writes.
struct Writer {
    name: String,
    pipeline: String,
    options: HistoryOptions,
    reader: HistoryReader,
    clock: Clock,
    board: MetricBoard,
    counters: Arc<Counters>,
    store: Option<Store>,
    rollup: Rollup,
    changes: Vec<AlertChange>,
    last_change: i64,
    pruned_at: Timestamp,
    is_failing: bool,
}

impl Writer {
    fn new(sink: HistorySink, context: &NodeContext, counters: Arc<Counters>) -> Self {
        let HistorySink { options, reader } = sink;
        let pipeline = context.watch.pipeline().to_owned();
        Self {
            name: context.name.clone(),
            rollup: Rollup::new(&pipeline, options.windows.clone(), options.max_series),
            pipeline,
            options,
            reader,
            clock: context.clock,
            board: context.metrics.clone(),
            counters,
            store: None,
            changes: Vec::new(),
            last_change: 0,
            pruned_at: Timestamp(0),
            is_failing: false,
        }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Entry>) {
        let mut ticks = interval(self.options.write_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                entry = queue.recv(), if self.has_room() => match entry {
                    Some(entry) => self.take(entry),
                    None => break,
                },
                _ = ticks.tick() => {
                    self.write(WRITE_TIMEOUT).await;
                    if queue.is_closed() && queue.is_empty() {
                        break;
                    }
                }
            }
        }
        self.write(LAST_WRITE).await;
        if let Some(store) = self.store.take() {
            // Readers that are still at it are cut short by the end of the process only.
            tokio::time::timeout(LAST_WRITE, store.close()).await.ok();
        }
    }

    fn has_room(&self) -> bool {
        self.rollup.len() < WAITING_ROWS && self.changes.len() < WAITING_ROWS
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Sample(sample) => {
                self.rollup.add(&sample);
                self.counters.discarded_series.store(self.rollup.discarded(), Ordering::Relaxed);
            }
            Entry::Changed(alert, at) => {
                let id = i64::try_from(at.0).unwrap_or(i64::MAX).max(self.last_change + 1);
                self.last_change = id;
                self.changes.push(AlertChange { id, at, alert });
            }
        }
    }

    /// Writes what has come in; what can't be written is kept for the next time.
    async fn write(&mut self, limit: Duration) {
        let written =
            tokio::time::timeout(limit, self.try_write()).await.unwrap_or(Err(HistoryError::Timeout));
        self.note(written);
        self.show();
    }

    async fn try_write(&mut self) -> Result<(), HistoryError> {
        let store = match &self.store {
            Some(store) => store.clone(),
            None => {
                let store = Store::open(&self.options, &self.pipeline).await?;
                self.reader.open(store.clone(), self.clock);
                self.counters.is_open.store(1, Ordering::Relaxed);
                self.store.insert(store).clone()
            }
        };
        let rows = self.rollup.rows();
        if !rows.is_empty() || !self.changes.is_empty() {
            store
                .write(Write { series: self.rollup.new_series(), rows: &rows, changes: &self.changes })
                .await?;
            self.rollup.clear();
            self.changes.clear();
            self.counters.written_rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        }
        let now = self.clock.now();
        if now.since(self.pruned_at) >= PRUNE_INTERVAL {
            store.prune(now).await?;
            self.pruned_at = now;
        }
        Ok(())
    }

    /// Counts and logs failures: the first of a row as a warning.
    fn note(&mut self, written: Result<(), HistoryError>) {
        match written {
            Ok(()) if self.is_failing => {
                tracing::info!(node = self.name, "the history is written again");
                self.is_failing = false;
            }
            Ok(()) => {}
            Err(error) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                if !mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(node = self.name, %error, "the history can't be written, to be tried again");
                }
            }
        }
    }

    fn show(&self) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        self.board.show(|show| {
            show(Metric::new("history_open", read(&counters.is_open)));
            show(Metric::new("history_written_rows_total", read(&counters.written_rows)));
            show(Metric::new("history_failures_total", read(&counters.failures)));
            show(
                Metric::new("history_discarded_total", read(&counters.discarded_queue))
                    .with("reason", "queue"),
            );
            show(
                Metric::new("history_discarded_total", read(&counters.discarded_series))
                    .with("reason", "series"),
            );
            show(Metric::new("history_unwritten_rows", self.rollup.len() as u64));
        });
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
