//! Taps: a look at what a node gives out, for as long as somebody looks.
//!
//! ```text
//!  node ── Outbox ──→ edges
//!            └ Tap ──→ TapReader (256 items) ──→ API, `sluice tap`
//! ```
//!
//! While nobody looks, a tap costs one relaxed load a batch. While somebody does, each batch gives at most
//! [`ITEMS_A_BATCH`] items that match the reader's filter, and a second no more than the reader has asked for, as small
//! copies that hold no frame and no memory of the budget; what a reader has no room for is counted and left out, so that a
//! tap can't hold the pipeline up.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::alert::AlertItem;
use crate::batch::{Batch, Echo, EndpointId, Item, Lane, Session, Update};
use crate::block::Part;
use crate::frame::SlotStatus;
use crate::sample::Sample;
use crate::slot::{Slot, Timestamp};

/// Items of one batch that a reader is shown: a tap shows what passes, it is no second output.
pub const ITEMS_A_BATCH: usize = 32;
/// Items that a reader may be behind.
pub const READER_CAPACITY: usize = 256;
/// Items a second that a reader is shown unless it asks for more: what a person can make use of, and next to nothing beside
/// a chain at full speed.
pub const ITEMS_A_SECOND: u64 = 1_000;
/// A second's items are given out in so many parts.
const PARTS_OF_A_SECOND: u32 = 10;
/// Readers of one node at a time; each costs the node a look at every batch.
pub const MOST_READERS: usize = 8;

/// What a reader wants to see; what is left out is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TapFilter {
    /// The word for what an item is ([`Tapped::kind`]).
    pub kind: Option<String>,
    /// The slot.
    pub slot: Option<Slot>,
    /// The endpoint.
    pub endpoint: Option<EndpointId>,
}

impl TapFilter {
    fn matches(&self, item: &Item) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == kind_of(item))
            && self.slot.is_none_or(|slot| slot_of(item) == Some(slot))
            && self.endpoint.is_none_or(|endpoint| lane_of(item).map(|(id, _)| id) == Some(endpoint))
    }
}

/// A small copy of an item.
#[derive(Debug, Clone)]
pub struct Tapped {
    /// What it is: an update's kind, or `block`, `status`, `gap`, `echo`, `session`, `begin`, `arrivals`, `sample`,
    /// `alert`.
    pub kind: &'static str,
    /// The slot that it is about.
    pub slot: Option<Slot>,
    /// The endpoint that it came from.
    pub endpoint: Option<EndpointId>,
    /// When its bytes were read, or when it happened.
    pub at: Option<Timestamp>,
    /// Bytes that it holds.
    pub size_bytes: usize,
    detail: Detail,
}

