//! `gap_detector`: the slot ledger. Messages in; whole slots, their statuses, and gaps out.
//!
//! For each open slot the ledger keeps which lane delivered what (`open_slot`). A slot goes out as a
//! [`Block`](crate::block::Block) once a version of it is whole; as late updates, other versions or missing parts come in
//! it may go out again. A slot that is owed (a child names it as parent, its meta came, or it was confirmed) and not
//! whole after `grace` is a [`Gap`](crate::batch::Gap). A jump in slot numbers is none: skipped slots are proven by parent links, further
//! down. Where endpoints differ about one version, what each says goes out as a claim (`claims`), for a proof to judge.
//!
//! Order: blocks go out as they become whole, statuses as they come. Bounded: slots that are `keep_slots` behind the
//! finalized one, or `max_open_slots` behind the tip, are forgotten; those that were owed are reported first, so nothing
//! is forgotten silently. Late updates are counted (`ledger_discarded_total{reason="late"}`).

mod claims;
mod open_slot;
mod owed;
mod settling;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::batch::{Batch, Echo, EndpointId, Item, Lane, Scope, Session, SessionId, Status, Torn, Update};
use crate::candidates::Offer;
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Role, Start};
use crate::frame::{BlockMeta, Kind, SlotStatus};
use crate::slot::{Commitment, Hash, Slot, Timestamp};
use crate::stage::{Event, Flow, Metric, Output, Stage};
use crate::tip::Tip;
use crate::transaction::{Transaction, check};
pub(crate) use open_slot::{Assembly, OpenSlot};

/// Options of `gap_detector`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GapDetectorOptions {
    /// How long an owed slot may take before it is a gap. Default 1s: the other endpoints' delay, and about what an RPC
    /// node needs to have the block.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub grace: Duration,
    /// How long a slot whose transactions are whole waits for its entries and accounts before it goes on without.
    /// Default 2s: confirmation, behind which nothing more comes, takes about one.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub extras_grace: Duration,
    /// How many slots behind the highest finalized one a slot stays open. Default 8, as in `dedupe`.
    pub keep_slots: u64,
    /// How many slots behind the tip a slot stays open at most. Default 512.
    pub max_open_slots: u64,
}

impl Default for GapDetectorOptions {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(1),
            extras_grace: Duration::from_secs(2),
            keep_slots: 8,
            max_open_slots: 512,
        }
    }
}

impl Component for GapDetectorOptions {
    const KIND: &'static str = "gap_detector";
    const ROLE: Role = Role::Stage;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Updates);
    const EMITS: Emits = Emits::Only(Flow::Blocks);
    const SUMMARY: &'static str =
        "Keeps the ledger of slots: whole ones go on, missing ones are reported as gaps.";

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Stage(Box::new(GapDetector::new(self, context.scope, context.start))))
    }
}

/// What the ledger knows of a session.
#[derive(Debug, Default)]
struct SessionState {
    /// Counts its items.
    position: u64,
    /// Banks that were announced, by slot.
    announced: BTreeSet<Slot>,
    /// Slots of which the beginning is not in the stream, whatever it showed before.
    torn: Torn,
    /// Where in the stream the meta of each recent slot stood.
    metas: BTreeMap<Slot, u64>,
}

impl SessionState {
    /// Whether a bank of `slot` was announced from its beginning on.
    fn has_announced(&self, slot: Slot) -> bool {
        self.announced.contains(&slot) && !self.torn.contains(&slot)
    }

    /// Where in the stream the meta of `parent` stood, if the session was there before that bank ended: what was
    /// executed behind it is in the stream from its beginning.
    ///
    /// The meta alone does not tell, since metas come up to a slot late.
    fn sight_of(&self, parent: Slot) -> Option<u64> {
        let position = self.metas.get(&parent).copied()?;
        let older = self.metas.range(..parent).any(|(_, &older)| older < position);
        (older || self.announced.contains(&parent)).then_some(position)
    }
}

/// Slots above a slot in which its children are looked for: no leader's turn is skipped for longer.
const FORK_SLOTS: u64 = 64;

