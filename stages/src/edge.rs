//! Edges: the bounded channels of batches between nodes.
//!
//! ```text
//!  node A ── Outbox ──┬─ edge (items, bytes) ─→ Inbox ── node B
//!                     └─ edge (items, bytes) ─→ Inbox ── node C
//! ```
//!
//! An edge is bounded by items and by bytes; a batch larger than a bound is let through when the edge is empty. Order
//! within an edge is kept. A batch that goes to several edges is shared, not copied. Each edge counts what passes, how
//! long its sender was blocked and its receiver starved, so the edge that holds a pipeline up names itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::batch::{Batch, Item};
use crate::delivery::Deliveries;
use crate::node::Clock;
use crate::tap::Tap;

/// What a full edge does with the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Makes the sender wait. Nothing is lost; everything upstream slows down.
    #[default]
    Block,
    /// Drops the batch and counts it. For edges that may lose: a dashboard, a webhook that lags.
    DropNewest,
}

/// How much an edge holds, and what it does when that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeConfig {
    /// Most items in flight. Default 65,536: three slots of mainnet.
    pub capacity_items: usize,
    /// Most bytes in flight. Default 16 MiB: five slots of mainnet's transactions. What is larger passes alone.
    pub capacity_bytes: usize,
    /// What happens beyond.
    pub when_full: WhenFull,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self { capacity_items: 65_536, capacity_bytes: 16 << 20, when_full: WhenFull::Block }
    }
}

/// What an edge has seen, readable at any time.
#[derive(Debug, Default)]
pub struct EdgeStats {
    sent_items: AtomicU64,
    sent_bytes: AtomicU64,
    received_items: AtomicU64,
    received_bytes: AtomicU64,
    dropped_items: AtomicU64,
    blocked: Waits,
    starved_nanos: AtomicU64,
    high_water_bytes: AtomicU64,
    deliveries: Deliveries,
    capacity_items: u64,
    capacity_bytes: u64,
}

/// The values of [`EdgeStats`] at one moment.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct EdgeSnapshot {
    /// Items that went in.
    pub sent_items: u64,
    /// Bytes that went in.
    pub sent_bytes: u64,
    /// Items that came out.
    pub received_items: u64,
    /// Bytes that came out.
    pub received_bytes: u64,
    /// Items dropped because the edge was full.
    pub dropped_items: u64,
    /// Time that the sender waited for room, up to now.
    pub blocked: Duration,
    /// Time that the receiver waited for a batch.
    pub starved: Duration,
    /// The most bytes that were in flight at once.
    pub high_water_bytes: u64,
}

impl EdgeStats {
    /// The current values.
    pub fn snapshot(&self) -> EdgeSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EdgeSnapshot {
            sent_items: read(&self.sent_items),
            sent_bytes: read(&self.sent_bytes),
            received_items: read(&self.received_items),
            received_bytes: read(&self.received_bytes),
            dropped_items: read(&self.dropped_items),
            blocked: self.blocked.total(),
            starved: Duration::from_nanos(read(&self.starved_nanos)),
            high_water_bytes: read(&self.high_water_bytes),
        }
    }

    /// The slots that passed. All edges of a node carry the same, so only the first one of each notes them.
    pub fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// Most items and bytes in flight.
    pub fn capacity(&self) -> (u64, u64) {
        (self.capacity_items, self.capacity_bytes)
    }

    fn on_sent(&self, items: u64, bytes: u64) {
        self.sent_items.fetch_add(items, Ordering::Relaxed);
        let sent = self.sent_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let in_flight = sent.saturating_sub(self.received_bytes.load(Ordering::Relaxed));
        self.high_water_bytes.fetch_max(in_flight, Ordering::Relaxed);
    }

    fn on_received(&self, items: u64, bytes: u64) {
        self.received_items.fetch_add(items, Ordering::Relaxed);
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// How long somebody waited; a wait that is not over counts, or an edge that is stuck would look idle.
#[derive(Debug, Default)]
struct Waits {
    ended_nanos: AtomicU64,
    since: Mutex<Option<Instant>>,
}

impl Waits {
    fn begin(&self) -> Waiting<'_> {
        *self.since() = Some(Instant::now());
        Waiting(self)
    }

    fn total(&self) -> Duration {
        let since = self.since();
        let ended = Duration::from_nanos(self.ended_nanos.load(Ordering::Relaxed));
        ended + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait; dropped when it is over, or nobody waits any more.
struct Waiting<'a>(&'a Waits);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut since = self.0.since();
        if let Some(since) = since.take() {
            let waited = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.0.ended_nanos.fetch_add(waited, Ordering::Relaxed);
        }
    }
}

struct Parcel {
    batch: Arc<Batch>,
    bytes: usize,
    _room: [OwnedSemaphorePermit; 2],
}

