//! Makes recordings: an [`Encoder`] that turns items into blocks, and a [`Writer`] that puts blocks into a file.
//!
//! The encoder is pure, and keeps the list of open sessions, which outlives a file: segments of a spool go on where the
//! one before ended. Holds at most a block of [`BLOCK_BYTES`] and the update that filled it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use super::format::{self, BlockHead, Head, IndexEntry, RecordedSession};
use crate::batch::{Item, Scope, Session, SessionId, Torn, Update};
use crate::slot::Timestamp;
use crate::tip::Tip;

/// Raw bytes at which a block ends: large enough to pack well, small enough to be lost.
pub const BLOCK_BYTES: usize = 1 << 20;

/// A block, ready to be written.
#[derive(Debug)]
pub struct EncodedBlock {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it is about; the offset is the writer's to give.
    pub entry: IndexEntry,
}

/// Turns items into blocks. What is neither an update nor a session is not recorded.
#[derive(Debug)]
pub struct Encoder {
    compression_level: i32,
    sessions: BTreeMap<SessionId, RecordedSession>,
    /// The block's own list of sessions.
    places: BTreeMap<SessionId, usize>,
    /// That list's length; a session that begins again under its old number takes a new place.
    listed: usize,
    raw: Vec<u8>,
    entry: IndexEntry,
    updates: u32,
    last_at: Timestamp,
    tip: Tip,
    continues: bool,
}

impl Encoder {
    /// An encoder that has seen nothing; zstd's `compression_level`.
    pub fn new(compression_level: i32) -> Self {
        Self {
            compression_level,
            sessions: BTreeMap::new(),
            places: BTreeMap::new(),
            listed: 0,
            raw: Vec::new(),
            entry: IndexEntry::empty(),
            updates: 0,
            last_at: Timestamp(0),
            tip: Tip::default(),
            continues: false,
        }
    }

    /// Takes an item in.
    pub fn push(&mut self, item: &Item) {
        match item {
            Item::Update(update) => self.on_update(update),
            Item::Session(session) => self.on_session(session, true),
            _ => {}
        }
    }

    /// Lets an item go, but not the fact that a session began or ended.
    pub fn skip(&mut self, item: &Item) {
        if let Item::Session(session) = item {
            self.on_session(session, false);
        }
    }

    /// Lets go of what has not been taken, and notes that something is missing before what comes next.
    pub fn interrupt(&mut self) {
        self.reset();
        self.continues = false;
    }

    /// Raw bytes that have not been taken.
    pub fn waiting_bytes(&self) -> usize {
        self.raw.len()
    }

    /// Updates that have not been taken.
    pub fn waiting_updates(&self) -> u32 {
        self.updates
    }

    /// Whether the block should be taken now.
    pub fn is_full(&self) -> bool {
        self.raw.len() >= BLOCK_BYTES
    }

    /// Ends the block; `None` if nothing is in it.
    ///
    /// # Errors
    /// If it is larger than 4 GiB, or zstd refuses the level.
    pub fn take(&mut self) -> io::Result<Option<EncodedBlock>> {
        if self.entry.records == 0 {
            return Ok(None);
        }
        let raw_bytes = u32::try_from(self.raw.len()).map_err(io::Error::other)?;
        let packed = zstd::bulk::compress(&self.raw, self.compression_level)?;
        let bytes = BlockHead::encode(self.continues, raw_bytes, self.entry, &packed);
        let entry = self.entry;
        self.reset();
        self.continues = true;
        Ok(Some(EncodedBlock { bytes, entry }))
    }

    fn reset(&mut self) {
        self.raw.clear();
        self.places.clear();
        self.entry = IndexEntry::empty();
        self.updates = 0;
    }

    /// Begins a block if none is, with the sessions that are open.
    fn begin(&mut self, at: Timestamp) {
        if self.entry.records == 0 {
            self.places = self.sessions.keys().enumerate().map(|(place, id)| (*id, place)).collect();
            self.listed = self.sessions.len();
            format::put_sessions(self.sessions.values(), &mut self.raw);
            (self.entry.first_at, self.entry.last_at, self.last_at) = (at, at, at);
        }
        self.entry.records += 1;
    }

    fn on_session(&mut self, session: &Session, record: bool) {
        match session {
            Session::Opened { id, endpoint, scope, torn, at } => {
                let (name, torn) = (Arc::clone(endpoint), torn.clone());
                let opened = RecordedSession { id: *id, name, scope: *scope, torn, opened_at: *at };
                if record {
                    self.open(&opened);
                }
                self.sessions.insert(*id, opened);
            }
            Session::Closed { id, at } => {
                if record && self.sessions.contains_key(id) {
                    self.begin(*at);
                    let place = self.places.get(id).copied().unwrap_or_default();
                    format::put_closed(place, *at, &mut self.raw);
                }
                self.sessions.remove(id);
            }
        }
    }

    fn open(&mut self, opened: &RecordedSession) {
        self.begin(opened.opened_at);
        self.places.insert(opened.id, self.listed);
        self.listed += 1;
        format::put_opened(opened, &mut self.raw);
    }

    fn on_update(&mut self, update: &Update) {
        if !self.sessions.contains_key(&update.session) {
            // Its begin was not seen.
            let opened = RecordedSession {
                id: update.session,
                name: Arc::from("unknown"),
                scope: Scope::default(),
                torn: Torn::new(),
                opened_at: update.received_at,
            };
            self.open(&opened);
            self.sessions.insert(update.session, opened);
        }
        self.begin(update.received_at);
        self.updates += 1;
        let slot = update.frame.header.slot;
        if slot > 0 && self.tip.observe(slot) {
            self.entry.first_slot = self.entry.first_slot.min(slot);
            self.entry.last_slot = self.entry.last_slot.max(slot);
        }
        let delta = update.received_at.0.wrapping_sub(self.last_at.0) as i64;
        self.last_at = update.received_at;
        self.entry.last_at = self.entry.last_at.max(update.received_at);
        let place = self.places.get(&update.session).copied().unwrap_or_default();
        format::put_frame(place, delta, update.frame.bytes(), &mut self.raw);
    }
}

/// Puts blocks into a file. To make them durable is up to whoever owns the file.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    offset: u64,
    index: Vec<IndexEntry>,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// What the file says.
    pub fn begin(mut out: W, head: &Head) -> io::Result<Self> {
        let head = head.encode();
        out.write_all(&head)?;
        Ok(Self { out, offset: head.len() as u64, index: Vec::new() })
    }

    /// Adds a block.
    ///
    /// # Errors
    /// What the file says; the file may end in the middle of the block then, and should not be written to again.
    pub fn append(&mut self, block: &EncodedBlock) -> io::Result<()> {
        self.out.write_all(&block.bytes)?;
        self.index.push(IndexEntry { offset: self.offset, ..block.entry });
        self.offset += block.bytes.len() as u64;
        Ok(())
    }

    /// Adds the index. Nothing can be added behind it. Returns the file and its length.
    ///
    /// # Errors
    /// What the file says; without an index the recording is as good, but slower to open.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let index = format::encode_index(&self.index, self.offset);
        self.out.write_all(&index)?;
        Ok((self.out, self.offset + index.len() as u64))
    }

    /// Bytes written.
    pub fn len_bytes(&self) -> u64 {
        self.offset
    }

    /// The file.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }
}
