//! `batcher`: regroups what flows by number and time.
//!
//! Items in, the same items in the same order out, in batches of `batch_size`, or fewer once the oldest of them has
//! waited for `batch_interval`. At the end the rest goes out at once. Holds at most `batch_size` − 1 items.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use crate::slot::Timestamp;
use crate::stage::{Metric, Output, Stage};

/// Options of `batcher`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatcherOptions {
    /// Items in a full batch. Default 100.
    pub batch_size: usize,
    /// The longest that an item waits for its batch to fill. Default 100ms, the runner's tick.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub batch_interval: Duration,
}

impl Default for BatcherOptions {
    fn default() -> Self {
        Self { batch_size: 100, batch_interval: Duration::from_millis(100) }
    }
}

impl Component for BatcherOptions {
    const KIND: &'static str = "batcher";
    const ROLE: Role = Role::Stage;
    const ACCEPTS: Accepts = Accepts::Any;
    const EMITS: Emits = Emits::Same;
    const SUMMARY: &'static str = "Regroups items into batches by number and time.";

    fn problems(&self) -> Vec<Problem> {
        if self.batch_size > 0 {
            return Vec::new();
        }
        vec![Problem {
            option: "batch_size".to_owned(),
            message: "a batch has to hold something".to_owned(),
            help: "give 1 or more".to_owned(),
        }]
    }

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Stage(Box::new(Batcher::new(self))))
    }
}

/// The stage.
#[derive(Debug)]
pub struct Batcher {
    options: BatcherOptions,
    waiting: Batch,
    oldest: Timestamp,
    full: u64,
    timed: u64,
}

impl Batcher {
    /// An empty batcher.
    pub fn new(options: BatcherOptions) -> Self {
        Self { options, waiting: Batch::new(), oldest: Timestamp(0), full: 0, timed: 0 }
    }
}

impl Stage for Batcher {
    fn on_batch(&mut self, now: Timestamp, _: usize, batch: Batch, out: &mut Output) {
        for item in batch {
            if self.waiting.is_empty() {
                self.oldest = now;
            }
            self.waiting.push(item);
            if self.waiting.len() >= self.options.batch_size {
                out.items.append(&mut self.waiting);
                out.cut();
                self.full += 1;
            }
        }
    }

    fn on_tick(&mut self, now: Timestamp, out: &mut Output) {
        if !self.waiting.is_empty() && now.since(self.oldest) >= self.options.batch_interval {
            out.items.append(&mut self.waiting);
            self.timed += 1;
        }
    }

    fn on_end(&mut self, _: Timestamp, out: &mut Output) {
        out.items.append(&mut self.waiting);
    }

    fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        show(Metric::new("batches_total", self.full).with("reason", "full"));
        show(Metric::new("batches_total", self.timed).with("reason", "interval"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Gap, Item, Missing};

    fn items(count: usize) -> Batch {
        vec![Item::Gap(Gap { first: 1, last: 1, missing: Missing::Content }); count]
    }

    fn batcher() -> Batcher {
        Batcher::new(BatcherOptions { batch_size: 3, batch_interval: Duration::from_millis(100) })
    }

    fn sizes(out: Output) -> Vec<usize> {
        out.into_batches().map(|batch| batch.len()).collect()
    }

    #[test]
    fn full_batches_go_out_at_once_and_the_rest_at_the_end() {
        let (mut batcher, mut out) = (batcher(), Output::default());
        batcher.on_batch(Timestamp(0), 0, items(7), &mut out);
        batcher.on_end(Timestamp(0), &mut out);
        assert_eq!(sizes(out), [3, 3, 1]);
    }

    #[test]
    fn no_item_waits_longer_than_the_interval() {
        let mut batcher = batcher();
        let mut out = Output::default();
        batcher.on_batch(Timestamp(0), 0, items(1), &mut out);
        batcher.on_tick(Timestamp(99_999), &mut out);
        assert!(sizes(std::mem::take(&mut out)).is_empty());
        batcher.on_tick(Timestamp(100_000), &mut out);
        assert_eq!(sizes(out), [1]);
    }
}
