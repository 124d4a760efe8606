//! Reads recordings: those of [`super::format`], and plain ones, which are frames of [u32 big-endian
//! length]`SubscribeUpdate`. Either may be packed as a whole with zstd or gzip.
//!
//! A plain recording has no arrival times; each update is taken to have come when its server made it (`created_at`),
//! where it says so. It has one session, and it does not say what that asked for: each kind of update that is in its
//! first [`PROBE_BYTES`] counts as asked for in full.
//!
//! A file that breaks off, or is damaged, is read up to there; [`Reader::torn_at`] says where that was.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::format::{
    self, BLOCK_HEAD_BYTES, BLOCK_MAGIC, BlockHead, END_MAGIC, FILE_MAGIC, Head, HeadEndpoint,
    INDEX_TAIL_BYTES, IndexEntry, MAX_BLOCK_BYTES, MAX_HEAD_BYTES, Record, RecordedBlock, RecordedSession,
};
use crate::batch::{Scope, SessionId, Torn, Want};
use crate::frame::{self, FrameError, Kind};
use crate::slot::{Slot, Timestamp};
use crate::wire;

/// Bytes of a plain recording that are looked at to learn what was asked for: some seconds of mainnet.
pub const PROBE_BYTES: u64 = 64 << 20;
/// Frames of a plain recording that are handed on together, in bytes that they take in memory.
pub(super) const PLAIN_BLOCK_BYTES: usize = 1 << 20;
/// Largest frame of a plain recording: what a subscription accepts by default.
const MAX_FRAME_BYTES: usize = 256 << 20;
/// Bytes read from the disk at a time.
const READ_BYTES: usize = 256 << 10;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Field number of `SubscribeUpdate.created_at`.
const FIELD_CREATED_AT: u32 = 11;

/// A recording that can't be read.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// It is something else.
    #[error(
        "{path} is no recording: it neither begins with `SLUICER1` nor with a big-endian u32 length and a \
         SubscribeUpdate; make one with `sluice record`"
    )]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in it.
    #[error("{path} is empty; make a recording with `sluice record`")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It has nothing of what is wanted.
    #[error("{path}: the recording ends before the place that it is to begin with; its last slot is {last}")]
    Ends {
        /// The file.
        path: PathBuf,
        /// The highest slot that it is about.
        last: Slot,
    },
    /// Its head is damaged.
    #[error("{path}: the head of the recording is damaged; nothing can be read of it")]
    Head {
        /// The file.
        path: PathBuf,
    },
}

type Input = Box<dyn BufRead + Send>;

/// Reads a recording from its beginning to its end.
pub struct Reader {
    path: PathBuf,
    input: Input,
    format: Format,
    offset: u64,
    ended: bool,
    torn_at: Option<u64>,
    skipping: Option<Skipping>,
}

/// Where to begin with what has no index: updates before that are read and let go.
#[derive(Debug, Clone, Copy)]
struct Skipping {
    slot: Option<Slot>,
    after: Duration,
    first_at: Option<Timestamp>,
    last_slot: Slot,
}

impl Skipping {
    /// Whether an update, which came `at`, is behind the place to begin with.
    fn reaches(&mut self, at: Timestamp, update: &Bytes) -> bool {
        let slot = frame::scan(update).map_or(0, |header| header.slot);
        self.last_slot = self.last_slot.max(slot);
        let first_at = *self.first_at.get_or_insert(at);
        self.slot.is_none_or(|wanted| slot >= wanted) && at >= first_at.after(self.after)
    }
}

enum Format {
    Blocks(Head),
    Plain { name: Arc<str>, scope: Scope, begun: bool, last_at: Timestamp },
}

