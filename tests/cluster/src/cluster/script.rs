//! What an endpoint does while a slot is played: updates, statuses and faults, each with its time.
//!
//! Times are fractions of the slot's time. What comes later than the slot itself spills into the next slot's script.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tonic::Status;
use yellowstone_grpc_proto::prelude::SlotStatus;
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;

use super::Shared;
use super::timeline::Level;
use crate::faults::{ContentFaults, Fault, StreamFault};
use crate::ledger::{Fate, LedgerSlot, Version};

/// How far an endpoint lags behind the first one, in slot times.
const LATENCY: f64 = 0.05;
/// How much of a bank that is given up is seen.
const SEEN_OF_DEAD: f64 = 0.6;
/// When the last content of a slot comes.
const CONTENT_END: f64 = 0.8;
/// What of a slot's time its banks share; a block is processed at some 0.77 then, shortly before the timeline says
/// so.
const SLOT_SHARE: f64 = 0.85;
/// When confirmed and finalized statuses of older slots come.
const STATUSES: f64 = 0.93;
/// Updates that an early block meta overtakes, at most.
const OVERTAKEN: usize = 6;
/// Places that a reordered update moves, at most.
const REORDER_PLACES: usize = 12;

/// Something that a subscriber may see.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A status of a slot or bank.
    Status(SlotEvent),
    /// A transaction of a version, by index.
    Transaction(Arc<Version>, u64, usize),
    /// An entry of a version, by index.
    Entry(Arc<Version>, u64, usize),
    /// An account write of a version, by place.
    Account(Arc<Version>, u64, usize),
    /// A frozen version as one message.
    Block(Arc<Version>, u64),
    /// The block meta of a version, its count off by this much.
    Meta(Arc<Version>, u64, i64),
    /// A recorded update of a slot, by place.
    Recorded(Arc<LedgerSlot>, usize),
    /// A slot's canonical version reached a level.
    Reached(Arc<LedgerSlot>, Level, u64),
    /// The answer to a subscriber's ping.
    Pong(i32),
    /// The stream ends.
    End(Status),
    /// The stream ends without a word.
    Close,
    /// The stream stays open and silent.
    Hang,
    /// Nothing for so many slots.
    Stall(u32),
    /// Bytes that are no update.
    Garbage(u64),
    /// An update too large for a default client.
    Oversize,
}

impl Event {
    /// Whether it is part of a version of a slot.
    pub(crate) fn is_version_content(&self) -> bool {
        matches!(
            self,
            Self::Transaction(..) | Self::Entry(..) | Self::Account(..) | Self::Block(..) | Self::Meta(..)
        )
    }
}

/// A slot's status.
#[derive(Debug, Clone)]
pub(crate) struct SlotEvent {
    pub(crate) slot: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) status: SlotStatus,
    pub(crate) bank: u64,
    pub(crate) dead_error: Option<String>,
}

/// An event with its time since the cluster's start.
#[derive(Debug, Clone)]
pub(crate) struct Timed {
    pub(crate) at: Duration,
    pub(crate) event: Event,
}

/// The events of one slot's time, in order.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) events: Vec<Timed>,
}

/// Writes scripts for one endpoint.
pub(crate) struct Writer<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) endpoint: usize,
    /// Whether faults are to be counted: once for each slot.
    pub(crate) counts: bool,
}

type Cue = (f64, Event);

