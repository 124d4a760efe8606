//! One endpoint's task: carries out what [`super::connection`] decides and what its group orders.
//!
//! While its order is active, a session's updates go on in the order in which they came, between a [`Session::Opened`] and
//! a [`Session::Closed`]. While it stands by, only the slots are looked at and nothing goes on. A promotion sends the full
//! subscription along the stream that is open, with a replay of the last slots where the server has them; the session
//! begins with the first update that names the new request and says which slots were being executed then, so that nothing
//! is taken for complete that was asked for too late. Pings and pongs go no further. An update that can't be
//! read is counted (`source_malformed_total`, `source_unknown_total`) and reported, and the stream goes on.
//!
//! The loop is hot: there is one clock reading, one memory lease and one send for each batch, and nothing but the scan
//! and a reference count for each update.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::client::{self, Read, Subscription};
use super::connection::{Connection, Step, Watch};
use super::crew::{Counters, Crew};
use super::failure::{Failure, FailureKind};
use super::group::{Duty, Order};
use super::live::{Banks, End, Live, Passing, Template, names, open};
use super::request;
use crate::batch::{Batch, Item, Session, SessionId, Torn, Want};
use crate::component::Endpoint;
use crate::frame::{Frame, FrameError, Kind};
use crate::node::NodeError;
use crate::slot::{Slot, Timestamp};
use crate::stage::Event;

/// Time between two looks at the metrics.
const METRICS_INTERVAL: Duration = Duration::from_millis(500);

/// How long a stopping source tries to tell the nodes downstream, which may be blocked, that its session is over; the
/// end of its edges tells them anyway.
const LAST_WORD: Duration = Duration::from_millis(100);

/// How long a server may take to answer a new request along an open stream, beside two round trips, before the stream is
/// opened anew.
const SWITCH_PATIENCE: Duration = Duration::from_millis(500);

/// Why a task ends.
enum Halt {
    /// It was asked to.
    Stopped,
    /// It can't go on.
    Failed(NodeError),
}

/// Nothing: a task runs until it is halted.
enum Never {}

/// One endpoint's task.
pub(super) struct Subscriber {
    crew: Arc<Crew>,
    place: usize,
    endpoint: Endpoint,
    orders: watch::Receiver<Order>,
    connection: Connection,
    counters: Counters,
    /// The highest slot of this stream that the group was told of.
    told: Slot,
    /// A replay along an open stream was refused: it is not asked for again.
    replay_refused: bool,
    shown_at: Timestamp,
}

impl Subscriber {
    pub(super) fn new(crew: Arc<Crew>, place: usize) -> Self {
        let endpoint = crew.endpoints[place].clone();
        let connection = Connection::new(endpoint.options.policy(), rand::random());
        Self {
            orders: crew.orders(place),
            crew,
            place,
            endpoint,
            connection,
            counters: Counters::default(),
            told: 0,
            replay_refused: false,
            shown_at: Timestamp::default(),
        }
    }

    /// Runs until the source is asked to stop.
    ///
    /// # Errors
    /// If nobody reads any more.
    pub(super) async fn run(mut self) -> Result<(), NodeError> {
        match self.run_until_halted().await {
            Err(Halt::Stopped) => Ok(()),
            Err(Halt::Failed(error)) => Err(error),
            Ok(never) => match never {},
        }
    }

    async fn run_until_halted(&mut self) -> Result<Never, Halt> {
        loop {
            let order = *self.orders.borrow_and_update();
            if order.duty == Duty::Rest {
                self.until_next_order(None).await?;
                continue;
            }
            match self.connection.step(self.crew.now()) {
                Step::Wait(wait) => self.until_next_order(Some(wait)).await?,
                Step::Connect => {
                    let endpoint = self.endpoint.clone();
                    let end = match self.unless_stopped(open(&endpoint, order.duty)).await? {
                        Ok(subscription) => self.session(subscription, order.duty).await?,
                        Err(failure) => End::Failed(failure),
                    };
                    self.on_end(end);
                }
            }
        }
    }