impl Reader {
    /// Opens the recording at `path`.
    ///
    /// # Errors
    /// If it can't be read, or is none.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let io = |source| RecordingError::Io { path: path.to_owned(), source };
        let mut input = unpacked(path).map_err(io)?;
        let start = match input.fill_buf() {
            Ok([]) => return Err(RecordingError::Empty { path: path.to_owned() }),
            Ok(start) => start,
            // Packed, and broken before its first bytes.
            Err(error) if is_torn(&error) => return Err(RecordingError::Unknown { path: path.to_owned() }),
            Err(error) => return Err(io(error)),
        };
        let is_plain = !start.starts_with(&FILE_MAGIC);
        let mut reader = Self {
            path: path.to_owned(),
            input,
            format: Format::Blocks(Head::default()),
            offset: 0,
            ended: false,
            torn_at: None,
            skipping: None,
        };
        reader.format = if is_plain { reader.probe()? } else { Format::Blocks(reader.head()?) };
        Ok(reader)
    }

    /// Begins with what is about `slot` or a later one, and came so long `after` the beginning or later: with the
    /// first block that has such an update, by the index where there is one.
    ///
    /// # Errors
    /// If the disk refuses, or the recording ends before that.
    pub fn skip_to(&mut self, slot: Option<Slot>, after: Duration) -> Result<(), RecordingError> {
        let io = |source| RecordingError::Io { path: self.path.clone(), source };
        let mut file = File::open(&self.path).map_err(io)?;
        let Some(index) = Index::read(&mut file).map_err(io)? else {
            self.skipping = Some(Skipping { slot, after, first_at: None, last_slot: 0 });
            return Ok(());
        };
        let ends = || RecordingError::Ends { path: self.path.clone(), last: index.last_slot() };
        let begun = index.entries.first().map_or(Timestamp(0), |entry| entry.first_at);
        let is_first = |entry: &&IndexEntry| {
            slot.is_none_or(|slot| entry.last_slot >= slot) && entry.last_at >= begun.after(after)
        };
        let first = index.entries.iter().find(is_first).ok_or_else(ends)?.offset;
        file.seek(SeekFrom::Start(first)).map_err(io)?;
        (self.input, self.offset) = (Box::new(BufReader::with_capacity(READ_BYTES, file)), first);
        Ok(())
    }

    /// The endpoints that were recorded, and what they were asked for.
    pub fn endpoints(&self) -> Vec<HeadEndpoint> {
        match &self.format {
            Format::Blocks(head) => head.endpoints.clone(),
            Format::Plain { name, scope, .. } => {
                vec![HeadEndpoint { name: name.to_string(), scope: *scope }]
            }
        }
    }

    /// Where the file breaks off or is damaged, once that has been reached: what is behind it can't be read.
    pub fn torn_at(&self) -> Option<u64> {
        self.torn_at
    }

    /// The next block; `None` at the end.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn next_block(&mut self) -> Result<Option<RecordedBlock>, RecordingError> {
        if self.ended {
            return Ok(None);
        }
        let block = loop {
            let read = match &self.format {
                Format::Blocks(_) => self.next_of_blocks(),
                Format::Plain { .. } => self.next_of_plain(),
            };
            let block = read.map_err(|source| RecordingError::Io { path: self.path.clone(), source })?;
            match block {
                Some(block) if self.is_skipped(&block) => {}
                block => break block,
            }
        };
        self.ended |= block.is_none();
        match self.skipping.filter(|_| self.ended) {
            Some(Skipping { last_slot: last, .. }) => {
                Err(RecordingError::Ends { path: self.path.clone(), last })
            }
            None => Ok(block),
        }
    }

    /// Whether a block lies before the place to begin with.
    fn is_skipped(&mut self, block: &RecordedBlock) -> bool {
        let Some(skipping) = &mut self.skipping else { return false };
        if let Some(first) = block.records.first() {
            skipping.first_at.get_or_insert(match first {
                Record::Opened(session) => session.opened_at,
                Record::Closed { at, .. } | Record::Frame { at, .. } => *at,
            });
        }
        let mut frames = block.records.iter().filter_map(|record| match record {
            Record::Frame { at, bytes, .. } => Some((*at, bytes)),
            Record::Opened(_) | Record::Closed { .. } => None,
        });
        if frames.any(|(at, bytes)| skipping.reaches(at, bytes)) {
            self.skipping = None;
        }
        self.skipping.is_some()
    }

    fn head(&mut self) -> Result<Head, RecordingError> {
        let damaged = || RecordingError::Head { path: self.path.clone() };
        let mut fixed = [0; 16];
        self.input.read_exact(&mut fixed).map_err(|_| damaged())?;
        let (length, crc) = (number(&fixed, 8), number(&fixed, 12));
        if length > MAX_HEAD_BYTES {
            return Err(damaged());
        }
        let mut json = vec![0; length as usize];
        self.input.read_exact(&mut json).map_err(|_| damaged())?;
        self.offset = fixed.len() as u64 + u64::from(length);
        let head = serde_json::from_slice(&json).map_err(|_| damaged())?;
        if crc32fast::hash(&json) == crc { Ok(head) } else { Err(damaged()) }
    }

    fn next_of_blocks(&mut self) -> io::Result<Option<RecordedBlock>> {
        let found = match read_block(&mut self.input) {
            Err(error) if is_torn(&error) => Found::Torn,
            found => found?,
        };
        match found {
            Found::Block(head, packed) => {
                self.offset += (BLOCK_HEAD_BYTES + packed.len()) as u64;
                if head.raw_bytes > MAX_BLOCK_BYTES {
                    return Err(io::Error::other("a block larger than any that is written"));
                }
                let raw = zstd::bulk::decompress(&packed, head.raw_bytes as usize);
                let raw = raw.map_err(io::Error::other)?;
                let max_bytes = MAX_BLOCK_BYTES as usize;
                let block = format::decode_block(head.continues, head.entry.first_at, &raw, max_bytes);
                let newer =
                    "a block of a newer version of the format, or with more in it than is ever written";
                block.ok_or_else(|| io::Error::other(newer)).map(Some)
            }
            Found::End => Ok(None),
            Found::Torn => {
                self.torn_at = Some(self.offset);
                Ok(None)
            }
        }
    }

    fn next_of_plain(&mut self) -> io::Result<Option<RecordedBlock>> {
        let mut frames = Vec::new();
        let mut size = 0;
        while size < PLAIN_BLOCK_BYTES && self.torn_at.is_none() {
            let Some(frame) = self.plain_frame()? else { break };
            // An empty frame takes a record, too: a small packed file can hold any number of them.
            size += size_of::<Record>() + frame.len();
            frames.push(frame);
        }
        let Format::Plain { name, scope, begun, last_at } = &mut self.format else { return Ok(None) };
        let id = SessionId { endpoint: 0, number: 0 };
        let record = |bytes: Bytes| {
            *last_at = created_at(&bytes).unwrap_or(*last_at).max(*last_at);
            Record::Frame { session: id, at: *last_at, bytes }
        };
        let records: Vec<_> = frames.into_iter().map(record).collect();
        let Some(Record::Frame { at, .. }) = records.first() else { return Ok(None) };
        let session =
            RecordedSession { id, name: Arc::clone(name), scope: *scope, torn: Torn::new(), opened_at: *at };
        let continues = std::mem::replace(begun, true);
        Ok(Some(RecordedBlock { continues, sessions: vec![session], records }))
    }

    /// The next frame of a plain recording; `None` where it ends or breaks off.
    fn plain_frame(&mut self) -> io::Result<Option<Bytes>> {
        match plain_frame(&mut self.input)? {
            Plain::Frame(bytes) => {
                self.offset += 4 + bytes.len() as u64;
                Ok(Some(bytes))
            }
            Plain::End => Ok(None),
            Plain::Torn => {
                self.torn_at = Some(self.offset);
                Ok(None)
            }
        }
    }

    /// Looks at the beginning of what may be a plain recording.
    fn probe(&self) -> Result<Format, RecordingError> {
        let io = |source| RecordingError::Io { path: self.path.clone(), source };
        let mut input = unpacked(&self.path).map_err(io)?;
        let (mut scope, mut seen) = (Scope::default(), 0);
        while let (true, Plain::Frame(bytes)) = (seen < PROBE_BYTES, plain_frame(&mut input).map_err(io)?) {
            match frame::scan(&bytes).map(|header| header.kind) {
                Ok(Kind::Transaction) => scope.transactions = Want::Everything,
                Ok(Kind::Entry) => scope.entries = Want::Everything,
                Ok(Kind::Account) => scope.accounts = Want::Everything,
                Err(FrameError::Wire(_) | FrameError::Empty) if seen == 0 => {
                    return Err(RecordingError::Unknown { path: self.path.clone() });
                }
                Ok(_) | Err(_) => {}
            }
            seen += 4 + bytes.len() as u64;
        }
        if seen == 0 {
            return Err(RecordingError::Unknown { path: self.path.clone() });
        }
        let name = self.path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(Format::Plain { name: Arc::from(name), scope, begun: false, last_at: Timestamp(0) })
    }
}

