//! The format of a recording. All numbers are little-endian; varints are those of protobuf.
//!
//! ```text
//! file   := head block* [index]
//! head   := "SLUICER1" length:u32 crc:u32 json          what was recorded: pipeline, endpoints and their scope
//! block  := "SLBK" flags:u32 packed:u32 raw:u32 records:u32
//!           first_at:u64 last_at:u64 first_slot:u64 last_slot:u64 crc:u32 zstd(sessions record*)
//! index  := "SLIX" count:u32 entry* crc:u32 offset_of_index:u64 "SLND"
//! entry  := offset:u64 records:u32 first_at:u64 last_at:u64 first_slot:u64 last_slot:u64
//!
//! sessions := count:varint session*                      those open where the block begins
//! session  := endpoint:varint number:varint opened_at:varint scope:u8 [torn] length:varint name
//! torn     := count:varint slot:varint*                  if bit 6 of scope is set: slots without their beginning
//! record   := 1 session                                  a session begins
//!           | 2 place:varint at:varint                   a session ends
//!           | 3 place:varint delta:zigzag length:varint SubscribeUpdate
//! ```
//!
//! A block can be read without any other: it names the sessions that it is about, and a record's `place` is a position
//! in that list, which grows with each session that begins in the block. Times are microseconds since the unix epoch;
//! `delta` is against the update before in the block, or against `first_at`. The crc of a block is over its head without
//! the crc, and what follows it; that of the index is over everything before it from `"SLIX"` on. Bit 0 of the flags says
//! that nothing is missing between the block before and this one; without it sessions end and begin anew there.
//!
//! A file that was cut, at whatever byte, reads as its whole blocks: the rest fails its crc, and the index is made anew
//! from the blocks.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{decode_varint, encode_varint};
use serde::{Deserialize, Serialize};

use crate::batch::{EndpointId, Scope, SessionId, Torn, Want};
use crate::slot::{Slot, Timestamp};

/// The first bytes of a recording.
pub const FILE_MAGIC: [u8; 8] = *b"SLUICER1";
/// The first bytes of a block.
pub const BLOCK_MAGIC: [u8; 4] = *b"SLBK";
/// The first bytes of the index.
pub const INDEX_MAGIC: [u8; 4] = *b"SLIX";
/// The last bytes of a file that has an index.
pub const END_MAGIC: [u8; 4] = *b"SLND";
/// Bytes of a block before what is packed in it.
pub const BLOCK_HEAD_BYTES: usize = 56;
/// Bytes of an entry of the index.
pub const INDEX_ENTRY_BYTES: usize = 44;
/// Bytes behind the entries of the index: its crc, its offset and [`END_MAGIC`].
pub const INDEX_TAIL_BYTES: usize = 16;
/// Largest JSON of a file's head that is read: thousands of endpoints.
pub const MAX_HEAD_BYTES: u32 = 1 << 20;
/// Largest block, packed, unpacked and as records in memory: the largest frame, and what may come together with it.
pub const MAX_BLOCK_BYTES: u32 = 512 << 20;
/// Memory of a slot among a session's torn ones.
const TORN_SLOT_BYTES: usize = 16;

const CONTINUES: u32 = 1;
const OPENED: u8 = 1;
const CLOSED: u8 = 2;
const FRAME: u8 = 3;

/// What a file's head says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    /// The name of the pipeline that was recorded.
    pub pipeline: String,
    /// Its endpoints.
    pub endpoints: Vec<HeadEndpoint>,
}

/// An endpoint that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadEndpoint {
    /// Its name.
    pub name: String,
    /// What it was asked for.
    pub scope: Scope,
}

impl Head {
    /// The head with its magic, length and crc.
    pub fn encode(&self) -> Vec<u8> {
        // A struct of texts and words has a JSON.
        let json = serde_json::to_vec(self).unwrap_or_default();
        let mut bytes = FILE_MAGIC.to_vec();
        bytes.put_u32_le(json.len() as u32);
        bytes.put_u32_le(crc32fast::hash(&json));
        bytes.extend(json);
        bytes
    }
}

/// A session, as a recording names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedSession {
    /// Its id at the time; endpoints may be numbered otherwise now.
    pub id: SessionId,
    /// The endpoint's name.
    pub name: Arc<str>,
    /// What it asked for.
    pub scope: Scope,
    /// Slots of which it has only the end.
    pub torn: Torn,
    /// When it began.
    pub opened_at: Timestamp,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A session began.
    Opened(RecordedSession),
    /// A session ended.
    Closed {
        /// Which.
        session: SessionId,
        /// When.
        at: Timestamp,
    },
    /// An update came.
    Frame {
        /// In which session.
        session: SessionId,
        /// When.
        at: Timestamp,
        /// The `SubscribeUpdate`.
        bytes: Bytes,
    },
}

/// A block that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordedBlock {
    /// Nothing is missing between the block before and this one.
    pub continues: bool,
    /// Sessions that were open where it begins.
    pub sessions: Vec<RecordedSession>,
    /// What happened.
    pub records: Vec<Record>,
}

