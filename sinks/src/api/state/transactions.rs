//! Recent transactions by their signatures: a ring, and a map into it by fingerprint.
//!
//! Two signatures with one fingerprint can't be made at will, since the hasher's keys are this process' own; should it
//! happen, the older one is not found. What is read of a transaction is a few fields of its meta, with jumps over the
//! rest: some 200 ns.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use serde::Serialize;
use sluice_stages::block::Block;
use sluice_stages::slot::{Hash, Slot};
use sluice_stages::wire::{Reader, WireError};
use utoipa::ToSchema;

const SIGNATURE_BYTES: usize = 64;

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::api) struct TransactionView {
    /// Its first signature, base58.
    pub(in crate::api) signature: String,
    /// The slot that holds it.
    pub(in crate::api) slot: u64,
    /// The blockhash of that version of the slot, base58.
    pub(in crate::api) blockhash: String,
    /// Its position in the block.
    pub(in crate::api) index: u32,
    /// Whether it is a vote.
    pub(in crate::api) is_vote: bool,
    /// Whether it failed: it is on the chain all the same.
    pub(in crate::api) failed: bool,
    /// Its fee.
    pub(in crate::api) fee_lamports: u64,
    /// Compute units that it consumed, where the node tells.
    pub(in crate::api) compute_units: Option<u64>,
    /// How its slot came: `live`, `replay` or `rpc`.
    pub(in crate::api) way: &'static str,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    signature: [u8; SIGNATURE_BYTES],
    slot: Slot,
    blockhash: Hash,
    way: &'static str,
    index: u32,
    outcome: Outcome,
}

/// What is read of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Outcome {
    is_vote: bool,
    failed: bool,
    fee: u64,
    compute_units: Option<u64>,
}

impl Outcome {
    /// Reads the body of a `SubscribeUpdateTransaction`.
    fn read(body: &[u8]) -> Result<Self, WireError> {
        let mut outcome = Self::default();
        let mut reader = Reader::new("SubscribeUpdateTransaction", body);
        while let Some(field) = reader.next_field()? {
            if field.number == 1 {
                outcome.read_info(field.message("SubscribeUpdateTransactionInfo")?)?;
            }
        }
        Ok(outcome)
    }

    fn read_info(&mut self, mut info: Reader<'_>) -> Result<(), WireError> {
        while let Some(field) = info.next_field()? {
            match field.number {
                2 => self.is_vote = field.bool()?,
                4 => self.read_meta(field.message("TransactionStatusMeta")?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_meta(&mut self, mut meta: Reader<'_>) -> Result<(), WireError> {
        while let Some(field) = meta.next_field()? {
            match field.number {
                1 => self.failed = true,
                2 => self.fee = field.varint()?,
                16 => self.compute_units = Some(field.varint()?),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Recent transactions.
#[derive(Debug)]
pub(in crate::api) struct TransactionIndex {
    capacity: usize,
    ring: Vec<Entry>,
    next: usize,
    places: HashMap<u64, u32>,
    hasher: RandomState,
}

impl TransactionIndex {
    /// An index of the last `capacity` transactions, as far as a u32 can count.
    pub(in crate::api) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.min(u32::MAX as usize),
            ring: Vec::new(),
            next: 0,
            places: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Takes in all transactions of a block.
    pub(in crate::api) fn on_block(&mut self, block: &Block) {
        if self.capacity == 0 {
            return;
        }
        for update in block.transactions.updates().unwrap_or_default() {
            let signature = update.frame.key().try_into();
            // What is in a block was checked, so both can be read.
            let (Ok(signature), Ok(outcome)) = (signature, Outcome::read(update.frame.body())) else {
                continue;
            };
            self.push(Entry {
                signature,
                slot: block.slot(),
                blockhash: block.blockhash(),
                way: block.way.name(),
                index: update.frame.header.index,
                outcome,
            });
        }
    }

    fn push(&mut self, entry: Entry) {
        let fingerprint = self.hasher.hash_one(entry.signature);
        let place = self.places.get(&fingerprint).map(|place| *place as usize);
        if let Some(place) = place.filter(|place| self.ring[*place].signature == entry.signature) {
            self.ring[place] = entry;
            return;
        }
        let place = self.next;
        if place < self.ring.len() {
            let old = self.hasher.hash_one(self.ring[place].signature);
            if self.places.get(&old) == Some(&(place as u32)) {
                self.places.remove(&old);
            }
            self.ring[place] = entry;
        } else {
            self.ring.push(entry);
        }
        self.places.insert(fingerprint, place as u32);
        self.next = (place + 1) % self.capacity;
    }

    /// The transaction with this signature.
    pub(in crate::api) fn get(&self, signature: &[u8; SIGNATURE_BYTES]) -> Option<TransactionView> {
        let place = *self.places.get(&self.hasher.hash_one(signature))?;
        let entry = self.ring.get(place as usize).filter(|entry| entry.signature == *signature)?;
        Some(TransactionView {
            signature: bs58::encode(signature).into_string(),
            slot: entry.slot,
            blockhash: entry.blockhash.to_base58(),
            index: entry.index,
            is_vote: entry.outcome.is_vote,
            failed: entry.outcome.failed,
            fee_lamports: entry.outcome.fee,
            compute_units: entry.outcome.compute_units,
            way: entry.way,
        })
    }
}

#[cfg(test)]
mod tests {
    use sluice_stages::transaction::Transaction;

    use super::*;
    use crate::parquet::testing::{Chain, block_of};

    #[test]
    fn what_is_read_is_what_the_full_pass_reads() {
        let chain = Chain::generate(10, 20, 5);
        let mut transaction = Transaction::default();
        for slot in chain.slots() {
            for update in block_of(&chain, slot).transactions.updates().expect("subscribed") {
                let body = update.frame.body();
                transaction.read(body).expect("checked");
                let expected = Outcome {
                    is_vote: transaction.is_vote,
                    failed: transaction.err.is_some(),
                    fee: transaction.fee,
                    compute_units: transaction.compute_units_consumed,
                };
                assert_eq!(Outcome::read(body), Ok(expected));
            }
        }
    }

    #[test]
    fn the_last_ones_are_found_and_older_ones_are_forgotten() {
        let chain = Chain::generate(10, 20, 5);
        let mut index = TransactionIndex::new(12);
        let mut signatures: Vec<[u8; 64]> = Vec::new();
        for slot in chain.slots() {
            let block = block_of(&chain, slot);
            index.on_block(&block);
            index.on_block(&block);
            let updates = block.transactions.updates().expect("subscribed");
            signatures
                .extend(updates.iter().map(|update| <[u8; 64]>::try_from(update.frame.key()).expect("64")));
        }
        let found = signatures.iter().filter(|signature| index.get(signature).is_some()).count();
        assert_eq!((found, index.places.len()), (12, 12));
        assert!(signatures[signatures.len() - 12..].iter().all(|signature| index.get(signature).is_some()));
    }
}
