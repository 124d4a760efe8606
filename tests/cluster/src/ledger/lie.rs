//! Lies: blocks that an endpoint shows otherwise than they are, so that only a proof can tell.
//!
//! Each lie keeps all counts and indexes in agreement with each other; a client that trusts them is taken in.

use rand::Rng;
use rand::rngs::StdRng;
use yellowstone_grpc_proto::prelude::SubscribeUpdateEntry;

use super::block::Block;
use crate::random::digest;

/// What an endpoint makes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lie {
    /// A transaction is left out; those behind it move up.
    TransactionLeftOut,
    /// A transaction is there that was never executed.
    TransactionAdded,
    /// Two transactions have changed places.
    TransactionsSwapped,
    /// A transaction has another signature.
    SignatureChanged,
    /// An entry without transactions is left out; those behind it move up.
    EntryLeftOut,
    /// An entry is cut in two.
    EntrySplit,
    /// An entry claims another number of hashes.
    HashCountChanged,
    /// The block claims to build on another one.
    WrongParent,
    /// A transaction is left out, and its signatures are given to the one before, whose message asks for them. The chain of
    /// hashes holds.
    TransactionHidden,
    /// The last transaction of an entry with an odd number of signatures is there twice. The chain of hashes holds.
    TransactionRepeated,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::TransactionLeftOut,
        Self::TransactionAdded,
        Self::TransactionsSwapped,
        Self::SignatureChanged,
        Self::EntryLeftOut,
        Self::EntrySplit,
        Self::HashCountChanged,
        Self::WrongParent,
        Self::TransactionHidden,
        Self::TransactionRepeated,
    ];

    /// Tells the lie about a block, at a random place. Blocks with less than two transactions or entries stay as
    /// they are, and those that have no place for it.
    pub fn tell(self, block: &mut Block, random: &mut StdRng) {
        if block.transactions.len() < 2 || block.entries.len() < 2 {
            return;
        }
        match self {
            Self::TransactionLeftOut => leave_transaction_out(block, random),
            Self::TransactionAdded => add_transaction(block, random),
            Self::TransactionsSwapped => swap_transactions(block, random),
            Self::SignatureChanged => change_signature(block, random),
            Self::EntryLeftOut => leave_entry_out(block, random),
            Self::EntrySplit => split_entry(block, random),
            Self::HashCountChanged => {
                let place = random.random_range(0..block.entries.len());
                block.entries[place].num_hashes += 1;
            }
            Self::WrongParent => {
                let hash = digest("wrong parent", &[random.random()]);
                block.parent_blockhash = bs58::encode(hash).into_string();
            }
            Self::TransactionHidden => hide_transaction(block, random),
            Self::TransactionRepeated => repeat_transaction(block, random),
        }
        number(block);
    }
}

fn leave_transaction_out(block: &mut Block, random: &mut StdRng) {
    let index = random.random_range(0..block.transactions.len());
    entry_of(block, index).executed_transaction_count -= 1;
    block.transactions.remove(index);
}

fn add_transaction(block: &mut Block, random: &mut StdRng) {
    let index = random.random_range(0..block.transactions.len());
    entry_of(block, index).executed_transaction_count += 1;
    block.transactions.insert(index, block.transactions[index].clone());
    sign_anew(block, index, random);
}

fn swap_transactions(block: &mut Block, random: &mut StdRng) {
    let index = random.random_range(1..block.transactions.len());
    block.transactions.swap(index - 1, index);
}

fn change_signature(block: &mut Block, random: &mut StdRng) {
    let index = random.random_range(0..block.transactions.len());
    sign_anew(block, index, random);
}

fn sign_anew(block: &mut Block, index: usize, random: &mut StdRng) {
    let noise = [random.random()];
    let info = &mut block.transactions[index];
    info.signature = [digest("false r", &noise), digest("false s", &noise)].concat();
    if let Some(first) = info.transaction.as_mut().and_then(|transaction| transaction.signatures.first_mut())
    {
        first.clone_from(&info.signature);
    }
}

/// The last entry stays: without it the blockhash would be missing, which needs no proof to see.
fn leave_entry_out(block: &mut Block, random: &mut StdRng) {
    let ticks: Vec<usize> = (0..block.entries.len() - 1)
        .filter(|&place| block.entries[place].executed_transaction_count == 0)
        .collect();
    if !ticks.is_empty() {
        block.entries.remove(ticks[random.random_range(0..ticks.len())]);
    }
}