/// Where a block is, and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its first byte's position in the file.
    pub offset: u64,
    /// Records in it.
    pub records: u32,
    /// When its first update came.
    pub first_at: Timestamp,
    /// When its last update came.
    pub last_at: Timestamp,
    /// The lowest slot that it is about; above `last_slot` if it is about none.
    pub first_slot: Slot,
    /// The highest one. Slot numbers that can't be believed don't count.
    pub last_slot: Slot,
}

impl IndexEntry {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.offset);
        out.put_u32_le(self.records);
        self.put_ranges(out);
    }

    pub(super) fn get(bytes: &mut &[u8]) -> Option<Self> {
        let (offset, records) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u32_le().ok()?);
        Self { offset, records, ..Self::empty() }.with_ranges(bytes)
    }

    fn put_ranges(&self, out: &mut Vec<u8>) {
        for number in [self.first_at.0, self.last_at.0, self.first_slot, self.last_slot] {
            out.put_u64_le(number);
        }
    }

    fn with_ranges(self, bytes: &mut &[u8]) -> Option<Self> {
        let mut next = || bytes.try_get_u64_le().ok();
        let (first_at, last_at) = (Timestamp(next()?), Timestamp(next()?));
        Some(Self { first_at, last_at, first_slot: next()?, last_slot: next()?, ..self })
    }

    /// About nothing.
    pub(super) fn empty() -> Self {
        Self {
            offset: 0,
            records: 0,
            first_at: Timestamp(0),
            last_at: Timestamp(0),
            first_slot: Slot::MAX,
            last_slot: 0,
        }
    }
}

/// A block's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHead {
    pub(super) continues: bool,
    pub(super) packed_bytes: u32,
    pub(super) raw_bytes: u32,
    /// Its offset is not part of the head.
    pub(super) entry: IndexEntry,
    crc: u32,
}

impl BlockHead {
    /// The bytes of a block.
    pub(super) fn encode(continues: bool, raw_bytes: u32, entry: IndexEntry, packed: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_HEAD_BYTES + packed.len());
        out.extend(BLOCK_MAGIC);
        out.put_u32_le(if continues { CONTINUES } else { 0 });
        out.put_u32_le(packed.len() as u32);
        out.put_u32_le(raw_bytes);
        out.put_u32_le(entry.records);
        entry.put_ranges(&mut out);
        let crc = crc_of(&out, packed);
        out.put_u32_le(crc);
        out.extend(packed);
        out
    }

    /// Reads a head; `None` if it is none.
    pub(super) fn decode(bytes: &[u8; BLOCK_HEAD_BYTES]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&BLOCK_MAGIC)?;
        let flags = rest.get_u32_le();
        let (packed_bytes, raw_bytes, records) = (rest.get_u32_le(), rest.get_u32_le(), rest.get_u32_le());
        let entry = IndexEntry { records, ..IndexEntry::empty() }.with_ranges(&mut rest)?;
        Some(Self {
            continues: flags & CONTINUES != 0,
            packed_bytes,
            raw_bytes,
            entry,
            crc: rest.get_u32_le(),
        })
    }

    /// Whether head and content are as they were written.
    pub(super) fn is_whole(&self, head: &[u8; BLOCK_HEAD_BYTES], packed: &[u8]) -> bool {
        packed.len() == self.packed_bytes as usize
            && crc_of(&head[..BLOCK_HEAD_BYTES - 4], packed) == self.crc
    }
}

fn crc_of(head: &[u8], packed: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(packed);
    crc.finalize()
}

/// The index with its magic, crc and offset.
pub(super) fn encode_index(entries: &[IndexEntry], offset: u64) -> Vec<u8> {
    let mut out = INDEX_MAGIC.to_vec();
    out.put_u32_le(entries.len() as u32);
    entries.iter().for_each(|entry| entry.put(&mut out));
    let crc = crc32fast::hash(&out);
    out.put_u32_le(crc);
    out.put_u64_le(offset);
    out.extend(END_MAGIC);
    out
}

/// Reads an index; `None` if it is none, or damaged.
pub(super) fn decode_index(bytes: &[u8]) -> Option<Vec<IndexEntry>> {
    let entries = bytes.len().checked_sub(INDEX_TAIL_BYTES)?;
    let (entries, mut tail) = bytes.split_at(entries);
    if tail.get_u32_le() != crc32fast::hash(entries) {
        return None;
    }
    let mut rest = entries.strip_prefix(&INDEX_MAGIC)?;
    let count = rest.try_get_u32_le().ok()? as usize;
    if rest.len() != count.checked_mul(INDEX_ENTRY_BYTES)? {
        return None;
    }
    (0..count).map(|_| IndexEntry::get(&mut rest)).collect()
}

