//! What recovery does next, as a pure state machine.
//!
//! Items and results go in, items and fetches come out; the shell around it runs the fetches. What is wanted is kept by
//! slot, and the lowest slot goes first, since it blocks the oldest open commit. For each slot the ways are tried from the
//! cheapest up: a replay from each endpoint whose window reaches back far enough, once each, then RPC. A failed try waits
//! for an exponentially growing time with full jitter; after `max_retries` the slot is a *hole*, whether nodes
//! failed or rested: reported, and tried every `hole_interval` for as long as the pipeline runs.
//!
//! Nothing that is fetched is believed unchecked: a block goes through the same assembly as the live stream's, has to be
//! the one that others name for the slot (`answers`), the parties to a dispute are not asked (`disputes`), and its parent has
//! to be there, too, or is fetched next, down to what is known. An answer
//! "skipped" is never believed by itself; only a canonical link that passes over the slot ends the search
//! (`chain`). The last block of a chain that ends has no child to name it (`end_of_chain`).

mod answers;
pub(crate) mod assembler;
mod choice;
mod disputes;
mod end_of_chain;
mod fetch;
mod results;
mod search;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use smallvec::SmallVec;

use crate::batch::{Batch, EndpointId, Gap, Item, Missing, Scope, Status, Update};
use crate::block::{Block, Way};
use crate::chain::{Chain, Changes};
use crate::component::Start;
use crate::filter::TransactionFilters;
use crate::frame::{BlockMeta, SlotStatus};
use crate::slot::{Commitment, Slot, Timestamp};
use crate::stage::{Event, Metric, Output};

use super::RecoveryOptions;
use assembler::Assembler;
use disputes::Disputes;
pub use fetch::{Fetch, Fetched};
use search::{Listing, Parts, Search, Versions};

#[derive(Debug, Default)]
struct Counters {
    found: u64,
    live: u64,
    replay: u64,
    rpc: u64,
    skips_proven: u64,
    failures: u64,
    holes: u64,
    lost_extras: u64,
    refused: u64,
}

/// The state machine.
pub struct Planner {
    options: RecoveryOptions,
    assembler: Assembler,
    endpoints: Vec<EndpointId>,
    /// What a request costs at each endpoint, see [`Self::set_costs`].
    costs: BTreeMap<EndpointId, u64>,
    has_rpc: bool,
    has_room: bool,
    /// Nothing below is looked for.
    floor: Option<Slot>,
    chain: Chain,
    /// The versions that went on, by slot.
    passed: BTreeMap<Slot, Versions>,
    /// The endpoints that delivered each slot, live or by replay, as often as they did.
    delivered: BTreeMap<Slot, SmallVec<[EndpointId; 4]>>,
    searches: BTreeMap<Slot, Search>,
    /// Blocks that were held and have been named since.
    named: Vec<Block>,
    /// Slots whose held block turned out to be another fork's, and how that shows.
    refused: Vec<(Slot, String)>,
    listings: BTreeMap<(Slot, Slot), Listing>,
    disputes: Disputes,
    /// Slots that an earlier run fetched, until the pipeline has begun.
    spooled: Vec<(Slot, Vec<Update>)>,
    begun: bool,
    in_flight: BTreeSet<Fetch>,
    /// The lowest slot that each endpoint was heard to be able to replay.
    windows: BTreeMap<EndpointId, Slot>,
    finalized: Slot,
    /// When a slot last became final, or RPC was last asked for one.
    finalized_at: Option<Timestamp>,
    start: Start,
    tip: Slot,
    random: SmallRng,
    counters: Counters,
}

/// Times that an endpoint delivers a slot which is then asked for again, before RPC is asked instead: whoever asks does not
/// want it as that endpoint has it.
const MOST_DELIVERIES: usize = 3;
/// Slots of an earlier run that wait for the pipeline to begin, which it does with the first block meta of all.
const MOST_SPOOLED: usize = 64;
/// Slots behind the tip for which links and wholeness are remembered.
const REMEMBERED_SLOTS: u64 = 4_096;

