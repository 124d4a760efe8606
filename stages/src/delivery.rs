//! When slots passed an edge: what latency, lag and throughput are measured from.
//!
//! Each edge keeps the last [`DELIVERIES_CAPACITY`] of its block metas and blocks, a few a second. Readers come with the
//! number of what they have seen, so any number of them can read, and none takes anything away from another.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::batch::{Batch, EndpointId, Item, Update};
use crate::frame::Kind;
use crate::slot::{Slot, Timestamp};
use crate::wire::{Field, Reader, WireError};

/// Deliveries that an edge remembers: what a fast backfill brings in a second, and minutes of the live chain.
pub const DELIVERIES_CAPACITY: usize = 1_024;

/// A block meta or a whole block that passed an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The slot.
    pub slot: Slot,
    /// The endpoint that sent the block meta.
    pub endpoint: EndpointId,
    /// Whether the whole block passed, not its meta alone.
    pub is_block: bool,
    /// When the server made the update, if it says so.
    pub created_at: Option<Timestamp>,
    /// The block's time in unix seconds, if it has one.
    pub block_time: Option<i64>,
    /// When the block's meta was read from its socket.
    pub received_at: Timestamp,
    /// When it passed the edge.
    pub passed_at: Timestamp,
}

/// The deliveries of one edge.
#[derive(Debug, Default)]
pub struct Deliveries {
    recent: Mutex<(u64, VecDeque<Delivery>)>,
    blocks: AtomicU64,
    transactions: AtomicU64,
}

impl Deliveries {
    /// Deliveries from number `seen` on that are remembered, and the number of the next.
    pub fn since(&self, seen: u64) -> (u64, Vec<Delivery>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, deliveries) = &*recent;
        let unseen = usize::try_from(next.saturating_sub(seen)).unwrap_or(usize::MAX);
        let skip = deliveries.len().saturating_sub(unseen);
        (*next, deliveries.iter().skip(skip).copied().collect())
    }

    /// Blocks that passed, and the transactions in them.
    pub fn totals(&self) -> (u64, u64) {
        (self.blocks.load(Ordering::Relaxed), self.transactions.load(Ordering::Relaxed))
    }

    /// Notes what of a batch is a delivery. For most batches of updates this is a look at each item's kind.
    pub(crate) fn note(&self, batch: &Batch, now: impl Fn() -> Timestamp) {
        for item in batch {
            match item {
                Item::Block(block) => {
                    let transactions = block.transactions.updates().map_or(0, <[_]>::len) as u64;
                    self.blocks.fetch_add(1, Ordering::Relaxed);
                    self.transactions.fetch_add(transactions, Ordering::Relaxed);
                    self.push(delivery(&block.meta_update, true, now()));
                }
                Item::Update(update) if update.frame.header.kind == Kind::BlockMeta => {
                    self.push(delivery(update, false, now()));
                }
                _ => {}
            }
        }
    }

    fn push(&self, delivery: Delivery) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, deliveries) = &mut *recent;
        *next += 1;
        if deliveries.len() == DELIVERIES_CAPACITY {
            deliveries.pop_front();
        }
        deliveries.push_back(delivery);
    }
}

fn delivery(meta: &Update, is_block: bool, passed_at: Timestamp) -> Delivery {
    let frame = meta.frame.bytes();
    Delivery {
        slot: meta.frame.header.slot,
        endpoint: meta.session.endpoint,
        is_block,
        // The scan has vouched for the frame's top fields; what lies deeper may be garbled and then has no time.
        created_at: created_at(frame).ok().flatten(),
        block_time: block_time(meta.frame.header.body.slice(frame)).ok().flatten(),
        received_at: meta.received_at,
        passed_at,
    }
}

/// `SubscribeUpdate.created_at`, a `google.protobuf.Timestamp`.
fn created_at(frame: &[u8]) -> Result<Option<Timestamp>, WireError> {
    let Some(field) = find("SubscribeUpdate", frame, 11)? else { return Ok(None) };
    let (mut seconds, mut nanos) = (0, 0);
    let mut timestamp = field.message("Timestamp")?;
    while let Some(field) = timestamp.next_field()? {
        match field.number {
            1 => seconds = field.varint()?,
            2 => nanos = field.varint()?,
            _ => {}
        }
    }
    Ok(seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(nanos / 1_000)).map(Timestamp))
}

/// `SubscribeUpdateBlockMeta.block_time`, a `UnixTimestamp`.
fn block_time(body: &[u8]) -> Result<Option<i64>, WireError> {
    let Some(field) = find("SubscribeUpdateBlockMeta", body, 4)? else { return Ok(None) };
    let time = field.message("UnixTimestamp")?.next_field()?;
    time.map(|field| field.varint().map(|seconds| seconds as i64)).transpose()
}

fn find<'a>(message: &'static str, bytes: &'a [u8], number: u32) -> Result<Option<Field<'a>>, WireError> {
    let mut reader = Reader::new(message, bytes);
    while let Some(field) = reader.next_field()? {
        if field.number == number {
            return Ok(Some(field));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
    use yellowstone_grpc_proto::prelude::{SubscribeUpdate, SubscribeUpdateBlockMeta, UnixTimestamp};
    use yellowstone_grpc_proto::prost_types::Timestamp as Stamp;

    use super::*;
    use crate::batch::SessionId;
    use crate::frame::Frame;

    fn update(slot: Slot, created_at: Option<Stamp>, block_time: Option<i64>) -> Update {
        let block_time = block_time.map(|timestamp| UnixTimestamp { timestamp });
        let meta = SubscribeUpdateBlockMeta { slot, block_time, ..SubscribeUpdateBlockMeta::default() };
        let update = SubscribeUpdate {
            filters: Vec::new(),
            update_oneof: Some(UpdateOneof::BlockMeta(meta)),
            created_at,
        };
        Update {
            frame: Frame::try_new(update.encode_to_vec().into()).expect("a frame"),
            session: SessionId { endpoint: 3, number: 0 },
            received_at: Timestamp(5),
            lease: None,
        }
    }

    #[test]
    fn times_are_read_where_they_are_given() {
        let stamp = Stamp { seconds: 2, nanos: 3_000 };
        let full = delivery(&update(7, Some(stamp), Some(1_700_000_000)), false, Timestamp(9));
        let expected = Delivery {
            slot: 7,
            endpoint: 3,
            is_block: false,
            created_at: Some(Timestamp(2_000_003)),
            block_time: Some(1_700_000_000),
            received_at: Timestamp(5),
            passed_at: Timestamp(9),
        };
        assert_eq!(full, expected);
        let bare = delivery(&update(7, None, None), false, Timestamp(9));
        assert_eq!((bare.created_at, bare.block_time), (None, None));
    }

    #[test]
    fn each_reader_sees_every_delivery_once_while_it_keeps_up() {
        let deliveries = Deliveries::default();
        let note = |slot| deliveries.note(&vec![Item::Update(update(slot, None, None))], || Timestamp(9));
        let slots = |seen: u64| {
            let (next, new) = deliveries.since(seen);
            (next, new.iter().map(|delivery| delivery.slot).collect::<Vec<_>>())
        };
        note(1);
        note(2);
        assert_eq!(slots(0), (2, vec![1, 2]));
        note(3);
        assert_eq!(slots(2), (3, vec![3]));
        assert_eq!(slots(3), (3, vec![]));
        (4..4 + DELIVERIES_CAPACITY as u64).for_each(note);
        assert_eq!(slots(3).1.len(), DELIVERIES_CAPACITY);
    }
}