/// What is told of an item beside what all have.
#[derive(Debug, Clone)]
enum Detail {
    Nothing,
    Fields(Vec<(&'static str, Value)>),
    Update { index: u32, key: Box<[u8]>, status: Option<SlotStatus>, parent: Option<Slot> },
    Sample(Arc<Sample>),
    Alert(Arc<AlertItem>),
}

impl Tapped {
    fn of(item: &Item) -> Self {
        let lane = lane_of(item);
        Self {
            kind: kind_of(item),
            slot: slot_of(item),
            endpoint: lane.map(|(endpoint, _)| endpoint),
            at: lane.and_then(|(_, at)| at).or_else(|| at_of(item)),
            size_bytes: item.size_bytes(),
            detail: detail_of(item),
        }
    }

    /// The item as a JSON object; `endpoint` gives the name of an endpoint.
    pub fn to_json(&self, endpoint: impl Fn(EndpointId) -> String) -> Value {
        let mut fields = Map::new();
        fields.insert("kind".to_owned(), json!(self.kind));
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        if let Some(slot) = self.slot {
            put("slot", json!(slot));
        }
        if let Some(id) = self.endpoint {
            put("endpoint", json!(endpoint(id)));
        }
        if let Some(at) = self.at {
            put("at_us", json!(at.0));
        }
        put("size_bytes", json!(self.size_bytes));
        match &self.detail {
            Detail::Nothing => {}
            Detail::Fields(own) => own.iter().for_each(|(name, value)| {
                put(name, value.clone());
            }),
            Detail::Update { index, key, status, parent } => {
                put("index", json!(index));
                if !key.is_empty() {
                    put("key", json!(bs58::encode(key).into_string()));
                }
                if let Some(status) = status {
                    put("status", json!(status.name()));
                }
                if let Some(parent) = parent {
                    put("parent_slot", json!(parent));
                }
            }
            // What both hold is made to be serialized.
            Detail::Sample(sample) => {
                put("sample", serde_json::to_value(&**sample).unwrap_or_default());
            }
            Detail::Alert(alert) => {
                put("alert", serde_json::to_value(&**alert).unwrap_or_default());
            }
        }
        Value::Object(fields)
    }
}

fn kind_of(item: &Item) -> &'static str {
    match item {
        Item::Begin(_) => "begin",
        Item::Update(update) => update.frame.header.kind.name(),
        Item::Echo(_) => "echo",
        Item::Session(_) => "session",
        Item::Block(_) => "block",
        Item::Claim(_) => "claim",
        Item::Status(_) => "status",
        Item::Gap(_) => "gap",
        Item::Dispute(_) => "dispute",
        Item::Arrivals(_) => "arrivals",
        Item::Sample(_) => "sample",
        Item::Alert(_) => "alert",
    }
}

fn slot_of(item: &Item) -> Option<Slot> {
    match item {
        Item::Begin(slot) => Some(*slot),
        Item::Update(update) | Item::Echo(Echo::Update(update) | Echo::Account { update, .. }) => {
            Some(update.frame.header.slot).filter(|_| !is_ping(update))
        }
        Item::Echo(Echo::Transactions { slot, .. } | Echo::Entries { slot, .. }) => Some(*slot),
        Item::Block(block) | Item::Claim(block) => Some(block.slot()),
        Item::Status(status) => Some(status.slot),
        Item::Gap(gap) => Some(gap.first),
        Item::Dispute(dispute) => Some(dispute.slot),
        Item::Arrivals(arrivals) => arrivals.first().map(|arrival| arrival.slot),
        Item::Session(_) | Item::Sample(_) | Item::Alert(_) => None,
    }
}

fn is_ping(update: &Update) -> bool {
    update.frame.header.kind.is_keepalive()
}

/// The endpoint of what came from one, and when.
fn lane_of(item: &Item) -> Option<(EndpointId, Option<Timestamp>)> {
    let of = |lane: &Lane| lane.session.endpoint;
    match item {
        Item::Update(update) | Item::Echo(Echo::Update(update) | Echo::Account { update, .. }) => {
            Some((update.session.endpoint, Some(update.received_at)))
        }
        Item::Echo(Echo::Transactions { lane, .. } | Echo::Entries { lane, .. }) => Some((of(lane), None)),
        Item::Session(Session::Opened { id, at, .. } | Session::Closed { id, at }) => {
            Some((id.endpoint, Some(*at)))
        }
        _ => None,
    }
}

fn at_of(item: &Item) -> Option<Timestamp> {
    match item {
        Item::Block(block) => Some(block.meta_update.received_at),
        Item::Status(status) => Some(status.at),
        Item::Sample(sample) => Some(sample.at),
        _ => None,
    }
}

fn detail_of(item: &Item) -> Detail {
    match item {
        Item::Update(update) => detail_of_update(update),
        Item::Echo(Echo::Transactions { indexes, .. } | Echo::Entries { indexes, .. }) => {
            Detail::Fields(vec![("first_index", json!(indexes.start)), ("end_index", json!(indexes.end))])
        }
        Item::Session(Session::Opened { .. }) => Detail::Fields(vec![("session", json!("opened"))]),
        Item::Session(Session::Closed { .. }) => Detail::Fields(vec![("session", json!("closed"))]),
        Item::Block(block) | Item::Claim(block) => {
            let count = |part: &Part| json!(part.updates().map(<[Update]>::len));
            Detail::Fields(vec![
                ("parent_slot", json!(block.meta.parent_slot)),
                ("blockhash", json!(block.blockhash().to_base58())),
                ("way", json!(block.way.name())),
                ("transactions", count(&block.transactions)),
                ("entries", count(&block.entries)),
                ("accounts", count(&block.accounts)),
            ])
        }
        Item::Status(status) => {
            let hash = status.blockhash.map(crate::slot::Hash::to_base58);
            Detail::Fields(vec![
                ("status", json!(status.status.name())),
                ("parent_slot", json!(status.parent)),
                ("blockhash", json!(hash)),
            ])
        }
        Item::Gap(gap) => Detail::Fields(vec![("last_slot", json!(gap.last))]),
        Item::Dispute(dispute) => Detail::Fields(vec![
            ("blockhash", json!(dispute.blockhash.to_base58())),
            ("endpoints", json!(dispute.endpoints().len())),
        ]),
        Item::Arrivals(arrivals) => Detail::Fields(vec![("rows", json!(arrivals.len()))]),
        Item::Sample(sample) => Detail::Sample(Arc::clone(sample)),
        Item::Alert(alert) => Detail::Alert(Arc::clone(alert)),
        Item::Begin(_) | Item::Echo(_) => Detail::Nothing,
    }
}

fn detail_of_update(update: &Update) -> Detail {
    let header = &update.frame.header;
    Detail::Update {
        index: header.index,
        key: update.frame.key().into(),
        status: header.status(),
        parent: header.parent(),
    }
}

/// The tap of one node's output.
#[derive(Debug, Default)]
pub struct Tap {
    /// Readers now; the only thing that a batch looks at while there are none.
    open: AtomicUsize,
    readers: Mutex<Vec<Reader>>,
}

#[derive(Debug)]
struct Reader {
    filter: TapFilter,
    pace: Pace,
    sender: mpsc::Sender<Tapped>,
    missed: Arc<AtomicU64>,
}

/// How many items may be shown by now.
#[derive(Debug)]
struct Pace {
    /// Of each part of a second.
    of_a_part: usize,
    left: usize,
    began: Instant,
}

impl Pace {
    fn new(items_a_second: u64, now: Instant) -> Self {
        let of_a_part = items_a_second.div_ceil(u64::from(PARTS_OF_A_SECOND)) as usize;
        Self { of_a_part, left: of_a_part, began: now }
    }

