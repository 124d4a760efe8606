//! The Yellowstone source: carries out what [`super::connection`] decides.
//!
//! In: the stream of one endpoint. Out: a [`Session::Opened`], the session's updates in the order in which they came,
//! and a [`Session::Closed`], again and again until asked to stop. Pings and pongs go no further. An update that can't be
//! read is counted (`source_malformed_total`, `source_unknown_total`) and reported, and the stream goes on.
//!
//! The loop is hot: there is one clock reading, one memory lease and one send for each batch, and nothing but the scan
//! and a reference count for each update.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::client::{self, Read, Subscription};
use super::connection::{Connection, Step, Watch};
use super::failure::{Failure, FailureKind};
use crate::batch::{Batch, Item, Scope, Session, SessionId, Update};
use crate::component::Endpoint;
use crate::edge::Outbox;
use crate::frame::{Frame, FrameError, Kind};
use crate::node::{NodeContext, NodeError, Source};
use crate::slot::Timestamp;
use crate::stage::{Event, Metric};

/// Time between two looks at the metrics.
const METRICS_INTERVAL: Duration = Duration::from_millis(500);

/// How long a stopping source tries to tell the nodes downstream, which may be blocked, that its session is over; the
/// end of its edges tells them anyway.
const LAST_WORD: Duration = Duration::from_millis(100);

/// One endpoint's source.
pub struct YellowstoneSource {
    endpoint: Endpoint,
    scope: Scope,
}

impl YellowstoneSource {
    /// A source of `endpoint`, whose filters amount to `scope`.
    pub fn new(endpoint: Endpoint, scope: Scope) -> Self {
        Self { endpoint, scope }
    }
}

impl Source for YellowstoneSource {
    fn run(
        self: Box<Self>,
        outbox: Outbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move {
            match Run::new(*self, outbox, context).run().await {
                Err(Halt::Stopped) => Ok(()),
                Err(Halt::Failed(error)) => Err(error),
                Ok(never) => match never {},
            }
        })
    }
}

/// Why a source ends.
enum Halt {
    /// It was asked to.
    Stopped,
    /// It can't go on.
    Failed(NodeError),
}

/// Nothing: a source runs until it is halted.
enum Never {}

/// What the source has seen; shown on its board.
#[derive(Debug, Default)]
struct Counters {
    updates: [u64; Kind::ALL.len()],
    bytes: u64,
    malformed: u64,
    unknown: u64,
    sessions: u64,
    ends: BTreeMap<&'static str, u64>,
}

struct Run {
    endpoint: Endpoint,
    scope: Scope,
    outbox: Outbox,
    context: NodeContext,
    connection: Connection,
    counters: Counters,
    shown_at: Timestamp,
}

/// A session while it lasts.
struct Live {
    id: SessionId,
    subscription: Subscription,
    raw: Vec<Bytes>,
}

impl Run {
    fn new(source: YellowstoneSource, outbox: Outbox, context: NodeContext) -> Self {
        let connection = Connection::new(source.endpoint.options.policy(), rand::random());
        let YellowstoneSource { endpoint, scope } = source;
        let shown_at = Timestamp::default();
        Self { endpoint, scope, outbox, context, connection, counters: Counters::default(), shown_at }
    }

    async fn run(mut self) -> Result<Never, Halt> {
        loop {
            match self.connection.step(self.context.clock.now()) {
                Step::Wait(wait) => self.unless_stopped(tokio::time::sleep(wait)).await?,
                Step::Connect => {
                    let endpoint = self.endpoint.clone();
                    let failure = match self.unless_stopped(open(&endpoint)).await? {
                        Ok(subscription) => self.session(subscription).await?,
                        Err(failure) => failure,
                    };
                    self.on_failure(failure);
                }
            }
        }
    }

    /// Runs a session to its end.
    async fn session(&mut self, subscription: Subscription) -> Result<Failure, Halt> {
        let now = self.context.clock.now();
        let number = self.connection.on_opened(now);
        let id = SessionId { endpoint: self.endpoint.id, number };
        self.counters.sessions += 1;
        self.context.events.report(Event::Connected { endpoint: id.endpoint });
        self.show_metrics(now);
        let opened = Session::Opened { id, endpoint: self.endpoint.name.clone(), scope: self.scope, at: now };
        self.send(vec![Item::Session(opened)]).await?;
        let mut live = Live { id, subscription, raw: Vec::new() };
        let ended = self.read(&mut live).await;
        // Frees the server's side at once, before anything downstream is waited for.
        drop(live);
        let closed = vec![Item::Session(Session::Closed { id, at: self.context.clock.now() })];
        match ended {
            Ok(failure) => {
                self.send(closed).await?;
                Ok(failure)
            }
            Err(Halt::Stopped) => {
                let now = self.context.clock.now();
                self.connection.on_ended(now, FailureKind::Ended);
                self.show_metrics(now);
                if tokio::time::timeout(LAST_WORD, self.outbox.send(closed)).await.is_err() {
                    tracing::debug!(node = %self.context.name, "stopped while downstream was blocked");
                }
                Err(Halt::Stopped)
            }
            Err(halt) => Err(halt),
        }
    }

