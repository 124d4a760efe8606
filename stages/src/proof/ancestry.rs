//! Whether a block names its parent rightly.
//!
//! The chain of hashes begins with the parent's blockhash; which slot that is, only the block's meta says. What is known
//! of other slots tells whether that can be.

use std::collections::{BTreeMap, BTreeSet};

use super::reason::Reason;
use crate::frame::BlockMeta;
use crate::slot::{Hash, Slot};

/// Versions of slots that are known.
#[derive(Debug, Default)]
pub(super) struct Ancestry {
    versions: BTreeSet<(Slot, Hash)>,
    slots: BTreeMap<Hash, BTreeSet<Slot>>,
}

impl Ancestry {
    /// Notes that a slot has a version.
    pub(super) fn note(&mut self, slot: Slot, version: Hash) {
        self.versions.insert((slot, version));
        self.slots.entry(version).or_default().insert(slot);
    }

    /// Forgets slots below one.
    pub(super) fn forget_below(&mut self, slot: Slot) {
        let kept = self.versions.split_off(&(slot, Hash([0; 32])));
        for (slot, version) in std::mem::replace(&mut self.versions, kept) {
            if let Some(slots) = self.slots.get_mut(&version) {
                slots.remove(&slot);
                if slots.is_empty() {
                    self.slots.remove(&version);
                }
            }
        }
    }

    /// What is wrong with the parent that a block names, if what is known contradicts it.
    pub(super) fn contradiction(&self, meta: &BlockMeta) -> Option<Reason> {
        let (named, version) = (meta.parent_slot, meta.parent_blockhash);
        if self.versions.contains(&(named, version)) {
            return None;
        }
        if let Some(&of) = self.slots.get(&version).and_then(BTreeSet::first) {
            return Some(Reason::ParentSlot { named, of });
        }
        self.knows(named).then_some(Reason::ParentVersion(named))
    }

    /// The versions below a slot, the closest first.
    pub(super) fn versions_below(&self, slot: Slot) -> impl Iterator<Item = (Slot, Hash)> + '_ {
        self.versions.range(..(slot, Hash([0; 32]))).rev().copied()
    }

    fn knows(&self, slot: Slot) -> bool {
        self.versions.range((slot, Hash([0; 32]))..=(slot, Hash([u8::MAX; 32]))).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(parent_slot: Slot, parent: u8) -> BlockMeta {
        BlockMeta {
            slot: 20,
            blockhash: Hash([20; 32]),
            parent_slot,
            parent_blockhash: Hash([parent; 32]),
            executed_transaction_count: 0,
            entries_count: None,
        }
    }

    #[test]
    fn a_parent_is_wrong_only_if_what_is_known_contradicts_it() {
        let mut known = Ancestry::default();
        assert_eq!(known.contradiction(&meta(19, 19)), None, "nothing is known");
        for (slot, version) in [(10, 10), (19, 19), (19, 119)] {
            known.note(slot, Hash([version; 32]));
        }
        assert_eq!(known.contradiction(&meta(19, 19)), None);
        assert_eq!(known.contradiction(&meta(19, 119)), None, "a slot may have several versions");
        assert_eq!(known.contradiction(&meta(15, 15)), None, "of neither anything is known");
        let of_another = Some(Reason::ParentSlot { named: 10, of: 19 });
        assert_eq!(known.contradiction(&meta(10, 19)), of_another);
        assert_eq!(known.contradiction(&meta(15, 19)), Some(Reason::ParentSlot { named: 15, of: 19 }));
        assert_eq!(known.contradiction(&meta(10, 15)), Some(Reason::ParentVersion(10)));
        known.forget_below(11);
        assert_eq!(known.contradiction(&meta(10, 15)), None);
        assert_eq!(known.contradiction(&meta(15, 19)), Some(Reason::ParentSlot { named: 15, of: 19 }));
    }
}
