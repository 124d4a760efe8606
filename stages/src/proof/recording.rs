//! Proof of recorded streams, without a pipeline: what came of each slot, and whether it is whole.
//!
//! Each recording counts as an endpoint. A slot is proven if what one bank of one endpoint delivered proves, or what all
//! of them delivered of one version, taken together. If not, the finding is that of the delivery that got furthest. Pure;
//! holds signatures and entries of all slots in memory, some 150 KB for a slot of mainnet.

use std::collections::BTreeMap;

use bytes::Bytes;
use rayon::prelude::*;

use super::DEFAULT_MAX_HASHES;
use super::chain::{Break, History, Signature};
use crate::entry::Entry;
use crate::frame::{BlockMeta, Frame, FrameError, Header, Kind, SlotStatus};
use crate::slot::Slot;
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
}

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
        late(self.entries.keys().next()) || late(self.transactions.keys().next())
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
    slots: BTreeMap<Slot, BTreeMap<(usize, u64), Delivery>>,
    scratch: Transaction,
}

impl Recordings {
    /// Takes the next `SubscribeUpdate` of an endpoint.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn take(&mut self, endpoint: usize, update: Bytes) -> Result<(), FrameError> {
        let frame = match Frame::try_new(update) {
            // A newer server's, and nothing that a proof needs.
            Err(FrameError::UnknownKind(_)) => return Ok(()),
            scanned => scanned?,
        };
        let header = frame.header;
        if !matches!(header.kind, Kind::Transaction | Kind::Entry | Kind::BlockMeta | Kind::Slot) {
            return Ok(());
        }
        let lane = (endpoint, header.bank_id);
        if header.kind == Kind::Slot {
            self.on_status(lane, &header);
            return Ok(());
        }
        let delivery = self.slots.entry(header.slot).or_default().entry(lane).or_default();
        match header.kind {
            Kind::Transaction => {
                let body = frame.body();
                self.scratch.read(body)?;
                let signatures = self.scratch.signatures.iter().map(|place| *place.array::<64>(body));
                delivery.transactions.entry(header.index).or_insert_with(|| signatures.collect());
            }
            Kind::Entry => {
                let Entry { index, num_hashes, hash, executed_transaction_count: transactions } =
                    Entry::read(frame.body())?;
                delivery.entries.entry(index).or_insert(OwnedEntry { num_hashes, hash: *hash, transactions });
            }
            _ => delivery.meta = Some(BlockMeta::read(frame.body())?),
        }
        Ok(())
    }

    /// A bank without a number that is made anew voids what was delivered of it.
    fn on_status(&mut self, lane: (usize, u64), header: &Header) {
        let void = header.status == Some(SlotStatus::Dead)
            || header.status == Some(SlotStatus::CreatedBank) && header.bank_id == 0;
        if void && let Some(deliveries) = self.slots.get_mut(&header.slot) {
            deliveries.remove(&lane);
        }
    }

    /// What can be said of each slot of which anything came, in order.
    pub fn prove(&self) -> Vec<(Slot, Finding)> {
        let find = |(&slot, deliveries): (&Slot, &BTreeMap<_, Delivery>)| Some((slot, find(deliveries)?));
        self.slots.par_iter().filter_map(find).collect()
    }
}

/// The best finding of one slot; `None` if there is nothing left of it.
fn find(deliveries: &BTreeMap<(usize, u64), Delivery>) -> Option<Finding> {
    let alone = deliveries.values().map(Delivery::find).max_by_key(Finding::rank)?;
    if matches!(alone, Finding::Proven(_)) || deliveries.len() == 1 {
        return Some(alone);
    }
    let together = deliveries.values().filter_map(|delivery| {
        let version = delivery.meta.as_ref()?.blockhash;
        let is_same = |other: &&Delivery| other.meta.as_ref().is_some_and(|meta| meta.blockhash == version);
        let mut all = delivery.clone();
        deliveries.values().filter(is_same).for_each(|other| all.add(other));
        Some(all.find())
    });
    together.chain([alone]).max_by_key(Finding::rank)
}
