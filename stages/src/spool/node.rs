//! The task around the log: hands batches on, feeds the log's thread, and plays what an earlier run left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::catalog::Segment;
use super::commits::Commits;
use super::log::{Log, Settings};
use super::medium::Folder;
use crate::batch::{Batch, Item, Session, Torn, Update};
use crate::component::Start;
use crate::edge::{Inbox, Outbox};
use crate::frame::Kind;
use crate::node::{Clock, EventSink, MetricBoard, NodeContext, NodeError, Transform};
use crate::recording::player::Player;
use crate::recording::reader::Reader;
use crate::recording::recorder::head_of;
use crate::recording::source::read_ahead;
use crate::recovery::kept::{FetchedSlot, SpoolEnds};
use crate::slot::{Slot, Timestamp};
use crate::stage::{Event, Metric};
use crate::watch::Reported;

/// How long a batch waits for the log to take it before it goes past: a sync takes milliseconds, and a source that is not
/// read for longer than seconds is cut off by its server.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How often the log learns the time.
const TICK: Duration = Duration::from_millis(25);
/// Batches that the log has not taken: as much as comes in some hundred milliseconds. Their memory is in the budget.
const COMMANDS_CAPACITY: usize = 64;
/// How long what is played waits for memory. Live updates that wait behind it may hold the rest, so it goes on without.
const LEASE_PATIENCE: Duration = Duration::from_secs(1);

/// The node.
pub(crate) struct Spool {
    pub(crate) folder: Folder,
    pub(crate) segments: Vec<Segment>,
    pub(crate) player: Player,
    pub(crate) start: Start,
    pub(crate) settings: Settings,
    pub(crate) ends: SpoolEnds,
}

impl Transform for Spool {
    fn run(
        self: Box<Self>,
        inbox: Inbox,
        outbox: Outbox,
        requests: mpsc::Receiver<Vec<Slot>>,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(run(*self, inbox, outbox, requests, context))
    }
}

/// What the log's thread is told.
enum Command {
    Batch { now: Timestamp, items: Batch, lost: u64 },
    Tick { now: Timestamp, watermark: Option<Slot> },
}

async fn run(
    spool: Spool,
    inbox: Inbox,
    outbox: Outbox,
    requests: mpsc::Receiver<Vec<Slot>>,
    context: NodeContext,
) -> Result<(), NodeError> {
    let Spool { folder, segments, player, start, mut settings, ends } = spool;
    let SpoolEnds { fetched, played: to_recovery } = ends;
    settings.head = head_of(&context.watch);
    let commits = super::commits_of(&context.watch, start);
    let readers = left_behind(&folder, &segments, commits.watermark(), &context);
    let (commands, queue) = mpsc::channel(COMMANDS_CAPACITY);
    let played = Arc::new(AtomicU64::new(0));
    let worker = Worker {
        log: Log::new(folder, settings, segments),
        clock: context.clock,
        events: context.events.clone(),
        board: context.metrics.clone(),
        played: Arc::clone(&played),
    };
    let working = tokio::task::spawn_blocking(move || worker.run(queue));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reports = context.watch.reports();
    let clock = context.clock;
    let pulse = Pulse { ticks, reports, requests, fetched, commits, commands, clock };
    let mut shell = Shell { pulse, outbox, context, played, to_recovery, lost: 0, owed: Batch::new() };
    let ended = shell.run(readers, player, inbox).await;
    // Its queue ends with the shell; what is in it is still written.
    drop(shell);
    working.await.map_err(|_| NodeError::Fatal("the spool's writer panicked".to_owned()))?;
    ended
}

/// Readers of what an earlier run left and no sink has.
fn left_behind(
    folder: &Folder,
    segments: &[Segment],
    watermark: Option<Slot>,
    context: &NodeContext,
) -> Vec<Reader> {
    let is_needed = |segment: &&Segment| !watermark.is_some_and(|watermark| segment.is_behind(watermark));
    // A segment without a slot holds no block.
    let needed = segments.iter().filter(is_needed).filter(|segment| segment.last_slot > 0);
    let open = |segment: &Segment| match Reader::open(&folder.path(segment.sequence)) {
        Ok(reader) => Some(reader),
        Err(error) => {
            tracing::warn!(node = %context.name, %error, "a segment is left out");
            None
        }
    };
    needed.filter_map(open).collect()
}

