//! The canonical chain as each level tells it.
//!
//! A fixed level needs one chain. An adaptive one needs that of every level which it may come to: what is confirmed is not
//! therefore final, so after a switch to the safer level its own chain has to decide.

use smallvec::SmallVec;

use crate::batch::Status;
use crate::block::Block;
use crate::chain::{Chain, Changes};
use crate::slot::{Commitment as Level, Hash, Slot};

/// The chain of one level.
#[derive(Debug)]
pub(super) struct Tier {
    pub(super) level: Level,
    pub(super) chain: Chain,
    /// The highest slot that has the level.
    pub(super) highest: Slot,
}

/// The chains of all levels that are needed, lowest first; never empty.
#[derive(Debug)]
pub(super) struct Tiers {
    lowest: Tier,
    higher: SmallVec<[Tier; 1]>,
}

/// What changed in the lowest chain, and in the one that decides.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    pub(super) lowest: Changes,
    /// `None` if the lowest decides.
    pub(super) deciding: Option<Changes>,
}

impl Tier {
    fn new(level: Level) -> Self {
        Self { level, chain: Chain::default(), highest: 0 }
    }

    fn link(&mut self, block: &Block) -> Changes {
        let mut changes = Changes::default();
        self.chain.link(&block.meta, &mut changes);
        if block.vouched.is_some_and(|level| level >= self.level) {
            self.settle(block.slot(), block.blockhash(), &mut changes);
        }
        changes
    }

    fn settle(&mut self, slot: Slot, blockhash: Hash, changes: &mut Changes) {
        self.highest = self.highest.max(slot);
        self.chain.settle(slot, blockhash, changes);
    }
}

impl Tiers {
    /// The chain of `floor` alone, or those of all levels from it on. Processed has none: what is only processed is on no
    /// chain yet.
    pub(super) fn new(floor: Level, is_adaptive: bool) -> Self {
        let lowest = floor.max(Level::Confirmed);
        let rises = is_adaptive && lowest < Level::Finalized;
        let higher = rises.then(|| Tier::new(Level::Finalized)).into_iter().collect();
        Self { lowest: Tier::new(lowest), higher }
    }

    /// The chain that decides at `level`.
    pub(super) fn at(&self, level: Level) -> &Tier {
        self.higher.iter().find(|tier| tier.level <= level).unwrap_or(&self.lowest)
    }

    /// The chain that learns first.
    pub(super) fn lowest(&self) -> &Chain {
        &self.lowest.chain
    }

    /// Learns a block's parent link, and what whoever delivered it vouches for.
    pub(super) fn on_block(&mut self, block: &Block, level: Level) -> Learnt {
        self.each(level, |tier| tier.link(block))
    }

    /// Learns that a version of a slot has reached a level.
    pub(super) fn on_status(&mut self, status: Status, blockhash: Hash, level: Level) -> Learnt {
        self.each(level, |tier| {
            let mut changes = Changes::default();
            if status.commitment().is_some_and(|reached| reached >= tier.level) {
                tier.settle(status.slot, blockhash, &mut changes);
            }
            changes
        })
    }

    fn each(&mut self, level: Level, mut learn: impl FnMut(&mut Tier) -> Changes) -> Learnt {
        let mut learnt = Learnt { lowest: learn(&mut self.lowest), deciding: None };
        for tier in &mut self.higher {
            let changes = learn(tier);
            if tier.level <= level {
                learnt.deciding = Some(changes);
            }
        }
        learnt
    }

    /// Forgets everything below `floor`.
    pub(super) fn forget(&mut self, floor: Slot) {
        self.lowest.chain.forget(floor);
        self.higher.iter_mut().for_each(|tier| tier.chain.forget(floor));
    }
}

impl Learnt {
    /// The changes of the chain that decides.
    pub(super) fn decided(self) -> Changes {
        self.deciding.unwrap_or(self.lowest)
    }
}
