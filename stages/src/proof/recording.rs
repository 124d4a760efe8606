//! Proof of recorded streams, without a pipeline: what came of each slot, and whether it is whole.
//!
//! Each recording counts as an endpoint. A slot is proven if what one bank of one endpoint delivered proves, or what all
//! of them delivered of one version, taken together. If not, the finding is that of the delivery that got furthest. The
//! order in which frames come does not matter, and `blocks` count as what they hold; a frame that can't be read is counted
//! and otherwise as if it had not come. Pure; holds signatures and entries of all slots in memory, some 150 KB for a slot
//! of mainnet.

use std::collections::BTreeMap;

use bytes::Bytes;
use rayon::prelude::*;

use prost::Message as _;
use yellowstone_grpc_proto::prelude::SubscribeUpdateBlock;

use super::DEFAULT_MAX_HASHES;
use super::chain::{Break, History, Signature};
use crate::entry::Entry;
use crate::frame::{BlockMeta, Frame, FrameError, Header, Kind, SlotStatus};
use crate::slot::{Hash, Slot};
use crate::transaction::Transaction;

/// What can be said of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Its chain holds, over so many hashes.
    Proven(u64),
    /// The recordings begin in its middle.
    Joined,
    /// Its block meta did not come: the recordings end in its middle, or the bank was thrown away.
    Unfinished,
    /// Its chain breaks.
    Broken(Break),
}

impl Finding {
    /// How far a delivery got, to choose among several.
    fn rank(&self) -> (u8, u32) {
        match self {
            Self::Proven(_) => (3, 0),
            Self::Broken(broken) => (2, broken.index),
            Self::Joined => (1, 0),
            Self::Unfinished => (0, 0),
        }
    }
}

#[derive(Debug, Clone)]
struct OwnedEntry {
    num_hashes: u64,
    hash: [u8; 32],
    transactions: u32,
}

/// What one bank of one endpoint delivered.
#[derive(Debug, Clone, Default)]
struct Delivery {
    meta: Option<BlockMeta>,
    entries: BTreeMap<u32, OwnedEntry>,
    transactions: BTreeMap<u32, Vec<Signature>>,
    /// It is of the slot with which its endpoint's frames begin, or of one before.
    is_first: bool,
}

/// A bank of an endpoint, and how often it was made anew before: only banks without a number are.
type Lane = (usize, u64, u32);

impl Delivery {
    fn find(&self) -> Finding {
        let Some(meta) = &self.meta else { return Finding::Unfinished };
        let slots = meta.slot.saturating_sub(meta.parent_slot);
        let mut history = History::new(meta.parent_blockhash, meta.blockhash, slots, DEFAULT_MAX_HASHES);
        for (&index, entry) in &self.entries {
            history.push_entry(&Entry {
                index,
                num_hashes: entry.num_hashes,
                hash: &entry.hash,
                executed_transaction_count: entry.transactions,
            });
        }
        for (&index, signatures) in &self.transactions {
            history.push_transaction(index, signatures);
        }
        match history.prove() {
            Ok(hashes) => Finding::Proven(hashes),
            Err(_) if self.begins_late() => Finding::Joined,
            Err(broken) => Finding::Broken(broken),
        }
    }

    fn begins_late(&self) -> bool {
        let late = |first: Option<&u32>| first.is_some_and(|&first| first > 0);
        late(self.entries.keys().next())
            || late(self.transactions.keys().next())
            || self.is_first && self.entries.is_empty()
    }

    /// What the body of a `blocks` update holds, as far as its subscription asked for it; `None` if it can't be read.
    fn of_block(body: &[u8]) -> Option<Self> {
        let block = SubscribeUpdateBlock::decode(body).ok()?;
        let mut delivery = Self {
            meta: Some(BlockMeta {
                slot: block.slot,
                blockhash: Hash::from_base58(&block.blockhash)?,
                parent_slot: block.parent_slot,
                parent_blockhash: Hash::from_base58(&block.parent_blockhash)?,
                executed_transaction_count: u32::try_from(block.executed_transaction_count).ok()?,
                entries_count: None,
            }),
            ..Self::default()
        };
        for entry in &block.entries {
            let hash = entry.hash.as_slice().try_into().ok()?;
            let transactions = u32::try_from(entry.executed_transaction_count).ok()?;
            let own = OwnedEntry { num_hashes: entry.num_hashes, hash, transactions };
            delivery.entries.insert(u32::try_from(entry.index).ok()?, own);
        }
        for info in &block.transactions {
            let signatures = info.transaction.iter().flat_map(|transaction| &transaction.signatures);
            let signatures = signatures.map(|signature| signature.as_slice().try_into());
            let signatures = signatures.collect::<Result<Vec<Signature>, _>>().ok()?;
            delivery.transactions.insert(u32::try_from(info.index).ok()?, signatures);
        }
        Some(delivery)
    }

    /// Takes over what is missing here.
    fn add(&mut self, other: &Self) {
        for (&index, entry) in &other.entries {
            self.entries.entry(index).or_insert_with(|| entry.clone());
        }
        for (&index, signatures) in &other.transactions {
            self.transactions.entry(index).or_insert_with(|| signatures.clone());
        }
    }
}

/// What recordings delivered.
#[derive(Debug, Default)]
pub struct Recordings {
    slots: BTreeMap<Slot, BTreeMap<Lane, Delivery>>,
    /// The slot with which the frames of each endpoint begin.
    firsts: BTreeMap<usize, Slot>,
    entries: u64,
    unreadable: u64,
    scratch: Transaction,
}