/// The statuses of a slot that were passed on, each with the version that it was about.
type Told = SmallVec<[(SlotStatus, Option<Hash>); 8]>;

/// Slots that a session is remembered for: more than any bank is behind its parent.
const REMEMBERED_SLOTS: usize = 128;

#[derive(Debug, Default)]
struct Counters {
    whole: u64,
    gaps: u64,
    late: u64,
    contradictions: u64,
    claims: u64,
    malformed: u64,
}

/// The stage.
pub struct GapDetector {
    options: GapDetectorOptions,
    scope: Scope,
    start: Start,
    /// Nothing below it is looked for; known once the first block is.
    floor: Option<Slot>,
    /// Everything below it is forgotten.
    forgotten: Slot,
    tip: Tip,
    finalized: Slot,
    sessions: BTreeMap<SessionId, SessionState>,
    names: BTreeMap<EndpointId, Arc<str>>,
    slots: BTreeMap<Slot, OpenSlot>,
    /// Slots that exist and are not whole, and since when that is known.
    owed: BTreeMap<Slot, Timestamp>,
    /// Gaps that were reported, by their last slot, with their first. Recovery knows of every slot within.
    reported: BTreeMap<Slot, Slot>,
    /// Whole slots that wait for entries or accounts, and since when.
    waiting: BTreeMap<Slot, Timestamp>,
    /// Slots whose deliveries contradict each other.
    contradicted: BTreeSet<Slot>,
    /// Versions that endpoints say different things of.
    disputed: BTreeSet<(Slot, Hash)>,
    dirty: BTreeSet<Slot>,
    statuses: BTreeMap<Slot, Told>,
    scratch: Transaction,
    counters: Counters,
}

impl GapDetector {
    /// A ledger that knows nothing yet, of sources that together subscribe to `scope`.
    pub fn new(options: GapDetectorOptions, scope: Scope, start: Start) -> Self {
        Self {
            options,
            scope,
            start,
            floor: None,
            forgotten: 0,
            tip: Tip::default(),
            finalized: 0,
            sessions: BTreeMap::new(),
            names: BTreeMap::new(),
            slots: BTreeMap::new(),
            owed: BTreeMap::new(),
            reported: BTreeMap::new(),
            waiting: BTreeMap::new(),
            contradicted: BTreeSet::new(),
            disputed: BTreeSet::new(),
            dirty: BTreeSet::new(),
            statuses: BTreeMap::new(),
            scratch: Transaction::default(),
            counters: Counters::default(),
        }
    }

    fn on_item(&mut self, now: Timestamp, item: Item, out: &mut Output) {
        match item {
            Item::Update(update) => self.on_update(now, update, out),
            Item::Echo(echo) => self.on_echo(now, echo, out),
            Item::Session(session) => self.on_session(session),
            other => out.push(other),
        }
    }

    fn on_session(&mut self, session: Session) {
        match session {
            Session::Opened { id, endpoint, scope, torn, .. } => {
                self.names.insert(id.endpoint, endpoint);
                self.sessions.insert(id, SessionState { torn, ..SessionState::default() });
                self.scope = union(self.scope, scope);
            }
            Session::Closed { id, .. } => {
                self.sessions.remove(&id);
            }
        }
    }

    fn on_update(&mut self, now: Timestamp, mut update: Update, out: &mut Output) {
        let header = update.frame.header;
        if header.kind.is_keepalive() || !self.admit(header.slot) {
            return;
        }
        if let Err(error) = check(&mut update.frame, &mut self.scratch) {
            return self.refuse(&update, error.to_string(), out);
        }
        let position = self.step(update.session);
        match header.kind {
            Kind::Transaction | Kind::Entry => self.on_indexed(position, &update, out),
            Kind::Account => {
                self.enter_lane(update.received_at, header.slot, update.lane(), position);
                self.slots.entry(header.slot).or_default().on_account(update, None);
            }
            Kind::Slot => self.on_status(now, &update, out),
            Kind::BlockMeta => self.on_meta(now, position, update, out),
            _ => {}
        }
    }

