//! The replay: a source that plays a recording.
//!
//! ```text
//!  file ─ blocking thread: Reader ──→ [4 blocks] ──→ Player ─ pace ─→ Outbox (blocks when full)
//! ```
//!
//! Order and sessions are those of the recording, and so are the bounds of the batches at `"max"`; the updates' arrival
//! times are those of today, as stages compare them with their clock. The source ends with the recording.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::format::RecordedBlock;
use super::player::Player;
use super::reader::{Reader, RecordingError};
use crate::batch::{Batch, Item, Session};
use crate::budget::Lease;
use crate::edge::Outbox;
use crate::frame::Kind;
use crate::node::{NodeContext, NodeError, Source};
use crate::slot::{Slot, Timestamp};
use crate::stage::{Event, Metric};

/// Blocks that were read ahead: a megabyte each.
const BLOCKS_AHEAD: usize = 4;
/// Most items of a batch, as of a live source.
const BATCH_ITEMS: usize = 256;
/// Most bytes of a batch, as of a live source.
const BATCH_BYTES: usize = 1 << 20;
/// Waits shorter than this are not worth a timer.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Plays one recording.
pub struct ReplaySource {
    reader: Reader,
    player: Player,
    factor: Option<f64>,
}

impl ReplaySource {
    /// Plays what `reader` reads, `factor` times as fast as it was; as fast as it goes without one.
    pub fn new(reader: Reader, player: Player, factor: Option<f64>) -> Self {
        Self { reader, player, factor }
    }
}

impl Source for ReplaySource {
    fn run(
        self: Box<Self>,
        outbox: Outbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        let Self { reader, player, factor } = *self;
        let run = Run { player, pace: Pace::new(factor), outbox, context, seen: Seen::default() };
        Box::pin(run.run(reader))
    }
}

/// When to play what.
#[derive(Debug, Clone, Copy)]
struct Pace {
    factor: Option<f64>,
    /// The first recorded time, and when that was played.
    origin: Option<(Timestamp, Timestamp)>,
}

impl Pace {
    fn new(factor: Option<f64>) -> Self {
        Self { factor, origin: None }
    }

    /// How long to wait with what was recorded at `at`.
    fn wait(&mut self, at: Timestamp, now: Timestamp) -> Duration {
        let Some(factor) = self.factor else { return Duration::ZERO };
        if at == Timestamp(0) {
            return Duration::ZERO;
        }
        let (first_at, begun_at) = *self.origin.get_or_insert((at, now));
        let due = Duration::try_from_secs_f64(at.since(first_at).as_secs_f64() / factor);
        begun_at.after(due.unwrap_or(Duration::MAX)).since(now)
    }
}

#[derive(Debug, Default)]
struct Seen {
    updates: [u64; Kind::ALL.len()],
    bytes: u64,
    malformed: u64,
    tip: Slot,
}

struct Run {
    player: Player,
    pace: Pace,
    outbox: Outbox,
    context: NodeContext,
    seen: Seen,
}

impl Run {
    async fn run(mut self, reader: Reader) -> Result<(), NodeError> {
        let (mut blocks, reading) = read_ahead(vec![reader]);
        while let Some(block) = blocks.recv().await {
            let items = self.player.play(block);
            self.report_malformed();
            if !self.play(items).await? {
                break;
            }
        }
        drop(blocks);
        let mut last = Batch::new();
        self.player.end(&mut last);
        self.show_metrics();
        let read = reading.await.map_err(|_| NodeError::Fatal("the reader panicked".to_owned()))?;
        for torn in read.map_err(|error| NodeError::Fatal(error.to_string()))? {
            tracing::warn!(node = %self.context.name, byte = torn, "the recording breaks off; what came before was played");
        }
        self.outbox.send(last).await.map_err(NodeError::from)
    }

    /// Sends items at their time; false if the source was asked to stop.
    async fn play(&mut self, items: Batch) -> Result<bool, NodeError> {
        let (mut batch, mut bytes) = (Batch::new(), 0);
        for item in items {
            let wait = self.pace.wait(recorded_at(&item), self.context.clock.now());
            let full = batch.len() >= BATCH_ITEMS || bytes >= BATCH_BYTES;
            if full || wait >= SHORTEST_WAIT {
                bytes = 0;
                if !self.send(std::mem::take(&mut batch)).await? || !self.sleep(wait).await {
                    return Ok(false);
                }
            }
            bytes += item.size_bytes();
            batch.push(item);
        }
        self.send(batch).await
    }

