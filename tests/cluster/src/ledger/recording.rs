//! Recorded streams: frames of [u32 big-endian length][`SubscribeUpdate`], played again as they were.
//!
//! The subscriber's own filter names replace the recorded ones; nothing else changes. Blocks that are whole in the
//! recording can also be replayed and asked for.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude::{SubscribeUpdate, SubscribeUpdateBlockMeta};

use super::block::Block;
use super::poh;

/// Field number of `SubscribeUpdate.filters`.
const FILTERS_FIELD: u32 = 1;

/// One recorded update.
#[derive(Debug)]
pub struct RecordedFrame {
    /// What it says.
    pub update: UpdateOneof,
    /// Its bytes, without the filter names.
    pub body: Bytes,
}

impl RecordedFrame {
    /// The slot that it is about; pings and pongs have none.
    pub fn slot(&self) -> Option<u64> {
        slot_and_bank(&self.update).map(|(slot, _)| slot)
    }
}

/// Splits recorded bytes into frames. `None` if they are something else.
pub(super) fn split(bytes: &Bytes) -> Option<Vec<Bytes>> {
    let mut rest = bytes.clone();
    let mut frames = Vec::new();
    while rest.has_remaining() {
        if rest.len() < 4 {
            return None;
        }
        let length = rest.get_u32() as usize;
        if length > rest.len() {
            return None;
        }
        frames.push(rest.split_to(length));
    }
    Some(frames)
}

/// Reads frames. Server pings are left out: a server sends its own.
pub(super) fn parse(frames: Vec<Bytes>) -> Result<Vec<RecordedFrame>, prost::DecodeError> {
    let mut out = Vec::with_capacity(frames.len());
    for frame in frames {
        let update = SubscribeUpdate::decode(frame.clone())?.update_oneof;
        let body = without_filters(&frame)?;
        match update {
            None | Some(UpdateOneof::Ping(_) | UpdateOneof::Pong(_)) => {}
            Some(update) => out.push(RecordedFrame { update, body }),
        }
    }
    Ok(out)
}

fn without_filters(frame: &Bytes) -> Result<Bytes, prost::DecodeError> {
    let mut out = Vec::with_capacity(frame.len());
    let mut rest = frame.clone();
    while rest.has_remaining() {
        let before = rest.clone();
        let (field, wire_type) = decode_key(&mut rest)?;
        if wire_type == WireType::LengthDelimited {
            let length = decode_varint(&mut rest)? as usize;
            rest.advance(length.min(rest.len()));
        } else {
            prost::encoding::skip_field(
                wire_type,
                field,
                &mut rest,
                prost::encoding::DecodeContext::default(),
            )?;
        }
        if field != FILTERS_FIELD {
            out.extend_from_slice(&before[..before.len() - rest.len()]);
        }
    }
    Ok(Bytes::from(out))
}

fn slot_and_bank(update: &UpdateOneof) -> Option<(u64, u64)> {
    match update {
        UpdateOneof::Account(update) => Some((update.slot, update.bank_id.unwrap_or_default())),
        UpdateOneof::Slot(update) => Some((update.slot, update.bank_id.unwrap_or_default())),
        UpdateOneof::Transaction(update) => Some((update.slot, update.bank_id)),
        UpdateOneof::TransactionStatus(update) => Some((update.slot, update.bank_id)),
        UpdateOneof::Block(update) => Some((update.slot, update.bank_id)),
        UpdateOneof::BlockMeta(update) => Some((update.slot, update.bank_id)),
        UpdateOneof::Entry(update) => Some((update.slot, update.bank_id)),
        UpdateOneof::BlockFooter(update) => Some((update.slot, update.bank_id)),
        UpdateOneof::EntryUpdateParent(update) => Some((update.slot, update.cleared_bank_id)),
        UpdateOneof::Ping(_) | UpdateOneof::Pong(_) => None,
    }
}

/// A block put together from frames.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) block: Block,
    /// All transactions that the block meta promises are there.
    pub(crate) transactions_whole: bool,
    /// The entries reach from the first to the blockhash and prove it.
    pub(crate) entries_whole: bool,
}

/// Puts the blocks together that have a block meta, by slot; of several banks of a slot the last one wins.
pub(crate) fn gather(frames: &[RecordedFrame]) -> BTreeMap<u64, Gathered> {
    let mut banks: BTreeMap<(u64, u64), (Block, Option<u64>)> = BTreeMap::new();
    for frame in frames {
        let Some(key) = slot_and_bank(&frame.update) else { continue };
        if matches!(frame.update, UpdateOneof::Slot(_)) {
            continue;
        }
        let (block, promised) = banks.entry(key).or_default();
        add(block, promised, &frame.update);
    }
    let whole =
        banks.into_iter().filter_map(|((slot, _), (block, promised))| Some((slot, finish(block, promised?))));
    whole.collect()
}

fn add(block: &mut Block, promised: &mut Option<u64>, update: &UpdateOneof) {
    match update {
        UpdateOneof::Transaction(update) => block.transactions.extend(update.transaction.clone()),
        UpdateOneof::Entry(update) => block.entries.push(update.clone()),
        UpdateOneof::Account(update) => block.accounts.extend(update.account.clone()),
        UpdateOneof::BlockMeta(meta) => {
            *promised = Some(meta.executed_transaction_count);
            set_meta(block, meta);
        }
        _ => {}
    }
}

fn set_meta(block: &mut Block, meta: &SubscribeUpdateBlockMeta) {
    let rewards = meta.rewards.clone().unwrap_or_default();
    block.slot = meta.slot;
    block.parent_slot = meta.parent_slot;
    block.blockhash.clone_from(&meta.blockhash);
    block.parent_blockhash.clone_from(&meta.parent_blockhash);
    block.block_time = meta.block_time.map(|time| time.timestamp);
    block.block_height = meta.block_height.map(|height| height.block_height);
    block.rewards = rewards.rewards;
    block.num_partitions = rewards.num_partitions.map(|partitions| partitions.num_partitions);
    block.told_entries = meta.entries_count;
}

fn finish(mut block: Block, promised: u64) -> Gathered {
    block.transactions.sort_by_key(|info| info.index);
    block.transactions.dedup_by_key(|info| info.index);
    block.entries.sort_by_key(|entry| entry.index);
    block.entries.dedup_by_key(|entry| entry.index);
    let parent = poh::hash(&block.parent_blockhash).unwrap_or_default();
    let proven = poh::verify(parent, &block.entries, &block.transactions);
    let entries_whole = proven.is_ok_and(|state| poh::hash(&block.blockhash) == Some(state));
    Gathered { transactions_whole: block.transactions.len() as u64 == promised, entries_whole, block }
}