    fn on_echo(&mut self, now: Timestamp, echo: Echo, out: &mut Output) {
        match echo {
            Echo::Update(update) => self.on_update(now, update, out),
            Echo::Account { update, write_version } => {
                let slot = update.frame.header.slot;
                if self.admit(slot) {
                    let position = self.step(update.session);
                    self.enter_lane(update.received_at, slot, update.lane(), position);
                    self.slots.entry(slot).or_default().on_account(update, Some(write_version));
                }
            }
            Echo::Transactions { lane, slot, indexes } if self.admit(slot) => {
                self.enter_echo(now, slot, lane);
                self.slots.entry(slot).or_default().on_transactions_echo(lane, indexes);
            }
            Echo::Entries { lane, slot, indexes } if self.admit(slot) => {
                self.enter_echo(now, slot, lane);
                self.slots.entry(slot).or_default().on_entries_echo(lane, indexes);
            }
            Echo::Transactions { .. } | Echo::Entries { .. } => {}
        }
    }

    /// Whether `slot` is still open.
    fn admit(&mut self, slot: Slot) -> bool {
        let admitted = slot >= self.forgotten;
        self.counters.late += u64::from(!admitted);
        self.tip.observe(slot) && admitted
    }

    fn step(&mut self, session: SessionId) -> u64 {
        let state = self.sessions.entry(session).or_default();
        state.position += 1;
        state.position
    }

    fn enter_echo(&mut self, now: Timestamp, slot: Slot, lane: Lane) {
        let position = self.step(lane.session);
        self.enter_lane(now, slot, lane, position);
        self.touch(slot);
    }

    /// Notes where in its session's stream a lane's content began.
    fn enter_lane(&mut self, now: Timestamp, slot: Slot, lane: Lane, position: u64) {
        let state = self.slots.entry(slot).or_default().lane(lane);
        if state.first_position.is_none() {
            let session = self.sessions.get(&lane.session);
            state.announced = session.is_some_and(|session| session.has_announced(slot));
            state.first_position = Some(position);
            state.first_seen_at = now;
        }
    }

    /// Looks at the slot behind this batch if what came could make it whole.
    fn touch(&mut self, slot: Slot) {
        if self.slots.get(&slot).is_some_and(|open| open.meta_at.is_some()) {
            self.dirty.insert(slot);
        }
    }

    fn on_indexed(&mut self, position: u64, update: &Update, out: &mut Output) {
        let header = update.frame.header;
        self.enter_lane(update.received_at, header.slot, update.lane(), position);
        let open = self.slots.entry(header.slot).or_default();
        let offer = match header.kind {
            Kind::Transaction => open.on_transaction(update),
            _ => open.on_entry(update),
        };
        if offer == Offer::Refused {
            return self.refuse(update, "the index is beyond any block's size".to_owned(), out);
        }
        self.touch(header.slot);
    }

    fn on_meta(&mut self, now: Timestamp, position: u64, update: Update, out: &mut Output) {
        let meta = match BlockMeta::read(update.frame.body()) {
            Ok(meta) => meta,
            Err(error) => return self.refuse(&update, error.to_string(), out),
        };
        self.set_floor(&meta, out);
        let lane = update.lane();
        let session = self.sessions.entry(lane.session).or_default();
        let parent_position = session.sight_of(meta.parent_slot);
        session.metas.insert(meta.slot, position);
        let (announced, torn) = (session.has_announced(meta.slot), session.torn.contains(&meta.slot));
        while session.metas.len() > REMEMBERED_SLOTS {
            session.metas.pop_first();
        }
        let open = self.slots.entry(meta.slot).or_default();
        open.meta_at.get_or_insert(now);
        let state = open.lane(lane);
        let first = state.first_position.unwrap_or(position);
        state.after_parent = !torn && parent_position.is_some_and(|parent| parent < first);
        state.announced |= state.first_position.is_none() && announced;
        state.completed_at = Some(update.received_at);
        state.meta = Some((meta, update));
        self.owe(meta.slot, now);
        self.owe(meta.parent_slot, now);
        self.dirty.insert(meta.slot);
    }

