//! Proof of history: the chain of hashes from a parent's blockhash to a block's own.
//!
//! Each entry hashes the state `num_hashes` times; the last of them mixes in the Merkle root over the signatures of
//! the entry's transactions, if it has any (an entry without is a tick). Rule: <https://github.com/anza-xyz/agave>,
//! `entry`.

use std::collections::HashSet;

use rand::Rng;
use sha2::{Digest, Sha256};
use yellowstone_grpc_proto::prelude::{SubscribeUpdateEntry, SubscribeUpdateTransactionInfo};

use super::signing::is_signed;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// How much hashing a slot holds.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Ticks in a slot; mainnet has 64, fewer keep small slots small.
    pub ticks: u32,
    /// Hashes from tick to tick; mainnet has 62,500.
    pub hashes_per_tick: u64,
}

/// Cheap enough for tests that play thousands of slots.
impl Default for Shape {
    fn default() -> Self {
        Self { ticks: 4, hashes_per_tick: 64 }
    }
}

/// Makes the entries of a slot; the last one's hash is the blockhash.
pub(crate) fn forge(
    parent: Hash,
    slot: u64,
    transactions: &[SubscribeUpdateTransactionInfo],
    shape: Shape,
    random: &mut impl Rng,
) -> (Vec<SubscribeUpdateEntry>, Hash) {
    let ticks = shape.ticks.max(1) as usize;
    let mut forge = Forge { slot, state: parent, entries: Vec::new(), next_transaction: 0 };
    let share = transactions.len().div_ceil(ticks).max(1);
    let mut groups = transactions.chunks(share);
    for _ in 0..ticks {
        forge.tick(groups.next().unwrap_or_default(), shape.hashes_per_tick, random);
    }
    let state = forge.state;
    (forge.entries, state)
}

struct Forge {
    slot: u64,
    state: Hash,
    entries: Vec<SubscribeUpdateEntry>,
    next_transaction: u64,
}

impl Forge {
    /// Plays the transactions up to a tick, and the tick. Each entry takes at least one of the tick's hashes.
    fn tick(&mut self, transactions: &[SubscribeUpdateTransactionInfo], hashes: u64, random: &mut impl Rng) {
        let mut left = hashes.max(2);
        let least = transactions.len().div_ceil(left as usize - 1).max(1);
        let mut rest = transactions;
        while !rest.is_empty() {
            let size = (least * random.random_range(1..=3)).min(rest.len());
            let (entry, others) = rest.split_at(size);
            let owed = others.len().div_ceil(least) as u64 + 1;
            let spare = left.saturating_sub(owed).clamp(1, 3);
            let num_hashes = random.random_range(1..=spare);
            self.push(num_hashes, entry);
            left -= num_hashes;
            rest = others;
        }
        self.push(left, &[]);
    }

    fn push(&mut self, num_hashes: u64, transactions: &[SubscribeUpdateTransactionInfo]) {
        self.state = step(self.state, num_hashes, transactions);
        self.entries.push(SubscribeUpdateEntry {
            slot: self.slot,
            index: self.entries.len() as u64,
            num_hashes,
            hash: self.state.to_vec(),
            executed_transaction_count: transactions.len() as u64,
            starting_transaction_index: self.next_transaction,
            bank_id: 0,
        });
        self.next_transaction += transactions.len() as u64;
    }
}

/// The state behind one entry.
fn step(mut state: Hash, num_hashes: u64, transactions: &[SubscribeUpdateTransactionInfo]) -> Hash {
    let plain = if transactions.is_empty() { num_hashes } else { num_hashes.saturating_sub(1) };
    for _ in 0..plain {
        state = Sha256::digest(state).into();
    }
    if transactions.is_empty() {
        return state;
    }
    let root = merkle_root(transactions);
    Sha256::new().chain_update(state).chain_update(root).finalize().into()
}

fn merkle_root(transactions: &[SubscribeUpdateTransactionInfo]) -> Hash {
    let all = transactions.iter().filter_map(|info| info.transaction.as_ref());
    let leaf =
        |signature: &Vec<u8>| Sha256::new().chain_update([0]).chain_update(signature).finalize().into();
    let mut level: Vec<Hash> = all.flat_map(|transaction| &transaction.signatures).map(leaf).collect();
    while level.len() > 1 {
        let node = |pair: &[Hash]| {
            let right = pair.get(1).unwrap_or(&pair[0]);
            Sha256::new().chain_update([1]).chain_update(pair[0]).chain_update(right).finalize().into()
        };
        level = level.chunks(2).map(node).collect();
    }
    level.first().copied().unwrap_or_default()
}

/// Recomputes a slot's chain. The error is the index of the first entry whose hash is not what it should be, or that holds
/// a signature which is not its transaction's or stands in the slot before.
pub fn verify(
    parent: Hash,
    entries: &[SubscribeUpdateEntry],
    transactions: &[SubscribeUpdateTransactionInfo],
) -> Result<Hash, usize> {
    let mut state = parent;
    let mut rest = transactions;
    let mut seen = HashSet::new();
    for (position, entry) in entries.iter().enumerate() {
        let count = entry.executed_transaction_count as usize;
        let (own, others) = rest.split_at_checked(count).ok_or(position)?;
        state = step(state, entry.num_hashes, own);
        if entry.hash != state || entry.index != position as u64 {
            return Err(position);
        }
        let mut own = own.iter().filter_map(|info| info.transaction.as_ref());
        if !own.all(|own| is_signed(own) && own.signatures.iter().all(|signature| seen.insert(signature))) {
            return Err(position);
        }
        rest = others;
    }
    if rest.is_empty() { Ok(state) } else { Err(entries.len()) }
}

/// A hash's bytes from base58; `None` if the text is not a hash.
pub fn hash(base58: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    let written = bs58::decode(base58).onto(&mut hash).ok()?;
    (written == hash.len()).then_some(hash)
}
