//! Ground truth: what a client that lost, doubled and mistook nothing ends up with.

use std::sync::Arc;

use crate::cluster::Shared;
use crate::ledger::{Block, LedgerSlot, Version};

/// What a correct output holds for a slot.
#[derive(Debug, Clone)]
pub enum TruthSlot {
    /// No block of the chain is in this slot.
    Skipped,
    /// The block of the chain.
    Block(Arc<Version>),
}

impl TruthSlot {
    /// The block, unless the slot is skipped.
    pub fn block(&self) -> Option<&Block> {
        match self {
            Self::Skipped => None,
            Self::Block(version) => Some(&version.block),
        }
    }

    /// The first signature of each transaction, in the block's order; none if the slot is skipped.
    pub fn signatures(&self) -> impl Iterator<Item = &[u8]> {
        let transactions = self.block().into_iter().flat_map(|block| &block.transactions);
        transactions.map(|info| info.signature.as_slice())
    }
}

/// The ledger as it should come out.
#[derive(Debug, Clone)]
pub struct Truth {
    shared: Arc<Shared>,
}

impl Truth {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The slot with a number; `None` if the ledger can't tell what is in it.
    pub fn slot(&self, slot: u64) -> Option<TruthSlot> {
        told(self.shared.ledger.slot(slot)?.as_ref())
    }

    /// The slots that the ledger tells something about, in order of play; without end if the ledger has none.
    pub fn slots(&self) -> impl Iterator<Item = (u64, TruthSlot)> {
        let slots = (0..).map_while(|position| self.shared.ledger.at(position));
        slots.filter_map(|slot| Some((slot.slot, told(&slot)?)))
    }

    /// The first slot of the ledger.
    pub fn first_slot(&self) -> Option<u64> {
        self.shared.ledger.at(0).map(|slot| slot.slot)
    }

    /// The last slot of the ledger; `None` if it has no end.
    pub fn last_slot(&self) -> Option<u64> {
        let last = self.shared.ledger.length()?.checked_sub(1)?;
        self.shared.ledger.at(last).map(|slot| slot.slot)
    }
}

fn told(slot: &LedgerSlot) -> Option<TruthSlot> {
    let block = slot.canonical().cloned().map_or(TruthSlot::Skipped, TruthSlot::Block);
    (!slot.lost).then_some(block)
}
