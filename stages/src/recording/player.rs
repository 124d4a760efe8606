//! Turns what a recording says back into items. Pure.
//!
//! Sessions get new numbers, so that they are never taken for sessions of today; their endpoints get the ids that
//! endpoints of these names have now, or ids of their own. Where a recording misses something, its sessions end and begin
//! anew: a session vouches that nothing is missing in it. Pings and pongs go no further.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};

use super::format::{Record, RecordedBlock, RecordedSession};
use crate::batch::{Batch, EndpointId, Item, Session, SessionId, Update};
use crate::component::{BuildContext, Endpoint};
use crate::frame::{Frame, FrameError, Kind};
use crate::recovery::fetch::RPC_ENDPOINT;
use crate::recovery::kept::FetchedSlot;
use crate::recovery::replay;
use crate::slot::Timestamp;

/// Sessions that are played count from here: live ones count from 1, those of recovery from 2³¹.
const FIRST_NUMBER: u32 = 1 << 30;
/// Ids that endpoints of recordings are given; beyond, all share the last.
const GUEST_IDS: u16 = 1 << 15;
/// Of them, those whose names are kept, in some 25 KB. Recordings of more endpoints are not played together.
const NAMED_GUESTS: usize = 1 << 10;

/// Gives ids to endpoints that are not the pipeline's own, from the top down.
#[derive(Debug, Clone)]
pub struct Guests {
    given: Arc<AtomicU16>,
    /// By the order in which they came.
    names: Arc<[OnceLock<Arc<str>>]>,
}

impl Default for Guests {
    fn default() -> Self {
        Self { given: Arc::default(), names: (0..NAMED_GUESTS).map(|_| OnceLock::new()).collect() }
    }
}

impl Guests {
    /// Those of a pipeline.
    pub fn of(context: &mut BuildContext) -> Self {
        context.shared.get_or_insert_default::<Self>().clone()
    }

    /// What the endpoint with an id is called, if it is one of these.
    pub fn name(&self, id: EndpointId) -> Option<&str> {
        let place = (RPC_ENDPOINT - 1).checked_sub(id)?;
        self.names.get(usize::from(place))?.get().map(|name| &**name)
    }

    fn next(&self, name: &Arc<str>) -> EndpointId {
        let give = |given: u16| Some((given + 1).min(GUEST_IDS));
        let given = self.given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
        let given = given.unwrap_or_else(|given| given);
        if let Some(place) = self.names.get(usize::from(given)) {
            // Each place is given once.
            place.set(Arc::clone(name)).ok();
        }
        RPC_ENDPOINT - 1 - given
    }
}

/// Plays blocks.
#[derive(Debug)]
pub struct Player {
    ids: BTreeMap<Arc<str>, EndpointId>,
    guests: Guests,
    next_number: u32,
    /// Sessions that are open, by what the recording calls them.
    open: BTreeMap<SessionId, SessionId>,
    /// Whether sessions of recovery are kept apart.
    apart: bool,
    /// Those that are open, by what they are called now; nothing, if the beginning is lost.
    fetching: BTreeMap<SessionId, Option<FetchedSlot>>,
    fetched: Vec<FetchedSlot>,
    last_at: Timestamp,
    malformed: Vec<(EndpointId, FrameError)>,
}

impl Player {
    /// A player that has played nothing. Sessions of `known` endpoints are taken to be theirs.
    pub fn new(known: &[Endpoint], guests: Guests) -> Self {
        let ids = known.iter().map(|endpoint| (Arc::clone(&endpoint.name), endpoint.id)).collect();
        Self {
            ids,
            guests,
            next_number: FIRST_NUMBER,
            open: BTreeMap::new(),
            apart: false,
            fetching: BTreeMap::new(),
            fetched: Vec::new(),
            last_at: Timestamp(0),
            malformed: Vec::new(),
        }
    }

