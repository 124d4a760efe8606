//! The recorder: a sink that writes a recording.
//!
//! What came is written when a block is full, or after `TICK`, and made durable once in `sync_interval`. At the end the
//! index is added. All of that happens on blocking threads; while one works, nothing is read, so that a slow disk slows
//! the sources down and nothing is lost. A disk that refuses ends the recording: what was synced is there.

use std::fs::File;
use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{MissedTickBehavior, interval};

use super::format::{Head, HeadEndpoint};
use super::options::RecorderOptions;
use super::writer::{Encoder, Writer};
use crate::batch::{Batch, Item};
use crate::component::Endpoint;
use crate::edge::Inbox;
use crate::node::{NodeContext, NodeError, Sink};
use crate::slot::Timestamp;
use crate::stage::Metric;
use crate::watch::Watch;

/// How long what came may wait for its block to fill.
const TICK: Duration = Duration::from_millis(250);

/// The sink.
pub struct Recorder {
    options: RecorderOptions,
    file: File,
}

impl Recorder {
    /// Records to `file`, which is empty.
    pub fn new(options: RecorderOptions, file: File) -> Self {
        Self { options, file }
    }
}

impl Sink for Recorder {
    fn run(self: Box<Self>, inbox: Inbox, context: NodeContext) -> BoxFuture<'static, Result<(), NodeError>> {
        let Self { options, file } = *self;
        Box::pin(async move { Shell { tape: None, options, context }.run(file, inbox).await })
    }
}

/// The head of a recording of this pipeline.
pub(crate) fn head_of(watch: &Watch) -> Head {
    let endpoint = |endpoint: &Endpoint| HeadEndpoint {
        name: endpoint.name.to_string(),
        scope: endpoint.options.scope(),
    };
    Head {
        pipeline: watch.pipeline().to_owned(),
        endpoints: watch.endpoints().iter().map(endpoint).collect(),
    }
}

/// A recording in the making.
struct Tape {
    encoder: Encoder,
    writer: Writer<File>,
    sync_interval: Duration,
    synced_at: Timestamp,
    dirty: bool,
    updates: u64,
}

impl Tape {
    fn add(&mut self, now: Timestamp, batch: &Batch) -> io::Result<()> {
        for item in batch {
            self.updates += u64::from(matches!(item, Item::Update(_)));
            self.encoder.push(item);
            if self.encoder.is_full() {
                self.write()?;
            }
        }
        self.sync_if_due(now)
    }

    fn tick(&mut self, now: Timestamp) -> io::Result<()> {
        self.write()?;
        self.sync_if_due(now)
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some(block) = self.encoder.take()? {
            self.writer.append(&block)?;
            self.dirty = true;
        }
        Ok(())
    }

    fn sync_if_due(&mut self, now: Timestamp) -> io::Result<()> {
        if self.dirty && now.since(self.synced_at) >= self.sync_interval {
            (self.synced_at, self.dirty) = (now, false);
            self.writer.get_mut().sync_data()?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.write()?;
        self.writer.finish()?.0.sync_all()
    }
}

struct Shell {
    /// Away only while a blocking thread has it.
    tape: Option<Tape>,
    options: RecorderOptions,
    context: NodeContext,
}

impl Shell {
    async fn run(mut self, file: File, mut inbox: Inbox) -> Result<(), NodeError> {
        let begun = Writer::begin(file, &head_of(&self.context.watch));
        self.tape = Some(Tape {
            encoder: Encoder::new(self.options.compression_level),
            writer: begun.map_err(|source| self.refused(source))?,
            sync_interval: self.options.sync_interval,
            synced_at: self.context.clock.now(),
            dirty: true,
            updates: 0,
        });
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = self.context.clock.now();
            tokio::select! {
                received = inbox.recv() => match received {
                    Some((_, batch)) => self.on_tape(move |tape| tape.add(now, &batch)).await?,
                    None => break,
                },
                _ = ticks.tick() => self.on_tape(move |tape| tape.tick(now)).await?,
            }
        }
        self.on_tape(Tape::write).await?;
        let Some(tape) = self.tape.take() else { return Ok(()) };
        let finished = tokio::task::spawn_blocking(move || tape.finish()).await;
        finished.map_err(|_| lost())?.map_err(|source| self.refused(source))
    }

    async fn on_tape(
        &mut self,
        work: impl FnOnce(&mut Tape) -> io::Result<()> + Send + 'static,
    ) -> Result<(), NodeError> {
        let mut tape = self.tape.take().ok_or_else(lost)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut tape);
            (tape, result)
        });
        let (tape, result) = done.await.map_err(|_| lost())?;
        result.map_err(|source| self.refused(source))?;
        self.context.metrics.show(|show| {
            show(Metric::new("recorder_updates_total", tape.updates));
            show(Metric::new("recorder_written_bytes_total", tape.writer.len_bytes()));
        });
        self.tape = Some(tape);
        Ok(())
    }

    fn refused(&self, source: io::Error) -> NodeError {
        NodeError::Io { path: self.options.path.clone(), source }
    }
}

fn lost() -> NodeError {
    NodeError::Fatal("the writer of the recording panicked".to_owned())
}
