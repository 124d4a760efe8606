//! The loop that runs any pure stage: batches, ticks and the end in; batches, events and requests out.

use std::time::Duration;

use sluice_stages::edge::{Inbox, Outbox};
use sluice_stages::node::{NodeContext, NodeError};
use sluice_stages::slot::Timestamp;
use sluice_stages::stage::{Output, Stage};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often stages learn the time.
const TICK: Duration = Duration::from_millis(50);
/// How often metrics are shown, and memory pressure is passed on.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);
/// How long sources wait for memory before stages are asked to give some back.
const PRESSURE_AFTER: Duration = Duration::from_secs(1);

/// Runs `stage` until its inputs end, or all of its receivers have.
pub(crate) async fn run(
    mut stage: Box<dyn Stage>,
    mut inbox: Inbox,
    outbox: Outbox,
    context: NodeContext,
) -> Result<(), NodeError> {
    let mut rhythm = Rhythm::start(context.clock.now());
    loop {
        let mut out = Output::default();
        tokio::select! {
            received = inbox.recv() => match received {
                Some((input, batch)) => stage.on_batch(context.clock.now(), input, batch, &mut out),
                None => break,
            },
            _ = rhythm.ticks.tick() => rhythm.tick(stage.as_mut(), &context, &mut out),
        }
        flush(out, &outbox, &context).await?;
    }
    let mut out = Output::default();
    stage.on_end(context.clock.now(), &mut out);
    context.metrics.show(|show| stage.metrics(show));
    flush(out, &outbox, &context).await
}

struct Rhythm {
    ticks: Interval,
    shown_at: Timestamp,
    waiting_since: Option<Timestamp>,
}

impl Rhythm {
    fn start(now: Timestamp) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, shown_at: now, waiting_since: None }
    }

    fn tick(&mut self, stage: &mut dyn Stage, context: &NodeContext, out: &mut Output) {
        let now = context.clock.now();
        stage.on_room(context.budget.has_room());
        stage.on_tick(now, out);
        if context.budget.waiting() == 0 {
            self.waiting_since = None;
        } else if now.since(*self.waiting_since.get_or_insert(now)) >= PRESSURE_AFTER {
            self.waiting_since = Some(now);
            stage.on_pressure(now, out);
        }
        if now.since(self.shown_at) >= SHOW_INTERVAL {
            self.shown_at = now;
            context.metrics.show(|show| stage.metrics(show));
        }
    }
}

async fn flush(mut out: Output, outbox: &Outbox, context: &NodeContext) -> Result<(), NodeError> {
    for event in out.events.drain(..) {
        context.events.report(event);
    }
    if !out.requests.is_empty() {
        // A request that is not taken now is made again: stages repeat what they still lack.
        context.requests.request(&out.requests);
    }
    for batch in out.into_batches() {
        outbox.send(batch).await?;
    }
    Ok(())
}