    /// Decides where to begin, once the first block is known.
    fn set_floor(&mut self, first: &BlockMeta, out: &mut Output) {
        if self.floor.is_some() {
            return;
        }
        let floor = self.start.floor(first.slot);
        self.floor = Some(floor);
        out.push(Item::Begin(floor));
    }

    fn on_status(&mut self, now: Timestamp, update: &Update, out: &mut Output) {
        let header = update.frame.header;
        let Some(status) = header.status() else { return };
        self.announce(status, update);
        let blockhash = self.bind_status(status, update);
        let status = Status { slot: header.slot, parent: header.parent(), blockhash, status, at: now };
        if status.status == SlotStatus::Finalized && header.slot <= self.tip.slot() {
            self.finalized = self.finalized.max(header.slot);
        }
        if status.status == SlotStatus::Confirmed || status.status == SlotStatus::Finalized {
            self.owe(header.slot, now);
            if let Some(parent) = header.parent() {
                self.owe(parent, now);
            }
            self.touch(header.slot);
        }
        let known = self.statuses.entry(header.slot).or_default();
        if !known.contains(&(status.status, blockhash)) {
            known.push((status.status, blockhash));
            out.push(Item::Status(status));
        }
    }

    /// Notes that a bank begins. A second one with the same (or no) bank id voids what the first delivered.
    fn announce(&mut self, status: SlotStatus, update: &Update) {
        let slot = update.frame.header.slot;
        if !matches!(status, SlotStatus::CreatedBank | SlotStatus::FirstShredReceived) {
            return;
        }
        let session = self.sessions.entry(update.session).or_default();
        let again = !session.announced.insert(slot);
        while session.announced.len() > REMEMBERED_SLOTS {
            session.announced.pop_first();
        }
        if status == SlotStatus::CreatedBank
            && again
            && update.frame.header.bank_id == 0
            && let Some(open) = self.slots.get_mut(&slot)
        {
            let lane = open.lane(update.lane());
            if lane.first_position.is_some() {
                lane.dead = true;
            }
        }
    }

    /// Finds the version that a status is about, and tells its lane.
    fn bind_status(&mut self, status: SlotStatus, update: &Update) -> Option<Hash> {
        let header = update.frame.header;
        let open = self.slots.get_mut(&header.slot)?;
        let lane = if header.bank_id == 0 {
            open.only_lane_of(update.session)
        } else {
            open.lanes.iter_mut().find(|state| state.lane == update.lane())
        };
        if let Some(lane) = lane {
            match status {
                SlotStatus::Confirmed => lane.on_commitment(Commitment::Confirmed),
                SlotStatus::Finalized => lane.on_commitment(Commitment::Finalized),
                SlotStatus::Dead => lane.dead = true,
                _ => {}
            }
            if let Some((meta, _)) = &lane.meta {
                return Some(meta.blockhash);
            }
        }
        open.version_of_bank(update.session.endpoint, header.bank_id)
            .or_else(|| self.only_version(header.slot))
    }

    /// The version of `slot` that is known, if there is just one and its children build on it.
    ///
    /// A session that is younger than the slot can't say which bank a status is about. Children settle it: a slot that
    /// has the status is an ancestor of what is built now, so a child names its true blockhash.
    fn only_version(&self, slot: Slot) -> Option<Hash> {
        let versions = self.slots.get(&slot)?.versions();
        let [version] = versions[..] else { return None };
        let above = self.slots.range(slot + 1..=slot + FORK_SLOTS).flat_map(|(_, open)| open.live_metas());
        let mut children = above.filter(|(meta, _)| meta.parent_slot == slot).peekable();
        let agreed = children.peek().is_some() && children.all(|(meta, _)| meta.parent_blockhash == version);
        agreed.then_some(version)
    }