impl Recordings {
    /// Takes the next `SubscribeUpdate` of an endpoint; one that can't be read is counted.
    pub fn take(&mut self, endpoint: usize, update: Bytes) {
        self.unreadable += u64::from(self.try_take(endpoint, update).is_err());
    }

    /// Entries that came.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Frames that could not be read.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    fn try_take(&mut self, endpoint: usize, update: Bytes) -> Result<(), FrameError> {
        let frame = match Frame::try_new(update) {
            // A newer server's, and nothing that a proof needs.
            Err(FrameError::UnknownKind(_)) => return Ok(()),
            scanned => scanned?,
        };
        let header = frame.header;
        let body = frame.body();
        match header.kind {
            Kind::Slot => self.on_status(endpoint, &header),
            Kind::Transaction => {
                self.scratch.read(body)?;
                let places = self.scratch.signatures.iter();
                let signatures = places.map(|place| *place.array::<64>(body)).collect();
                self.delivery(endpoint, &header).transactions.entry(header.index).or_insert(signatures);
            }
            Kind::Entry => {
                let Entry { index, num_hashes, hash, executed_transaction_count: transactions } =
                    Entry::read(body)?;
                let entry = OwnedEntry { num_hashes, hash: *hash, transactions };
                self.entries += 1;
                self.delivery(endpoint, &header).entries.entry(index).or_insert(entry);
            }
            Kind::BlockMeta => {
                let meta = BlockMeta::read(body)?;
                self.delivery(endpoint, &header).meta = Some(meta);
            }
            Kind::Block => {
                let block = Delivery::of_block(body).ok_or(FrameError::Empty)?;
                self.entries += block.entries.len() as u64;
                let delivery = self.delivery(endpoint, &header);
                delivery.meta = delivery.meta.or(block.meta);
                delivery.add(&block);
            }
            _ => {}
        }
        Ok(())
    }

    /// What an endpoint delivered of the bank that a frame is about.
    fn delivery(&mut self, endpoint: usize, header: &Header) -> &mut Delivery {
        let first = *self.firsts.entry(endpoint).or_insert(header.slot);
        let deliveries = self.slots.entry(header.slot).or_default();
        let lanes = deliveries.range((endpoint, header.bank_id, 0)..=(endpoint, header.bank_id, u32::MAX));
        let made = lanes.last().map_or(0, |(&(_, _, made), _)| made);
        let delivery = deliveries.entry((endpoint, header.bank_id, made)).or_default();
        delivery.is_first = header.slot <= first;
        delivery
    }

    /// A bank without a number that is made anew voids the one before, unless nothing of a new one comes: then the frames
    /// are out of order. So what comes is kept apart.
    fn on_status(&mut self, endpoint: usize, header: &Header) {
        let Some(deliveries) = self.slots.get_mut(&header.slot) else { return };
        let lanes = (endpoint, header.bank_id, 0)..=(endpoint, header.bank_id, u32::MAX);
        let Some((&lane, delivery)) = deliveries.range(lanes).last() else { return };
        match header.status() {
            Some(SlotStatus::Dead) => {
                deliveries.remove(&lane);
            }
            Some(SlotStatus::CreatedBank) if header.bank_id == 0 => {
                let is_first = delivery.is_first;
                let anew = Delivery { is_first, ..Delivery::default() };
                deliveries.insert((lane.0, lane.1, lane.2.saturating_add(1)), anew);
            }
            _ => {}
        }
    }

    /// What can be said of each slot of which anything came, in order.
    pub fn prove(&self) -> Vec<(Slot, Finding)> {
        let find = |(&slot, deliveries): (&Slot, &BTreeMap<Lane, Delivery>)| Some((slot, find(deliveries)?));
        self.slots.par_iter().filter_map(find).collect()
    }
}

/// The best finding of one slot; `None` if there is nothing left of it.
fn find(all: &BTreeMap<Lane, Delivery>) -> Option<Finding> {
    // Of a bank that was made anew the last one that came to its end counts.
    let is_void = |&(endpoint, bank, made): &Lane| {
        let later = (endpoint, bank, made + 1)..=(endpoint, bank, u32::MAX);
        all.range(later).any(|(_, later)| later.meta.is_some())
    };
    let counts = all.iter().filter(|(lane, delivery)| delivery.meta.is_none() || !is_void(lane));
    let deliveries: Vec<&Delivery> = counts.map(|(_, delivery)| delivery).collect();
    let alone = deliveries.iter().map(|delivery| delivery.find()).max_by_key(Finding::rank)?;
    if matches!(alone, Finding::Proven(_)) || deliveries.len() == 1 {
        return Some(alone);
    }
    // What has no meta may be of any version, which the proof tells.
    let together = |with_all: bool| {
        let finding = |delivery: &&Delivery| {
            let version = delivery.meta.as_ref()?.blockhash;
            let belongs = |other: &&&Delivery| other.meta.map_or(with_all, |meta| meta.blockhash == version);
            let mut all = Delivery::clone(delivery);
            deliveries.iter().filter(belongs).for_each(|other| all.add(other));
            Some(all.find())
        };
        deliveries.iter().filter_map(finding).max_by_key(Finding::rank)
    };
    let best = together(false).into_iter().chain([alone]).max_by_key(Finding::rank)?;
    match best {
        Finding::Proven(_) => Some(best),
        _ => together(true).into_iter().chain([best]).max_by_key(Finding::rank),
    }
}

#[cfg(test)]
mod tests;
