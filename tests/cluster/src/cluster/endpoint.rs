//! One Yellowstone endpoint: who may connect, what can be replayed, what the unary calls answer.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::Status;
use yellowstone_grpc_proto::prelude::SubscribeRequest;

use super::Shared;
use super::script::{Script, Writer};
use super::subscription::Subscription;
use super::timeline::Level;
use crate::faults::{ConnectFault, Fault};
use crate::ledger::{Fate, Version};

/// Scripts kept for the subscribers of one endpoint, who are near each other in time.
const KEPT_SCRIPTS: usize = 8;
/// Numbers of banks differ between nodes by about this much.
const BANK_OFFSET: u64 = 1_000_000_000;
/// Banks of one slot, at most; Alpenglow allows 7.
const BANKS_PER_SLOT: u64 = 8;
/// Write versions differ between nodes by about this much.
const WRITE_VERSION_OFFSET: u64 = 7_000_003;
/// Slots for which a blockhash can be used by a transaction.
const BLOCKHASH_SLOTS: u64 = 150;
/// A leader is in charge for so many slots in a row.
const LEADER_SLOTS: u64 = 4;
/// The leader's own node is in charge once in so many turns.
const LEADER_TURNS: u64 = 7;

/// Why a call was turned away.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// A gRPC status.
    Grpc(Status),
    /// An HTTP answer of a proxy in front of the server.
    Http(u16),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Grpc(status)
    }
}

/// A Yellowstone endpoint.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) shared: Arc<Shared>,
    index: usize,
    connects: AtomicU64,
    next_uncounted: AtomicU64,
    scripts: Mutex<VecDeque<(u64, Arc<Script>)>>,
    replays: Mutex<HashMap<u64, u32>>,
}

impl Shared {
    fn is_proto_12(&self, endpoint: usize) -> bool {
        self.config.mixed_servers && endpoint % 3 == 1
    }

    /// How an endpoint numbers a bank; 0 on servers that don't.
    pub(super) fn bank(&self, endpoint: usize, position: u64, ordinal: u8) -> u64 {
        if self.is_proto_12(endpoint) {
            return 0;
        }
        1 + endpoint as u64 * BANK_OFFSET + position * BANKS_PER_SLOT + u64::from(ordinal)
    }
}

impl Shared {
    /// A version as an endpoint shows it: as it is, unless the endpoint lies about it.
    pub(super) fn shown(&self, endpoint: usize, version: &Arc<Version>) -> Arc<Version> {
        let slot = version.block.slot;
        let lie = self.config.lies.iter().find(|(liar, about, _)| (*liar, *about) == (endpoint, slot));
        let Some((_, _, lie)) = lie else { return Arc::clone(version) };
        let mut block = version.block.clone();
        lie.tell(&mut block, &mut self.plan.random("told", endpoint as u64, slot));
        Arc::new(Version::new(block, version.fate.clone(), version.ordinal))
    }
}

