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
//!
//! What the chain leaves open is looked at besides: where a transaction ends ([`Signers`]), and what was repeated.

use std::collections::HashSet;
use std::ops::Range;

use rayon::prelude::*;
use sluice_sha256::Chain;

use super::diagnosis::Suspect;
use super::merkle::{mix, root};
pub use super::reason::{Break, Reason};
use super::signers::Signed;
pub use super::signers::Signers;
use crate::block::Block;
use crate::entry::Entry;
use crate::slot::Hash;
use crate::transaction::Transaction;
use crate::wire::WireError;

/// Hashes of one piece of work: some 10 ms, long against handing it to a thread and short against a slot.
const PIECE_HASHES: u64 = 500_000;
/// Pieces that are checked before the next ones are begun, somewhat more than a slot of mainnet: a chain that was made up
/// breaks in the first of them.
const WAVE_PIECES: usize = 10;
/// Hashes that an entry may claim. It ends with a tick at the latest, and mainnet's has 62,500.
const MOST_ENTRY_HASHES: u64 = 1_000_000;
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
    /// The transactions with several signatures, and what these have to sign.
    signed: Vec<(u32, Signed)>,
    /// The first entry, and the first transaction, that did not come in its turn.
    misplaced: [Option<u32>; 2],
    /// The first transaction that has another number of signatures than it should.
    miscounted: Option<(u32, Reason)>,
}

impl History {
    /// A slot of which only the hashes are known yet. `slots` is how many slots lie between it and its parent, itself
    /// included, and `most_hashes` how many hashes each of them may hold: what claims more is not recomputed. As `slots` is
    /// the word of an endpoint, too, no more than a slot's hashes are recomputed beyond those that hold: who wants to cost
    /// more has to have made a chain that does.
    pub fn new(parent_blockhash: Hash, blockhash: Hash, slots: u64, most_hashes: u64) -> Self {
        Self {
            parent_blockhash: parent_blockhash.0,
            blockhash: blockhash.0,
            most_hashes: most_hashes.saturating_mul(slots.clamp(1, MOST_SLOTS)),
            entries: Vec::new(),
            signatures: Vec::new(),
            ends: Vec::new(),
            signed: Vec::new(),
            misplaced: [None, None],
            miscounted: None,
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
            history.push_transaction(transaction.index, signatures, Signers::of(&transaction, body));
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
    pub fn push_transaction<'a>(
        &mut self,
        index: u32,
        signatures: impl IntoIterator<Item = &'a Signature>,
        signers: Signers,
    ) {
        let (transaction, before) = (self.ends.len() as u32, self.signatures.len());
        if index != transaction {
            self.misplaced[1].get_or_insert(transaction);
        }
        self.signatures.extend(signatures);
        self.ends.push(self.signatures.len());
        let Signers { required, signed } = signers;
        let held = (self.signatures.len() - before) as u32;
        if held != required || held == 0 {
            let reason = Reason::SignatureCount { transaction, held, required };
            self.miscounted.get_or_insert((transaction, reason));
        }
        self.signed.extend(signed.map(|signed| (transaction, signed)));
    }

    /// Hashes that the entries claim.
    pub fn hashes(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.num_hashes))
    }

    /// Recomputes the chain; returns the number of hashes in it. What is wrong with an entry by the chain comes before what
    /// is wrong with its transactions besides.
    ///
    /// # Errors
    /// The first entry that breaks it.
    pub fn prove(&self) -> Result<u64, Break> {
        let (pieces, fault) = self.pieces();
        let first_broken =
            |wave: &[Piece]| wave.par_iter().filter_map(|piece| self.first_broken(piece)).min();
        let broken = pieces.chunks(WAVE_PIECES).find_map(first_broken);
        let chain = broken.map(|(entry, first_transaction)| {
            let reason = Suspect::new(self, entry, first_transaction).diagnose();
            Break { index: entry as u32, reason }
        });
        let chain = chain.or(fault).or_else(|| self.check_end());
        let limit = chain.map_or(self.entries.len(), |broken| broken.index as usize);
        match self.check_signatures(limit).or(chain) {
            Some(broken) => Err(broken),
            None => Ok(self.hashes()),
        }
    }

    /// What is wrong with the signatures of the entries before one, although the chain holds over them.
    fn check_signatures(&self, entries: usize) -> Option<Break> {
        let transactions = self.entries.iter().take(entries).map(|entry| u64::from(entry.transactions));
        let ends: Vec<u64> = transactions
            .scan(0, |end, own| {
                *end += own;
                Some(*end)
            })
            .collect();
        let end = ends.last().copied().unwrap_or(0);
        let is_before = |transaction: u32| u64::from(transaction) < end;
        let miscounted = self.miscounted.filter(|(transaction, _)| is_before(*transaction));
        let repeated = self.first_repeated().filter(|repeated| is_before(*repeated));
        let repeated = repeated.map(|repeated| (repeated, Reason::SignatureTwice(repeated)));
        let known = miscounted.into_iter().chain(repeated).min_by_key(|(transaction, _)| *transaction);
        let first = known.map_or(end, |(transaction, _)| u64::from(transaction));
        let is_foreign = |&&(transaction, ref signed): &&(u32, Signed)| {
            let place = transaction as usize;
            u64::from(transaction) < first && !signed.holds(self.signatures_of(place..place + 1))
        };
        let foreign = self.signed.par_iter().find_first(is_foreign);
        let foreign = foreign.map(|&(transaction, _)| (transaction, Reason::SignatureForeign(transaction)));
        let (transaction, reason) = foreign.or(known)?;
        let index = ends.partition_point(|&end| end <= u64::from(transaction)) as u32;
        Some(Break { index, reason })
    }

    /// The first transaction with a signature that stands in the block before.
    fn first_repeated(&self) -> Option<u32> {
        let mut seen = HashSet::with_capacity(self.signatures.len());
        let repeated = self.signatures.iter().position(|signature| !seen.insert(signature))?;
        Some(self.ends.partition_point(|&end| end <= repeated) as u32)
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
        if hashes > self.most_hashes {
            return Some(Reason::HashLimit(hashes));
        }
        let own = self.entries[entry].num_hashes;
        (own > MOST_ENTRY_HASHES).then_some(Reason::LongEntry(own))
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
    fn first_broken(&self, piece: &Piece) -> Option<(usize, usize)> {
        let chain = |entry: usize| Chain {
            state: self.state_before(entry),
            hashes: self.entries[entry].plain_hashes(),
        };
        let mut chains: Vec<Chain> = piece.entries.clone().map(chain).collect();
        sluice_sha256::run(&mut chains);
        let mut transactions = piece.first_transaction;
        for (entry, chain) in piece.entries.clone().zip(chains) {
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