impl Writer<'_> {
    pub(crate) fn write(&self, position: u64) -> Script {
        let (mut cues, late): (Vec<Cue>, Vec<Cue>) = self.slot_cues(position).into_iter().partition(is_early);
        self.count(
            Fault::LateMeta,
            late.iter().filter(|(_, event)| matches!(event, Event::Meta(..))).count(),
        );
        cues.extend(self.spilled(position));
        cues.extend(self.statuses(position));
        cues.extend(self.stream_faults(position));
        cues.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let start = self.shared.timeline.start(position);
        let timed =
            |(at, event): Cue| Timed { at: start + self.shared.timeline.slot_time().mul_f64(at), event };
        Script { events: cues.into_iter().map(timed).collect() }
    }

    fn latency(&self, position: u64) -> f64 {
        let mut random = self.shared.plan.random("latency", self.endpoint as u64, position);
        LATENCY * (self.endpoint as f64 % 4.0) + random.random_range(0.0..LATENCY)
    }

    /// What came late of the slot before.
    fn spilled(&self, position: u64) -> Vec<Cue> {
        let Some(before) = position.checked_sub(1) else { return Vec::new() };
        let faults = self.shared.plan.content(self.endpoint as u64, before);
        if !faults.late_meta && !faults.early_meta {
            return Vec::new();
        }
        let quiet = Self { counts: false, ..*self };
        let late = quiet.slot_cues(before).into_iter().filter(|cue| !is_early(cue));
        late.map(|(at, event)| (at - 1.0, event)).collect()
    }

    fn slot_cues(&self, position: u64) -> Vec<Cue> {
        let Some(slot) = self.shared.ledger.at(position) else { return Vec::new() };
        let faults = self.shared.plan.content(self.endpoint as u64, position);
        let mut random = self.shared.plan.random("cues", self.endpoint as u64, position);
        let latency = self.latency(position);
        let mut cues = if slot.frames.is_empty() {
            self.version_cues(&slot, position, &faults, &mut random)
        } else {
            self.recorded_cues(&slot, position, &faults, &mut random)
        };
        for (at, _) in &mut cues {
            *at += latency;
        }
        cues
    }

    fn version_cues(
        &self,
        slot: &Arc<LedgerSlot>,
        position: u64,
        faults: &ContentFaults,
        random: &mut StdRng,
    ) -> Vec<Cue> {
        let mut out = Vec::new();
        let width = SLOT_SHARE / slot.versions.len().max(1) as f64;
        for (place, version) in slot.versions.iter().enumerate() {
            let own = match slot.versions.len() {
                1 => faults.clone(),
                // With several versions a loss can make two incomplete banks look like one whole one.
                _ => ContentFaults { duplicate: faults.duplicate, ..ContentFaults::default() },
            };
            let start = width * place as f64;
            let bank = self.shared.bank(self.endpoint, position, version.ordinal);
            let version = &self.shared.shown(self.endpoint, version);
            let cues = VersionCues { version, bank, writer: self, position }.write(&own, random);
            out.extend(
                cues.into_iter().map(|(at, event)| (if at < 1.0 { start + at * width } else { at }, event)),
            );
        }
        out
    }

    fn recorded_cues(
        &self,
        slot: &Arc<LedgerSlot>,
        position: u64,
        faults: &ContentFaults,
        random: &mut StdRng,
    ) -> Vec<Cue> {
        let events: Vec<Event> =
            (0..slot.frames.len()).map(|place| Event::Recorded(Arc::clone(slot), place)).collect();
        let events = self.spoil(events, position, faults, random);
        spread(events, 0.0, CONTENT_END)
    }

    /// Drops and doubles updates. Account writes are never dropped alone: nothing in the protocol could tell.
    fn spoil(
        &self,
        events: Vec<Event>,
        position: u64,
        faults: &ContentFaults,
        random: &mut StdRng,
    ) -> Vec<Event> {
        let before = events.len();
        let mut everywhere = self.shared.plan.random_everywhere(position);
        let mut kept: Vec<Event> = Vec::with_capacity(before);
        let (mut lost, mut doubled) = (0, 0);
        for event in events {
            let gone = is_recoverable(&event) && everywhere.random_bool(faults.drop_everywhere);
            let lose = faults.drop > 0.0 && is_losable(&event) && random.random_bool(faults.drop);
            if gone || lose {
                lost += usize::from(lose && !gone);
                continue;
            }
            if faults.duplicate > 0.0 && is_content(&event) && random.random_bool(faults.duplicate) {
                doubled += 1;
                kept.push(event.clone());
            }
            kept.push(event);
        }
        self.count(Fault::Drop, lost);
        self.count(Fault::Duplicate, doubled);
        self.count(Fault::DropEverywhere, before + doubled - lost - kept.len());
        if faults.reorder {
            self.count(Fault::Reorder, 1);
            shuffle(&mut kept, random);
        }
        kept
    }

    /// Confirmed and finalized statuses of the slots that come so far now.
    fn statuses(&self, position: u64) -> Vec<Cue> {
        let levels = [Level::Confirmed, Level::Finalized];
        let reached = levels.into_iter().filter_map(|level| {
            let behind = position.checked_sub(self.shared.timeline.distance(level))?;
            let slot = self.shared.ledger.at(behind)?;
            let bank = self.shared.bank(self.endpoint, behind, slot.canonical()?.ordinal);
            (!slot.told[level as usize]).then_some((STATUSES, Event::Reached(slot, level, bank)))
        });
        reached.collect()
    }

    fn stream_faults(&self, position: u64) -> Vec<Cue> {
        let plan = &self.shared.plan;
        let endpoint = self.endpoint as u64;
        let was_up = position.checked_sub(1).is_some_and(|before| !plan.is_down(endpoint, before));
        if was_up && plan.is_down(endpoint, position) {
            self.count(Fault::Outage, 1);
            return vec![(0.0, Event::End(Status::unavailable("server is shutting down")))];
        }
        let Some(fault) = plan.stream(endpoint, position) else { return Vec::new() };
        let mut random = plan.random("break", endpoint, position);
        let (kind, event) = match fault {
            StreamFault::Disconnect => {
                (Fault::Disconnect, Event::End(Status::unavailable("error reading a body from connection")))
            }
            StreamFault::Close => (Fault::Disconnect, Event::Close),
            StreamFault::Hang => (Fault::Hang, Event::Hang),
            StreamFault::Lag => {
                (Fault::Lag, Event::End(Status::internal("lagged to receive geyser messages")))
            }
            StreamFault::Stall { slots } => (Fault::Stall, Event::Stall(slots)),
            StreamFault::Garbage => (Fault::Garbage, Event::Garbage(random.random())),
            StreamFault::Oversize => (Fault::Oversize, Event::Oversize),
        };
        self.count(kind, 1);
        vec![(random.random_range(0.05..0.95), event)]
    }

    fn count(&self, fault: Fault, by: usize) {
        if self.counts {
            self.shared.plan.count(fault, by as u64);
        }
    }
}