    /// Items of one batch that may be shown `now`.
    fn room(&mut self, now: Instant) -> usize {
        if now.duration_since(self.began) >= Duration::from_secs(1) / PARTS_OF_A_SECOND {
            (self.left, self.began) = (self.of_a_part, now);
        }
        self.left.min(ITEMS_A_BATCH)
    }
}

/// A node has as many readers as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_READERS} readers look at this node already; try again when one has gone")]
pub struct TooManyReaders;

impl Tap {
    /// Begins to look at so many items a second.
    ///
    /// # Errors
    /// If [`MOST_READERS`] do already.
    pub fn read(
        self: &Arc<Self>,
        filter: TapFilter,
        items_a_second: u64,
    ) -> Result<TapReader, TooManyReaders> {
        let pace = Pace::new(items_a_second, Instant::now());
        let (sender, items) = mpsc::channel(READER_CAPACITY);
        let missed = Arc::new(AtomicU64::new(0));
        let mut readers = self.readers();
        readers.retain(|reader| !reader.sender.is_closed());
        if readers.len() >= MOST_READERS {
            return Err(TooManyReaders);
        }
        readers.push(Reader { filter, pace, sender, missed: Arc::clone(&missed) });
        self.open.store(readers.len(), Ordering::Relaxed);
        Ok(TapReader { items, missed, tap: Arc::clone(self) })
    }

