//! Who says what of a slot about which endpoints differ.
//!
//! Of two endpoints that name one blockhash and deliver different content for it, one is wrong, and no count tells which.
//! So what each of them says goes on as a claim of its own, once, for a proof to judge: it names the one that is wrong and
//! lets the other's content through. A lane has a claim when what it delivered is whole by itself; what lost something
//! differs from others, too, and accuses nobody.

use super::open_slot::{Assembly, LaneState, OpenSlot, contradicts};
use crate::batch::{Scope, Want};
use crate::block::{Block, Way};
use crate::candidates::{Candidates, Delivered};
use crate::slot::Hash;

/// How far a lane's claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Claim {
    /// What it delivered is not whole by itself.
    #[default]
    Open,
    /// It is.
    Whole,
    /// And it has gone on, since another lane differs.
    Made,
}

impl OpenSlot {
    /// What lanes say of a version each for itself, if they differ about it and it has not gone on before.
    pub(super) fn claims(&mut self, blockhash: Hash, scope: Scope) -> Vec<Block> {
        if (scope.transactions, scope.entries) != (Want::Everything, Want::Everything) {
            return Vec::new();
        }
        let entries = &self.entries;
        let mut open = self.lanes.iter_mut().filter(|lane| lane.claim == Claim::Open);
        let fresh = open.by_ref().fold(false, |fresh, lane| {
            let whole = lane.is_bound_to(blockhash) && is_whole_alone(lane, entries);
            if whole {
                lane.claim = Claim::Whole;
            }
            fresh || whole
        });
        if !fresh || !self.is_disputed(blockhash) {
            return Vec::new();
        }
        let due = |lane: &LaneState| lane.claim == Claim::Whole && lane.is_bound_to(blockhash);
        let alone = self.lanes.iter().filter(|lane| due(lane));
        let claim = |lane| match self.assemble_lanes(&[lane], scope, Way::Live) {
            Assembly::Block(block) if !block.entries.is_missing() => Some(*block),
            Assembly::Block(_) | Assembly::Incomplete | Assembly::Contradiction(_) => None,
        };
        let claims = alone.filter_map(claim).collect();
        self.lanes.iter_mut().filter(|lane| due(lane)).for_each(|lane| lane.claim = Claim::Made);
        claims
    }

    /// Whether lanes that are whole by themselves differ.
    fn is_disputed(&self, blockhash: Hash) -> bool {
        let whole = |lane: &&LaneState| lane.claim != Claim::Open && lane.is_bound_to(blockhash);
        let mut lanes = self.lanes.iter().filter(whole);
        let first = lanes.next();
        first.is_some_and(|first| lanes.any(|lane| !agree(first, lane)))
    }
}

fn is_whole_alone(lane: &LaneState, entries: &Candidates) -> bool {
    let Some((meta, _)) = &lane.meta else { return false };
    let is_dense = |delivered: &Delivered| delivered.count() == delivered.end() && !delivered.is_ambiguous();
    let last = || {
        let index = lane.entries.end().checked_sub(1)?;
        entries.get(index, lane.entries.at(index)?)
    };
    lane.transactions.count() == meta.executed_transaction_count
        && last().is_some_and(|last| last.frame.key() == meta.blockhash.0)
        && is_dense(&lane.transactions)
        && is_dense(&lane.entries)
}

fn agree(one: &LaneState, other: &LaneState) -> bool {
    let (Some((meta, _)), Some((other_meta, _))) = (&one.meta, &other.meta) else { return false };
    !contradicts(meta, other_meta)
        && one.transactions.is_same(&other.transactions)
        && one.entries.is_same(&other.entries)
}
