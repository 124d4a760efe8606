//! One endpoint's source: the program's own connection logic over a simulated link. What the real source's shell does
//! with sockets, this does with virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rand::Rng;
use rand::rngs::StdRng;
use sluice_cluster::{Emission, Refusal, Subscription};
use sluice_stages::batch::{Batch, EndpointId, Item, Scope, Session, SessionId, Torn, Update};
use sluice_stages::frame::{Frame, Kind};
use sluice_stages::yellowstone::connection::{Connection, Step, Watch};
use sluice_stages::yellowstone::{Failure, FailureKind, YellowstoneOptions, request};
use tonic::Status;
use yellowstone_grpc_proto::prelude::SubscribeUpdate;
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;

use super::mutant::Mutant;
use super::scenario::{LinkHabits, Scenario};
use super::timestamp;
use super::world::World;

/// Reads of one look, at most: a bound, for a stream that never runs dry.
const MAX_READS: usize = 10_000;

/// A subscription while it lasts.
struct Live {
    id: SessionId,
    subscription: Subscription,
    /// It was made in the calm.
    is_calm: bool,
}

pub(super) struct Link {
    endpoint: EndpointId,
    options: YellowstoneOptions,
    scope: Scope,
    habits: LinkHabits,
    connection: Connection,
    live: Option<Live>,
    was_open: bool,
    /// When it is looked at next.
    pub(super) due: Duration,
    random: StdRng,
    mutant: Option<Mutant>,
    /// Transactions of each bank so far, for the mutant that trusts block metas.
    counts: BTreeMap<(u64, u64), u64>,
}

impl Link {
    pub(super) fn new(
        scenario: &Scenario,
        endpoint: EndpointId,
        mutant: Option<Mutant>,
        mut random: StdRng,
    ) -> Self {
        let options = scenario.subscription.clone();
        Self {
            endpoint,
            scope: options.scope(),
            habits: scenario.links[usize::from(endpoint)],
            connection: Connection::new(options.policy(), random.random()),
            options,
            live: None,
            was_open: false,
            due: scenario.joins_at,
            random,
            mutant,
            counts: BTreeMap::new(),
        }
    }

    /// Looks at the link; returns what came, in batches.
    pub(super) fn step(&mut self, now: Duration, world: &World) -> Vec<Batch> {
        self.due = now + self.habits.poll_interval;
        let mut out = Vec::new();
        if self.live.is_none() {
            self.connect(now, world, &mut out);
        } else if self.is_cut(now, world) {
            self.close(now, FailureKind::Unavailable, &mut out);
        } else {
            self.read(now, world, &mut out);
        }
        out
    }

    /// Whether the storm, in which the session began, is over.
    fn is_cut(&self, now: Duration, world: &World) -> bool {
        self.live.as_ref().is_some_and(|live| live.is_calm != world.is_calm(now))
    }

    fn connect(&mut self, now: Duration, world: &World, out: &mut Vec<Batch>) {
        match self.connection.step(timestamp(now)) {
            Step::Wait(wait) => self.due = now + wait,
            Step::Connect => {
                let request = request::subscribe(&self.options, None);
                match world.endpoint(now, usize::from(self.endpoint)).subscribe(now, &request, None) {
                    Ok(subscription) => self.open(now, world, subscription, out),
                    Err(refusal) => {
                        let wait = self.connection.on_ended(timestamp(now), refusal_kind(&refusal));
                        self.due = now + wait;
                    }
                }
            }
        }
    }

    fn open(&mut self, now: Duration, world: &World, subscription: Subscription, out: &mut Vec<Batch>) {
        let mut number = self.connection.on_opened(timestamp(now));
        if self.mutant == Some(Mutant::HidesReconnects) {
            number = 1;
        }
        let id = SessionId { endpoint: self.endpoint, number };
        self.live = Some(Live { id, subscription, is_calm: world.is_calm(now) });
        self.counts.clear();
        let endpoint = Arc::from(format!("endpoint {}", self.endpoint));
        let opened =
            Session::Opened { id, endpoint, scope: self.scope, torn: Torn::new(), at: timestamp(now) };
        if self.mutant != Some(Mutant::HidesReconnects) || !self.was_open {
            out.push(vec![Item::Session(opened)]);
        }
        self.was_open = true;
    }

