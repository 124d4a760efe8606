//! A sink that counts what comes and lets it go: for benchmarks, and to try a pipeline out.

use std::path::PathBuf;

use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_stages::batch::Item;
use sluice_stages::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Role};
use sluice_stages::edge::Inbox;
use sluice_stages::node::{NodeContext, NodeError, Sink};
use sluice_stages::stage::Metric;

/// Counts items, blocks, transactions and bytes, and drops them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscardOptions {}

impl Component for DiscardOptions {
    const KIND: &'static str = "discard";
    const ROLE: Role = Role::Sink;
    const ACCEPTS: Accepts = Accepts::Any;
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str = "counts what comes and drops it";

    fn claims(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Sink(Box::new(Discard::default())))
    }
}

/// What was dropped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Discard {
    items: u64,
    blocks: u64,
    transactions: u64,
    bytes: u64,
}

impl Discard {
    fn count(&mut self, item: &Item) {
        self.items += 1;
        self.bytes += item.size_bytes() as u64;
        if let Item::Block(block) = item {
            self.blocks += 1;
            self.transactions += block.transactions.updates().map_or(0, <[_]>::len) as u64;
        }
    }

    fn metrics(self, show: &mut dyn FnMut(Metric)) {
        show(Metric::new("discard_items_total", self.items));
        show(Metric::new("discard_blocks_total", self.blocks));
        show(Metric::new("discard_transactions_total", self.transactions));
        show(Metric::new("discard_bytes_total", self.bytes));
    }
}

impl Sink for Discard {
    fn run(
        mut self: Box<Self>,
        mut inbox: Inbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move {
            while let Some((_, batch)) = inbox.recv().await {
                batch.iter().for_each(|item| self.count(item));
                context.metrics.show(|show| self.metrics(show));
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parquet::testing::{Chain, block_of};

    #[test]
    fn everything_is_counted() {
        let chain = Chain::generate(10, 12, 3);
        let mut discard = Discard::default();
        let mut bytes = 0;
        for slot in chain.slots() {
            let item = Item::Block(block_of(&chain, slot));
            bytes += item.size_bytes() as u64;
            discard.count(&item);
        }
        let blocks = chain.slots().len() as u64;
        assert_eq!(discard, Discard { items: blocks, blocks, transactions: 3 * blocks, bytes });
    }
}
