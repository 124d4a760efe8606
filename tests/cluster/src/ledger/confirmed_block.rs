//! Reads `solana.storage.ConfirmedBlock` protobuf, the form in which validators archive blocks.

use prost::Message;
use yellowstone_grpc_proto::prelude::{ConfirmedBlock, ConfirmedTransaction, SubscribeUpdateTransactionInfo};

use super::block::Block;
use super::transaction;

/// Reads a block. Without `slot`, it is taken to be its parent's successor.
pub(super) fn parse(bytes: &[u8], slot: Option<u64>) -> Result<Block, prost::DecodeError> {
    let block = ConfirmedBlock::decode(bytes)?;
    let transactions = block.transactions.into_iter().enumerate();
    Ok(Block {
        slot: slot.unwrap_or(block.parent_slot + 1),
        parent_slot: block.parent_slot,
        blockhash: block.blockhash,
        parent_blockhash: block.previous_blockhash,
        block_time: block.block_time.map(|time| time.timestamp),
        block_height: block.block_height.map(|height| height.block_height),
        rewards: block.rewards,
        num_partitions: block.num_partitions.map(|partitions| partitions.num_partitions),
        transactions: transactions.map(|(index, one)| info(index, one)).collect(),
        ..Block::default()
    })
}

fn info(index: usize, confirmed: ConfirmedTransaction) -> SubscribeUpdateTransactionInfo {
    let transaction = confirmed.transaction.unwrap_or_default();
    SubscribeUpdateTransactionInfo {
        signature: transaction.signatures.first().cloned().unwrap_or_default(),
        is_vote: transaction::is_vote(&transaction),
        transaction: Some(transaction),
        meta: confirmed.meta,
        index: index as u64,
    }
}