/// What runs beside the flow: time, commits, and requests that are not for this node.
struct Pulse {
    ticks: Interval,
    reports: broadcast::Receiver<Reported>,
    requests: mpsc::Receiver<Vec<Slot>>,
    /// What recovery fetches.
    fetched: mpsc::Receiver<FetchedSlot>,
    commits: Commits,
    commands: mpsc::Sender<Command>,
    clock: Clock,
}

impl Pulse {
    /// Waits for the next thing and sees to it.
    async fn beat(&mut self) {
        tokio::select! {
            report = self.reports.recv() => match report {
                Ok(report) => self.commits.on_event(&report.node, &report.event),
                // A commit that was missed keeps its segments until they are too old; the next start knows better.
                Err(missed) => tracing::debug!(%missed, "commits not seen"),
            },
            // Sinks ask every node upstream that does I/O for slots; those that recover have them.
            Some(_) = self.requests.recv() => {}
            // Recovery waits while the log is behind, not the flow.
            Some((permit, slot)) = room_and_slot(&self.commands, &mut self.fetched) => {
                let now = self.clock.now();
                permit.send(Command::Batch { now, items: as_session(slot, now), lost: 0 });
            }
            _ = self.ticks.tick() => {
                let (now, watermark) = (self.clock.now(), self.commits.watermark());
                // A log that is behind learns the time from its next batch.
                self.commands.try_send(Command::Tick { now, watermark }).ok();
            }
        }
    }

    /// Runs beside `work` until that is done.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.beat() => {}
            }
        }
    }
}

/// The next slot that was fetched, and room for it.
async fn room_and_slot<'c>(
    commands: &'c mpsc::Sender<Command>,
    fetched: &mut mpsc::Receiver<FetchedSlot>,
) -> Option<(mpsc::Permit<'c, Command>, FetchedSlot)> {
    let permit = commands.reserve().await.ok()?;
    fetched.recv().await.map(|slot| (permit, slot))
}

/// A slot that was fetched, as a session of its own.
fn as_session(slot: FetchedSlot, at: Timestamp) -> Batch {
    let Some(id) = slot.session() else { return Batch::new() };
    let (endpoint, scope, torn) = (slot.endpoint, slot.scope, Torn::new());
    let opened = Session::Opened { id, endpoint, scope, torn, at };
    let updates = slot.updates.into_iter().map(|update| Item::Update(Update { lease: None, ..update }));
    let closed = Item::Session(Session::Closed { id, at });
    std::iter::once(Item::Session(opened)).chain(updates).chain([closed]).collect()
}

struct Shell {
    pulse: Pulse,
    outbox: Outbox,
    context: NodeContext,
    played: Arc<AtomicU64>,
    to_recovery: mpsc::Sender<FetchedSlot>,
    /// Updates that the log did not take.
    lost: u64,
    /// Sessions that it did not hear of.
    owed: Batch,
}

impl Shell {
    async fn run(&mut self, readers: Vec<Reader>, player: Player, mut inbox: Inbox) -> Result<(), NodeError> {
        self.play(readers, player).await?;
        while let Some((_, batch)) = self.pulse.beside(inbox.recv()).await {
            self.note_first_block(&batch);
            self.enqueue(&batch).await;
            self.send(batch).await?;
        }
        Ok(())
    }

    /// Hands on what an earlier run left, before anything live.
    async fn play(&mut self, readers: Vec<Reader>, mut player: Player) -> Result<(), NodeError> {
        if readers.is_empty() {
            return Ok(());
        }
        tracing::info!(node = %self.context.name, segments = readers.len(), "playing what an earlier run left");
        let (mut blocks, reading) = read_ahead(readers);
        while let Some(block) = self.pulse.beside(blocks.recv()).await {
            // The rest is there for the next start.
            if self.context.stop.is_cancelled() {
                break;
            }
            let items = player.play(block);
            self.note_first_block(&items);
            self.send_played(items).await?;
            self.give_back(player.take_fetched()).await;
        }
        drop(blocks);
        let mut last = Batch::new();
        player.end(&mut last);
        self.send(last).await?;
        for (endpoint, error) in player.take_malformed() {
            self.context.events.report(Event::Malformed { endpoint, slot: None, reason: error.to_string() });
        }
        match reading.await {
            Ok(Ok(torn)) => {
                tracing::debug!(node = %self.context.name, segments = torn.len(), "cut off by a crash")
            }
            Ok(Err(error)) => self.context.events.report(Event::SpoolFailed { reason: error.to_string() }),
            Err(_) => return Err(NodeError::Fatal("the reader of the spool panicked".to_owned())),
        }
        let updates = self.played.load(Ordering::Relaxed);
        tracing::info!(node = %self.context.name, updates, "played, going on live");
        Ok(())
    }