    /// The same, but what recovery fetched is not among the items; see [`Self::take_fetched`].
    pub fn apart(known: &[Endpoint], guests: Guests) -> Self {
        Self { apart: true, ..Self::new(known, guests) }
    }

    /// The slots that recovery fetched, of those that were recorded to their end since this was last asked.
    pub fn take_fetched(&mut self) -> Vec<FetchedSlot> {
        std::mem::take(&mut self.fetched)
    }

    /// The items of the next block.
    pub fn play(&mut self, block: RecordedBlock) -> Batch {
        let mut items = Batch::with_capacity(block.records.len());
        if !block.continues {
            self.end(&mut items);
        }
        for session in &block.sessions {
            if !self.open.contains_key(&session.id) {
                items.extend(self.open(session, false));
            }
        }
        for record in block.records {
            match record {
                Record::Opened(session) => {
                    // Its end was lost.
                    self.close(session.id, session.opened_at, &mut items);
                    items.extend(self.open(&session, true));
                }
                Record::Closed { session, at } => self.close(session, at, &mut items),
                Record::Frame { session, at, bytes } => {
                    self.last_at = self.last_at.max(at);
                    let Some(&session) = self.open.get(&session) else { continue };
                    match Frame::try_new(bytes) {
                        Ok(frame) if matches!(frame.header.kind, Kind::Ping | Kind::Pong) => {}
                        Ok(frame) => {
                            let update = Update { frame, session, received_at: at, lease: None };
                            items.extend(self.pass(update));
                        }
                        Err(error) => self.malformed.push((session.endpoint, error)),
                    }
                }
            }
        }
        items
    }

    /// Ends all sessions that are open.
    pub fn end(&mut self, items: &mut Batch) {
        let at = self.last_at;
        // What was not recorded to its end is not whole.
        let fetching = std::mem::take(&mut self.fetching);
        let closed = std::mem::take(&mut self.open).into_values().filter(|id| !fetching.contains_key(id));
        items.extend(closed.map(|id| Item::Session(Session::Closed { id, at })));
    }

    /// Updates that could not be read since this was last asked, with their endpoints.
    pub fn take_malformed(&mut self) -> Vec<(EndpointId, FrameError)> {
        std::mem::take(&mut self.malformed)
    }

    /// An update on its way; none if it was fetched.
    fn pass(&mut self, update: Update) -> Option<Item> {
        let Some(fetching) = self.fetching.get_mut(&update.session) else {
            return Some(Item::Update(update));
        };
        if let Some(slot) = fetching {
            slot.slot = update.frame.header.slot;
            slot.updates.push(update);
        }
        None
    }

    /// Begins a session, with its beginning or later.
    fn open(&mut self, session: &RecordedSession, begins: bool) -> Option<Item> {
        let guests = &self.guests;
        let endpoint =
            *self.ids.entry(Arc::clone(&session.name)).or_insert_with(|| guests.next(&session.name));
        let id = SessionId { endpoint, number: self.next_number };
        self.next_number = self.next_number.saturating_add(1);
        self.open.insert(session.id, id);
        self.last_at = self.last_at.max(session.opened_at);
        let RecordedSession { name, scope, torn, opened_at: at, .. } = session.clone();
        if self.apart && session.id.number >= replay::FIRST_NUMBER {
            let slot = FetchedSlot { slot: 0, endpoint: name, scope, updates: Vec::new() };
            self.fetching.insert(id, begins.then_some(slot));
            return None;
        }
        Some(Item::Session(Session::Opened { id, endpoint: name, scope, torn, at }))
    }

    fn close(&mut self, session: SessionId, at: Timestamp, items: &mut Batch) {
        self.last_at = self.last_at.max(at);
        let Some(id) = self.open.remove(&session) else { return };
        if let Some(fetched) = self.fetching.remove(&id) {
            self.fetched.extend(fetched);
        } else {
            items.push(Item::Session(Session::Closed { id, at }));
        }
    }
}