impl Endpoint {
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        Self {
            shared,
            index,
            connects: AtomicU64::new(0),
            next_uncounted: AtomicU64::new(0),
            scripts: Mutex::default(),
            replays: Mutex::default(),
        }
    }

    /// Its place among the endpoints.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The version of the protocol that it speaks.
    pub fn proto_version(&self) -> &'static str {
        if self.shared.is_proto_12(self.index) { "12.7.0" } else { "14.0.1" }
    }

    /// Opens a subscription.
    pub fn subscribe(
        self: &Arc<Self>,
        now: Duration,
        request: &SubscribeRequest,
        x_token: Option<&str>,
    ) -> Result<Subscription, Refusal> {
        self.admit(now, x_token)?;
        Ok(self.open(now, request)?)
    }

    /// Whether a stream is let in now: the first half of [`Self::subscribe`], for servers that answer before the
    /// request is read.
    pub fn admit(&self, now: Duration, x_token: Option<&str>) -> Result<(), Refusal> {
        self.check(now, x_token)?;
        let number = self.connects.fetch_add(1, Ordering::Relaxed);
        if let Some(fault) = self.shared.plan.connect(self.index as u64, number) {
            self.shared.plan.count(Fault::Refusal, 1);
            return Err(refusal(fault));
        }
        Ok(())
    }

    /// Opens a subscription on a stream that was let in.
    pub fn open(self: &Arc<Self>, now: Duration, request: &SubscribeRequest) -> Result<Subscription, Status> {
        Subscription::try_new(Arc::clone(self), now, request)
    }

    /// Whether a call is let in now.
    pub fn check(&self, now: Duration, x_token: Option<&str>) -> Result<(), Refusal> {
        let wanted = self.shared.config.x_token.as_deref();
        if wanted.is_some() && wanted != x_token {
            return Err(Status::unauthenticated("No valid auth token").into());
        }
        if self.shared.plan.is_down(self.index as u64, self.shared.timeline.position(now)) {
            return Err(Status::unavailable("server is down").into());
        }
        Ok(())
    }

    /// The first slot that a replay can start with; `None` without replay.
    pub fn first_available(&self, now: Duration) -> Option<u64> {
        let tip = self.shared.timeline.reached(now, Level::Processed)?;
        self.shared.ledger.number(self.first_position(tip)?)
    }

    /// The first position that can be replayed when `tip` is the newest one.
    pub(super) fn first_position(&self, tip: u64) -> Option<u64> {
        let window = self.shared.config.replay_window;
        let first = (window > 0).then(|| (tip + 1).saturating_sub(window))?;
        (first..=tip).find(|&position| self.shared.ledger.at(position).is_some_and(|slot| slot.replayable))
    }

    /// The newest block at a level.
    pub fn newest(&self, now: Duration, level: Level) -> Option<Arc<Version>> {
        let tip = self.shared.timeline.reached(now, level)?;
        let canonical = |position| self.shared.ledger.at(position)?.canonical().cloned();
        (0..=tip).rev().find_map(canonical)
    }

    /// Whether a transaction may still name a blockhash, and the slot that this holds for.
    pub fn is_blockhash_valid(&self, now: Duration, blockhash: &str, level: Level) -> Option<(u64, bool)> {
        let newest = self.newest(now, level)?.block.slot;
        let tip = self.shared.timeline.reached(now, level)?;
        let has = |position| {
            self.shared
                .ledger
                .at(position)
                .and_then(|slot| slot.canonical().cloned())
                .is_some_and(|version| version.block.blockhash == blockhash)
        };
        Some((newest, (tip.saturating_sub(BLOCKHASH_SLOTS)..=tip).any(has)))
    }

    /// The script of a slot's time.
    pub(super) fn script(&self, position: u64) -> Arc<Script> {
        let mut kept = lock(&self.scripts);
        if let Some((_, script)) = kept.iter().find(|(one, _)| *one == position) {
            return Arc::clone(script);
        }
        let counts = self.next_uncounted.fetch_max(position + 1, Ordering::Relaxed) <= position;
        let writer = Writer { shared: &self.shared, endpoint: self.index, counts };
        let script = Arc::new(writer.write(position));
        if kept.len() == KEPT_SCRIPTS {
            kept.pop_front();
        }
        kept.push_back((position, Arc::clone(&script)));
        script
    }

    /// Whether this replay of a slot lacks something; asked once for each replay.
    pub(super) fn is_poor_replay(&self, position: u64) -> bool {
        let mut replays = lock(&self.replays);
        let number = replays.entry(position).or_default();
        let poor = self.shared.plan.is_poor_replay(self.index as u64, position, *number);
        *number = number.saturating_add(1);
        if poor {
            self.shared.plan.count(Fault::PoorReplay, 1);
        }
        poor
    }

    pub(super) fn shown(&self, version: &Arc<Version>) -> Arc<Version> {
        self.shared.shown(self.index, version)
    }

    pub(super) fn bank(&self, position: u64, ordinal: u8) -> u64 {
        self.shared.bank(self.index, position, ordinal)
    }

    /// What this node adds to the ledger's write versions.
    pub(super) fn write_version_offset(&self) -> u64 {
        self.index as u64 * WRITE_VERSION_OFFSET
    }

    /// The entries that this node's block meta tells: none for blocks that it produced itself.
    pub(super) fn told_entries(&self, version: &Version) -> u64 {
        let turn = version.block.slot / LEADER_SLOTS;
        let own =
            self.shared.config.mixed_servers && self.index % 3 == 2 && turn.is_multiple_of(LEADER_TURNS);
        if own && version.fate != Fate::Reset { 0 } else { version.block.told_entries }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only caches and counters are behind these locks; they are sound at each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refusal(fault: ConnectFault) -> Refusal {
    match fault {
        ConnectFault::Unavailable => Status::unavailable("connection refused by upstream").into(),
        ConnectFault::Unauthenticated => Status::unauthenticated("No valid auth token").into(),
        ConnectFault::TooMany => Status::resource_exhausted("too many subscriptions").into(),
        ConnectFault::Http(code) => Refusal::Http(code),
    }
}