    async fn sleep(&self, wait: Duration) -> bool {
        if wait < SHORTEST_WAIT {
            return true;
        }
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }

    async fn send(&mut self, mut batch: Batch) -> Result<bool, NodeError> {
        if batch.is_empty() {
            return Ok(!self.context.stop.is_cancelled());
        }
        let bytes = batch.iter().map(Item::size_bytes).sum();
        let lease = tokio::select! {
            biased;
            () = self.context.stop.cancelled() => return Ok(false),
            lease = self.context.budget.lease(bytes) => lease,
        };
        let now = self.context.clock.now();
        batch.iter_mut().for_each(|item| self.stamp(item, now, &lease));
        self.show_metrics();
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => Ok(false),
            sent = self.outbox.send(batch) => sent.map(|()| true).map_err(NodeError::from),
        }
    }

    fn stamp(&mut self, item: &mut Item, now: Timestamp, lease: &Arc<Lease>) {
        match item {
            Item::Update(update) => {
                self.seen.updates[update.frame.header.kind as usize] += 1;
                self.seen.bytes += update.size_bytes() as u64;
                self.seen.tip = self.seen.tip.max(update.frame.header.slot);
                update.received_at = now;
                update.lease = Some(Arc::clone(lease));
            }
            Item::Session(Session::Opened { at, .. } | Session::Closed { at, .. }) => *at = now,
            _ => {}
        }
    }

    fn report_malformed(&mut self) {
        for (endpoint, error) in self.player.take_malformed() {
            self.seen.malformed += 1;
            self.context.events.report(Event::Malformed { endpoint, slot: None, reason: error.to_string() });
        }
    }

    fn show_metrics(&self) {
        let seen = &self.seen;
        self.context.metrics.show(|show| {
            for kind in Kind::ALL {
                let count = seen.updates[kind as usize];
                show(Metric::new("source_updates_total", count).with("kind", kind.name()));
            }
            show(Metric::new("source_bytes_total", seen.bytes));
            show(Metric::new("source_malformed_total", seen.malformed));
            Metric::slot("source_tip_slot", seen.tip).into_iter().for_each(show);
        });
    }
}

fn recorded_at(item: &Item) -> Timestamp {
    match item {
        Item::Update(update) => update.received_at,
        Item::Session(Session::Opened { at, .. } | Session::Closed { at, .. }) => *at,
        _ => Timestamp(0),
    }
}

/// What reading comes to: where files break off.
pub(crate) type Reading = JoinHandle<Result<Vec<u64>, RecordingError>>;

/// Reads recordings, one after the other, on a thread of its own. Ends early if nobody takes the blocks.
pub(crate) fn read_ahead(readers: Vec<Reader>) -> (mpsc::Receiver<RecordedBlock>, Reading) {
    let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
    let reading = tokio::task::spawn_blocking(move || {
        let mut torn = Vec::new();
        for mut reader in readers {
            while let Some(block) = reader.next_block()? {
                if sender.blocking_send(block).is_err() {
                    return Ok(torn);
                }
            }
            torn.extend(reader.torn_at());
        }
        Ok(torn)
    });
    (blocks, reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_000_000 + seconds * 1_000_000)
    }

    #[test]
    fn a_factor_shortens_every_wait() {
        let mut pace = Pace::new(Some(10.0));
        assert_eq!(pace.wait(at(0), at(1_000)), Duration::ZERO);
        assert_eq!(pace.wait(at(60), at(1_000)), Duration::from_secs(6));
        assert_eq!(pace.wait(at(60), at(1_004)), Duration::from_secs(2), "time that has passed counts");
        assert_eq!(pace.wait(at(60), at(1_100)), Duration::ZERO, "what is late is not waited for");
    }

    #[test]
    fn as_fast_as_it_goes_waits_for_nothing() {
        let mut pace = Pace::new(None);
        pace.wait(at(0), at(0));
        assert_eq!(pace.wait(at(60), at(0)), Duration::ZERO);
    }
}
