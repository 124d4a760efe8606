//! What goes out of a slot, and when.

use std::sync::Arc;

use super::GapDetector;
use super::open_slot::{Assembly, Emitted, OpenSlot};
use crate::batch::{Gap, Item, Missing, Want};
use crate::block::{Part, Way};
use crate::dispute::Dispute;
use crate::slot::{Hash, Slot, Timestamp};
use crate::stage::{Event, Output};

/// Whether a whole slot still waits for its entries and accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// As long as `extras_grace` says.
    Grace,
    /// No more.
    Over,
}

impl GapDetector {
    /// Lets out what has become whole.
    pub(super) fn settle(&mut self, now: Timestamp, out: &mut Output) {
        for slot in std::mem::take(&mut self.dirty) {
            let Some(open) = self.slots.get(&slot) else { continue };
            let mut waits = false;
            for blockhash in open.versions() {
                self.look_for_dispute(slot, blockhash, out);
                waits |= self.settle_version(now, slot, blockhash, Patience::Grace, out);
                self.pass_claims(slot, blockhash, out);
            }
            if !waits {
                self.waiting.remove(&slot);
            }
        }
    }

    /// Lets a version out if it is whole; says whether it is and waits for its entries or accounts.
    fn settle_version(
        &mut self,
        now: Timestamp,
        slot: Slot,
        blockhash: Hash,
        patience: Patience,
        out: &mut Output,
    ) -> bool {
        let Some(open) = self.slots.get_mut(&slot) else { return false };
        let before = open.emitted.iter().find(|(hash, _)| *hash == blockhash).map(|&(_, emitted)| emitted);
        let wanted = |want: Want| want != Want::Nothing;
        if before.is_some_and(|parts| {
            (parts.entries || !wanted(self.scope.entries)) && (parts.accounts || !wanted(self.scope.accounts))
        }) {
            return false;
        }
        let block = match open.assemble(blockhash, self.scope, Way::Live) {
            Assembly::Block(block) => block,
            Assembly::Incomplete => return false,
            Assembly::Contradiction(reason) => {
                self.on_contradiction(now, (slot, blockhash), reason, out);
                return false;
            }
        };
        let parts = Emitted {
            entries: matches!(block.entries, Part::Whole(_)),
            accounts: matches!(block.accounts, Part::Whole(_)),
        };
        let lacks = block.entries.is_missing() || block.accounts.is_missing();
        if before.is_none() && lacks {
            let since = *self.waiting.entry(slot).or_insert(now);
            if patience == Patience::Grace && now.since(since) < self.options.extras_grace {
                return true;
            }
        }
        if before != Some(parts) {
            open.emitted.retain(|(hash, _)| *hash != blockhash);
            open.emitted.push((blockhash, parts));
            self.on_whole(slot, lacks, before.is_some(), out);
            out.push(Item::Block(Arc::from(block)));
        }
        false
    }

    /// Lets on what endpoints that differ about a version say of it.
    fn pass_claims(&mut self, slot: Slot, blockhash: Hash, out: &mut Output) {
        let Some(open) = self.slots.get_mut(&slot) else { return };
        let claims = open.claims(blockhash, self.scope);
        if !claims.is_empty() {
            self.note_contradiction(slot, "endpoints differ about one block", out);
        }
        self.counters.claims += claims.len() as u64;
        out.items.extend(claims.into_iter().map(|claim| Item::Claim(Arc::new(claim))));
    }

    /// Lets slots below `below` that wait for entries or accounts go on without: nothing more of them is looked at. A
    /// recording that is replayed at full speed gets there long before their grace is over.
    pub(super) fn release(&mut self, now: Timestamp, below: Slot, out: &mut Output) {
        let waiting: Vec<Slot> = self.waiting.range(..below).map(|(&slot, _)| slot).collect();
        for slot in waiting {
            for blockhash in self.slots.get(&slot).map(OpenSlot::versions).unwrap_or_default() {
                self.settle_version(now, slot, blockhash, Patience::Over, out);
            }
        }
    }

    /// A slot whose deliveries contradict each other is owed: recovery asks a referee.
    fn on_contradiction(
        &mut self,
        now: Timestamp,
        version: (Slot, Hash),
        reason: &'static str,
        out: &mut Output,
    ) {
        let (slot, _) = version;
        self.dispute(version, out);
        if !self.is_reported(slot) {
            self.owed.entry(slot).or_insert(now);
        }
        self.note_contradiction(slot, reason, out);
    }

    fn note_contradiction(&mut self, slot: Slot, reason: &'static str, out: &mut Output) {
        if self.contradicted.insert(slot) {
            self.counters.contradictions += 1;
            let endpoints = self.slots.get(&slot).map(OpenSlot::endpoints).unwrap_or_default();
            out.report(Event::Contradiction { slot, reason, endpoints });
        }
    }

    fn look_for_dispute(&mut self, slot: Slot, blockhash: Hash, out: &mut Output) {
        if self.slots.get(&slot).is_some_and(|open| open.has_rival_metas(blockhash)) {
            self.dispute((slot, blockhash), out);
        }
    }

    /// Tells recovery that endpoints contradict each other, so that none of them is asked who is right.
    fn dispute(&mut self, version: (Slot, Hash), out: &mut Output) {
        if self.disputed.insert(version) {
            self.push_testimony(version, false, out);
        }
    }

    pub(super) fn push_testimony(&self, (slot, blockhash): (Slot, Hash), closed: bool, out: &mut Output) {
        let Some(open) = self.slots.get(&slot) else { return };
        let dispute = Dispute { slot, blockhash, claims: open.testimony(blockhash), closed };
        if dispute.endpoints().len() > 1 {
            out.push(Item::Dispute(Arc::new(dispute)));
        }
    }

    fn on_whole(&mut self, slot: Slot, lacks: bool, again: bool, out: &mut Output) {
        self.waiting.remove(&slot);
        self.owed.remove(&slot);
        self.counters.whole += u64::from(!again);
        if !again && self.reported.contains_key(&slot) {
            out.report(Event::GapFilled { slot, way: Way::Live });
        }
        if lacks && !again {
            out.push(Item::Gap(Gap { first: slot, last: slot, missing: Missing::Extras }));
        }
    }
}
