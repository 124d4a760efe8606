//! What one bank of one endpoint delivered, and what it proves by itself.

use std::collections::BTreeMap;

use prost::Message as _;
use yellowstone_grpc_proto::prelude::{
    SubscribeUpdateBlock, SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo,
};

use super::Finding;
use crate::entry::Entry;
use crate::frame::BlockMeta;
use crate::proof::DEFAULT_MAX_HASHES;
use crate::proof::chain::{History, Signature, Signers};
use crate::slot::Hash;
use crate::transaction::Transaction;
use crate::wire::WireError;

#[derive(Debug, Clone)]
struct OwnedEntry {
    num_hashes: u64,
    hash: [u8; 32],
    transactions: u32,
}

#[derive(Debug, Clone)]
struct OwnedTransaction {
    signatures: Vec<Signature>,
    signers: Signers,
}

/// What one bank of one endpoint delivered.
#[derive(Debug, Clone, Default)]
pub(super) struct Delivery {
    pub(super) meta: Option<BlockMeta>,
    entries: BTreeMap<u32, OwnedEntry>,
    transactions: BTreeMap<u32, OwnedTransaction>,
    /// It is of the slot with which its endpoint's frames begin, or of one before.
    pub(super) is_first: bool,
    /// Its endpoint had told of a bank being made for this slot, or for one before: so it began before the slot did.
    pub(super) is_announced: bool,
}

impl Delivery {
    /// One of which nothing came yet.
    pub(super) fn begun(is_first: bool, is_announced: bool) -> Self {
        Self { is_first, is_announced, ..Self::default() }
    }

    /// What can be said of it; `may_join` if its endpoint may have come in the middle of it.
    pub(super) fn find(&self, may_join: bool) -> Finding {
        match &self.meta {
            Some(meta) => self.find_as(meta, may_join),
            None => Finding::Unfinished,
        }
    }

    /// The same, as the block of which `meta` is.
    pub(super) fn find_as(&self, meta: &BlockMeta, may_join: bool) -> Finding {
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
        for (&index, transaction) in &self.transactions {
            history.push_transaction(index, &transaction.signatures, transaction.signers.clone());
        }
        match history.prove() {
            Ok(hashes) => Finding::Proven(hashes),
            Err(_) if may_join && (self.begins_late() || self.is_first && self.entries.is_empty()) => {
                Finding::Joined
            }
            Err(broken) => Finding::Broken(broken),
        }
    }

    /// Whether its beginning lacks, as if whoever recorded it had come later. Transactions of an entry come with it, so
    /// where only entries lack at the beginning, those that are there hold all transactions.
    pub(super) fn begins_late(&self) -> bool {
        let late = |first: Option<&u32>| first.is_some_and(|&first| first > 0);
        let held: u64 = self.entries.values().map(|entry| u64::from(entry.transactions)).sum();
        late(self.transactions.keys().next())
            || late(self.entries.keys().next()) && held >= self.transactions.len() as u64
    }

    /// Takes an entry in.
    pub(super) fn push_entry(&mut self, entry: &Entry<'_>) {
        let &Entry { index, num_hashes, hash, executed_transaction_count: transactions } = entry;
        self.entries.entry(index).or_insert(OwnedEntry { num_hashes, hash: *hash, transactions });
    }

    /// Takes the transaction in that was read from `body`.
    pub(super) fn push_transaction(&mut self, transaction: &Transaction, body: &[u8]) {
        self.transactions.entry(transaction.index).or_insert_with(|| OwnedTransaction {
            signatures: transaction.signatures.iter().map(|place| *place.array::<64>(body)).collect(),
            signers: Signers::of(transaction, body),
        });
    }

    /// What the body of a `blocks` update holds, as far as its subscription asked for it; `None` if it can't be read.
    pub(super) fn of_block(body: &[u8], scratch: &mut Transaction) -> Option<Self> {
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
            delivery.push_entry(&Entry {
                index: u32::try_from(entry.index).ok()?,
                num_hashes: entry.num_hashes,
                hash: entry.hash.as_slice().try_into().ok()?,
                executed_transaction_count: u32::try_from(entry.executed_transaction_count).ok()?,
            });
        }
        for info in block.transactions {
            delivery.push_info(info, block.slot, scratch).ok()?;
        }
        Some(delivery)
    }

    /// A transaction of a block is the same as one that came alone.
    fn push_info(
        &mut self,
        info: SubscribeUpdateTransactionInfo,
        slot: u64,
        scratch: &mut Transaction,
    ) -> Result<(), WireError> {
        let update = SubscribeUpdateTransaction { transaction: Some(info), slot, bank_id: 0 };
        let body = update.encode_to_vec();
        scratch.read(&body)?;
        self.push_transaction(scratch, &body);
        Ok(())
    }

    /// Takes over what is missing here.
    pub(super) fn add(&mut self, other: &Self) {
        for (&index, entry) in &other.entries {
            self.entries.entry(index).or_insert_with(|| entry.clone());
        }
        for (&index, transaction) in &other.transactions {
            self.transactions.entry(index).or_insert_with(|| transaction.clone());
        }
    }

    /// Entries that it holds.
    pub(super) fn entries(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Transactions that it holds.
    pub(super) fn transactions(&self) -> u64 {
        self.transactions.len() as u64
    }
}
