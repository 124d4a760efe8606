//! The chain of hashes of one slot, and whether it holds.
//!
//! In: the parent's blockhash, the entries, and all signatures of the transactions; from frames or from files. Out: the
//! number of hashes that were recomputed, or the first entry that does not follow from the one before, and why as far as
//! that can be told. Pure; the hashing is spread over the rayon pool that it is called in.
//!
//! The rule, as validators have it (<https://github.com/anza-xyz/agave>, crate `solana-entry`): each entry hashes the
//! state `num_hashes` times, and if it has transactions the last of these hashes takes in the root of a Merkle tree over
//! their signatures. Each entry begins with the hash that the entry before it claims, so all can be checked at once; the
//! first one that fails is the one to blame, since all before it are proven.

use std::ops::Range;

use rayon::prelude::*;
use sluice_sha256::Chain;

use super::diagnosis::Suspect;
use super::merkle::{mix, root};
use crate::block::Block;
use crate::entry::Entry;
use crate::slot::Hash;
use crate::transaction::Transaction;
use crate::wire::WireError;

/// Hashes of one piece of work: some 10 ms, long against handing it to a thread and short against a slot.
const PIECE_HASHES: u64 = 500_000;
/// Slots whose hashes a block may hold: those of skipped leaders are in it. No leader's turn is skipped for longer.
const MOST_SLOTS: u64 = 64;

/// A transaction's signature.
pub type Signature = [u8; 64];

/// What an entry claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Hashes since the entry before.
    pub num_hashes: u64,
    /// The state behind it.
    pub hash: [u8; 32],
    /// Transactions in it; 0 for a tick.
    pub transactions: u32,
}

impl Link {
    /// Hashes that take in nothing but the state before.
    pub(super) fn plain_hashes(&self) -> u64 {
        if self.transactions == 0 { self.num_hashes } else { self.num_hashes.saturating_sub(1) }
    }
}

/// What of a slot the proof needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pub(super) parent_blockhash: [u8; 32],
    blockhash: [u8; 32],
    most_hashes: u64,
    pub(super) entries: Vec<Link>,
    /// The signatures of all transactions, one after the other.
    pub(super) signatures: Vec<Signature>,
    /// Where the signatures of each transaction end.
    pub(super) ends: Vec<usize>,
    /// The first entry, and the first transaction, that did not come in its turn.
    misplaced: [Option<u32>; 2],
}

/// Where a chain breaks, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Break {
    /// The first entry that does not hold; the number of entries if there is one too few.
    pub index: u32,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with an entry, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// There are none at all.
    #[error("there are no entries")]
    NoEntries,
    /// The index is missing, or there twice.
    #[error("the entry is missing")]
    EntryMissing,
    /// A transaction of the entry is missing.
    #[error("its transaction {0} is missing")]
    TransactionMissing(u32),
    /// The entries hold more transactions than came.
    #[error("it ends with transaction {ends}, and there are {held}")]
    TooFewTransactions {
        /// The end of the entry's transactions.
        ends: u64,
        /// Transactions that there are.
        held: u64,
    },
    /// The entries hold fewer transactions than came.
    #[error("the entries hold {ends} transactions, and there are {held}")]
    TooManyTransactions {
        /// Transactions in entries.
        ends: u64,
        /// Transactions that there are.
        held: u64,
    },
    /// More hashes than any cluster makes in the time; they are not recomputed.
    #[error("up to it the slot claims {0} hashes, more than there can be")]
    HashLimit(u64),
    /// The first entry does not follow from the parent.
    #[error("it does not follow from the parent's blockhash")]
    Parent,
    /// Fewer hashes than claimed lead to the hash.
    #[error("num_hashes is {claimed}, and {needed} lead to its hash")]
    HashCount {
        /// What it claims.
        claimed: u64,
        /// What is right.
        needed: u64,
    },
    /// More hashes than claimed lead to the hash.
    #[error("num_hashes is {claimed}, and {needed} lead to its hash: an entry before it is missing")]
    EntryLeftOut {
        /// What it claims.
        claimed: u64,
        /// What is right.
        needed: u64,
    },
    /// A neighbour claims the same hash.
    #[error("an entry beside it claims the same hash: one entry was cut in two")]
    EntrySplit,
    /// With two neighbouring transactions exchanged it holds.
    #[error("its transactions {0} and {next} have changed places", next = .0 + 1)]
    TransactionsSwapped(u32),
    /// Without one transaction it holds.
    #[error("its transaction {0} was never executed")]
    TransactionAdded(u32),
    /// It has transactions, and nothing simpler explains it.
    #[error(
        "its hash does not follow from the signatures of its transactions: one is missing, added or changed"
    )]
    Transactions,
    /// It has no transactions, and nothing simpler explains it.
    #[error("its hash does not follow from the entry before: something between them is missing or changed")]
    Tick,
    /// The last entry is not the block's end.
    #[error("the last entry's hash is not the blockhash: the end is missing")]
    Unfinished,
}