    /// Shows a batch to whoever looks.
    #[inline]
    pub(crate) fn offer(&self, batch: &Batch) {
        if self.open.load(Ordering::Relaxed) > 0 {
            self.show(batch);
        }
    }

    #[cold]
    fn show(&self, batch: &Batch) {
        // Whoever begins or ends to look holds the lock for moments; a batch is not worth the wait.
        let Ok(mut readers) = self.readers.try_lock() else { return };
        let now = Instant::now();
        for reader in readers.iter_mut() {
            let room = reader.pace.room(now);
            let matching = batch.iter().filter(|item| reader.filter.matches(item));
            for item in matching.take(room) {
                reader.pace.left -= 1;
                if reader.sender.capacity() == 0 || reader.sender.try_send(Tapped::of(item)).is_err() {
                    reader.missed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at a node's output until it is dropped.
#[derive(Debug)]
pub struct TapReader {
    items: mpsc::Receiver<Tapped>,
    missed: Arc<AtomicU64>,
    tap: Arc<Tap>,
}

impl TapReader {
    /// The next item; `None` once the node is gone. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Tapped> {
        self.items.recv().await
    }

    /// Items left out since the last call because this reader had no room for them.
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

impl Drop for TapReader {
    fn drop(&mut self) {
        self.items.close();
        let mut readers = self.tap.readers();
        readers.retain(|reader| !reader.sender.is_closed());
        self.tap.open.store(readers.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Gap, Missing};

    fn gaps(slots: impl IntoIterator<Item = Slot>) -> Batch {
        let gap = |slot| Item::Gap(Gap { first: slot, last: slot + 1, missing: Missing::Content });
        slots.into_iter().map(gap).collect()
    }

    #[tokio::test]
    async fn a_reader_sees_what_its_filter_matches() {
        let tap = Arc::new(Tap::default());
        let filter = TapFilter { slot: Some(7), ..TapFilter::default() };
        let mut reader = tap.read(filter, ITEMS_A_SECOND).expect("the first one");
        tap.offer(&gaps(5..9));
        let seen = reader.recv().await.expect("one matches").to_json(|id| id.to_string());
        assert_eq!((&seen["kind"], &seen["slot"], &seen["last_slot"]), (&json!("gap"), &json!(7), &json!(8)));
        assert!(reader.items.try_recv().is_err(), "nothing else matches");
    }

    #[test]
    fn a_reader_is_shown_no_more_than_it_asked_for() {
        let began = Instant::now();
        let mut pace = Pace::new(395, began);
        let mut show = |at: u64| {
            let room = pace.room(began + Duration::from_millis(at));
            pace.left -= room;
            room
        };
        assert_eq!([0, 10, 99, 100, 110, 350].map(&mut show), [32, 8, 0, 32, 8, 32]);
    }

    #[test]
    fn a_reader_that_does_not_read_loses_items_and_holds_nobody_up() {
        let tap = Arc::new(Tap::default());
        let reader = tap.read(TapFilter::default(), 100_000).expect("the first one");
        for _ in 0..10 {
            tap.offer(&gaps(0..100));
        }
        let shown = 10 * ITEMS_A_BATCH as u64;
        assert_eq!(reader.take_missed(), shown - READER_CAPACITY as u64);
    }

    #[test]
    fn readers_are_bounded_and_make_room_when_they_go() {
        let tap = Arc::new(Tap::default());
        let mut readers: Vec<_> =
            (0..MOST_READERS).map(|_| tap.read(TapFilter::default(), ITEMS_A_SECOND)).collect();
        assert_eq!(tap.read(TapFilter::default(), ITEMS_A_SECOND).err(), Some(TooManyReaders));
        readers.clear();
        assert_eq!(tap.open.load(Ordering::Relaxed), 0);
        assert!(tap.read(TapFilter::default(), ITEMS_A_SECOND).is_ok());
    }
}