impl Planner {
    /// A planner that has nothing to do. `seed` seeds the jitter.
    pub fn new(
        options: RecoveryOptions,
        scope: Scope,
        filters: TransactionFilters,
        endpoints: Vec<EndpointId>,
        start: Start,
        seed: u64,
    ) -> Self {
        let has_rpc = options.rpc.is_some();
        Self {
            options,
            assembler: Assembler::new(scope, filters),
            endpoints,
            costs: BTreeMap::new(),
            has_rpc,
            has_room: true,
            floor: match start {
                Start::At(slot) => Some(slot),
                Start::TipRoundedDown(_) | Start::Tip => None,
            },
            chain: Chain::default(),
            passed: BTreeMap::new(),
            delivered: BTreeMap::new(),
            searches: BTreeMap::new(),
            named: Vec::new(),
            refused: Vec::new(),
            listings: BTreeMap::new(),
            disputes: Disputes::default(),
            spooled: Vec::new(),
            begun: false,
            in_flight: BTreeSet::new(),
            windows: BTreeMap::new(),
            finalized: 0,
            finalized_at: None,
            start,
            tip: 0,
            random: SmallRng::seed_from_u64(seed),
            counters: Counters::default(),
        }
    }

    /// What a request costs at each endpoint now, in any unit: how far it is and how busy. Of endpoints of which nothing is
    /// known, the first is the cheapest.
    pub fn set_costs(&mut self, costs: impl IntoIterator<Item = (EndpointId, u64)>) {
        self.costs = costs.into_iter().collect();
    }

    /// Whether there is memory for more than what comes by itself. Without, only the lowest slots are fetched: what holds
    /// the memory may wait for them, and more would only be let go again.
    pub fn set_room(&mut self, has_room: bool) {
        self.has_room = has_room;
    }

    /// Takes a batch from upstream and passes it on.
    pub fn on_batch(&mut self, now: Timestamp, batch: Batch, out: &mut Output) {
        for item in batch {
            match item {
                Item::Block(block) => self.on_block(now, block, out),
                Item::Status(status) => self.on_status(now, status, out),
                Item::Gap(gap) => self.on_gap(now, gap),
                Item::Dispute(dispute) => self.on_dispute(&dispute, out),
                Item::Begin(slot) => self.on_begin(now, slot, out),
                other => out.push(other),
            }
            self.let_named_on(now, out);
        }
        self.forget();
    }

    /// Takes a slot that a replay brought to an earlier run. It is looked at as any replay's, but nobody has to want it yet.
    pub fn on_spooled(&mut self, now: Timestamp, slot: Slot, updates: Vec<Update>, out: &mut Output) {
        if !self.begun {
            if self.spooled.len() < MOST_SPOOLED {
                self.spooled.push((slot, updates));
            }
            return;
        }
        if self.floor.is_some_and(|floor| slot < floor) {
            return;
        }
        for block in self.assembler.assemble(slot, Way::Replay, updates).unwrap_or_default() {
            if self.is_believed(&block) {
                self.on_block(now, Arc::new(block), out);
            }
        }
        self.let_named_on(now, out);
    }

    /// Takes slots that nodes downstream ask for.
    pub fn on_request(&mut self, now: Timestamp, slots: &[Slot]) {
        for &slot in slots {
            self.passed.remove(&slot);
            self.want(slot, Missing::Content, now);
        }
    }

    /// The next thing to fetch, if there is one and room for it.
    pub fn next_fetch(&mut self, now: Timestamp) -> Option<Fetch> {
        if self.in_flight.len() >= self.options.max_in_flight {
            return None;
        }
        let fetch = self
            .next_listing(now)
            .or_else(|| self.next_search(now))
            .or_else(|| self.next_corroboration(now))
            .or_else(|| self.next_tip(now))?;
        self.in_flight.insert(fetch);
        Some(fetch)
    }

