//! The shell around the pure core: edges, ticks and the state file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::core::AlertEvaluator;
use super::state::{self, Saved};
use crate::alert::AlertItem;
use crate::batch::{Batch, Item};
use crate::edge::{Inbox, Outbox};
use crate::node::{NodeContext, NodeError, Transform};
use crate::slot::Slot;
use crate::stage::Metric;

/// How often groups are looked at: the most by which a notice is late.
const TICK: Duration = Duration::from_millis(100);

/// The stage.
pub(super) struct Shell {
    evaluator: AlertEvaluator,
    state_file: Option<PathBuf>,
    saved: Option<Saved>,
    writing: Option<JoinHandle<std::io::Result<()>>>,
    write_failures: u64,
}

impl Shell {
    /// A stage that goes on with `saved` and writes to `state_file`.
    pub(super) fn new(evaluator: AlertEvaluator, state_file: Option<PathBuf>, saved: Option<Saved>) -> Self {
        Self { evaluator, state_file, saved, writing: None, write_failures: 0 }
    }

    async fn work(mut self, mut inbox: Inbox, outbox: Outbox, context: NodeContext) -> Result<(), NodeError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut out = Vec::new();
        if let Some(saved) = self.saved.take() {
            self.evaluator.restore(saved, context.clock.now(), &mut out);
        }
        loop {
            tokio::select! {
                received = inbox.recv() => match received {
                    Some((_, batch)) => self.take(&batch, &mut out),
                    None => break,
                },
                _ = ticks.tick() => {
                    self.evaluator.on_tick(context.clock.now(), &mut out);
                    self.save(&context).await;
                    self.show(&context);
                }
            }
            outbox.send(std::mem::take(&mut out).into_iter().map(item).collect()).await?;
        }
        self.finish(&context).await;
        Ok(())
    }

    fn take(&mut self, batch: &Batch, out: &mut Vec<AlertItem>) {
        for item in batch {
            if let Item::Sample(sample) = item {
                self.evaluator.on_sample(sample, out);
            }
        }
    }

    /// Starts to write what has changed, unless the write before is not over: then it is tried at the next tick.
    async fn save(&mut self, context: &NodeContext) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        self.note_written(context).await;
        let Some(path) = self.state_file.clone() else { return };
        if let Some(saved) = self.evaluator.unsaved(context.clock.now()) {
            self.writing = Some(tokio::task::spawn_blocking(move || state::write(&path, &saved)));
        }
    }

    async fn note_written(&mut self, context: &NodeContext) {
        let Some(writing) = self.writing.take() else { return };
        let written = writing.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(error) = written {
            self.write_failures += 1;
            tracing::warn!(node = context.name, %error, "the state file of the alerts can't be written");
        }
    }

    /// Writes the last state, so that a restart begins where this run ends.
    async fn finish(&mut self, context: &NodeContext) {
        self.note_written(context).await;
        self.save(context).await;
        self.note_written(context).await;
        self.show(context);
    }

    fn show(&self, context: &NodeContext) {
        context.metrics.show(|show| {
            self.evaluator.metrics(show);
            show(Metric::new("alert_state_write_failures_total", self.write_failures));
        });
    }
}

fn item(alert: AlertItem) -> Item {
    Item::Alert(Arc::new(alert))
}

impl Transform for Shell {
    fn run(
        self: Box<Self>,
        inbox: Inbox,
        outbox: Outbox,
        requests: mpsc::Receiver<Vec<Slot>>,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move {
            // Nobody behind it asks for slots, but whoever does has to be able to send.
            let _requests = requests;
            self.work(inbox, outbox, context).await
        })
    }
}