    /// Waits for another order, at most for `wait`.
    async fn until_next_order(&mut self, wait: Option<Duration>) -> Result<(), Halt> {
        let timer = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.crew.context.stop.cancelled() => Err(Halt::Stopped),
            // The sender lives as long as the crew.
            _ = self.orders.changed() => Ok(()),
            () = timer => Ok(()),
        }
    }

    /// Runs an open stream to its end.
    async fn session(&mut self, subscription: Subscription, duty: Duty) -> Result<End, Halt> {
        let number = self.connection.on_opened(self.crew.now());
        self.counters.sessions += 1;
        self.told = 0;
        let id = SessionId { endpoint: self.endpoint.id, number };
        self.crew.context.events.report(Event::Connected { endpoint: id.endpoint });
        let mut live = Live::new(subscription);
        let (crew, place) = (Arc::clone(&self.crew), self.place);
        crew.tell(|group, now| group.on_opened(now, place, duty == Duty::Active));
        self.show_metrics(self.crew.now());
        if duty == Duty::Active {
            // What is being executed is not seen with its parent, so that nobody takes it for whole.
            self.begin(&mut live, id, Torn::new()).await?;
        }
        let ended = self.read(&mut live).await;
        let Live { subscription, passing, .. } = live;
        // Frees the server's side at once, before anything downstream is waited for.
        drop(subscription);
        match ended {
            Ok(end) => {
                self.close(&passing).await?;
                Ok(end)
            }
            Err(Halt::Stopped) => {
                self.connection.on_left();
                self.show_metrics(self.crew.now());
                let closed = self.closed(&passing);
                if tokio::time::timeout(LAST_WORD, self.crew.outbox.send(closed)).await.is_err() {
                    tracing::debug!(endpoint = %self.endpoint.name, "stopped while downstream was blocked");
                }
                Err(Halt::Stopped)
            }
            Err(halt) => Err(halt),
        }
    }

    /// From here on updates go on.
    async fn begin(&mut self, live: &mut Live, id: SessionId, torn: Torn) -> Result<(), Halt> {
        let (endpoint, scope) = (self.endpoint.name.clone(), self.crew.scope);
        live.passing = Passing::Everything(id);
        let opened = Session::Opened { id, endpoint, scope, torn, at: self.crew.now() };
        self.send(vec![Item::Session(opened)]).await
    }

    fn closed(&self, passing: &Passing) -> Batch {
        match passing {
            Passing::Everything(id) => {
                vec![Item::Session(Session::Closed { id: *id, at: self.crew.now() })]
            }
            Passing::Nothing | Passing::From { .. } => Vec::new(),
        }
    }

    async fn close(&self, passing: &Passing) -> Result<(), Halt> {
        self.send(self.closed(passing)).await
    }

    /// Reads and hands on until the stream ends.
    async fn read(&mut self, live: &mut Live) -> Result<End, Halt> {
        loop {
            if let Some(end) = self.follow(live).await? {
                return Ok(end);
            }
            let pause = match self.pause(live) {
                Ok(Some(pause)) => pause,
                Ok(None) => continue,
                Err(failure) => return Ok(End::Failed(failure)),
            };
            let read = tokio::select! {
                biased;
                () = self.crew.context.stop.cancelled() => return Err(Halt::Stopped),
                _ = self.orders.changed() => continue,
                read = live.subscription.read(&mut live.raw) => read,
                () = tokio::time::sleep(pause) => {
                    self.show_metrics(self.crew.now());
                    continue;
                }
            };
            self.take_in(live).await?;
            match read {
                Ok(Read::More) => {}
                Ok(Read::Over(failure)) => return Ok(End::Failed(failure)),
                Err(status) => return Ok(End::Failed(client::failure(&status, &self.endpoint.options))),
            }
        }
    }

    /// How long to read before the next look; none if there may be more to do at once.
    fn pause(&mut self, live: &Live) -> Result<Option<Duration>, Failure> {
        let now = self.crew.now();
        let pause = match self.connection.watch(now) {
            Watch::GiveUp(kind) => return Err(Failure::of(kind)),
            Watch::Ping(id) => {
                self.ping(live, id);
                return Ok(None);
            }
            Watch::Fine(pause) => pause.min(METRICS_INTERVAL),
        };
        match &live.passing {
            Passing::From { until, .. } if *until <= now => Err(Failure {
                kind: FailureKind::Stalled,
                detail: "the server did not take the new subscription".to_owned(),
            }),
            Passing::From { until, .. } => Ok(Some(pause.min(until.since(now)))),
            Passing::Nothing | Passing::Everything(_) => Ok(Some(pause)),
        }
    }

    /// Does what the group orders by now.
    async fn follow(&mut self, live: &mut Live) -> Result<Option<End>, Halt> {
        let order = *self.orders.borrow_and_update();
        let request = match (order.duty, &live.passing) {
            (Duty::Rest, _) => return Ok(Some(End::Left)),
            (Duty::Standby, Passing::Nothing) => return Ok(None),
            (Duty::Active, Passing::From { .. } | Passing::Everything(_)) => return Ok(None),
            (Duty::Standby, passing) => {
                self.close(passing).await?;
                live.passing = Passing::Nothing;
                request::standby()
            }
            (Duty::Active, Passing::Nothing) => {
                request::subscribe(&self.endpoint.options, self.replay_from(order, &live.banks))
            }
        };
        live.requests += 1;
        let asked = live.subscription.ask(request::numbered(request, live.requests));
        if order.duty == Duty::Active {
            let round_trip = self.endpoint.health.snapshot().round_trip_ms.map_or(0.0, |known| known.mean);
            let way = Duration::from_secs_f64(2.0 * round_trip / 1_000.0);
            let until = self.crew.now().after(SWITCH_PATIENCE).after(way);
            live.passing = Passing::From { filter: request::filter_name(live.requests), until };
        }
        let unread =
            || Failure { kind: FailureKind::Stalled, detail: "the server takes no requests".to_owned() };
        Ok((!asked).then(|| End::Failed(unread())))
    }

    /// Where a promoted session may begin, if its endpoint says that it can replay that far. The slot in progress comes
    /// without its beginning, which must not be taken for a slot that filters or a lack of account writes made small:
    /// where content can't be counted it has to be known which slot that is.
    fn replay_from(&self, order: Order, banks: &Banks) -> Option<Slot> {
        let scope = self.crew.scope;
        let counted = (scope.transactions, scope.entries, scope.accounts)
            == (Want::Everything, Want::Nothing, Want::Nothing);
        let first = self.endpoint.health.snapshot().first_replayable_slot?;
        let may = (counted || banks.are_known()) && !self.replay_refused;
        order.from_slot.filter(|&from| may && first <= from)
    }

    /// Looks at what was read, and hands it on if it is to go on.
    async fn take_in(&mut self, live: &mut Live) -> Result<(), Halt> {
        if let Passing::From { filter, .. } = &live.passing
            && let Some(first) = live.raw.iter().position(|raw| names(raw, filter))
        {
            let since = live.raw.split_off(first);
            self.hand_on(live).await?;
            live.raw = since;
            let number = self.connection.on_renewed();
            let torn = live.banks.under_way();
            self.begin(live, SessionId { endpoint: self.endpoint.id, number }, torn).await?;
            let (crew, place) = (Arc::clone(&self.crew), self.place);
            crew.tell(|group, now| group.on_serving(now, place));
        }
        self.hand_on(live).await
    }

    /// Takes memory for what was read, scans it and sends it.
    async fn hand_on(&mut self, live: &mut Live) -> Result<(), Halt> {
        if live.raw.is_empty() {
            return Ok(());
        }
        let now = self.crew.now();
        let bytes = live.raw.iter().map(Bytes::len).sum();
        let Passing::Everything(session) = live.passing else {
            self.scan(live, None, now);
            return Ok(());
        };
        let lease = match self.crew.context.budget.try_lease(bytes) {
            Some(lease) => lease,
            None => {
                let budget = Arc::clone(&self.crew.context.budget);
                self.unless_stopped(budget.lease(bytes)).await?
            }
        };
        let template = Template { session, received_at: now, lease: Some(lease) };
        let batch = self.scan(live, Some(&template), now);
        self.send(batch).await?;
        let after = self.crew.now();
        self.connection.on_blocked(after.since(now));
        if after.since(self.shown_at) >= METRICS_INTERVAL {
            self.show_metrics(after);
        }
        Ok(())
    }

    fn scan(&mut self, live: &mut Live, template: Option<&Template>, now: Timestamp) -> Batch {
        let mut batch = Batch::with_capacity(if template.is_some() { live.raw.len() } else { 0 });
        let (mut highest, mut pinged) = (0, false);
        for bytes in live.raw.drain(..) {
            let size_bytes = bytes.len() as u64;
            match Frame::try_new(bytes) {
                Ok(frame) => {
                    let header = &frame.header;
                    self.counters.take(header.kind, size_bytes);
                    highest = highest.max(header.slot);
                    if template.is_none() {
                        live.banks.on_header(header);
                    }
                    match (header.kind, template) {
                        (Kind::Ping, _) => pinged = true,
                        (Kind::Pong, _) | (_, None) => {}
                        (_, Some(template)) => batch.push(Item::Update(template.update(frame))),
                    }
                }
                Err(error) => {
                    self.counters.bytes += size_bytes;
                    self.on_malformed(error);
                }
            }
        }
        self.connection.on_messages(now, highest);
        self.tell_slot(highest);
        if pinged {
            let id = self.connection.on_ping(now);
            self.ping(live, id);
        }
        batch
    }

    fn tell_slot(&mut self, highest: Slot) {
        if highest <= self.told {
            return;
        }
        self.told = highest;
        let (crew, place) = (&self.crew, self.place);
        let late = crew.tell(|group, now| group.on_slot(now, place, highest));
        if let Some(late) = late {
            self.endpoint.health.on_slot(crew.now(), highest, late);
        }
    }

    #[cold]
    fn on_malformed(&mut self, error: FrameError) {
        match error {
            FrameError::UnknownKind(_) => self.counters.unknown += 1,
            FrameError::Wire(_) | FrameError::Empty => self.counters.malformed += 1,
        }
        let reason = error.to_string();
        let endpoint = self.endpoint.id;
        self.crew.context.events.report(Event::Malformed { endpoint, slot: None, reason });
    }

    fn on_end(&mut self, end: End) {
        let (crew, place) = (Arc::clone(&self.crew), self.place);
        match end {
            End::Left => {
                self.connection.on_left();
                crew.tell(|group, now| group.on_left(now, place));
            }
            End::Failed(failure) => {
                self.on_failure(&failure);
                crew.tell(|group, now| group.on_ended(now, place, failure.kind));
            }
        }
        self.show_metrics(crew.now());
    }

    fn on_failure(&mut self, failure: &Failure) {
        let wait = self.connection.on_ended(self.crew.now(), failure.kind);
        *self.counters.ends.entry(failure.kind.name()).or_default() += 1;
        match failure.kind {
            FailureKind::RateLimited { .. } => self.endpoint.health.on_rate_limited(),
            FailureKind::ReplayTooOld { .. } | FailureKind::ReplayTooNew | FailureKind::ReplayUnsupported => {
                self.replay_refused = true;
            }
            _ => self.endpoint.health.on_error(&failure.to_string()),
        }
        // A new connection may lead to another server behind the same name.
        self.endpoint.link.on_failure(failure.kind);
        let reason = format!("{failure}; next try in {} ms", wait.as_millis());
        self.crew.context.events.report(Event::Disconnected { endpoint: self.endpoint.id, reason });
    }

    fn ping(&self, live: &Live, id: i32) {
        if !live.subscription.ping(id) {
            tracing::debug!(endpoint = %self.endpoint.name, "the server does not take requests, ping left out");
        }
    }

    async fn send(&self, batch: Batch) -> Result<(), Halt> {
        let sent = self.unless_stopped(self.crew.outbox.send(batch)).await?;
        sent.map_err(|closed| Halt::Failed(closed.into()))
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            () = self.crew.context.stop.cancelled() => Err(Halt::Stopped),
            done = work => Ok(done),
        }
    }

    fn show_metrics(&mut self, now: Timestamp) {
        self.shown_at = now;
        self.counters.connected = self.connection.is_open();
        self.counters.note_tip(self.connection.tip());
        self.crew.show(self.place, &self.counters);
    }
}