    /// Shows the metrics.
    pub fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        let holes = self.searches.values().filter(|search| search.hole).count();
        show(Metric::new("recovery_found_slots_total", self.counters.found));
        show(Metric::new("recovered_slots_total", self.counters.live).with("way", "live"));
        show(Metric::new("recovered_slots_total", self.counters.replay).with("way", "replay"));
        show(Metric::new("recovered_slots_total", self.counters.rpc).with("way", "rpc"));
        show(Metric::new("recovered_slots_total", self.counters.skips_proven).with("way", "skip_proven"));
        show(Metric::new("recovery_failures_total", self.counters.failures));
        show(Metric::new("recovery_searches", self.searches.len() as u64));
        show(Metric::new("recovery_in_flight", self.in_flight.len() as u64));
        show(Metric::new("recovery_holes_total", self.counters.holes));
        show(Metric::new("recovery_lost_extras_total", self.counters.lost_extras));
        show(Metric::new("recovery_refused_blocks_total", self.counters.refused));
        show(Metric::new("holes", holes as u64));
        self.disputes.metrics(show);
    }

    fn on_block(&mut self, now: Timestamp, block: Arc<Block>, out: &mut Output) {
        let slot = block.slot();
        self.tip = self.tip.max(slot);
        if block.way == Way::Rpc {
            self.on_referee(&block, out);
        } else {
            self.delivered.entry(slot).or_default().push(block.meta_update.session.endpoint);
        }
        let before = self.passed.get(&slot).is_some_and(|versions| !versions.is_empty());
        let (adds, parts) = self.note_passed(&block);
        if self.finish(&block, parts) {
            match block.way {
                Way::Live => self.counters.live += 1,
                Way::Replay => self.counters.replay += 1,
                Way::Rpc => self.counters.rpc += 1,
            }
            if !before && block.way != Way::Live {
                out.report(Event::GapFilled { slot, way: block.way });
            }
            self.want_extras(slot, now);
        }
        let mut changes = Changes::default();
        self.chain.link(&block.meta, &mut changes);
        if block.vouched == Some(Commitment::Finalized) {
            self.chain.settle(slot, block.blockhash(), &mut changes);
        }
        self.want_parent(now, &block.meta);
        self.name(block.meta.parent_slot, block.meta.parent_blockhash);
        self.follow(now, changes);
        match (adds, block.vouched) {
            (true, _) => out.push(Item::Block(block)),
            (false, Some(level)) => out.push(Item::Status(voucher(&block.meta, level, now))),
            (false, None) => {}
        }
    }

    /// Notes what goes on with `block`; says whether anything of it is new, and what of its version went on by now.
    fn note_passed(&mut self, block: &Block) -> (bool, Parts) {
        let versions = self.passed.entry(block.slot()).or_default();
        let parts = Parts::of(block);
        match versions.iter_mut().find(|(hash, _)| *hash == block.blockhash()) {
            Some((_, passed)) => (passed.add(parts), *passed),
            None => {
                versions.push((block.blockhash(), parts));
                (true, parts)
            }
        }
    }

    /// Ends the search for `slot` if what came satisfies it.
    fn finish(&mut self, block: &Block, parts: Parts) -> bool {
        let slot = block.slot();
        let search = self.searches.get(&slot);
        let is_other = self.chain.canonical(slot).is_some_and(|canonical| canonical != block.blockhash());
        let satisfied =
            !is_other && search.is_some_and(|search| parts.are_full() || search.missing == Missing::Content);
        if satisfied {
            self.searches.remove(&slot);
        }
        satisfied
    }

    /// A recovered block's parent is wanted as well, down to where the pipeline begins.
    fn want_parent(&mut self, now: Timestamp, meta: &BlockMeta) {
        let parent = meta.parent_slot;
        let in_reach = self.floor.is_some_and(|floor| parent >= floor);
        // Above the oldest search live blocks are expected to come by themselves; the ledger reports those that don't.
        if in_reach && self.searches.contains_key(&meta.slot) {
            self.want(parent, Missing::Content, now);
        }
    }

    fn on_status(&mut self, now: Timestamp, status: Status, out: &mut Output) {
        out.push(Item::Status(status));
        if status.commitment() != Some(Commitment::Finalized) {
            return;
        }
        if status.slot > self.finalized {
            self.finalized = status.slot;
            self.finalized_at = status.blockhash.map(|_| now).or(self.finalized_at);
        }
        if let Some(blockhash) = status.blockhash {
            let mut changes = Changes::default();
            self.chain.settle(status.slot, blockhash, &mut changes);
            self.follow(now, changes);
        }
    }

    /// Ends searches for what the canonical chain passes over, and begins them for what it holds and nobody brought.
    fn follow(&mut self, now: Timestamp, changes: Changes) {
        for range in changes.passed_over {
            let skipped: Vec<Slot> = self.searches.range(range).map(|(&slot, _)| slot).collect();
            self.counters.skips_proven += skipped.len() as u64;
            for slot in skipped {
                self.searches.remove(&slot);
            }
        }
        for slot in changes.canonical {
            if let Some(blockhash) = self.chain.canonical(slot) {
                self.settle_held(slot, blockhash);
            }
            let in_reach = self.floor.is_some_and(|floor| slot >= floor);
            if in_reach && !self.chain.has_link(slot) && slot < self.finalized {
                self.want(slot, Missing::Content, now);
            }
        }
    }

    fn on_begin(&mut self, now: Timestamp, slot: Slot, out: &mut Output) {
        self.floor = Some(self.floor.map_or(slot, |floor| floor.min(slot)));
        out.push(Item::Begin(slot));
        self.begun = true;
        for (slot, updates) in std::mem::take(&mut self.spooled) {
            self.on_spooled(now, slot, updates, out);
        }
    }

    fn on_gap(&mut self, now: Timestamp, gap: Gap) {
        let floor = self.floor.get_or_insert(gap.first);
        *floor = (*floor).min(gap.first);
        self.want(gap.last, gap.missing, now);
        if gap.first < gap.last && self.has_rpc {
            let listing = Listing { attempts: 0, due: now, in_flight: false };
            self.listings.entry((gap.first, gap.last - 1)).or_insert(listing);
        }
    }

    fn want(&mut self, slot: Slot, missing: Missing, now: Timestamp) {
        let versions = self.passed.get(&slot).map_or(&[][..], |versions| versions);
        let canonical = self.chain.canonical(slot);
        let satisfied = match missing {
            Missing::Content => versions.iter().any(|(hash, _)| canonical.is_none_or(|known| known == *hash)),
            Missing::Extras => versions.iter().any(|(_, parts)| parts.are_full()),
        };
        if !satisfied && !self.chain.is_passed_over(slot) {
            self.search(slot, missing, now);
        }
    }

    /// Wants what a slot still lacks that a search for its content is over, as long as a replay may bring it.
    fn want_extras(&mut self, slot: Slot, now: Timestamp) {
        if self.is_in_reach_of_replays(slot) {
            self.want(slot, Missing::Extras, now);
        }
    }

    /// Whether some endpoint may still replay `slot`.
    fn is_in_reach_of_replays(&self, slot: Slot) -> bool {
        let may = |endpoint| self.windows.get(endpoint).is_none_or(|&first| first <= slot);
        self.options.replay
            && self.tip.saturating_sub(slot) <= self.options.max_replay_slots
            && self.endpoints.iter().any(may)
    }

    /// Begins a search, or widens one that is under way.
    fn search(&mut self, slot: Slot, missing: Missing, now: Timestamp) {
        let fresh = !self.searches.contains_key(&slot);
        self.counters.found += u64::from(fresh);
        let search = self.searches.entry(slot).or_insert_with(|| Search::new(missing, now));
        search.missing = search.missing.min(missing);
    }

    fn forget(&mut self) {
        let floor = self.tip.saturating_sub(REMEMBERED_SLOTS);
        let oldest = self.searches.first_key_value().map_or(floor, |(&slot, _)| slot.min(floor));
        self.chain.forget(oldest.saturating_sub(1));
        if self.passed.first_key_value().is_some_and(|(&lowest, _)| lowest < oldest) {
            self.passed = self.passed.split_off(&oldest);
            self.delivered = self.delivered.split_off(&oldest);
        }
    }
}

/// What RPC said of a block that went on before it was asked.
fn voucher(meta: &BlockMeta, level: Commitment, now: Timestamp) -> Status {
    let status = match level {
        Commitment::Processed => SlotStatus::Processed,
        Commitment::Confirmed => SlotStatus::Confirmed,
        Commitment::Finalized => SlotStatus::Finalized,
    };
    let (slot, parent, blockhash) = (meta.slot, Some(meta.parent_slot), Some(meta.blockhash));
    Status { slot, parent, blockhash, status, at: now }
}

#[cfg(test)]
mod tests;
