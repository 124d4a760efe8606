//! Frames of a whole slot turned into a block, by the live stream's rules and filters.

use std::sync::Arc;

use crate::batch::{Scope, SessionId, Update, Want};
use crate::block::{Block, Way};
use crate::budget::Budget;
use crate::component::BuildError;
use crate::filter::TransactionFilters;
use crate::frame::Frame;
use crate::recovery::fetch::RPC_ENDPOINT;
use crate::recovery::plan::assembler::Assembler;
use crate::slot::{Commitment, Slot, Timestamp};
use crate::yellowstone::filters::{Selection, TransactionFilterOptions};

/// Makes blocks of slots that came whole and final, without entries and accounts.
#[derive(Debug, Clone)]
pub struct BlockMaker {
    scope: Scope,
    filters: TransactionFilters,
}

impl BlockMaker {
    /// A maker that leaves of each slot the transactions of `selection`.
    ///
    /// # Errors
    /// If a key in it is none.
    pub fn try_new(selection: &Selection<TransactionFilterOptions>) -> Result<Self, BuildError> {
        let filters = TransactionFilters::try_new(selection);
        let filters = filters.map_err(|error| BuildError::Other(error.to_string()))?;
        Ok(Self { scope: scope(selection), filters })
    }

    /// What its blocks hold.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The block of `slot`, vouched for as finalized. Memory is taken from `budget` where it can be had: whoever calls
    /// bounds how many blocks there are.
    ///
    /// # Errors
    /// What is wrong with the frames.
    pub fn make(
        &self,
        slot: Slot,
        frames: Vec<Frame>,
        now: Timestamp,
        budget: &Arc<Budget>,
    ) -> Result<Block, String> {
        let lease = budget.try_lease(frames.iter().map(|frame| frame.bytes().len()).sum());
        let session = SessionId { endpoint: RPC_ENDPOINT, number: 0 };
        let update = |frame| Update { frame, session, received_at: now, lease: lease.clone() };
        let updates = frames.into_iter().map(update).collect();
        let mut blocks =
            Assembler::new(self.scope, self.filters.clone()).assemble(slot, Way::Rpc, updates)?;
        match (blocks.pop(), blocks.pop()) {
            (Some(block), None) => Ok(Block { vouched: Some(Commitment::Finalized), ..block }),
            _ => Err("several versions of one slot".to_owned()),
        }
    }
}

/// What a selection amounts to; entries and accounts are in no archive.
fn scope(selection: &Selection<TransactionFilterOptions>) -> Scope {
    let transactions = selection.want(TransactionFilterOptions::takes_all);
    Scope { transactions, entries: Want::Nothing, accounts: Want::Nothing }
}