/// The blocks of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// One for each block, in their order.
    pub entries: Vec<IndexEntry>,
    /// Whether the file has no index of its own: its writer was killed, or is at work.
    pub rebuilt: bool,
}

impl Index {
    /// The highest slot that any block is about.
    pub fn last_slot(&self) -> Slot {
        self.entries.iter().map(|entry| entry.last_slot).max().unwrap_or_default()
    }

    /// Reads the index of a recording, or makes it anew from its whole blocks; `None` if `file` is not a recording in
    /// blocks.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn read(file: &mut File) -> io::Result<Option<Self>> {
        let mut start = [0; 16];
        file.seek(SeekFrom::Start(0))?;
        if !read_all(file, &mut start)? || !start.starts_with(&FILE_MAGIC) {
            return Ok(None);
        }
        match Self::at_end(file)? {
            Some(entries) => Ok(Some(Self { entries, rebuilt: false })),
            None => Self::scan(file, 16 + u64::from(number(&start, 8))).map(Some),
        }
    }

    fn at_end(file: &mut File) -> io::Result<Option<Vec<IndexEntry>>> {
        const BACK: usize = 12;
        let length = file.seek(SeekFrom::End(0))?;
        if length < INDEX_TAIL_BYTES as u64 {
            return Ok(None);
        }
        file.seek(SeekFrom::End(-(BACK as i64)))?;
        let mut tail = [0; BACK];
        file.read_exact(&mut tail)?;
        let offset = u64::from(number(&tail, 0)) | u64::from(number(&tail, 4)) << 32;
        if tail[8..] != END_MAGIC || offset > length {
            return Ok(None);
        }
        // Each entry stands for a block, so an index is smaller than what lies before it.
        if length - offset > offset + INDEX_TAIL_BYTES as u64 {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(format::decode_index(&bytes))
    }

    fn scan(file: &mut File, mut offset: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(offset))?;
        let mut input = BufReader::with_capacity(READ_BYTES, file);
        let mut entries = Vec::new();
        while let Found::Block(head, packed) = read_block(&mut input)? {
            entries.push(IndexEntry { offset, ..head.entry });
            offset += (BLOCK_HEAD_BYTES + packed.len()) as u64;
        }
        Ok(Self { entries, rebuilt: true })
    }
}

