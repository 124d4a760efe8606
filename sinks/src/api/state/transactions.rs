//! Recent transactions by their signatures: a ring, and beside it a ring of the signatures' first bytes.
//!
//! Every transaction is taken in and hardly one is asked for. So taking one in is to copy what its check has noted, without
//! a hash table; asking for one is to go through the first bytes of all, 8 bytes each and some 50 µs for 100,000.

use std::sync::Arc;

use serde::Serialize;
use sluice_stages::block::Block;
use sluice_stages::frame::Outcome;
use sluice_stages::slot::{Hash, Slot};
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

/// What all transactions of a block share.
#[derive(Debug)]
struct Home {
    slot: Slot,
    blockhash: Hash,
    way: &'static str,
}

#[derive(Debug)]
struct Entry {
    signature: [u8; SIGNATURE_BYTES],
    home: Arc<Home>,
    index: u32,
    outcome: Outcome,
}

/// Recent transactions.
#[derive(Debug)]
pub(in crate::api) struct TransactionIndex {
    capacity: usize,
    ring: Vec<Entry>,
    /// The first bytes of the signature at the same position of the ring. Whoever makes others with the same ones makes a
    /// look-up compare a few more.
    firsts: Vec<[u8; 8]>,
    next: usize,
}

impl TransactionIndex {
    /// An index of the last `capacity` transactions.
    pub(in crate::api) fn new(capacity: usize) -> Self {
        Self { capacity, ring: Vec::new(), firsts: Vec::new(), next: 0 }
    }

    /// Takes in all transactions of a block.
    pub(in crate::api) fn on_block(&mut self, block: &Block) {
        if self.capacity == 0 {
            return;
        }
        let home = Arc::new(Home { slot: block.slot(), blockhash: block.blockhash(), way: block.way.name() });
        let updates = block.transactions.updates().unwrap_or_default();
        // Those that would make room for others of the same block again.
        let first = updates.len().saturating_sub(self.capacity);
        for update in &updates[first..] {
            let header = &update.frame.header;
            // What is in a block was checked, so both are there.
            let (Ok(signature), Some(outcome)) = (update.frame.key().try_into(), header.outcome()) else {
                continue;
            };
            self.push(Entry { signature, home: Arc::clone(&home), index: header.index, outcome });
        }
    }

    fn push(&mut self, entry: Entry) {
        let first = *entry.signature.first_chunk().expect("a signature is longer");
        if self.ring.len() < self.capacity {
            self.firsts.push(first);
            self.ring.push(entry);
        } else {
            self.firsts[self.next] = first;
            self.ring[self.next] = entry;
        }
        self.next = (self.next + 1) % self.capacity;
    }

    /// The transaction with this signature, as it came last.
    pub(in crate::api) fn get(&self, signature: &[u8; SIGNATURE_BYTES]) -> Option<TransactionView> {
        let first = signature.first_chunk().expect("a signature is longer");
        // From the newest to the oldest.
        let places = (0..self.next).rev().chain((self.next..self.ring.len()).rev());
        let mut same = places.filter(|&place| self.firsts[place] == *first).map(|place| &self.ring[place]);
        let entry = same.find(|entry| entry.signature == *signature)?;
        Some(TransactionView {
            signature: bs58::encode(signature).into_string(),
            slot: entry.home.slot,
            blockhash: entry.home.blockhash.to_base58(),
            index: entry.index,
            is_vote: entry.outcome.is_vote,
            failed: entry.outcome.failed,
            fee_lamports: entry.outcome.fee,
            compute_units: entry.outcome.compute_units.map(|units| units.get().into()),
            way: entry.home.way,
        })
    }
}

#[cfg(test)]
mod tests {
    use sluice_stages::transaction::Transaction;

    use super::*;
    use crate::parquet::testing::{Chain, block_of};

    #[test]
    fn what_is_shown_is_what_the_full_pass_reads() {
        let chain = Chain::generate(10, 20, 5);
        let (mut transaction, mut index) = (Transaction::default(), TransactionIndex::new(1_000));
        for slot in chain.slots() {
            let block = block_of(&chain, slot);
            index.on_block(&block);
            for update in block.transactions.updates().expect("subscribed") {
                transaction.read(update.frame.body()).expect("checked");
                let key = update.frame.key().try_into().expect("64 bytes");
                let view = index.get(&key).expect("there is room");
                assert_eq!(
                    (view.slot, view.index, view.is_vote),
                    (slot, transaction.index, transaction.is_vote)
                );
                assert_eq!((view.failed, view.fee_lamports), (transaction.err.is_some(), transaction.fee));
                assert_eq!(view.compute_units, transaction.compute_units_consumed);
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
            let updates = block.transactions.updates().expect("subscribed");
            signatures
                .extend(updates.iter().map(|update| <[u8; 64]>::try_from(update.frame.key()).expect("64")));
        }
        let found = signatures.iter().filter(|signature| index.get(signature).is_some()).count();
        assert_eq!((found, index.ring.len(), index.firsts.len()), (12, 12, 12));
        assert!(signatures[signatures.len() - 12..].iter().all(|signature| index.get(signature).is_some()));
    }

    #[test]
    fn a_block_that_is_larger_than_the_index_leaves_its_end() {
        let chain = Chain::generate(10, 12, 5);
        let block = block_of(&chain, chain.slots()[0]);
        let mut index = TransactionIndex::new(2);
        index.on_block(&block);
        let updates = block.transactions.updates().expect("subscribed");
        let is_found = |update: &sluice_stages::batch::Update| {
            index.get(&update.frame.key().try_into().expect("64 bytes")).is_some()
        };
        assert_eq!(updates.iter().map(is_found).collect::<Vec<_>>(), [false, false, false, true, true]);
    }

    #[test]
    fn what_came_last_is_shown_and_equal_beginnings_are_told_apart() {
        let entry = |last: u8, index| {
            let mut signature = [7; SIGNATURE_BYTES];
            signature[63] = last;
            let home = Arc::new(Home { slot: 1, blockhash: Hash([0; 32]), way: "live" });
            Entry { signature, home, index, outcome: Outcome::default() }
        };
        let mut index = TransactionIndex::new(4);
        for (last, at) in [(1, 10), (2, 20), (1, 11), (3, 30), (4, 40), (1, 12)] {
            index.push(entry(last, at));
        }
        let at = |last| index.get(&entry(last, 0).signature).map(|view| view.index);
        assert_eq!([1, 2, 3, 4].map(at), [Some(12), None, Some(30), Some(40)]);
    }
}