struct EdgeSender {
    config: EdgeConfig,
    items: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    parcels: mpsc::Sender<Parcel>,
    stats: Arc<EdgeStats>,
    clock: Clock,
}

struct EdgeReceiver {
    parcels: mpsc::Receiver<Parcel>,
    stats: Arc<EdgeStats>,
    ended: bool,
}

/// The receiving node has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node at the other end of the edge has ended")]
pub struct Closed;

impl EdgeSender {
    async fn send(&self, batch: Arc<Batch>, bytes: usize) -> Result<(), Closed> {
        let wanted_items = permits(batch.len(), self.config.capacity_items);
        let wanted_bytes = permits(bytes, self.config.capacity_bytes);
        let room = match self.try_room(wanted_items, wanted_bytes) {
            Some(room) => room,
            None if self.config.when_full == WhenFull::DropNewest => {
                self.stats.dropped_items.fetch_add(batch.len() as u64, Ordering::Relaxed);
                return Ok(());
            }
            None => self.wait_for_room(wanted_items, wanted_bytes).await?,
        };
        let items = batch.len() as u64;
        let parcel = Parcel { batch, bytes, _room: room };
        // Never waits: the channel is as long as the item bound, and each batch holds an item's permit.
        self.parcels.send(parcel).await.map_err(|_| Closed)?;
        self.stats.on_sent(items, bytes as u64);
        Ok(())
    }

    fn try_room(&self, items: u32, bytes: u32) -> Option<[OwnedSemaphorePermit; 2]> {
        let items = Arc::clone(&self.items).try_acquire_many_owned(items).ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()?;
        Some([items, bytes])
    }

    async fn wait_for_room(&self, items: u32, bytes: u32) -> Result<[OwnedSemaphorePermit; 2], Closed> {
        let _waiting = self.stats.blocked.begin();
        let room = async {
            let items = Arc::clone(&self.items).acquire_many_owned(items).await.map_err(|_| Closed)?;
            let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes).await.map_err(|_| Closed)?;
            Ok([items, bytes])
        };
        tokio::select! {
            room = room => room,
            () = self.parcels.closed() => Err(Closed),
        }
    }
}

/// Permits for `wanted` of `capacity`: at least one, at most all, so that a giant batch passes alone.
fn permits(wanted: usize, capacity: usize) -> u32 {
    u32::try_from(wanted.clamp(1, capacity)).unwrap_or(u32::MAX)
}

/// A node's outgoing edges.
#[derive(Default)]
pub struct Outbox {
    edges: Vec<EdgeSender>,
    tap: Arc<Tap>,
}

impl Outbox {
    /// Sends a batch along every edge, waiting where an edge is full and blocks. Empty batches are not sent.
    ///
    /// # Errors
    /// If the receivers of all edges have gone.
    pub async fn send(&self, batch: Batch) -> Result<(), Closed> {
        if batch.is_empty() || self.edges.is_empty() {
            return Ok(());
        }
        self.tap.offer(&batch);
        if let Some(first) = self.edges.first() {
            first.stats.deliveries.note(&batch, || first.clock.now());
        }
        let bytes = batch.iter().map(Item::size_bytes).sum();
        let batch = Arc::new(batch);
        let (last, others) = self.edges.split_last().expect("checked above that there is an edge");
        let mut open = false;
        for edge in others {
            open |= edge.send(Arc::clone(&batch), bytes).await.is_ok();
        }
        open |= last.send(batch, bytes).await.is_ok();
        if open { Ok(()) } else { Err(Closed) }
    }

    /// The tap of what is sent.
    pub fn tap(&self) -> &Arc<Tap> {
        &self.tap
    }
}

/// A node's incoming edges.
#[derive(Default)]
pub struct Inbox {
    edges: Vec<EdgeReceiver>,
    next: usize,
}

impl Inbox {
    /// The next batch and the position of the edge that it came along; `None` once all edges have ended. Edges take
    /// turns, so a busy one can't starve the others. Cancel-safe.
    pub async fn recv(&mut self) -> Option<(usize, Batch)> {
        let began = Instant::now();
        let mut waited = false;
        let (position, parcel) = std::future::poll_fn(|context| {
            let count = self.edges.len();
            for step in 0..count {
                let position = (self.next + step) % count;
                let edge = &mut self.edges[position];
                if edge.ended {
                    continue;
                }
                match edge.parcels.poll_recv(context) {
                    Poll::Ready(Some(parcel)) => {
                        self.next = position + 1;
                        return Poll::Ready(Some((position, parcel)));
                    }
                    Poll::Ready(None) => edge.ended = true,
                    Poll::Pending => {}
                }
            }
            if self.edges.iter().all(|edge| edge.ended) {
                return Poll::Ready(None);
            }
            waited = true;
            Poll::Pending
        })
        .await?;
        let stats = &self.edges[position].stats;
        if waited {
            let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            stats.starved_nanos.fetch_add(nanos, Ordering::Relaxed);
        }
        stats.on_received(parcel.batch.len() as u64, parcel.bytes as u64);
        Some((position, Arc::unwrap_or_clone(parcel.batch)))
    }
}