enum Found {
    Block(BlockHead, Vec<u8>),
    End,
    Torn,
}

/// Reads what stands where a block may.
fn read_block(input: &mut impl Read) -> io::Result<Found> {
    let mut magic = [0; 4];
    match fill(input, &mut magic)? {
        0 => return Ok(Found::End),
        4 if magic == format::INDEX_MAGIC => return Ok(Found::End),
        4 if magic == BLOCK_MAGIC => {}
        _ => return Ok(Found::Torn),
    }
    let mut head = [0; BLOCK_HEAD_BYTES];
    head[..4].copy_from_slice(&magic);
    if !read_all(input, &mut head[4..])? {
        return Ok(Found::Torn);
    }
    let decoded = BlockHead::decode(&head).filter(|head| head.packed_bytes <= MAX_BLOCK_BYTES);
    let Some(decoded) = decoded else { return Ok(Found::Torn) };
    let mut packed = Vec::new();
    // Grows with what is there, whatever a damaged head says.
    input.take(u64::from(decoded.packed_bytes)).read_to_end(&mut packed)?;
    let whole = decoded.is_whole(&head, &packed);
    Ok(if whole { Found::Block(decoded, packed) } else { Found::Torn })
}

enum Plain {
    Frame(Bytes),
    End,
    Torn,
}

fn plain_frame(input: &mut impl Read) -> io::Result<Plain> {
    let mut length = [0; 4];
    match fill(input, &mut length) {
        Ok(0) => return Ok(Plain::End),
        Ok(4) => {}
        Ok(_) => return Ok(Plain::Torn),
        Err(error) if is_torn(&error) => return Ok(Plain::Torn),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME_BYTES {
        return Ok(Plain::Torn);
    }
    let mut bytes = Vec::new();
    match input.take(length as u64).read_to_end(&mut bytes) {
        Ok(read) if read == length => Ok(Plain::Frame(Bytes::from(bytes))),
        Ok(_) => Ok(Plain::Torn),
        Err(error) if is_torn(&error) => Ok(Plain::Torn),
        Err(error) => Err(error),
    }
}

/// Whether an unpacker says that its input breaks off or is damaged.
fn is_torn(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput | Other)
}

fn unpacked(path: &Path) -> io::Result<Input> {
    let mut file = BufReader::with_capacity(READ_BYTES, File::open(path)?);
    let start = file.fill_buf()?;
    Ok(if start.starts_with(&ZSTD_MAGIC) {
        Box::new(BufReader::with_capacity(READ_BYTES, zstd::stream::read::Decoder::with_buffer(file)?))
    } else if start.starts_with(&GZIP_MAGIC) {
        Box::new(BufReader::with_capacity(READ_BYTES, flate2::bufread::MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    })
}

/// Reads as much of `buffer` as there is.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn read_all(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    let wanted = buffer.len();
    fill(input, buffer).map(|filled| filled == wanted)
}

/// The little-endian number at a place of a buffer that is long enough.
fn number(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

/// When a server made an update, where it says so.
fn created_at(update: &[u8]) -> Option<Timestamp> {
    let mut reader = wire::Reader::new("SubscribeUpdate", update);
    while let Some(field) = reader.next_field().ok()? {
        if field.number != FIELD_CREATED_AT {
            continue;
        }
        let mut time = field.message("Timestamp").ok()?;
        let (mut seconds, mut nanos) = (0, 0);
        while let Some(field) = time.next_field().ok()? {
            match field.number {
                1 => seconds = field.varint().ok()?,
                2 => nanos = field.varint().ok()?,
                _ => {}
            }
        }
        return Some(Timestamp(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)));
    }
    None
}
