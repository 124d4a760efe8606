//! Slots about which endpoints contradict each other.
//!
//! None of the parties is asked who is right: while RPC is asked for such a slot, what a replay brings of it is let go until
//! RPC has said which block it is, and afterwards where it says something else. RPC is asked for content alone, so a slot
//! that only lacks entries or accounts waits for no referee. Once all claims and the referee are there, the endpoints that
//! were wrong are reported, which is how their sources come to leave them out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Planner;
use super::search::Search;
use crate::batch::{EndpointId, Missing};
use crate::block::Block;
use crate::dispute::{Dispute, Referee};
use crate::slot::{Hash, Slot};
use crate::stage::{Event, Metric, Output};

/// Disputes that are open at a time; beyond, the oldest is given up. An endpoint that contradicts the others in every slot
/// has been found out long before.
const MOST_DISPUTES: usize = 32;

#[derive(Debug, Default)]
struct Open {
    referee: Option<Referee>,
    /// All claims, once there will be no more.
    closed: Option<Arc<Dispute>>,
}

/// The disputes that are not settled, and what came of those that are.
#[derive(Debug, Default)]
pub(super) struct Disputes {
    open: BTreeMap<(Slot, Hash), Open>,
    seen: u64,
    wrong: BTreeMap<EndpointId, u64>,
}

impl Disputes {
    /// Whether endpoints contradict each other about `slot`, and nobody has said who is right.
    pub(super) fn lacks_referee(&self, slot: Slot) -> bool {
        let versions = self.open.range((slot, Hash([0; 32]))..=(slot, Hash([255; 32])));
        versions.into_iter().any(|(_, open)| open.referee.is_none())
    }

    /// Why a replay of a disputed slot is not believed, if it is not.
    fn refusal(&self, block: &Block, awaits_referee: bool) -> Option<&'static str> {
        if awaits_referee && self.lacks_referee(block.slot()) {
            return Some("endpoints contradict each other about it, so RPC is asked first");
        }
        let referee = self.open.get(&(block.slot(), block.blockhash()))?.referee.as_ref()?;
        (!referee.agrees_with(block)).then_some("it is not the block that RPC has")
    }

    pub(super) fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        show(Metric::new("disputes_total", self.seen));
        for (&endpoint, &count) in &self.wrong {
            show(Metric::new("proven_wrong_total", count).with("endpoint", endpoint));
        }
    }

    fn settle(&mut self, dispute: &Dispute, referee: Option<&Referee>, out: &mut Output) {
        for (endpoint, reason) in dispute.wrong(referee) {
            *self.wrong.entry(endpoint).or_default() += 1;
            out.report(Event::ProvenWrong { slot: dispute.slot, endpoint, reason });
        }
    }
}

impl Planner {
    /// Endpoints contradict each other.
    pub(super) fn on_dispute(&mut self, dispute: &Arc<Dispute>, out: &mut Output) {
        let version = (dispute.slot, dispute.blockhash);
        if !dispute.closed {
            self.disputes.seen += 1;
            self.disputes.open.entry(version).or_default();
            while self.disputes.open.len() > MOST_DISPUTES {
                self.disputes.open.pop_first();
            }
            return;
        }
        let awaits_referee = self.awaits_referee(dispute.slot);
        match self.disputes.open.get_mut(&version) {
            Some(open) if open.referee.is_none() && awaits_referee => open.closed = Some(Arc::clone(dispute)),
            _ => {
                let referee = self.disputes.open.remove(&version).and_then(|open| open.referee);
                self.disputes.settle(dispute, referee.as_ref(), out);
            }
        }
    }

    /// RPC has said which block it is.
    pub(super) fn on_referee(&mut self, block: &Block, out: &mut Output) {
        let version = (block.slot(), block.blockhash());
        let Some(open) = self.disputes.open.get_mut(&version) else { return };
        open.referee = Referee::of(block);
        if let Some(dispute) = open.closed.take() {
            let referee = self.disputes.open.remove(&version).and_then(|open| open.referee);
            self.disputes.settle(&dispute, referee.as_ref(), out);
        }
    }

    /// Whether what a replay brought may go on; if not, its search is told why.
    pub(super) fn is_believed(&mut self, block: &Block) -> bool {
        let refusal = self.disputes.refusal(block, self.awaits_referee(block.slot()));
        if let (Some(reason), Some(search)) = (refusal, self.searches.get_mut(&block.slot())) {
            search.refusal = Some(reason.to_owned());
        }
        refusal.is_none()
    }

    /// Whether RPC is asked for this slot.
    fn awaits_referee(&self, slot: Slot) -> bool {
        let content = |search: &Search| search.missing == Missing::Content;
        self.has_rpc && self.searches.get(&slot).is_some_and(content)
    }
}
