//! One subscriber of one endpoint: replay first, then the live script, both through the subscriber's filters.
//!
//! Nothing is dropped for a slow subscriber: what it has not taken yet stays in the script, and comes when it polls.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use tonic::Status;
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude::{SubscribeRequest, SubscribeUpdatePing};

use super::emit::last_writes;
use super::endpoint::Endpoint;
use super::filter::Filters;
use super::frame;
use super::script::{Event, Script, SlotEvent, Timed};
use super::timeline::Level;
use crate::ledger::{Fate, Version};

/// Slots from ping to ping: ten seconds of mainnet's.
const PING_SLOTS: u32 = 25;
/// Pings are not sent more often, however fast the slots are.
const MIN_PING_INTERVAL: Duration = Duration::from_millis(100);

/// What comes out of a subscription.
#[derive(Debug, Clone)]
pub enum Emission {
    /// An encoded `SubscribeUpdate`, or what a fault made of it.
    Frame(Bytes),
    /// The stream ends with this status.
    End(Status),
    /// The stream stays open, and nothing will come any more.
    Hang,
    /// The stream ends without an error.
    Close,
}

/// An open subscription.
#[derive(Debug)]
pub struct Subscription {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) filters: Filters,
    /// Events of the slot that is being replayed, or that reached the level asked for.
    pub(super) due: VecDeque<Timed>,
    /// Positions to be replayed yet.
    replay: VecDeque<u64>,
    /// Nothing comes before.
    pub(super) resume_at: Duration,
    position: u64,
    cursor: usize,
    script: Option<Arc<Script>>,
    next_ping: Duration,
    pub(super) ended: bool,
}

impl Subscription {
    pub(super) fn try_new(
        endpoint: Arc<Endpoint>,
        now: Duration,
        request: &SubscribeRequest,
    ) -> Result<Self, Status> {
        let mut subscription = Self {
            filters: Filters::try_new(request)?,
            due: VecDeque::new(),
            replay: VecDeque::new(),
            resume_at: now,
            position: endpoint.shared.timeline.position(now),
            cursor: 0,
            script: None,
            next_ping: now,
            ended: false,
            endpoint,
        };
        subscription.join(now);
        if let Some(from_slot) = request.from_slot {
            subscription.start_replay(now, from_slot);
        }
        if let Some(ping) = request.ping {
            subscription.due.push_back(Timed { at: now, event: Event::Pong(ping.id) });
        }
        Ok(subscription)
    }

    /// Takes a further request on the same stream: a ping is answered, anything else replaces the filters and, if it has a
    /// `from_slot`, puts a replay in front of what comes next.
    pub fn update(&mut self, now: Duration, request: &SubscribeRequest) -> Result<(), Status> {
        match request.ping {
            Some(ping) => {
                self.due.push_back(Timed { at: now, event: Event::Pong(ping.id) });
                Ok(())
            }
            None => {
                self.filters = Filters::try_new(request)?;
                if let Some(from_slot) = request.from_slot {
                    self.start_replay(now, from_slot);
                }
                Ok(())
            }
        }
    }

    /// What is due, at most `limit` emissions and those that belong to the last update taken.
    pub fn poll(&mut self, now: Duration, limit: usize) -> Vec<Emission> {
        let mut out = Vec::new();
        self.ping(now, &mut out);
        while out.len() < limit && self.step(now, &mut out) {}
        out
    }

