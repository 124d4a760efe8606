//! Proof of recorded streams, without a pipeline: what came of each slot, and whether it is whole.
//!
//! Each recording counts as an endpoint, and each session of one that tells them apart. A slot is proven if what one bank of
//! one endpoint delivered proves, or what all of them delivered of one version, taken together, and if it names its parent
//! as the other slots do. If not, the finding is that of the delivery that got furthest. Slots that others name and that
//! never came are missing.
//!
//! A slot that lacks its beginning was joined in the middle if the endpoint's frames begin there, or where a replay may
//! have passed into the live stream, which it does once; and not if it told before of a bank made for this slot or an
//! earlier one. Anywhere else the beginning was lost.
//!
//! The order in which frames come does not matter but for that, and `blocks` count as what they hold; a frame that can't be
//! read is counted and otherwise as if it had not come. Pure; holds signatures and entries of all slots in memory, some 150 KB for a slot
//! of mainnet.

use std::collections::BTreeMap;

use bytes::Bytes;
use rayon::prelude::*;

use self::delivery::Delivery;
use self::links::{Found, Links};
use super::chain::Break;
use crate::entry::Entry;
use crate::frame::{BlockMeta, Frame, FrameError, Header, Kind, SlotStatus};
use crate::slot::Slot;
use crate::transaction::Transaction;

mod delivery;
mod links;

/// What can be said of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Its chain holds, over so many hashes.
    Proven(u64),
    /// The recordings begin in its middle.
    Joined,
    /// Its block meta did not come: the recordings end in its middle, or the bank was thrown away.
    Unfinished,
    /// Its chain breaks, or it names a wrong parent.
    Broken(Break),
    /// Its block meta did not come, and should have: another slot names it as its parent.
    MetaMissing {
        /// The slot that names it.
        child: Slot,
        /// Its chain holds, from the slot before it to the blockhash that the child names.
        holds: bool,
    },
    /// Nothing came of it, and another slot names it as its parent.
    Missing {
        /// The first slot of which nothing came before it; each of those between may have been skipped.
        since: Slot,
        /// The slot that names it.
        child: Slot,
    },
}

impl Finding {
    /// How far a delivery got, to choose among several.
    fn rank(&self) -> (u8, u32) {
        match self {
            Self::Proven(_) => (3, 0),
            Self::Broken(broken) => (2, broken.index),
            Self::Joined => (1, 0),
            Self::Unfinished | Self::MetaMissing { .. } | Self::Missing { .. } => (0, 0),
        }
    }
}

/// A bank of an endpoint, and how often it was made anew before: only banks without a number are.
type Lane = (usize, u64, u32);

/// What recordings delivered.
#[derive(Debug, Default)]
pub struct Recordings {
    slots: BTreeMap<Slot, BTreeMap<Lane, Delivery>>,
    /// The slot with which the frames of each endpoint begin.
    firsts: BTreeMap<usize, Slot>,
    /// The lowest slot of which each endpoint told that a bank was made for it.
    announced: BTreeMap<usize, Slot>,
    entries: u64,
    transactions: u64,
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

    /// Transactions that came.
    pub fn transactions(&self) -> u64 {
        self.transactions
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
                let mut transaction = std::mem::take(&mut self.scratch);
                let read = transaction.read(body);
                if read.is_ok() {
                    self.transactions += 1;
                    self.delivery(endpoint, &header).push_transaction(&transaction, body);
                }
                self.scratch = transaction;
                read?;
            }
            Kind::Entry => {
                let entry = Entry::read(body)?;
                self.entries += 1;
                self.delivery(endpoint, &header).push_entry(&entry);
            }
            Kind::BlockMeta => {
                let meta = BlockMeta::read(body)?;
                self.delivery(endpoint, &header).meta = Some(meta);
            }
            Kind::Block => {
                let block = Delivery::of_block(body, &mut self.scratch).ok_or(FrameError::Empty)?;
                self.entries += block.entries();
                self.transactions += block.transactions();
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
        let is_announced = self.announced.get(&endpoint).is_some_and(|announced| *announced <= header.slot);
        let deliveries = self.slots.entry(header.slot).or_default();
        let lanes = deliveries.range((endpoint, header.bank_id, 0)..=(endpoint, header.bank_id, u32::MAX));
        let made = lanes.last().map_or(0, |(&(_, _, made), _)| made);
        let begun = || Delivery::begun(header.slot <= first, is_announced);
        deliveries.entry((endpoint, header.bank_id, made)).or_insert_with(begun)
    }

