//! One subscriber of one endpoint: replay first, then the live script, both through the subscriber's filters.
//!
//! Nothing is dropped for a slow subscriber: what it has not taken yet stays in the script, and comes when it polls.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use tonic::Status;
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude::{
    SlotStatus, SubscribeRequest, SubscribeUpdateAccount, SubscribeUpdateAccountInfo, SubscribeUpdateBlock,
    SubscribeUpdatePing, SubscribeUpdatePong, SubscribeUpdateSlot, SubscribeUpdateTransactionInfo,
    SubscribeUpdateTransactionStatus,
};

use super::endpoint::Endpoint;
use super::filter::{BlockFilter, Filters};
use super::frame;
use super::script::{Event, Script, SlotEvent, Timed};
use super::timeline::Level;
use crate::ledger::{Fate, LedgerSlot, RecordedFrame, Version};

/// Slots from ping to ping: ten seconds of mainnet's.
const PING_SLOTS: u32 = 25;
/// Pings are not sent more often, however fast the slots are.
const MIN_PING_INTERVAL: Duration = Duration::from_millis(100);
/// More than the 4 MiB that gRPC clients take by default.
const OVERSIZE_BYTES: usize = 5 << 20;

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
    endpoint: Arc<Endpoint>,
    filters: Filters,
    /// Events of the slot that is being replayed, or that reached the level asked for.
    due: VecDeque<Timed>,
    /// Positions to be replayed yet.
    replay: VecDeque<u64>,
    /// Nothing comes before.
    resume_at: Duration,
    position: u64,
    cursor: usize,
    script: Option<Arc<Script>>,
    next_ping: Duration,
    ended: bool,
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

    /// Takes a further request on the same stream: a ping is answered, anything else replaces the filters. Its `from_slot` has no
    /// effect.
    pub fn update(&mut self, now: Duration, request: &SubscribeRequest) -> Result<(), Status> {
        match request.ping {
            Some(ping) => {
                self.due.push_back(Timed { at: now, event: Event::Pong(ping.id) });
                Ok(())
            }
            None => {
                self.filters = Filters::try_new(request)?;
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
        let number = |position| shared.ledger.at(position).map(|slot| slot.slot).unwrap_or_default();
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

    fn queue_content(&mut self, version: &Arc<Version>, bank: u64, at: Duration, poor: bool) {
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

    fn emit(&mut self, timed: &Timed, out: &mut Vec<Emission>) {
        let at = self.unix(timed.at);
        match &timed.event {
            Event::End(status) => self.end(Emission::End(status.clone()), out),
            Event::Close => self.end(Emission::Close, out),
            Event::Hang => self.end(Emission::Hang, out),
            Event::Stall(slots) => {
                self.resume_at = timed.at + self.endpoint.shared.timeline.slot_time() * *slots;
            }
            Event::Garbage(noise) => out.push(Emission::Frame(garbage(*noise))),
            Event::Oversize => {
                let ping = UpdateOneof::Ping(SubscribeUpdatePing {});
                out.push(Emission::Frame(frame::padded(ping, at, OVERSIZE_BYTES)));
            }
            Event::Pong(id) => {
                let pong = UpdateOneof::Pong(SubscribeUpdatePong { id: *id });
                out.push(Emission::Frame(frame::update(&[], pong, at)));
            }
            Event::Status(status) => self.emit_status(status, at, out),
            Event::Reached(slot, level, bank) => self.emit_reached(slot, *level, *bank, timed.at),
            Event::Recorded(slot, place) => self.emit_recorded(&slot.frames[*place], timed.at, out),
            content => self.emit_content(content, at, out),
        }
    }

    fn end(&mut self, emission: Emission, out: &mut Vec<Emission>) {
        self.ended = true;
        out.push(emission);
    }

    fn emit_status(&self, event: &SlotEvent, at: Duration, out: &mut Vec<Emission>) {
        let names = self.filters.for_slot(event.status);
        if names.is_empty() {
            return;
        }
        let update = UpdateOneof::Slot(SubscribeUpdateSlot {
            slot: event.slot,
            parent: event.parent,
            status: event.status as i32,
            dead_error: event.dead_error.clone(),
            bank_id: (event.bank != 0).then_some(event.bank),
        });
        out.push(Emission::Frame(frame::update(&names, update, at)));
    }

    /// Above processed, a slot's content comes when the slot reaches the level, then its status.
    fn emit_reached(&mut self, slot: &LedgerSlot, level: Level, bank: u64, at: Duration) {
        let Some(version) = slot.canonical() else { return };
        if self.filters.level() == level {
            self.queue_content(version, bank, at, false);
        }
        self.due.push_back(Timed { at, event: Event::Status(commitment_status(version, level, bank)) });
    }

    fn emit_recorded(&mut self, recorded: &RecordedFrame, at: Duration, out: &mut Vec<Emission>) {
        let processed = self.filters.level() == Level::Processed;
        let names = match &recorded.update {
            UpdateOneof::Slot(update) => {
                self.reach_recorded(update, at);
                let status = SlotStatus::try_from(update.status).unwrap_or(SlotStatus::SlotProcessed);
                self.filters.for_slot(status)
            }
            _ if !processed => return,
            UpdateOneof::Transaction(update) => {
                let Some(info) = &update.transaction else { return };
                self.emit_transaction_status(info, update.slot, update.bank_id, self.unix(at), out);
                self.filters.for_transaction(info)
            }
            UpdateOneof::Account(update) => {
                let Some(account) = &update.account else { return };
                if self.filters.has_slices() {
                    let bank = update.bank_id.unwrap_or_default();
                    return self.emit_account(account.clone(), update.slot, bank, self.unix(at), out);
                }
                self.filters.for_account(account)
            }
            UpdateOneof::Entry(_) => self.filters.for_entry(),
            UpdateOneof::BlockMeta(meta) => {
                self.emit_recorded_block(meta.slot, self.unix(at), out);
                self.filters.for_meta()
            }
            _ => Vec::new(),
        };
        if !names.is_empty() {
            out.push(Emission::Frame(frame::recorded(&names, &recorded.body)));
        }
    }

    /// Content of a recorded slot, for subscribers above processed, when the recording tells the level.
    fn reach_recorded(&mut self, update: &SubscribeUpdateSlot, at: Duration) {
        let level = self.filters.level();
        if level == Level::Processed || update.status != level.status() as i32 {
            return;
        }
        let slot = self.endpoint.shared.ledger.slot(update.slot).filter(|slot| slot.replayable);
        if let Some(version) = slot.as_ref().and_then(|slot| slot.canonical()) {
            self.queue_content(version, update.bank_id.unwrap_or_default(), at, false);
        }
    }

    fn emit_recorded_block(&self, slot: u64, at: Duration, out: &mut Vec<Emission>) {
        if self.filters.blocks.is_empty() {
            return;
        }
        let slot = self.endpoint.shared.ledger.slot(slot);
        if let Some(version) = slot.as_ref().and_then(|slot| slot.canonical()) {
            self.emit_block(version, 0, at, out);
        }
    }

    fn emit_content(&self, event: &Event, at: Duration, out: &mut Vec<Emission>) {
        match event {
            Event::Transaction(version, bank, index) => {
                self.emit_transaction(version, *bank, *index, at, out)
            }
            Event::Entry(version, bank, place) => {
                let names = self.filters.for_entry();
                if !names.is_empty() {
                    let entry = yellowstone_grpc_proto::prelude::SubscribeUpdateEntry {
                        bank_id: *bank,
                        ..version.block.entries[*place].clone()
                    };
                    out.push(Emission::Frame(frame::update(&names, UpdateOneof::Entry(entry), at)));
                }
            }
            Event::Account(version, bank, place) => {
                let mut account = version.block.accounts[*place].clone();
                account.write_version += self.endpoint.write_version_offset();
                self.emit_account(account, version.block.slot, *bank, at, out);
            }
            Event::Block(version, bank) => self.emit_block(version, *bank, at, out),
            Event::Meta(version, bank, skew) => {
                let names = self.filters.for_meta();
                if !names.is_empty() {
                    let mut meta = version.block.meta(*bank);
                    meta.entries_count = self.endpoint.told_entries(version);
                    meta.executed_transaction_count =
                        meta.executed_transaction_count.saturating_add_signed(*skew);
                    out.push(Emission::Frame(frame::update(&names, UpdateOneof::BlockMeta(meta), at)));
                }
            }
            _ => {}
        }
    }

    fn emit_transaction(
        &self,
        version: &Version,
        bank: u64,
        index: usize,
        at: Duration,
        out: &mut Vec<Emission>,
    ) {
        let block = &version.block;
        let info = &block.transactions[index];
        self.emit_transaction_status(info, block.slot, bank, at, out);
        let names = self.filters.for_transaction(info);
        if !names.is_empty() {
            let encoded = &version.encoded_transactions()[index];
            out.push(Emission::Frame(frame::transaction(&names, encoded, block.slot, bank, at)));
        }
    }

    fn emit_transaction_status(
        &self,
        info: &SubscribeUpdateTransactionInfo,
        slot: u64,
        bank_id: u64,
        at: Duration,
        out: &mut Vec<Emission>,
    ) {
        let names = self.filters.for_transaction_status(info);
        if names.is_empty() {
            return;
        }
        let update = UpdateOneof::TransactionStatus(SubscribeUpdateTransactionStatus {
            slot,
            signature: info.signature.clone(),
            is_vote: info.is_vote,
            index: info.index,
            err: info.meta.as_ref().and_then(|meta| meta.err.clone()),
            bank_id,
        });
        out.push(Emission::Frame(frame::update(&names, update, at)));
    }

    fn emit_account(
        &self,
        mut account: SubscribeUpdateAccountInfo,
        slot: u64,
        bank: u64,
        at: Duration,
        out: &mut Vec<Emission>,
    ) {
        let names = self.filters.for_account(&account);
        if names.is_empty() {
            return;
        }
        account.data = self.filters.slice(&account.data);
        let update = UpdateOneof::Account(SubscribeUpdateAccount {
            account: Some(account),
            slot,
            is_startup: false,
            bank_id: (bank != 0).then_some(bank),
        });
        out.push(Emission::Frame(frame::update(&names, update, at)));
    }

    /// One message for each block filter.
    fn emit_block(&self, version: &Version, bank: u64, at: Duration, out: &mut Vec<Emission>) {
        for (name, filter) in &self.filters.blocks {
            let update = UpdateOneof::Block(self.block_update(version, bank, filter));
            out.push(Emission::Frame(frame::update(&[name], update, at)));
        }
    }

    fn block_update(&self, version: &Version, bank: u64, filter: &BlockFilter) -> SubscribeUpdateBlock {
        let block = &version.block;
        let meta = block.meta(bank);
        let transactions = block.transactions.iter().filter(|info| filter.wants_transaction(info));
        let accounts = last_writes(&block.accounts).map(|place| &block.accounts[place]);
        let accounts = accounts.filter(|account| filter.wants_account(account)).cloned();
        let sliced = accounts.map(|mut account| {
            account.data = self.filters.slice(&account.data);
            account.write_version += self.endpoint.write_version_offset();
            account
        });
        SubscribeUpdateBlock {
            slot: meta.slot,
            blockhash: meta.blockhash,
            rewards: meta.rewards,
            block_time: meta.block_time,
            block_height: meta.block_height,
            parent_slot: meta.parent_slot,
            parent_blockhash: meta.parent_blockhash,
            executed_transaction_count: meta.executed_transaction_count,
            transactions: if filter.transactions { transactions.cloned().collect() } else { Vec::new() },
            updated_account_count: last_writes(&block.accounts).count() as u64,
            accounts: if filter.accounts { sliced.collect() } else { Vec::new() },
            entries_count: self.endpoint.told_entries(version),
            entries: if filter.entries { block.entries.clone() } else { Vec::new() },
            bank_id: bank,
        }
    }

    fn unix(&self, at: Duration) -> Duration {
        self.endpoint.shared.config.unix_start + at
    }
}

fn commitment_status(version: &Version, level: Level, bank: u64) -> SlotEvent {
    SlotEvent {
        slot: version.block.slot,
        parent: Some(version.block.parent_slot),
        status: level.status(),
        bank,
        dead_error: None,
    }
}

/// The places of each account's last write, ascending.
fn last_writes(accounts: &[SubscribeUpdateAccountInfo]) -> impl Iterator<Item = usize> {
    let mut last: HashMap<&[u8], (u64, usize)> = HashMap::new();
    for (place, account) in accounts.iter().enumerate() {
        let newest = last.entry(&account.pubkey).or_insert((account.write_version, place));
        if account.write_version >= newest.0 {
            *newest = (account.write_version, place);
        }
    }
    let mut places: Vec<usize> = last.into_values().map(|(_, place)| place).collect();
    places.sort_unstable();
    places.into_iter()
}

/// Bytes that no protobuf reader takes: a length that reaches beyond the end.
fn garbage(noise: u64) -> Bytes {
    let mut bytes = vec![0x22, 0xff, 0x7f];
    bytes.extend(noise.to_le_bytes());
    Bytes::from(bytes)
}
