//! What came out, in a form that two processes can compare: counts, and a digest of every row.

use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_stages::batch::Item;
use sluice_stages::block::Block;
use sluice_stages::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Role};
use sluice_stages::edge::Inbox;
use sluice_stages::node::{NodeContext, NodeError, Sink};
use sluice_stages::stage::{Flow, Metric};

/// An odd number without structure: the golden ratio in 64 bits.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// Metrics hold floats, which hold whole numbers of 53 bits: the digest is shown in halves.
const HALF_BITS: u32 = 32;

/// Blocks and transactions, whatever their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Blocks.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// The sum of a hash of each transaction's slot, index and signature: one that is there twice, not at all or in
    /// another place changes it.
    pub digest: u64,
}

impl Tally {
    /// Counts a block, without its transactions.
    pub fn add_block(&mut self) {
        self.blocks += 1;
    }

    /// Counts a transaction.
    pub fn add_transaction(&mut self, slot: u64, index: u64, signature: &[u8]) {
        let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(MIX).rotate_left(29);
        let place = mix(mix(MIX, slot), index);
        let words = signature.chunks_exact(8).map(|word| {
            let word: [u8; 8] = word.try_into().expect("chunks of eight bytes");
            u64::from_le_bytes(word)
        });
        self.transactions += 1;
        self.digest = self.digest.wrapping_add(words.fold(place, mix));
    }

    /// Adds what another tally counted.
    pub fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.transactions += other.transactions;
        self.digest = self.digest.wrapping_add(other.digest);
    }

    fn add_whole(&mut self, block: &Block) {
        self.add_block();
        for update in block.transactions.updates().unwrap_or_default() {
            let header = &update.frame.header;
            self.add_transaction(header.slot, u64::from(header.index), update.frame.key());
        }
    }

    fn metrics(self, show: &mut dyn FnMut(Metric)) {
        show(Metric::new("tally_blocks_total", self.blocks));
        show(Metric::new("tally_transactions_total", self.transactions));
        show(Metric::new("tally_digest_high", self.digest >> HALF_BITS));
        show(Metric::new("tally_digest_low", self.digest & u64::from(u32::MAX)));
    }

    /// Reads the tally back from the metrics that the sink shows.
    pub fn from_metrics(sum: impl Fn(&str) -> u64) -> Self {
        Self {
            blocks: sum("tally_blocks_total"),
            transactions: sum("tally_transactions_total"),
            digest: sum("tally_digest_high") << HALF_BITS | sum("tally_digest_low"),
        }
    }
}

/// A sink that keeps a [`Tally`] and drops everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TallyOptions {}

impl Component for TallyOptions {
    const KIND: &'static str = "tally";
    const ROLE: Role = Role::Sink;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Blocks);
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str = "tallies blocks and their transactions and drops them";

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Sink(Box::new(TallySink::default())))
    }
}

#[derive(Debug, Default)]
struct TallySink {
    tally: Tally,
}

impl Sink for TallySink {
    fn run(
        mut self: Box<Self>,
        mut inbox: Inbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move {
            while let Some((_, batch)) = inbox.recv().await {
                let blocks = batch.iter().filter_map(|item| match item {
                    Item::Block(block) => Some(block),
                    _ => None,
                });
                blocks.for_each(|block| self.tally.add_whole(block));
            }
            context.metrics.show(|show| self.tally.metrics(show));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(rows: &[(u64, u64, u8)]) -> Tally {
        let mut tally = Tally::default();
        rows.iter().for_each(|&(slot, index, byte)| tally.add_transaction(slot, index, &[byte; 64]));
        tally
    }

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let served = tally(&[(1, 0, 7), (1, 1, 8), (2, 0, 9)]);
        assert_eq!(tally(&[(2, 0, 9), (1, 1, 8), (1, 0, 7)]), served);
        for wrong in [[(1, 0, 7), (1, 1, 8), (1, 1, 8)], [(1, 0, 8), (1, 1, 7), (2, 0, 9)]] {
            assert_ne!(tally(&wrong).digest, served.digest);
        }
    }

    #[test]
    fn a_tally_survives_its_metrics() {
        let shown = Tally { blocks: 3, transactions: 4, digest: u64::MAX - 5 };
        let mut metrics = Vec::new();
        shown.metrics(&mut |metric| metrics.push(metric));
        let sum =
            |name: &str| metrics.iter().filter(|one| one.name == name).map(|one| one.value as u64).sum();
        assert_eq!(Tally::from_metrics(sum), shown);
    }
}