    async fn send_played(&mut self, mut items: Batch) -> Result<(), NodeError> {
        let bytes = items.iter().map(Item::size_bytes).sum();
        let lease = self.pulse.beside(timeout(LEASE_PATIENCE, self.context.budget.lease(bytes))).await.ok();
        let mut updates = 0;
        for item in &mut items {
            if let Item::Update(update) = item {
                updates += 1;
                update.lease.clone_from(&lease);
            }
        }
        self.played.fetch_add(updates, Ordering::Relaxed);
        self.send(items).await
    }

    /// Gives recovery what it had fetched. It is on its own: without one nobody wants it.
    async fn give_back(&mut self, slots: Vec<FetchedSlot>) {
        for mut slot in slots {
            let bytes = slot.updates.iter().map(Update::size_bytes).sum();
            let leased = timeout(LEASE_PATIENCE, self.context.budget.lease(bytes));
            let lease = self.pulse.beside(leased).await.ok();
            slot.updates.iter_mut().for_each(|update| update.lease.clone_from(&lease));
            self.played.fetch_add(slot.updates.len() as u64, Ordering::Relaxed);
            let to_recovery = self.to_recovery.clone();
            if self.pulse.beside(to_recovery.send(slot)).await.is_err() {
                tracing::debug!(node = %self.context.name, "no recovery takes what was fetched before");
                return;
            }
        }
    }

    async fn send(&mut self, batch: Batch) -> Result<(), NodeError> {
        self.pulse.beside(self.outbox.send(batch)).await.map_err(NodeError::from)
    }

    /// Gives a batch to the log, or lets it go past if the log is stuck.
    async fn enqueue(&mut self, batch: &Batch) {
        let commands = self.pulse.commands.clone();
        let permit = if self.lost == 0 {
            self.pulse.beside(timeout(PATIENCE, commands.reserve())).await.ok().and_then(Result::ok)
        } else {
            commands.try_reserve().ok()
        };
        let Some(permit) = permit else { return self.pass_by(batch) };
        let mut items = std::mem::take(&mut self.owed);
        items.extend_from_slice(batch);
        let lost = std::mem::take(&mut self.lost);
        permit.send(Command::Batch { now: self.context.clock.now(), items, lost });
    }

    fn pass_by(&mut self, batch: &Batch) {
        if self.lost == 0 {
            let reason = format!("the disk has not taken anything for {PATIENCE:?}");
            self.context.events.report(Event::SpoolFailed { reason });
        }
        for item in batch {
            match item {
                Item::Update(_) => self.lost += 1,
                Item::Session(_) => self.owed.push(item.clone()),
                _ => {}
            }
        }
    }

    fn note_first_block(&mut self, items: &Batch) {
        let is_meta = |item: &Item| match item {
            Item::Update(update) if update.frame.header.kind == Kind::BlockMeta => {
                Some(update.frame.header.slot)
            }
            _ => None,
        };
        if self.pulse.commits.watermark().is_none()
            && let Some(slot) = items.iter().find_map(is_meta)
        {
            self.pulse.commits.on_first_block(slot);
        }
    }
}

/// The log's thread.
struct Worker {
    log: Log<Folder>,
    clock: Clock,
    events: EventSink,
    board: MetricBoard,
    played: Arc<AtomicU64>,
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(command) = queue.blocking_recv() {
            match command {
                Command::Batch { now, items, lost } => self.log.append(now, &items, lost),
                Command::Tick { now, watermark } => {
                    self.log.tick(now, watermark);
                    self.show();
                }
            }
            self.report();
        }
        self.log.end(self.clock.now());
        self.report();
        self.show();
    }

    fn report(&mut self) {
        self.log.take_events().into_iter().for_each(|event| self.events.report(event));
    }

    fn show(&self) {
        let played = self.played.load(Ordering::Relaxed);
        self.board.show(|show| {
            self.log.metrics(show);
            show(Metric::new("spool_played_updates_total", played));
        });
    }
}