impl Reason {
    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoEntries => "no_entries",
            Self::EntryMissing => "entry_missing",
            Self::TransactionMissing(_) => "transaction_missing",
            Self::TooFewTransactions { .. } | Self::TooManyTransactions { .. } => "transaction_count",
            Self::HashLimit(_) => "hash_limit",
            Self::Parent => "parent",
            Self::HashCount { .. } => "hash_count",
            Self::EntryLeftOut { .. } => "entry_left_out",
            Self::EntrySplit => "entry_split",
            Self::TransactionsSwapped(_) => "transactions_swapped",
            Self::TransactionAdded(_) => "transaction_added",
            Self::Transactions => "transactions",
            Self::Tick => "tick",
            Self::Unfinished => "unfinished",
        }
    }
}

impl History {
    /// A slot of which only the hashes are known yet. `slots` is how many slots lie between it and its parent, itself
    /// included, and `most_hashes` how many hashes each of them may hold: what claims more is not recomputed, so that a
    /// number made up by an endpoint can't cost hours.
    pub fn new(parent_blockhash: Hash, blockhash: Hash, slots: u64, most_hashes: u64) -> Self {
        Self {
            parent_blockhash: parent_blockhash.0,
            blockhash: blockhash.0,
            most_hashes: most_hashes.saturating_mul(slots.clamp(1, MOST_SLOTS)),
            entries: Vec::new(),
            signatures: Vec::new(),
            ends: Vec::new(),
            misplaced: [None, None],
        }
    }

    /// The history of a block, `None` if it lacks entries or transactions.
    ///
    /// # Errors
    /// If an update of it is malformed.
    pub fn of(block: &Block, most_hashes: u64) -> Result<Option<Self>, WireError> {
        let parts = (block.entries.updates(), block.transactions.updates());
        let (Some(entries), Some(transactions)) = parts else { return Ok(None) };
        let meta = &block.meta;
        let slots = meta.slot.saturating_sub(meta.parent_slot);
        let mut history = Self::new(meta.parent_blockhash, meta.blockhash, slots, most_hashes);
        for update in entries {
            history.push_entry(&Entry::read(update.frame.body())?);
        }
        let mut transaction = Transaction::default();
        for update in transactions {
            let body = update.frame.body();
            transaction.read(body)?;
            let signatures = transaction.signatures.iter().map(|signature| signature.array::<64>(body));
            history.push_transaction(transaction.index, signatures);
        }
        Ok(Some(history))
    }

    /// Adds the next entry.
    pub fn push_entry(&mut self, entry: &Entry<'_>) {
        if entry.index as usize != self.entries.len() {
            self.misplaced[0].get_or_insert(self.entries.len() as u32);
        }
        self.entries.push(Link {
            num_hashes: entry.num_hashes,
            hash: *entry.hash,
            transactions: entry.executed_transaction_count,
        });
    }