fn is_early((at, _): &Cue) -> bool {
    *at < 1.0
}

/// Writes what is seen of one version.
struct VersionCues<'a> {
    version: &'a Arc<Version>,
    bank: u64,
    writer: &'a Writer<'a>,
    position: u64,
}

impl VersionCues<'_> {
    /// Fractions below 1 are of the version's own time, others of the slot's.
    fn write(&self, faults: &ContentFaults, random: &mut StdRng) -> Vec<Cue> {
        let mut content = self.content();
        if !self.version.is_frozen() {
            content.truncate((content.len() as f64 * SEEN_OF_DEAD) as usize);
        }
        let mut content = self.writer.spoil(content, self.position, faults, random);
        let overtaken = if faults.early_meta { split_overtaken(&mut content, random) } else { Vec::new() };
        let mut cues = vec![(0.02, self.status(SlotStatus::SlotCreatedBank))];
        if self.version.ordinal == 0 {
            cues.insert(0, (0.0, self.status(SlotStatus::SlotFirstShredReceived)));
        }
        cues.extend(spread(content, 0.04, CONTENT_END));
        cues.extend(self.ending(faults, random));
        self.writer.count(Fault::EarlyMeta, usize::from(!overtaken.is_empty()));
        let behind = if random.random_bool(0.3) { 1.02 } else { 0.95 };
        cues.extend(overtaken.into_iter().map(|event| (behind, event)));
        cues
    }

    /// Entries behind their transactions; account writes in their order, between them.
    fn content(&self) -> Vec<Event> {
        let block = &self.version.block;
        let event = |kind: fn(Arc<Version>, u64, usize) -> Event, place| {
            kind(Arc::clone(self.version), self.bank, place)
        };
        let mut out =
            Vec::with_capacity(block.transactions.len() + block.entries.len() + block.accounts.len());
        let (mut next_transaction, mut next_account) = (0, 0);
        for place in 0..block.entries.len() {
            let end = next_transaction + block.entries[place].executed_transaction_count as usize;
            let end = end.min(block.transactions.len());
            out.extend((next_transaction..end).map(|index| event(Event::Transaction, index)));
            next_transaction = end;
            let accounts = (place + 1) * block.accounts.len() / block.entries.len();
            out.extend((next_account..accounts).map(|account| event(Event::Account, account)));
            next_account = accounts;
            out.push(event(Event::Entry, place));
        }
        out.extend(
            (next_transaction..block.transactions.len()).map(|index| event(Event::Transaction, index)),
        );
        out.extend((next_account..block.accounts.len()).map(|account| event(Event::Account, account)));
        out
    }

    fn ending(&self, faults: &ContentFaults, random: &mut StdRng) -> Vec<Cue> {
        match &self.version.fate {
            Fate::Reset => return Vec::new(),
            Fate::Dead(_) => return vec![(0.9, self.status(SlotStatus::SlotDead))],
            Fate::Canonical | Fate::Orphaned => {}
        }
        let late = if faults.late_meta { random.random_range(1.05..1.4) } else { 0.88 };
        let mut cues = vec![(0.85, self.status(SlotStatus::SlotCompleted))];
        let mut everywhere = self.writer.shared.plan.random_everywhere(self.position);
        cues.push((late, Event::Block(Arc::clone(self.version), self.bank)));
        let gone = faults.drop > 0.0 && random.random_bool(faults.drop)
            || faults.drop_everywhere > 0.0 && everywhere.random_bool(faults.drop_everywhere);
        if gone {
            self.writer.count(Fault::Drop, 1);
        } else {
            self.writer.count(Fault::WrongCount, usize::from(faults.count_skew != 0));
            cues.push((late, Event::Meta(Arc::clone(self.version), self.bank, faults.count_skew)));
        }
        cues.push((late + 0.02, self.status(SlotStatus::SlotProcessed)));
        cues
    }

    fn status(&self, status: SlotStatus) -> Event {
        let shreds = matches!(status, SlotStatus::SlotFirstShredReceived | SlotStatus::SlotCompleted);
        let block = &self.version.block;
        let dead_error = match (&self.version.fate, status) {
            (Fate::Dead(error), SlotStatus::SlotDead) => Some(error.clone()),
            _ => None,
        };
        Event::Status(SlotEvent {
            slot: block.slot,
            parent: (!shreds).then_some(block.parent_slot),
            status,
            bank: if shreds { 0 } else { self.bank },
            dead_error,
        })
    }
}