    /// A bank without a number that is made anew voids the one before, unless nothing of a new one comes: then the frames
    /// are out of order. So what comes is kept apart.
    fn on_status(&mut self, endpoint: usize, header: &Header) {
        let status = header.status();
        if matches!(status, Some(SlotStatus::CreatedBank | SlotStatus::FirstShredReceived)) {
            let lowest = self.announced.entry(endpoint).or_insert(header.slot);
            *lowest = header.slot.min(*lowest);
        }
        let Some(deliveries) = self.slots.get_mut(&header.slot) else { return };
        let lanes = (endpoint, header.bank_id, 0)..=(endpoint, header.bank_id, u32::MAX);
        let Some((&lane, delivery)) = deliveries.range(lanes).last() else { return };
        match status {
            Some(SlotStatus::Dead) => {
                deliveries.remove(&lane);
            }
            Some(SlotStatus::CreatedBank) if header.bank_id == 0 => {
                let anew = Delivery::begun(delivery.is_first, delivery.is_announced);
                deliveries.insert((lane.0, lane.1, lane.2.saturating_add(1)), anew);
            }
            _ => {}
        }
    }

    /// What can be said of each slot of which anything came, or should have, in order.
    pub fn prove(&self) -> Vec<(Slot, Finding)> {
        let joins = self.joins();
        let find = |(&slot, deliveries): (&Slot, &BTreeMap<Lane, Delivery>)| {
            Some((slot, find(deliveries, |endpoint| joins.get(&endpoint).is_some_and(|last| slot <= *last))?))
        };
        Links::new(self.slots.par_iter().filter_map(find).collect()).settle()
    }

    /// Up to which slot each endpoint may have come in the middle: that with which its frames begin and the one behind it,
    /// which may have begun before it ended; or if they begin with a whole slot, the first that lacks its beginning: there a
    /// replay passes into the live stream.
    fn joins(&self) -> BTreeMap<usize, Slot> {
        let late = |delivery: &Delivery| !delivery.is_announced && delivery.begins_late();
        let mut joins = BTreeMap::new();
        for (&endpoint, &first) in &self.firsts {
            let own = |slot: &BTreeMap<Lane, Delivery>| {
                let lanes = slot.range((endpoint, 0, 0)..=(endpoint, u64::MAX, u32::MAX));
                lanes.into_iter().any(|(_, delivery)| late(delivery))
            };
            let begins_whole = self.slots.get(&first).is_none_or(|slot| !own(slot));
            let behind = self.slots.range(first.saturating_add(2)..);
            let passes = behind.filter(|_| begins_whole).find(|(_, slot)| own(slot)).map(|(&slot, _)| slot);
            joins.insert(endpoint, passes.unwrap_or(first.saturating_add(1)));
        }
        joins
    }
}

/// What is found of one slot by itself; `None` if there is nothing left of it.
fn find(all: &BTreeMap<Lane, Delivery>, may_join: impl Fn(usize) -> bool) -> Option<Found> {
    // Of a bank that was made anew the last one that came to its end counts.
    let is_void = |&(endpoint, bank, made): &Lane| {
        let later = (endpoint, bank, made + 1)..=(endpoint, bank, u32::MAX);
        all.range(later).any(|(_, later)| later.meta.is_some())
    };
    let counts = all.iter().filter(|(lane, delivery)| delivery.meta.is_none() || !is_void(lane));
    let deliveries: Vec<(bool, &Delivery)> = counts
        .map(|(&(endpoint, ..), delivery)| (!delivery.is_announced && may_join(endpoint), delivery))
        .collect();
    // What has no meta may be of any version, which the proof tells.
    let together = |with_all: bool| -> Vec<(Option<BlockMeta>, Finding)> {
        let finding = |(joins, delivery): &(bool, &Delivery)| {
            let version = delivery.meta.as_ref()?.blockhash;
            let belongs =
                |other: &&(bool, &Delivery)| other.1.meta.map_or(with_all, |meta| meta.blockhash == version);
            let mut all = Delivery::clone(delivery);
            deliveries.iter().filter(belongs).for_each(|(_, other)| all.add(other));
            Some((delivery.meta, all.find(*joins)))
        };
        deliveries.iter().filter_map(finding).collect()
    };
    let mut findings: Vec<_> =
        deliveries.iter().map(|(joins, delivery)| (delivery.meta, delivery.find(*joins))).collect();
    for with_all in [false, true] {
        if deliveries.len() == 1 || findings.iter().any(|(_, found)| matches!(found, Finding::Proven(_))) {
            break;
        }
        findings.splice(..0, together(with_all));
    }
    let finding = findings.iter().map(|(_, finding)| *finding).max_by_key(Finding::rank)?;
    let proven = |(meta, finding): (Option<BlockMeta>, Finding)| match finding {
        Finding::Proven(hashes) => Some((meta?, hashes)),
        _ => None,
    };
    let mut content = Delivery::default();
    if finding == Finding::Unfinished {
        deliveries.iter().for_each(|(_, delivery)| content.add(delivery));
    }
    Some(Found { finding, proven: findings.into_iter().filter_map(proven).collect(), content })
}

#[cfg(test)]
mod tests;