/// Draws an edge from `outbox` to `inbox`; its position in the inbox is the number of edges drawn before.
pub fn connect(outbox: &mut Outbox, inbox: &mut Inbox, config: EdgeConfig) -> Arc<EdgeStats> {
    let items = config.capacity_items.clamp(1, Semaphore::MAX_PERMITS);
    let bytes = config.capacity_bytes.clamp(1, u32::MAX as usize);
    let config = EdgeConfig { capacity_items: items, capacity_bytes: bytes, ..config };
    let (sender, parcels) = mpsc::channel(items);
    let stats = Arc::new(EdgeStats {
        capacity_items: items as u64,
        capacity_bytes: bytes as u64,
        ..EdgeStats::default()
    });
    outbox.edges.push(EdgeSender {
        config,
        items: Arc::new(Semaphore::new(items)),
        bytes: Arc::new(Semaphore::new(bytes)),
        parcels: sender,
        stats: Arc::clone(&stats),
        clock: Clock::start(),
    });
    inbox.edges.push(EdgeReceiver { parcels, stats: Arc::clone(&stats), ended: false });
    stats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Gap, Missing};

    fn batch(items: usize) -> Batch {
        vec![Item::Gap(Gap { first: 1, last: 1, missing: Missing::Content }); items]
    }

    fn edge(capacity_items: usize, when_full: WhenFull) -> (Outbox, Inbox, Arc<EdgeStats>) {
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
        let config = EdgeConfig { capacity_items, when_full, ..EdgeConfig::default() };
        let stats = connect(&mut outbox, &mut inbox, config);
        (outbox, inbox, stats)
    }

    #[tokio::test]
    async fn a_wait_counts_while_it_lasts_and_not_after_it_was_given_up() {
        let (outbox, _inbox, stats) = edge(1, WhenFull::Block);
        outbox.send(batch(1)).await.expect("open");
        {
            let second = outbox.send(batch(1));
            tokio::pin!(second);
            assert!(futures::poll!(&mut second).is_pending());
            let earlier = stats.snapshot().blocked;
            assert!(earlier < stats.snapshot().blocked, "time passes");
        }
        assert_eq!(stats.snapshot().blocked, stats.snapshot().blocked);
    }

    #[tokio::test]
    async fn a_blocking_edge_holds_exactly_its_capacity() {
        let (outbox, mut inbox, stats) = edge(10, WhenFull::Block);
        for _ in 0..5 {
            outbox.send(batch(2)).await.expect("open");
        }
        let sixth = outbox.send(batch(1));
        tokio::pin!(sixth);
        assert!(futures::poll!(&mut sixth).is_pending());
        assert_eq!(stats.snapshot().sent_items, 10);
        inbox.recv().await.expect("a batch");
        sixth.await.expect("room now");
        assert_eq!(stats.snapshot().sent_items, 11);
    }

    #[tokio::test]
    async fn a_full_edge_that_may_lose_counts_what_it_loses() {
        let (outbox, _inbox, stats) = edge(2, WhenFull::DropNewest);
        outbox.send(batch(2)).await.expect("open");
        outbox.send(batch(2)).await.expect("dropped, not blocked");
        assert_eq!((stats.snapshot().sent_items, stats.snapshot().dropped_items), (2, 2));
    }

    #[tokio::test]
    async fn a_batch_larger_than_the_edge_passes_alone() {
        let (outbox, mut inbox, _) = edge(2, WhenFull::Block);
        outbox.send(batch(100)).await.expect("open");
        assert_eq!(inbox.recv().await.map(|(_, batch)| batch.len()), Some(100));
    }

    #[tokio::test]
    async fn inputs_take_turns_and_end_when_all_have_ended() {
        let (mut first, mut second, mut inbox) = (Outbox::default(), Outbox::default(), Inbox::default());
        connect(&mut first, &mut inbox, EdgeConfig::default());
        connect(&mut second, &mut inbox, EdgeConfig::default());
        for _ in 0..2 {
            first.send(batch(1)).await.expect("open");
            second.send(batch(1)).await.expect("open");
        }
        drop((first, second));
        let mut order = Vec::new();
        while let Some((input, _)) = inbox.recv().await {
            order.push(input);
        }
        assert_eq!(order, [0, 1, 0, 1]);
    }

    #[tokio::test]
    async fn a_sender_learns_that_its_receiver_has_gone() {
        let (outbox, inbox, _) = edge(1, WhenFull::Block);
        outbox.send(batch(1)).await.expect("open");
        let blocked = outbox.send(batch(1));
        drop(inbox);
        assert_eq!(blocked.await, Err(Closed));
    }
}
