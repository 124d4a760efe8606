//! Whether an RPC node's answer is the block that was asked for.
//!
//! An answer to `getBlock` does not name its slot, so a node that mixes its answers up can pass any block off as any slot.
//! But each block names its parent by slot and blockhash, and whatever answer a child came in, what it says of its parent
//! is said of the chain. So a block from RPC goes on only when somebody else names its blockhash for its slot: a child, a
//! status, or the stream. Until then it is held; nothing is asked twice for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::end_of_chain::{Agreement, Support};
use super::search::{Search, Versions};
use super::{Fetch, Planner};
use crate::block::Block;
use crate::chain::Chain;
use crate::frame::BlockMeta;
use crate::slot::{Commitment, Hash, Slot, Timestamp};
use crate::stage::Output;

/// A block that waits for somebody to name it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) block: Block,
    /// The level that it was asked for at.
    pub(super) level: Commitment,
    /// Since when, or since it was last looked whether the chain ends with it.
    pub(super) since: Timestamp,
    /// What speaks for it although nobody names it.
    pub(super) support: Support,
}

/// What is to be done with an answer.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    /// Somebody else names it.
    Named,
    /// Nobody knows yet.
    Unknown,
    /// It is another slot's, or of another fork.
    Refused(String),
}

/// Judges a block by what is known of the chain.
fn judge(
    meta: &BlockMeta,
    chain: &Chain,
    passed: &BTreeMap<Slot, Versions>,
    searches: &BTreeMap<Slot, Search>,
) -> Judgement {
    let (slot, blockhash) = (meta.slot, meta.blockhash);
    if meta.parent_slot >= slot {
        return Judgement::Refused(format!(
            "its parent is slot {}, so it is another slot's",
            meta.parent_slot
        ));
    }
    match chain.canonical(slot) {
        Some(canonical) if canonical == blockhash => return Judgement::Named,
        Some(canonical) => {
            return Judgement::Refused(format!(
                "its blockhash is {blockhash}, but the chain's is {canonical}"
            ));
        }
        None => {}
    }
    if let Some(other) = chain.other_slot_of(blockhash, slot) {
        return Judgement::Refused(format!("it is the block of slot {other}"));
    }
    let is_passed = |versions: &Versions| versions.iter().any(|(hash, _)| *hash == blockhash);
    let names_it = |(_, search): (&Slot, &Search)| {
        let child = search.held.as_ref().map(|held| &held.block.meta);
        child.is_some_and(|child| (child.parent_slot, child.parent_blockhash) == (slot, blockhash))
    };
    let named = passed.get(&slot).is_some_and(is_passed)
        || chain.has_child(slot, blockhash)
        || searches.range(slot + 1..).any(names_it);
    if named { Judgement::Named } else { Judgement::Unknown }
}

fn other_fork(blockhash: Hash, canonical: Hash) -> String {
    format!("its blockhash is {blockhash}, but the chain's is {canonical}")
}

impl Planner {
    /// Lets a block from RPC on, holds it, or refuses it.
    pub(super) fn on_answer(&mut self, now: Timestamp, block: Block, level: Commitment) {
        match judge(&block.meta, &self.chain, &self.passed, &self.searches) {
            Judgement::Refused(reason) => self.refuse(block.slot(), reason),
            judgement => {
                // What it says of its parent is said of the chain, whichever slot it is of.
                self.want_parent(now, &block.meta);
                let (slot, blockhash) = (block.slot(), block.blockhash());
                let (parent, parent_blockhash) = (block.meta.parent_slot, block.meta.parent_blockhash);
                let held = Held { block, level, since: now, support: Support::Answer };
                let agreement = match self.searches.get_mut(&slot) {
                    Some(search) if judgement == Judgement::Named => search.replace(held),
                    Some(search) => search.hold(held),
                    None => Agreement::Open,
                };
                match agreement {
                    Agreement::Open => {}
                    Agreement::Agreed => self.name(slot, blockhash),
                    Agreement::Differs => self.refuse(slot, "two answers are of different blocks".to_owned()),
                }
                self.name(parent, parent_blockhash);
            }
        }
    }

    /// Somebody names this version: if it is held, it is to go on.
    pub(super) fn name(&mut self, slot: Slot, blockhash: Hash) {
        let Some(search) = self.searches.get_mut(&slot) else { return };
        if let Some(held) = search.held.take_if(|held| held.block.blockhash() == blockhash) {
            let is_canonical = self.chain.canonical(slot) == Some(blockhash);
            let vouched = if is_canonical { Commitment::Finalized } else { held.level };
            self.named.push(Block { vouched: Some(vouched), ..held.block });
        }
    }

    /// It is known which version of a slot is canonical: what is held for it goes on, or is refused.
    pub(super) fn settle_held(&mut self, slot: Slot, blockhash: Hash) {
        self.name(slot, blockhash);
        let refused = self.searches.get_mut(&slot).and_then(|search| search.held.take());
        if let Some(held) = refused {
            self.counters.refused += 1;
            self.refused.push((slot, other_fork(held.block.blockhash(), blockhash)));
        }
    }

    fn refuse(&mut self, slot: Slot, reason: String) {
        self.counters.refused += 1;
        if let Some(search) = self.searches.get_mut(&slot) {
            search.refusal = Some(reason);
        }
    }

    /// Lets on what has been named meanwhile, and asks again for what has been refused.
    pub(super) fn let_named_on(&mut self, now: Timestamp, out: &mut Output) {
        while let Some(block) = self.named.pop() {
            self.on_block(now, Arc::new(block), out);
        }
        for (slot, reason) in std::mem::take(&mut self.refused) {
            self.on_try_over(slot, now, &reason, None, out);
        }
    }

    /// Why a fetch that ended well did not end the search.
    pub(super) fn refusal(&mut self, fetch: Fetch) -> String {
        let slot = match fetch {
            Fetch::Block { slot, .. } => Some(slot),
            Fetch::Replay { .. } | Fetch::List { .. } | Fetch::Tip => None,
        };
        let search = slot.and_then(|slot| self.searches.get_mut(&slot));
        let refusal = search.and_then(|search| search.refusal.take());
        refusal.unwrap_or_else(|| "it did not bring the slot whole".to_owned())
    }
}
