//! What to fetch next: the lowest slot first, by the cheapest way that is open.

use super::search::Search;
use super::{Fetch, MOST_DELIVERIES, Planner};
use crate::batch::{EndpointId, Missing};
use crate::slot::{Commitment, Slot, Timestamp};

/// Slots that are looked for at a time while memory is short: the lowest, and the one behind, which names it.
const MOST_WITHOUT_ROOM: usize = 2;

impl Planner {
    /// RPC's finalized slot, once nothing has become final for a while: all streams may be down, or none of them old
    /// enough to say which versions are final.
    pub(super) fn next_tip(&mut self, now: Timestamp) -> Option<Fetch> {
        let since = *self.finalized_at.get_or_insert(now);
        if !self.has_rpc
            || now.since(since) < self.options.tip_interval
            || self.in_flight.contains(&Fetch::Tip)
        {
            return None;
        }
        self.finalized_at = Some(now);
        Some(Fetch::Tip)
    }

    pub(super) fn next_listing(&mut self, now: Timestamp) -> Option<Fetch> {
        let mut listings = self.listings.iter_mut();
        let (&(first, last), listing) =
            listings.find(|(_, listing)| !listing.in_flight && listing.due <= now)?;
        listing.in_flight = true;
        Some(Fetch::List { first, last })
    }

    /// Content goes first: without it nothing can be committed.
    pub(super) fn next_search(&mut self, now: Timestamp) -> Option<Fetch> {
        [Missing::Content, Missing::Extras].into_iter().find_map(|missing| self.next_search_for(missing, now))
    }

    fn next_search_for(&mut self, missing: Missing, now: Timestamp) -> Option<Fetch> {
        let is_due = |search: &Search| search.is_due(now, self.options.hedge_after);
        // A block that is held waits for others, and a hole for its time.
        let is_open = |search: &Search| search.held.is_none() && (!search.hole || is_due(search));
        let most = if self.has_room { usize::MAX } else { MOST_WITHOUT_ROOM };
        let open = self.searches.iter().filter(|(_, search)| search.missing == missing && is_open(search));
        let due = open.take(most).filter(|(_, search)| is_due(search)).map(|(&slot, _)| slot);
        let due: Vec<Slot> = due.take(self.options.batch_size).collect();
        due.iter().find_map(|&slot| self.fetch_for(slot, &due, now))
    }

    /// The cheapest way to get `slot` that is open now.
    fn fetch_for(&mut self, slot: Slot, due: &[Slot], now: Timestamp) -> Option<Fetch> {
        if let Some(endpoint) = self.replay_endpoint(slot) {
            let last = due.iter().copied().filter(|&other| other >= slot).max().unwrap_or(slot);
            for (_, search) in self.searches.range_mut(slot..=last) {
                if search.is_due(now, self.options.hedge_after) {
                    search.in_flight = true;
                    search.begun_at = now;
                    search.replayed.push(endpoint);
                }
            }
            return Some(Fetch::Replay { endpoint, first: slot, last });
        }
        let in_reach = self.is_in_reach_of_replays(slot);
        let search = self.searches.get_mut(&slot)?;
        if search.missing == Missing::Extras && !in_reach {
            // No RPC has them, and what no window holds any more never comes back.
            self.searches.remove(&slot);
            self.counters.lost_extras += 1;
            return None;
        }
        if !self.has_rpc || search.missing == Missing::Extras {
            // Only a replay can help: start over with all endpoints, later.
            search.replayed.clear();
            search.attempts += 1;
            self.postpone(slot, now, None);
            return None;
        }
        search.in_flight = true;
        search.begun_at = now;
        let commitment = if slot <= self.finalized { Commitment::Finalized } else { Commitment::Confirmed };
        let fetch = Fetch::Block { slot, commitment };
        // Asked already and not answered yet: the fetch has a timeout of its own.
        (!self.in_flight.contains(&fetch)).then_some(fetch)
    }

    /// An endpoint that may still replay `slot`, was not tried for it, and is not replaying already. One that has not
    /// delivered the slot goes before one that has: if it is asked for again, something was wrong with what came.
    fn replay_endpoint(&self, slot: Slot) -> Option<EndpointId> {
        if !self.options.replay || self.tip.saturating_sub(slot) > self.options.max_replay_slots {
            return None;
        }
        let search = self.searches.get(&slot)?;
        if self.has_rpc && search.missing == Missing::Content && self.disputes.lacks_referee(slot) {
            return None;
        }
        let busy = |endpoint: EndpointId| {
            self.in_flight
                .iter()
                .any(|fetch| matches!(fetch, Fetch::Replay { endpoint: other, .. } if *other == endpoint))
        };
        let open = self.endpoints.iter().copied().filter(|&endpoint| {
            let in_window = self.windows.get(&endpoint).is_none_or(|&first| first <= slot);
            in_window && !search.replayed.contains(&endpoint) && !busy(endpoint)
        });
        let fewest = open.clone().map(|endpoint| self.deliveries(slot, endpoint)).min()?;
        let among: Vec<EndpointId> =
            open.filter(|&endpoint| self.deliveries(slot, endpoint) == fewest).collect();
        let endpoint = self.cheaper_of_two(slot, &among)?;
        let may = !self.has_rpc
            || search.missing == Missing::Extras
            || self.deliveries(slot, endpoint) < MOST_DELIVERIES;
        may.then_some(endpoint)
    }

    /// The cheaper of two of these that the slot draws: always to take the cheapest would send everything to one.
    fn cheaper_of_two(&self, slot: Slot, among: &[EndpointId]) -> Option<EndpointId> {
        let count = u64::try_from(among.len()).ok().filter(|&count| count > 0)?;
        let first = slot % count;
        // Any of the others, each as often.
        let second = (first + 1 + slot / count % (count - 1).max(1)) % count;
        let drawn = [first.min(second), first.max(second)].map(|place| among[place as usize]);
        drawn.into_iter().min_by_key(|endpoint| self.costs.get(endpoint).copied().unwrap_or_default())
    }

    fn deliveries(&self, slot: Slot, endpoint: EndpointId) -> usize {
        let delivered = self.delivered.get(&slot);
        delivered.map_or(0, |endpoints| endpoints.iter().filter(|&&other| other == endpoint).count())
    }
}
