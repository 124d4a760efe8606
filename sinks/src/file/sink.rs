//! The task of a file.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use sluice_stages::batch::{Batch, Item};
use sluice_stages::edge::Inbox;
use sluice_stages::node::{NodeContext, NodeError, Sink};

use super::FileOptions;
use super::rotation::RotatingFile;
use crate::delivery::alert_record::Teller;
use crate::delivery::counters::{Counters, add};
use crate::delivery::cursor::{Cursor, CursorFile, Position};
use crate::delivery::line_maker::LineMaker;
use crate::delivery::record::Lines;

/// The first wait after the disk refused.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest wait between two tries: a disk that was full is used again soon after somebody made room.
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// Tries after the pipeline was asked to stop; blocks that are not durable then are written by the next run.
const TRIES_AT_END: u32 = 5;

/// The sink, ready to run.
pub(super) struct FileSink {
    pub(super) options: FileOptions,
    pub(super) file: RotatingFile,
    pub(super) cursor: CursorFile,
    pub(super) position: Option<Position>,
    pub(super) lock: File,
}

impl Sink for FileSink {
    fn run(self: Box<Self>, inbox: Inbox, context: NodeContext) -> BoxFuture<'static, Result<(), NodeError>> {
        let Self { options, file, cursor, position, lock } = *self;
        let teller = Teller { pipeline: context.watch.pipeline().to_owned(), channel: context.name.clone() };
        let maker = LineMaker::new(&options.records, &options.filters, teller);
        let shell = Shell {
            options,
            context,
            maker,
            file: Some(file),
            cursor_file: cursor,
            cursor: Cursor::resume(position.as_ref()),
            stored: position,
            counters: Counters::default(),
            _lock: lock,
        };
        Box::pin(shell.run(inbox))
    }
}

struct Shell {
    options: FileOptions,
    context: NodeContext,
    maker: LineMaker,
    /// Away only while a blocking thread has it.
    file: Option<RotatingFile>,
    cursor_file: CursorFile,
    /// Behind what was written, synced or not.
    cursor: Cursor,
    /// What the cursor's file says.
    stored: Option<Position>,
    counters: Counters,
    /// No other process writes to the file.
    _lock: File,
}

impl Shell {
    async fn run(mut self, mut inbox: Inbox) -> Result<(), NodeError> {
        let mut tick = tokio::time::interval(self.options.sync_interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = inbox.recv() => match received {
                    Some((_, batch)) => self.accept(batch).await?,
                    None => break,
                },
                _ = tick.tick() => self.sync().await?,
            }
        }
        self.sync().await
    }

    async fn accept(&mut self, batch: Batch) -> Result<(), NodeError> {
        for item in &batch {
            match item {
                Item::Begin(slot) => {
                    if self.cursor.begin(*slot) {
                        let node = &self.context.name;
                        tracing::error!(
                            node,
                            slot,
                            "the pipeline begins behind what was written; the slots between are missing"
                        );
                    }
                }
                Item::Block(block) => {
                    if self.maker.takes_blocks() && self.cursor.accept(block.slot(), block.blockhash()) {
                        let lines = self.maker.lines(item).await?;
                        self.write(lines, false).await?;
                        self.cursor.on_delivered(block.meta.parent_slot, block.slot());
                    }
                }
                _ => {
                    let lines = self.maker.lines(item).await?;
                    self.write(lines, self.maker.notice(item).is_some()).await?;
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, lines: Lines, is_notice: bool) -> Result<(), NodeError> {
        if lines.bytes.is_empty() {
            return Ok(());
        }
        let (records, bytes) = (lines.ends.len() as u64, lines.bytes.len() as u64);
        let (lines, clock) = (std::sync::Arc::new(lines), self.context.clock);
        self.until_done(move |file| file.write(clock.now(), &lines.bytes)).await?;
        add(if is_notice { &self.counters.notices } else { &self.counters.records }, records);
        add(&self.counters.bytes, bytes);
        Ok(())
    }

    /// Makes what was written durable, and then says so in the cursor.
    async fn sync(&mut self) -> Result<(), NodeError> {
        let position = self.cursor.position(None, Vec::new());
        self.until_done(RotatingFile::sync).await?;
        if let Some(position) = position.filter(|position| self.stored.as_ref() != Some(position)) {
            let (file, written) = (self.cursor_file.clone(), position.clone());
            self.until_done(move |_| file.store(&written)).await?;
            self.counters.next_slot.store(position.next_slot, Ordering::Relaxed);
            self.stored = Some(position);
        }
        self.context.metrics.show(|show| self.counters.metrics(show));
        Ok(())
    }

    /// Nothing is read while the disk refuses, so everything upstream slows down and nothing is lost.
    async fn until_done<F>(&mut self, work: F) -> Result<(), NodeError>
    where
        F: Fn(&mut RotatingFile) -> io::Result<()> + Clone + Send + 'static,
    {
        let (mut wait, mut tries_at_end) = (FIRST_RETRY, 0);
        loop {
            let Err(source) = self.on_blocking_thread(work.clone()).await? else { return Ok(()) };
            let path = self.options.path.clone();
            tracing::error!(node = %self.context.name, path = %path.display(), error = %source, "not written, to be tried again");
            if self.context.stop.is_cancelled() {
                wait = FIRST_RETRY;
                tries_at_end += 1;
                if tries_at_end > TRIES_AT_END {
                    return Err(NodeError::Io { path, source });
                }
            }
            add(&self.counters.retries, 1);
            self.context.metrics.show(|show| self.counters.metrics(show));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }

    async fn on_blocking_thread<F>(&mut self, work: F) -> Result<io::Result<()>, NodeError>
    where
        F: FnOnce(&mut RotatingFile) -> io::Result<()> + Send + 'static,
    {
        let lost = || NodeError::Fatal("the writer panicked".to_owned());
        let mut file = self.file.take().ok_or_else(lost)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut file);
            (file, result)
        });
        let (file, result) = done.await.map_err(|_| lost())?;
        self.file = Some(file);
        Ok(result)
    }
}