    /// When there will be something again; `None` if never.
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.ended {
            return None;
        }
        let content = if !self.due.is_empty() || !self.replay.is_empty() {
            Some(Duration::ZERO)
        } else {
            self.next_live()
        };
        let next = content.map_or(self.next_ping, |content| content.min(self.next_ping));
        Some(next.max(self.resume_at))
    }

    /// Whether nothing will come any more.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    fn next_live(&self) -> Option<Duration> {
        let timeline = &self.endpoint.shared.timeline;
        let event = self.script.as_ref().and_then(|script| script.events.get(self.cursor));
        let next_slot = timeline.is_played(self.position + 1).then(|| timeline.start(self.position + 1));
        event.map(|timed| timed.at).or(next_slot)
    }

    /// Finds the place in the script at which a subscriber comes in.
    fn join(&mut self, now: Duration) {
        if self.endpoint.shared.timeline.is_played(self.position) {
            let script = self.endpoint.script(self.position);
            self.cursor = script.events.partition_point(|timed| timed.at < now);
            self.script = Some(script);
        }
    }

    /// Replays what is frozen a moment after the live stream begins, so that the seam comes twice.
    fn start_replay(&mut self, now: Duration, from_slot: u64) {
        let endpoint = Arc::clone(&self.endpoint);
        let shared = &endpoint.shared;
        let mut random = shared.plan.random("seam", endpoint.index() as u64, now.as_nanos() as u64);
        let computed = now + shared.timeline.slot_time().mul_f64(random.random_range(0.0..1.0));
        let end = |status: Status| Timed { at: now, event: Event::End(status) };
        if shared.config.replay_window == 0 {
            return self.due.push_back(end(Status::internal("from_slot is not supported")));
        }
        let tip = shared.timeline.reached(computed, self.filters.level());
        let first = tip.and_then(|tip| endpoint.first_position(tip));
        let (Some(tip), Some(first)) = (tip, first) else {
            return self.due.push_back(end(Status::internal("failed to get replay response")));
        };
        let number = |position| shared.ledger.number(position).unwrap_or_default();
        if from_slot > number(tip) {
            self.due.push_back(end(Status::internal("failed to get replay response")));
        } else if from_slot < number(first) {
            let text =
                format!("broadcast from {from_slot} is not available, last available: {}", number(first));
            self.due.push_back(end(Status::out_of_range(text)));
        } else {
            self.resume_at = computed;
            self.replay = (shared.ledger.position_from(from_slot)..=tip).collect();
        }
    }

    fn ping(&mut self, now: Duration, out: &mut Vec<Emission>) {
        if self.ended || now < self.next_ping || now < self.resume_at {
            return;
        }
        let interval = (self.endpoint.shared.timeline.slot_time() * PING_SLOTS).max(MIN_PING_INTERVAL);
        self.next_ping = now + interval;
        let update = UpdateOneof::Ping(SubscribeUpdatePing {});
        out.push(Emission::Frame(frame::update(&[], update, self.unix(now))));
    }

    fn step(&mut self, now: Duration, out: &mut Vec<Emission>) -> bool {
        if self.ended || now < self.resume_at {
            return false;
        }
        if let Some(timed) = self.due.pop_front() {
            self.emit(&timed, out);
            return true;
        }
        if let Some(position) = self.replay.pop_front() {
            self.replay_slot(position, now);
            return true;
        }
        self.step_live(now, out)
    }

    fn step_live(&mut self, now: Duration, out: &mut Vec<Emission>) -> bool {
        let Some(script) = self.script.clone() else { return false };
        if let Some(timed) = script.events.get(self.cursor) {
            if timed.at > now {
                return false;
            }
            self.cursor += 1;
            // Above processed, content comes when its slot reaches the level, not when it is executed.
            if self.filters.level() == Level::Processed || !timed.event.is_version_content() {
                self.emit(timed, out);
            }
            return true;
        }
        let timeline = &self.endpoint.shared.timeline;
        let next = self.position + 1;
        if !timeline.is_played(next) || timeline.start(next) > now {
            return false;
        }
        self.position = next;
        self.cursor = 0;
        self.script = Some(self.endpoint.script(next));
        true
    }

    /// Queues a slot as a replay sends it: content, block, block meta, then the statuses that it has now.
    fn replay_slot(&mut self, position: u64, now: Duration) {
        let shared = Arc::clone(&self.endpoint.shared);
        let Some(slot) = shared.ledger.at(position).filter(|slot| slot.replayable) else { return };
        let reached = |level| shared.timeline.reached(now, level).is_some_and(|tip| tip >= position);
        let at = shared.timeline.start(position);
        for version in slot.versions.iter().filter(|version| version.is_frozen()) {
            let canonical = version.fate == Fate::Canonical;
            if !canonical && (reached(Level::Finalized) || self.filters.level() != Level::Processed) {
                continue;
            }
            let bank = self.endpoint.bank(position, version.ordinal);
            self.queue_content(version, bank, at, self.endpoint.is_poor_replay(position));
            for level in Level::ALL {
                if reached(level) && (canonical || level == Level::Processed) {
                    let status = commitment_status(version, level, bank);
                    self.due.push_back(Timed { at: now, event: Event::Status(status) });
                }
            }
        }
    }

    pub(super) fn queue_content(&mut self, version: &Arc<Version>, bank: u64, at: Duration, poor: bool) {
        let version = &self.endpoint.shown(version);
        let block = &version.block;
        let own = || Arc::clone(version);
        let entries = block.entries.len() - usize::from(poor && !block.entries.is_empty());
        let transactions = block.transactions.len()
            - usize::from(poor && entries == block.entries.len()).min(block.transactions.len());
        let mut events: Vec<Event> = Vec::new();
        events.extend((0..transactions).map(|index| Event::Transaction(own(), bank, index)));
        events.extend(last_writes(&block.accounts).map(|place| Event::Account(own(), bank, place)));
        events.extend((0..entries).map(|place| Event::Entry(own(), bank, place)));
        events.extend([Event::Block(own(), bank), Event::Meta(own(), bank, 0)]);
        self.due.extend(events.into_iter().map(|event| Timed { at, event }));
    }

    pub(super) fn unix(&self, at: Duration) -> Duration {
        self.endpoint.shared.unix(at)
    }
}

pub(super) fn commitment_status(version: &Version, level: Level, bank: u64) -> SlotEvent {
    SlotEvent {
        slot: version.block.slot,
        parent: Some(version.block.parent_slot),
        status: level.status(),
        bank,
        dead_error: None,
    }
}