fn spread(events: Vec<Event>, start: f64, end: f64) -> Vec<Cue> {
    let step = (end - start) / events.len().max(1) as f64;
    events.into_iter().enumerate().map(|(place, event)| (start + step * place as f64, event)).collect()
}

/// Takes the last transactions and entries out. Accounts stay: their number is nowhere told, so none may come late.
fn split_overtaken(content: &mut Vec<Event>, random: &mut StdRng) -> Vec<Event> {
    let mut wanted = random.random_range(1..=OVERTAKEN);
    let mut overtaken = Vec::new();
    let mut place = content.len();
    while wanted > 0 && place > 0 {
        place -= 1;
        if is_losable(&content[place]) {
            overtaken.push(content.remove(place));
            wanted -= 1;
        }
    }
    overtaken.reverse();
    overtaken
}

fn shuffle(events: &mut [Event], random: &mut StdRng) {
    for place in 0..events.len() {
        let other = (place + random.random_range(0..REORDER_PLACES)).min(events.len() - 1);
        if is_content(&events[place]) && is_content(&events[other]) {
            events.swap(place, other);
        }
    }
}

/// Content that may change places or come twice: not statuses nor block metas, whose order is promised.
fn is_content(event: &Event) -> bool {
    is_losable(event)
        || match event {
            Event::Account(..) => true,
            Event::Recorded(slot, place) => matches!(slot.frames[*place].update, UpdateOneof::Account(_)),
            _ => false,
        }
}

/// Updates whose loss can be told from counts, indexes or hashes.
fn is_losable(event: &Event) -> bool {
    match event {
        Event::Transaction(..) | Event::Entry(..) => true,
        Event::Recorded(slot, place) => {
            matches!(slot.frames[*place].update, UpdateOneof::Transaction(_) | UpdateOneof::Entry(_))
        }
        _ => false,
    }
}

/// Updates that RPC has too, so that they may be lost on all endpoints.
fn is_recoverable(event: &Event) -> bool {
    match event {
        Event::Transaction(..) => true,
        Event::Recorded(slot, place) => matches!(slot.frames[*place].update, UpdateOneof::Transaction(_)),
        _ => false,
    }
}