fn split_entry(block: &mut Block, random: &mut StdRng) {
    let index = random.random_range(0..block.transactions.len());
    let entry = entry_of(block, index);
    let mut first = entry.clone();
    first.num_hashes = 1;
    first.executed_transaction_count = 1.min(entry.executed_transaction_count);
    entry.executed_transaction_count -= first.executed_transaction_count;
    let place = block.entries.iter().position(|entry| entry.index == first.index).unwrap_or_default();
    block.entries.insert(place, first);
}

fn hide_transaction(block: &mut Block, random: &mut StdRng) {
    let starts = block.entries.iter().flat_map(|entry| {
        let first = entry.starting_transaction_index;
        first + 1..first + entry.executed_transaction_count.max(1)
    });
    let Some(hidden) = one_of(starts.collect(), random) else { return };
    entry_of(block, hidden).executed_transaction_count -= 1;
    let signatures = block.transactions.remove(hidden).transaction.map(|hidden| hidden.signatures);
    let signatures = signatures.unwrap_or_default();
    let Some(teller) = &mut block.transactions[hidden - 1].transaction else { return };
    if let Some(header) = teller.message.as_mut().and_then(|message| message.header.as_mut()) {
        header.num_required_signatures += signatures.len() as u32;
    }
    teller.signatures.extend(signatures);
}

fn repeat_transaction(block: &mut Block, random: &mut StdRng) {
    let signatures = |index: u64| {
        let info = block.transactions.get(index as usize);
        info.and_then(|info| info.transaction.as_ref()).map_or(0, |transaction| transaction.signatures.len())
    };
    let last_of_odd = |entry: &SubscribeUpdateEntry| {
        let first = entry.starting_transaction_index;
        let last = (first + entry.executed_transaction_count).checked_sub(1)?;
        let all: usize = (first..=last).map(signatures).sum();
        (all > 1 && all % 2 == 1 && signatures(last) == 1).then_some(last)
    };
    let places = block.entries.iter().filter(|entry| entry.executed_transaction_count > 0);
    let Some(last) = one_of(places.filter_map(last_of_odd).collect(), random) else { return };
    entry_of(block, last).executed_transaction_count += 1;
    block.transactions.insert(last, block.transactions[last].clone());
}

fn one_of(places: Vec<u64>, random: &mut StdRng) -> Option<usize> {
    (!places.is_empty()).then(|| places[random.random_range(0..places.len())] as usize)
}

fn entry_of(block: &mut Block, transaction: usize) -> &mut SubscribeUpdateEntry {
    let holds = |entry: &SubscribeUpdateEntry| {
        let end = entry.starting_transaction_index + entry.executed_transaction_count;
        (entry.starting_transaction_index..end).contains(&(transaction as u64))
    };
    let place = block.entries.iter().position(holds).unwrap_or_default();
    &mut block.entries[place]
}

/// Makes indexes and counts agree again.
fn number(block: &mut Block) {
    for (index, info) in block.transactions.iter_mut().enumerate() {
        info.index = index as u64;
    }
    let mut next_transaction = 0;
    for (index, entry) in block.entries.iter_mut().enumerate() {
        entry.index = index as u64;
        entry.starting_transaction_index = next_transaction;
        next_transaction += entry.executed_transaction_count;
    }
    if block.told_entries != 0 {
        block.told_entries = block.entries.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{GeneratedLedger, Ledger, hash, verify};
    use crate::random::random;

    #[test]
    fn every_lie_agrees_with_itself_and_breaks_the_proof() {
        let ledger =
            Ledger::generated(GeneratedLedger { mainnet_blocks: false, ..GeneratedLedger::default() });
        for (number, lie) in (0..100).flat_map(|number| Lie::ALL.map(|lie| (number, lie))) {
            let Some(slot) = ledger.at(number % 50) else { continue };
            let Some(version) = slot.canonical() else { continue };
            let mut block = version.block.clone();
            lie.tell(&mut block, &mut random("test", &[number]));
            let may_lack_place = matches!(lie, Lie::TransactionHidden | Lie::TransactionRepeated);
            if may_lack_place && block == version.block {
                continue;
            }
            let told: u64 = block.entries.iter().map(|entry| entry.executed_transaction_count).sum();
            assert_eq!(told, block.transactions.len() as u64, "{lie:?}");
            let parent = hash(&block.parent_blockhash).expect("a hash");
            let proven = verify(parent, &block.entries, &block.transactions).ok();
            assert_ne!(proven, hash(&block.blockhash), "{lie:?} in slot {}", block.slot);
        }
    }
}
