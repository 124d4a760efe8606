//! `merge`: several endpoints in, one stream out.
//!
//! A race: batches go on in the order in which they come, whoever they come from; what arrives second is a repeat for
//! the dedupe behind. Order within an endpoint is kept. Each endpoint has a cursor, the highest slot it has shown; one
//! that falls far behind the others holds nobody up, and once it is more than `max_lag_slots` behind, its updates are
//! discarded (counter `merge_discarded_total{reason="laggard"}`): their slots are final or being recovered by then.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, EndpointId, Item};
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Role};
use crate::slot::{Slot, Timestamp};
use crate::stage::{Flow, Metric, Output, Stage};
use crate::tip::Tip;

/// Options of `merge`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MergeOptions {
    /// How many slots behind the leading endpoint another may be before its updates are discarded. Default 512: more
    /// than any slot takes to become final, and as much as the ledger keeps open.
    pub max_lag_slots: u64,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self { max_lag_slots: 512 }
    }
}

impl Component for MergeOptions {
    const KIND: &'static str = "merge";
    const ROLE: Role = Role::Stage;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Updates);
    const EMITS: Emits = Emits::Only(Flow::Updates);
    const SUMMARY: &'static str = "Races several endpoints: whatever comes first goes on first.";

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Stage(Box::new(Merge::new(self))))
    }
}

/// The stage.
#[derive(Debug)]
pub struct Merge {
    options: MergeOptions,
    cursors: BTreeMap<EndpointId, Slot>,
    tip: Tip,
    discarded: u64,
}

impl Merge {
    /// A merge of any number of inputs.
    pub fn new(options: MergeOptions) -> Self {
        Self { options, cursors: BTreeMap::new(), tip: Tip::default(), discarded: 0 }
    }

    fn advance(&mut self, item: &Item) -> bool {
        let Item::Update(update) = item else { return true };
        let slot = update.frame.header.slot;
        let cursor = self.cursors.entry(update.session.endpoint).or_default();
        if self.tip.observe(slot) {
            *cursor = (*cursor).max(slot);
        }
        let in_time = slot.saturating_add(self.options.max_lag_slots) >= self.tip.slot() || slot == 0;
        self.discarded += u64::from(!in_time);
        in_time
    }
}

impl Stage for Merge {
    fn on_batch(&mut self, _: Timestamp, _: usize, mut batch: Batch, out: &mut Output) {
        batch.retain(|item| self.advance(item));
        out.items.append(&mut batch);
    }

    fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        show(Metric::new("merge_discarded_total", self.discarded).with("reason", "laggard"));
        for (&endpoint, &slot) in &self.cursors {
            show(Metric::new("endpoint_slot", slot).with("endpoint", endpoint));
        }
    }
}