pub(super) fn put_session(session: &RecordedSession, out: &mut Vec<u8>) {
    encode_varint(u64::from(session.id.endpoint), out);
    encode_varint(u64::from(session.id.number), out);
    encode_varint(session.opened_at.0, out);
    let torn = if session.torn.is_empty() { 0 } else { HAS_TORN };
    out.push(scope_byte(session.scope) | torn);
    if !session.torn.is_empty() {
        encode_varint(session.torn.len() as u64, out);
        session.torn.iter().for_each(|&slot| encode_varint(slot, out));
    }
    encode_varint(session.name.len() as u64, out);
    out.extend(session.name.as_bytes());
}

pub(super) fn put_sessions<'a>(
    sessions: impl ExactSizeIterator<Item = &'a RecordedSession>,
    out: &mut Vec<u8>,
) {
    encode_varint(sessions.len() as u64, out);
    sessions.for_each(|session| put_session(session, out));
}

pub(super) fn put_opened(session: &RecordedSession, out: &mut Vec<u8>) {
    out.push(OPENED);
    put_session(session, out);
}

pub(super) fn put_closed(place: usize, at: Timestamp, out: &mut Vec<u8>) {
    out.push(CLOSED);
    encode_varint(place as u64, out);
    encode_varint(at.0, out);
}

pub(super) fn put_frame(place: usize, delta_micros: i64, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(FRAME);
    encode_varint(place as u64, out);
    encode_varint(((delta_micros << 1) ^ (delta_micros >> 63)) as u64, out);
    encode_varint(bytes.len() as u64, out);
    out.extend(bytes);
}

/// The memory that a block may still take. A few packed bytes can stand for any number of records, and a record takes more
/// than its bytes.
struct Room(usize);

impl Room {
    /// Takes some of it; `None` if there is not as much.
    fn take(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.checked_sub(bytes)?;
        Some(())
    }
}

/// Reads what is packed in a block; `None` if it is not what a writer of this version makes, or would take more than
/// `max_bytes` of memory.
pub(super) fn decode_block(
    continues: bool,
    first_at: Timestamp,
    mut raw: &[u8],
    max_bytes: usize,
) -> Option<RecordedBlock> {
    let mut room = Room(max_bytes);
    let count = number::<usize>(&mut raw)?;
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(session(&mut raw, &mut room)?);
    }
    let mut places: Vec<SessionId> = sessions.iter().map(|session| session.id).collect();
    let (mut records, mut at) = (Vec::new(), first_at);
    while !raw.is_empty() {
        room.take(size_of::<Record>())?;
        let record = match raw.get_u8() {
            OPENED => {
                let session = session(&mut raw, &mut room)?;
                places.push(session.id);
                Record::Opened(session)
            }
            CLOSED => {
                let session = *places.get(number::<usize>(&mut raw)?)?;
                Record::Closed { session, at: Timestamp(number(&mut raw)?) }
            }
            FRAME => {
                let session = *places.get(number::<usize>(&mut raw)?)?;
                let zigzag: u64 = number(&mut raw)?;
                let delta = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                at = Timestamp(at.0.wrapping_add_signed(delta));
                let bytes = text(&mut raw)?;
                room.take(bytes.len())?;
                // A copy: a part of the block would keep all of it in memory.
                Record::Frame { session, at, bytes: Bytes::copy_from_slice(bytes) }
            }
            _ => return None,
        };
        records.push(record);
    }
    Some(RecordedBlock { continues, sessions, records })
}

fn session(raw: &mut &[u8], room: &mut Room) -> Option<RecordedSession> {
    room.take(size_of::<RecordedSession>())?;
    let id = SessionId { endpoint: number::<EndpointId>(raw)?, number: number(raw)? };
    let opened_at = Timestamp(number(raw)?);
    let flags = raw.try_get_u8().ok()?;
    let scope = scope_of(flags & !HAS_TORN)?;
    let count = if flags & HAS_TORN == 0 { 0 } else { number::<usize>(raw)? };
    let torn_slot = |_| room.take(TORN_SLOT_BYTES).and_then(|()| number(raw));
    let torn = (0..count).map(torn_slot).collect::<Option<Torn>>()?;
    let name = text(raw)?;
    room.take(name.len())?;
    let name = Arc::from(std::str::from_utf8(name).ok()?);
    Some(RecordedSession { id, name, scope, torn, opened_at })
}

fn number<T: TryFrom<u64>>(raw: &mut &[u8]) -> Option<T> {
    T::try_from(decode_varint(raw).ok()?).ok()
}

fn text<'a>(raw: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number::<usize>(raw)?;
    let (text, rest) = raw.split_at_checked(length)?;
    *raw = rest;
    Some(text)
}

/// The bit of a session's scope that says that its torn slots follow.
const HAS_TORN: u8 = 1 << 6;

const WANTS: [Want; 3] = [Want::Nothing, Want::Filtered, Want::Everything];

fn scope_byte(scope: Scope) -> u8 {
    let bits = |want: Want| want as u8;
    bits(scope.transactions) | bits(scope.entries) << 2 | bits(scope.accounts) << 4
}

fn scope_of(byte: u8) -> Option<Scope> {
    let want = |shift: u8| WANTS.get(usize::from(byte >> shift & 3)).copied();
    Some(Scope { transactions: want(0)?, entries: want(2)?, accounts: want(4)? })
}
