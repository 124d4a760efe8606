//! The chain of blockhashes: which versions of which slots are canonical, as far as links and statuses tell.
//!
//! A version is canonical if it was settled (a status of the wanted level, or RPC, says so) or if a canonical version
//! names it as its parent. What lies between a canonical slot and its parent was skipped or orphaned; that is the only
//! proof of a skip there is.

use std::collections::BTreeMap;
use std::ops::Range;

use smallvec::SmallVec;

use crate::frame::BlockMeta;
use crate::slot::{Hash, Slot};

#[derive(Debug, Default)]
struct Links {
    /// Blockhash, parent slot and parent blockhash of each version seen.
    versions: SmallVec<[(Hash, Slot, Hash); 1]>,
    canonical: Option<Hash>,
}

impl Links {
    fn parent_of(&self, blockhash: Hash) -> Option<(Slot, Hash)> {
        let version = self.versions.iter().find(|(hash, ..)| *hash == blockhash)?;
        Some((version.1, version.2))
    }
}

/// What became known with a link or a settlement.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Slots whose canonical version is known now.
    pub(crate) canonical: Vec<Slot>,
    /// Slots that the canonical chain passes over.
    pub(crate) passed_over: Vec<Range<Slot>>,
    /// A slot for which two canonical versions were named: somebody lies.
    pub(crate) contradiction: Option<Slot>,
}

/// Links and canonical versions by slot.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    slots: BTreeMap<Slot, Links>,
}

impl Chain {
    /// Learns the parent link of a version.
    pub(crate) fn link(&mut self, meta: &BlockMeta, changes: &mut Changes) {
        let link = (meta.blockhash, meta.parent_slot, meta.parent_blockhash);
        let links = self.slots.entry(meta.slot).or_default();
        if !links.versions.contains(&link) {
            links.versions.push(link);
        }
        if links.canonical == Some(meta.blockhash) {
            self.descend(meta.slot, meta.blockhash, changes);
        }
    }

    /// Learns that a version is canonical.
    pub(crate) fn settle(&mut self, slot: Slot, blockhash: Hash, changes: &mut Changes) {
        if self.mark(slot, blockhash, changes) {
            self.descend(slot, blockhash, changes);
        }
    }

    /// The canonical version of `slot`, if it is known.
    pub(crate) fn canonical(&self, slot: Slot) -> Option<Hash> {
        self.slots.get(&slot)?.canonical
    }

    /// Whether a canonical link passes over `slot`.
    pub(crate) fn is_passed_over(&self, slot: Slot) -> bool {
        let above = self.slots.range(slot.saturating_add(1)..);
        let canonical = above.filter_map(|(_, links)| links.parent_of(links.canonical?));
        // The lowest canonical slot above with a known link decides; higher ones point at it or above.
        canonical.map(|(parent, _)| parent).next().is_some_and(|parent| parent < slot)
    }

    /// Whether some version of `slot` has been seen.
    pub(crate) fn has_link(&self, slot: Slot) -> bool {
        self.slots.get(&slot).is_some_and(|links| !links.versions.is_empty())
    }

    /// A slot other than `slot` that has a version with this blockhash.
    pub(crate) fn other_slot_of(&self, blockhash: Hash, slot: Slot) -> Option<Slot> {
        let has_it = |links: &Links| links.versions.iter().any(|(hash, ..)| *hash == blockhash);
        let mut others = self.slots.iter().filter(|&(&other, links)| other != slot && has_it(links));
        others.next().map(|(&other, _)| other)
    }

    /// Whether some version above names this one as its parent.
    pub(crate) fn has_child(&self, slot: Slot, blockhash: Hash) -> bool {
        let named = |&(_, parent, hash): &(Hash, Slot, Hash)| (parent, hash) == (slot, blockhash);
        self.slots.range(slot.saturating_add(1)..).any(|(_, links)| links.versions.iter().any(named))
    }

    /// Whether it is known which version of `slot` is canonical, and some version was seen.
    pub(crate) fn is_settled_and_seen(&self, slot: Slot) -> bool {
        self.has_link(slot) && self.canonical(slot).is_some()
    }

    /// Forgets everything below `floor`.
    pub(crate) fn forget(&mut self, floor: Slot) {
        if self.slots.first_key_value().is_some_and(|(&lowest, _)| lowest < floor) {
            self.slots = self.slots.split_off(&floor);
        }
    }

    /// Marks one version; false if that was known.
    fn mark(&mut self, slot: Slot, blockhash: Hash, changes: &mut Changes) -> bool {
        let links = self.slots.entry(slot).or_default();
        match links.canonical {
            Some(known) if known == blockhash => return false,
            Some(_) => {
                changes.contradiction = Some(slot);
                return false;
            }
            None => {}
        }
        links.canonical = Some(blockhash);
        changes.canonical.push(slot);
        true
    }

    /// Follows the parent links down from a canonical version.
    fn descend(&mut self, mut slot: Slot, mut blockhash: Hash, changes: &mut Changes) {
        while let Some((parent, parent_blockhash)) =
            self.slots.get(&slot).and_then(|links| links.parent_of(blockhash))
        {
            // A parent at or above its child is a lie; it must not make this a loop.
            if parent >= slot {
                changes.contradiction = Some(slot);
                return;
            }
            if parent + 1 < slot {
                changes.passed_over.push(parent + 1..slot);
            }
            if !self.mark(parent, parent_blockhash, changes) {
                return;
            }
            (slot, blockhash) = (parent, parent_blockhash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(slot: Slot, hash: u8, parent_slot: Slot, parent: u8) -> BlockMeta {
        BlockMeta {
            slot,
            blockhash: Hash([hash; 32]),
            parent_slot,
            parent_blockhash: Hash([parent; 32]),
            executed_transaction_count: 0,
            entries_count: None,
        }
    }

    #[test]
    fn one_settled_slot_makes_its_ancestors_canonical() {
        let (mut chain, mut changes) = (Chain::default(), Changes::default());
        chain.link(&meta(10, 10, 9, 9), &mut changes);
        chain.link(&meta(11, 99, 9, 9), &mut changes);
        chain.link(&meta(12, 12, 10, 10), &mut changes);
        chain.settle(12, Hash([12; 32]), &mut changes);
        assert_eq!(changes.canonical, [12, 10, 9]);
        assert_eq!(changes.passed_over.first(), Some(&(11..12)));
        assert!(chain.is_passed_over(11) && !chain.is_passed_over(10));
    }

    #[test]
    fn a_link_that_comes_late_goes_on_downwards() {
        let (mut chain, mut changes) = (Chain::default(), Changes::default());
        chain.link(&meta(12, 12, 10, 10), &mut changes);
        chain.settle(12, Hash([12; 32]), &mut changes);
        chain.link(&meta(10, 10, 8, 8), &mut changes);
        assert_eq!(changes.canonical, [12, 10, 8]);
    }

    #[test]
    fn a_link_to_itself_is_a_contradiction_and_no_loop() {
        let (mut chain, mut changes) = (Chain::default(), Changes::default());
        chain.link(&meta(12, 12, 12, 12), &mut changes);
        chain.settle(12, Hash([12; 32]), &mut changes);
        assert_eq!(changes.contradiction, Some(12));
    }

    #[test]
    fn two_canonical_versions_are_a_contradiction_and_the_first_stays() {
        let (mut chain, mut changes) = (Chain::default(), Changes::default());
        chain.settle(12, Hash([1; 32]), &mut changes);
        chain.settle(12, Hash([2; 32]), &mut changes);
        assert_eq!((changes.contradiction, chain.canonical(12)), (Some(12), Some(Hash([1; 32]))));
    }
}
