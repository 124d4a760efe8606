//! `metrics_tap`: counts what passes an edge, and passes it on unchanged.
//!
//! Updates by kind and by endpoint, bytes, repeats, blocks, transactions and gaps; nothing is kept, held or discarded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Echo, EndpointId, Item};
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Role};
use crate::frame::Kind;
use crate::slot::{Slot, Timestamp};
use crate::stage::{Metric, Output, Stage};

/// Options of `metrics_tap`: there are none.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsTapOptions {}

impl Component for MetricsTapOptions {
    const KIND: &'static str = "metrics_tap";
    const ROLE: Role = Role::Stage;
    const ACCEPTS: Accepts = Accepts::Any;
    const EMITS: Emits = Emits::Same;
    const SUMMARY: &'static str = "Counts what passes by kind and endpoint, and passes it on unchanged.";

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Stage(Box::<MetricsTap>::default()))
    }
}

/// The stage.
#[derive(Debug, Default)]
pub struct MetricsTap {
    updates: [u64; Kind::ALL.len()],
    by_endpoint: Vec<u64>,
    bytes: u64,
    repeats: u64,
    blocks: u64,
    transactions: u64,
    gaps: u64,
    highest_slot: Slot,
}

impl MetricsTap {
    fn count(&mut self, item: &Item) {
        match item {
            Item::Update(update) => {
                self.updates[update.frame.header.kind as usize] += 1;
                self.bytes += update.size_bytes() as u64;
                self.highest_slot = self.highest_slot.max(update.frame.header.slot);
                self.count_endpoint(update.session.endpoint);
            }
            Item::Echo(Echo::Transactions { indexes, .. } | Echo::Entries { indexes, .. }) => {
                self.repeats += u64::from(indexes.end.saturating_sub(indexes.start));
            }
            Item::Echo(Echo::Update(_) | Echo::Account { .. }) => self.repeats += 1,
            Item::Block(block) => {
                self.blocks += 1;
                self.transactions += block.transactions.updates().map_or(0, |updates| updates.len() as u64);
                self.highest_slot = self.highest_slot.max(block.slot());
            }
            Item::Gap(_) => self.gaps += 1,
            Item::Begin(_)
            | Item::Claim(_)
            | Item::Status(_)
            | Item::Session(_)
            | Item::Dispute(_)
            | Item::Arrivals(_)
            | Item::Sample(_)
            | Item::Alert(_) => {}
        }
    }

    fn count_endpoint(&mut self, endpoint: EndpointId) {
        let at = usize::from(endpoint);
        if self.by_endpoint.len() <= at {
            self.by_endpoint.resize(at + 1, 0);
        }
        self.by_endpoint[at] += 1;
    }
}

impl Stage for MetricsTap {
    fn on_batch(&mut self, _: Timestamp, _: usize, mut batch: Batch, out: &mut Output) {
        batch.iter().for_each(|item| self.count(item));
        out.items.append(&mut batch);
    }

    fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        for (kind, &count) in Kind::ALL.iter().zip(&self.updates) {
            show(Metric::new("tap_updates_total", count).with("kind", kind.name()));
        }
        for (endpoint, &count) in (0..).zip(&self.by_endpoint) {
            show(Metric::new("tap_endpoint_updates_total", count).with("endpoint", endpoint));
        }
        show(Metric::new("tap_bytes_total", self.bytes));
        show(Metric::new("tap_repeats_total", self.repeats));
        show(Metric::new("tap_blocks_total", self.blocks));
        show(Metric::new("tap_transactions_total", self.transactions));
        show(Metric::new("tap_gaps_total", self.gaps));
        Metric::slot("tap_highest_slot", self.highest_slot).into_iter().for_each(show);
    }
}