    /// Reads and hands on until the session ends.
    async fn read(&mut self, live: &mut Live) -> Result<Failure, Halt> {
        loop {
            let pause = match self.connection.watch(self.context.clock.now()) {
                Watch::GiveUp(kind) => return Ok(Failure::of(kind)),
                Watch::Ping(id) => {
                    self.ping(live, id);
                    continue;
                }
                Watch::Fine(pause) => pause.min(METRICS_INTERVAL),
            };
            let read = tokio::select! {
                biased;
                () = self.context.stop.cancelled() => return Err(Halt::Stopped),
                read = live.subscription.read(&mut live.raw) => read,
                () = tokio::time::sleep(pause) => {
                    self.show_metrics(self.context.clock.now());
                    continue;
                }
            };
            self.hand_on(live).await?;
            match read {
                Ok(Read::More) => {}
                Ok(Read::Over(failure)) => return Ok(failure),
                Err(status) => return Ok(client::failure(&status, &self.endpoint.options)),
            }
        }
    }

    /// Takes memory for what was read, scans it and sends it.
    async fn hand_on(&mut self, live: &mut Live) -> Result<(), Halt> {
        if live.raw.is_empty() {
            return Ok(());
        }
        let now = self.context.clock.now();
        let bytes = live.raw.iter().map(Bytes::len).sum();
        self.counters.bytes += bytes as u64;
        let lease = match self.context.budget.try_lease(bytes) {
            Some(lease) => lease,
            None => {
                let budget = Arc::clone(&self.context.budget);
                self.unless_stopped(budget.lease(bytes)).await?
            }
        };
        let template = Template { session: live.id, received_at: now, lease: Some(lease) };
        let batch = self.scan(live, &template);
        self.send(batch).await?;
        let after = self.context.clock.now();
        self.connection.on_blocked(after.since(now));
        if after.since(self.shown_at) >= METRICS_INTERVAL {
            self.show_metrics(after);
        }
        Ok(())
    }

    fn scan(&mut self, live: &mut Live, template: &Template) -> Batch {
        let mut batch = Batch::with_capacity(live.raw.len());
        let (mut highest, mut pinged) = (0, false);
        for bytes in live.raw.drain(..) {
            match Frame::try_new(bytes) {
                Ok(frame) => {
                    let header = &frame.header;
                    self.counters.updates[position(header.kind)] += 1;
                    highest = highest.max(header.slot);
                    match header.kind {
                        Kind::Ping => pinged = true,
                        Kind::Pong => {}
                        _ => batch.push(Item::Update(template.update(frame))),
                    }
                }
                Err(error) => self.on_malformed(error),
            }
        }
        self.connection.on_messages(template.received_at, highest);
        if pinged {
            let id = self.connection.on_ping(template.received_at);
            self.ping(live, id);
        }
        batch
    }

    #[cold]
    fn on_malformed(&mut self, error: FrameError) {
        match error {
            FrameError::UnknownKind(_) => self.counters.unknown += 1,
            FrameError::Wire(_) | FrameError::Empty => self.counters.malformed += 1,
        }
        let reason = error.to_string();
        self.context.events.report(Event::Malformed { endpoint: self.endpoint.id, slot: None, reason });
    }

    fn on_failure(&mut self, failure: Failure) {
        let now = self.context.clock.now();
        let wait = self.connection.on_ended(now, failure.kind);
        *self.counters.ends.entry(failure.kind.name()).or_default() += 1;
        let reason = format!("{failure}; next try in {} ms", wait.as_millis());
        self.context.events.report(Event::Disconnected { endpoint: self.endpoint.id, reason });
        self.show_metrics(now);
    }

    fn ping(&self, live: &Live, id: i32) {
        if !live.subscription.ping(&self.endpoint.options, id) {
            tracing::debug!(node = %self.context.name, "the server does not take requests, ping left out");
        }
    }

    async fn send(&self, batch: Batch) -> Result<(), Halt> {
        let sent = self.unless_stopped(self.outbox.send(batch)).await?;
        sent.map_err(|closed| Halt::Failed(closed.into()))
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => Err(Halt::Stopped),
            done = work => Ok(done),
        }
    }

    fn show_metrics(&mut self, now: Timestamp) {
        self.shown_at = now;
        let (counters, connection) = (&self.counters, &self.connection);
        self.context.metrics.show(|show| {
            for kind in Kind::ALL {
                let count = counters.updates[position(kind)];
                show(Metric::new("source_updates_total", count).with("kind", kind.name()));
            }
            show(Metric::new("source_bytes_total", counters.bytes));
            show(Metric::new("source_malformed_total", counters.malformed));
            show(Metric::new("source_unknown_total", counters.unknown));
            show(Metric::new("source_sessions_total", counters.sessions));
            for (&reason, &count) in &counters.ends {
                show(Metric::new("source_disconnects_total", count).with("reason", reason));
            }
            show(Metric::new("source_connected", u64::from(connection.is_open())));
            show(Metric::new("source_tip_slot", connection.tip()));
        });
    }
}

/// What all updates of a batch share.
struct Template {
    session: SessionId,
    received_at: Timestamp,
    lease: Option<Arc<crate::budget::Lease>>,
}

impl Template {
    #[inline]
    fn update(&self, frame: Frame) -> Update {
        Update { frame, session: self.session, received_at: self.received_at, lease: self.lease.clone() }
    }
}

/// Position of a kind among the counters.
#[inline]
fn position(kind: Kind) -> usize {
    kind as usize
}

async fn open(endpoint: &Endpoint) -> Result<Subscription, Failure> {
    let channel = client::connect(&endpoint.options).await?;
    client::subscribe(channel, &endpoint.options, None).await
}
