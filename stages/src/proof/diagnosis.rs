//! Why an entry breaks the chain: tries the simplest changes that would mend it.
//!
//! The state before the entry is proven, so a change that leads to the claimed hash is what happened: no other could be
//! found in a lifetime. Where none does (a signature that is not there can't be guessed), the reason stays general.
//! Bounded by [`MOST_TRIED_HASHES`] and [`MOST_TRIED_TRANSACTIONS`].

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::chain::{History, Link, Reason, Signature};
use super::merkle::{mix, root};

/// Most hashes that are tried: 16 of mainnet's ticks. Claims beyond are made up.
const MOST_TRIED_HASHES: u64 = 1_000_000;
/// Transactions of an entry up to which changes of their order are tried, since that takes the square of their number.
const MOST_TRIED_TRANSACTIONS: usize = 128;

/// An entry that does not hold.
pub(super) struct Suspect<'a> {
    history: &'a History,
    entry: usize,
    link: Link,
    first_transaction: usize,
}

impl<'a> Suspect<'a> {
    /// The entry at a position, with the number of transactions before it.
    pub(super) fn new(history: &'a History, entry: usize, first_transaction: usize) -> Self {
        Self { history, entry, link: history.entries[entry], first_transaction }
    }

    /// The simplest explanation.
    pub(super) fn diagnose(&self) -> Reason {
        self.split()
            .or_else(|| self.miscounted())
            .or_else(|| self.rearranged())
            .unwrap_or_else(|| self.unexplained())
    }

    fn unexplained(&self) -> Reason {
        match self.link.transactions {
            _ if self.entry == 0 => Reason::Parent,
            0 => Reason::Tick,
            _ => Reason::Transactions,
        }
    }

    /// Two entries beside each other never have the same hash.
    fn split(&self) -> Option<Reason> {
        let next = self.history.entries.get(self.entry + 1).map(|next| next.hash);
        let before = self.history.state_before(self.entry);
        (before == self.link.hash || next == Some(self.link.hash)).then_some(Reason::EntrySplit)
    }

    /// Whether another number of hashes leads to the claimed one.
    fn miscounted(&self) -> Option<Reason> {
        let claimed = self.link.num_hashes;
        let root = root(&self.own_signatures(&self.own_transactions()));
        let mut state = self.history.state_before(self.entry);
        let most = claimed.saturating_add(self.longest_run()).min(MOST_TRIED_HASHES);
        for hashes in 0..=most {
            let (reached, needed) = match &root {
                Some(root) => (mix(&state, root), hashes + 1),
                None => (state, hashes),
            };
            if reached == self.link.hash {
                return Some(match needed > claimed {
                    true => Reason::EntryLeftOut { claimed, needed },
                    false => Reason::HashCount { claimed, needed },
                });
            }
            state = Sha256::digest(state).into();
        }
        None
    }

    /// The most hashes from one tick to the next: an entry that is missing has no more.
    fn longest_run(&self) -> u64 {
        let (mut longest, mut run) = (0, 0_u64);
        for entry in &self.history.entries {
            run = run.saturating_add(entry.num_hashes);
            longest = longest.max(run);
            if entry.transactions == 0 {
                run = 0;
            }
        }
        longest
    }

    /// Whether another order of the transactions, or one less of them, leads to the claimed hash.
    fn rearranged(&self) -> Option<Reason> {
        let own = self.own_transactions();
        if own.is_empty() || own.len() > MOST_TRIED_TRANSACTIONS {
            return None;
        }
        let mut chain = [sluice_sha256::Chain {
            state: self.history.state_before(self.entry),
            hashes: self.link.plain_hashes(),
        }];
        sluice_sha256::run(&mut chain);
        let mends = |transactions: &[usize]| {
            let root = root(&self.own_signatures(transactions));
            root.is_some_and(|root| mix(&chain[0].state, &root) == self.link.hash)
        };
        let swapped = (1..own.len()).find(|&second| {
            let mut order = own.clone();
            order.swap(second - 1, second);
            mends(&order)
        });
        let added = || {
            (0..own.len()).find(|&added| {
                let mut fewer = own.clone();
                fewer.remove(added);
                mends(&fewer)
            })
        };
        let number = |position: usize| own[position] as u32;
        let swapped = swapped.map(|second| Reason::TransactionsSwapped(number(second - 1)));
        swapped.or_else(|| added().map(|added| Reason::TransactionAdded(number(added))))
    }

    fn own_transactions(&self) -> SmallVec<[usize; 16]> {
        (self.first_transaction..self.first_transaction + self.link.transactions as usize).collect()
    }

    fn own_signatures(&self, transactions: &[usize]) -> Vec<Signature> {
        let of = |&transaction: &usize| self.history.signatures_of(transaction..transaction + 1);
        transactions.iter().flat_map(of).copied().collect()
    }
}