    fn close(&mut self, now: Duration, kind: FailureKind, out: &mut Vec<Batch>) {
        let Some(live) = self.live.take() else { return };
        if self.mutant != Some(Mutant::HidesReconnects) {
            out.push(vec![Item::Session(Session::Closed { id: live.id, at: timestamp(now) })]);
        }
        let wait = self.connection.on_ended(timestamp(now), kind);
        self.due = now + wait;
    }

    fn read(&mut self, now: Duration, world: &World, out: &mut Vec<Batch>) {
        match self.connection.watch(timestamp(now)) {
            Watch::GiveUp(kind) => return self.close(now, kind, out),
            Watch::Ping(id) => self.ping(now, id),
            Watch::Fine(_) => {}
        }
        let is_calm = self.live.as_ref().is_some_and(|live| live.is_calm);
        if !is_calm && self.random.random_bool(self.habits.clog_rate) {
            let until = now + self.habits.clog.mul_f64(self.random.random_range(0.0..=1.0));
            self.due = until.min(world.calm_at.max(now + self.habits.poll_interval));
            return;
        }
        let breaks = !is_calm && self.random.random_bool(self.habits.break_rate);
        let sent = now.saturating_sub(self.habits.latency);
        for _ in 0..MAX_READS {
            let limit = self.random.random_range(1..=self.habits.batch_updates);
            let Some(live) = &mut self.live else { return };
            let mut emissions = live.subscription.poll(sent, limit);
            let is_dry = emissions.is_empty();
            if breaks && (is_dry || self.random.random_bool(0.5)) {
                emissions.truncate(self.random.random_range(0..=emissions.len()));
                self.take(now, emissions, out);
                return self.close(now, FailureKind::Unavailable, out);
            }
            if is_dry {
                return;
            }
            self.take(now, emissions, out);
        }
    }

    fn ping(&mut self, now: Duration, id: i32) {
        let Some(live) = &mut self.live else { return };
        // The same filters go with a ping, so it can't be refused.
        let answered = live.subscription.update(now, &request::ping(&self.options, id));
        debug_assert!(answered.is_ok());
    }

    fn take(&mut self, now: Duration, emissions: Vec<Emission>, out: &mut Vec<Batch>) {
        let Some(id) = self.live.as_ref().map(|live| live.id) else { return };
        let (mut batch, mut highest, mut pinged, mut end) = (Batch::new(), 0, false, None);
        let received_at = timestamp(now);
        let heard = !emissions.is_empty();
        for emission in emissions {
            match emission {
                Emission::Frame(bytes) => {
                    let Ok(frame) = Frame::try_new(self.mutate(bytes)) else { continue };
                    highest = highest.max(frame.header.slot);
                    match frame.header.kind {
                        Kind::Ping => pinged = true,
                        Kind::Pong => {}
                        _ => {
                            batch.push(Item::Update(Update { frame, session: id, received_at, lease: None }))
                        }
                    }
                }
                Emission::End(status) => end = Some(Failure::from_status(&status).kind),
                Emission::Close => end = Some(FailureKind::Ended),
                Emission::Hang => {}
            }
        }
        if heard {
            self.connection.on_messages(received_at, highest);
        }
        if pinged {
            let id = self.connection.on_ping(received_at);
            self.ping(now, id);
        }
        if !batch.is_empty() {
            out.push(batch);
        }
        if let Some(kind) = end {
            self.close(now, kind, out);
        }
    }

    /// The mutant that trusts block metas sees counts that are always reached.
    fn mutate(&mut self, bytes: Bytes) -> Bytes {
        if self.mutant != Some(Mutant::TrustsBlockMetas) {
            return bytes;
        }
        let Ok(mut update) = SubscribeUpdate::decode(bytes.clone()) else { return bytes };
        match &mut update.update_oneof {
            Some(UpdateOneof::Transaction(one)) => {
                let index = one.transaction.as_ref().map_or(0, |info| info.index);
                let count = self.counts.entry((one.slot, one.bank_id)).or_default();
                *count = (*count).max(index + 1);
            }
            Some(UpdateOneof::BlockMeta(meta)) => {
                let count = self.counts.get(&(meta.slot, meta.bank_id)).copied();
                meta.executed_transaction_count = count.unwrap_or_default();
            }
            _ => return bytes,
        }
        Bytes::from(update.encode_to_vec())
    }
}

/// What a refused connect means to the program.
pub(super) fn refusal_kind(refusal: &Refusal) -> FailureKind {
    match refusal {
        Refusal::Grpc(status) => Failure::from_status(status).kind,
        Refusal::Http(code) => Failure::from_status(&Status::unavailable(format!("HTTP {code}"))).kind,
    }
}