    /// Adds the next transaction, with all of its signatures.
    pub fn push_transaction<'a>(&mut self, index: u32, signatures: impl IntoIterator<Item = &'a Signature>) {
        if index as usize != self.ends.len() {
            self.misplaced[1].get_or_insert(self.ends.len() as u32);
        }
        self.signatures.extend(signatures);
        self.ends.push(self.signatures.len());
    }

    /// Hashes that the entries claim.
    pub fn hashes(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.num_hashes))
    }

    /// Recomputes the chain; returns the number of hashes in it.
    ///
    /// # Errors
    /// The first entry that breaks it.
    pub fn prove(&self) -> Result<u64, Break> {
        let (pieces, fault) = self.pieces();
        let broken = pieces.into_par_iter().filter_map(|piece| self.first_broken(piece)).min();
        if let Some((entry, first_transaction)) = broken {
            let reason = Suspect::new(self, entry, first_transaction).diagnose();
            return Err(Break { index: entry as u32, reason });
        }
        match fault.or_else(|| self.check_end()) {
            Some(fault) => Err(fault),
            None => Ok(self.hashes()),
        }
    }

    /// The state before an entry.
    pub(super) fn state_before(&self, entry: usize) -> [u8; 32] {
        entry.checked_sub(1).map_or(self.parent_blockhash, |before| self.entries[before].hash)
    }

    /// The signatures of some transactions.
    pub(super) fn signatures_of(&self, transactions: Range<usize>) -> &[Signature] {
        let end_of = |transaction: usize| transaction.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.signatures[end_of(transactions.start)..end_of(transactions.end)]
    }

    /// Cuts the entries into pieces, up to the first that can't be checked at all.
    fn pieces(&self) -> (Vec<Piece>, Option<Break>) {
        let mut pieces: Vec<Piece> = Vec::new();
        let (mut transactions, mut hashes, mut piece_hashes) = (0_u64, 0_u64, PIECE_HASHES);
        for (index, entry) in self.entries.iter().enumerate() {
            let first_transaction = transactions as usize;
            transactions += u64::from(entry.transactions);
            hashes = hashes.saturating_add(entry.num_hashes);
            if let Some(reason) = self.obstacle(index, transactions, hashes) {
                return (pieces, Some(Break { index: index as u32, reason }));
            }
            match pieces.last_mut() {
                Some(piece) if piece_hashes < PIECE_HASHES => piece.entries.end = index + 1,
                _ => {
                    piece_hashes = 0;
                    pieces.push(Piece { entries: index..index + 1, first_transaction });
                }
            }
            piece_hashes += entry.num_hashes;
        }
        (pieces, None)
    }

    /// Why an entry can't be checked, if so.
    fn obstacle(&self, entry: usize, transactions: u64, hashes: u64) -> Option<Reason> {
        let [misplaced_entry, misplaced_transaction] = self.misplaced;
        if misplaced_entry == Some(entry as u32) {
            return Some(Reason::EntryMissing);
        }
        if let Some(missing) = misplaced_transaction.filter(|&missing| u64::from(missing) < transactions) {
            return Some(Reason::TransactionMissing(missing));
        }
        let held = self.ends.len() as u64;
        if transactions > held {
            return Some(Reason::TooFewTransactions { ends: transactions, held });
        }
        (hashes > self.most_hashes).then_some(Reason::HashLimit(hashes))
    }

    /// What is wrong with the end, if all entries hold.
    fn check_end(&self) -> Option<Break> {
        let fault = |reason| Some(Break { index: self.entries.len() as u32, reason });
        let Some(last) = self.entries.last() else { return fault(Reason::NoEntries) };
        let ends = self.entries.iter().map(|entry| u64::from(entry.transactions)).sum();
        let held = self.ends.len() as u64;
        if last.hash != self.blockhash {
            return fault(Reason::Unfinished);
        }
        if ends < held { fault(Reason::TooManyTransactions { ends, held }) } else { None }
    }

    /// The first entry of a piece that does not hold, with the number of transactions before it.
    fn first_broken(&self, piece: Piece) -> Option<(usize, usize)> {
        let chain = |entry: usize| Chain {
            state: self.state_before(entry),
            hashes: self.entries[entry].plain_hashes(),
        };
        let mut chains: Vec<Chain> = piece.entries.clone().map(chain).collect();
        sluice_sha256::run(&mut chains);
        let mut transactions = piece.first_transaction;
        for (entry, chain) in piece.entries.zip(chains) {
            let link = &self.entries[entry];
            let own = transactions..transactions + link.transactions as usize;
            let state = match root(self.signatures_of(own.clone())) {
                Some(root) => mix(&chain.state, &root),
                None => chain.state,
            };
            if state != link.hash {
                return Some((entry, transactions));
            }
            transactions = own.end;
        }
        None
    }
}

/// Entries that are checked by one thread.
struct Piece {
    entries: Range<usize>,
    /// Transactions before them.
    first_transaction: usize,
}
