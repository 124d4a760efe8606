//! What becomes of what fetches bring, and of fetches that bring nothing.

use std::sync::Arc;
use std::time::Duration;

use super::search::backoff;
use super::{Fetch, Fetched, Planner};
use crate::batch::{EndpointId, Gap, Item, Missing, Update};
use crate::block::Way;
use crate::slot::{Commitment, Slot, Timestamp};
use crate::stage::{Event, Output};

impl Planner {
    /// Takes what a fetch brought.
    pub fn on_fetched(&mut self, now: Timestamp, fetch: Fetch, fetched: Fetched, out: &mut Output) {
        match fetched {
            Fetched::Slots(slots) if fetch == Fetch::Tip => self.on_tip(now, slots.first().copied(), out),
            Fetched::Slots(slots) => {
                self.corroborate(now, fetch, &slots);
                self.on_slots(now, fetch, &slots);
            }
            Fetched::Updates { slot, updates } => self.on_updates(now, fetch, slot, updates, out),
            Fetched::Done => {
                let reason = self.refusal(fetch);
                self.on_over(now, fetch, &reason, None, out);
            }
            Fetched::Failed { reason, retry_after, first_available } => {
                self.counters.failures += 1;
                if let (Fetch::Replay { endpoint, .. }, Some(first)) = (fetch, first_available) {
                    self.windows.insert(endpoint, first);
                }
                self.on_over(now, fetch, &reason, retry_after, out);
            }
        }
        self.let_named_on(now, out);
    }

    /// The chain is final up to `slot`: wants it, vouched for by RPC, and all that may be missing below.
    pub(super) fn on_tip(&mut self, now: Timestamp, slot: Option<Slot>, out: &mut Output) {
        self.in_flight.remove(&Fetch::Tip);
        let Some(slot) = slot.filter(|&slot| self.chain.canonical(slot).is_none()) else { return };
        let floor = *self.floor.get_or_insert_with(|| {
            let floor = self.start.floor(slot);
            out.push(Item::Begin(floor));
            floor
        });
        if slot < floor {
            return;
        }
        self.finalized = self.finalized.max(slot);
        self.tip = self.tip.max(slot);
        // Even if it is there: which version of it is final is what nobody said.
        self.search(slot, Missing::Content, now);
        let known = self.passed.range(..slot).next_back().map_or(floor, |(&known, _)| known + 1);
        self.on_gap(now, Gap { first: known.max(floor), last: slot, missing: Missing::Content });
    }

    pub(super) fn on_slots(&mut self, now: Timestamp, fetch: Fetch, slots: &[Slot]) {
        let Fetch::List { first, last } = fetch else { return };
        self.in_flight.remove(&fetch);
        self.listings.remove(&(first, last));
        for &slot in slots.iter().filter(|slot| (first..=last).contains(slot)) {
            self.want(slot, Missing::Content, now);
        }
    }

    fn on_updates(
        &mut self,
        now: Timestamp,
        fetch: Fetch,
        slot: Slot,
        updates: Vec<Update>,
        out: &mut Output,
    ) {
        let way = match fetch {
            Fetch::Replay { .. } => Way::Replay,
            _ => Way::Rpc,
        };
        let blocks = match self.assembler.assemble(slot, way, updates) {
            Ok(blocks) if self.searches.contains_key(&slot) => blocks,
            Ok(_) => return,
            Err(reason) => {
                if let Some(search) = self.searches.get_mut(&slot) {
                    search.refusal = Some(reason);
                }
                return;
            }
        };
        for mut block in blocks {
            if let Fetch::Block { commitment: level, .. } = fetch {
                self.on_answer(now, block, level);
                continue;
            }
            if !self.is_believed(&block) {
                continue;
            }
            // Whoever forgot that the slot is final is told again.
            let is_canonical = self.chain.canonical(slot) == Some(block.blockhash());
            block.vouched = is_canonical.then_some(Commitment::Finalized);
            self.want_parent(now, &block.meta);
            self.on_block(now, Arc::new(block), out);
        }
    }

    fn on_over(
        &mut self,
        now: Timestamp,
        fetch: Fetch,
        reason: &str,
        retry: Option<Duration>,
        out: &mut Output,
    ) {
        self.in_flight.remove(&fetch);
        match fetch {
            Fetch::Tip => {}
            Fetch::List { first, last } => self.postpone_listing(first, last, now, retry),
            Fetch::Block { slot, .. } => self.on_try_over(slot, now, reason, retry, out),
            Fetch::Replay { endpoint, first, last } => {
                self.on_replay_over(endpoint, first..=last, now);
            }
        }
    }

    /// After a replay the next way is tried at once: its failure says nothing about the slots.
    fn on_replay_over(
        &mut self,
        endpoint: EndpointId,
        slots: std::ops::RangeInclusive<Slot>,
        now: Timestamp,
    ) {
        for search in self.searches.range_mut(slots).map(|(_, search)| search) {
            if search.in_flight && search.replayed.last() == Some(&endpoint) {
                search.in_flight = false;
                search.due = now;
            }
        }
    }

    pub(super) fn on_try_over(
        &mut self,
        slot: Slot,
        now: Timestamp,
        reason: &str,
        retry: Option<Duration>,
        out: &mut Output,
    ) {
        // Extras are what a replay is out for; RPC has none, so its end says nothing of them.
        let Some(search) = self.searches.get_mut(&slot).filter(|search| search.missing == Missing::Content)
        else {
            return;
        };
        search.in_flight = false;
        if search.held.is_some() {
            return;
        }
        search.attempts += 1;
        if search.attempts > self.options.max_retries && !search.hole {
            search.hole = true;
            self.counters.holes += 1;
            out.report(Event::HoleOpened { slot, reason: reason.to_owned() });
        }
        self.postpone(slot, now, retry);
    }

    pub(super) fn postpone(&mut self, slot: Slot, now: Timestamp, retry: Option<Duration>) {
        let Some(search) = self.searches.get_mut(&slot) else { return };
        // A node that rests or wants a pause is sent nothing by a try, so it is safe to try before that is over; to wait would
        // only mean that the slot is called a hole, which it is, minutes later. A hole is tried when nodes are, too.
        let wait = if search.hole {
            retry.map_or(self.options.hole_interval, |retry| retry.min(self.options.hole_interval))
        } else {
            backoff(&self.options, search.attempts, &mut self.random)
        };
        search.due = now.after(wait);
        // The next round may find endpoints that were away.
        if search.attempts % 4 == 3 {
            search.replayed.clear();
        }
    }

    fn postpone_listing(&mut self, first: Slot, last: Slot, now: Timestamp, retry: Option<Duration>) {
        let Some(listing) = self.listings.get_mut(&(first, last)) else { return };
        listing.in_flight = false;
        listing.attempts += 1;
        let wait = backoff(&self.options, listing.attempts, &mut self.random);
        listing.due = now.after(wait.max(retry.unwrap_or_default()));
    }
}
