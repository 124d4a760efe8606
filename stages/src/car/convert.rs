//! Archived blocks turned into the very frames that a live stream would have brought. Pure.

use std::io::Read as _;

use bytes::Bytes;
use prost::Message as _;
use yellowstone_grpc_proto::prelude as proto;
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;

use super::accumulator::{RawBlock, RawTransaction};
use super::legacy;
use crate::frame::Frame;
use crate::recovery::{convert, ledger_format};
use crate::slot::Hash;
use crate::yellowstone::request::LEDGER_FILTER;

/// Most bytes that a compressed payload may unpack to: an epoch's rewards are tens of megabytes.
const MAX_UNPACKED_BYTES: u64 = 256 << 20;

/// The frames of a block whose parent has `parent_blockhash`: its transactions by index, then its meta.
///
/// # Errors
/// What can't be read of it.
pub(super) fn frames(block: &RawBlock, parent_blockhash: Hash) -> Result<Vec<Frame>, String> {
    let slot = block.node.slot;
    let mut frames = Vec::with_capacity(block.transactions.len() + 1);
    for (index, raw) in block.transactions.iter().enumerate() {
        let info = transaction(index as u64, raw).map_err(|what| format!("transaction {index}: {what}"))?;
        let update = proto::SubscribeUpdateTransaction { transaction: Some(info), slot, bank_id: 0 };
        frames.push(frame(Vec::new(), UpdateOneof::Transaction(update))?);
    }
    let meta = meta(block, parent_blockhash)?;
    frames.push(frame(vec![LEDGER_FILTER.to_owned()], UpdateOneof::BlockMeta(meta))?);
    Ok(frames)
}

fn frame(filters: Vec<String>, update: UpdateOneof) -> Result<Frame, String> {
    convert::frame(filters, update).map_err(|error| error.to_string())
}

fn transaction(index: u64, raw: &RawTransaction) -> Result<proto::SubscribeUpdateTransactionInfo, String> {
    let transaction = ledger_format::transaction(&raw.data).map_err(|error| error.to_string())?;
    if raw.metadata.is_empty() {
        return Err("the archive lacks its outcome".to_owned());
    }
    let meta = outcome(&unpack(&raw.metadata)?)?;
    Ok(proto::SubscribeUpdateTransactionInfo {
        signature: transaction.signatures.first().cloned().unwrap_or_default(),
        is_vote: ledger_format::is_simple_vote(&transaction),
        transaction: Some(transaction),
        meta: Some(meta),
        index,
    })
}

fn outcome(bytes: &[u8]) -> Result<proto::TransactionStatusMeta, String> {
    if legacy::is_outcome(bytes) {
        return legacy::outcome(bytes).ok_or_else(|| "its outcome is bincode of an unknown form".to_owned());
    }
    proto::TransactionStatusMeta::decode(bytes)
        .map_err(|error| format!("its outcome is neither protobuf nor bincode: {error}"))
}

fn meta(block: &RawBlock, parent_blockhash: Hash) -> Result<proto::SubscribeUpdateBlockMeta, String> {
    let node = &block.node;
    let rewards = block.rewards.as_ref().map(rewards).transpose()?.unwrap_or_default();
    let time = (node.block_time != 0).then_some(node.block_time);
    Ok(proto::SubscribeUpdateBlockMeta {
        slot: node.slot,
        blockhash: block.blockhash.to_base58(),
        rewards: Some(rewards),
        block_time: time.map(|timestamp| proto::UnixTimestamp { timestamp }),
        block_height: node.block_height.map(|block_height| proto::BlockHeight { block_height }),
        parent_slot: node.parent_slot,
        parent_blockhash: parent_blockhash.to_base58(),
        executed_transaction_count: block.transactions.len() as u64,
        entries_count: 0,
        bank_id: 0,
    })
}

fn rewards(packed: &Bytes) -> Result<proto::Rewards, String> {
    let bytes = unpack(packed)?;
    // Of bincode's lengths the upper bytes are 0, which no protobuf has where a field begins.
    proto::Rewards::decode(bytes.as_slice())
        .or_else(|error| legacy::rewards(&bytes).ok_or_else(|| format!("rewards: {error}")))
}

/// Unpacks zstd, up to a bound: a small frame may claim to be huge.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| format!("not zstd: {error}");
    let decoder = zstd::stream::read::Decoder::new(packed).map_err(fail)?;
    let mut unpacked = Vec::new();
    decoder.take(MAX_UNPACKED_BYTES + 1).read_to_end(&mut unpacked).map_err(fail)?;
    match unpacked.len() as u64 > MAX_UNPACKED_BYTES {
        true => Err(format!("more than {MAX_UNPACKED_BYTES} bytes when unpacked")),
        false => Ok(unpacked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_zstd_or_not_protobuf_is_told() {
        assert!(unpack(b"plain").is_err());
        let packed = zstd::encode_all(&[0xff_u8; 8][..], 1).expect("in memory");
        assert!(rewards(&Bytes::from(packed)).is_err());
    }

    #[test]
    fn outcomes_and_rewards_of_the_earliest_epochs_are_read() {
        let stored = (0_u32, 5_000_u64, vec![9_u64], vec![4_u64], Some(Vec::<u8>::new()), Some(vec!["log"]));
        let bytes = bincode::serialize(&stored).expect("in memory");
        let read = outcome(&bytes).expect("an outcome");
        assert_eq!((read.fee, read.log_messages), (5_000, vec!["log".to_owned()]));
        assert!(outcome(&bytes[..bytes.len() - 1]).is_err_and(|error| error.contains("bincode")));
        let ten: Vec<(String, i64)> = (0..10).map(|lamports| ("key".to_owned(), lamports)).collect();
        let packed = zstd::encode_all(bincode::serialize(&ten).expect("in memory").as_slice(), 1);
        let read = rewards(&Bytes::from(packed.expect("in memory"))).expect("rewards");
        assert_eq!(read.rewards.len(), 10, "their number looks like the tag of a field");
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = std::io::Read::take(std::io::repeat(0), MAX_UNPACKED_BYTES + 10);
        let packed = zstd::encode_all(zeros, 1).expect("in memory");
        assert!(packed.len() < 1 << 20);
        assert!(unpack(&packed).is_err_and(|error| error.contains("more than")));
    }
}
