//! What slots say about each other: whether each names its parent rightly, and which are missing altogether.
//!
//! Slots that prove by themselves come in, with what their block metas say. A slot that one of them names as its parent,
//! and that is within what was recorded, has to be there; if only its block meta is not, its child says what the meta
//! would have: the blockhash at which its chain has to end.

use std::collections::BTreeMap;

use super::Finding;
use super::delivery::Delivery;
use crate::frame::BlockMeta;
use crate::proof::ancestry::Ancestry;
use crate::proof::chain::{Break, Reason};
use crate::slot::{Hash, Slot};

/// Slots before one without a block meta that are tried as its parent, the closest first. Seldom is more than one skipped.
const TRIED_PARENTS: usize = 4;

/// What was found of one slot by itself.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) finding: Finding,
    /// The metas under which it proves, and the hashes of each.
    pub(super) proven: Vec<(BlockMeta, u64)>,
    /// All that came of it, if it has no block meta.
    pub(super) content: Delivery,
}

/// Slots, and what is said of them.
#[derive(Debug)]
pub(super) struct Links {
    slots: BTreeMap<Slot, Found>,
    known: Ancestry,
    /// By the parent: the child and the parent's blockhash.
    children: BTreeMap<Slot, (Slot, Hash)>,
}

impl Links {
    /// The links between these.
    pub(super) fn new(slots: BTreeMap<Slot, Found>) -> Self {
        let mut known = Ancestry::default();
        for (meta, _) in slots.values().flat_map(|found| &found.proven) {
            known.note(meta.slot, meta.blockhash);
        }
        Self { slots, known, children: BTreeMap::new() }
    }

    /// The findings, in order.
    pub(super) fn settle(mut self) -> Vec<(Slot, Finding)> {
        self.hold_to_parents();
        let named = |(slot, found): (&Slot, &Found)| {
            let child = self.children.get(slot).filter(|_| found.finding == Finding::Unfinished)?;
            Some((*slot, self.without_meta(*slot, found, *child)))
        };
        let mut findings: BTreeMap<Slot, Finding> = self.slots.iter().filter_map(named).collect();
        findings.extend(self.missing());
        for (slot, found) in self.slots {
            findings.entry(slot).or_insert(found.finding);
        }
        findings.into_iter().collect()
    }

    /// Of what proves, what names its parent rightly stays proven.
    fn hold_to_parents(&mut self) {
        for found in self.slots.values_mut() {
            let right = found.proven.iter().find(|(meta, _)| self.known.contradiction(meta).is_none());
            if let Some((meta, hashes)) = right {
                found.finding = Finding::Proven(*hashes);
                self.children.insert(meta.parent_slot, (meta.slot, meta.parent_blockhash));
            } else if let Some(reason) =
                found.proven.first().and_then(|(meta, _)| self.known.contradiction(meta))
            {
                found.finding = Finding::Broken(Break { index: 0, reason });
            }
        }
    }

    /// A slot whose block meta did not come, by what its child says.
    fn without_meta(&self, slot: Slot, found: &Found, (child, blockhash): (Slot, Hash)) -> Finding {
        let as_child_of = |(parent_slot, parent_blockhash)| {
            let meta = BlockMeta {
                slot,
                blockhash,
                parent_slot,
                parent_blockhash,
                executed_transaction_count: 0,
                entries_count: None,
            };
            match found.content.find_as(&meta, false) {
                Finding::Proven(_) => Some(Finding::MetaMissing { child, holds: true }),
                Finding::Broken(Break { index: 0, reason: Reason::Parent }) => None,
                other => Some(other),
            }
        };
        let tried = self.known.versions_below(slot).take(TRIED_PARENTS).find_map(as_child_of);
        tried.unwrap_or(Finding::MetaMissing { child, holds: false })
    }

    /// Slots that were named as parents and never came. Nothing is said of those before the first.
    fn missing(&self) -> Vec<(Slot, Finding)> {
        let Some((&first, _)) = self.slots.first_key_value() else { return Vec::new() };
        let absent =
            self.children.iter().filter(|(slot, _)| **slot > first && !self.slots.contains_key(slot));
        let finding = |(&slot, &(child, _)): (&Slot, &(Slot, Hash))| {
            let before = self.slots.range(..slot).next_back().map_or(first, |(&before, _)| before);
            (slot, Finding::Missing { since: before + 1, child })
        };
        absent.map(finding).collect()
    }
}
