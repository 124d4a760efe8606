//! The last block of a chain that ends.
//!
//! A block from RPC is held until somebody names it (`answers`), and nobody ever names the last one: no child comes. So what
//! is held of the highest slot that is known to be final goes on after [`RecoveryOptions::hole_interval`] if
//!
//! 1. its parent is a block that went on, by slot and blockhash;
//! 2. `getBlocks` lists it, its parent, and nothing between the two;
//! 3. a second `getBlock`, asked after that, answers with the same block.
//!
//! A node that mixes its answers up fails one of these: another slot's block has another parent than the block listed
//! before the slot, or is listed itself. What fails is let go, and asked for like any other slot.

use super::search::Search;
use super::{Fetch, Planner};
use crate::slot::{Commitment, Slot, Timestamp};

#[cfg(doc)]
use super::super::RecoveryOptions;
use super::answers::Held;

/// What speaks for a held block although nobody names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// One answer.
    Answer,
    /// It is listed next to its parent.
    Listed,
}

/// What another answer says of what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreement {
    /// Not enough yet.
    Open,
    /// It is the same, and all else speaks for it.
    Agreed,
    /// It is another block.
    Differs,
}

impl Search {
    /// Holds what somebody else names.
    pub(super) fn replace(&mut self, named: Held) -> Agreement {
        self.held = Some(named);
        Agreement::Agreed
    }

    /// Holds what was answered; two answers that differ are both let go.
    pub(super) fn hold(&mut self, answer: Held) -> Agreement {
        let Some(held) = &mut self.held else {
            self.held = Some(answer);
            return Agreement::Open;
        };
        if held.block.blockhash() != answer.block.blockhash() {
            self.held = None;
            return Agreement::Differs;
        }
        held.level = held.level.max(answer.level);
        match (held.support, answer.level) {
            (Support::Listed, Commitment::Finalized) => Agreement::Agreed,
            _ => Agreement::Open,
        }
    }
}

impl Planner {
    /// What is to be asked of a block that may be the last one.
    pub(super) fn next_corroboration(&mut self, now: Timestamp) -> Option<Fetch> {
        let slot = self.finalized;
        let held = self.searches.get(&slot)?.held.as_ref()?;
        let meta = held.block.meta;
        let parent_went_on = self.passed.get(&meta.parent_slot).is_some_and(|versions| {
            versions.iter().any(|(blockhash, _)| *blockhash == meta.parent_blockhash)
        });
        let is_due = now.since(held.since) >= self.options.hole_interval;
        if !self.has_rpc || !is_due || !parent_went_on {
            return None;
        }
        let fetch = match held.support {
            Support::Answer => Fetch::List { first: meta.parent_slot, last: slot },
            Support::Listed => Fetch::Block { slot, commitment: Commitment::Finalized },
        };
        if self.in_flight.contains(&fetch) {
            return None;
        }
        // Whatever comes of it, it is asked again only after as long.
        if let Some(held) = self.held_mut(slot) {
            held.since = now;
        }
        Some(fetch)
    }

    /// Takes note of a list that shows what lies between a held block and its parent.
    pub(super) fn corroborate(&mut self, now: Timestamp, fetch: Fetch, slots: &[Slot]) {
        let Fetch::List { first, last } = fetch else { return };
        let interval = self.options.hole_interval;
        let Some(held) = self.held_mut(last).filter(|held| held.block.meta.parent_slot == first) else {
            return;
        };
        if slots == [first, last] {
            held.support = Support::Listed;
            // The second answer is asked for at once.
            held.since = Timestamp(now.0.saturating_sub(interval.as_micros() as u64));
        } else if let Some(search) = self.searches.get_mut(&last) {
            search.held = None;
            self.counters.refused += 1;
            self.refused.push((last, "the chain has other blocks between it and its parent".to_owned()));
        }
    }

    fn held_mut(&mut self, slot: Slot) -> Option<&mut Held> {
        self.searches.get_mut(&slot)?.held.as_mut()
    }
}
