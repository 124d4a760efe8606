//! The shell around the pure core: ticks, the look at the pipeline, and the look at the system.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::core::Monitor;
use super::observation::{Observer, places};
use super::system::SystemReading;
use crate::batch::Item;
use crate::edge::Outbox;
use crate::node::{NodeContext, NodeError, Source};
use crate::stage::Metric;

/// The source.
pub(super) struct Shell {
    interval: Duration,
}

impl Shell {
    /// A source that measures at this interval.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval }
    }
}

/// Looks at the system off the async threads: a disk that hangs may make that look last, but not the monitor.
#[derive(Default)]
struct SystemLook {
    latest: SystemReading,
    looking: Option<JoinHandle<SystemReading>>,
}

impl SystemLook {
    /// The reading of the look before, while the next one begins; an empty one while a look hangs.
    async fn next(&mut self, places: &[PathBuf]) -> SystemReading {
        match self.looking.take() {
            Some(looking) if !looking.is_finished() => {
                self.looking = Some(looking);
                return SystemReading::default();
            }
            Some(looking) => self.latest = looking.await.unwrap_or_default(),
            None => {}
        }
        let places = places.to_vec();
        self.looking = Some(tokio::task::spawn_blocking(move || SystemReading::take(&places)));
        self.latest.clone()
    }
}

impl Source for Shell {
    fn run(
        self: Box<Self>,
        outbox: Outbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move {
            let mut ticks = interval(self.interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut monitor, mut observer) = (Monitor::new(), Observer::default());
            let (mut system, places) = (SystemLook::default(), places(&context.watch));
            let (mut samples, mut series) = (0, 0);
            loop {
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    _ = ticks.tick() => {}
                }
                let reading = system.next(&places).await;
                let sample = monitor.sample(&observer.look(&context.watch, context.clock.now(), reading));
                samples += 1;
                series = series.max(sample.readings.len() as u64);
                context.metrics.show(|show| {
                    show(Metric::new("monitor_samples_total", samples));
                    show(Metric::new("monitor_series", series));
                });
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    sent = outbox.send(vec![Item::Sample(Arc::new(sample))]) => sent?,
                }
            }
        })
    }
}
