//! The task around the prover: lends slots to the rayon pool and takes the verdicts back.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::ProofOptions;
use super::prover::{Prover, Verdict};
use crate::edge::{Inbox, Outbox};
use crate::node::{NodeContext, NodeError, Transform};
use crate::slot::Slot;
use crate::stage::{Output, Stage};

/// How often what is still held back is looked at, and metrics are shown.
const TICK: Duration = Duration::from_millis(500);

/// The node.
pub(super) struct Proof {
    pub(super) options: ProofOptions,
}

impl Transform for Proof {
    fn run(
        self: Box<Self>,
        inbox: Inbox,
        outbox: Outbox,
        requests: mpsc::Receiver<Vec<Slot>>,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        let (verdicts, received) = mpsc::channel(self.options.max_in_flight);
        let prover = Prover::new(self.options);
        Box::pin(Loop { prover, verdicts, outbox, context }.run(inbox, requests, received))
    }
}

/// A verdict, and how long it took.
type Timed = (Verdict, Duration);

struct Loop {
    prover: Prover,
    verdicts: mpsc::Sender<Timed>,
    outbox: Outbox,
    context: NodeContext,
}

impl Loop {
    async fn run(
        mut self,
        mut inbox: Inbox,
        mut requests: mpsc::Receiver<Vec<Slot>>,
        mut verdicts: mpsc::Receiver<Timed>,
    ) -> Result<(), NodeError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = true;
        while open || !self.prover.is_idle() {
            let mut out = Output::default();
            tokio::select! {
                received = inbox.recv(), if open && self.prover.has_room() => match received {
                    Some((_, batch)) => self.prover.take(self.context.clock.now(), batch, &mut out),
                    None => open = false,
                },
                Some((verdict, took)) = verdicts.recv() => {
                    self.prover.on_verdict(self.context.clock.now(), verdict, took, &mut out);
                }
                // The recovery upstream has them, too; here nothing is kept that could be given again.
                Some(_) = requests.recv() => {}
                _ = ticks.tick() => self.on_tick(&mut out),
            }
            self.flush(out).await?;
            self.start_tasks();
        }
        self.context.metrics.show(|show| self.prover.metrics(show));
        Ok(())
    }

    fn on_tick(&mut self, out: &mut Output) {
        self.prover.on_tick(self.context.clock.now(), out);
        self.context.metrics.show(|show| self.prover.metrics(show));
    }

    fn start_tasks(&mut self) {
        while let Some(task) = self.prover.next_task() {
            let verdicts = self.verdicts.clone();
            rayon::spawn(move || {
                let begun = Instant::now();
                let verdict = task.run();
                // There is room for all that are under way; without a receiver the pipeline has ended.
                verdicts.try_send((verdict, begun.elapsed())).ok();
            });
        }
    }

    async fn flush(&self, mut out: Output) -> Result<(), NodeError> {
        for event in out.events.drain(..) {
            self.context.events.report(event);
        }
        if !out.requests.is_empty() {
            // A request that is not taken now is made again.
            self.context.requests.request(&out.requests);
        }
        for batch in out.into_batches() {
            self.outbox.send(batch).await?;
        }
        Ok(())
    }
}
