//! One run of the Parquet sink on its own: blocks in, files out.

use anyhow::{Context, Result, bail};
use sluice_sinks::parquet::ParquetOptions;
use sluice_stages::batch::Batch;
use sluice_stages::budget::Budget;
use sluice_stages::component::{BuildContext, Component, Node};
use sluice_stages::edge::{EdgeConfig, Inbox, Outbox, connect};
use sluice_stages::node::{Clock, EventSink, MetricBoard, NodeContext, RequestSender, Sink};
use sluice_stages::watch::Watch;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::feed::COMMIT_SLOTS;

/// Events that nobody reads.
const EVENTS_CAPACITY: usize = 16;

/// A sink that is ready to run, and what it will be given.
pub struct SinkRun {
    folder: TempDir,
    runtime: Runtime,
    sink: Box<dyn Sink>,
    blocks: Batch,
}

impl SinkRun {
    /// Opens a sink on an empty folder.
    ///
    /// # Errors
    /// If there is no temporary folder, or the sink can't be made.
    pub fn new(blocks: Batch) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let options =
            ParquetOptions { commit_slots: COMMIT_SLOTS, ..ParquetOptions::new(folder.path().join("out")) };
        let Node::Sink(sink) = options.build(&mut BuildContext::new())? else { bail!("not a sink") };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { folder, runtime, sink, blocks })
    }

    /// Writes all blocks; returns the folder.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn finish(self) -> Result<TempDir> {
        let Self { folder, runtime, sink, blocks } = self;
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
        connect(&mut outbox, &mut inbox, EdgeConfig::default());
        let feeding = async move {
            for item in blocks {
                outbox.send(vec![item]).await?;
            }
            anyhow::Ok(())
        };
        runtime
            .block_on(async { tokio::try_join!(feeding, async { Ok(sink.run(inbox, context()).await?) }) })?;
        Ok(folder)
    }
}

fn context() -> NodeContext {
    let (events, _) = mpsc::channel(EVENTS_CAPACITY);
    NodeContext {
        name: "files".to_owned(),
        stop: CancellationToken::new(),
        clock: Clock::start(),
        budget: Budget::new(usize::MAX),
        events: EventSink::new("files", events),
        requests: RequestSender::default(),
        metrics: MetricBoard::default(),
        watch: Watch::default(),
    }
}