    fn forget(&mut self, now: Timestamp, out: &mut Output) {
        let by_finality = self.finalized.saturating_sub(self.options.keep_slots);
        let below = by_finality.max(self.tip.slot().saturating_sub(self.options.max_open_slots));
        if below <= self.forgotten {
            return;
        }
        self.release(now, below, out);
        let overdue: Vec<Slot> = self.owed.range(..below).map(|(&slot, _)| slot).collect();
        for slot in overdue {
            self.report_gap(slot, out);
        }
        self.forgotten = below;
        let open = self.disputed.split_off(&(below, Hash([0; 32])));
        for version in std::mem::replace(&mut self.disputed, open) {
            self.push_testimony(version, true, out);
        }
        let kept = self.slots.split_off(&below);
        let settled = std::mem::replace(&mut self.slots, kept);
        self.report_arrivals(&settled, out);
        self.waiting = self.waiting.split_off(&below);
        self.statuses = self.statuses.split_off(&below);
        self.reported = self.reported.split_off(&below);
        self.contradicted = self.contradicted.split_off(&below);
    }

    fn report_arrivals(&self, slots: &BTreeMap<Slot, OpenSlot>, out: &mut Output) {
        let name = |endpoint| self.names.get(&endpoint).cloned().unwrap_or_else(|| Arc::from("unknown"));
        for (&slot, open) in slots {
            let arrivals = open.arrivals(slot, name);
            if !arrivals.is_empty() {
                out.push(Item::Arrivals(Arc::from(arrivals)));
            }
        }
    }

    fn refuse(&mut self, update: &Update, reason: String, out: &mut Output) {
        self.counters.malformed += 1;
        let slot = Some(update.frame.header.slot);
        out.report(Event::Malformed { endpoint: update.session.endpoint, slot, reason });
    }
}

fn union(one: Scope, other: Scope) -> Scope {
    Scope {
        transactions: one.transactions.max(other.transactions),
        entries: one.entries.max(other.entries),
        accounts: one.accounts.max(other.accounts),
    }
}

impl Stage for GapDetector {
    fn on_batch(&mut self, now: Timestamp, _: usize, batch: Batch, out: &mut Output) {
        for item in batch {
            self.on_item(now, item, out);
        }
        self.settle(now, out);
        self.forget(now, out);
    }

    fn on_tick(&mut self, now: Timestamp, out: &mut Output) {
        let patient: Vec<Slot> = self.waiting.keys().copied().collect();
        self.dirty.extend(patient);
        self.settle(now, out);
        self.report_gaps(now, out);
    }

    fn on_pressure(&mut self, _: Timestamp, out: &mut Output) {
        // What went out lives on downstream; what did not can be fetched once it is final.
        const KEPT_UNDER_PRESSURE_SLOTS: u64 = 8;
        let below = self.tip.slot().saturating_sub(KEPT_UNDER_PRESSURE_SLOTS);
        let overdue: Vec<Slot> = self.owed.range(..below).map(|(&slot, _)| slot).collect();
        for slot in overdue {
            self.report_gap(slot, out);
        }
        for open in self.slots.range_mut(..below).map(|(_, open)| open) {
            open.shed();
        }
    }

    fn on_end(&mut self, now: Timestamp, out: &mut Output) {
        self.release(now, Slot::MAX, out);
        self.report_arrivals(&self.slots, out);
    }

    fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        show(Metric::new("ledger_whole_slots_total", self.counters.whole));
        show(Metric::new("ledger_gaps_total", self.counters.gaps));
        show(Metric::new("ledger_contradictions_total", self.counters.contradictions));
        show(Metric::new("ledger_claims_total", self.counters.claims));
        show(Metric::new("ledger_discarded_total", self.counters.late).with("reason", "late"));
        show(Metric::new("ledger_discarded_total", self.counters.malformed).with("reason", "malformed"));
        show(Metric::new("ledger_open_slots", self.slots.len() as u64));
        show(Metric::new("ledger_owed_slots", self.owed.len() as u64));
        Metric::slot("tip_slot", self.tip.slot()).into_iter().for_each(&mut *show);
        Metric::slot("finalized_slot", self.finalized).into_iter().for_each(show);
    }
}

#[cfg(test)]
mod tests;
