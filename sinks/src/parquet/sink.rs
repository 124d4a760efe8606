//! The task around the engine: reads the inbox, lends the engine to rayon, waits while the disk refuses.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sluice_stages::batch::{Batch, Item};
use sluice_stages::block::Block;
use sluice_stages::edge::Inbox;
use sluice_stages::node::{NodeContext, NodeError, Sink};
use sluice_stages::slot::Slot;
use sluice_stages::stage::{Event, Metric};
use tokio::sync::oneshot;

use super::arrivals::{Arrivals, ArrivalsError};
use super::disk::RealDisk;
use super::engine::{Engine, EngineError};
use super::folder::Folder;

/// How often requests are looked for and metrics are shown while nothing comes in.
const TICK: Duration = Duration::from_millis(500);
/// The first wait after the disk refused.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest wait between two tries: a disk that was full is used again soon after somebody made room.
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// Tries after the pipeline was asked to stop; what is not durable then is made again by the next start.
const TRIES_AT_END: u32 = 5;

/// The sink, ready to run.
pub(crate) struct ParquetSink {
    engine: Engine<RealDisk>,
    arrivals: Arrivals<RealDisk>,
    folder: Folder,
}

impl ParquetSink {
    /// A sink that writes to `folder`.
    pub(crate) fn new(engine: Engine<RealDisk>, arrivals: Arrivals<RealDisk>, folder: Folder) -> Self {
        Self { engine, arrivals, folder }
    }
}

impl Sink for ParquetSink {
    fn run(self: Box<Self>, inbox: Inbox, context: NodeContext) -> BoxFuture<'static, Result<(), NodeError>> {
        let Self { engine, arrivals, folder } = *self;
        Box::pin(async move {
            let shell = Shell { engine: Some(Box::new(engine)), arrivals: Some(arrivals), folder, context };
            shell.run(inbox).await
        })
    }
}

struct Shell {
    /// Away only while rayon has it.
    engine: Option<Box<Engine<RealDisk>>>,
    /// Away only while a blocking thread writes them.
    arrivals: Option<Arrivals<RealDisk>>,
    /// Kept for its lock.
    folder: Folder,
    context: NodeContext,
}

impl Shell {
    async fn run(mut self, mut inbox: Inbox) -> Result<(), NodeError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = inbox.recv() => match received {
                    Some((_, batch)) => self.accept(batch).await?,
                    None => break,
                },
                _ = tick.tick() => {
                    self.relieve().await?;
                    self.write_arrivals(Arrivals::write_due).await?;
                    self.on_tick();
                }
            }
        }
        self.write_arrivals(Arrivals::write_rest).await?;
        self.on_tick();
        if let Some(engine) = &self.engine {
            tracing::info!(node = %self.context.name, open_ranges = engine.open_ranges(), "parquet sink ended");
        }
        Ok(())
    }

    async fn accept(&mut self, batch: Batch) -> Result<(), NodeError> {
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        for item in batch {
            match item {
                Item::Block(block) => blocks.push(block),
                Item::Begin(slot) => self.begin(slot)?,
                Item::Arrivals(rows) => self.arrivals.iter_mut().for_each(|arrivals| arrivals.accept(&rows)),
                _ => {}
            }
        }
        if blocks.is_empty() {
            return Ok(());
        }
        self.on_rayon(move |engine, events| engine.accept(blocks.iter().map(Arc::as_ref), events)).await?;
        self.until_durable().await
    }

    /// Remembers where the pipeline begins, before the first block can be lost to a crash.
    fn begin(&mut self, slot: Slot) -> Result<(), NodeError> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        engine.begin(slot);
        self.folder.begin_with(slot).map_err(|error| NodeError::Fatal(error.to_string()))
    }

    /// Nothing is read while the disk refuses, so everything upstream slows down and nothing is lost.
    async fn until_durable(&mut self) -> Result<(), NodeError> {
        let (mut wait, mut tries_at_end) = (FIRST_RETRY, 0);
        while self.engine.as_ref().is_some_and(|engine| engine.is_refused()) {
            self.on_tick();
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
            if self.context.stop.is_cancelled() {
                wait = FIRST_RETRY;
                tries_at_end += 1;
                if tries_at_end > TRIES_AT_END {
                    return Err(NodeError::Fatal(
                        "the disk refuses files; they will be made again".to_owned(),
                    ));
                }
            }
            self.on_rayon(Engine::retry).await?;
        }
        Ok(())
    }

    /// Arrivals are worth a warning, but no stop: nothing else waits for them.
    async fn write_arrivals(
        &mut self,
        write: fn(&mut Arrivals<RealDisk>) -> Result<(), ArrivalsError>,
    ) -> Result<(), NodeError> {
        let lost = || NodeError::Fatal("the writer of arrivals panicked".to_owned());
        let mut arrivals = self.arrivals.take().ok_or_else(lost)?;
        let written = tokio::task::spawn_blocking(move || {
            let result = write(&mut arrivals);
            (arrivals, result)
        });
        let (arrivals, result) = written.await.map_err(|_| lost())?;
        if let Err(error) = result {
            tracing::warn!(node = %self.context.name, %error, "arrivals not written, to be tried again");
        }
        self.arrivals = Some(arrivals);
        Ok(())
    }

    /// Lends the engine to rayon for one call, and reports what came of it.
    async fn on_rayon<F>(&mut self, call: F) -> Result<(), NodeError>
    where
        F: FnOnce(&mut Engine<RealDisk>, &mut Vec<Event>) -> Result<(), EngineError> + Send + 'static,
    {
        let lost = || NodeError::Fatal("the encoder panicked".to_owned());
        let mut engine = self.engine.take().ok_or_else(lost)?;
        let (sender, receiver) = oneshot::channel();
        rayon::spawn(move || {
            let mut events = Vec::new();
            let result = call(&mut engine, &mut events);
            // Without a receiver the task has been aborted, and nobody wants the engine back.
            sender.send((engine, events, result)).ok();
        });
        let (engine, events, result) = receiver.await.map_err(|_| lost())?;
        self.engine = Some(engine);
        for event in events {
            self.context.events.report(event);
        }
        result.map_err(|error| NodeError::Fatal(error.to_string()))
    }

    /// Frames that wait here for a missing slot may hold the memory that the source needs to bring it. Sources that wait
    /// for other reasons (a slow disk, a backfill at full speed) are none of this sink's business.
    async fn relieve(&mut self) -> Result<(), NodeError> {
        let waiting_bytes = self.engine.as_ref().map_or(0, |engine| engine.waiting_bytes());
        let budget = &self.context.budget;
        if budget.waiting() == 0 || waiting_bytes < budget.used_bytes() / 2 {
            return Ok(());
        }
        self.on_rayon(Engine::on_pressure).await
    }

    fn on_tick(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let now = self.context.clock.now();
        // What the disk refuses keeps what would come.
        let slots = if engine.is_refused() { Vec::new() } else { engine.requests(now) };
        if !slots.is_empty() && self.context.requests.request(&slots) {
            engine.on_requested(now);
        }
        let arrivals_lost = self.arrivals.as_ref().map_or(0, Arrivals::lost);
        self.context.metrics.show(|show| {
            engine.metrics(show);
            show(Metric::new("arrivals_lost_total", arrivals_lost));
        });
    }
}
