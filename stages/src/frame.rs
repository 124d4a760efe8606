//! One geyser message as it came off the wire, and the scan that reads from it what routing needs.
//!
//! In: the bytes of a `SubscribeUpdate`. Out: the same bytes, uncopied, and a [`Header`]: kind, slot, bank, index, the
//! places of the body and of its key. The scan walks the top fields only and steps over transactions and account data
//! in one jump each, so it costs the same for ten bytes as for ten megabytes. What it does not walk it does not vouch
//! for: [`crate::transaction::check`] does that for the one copy of a transaction that is kept.
//!
//! Format: `geyser.proto` of yellowstone-grpc-proto 14; servers of proto 12 leave the bank ids out, which reads as 0,
//! "unknown".

use bytes::Bytes;
use nonmax::{NonMaxU32, NonMaxU64};

use crate::slot::{Hash, Slot};
use crate::wire::{Fault, Field, Reader, WireError};

/// Filters whose names start so were added by Sluice itself to keep its ledger; what matched no other filter is hidden
/// from sinks.
pub const LEDGER_FILTER_PREFIX: &str = "__sluice";

/// What kind of update a frame holds: the members of `SubscribeUpdate.update_oneof`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A write to an account.
    Account,
    /// A slot changed its status.
    Slot,
    /// An executed transaction with its metadata.
    Transaction,
    /// An executed transaction's outcome alone.
    TransactionStatus,
    /// A whole block in one message.
    Block,
    /// A server's ping.
    Ping,
    /// The answer to a ping of ours.
    Pong,
    /// A block's hashes, counts, time and rewards.
    BlockMeta,
    /// An entry of the proof-of-history chain.
    Entry,
    /// An Alpenglow block footer.
    BlockFooter,
    /// An Alpenglow notice that voids a bank's entries.
    EntryUpdateParent,
}

impl Kind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Self; 11] = [
        Self::Account,
        Self::Slot,
        Self::Transaction,
        Self::TransactionStatus,
        Self::Block,
        Self::Ping,
        Self::Pong,
        Self::BlockMeta,
        Self::Entry,
        Self::BlockFooter,
        Self::EntryUpdateParent,
    ];

    /// The name of the protocol's field, which metrics, logs and filters use too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Slot => "slot",
            Self::Transaction => "transaction",
            Self::TransactionStatus => "transaction_status",
            Self::Block => "block",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::BlockMeta => "block_meta",
            Self::Entry => "entry",
            Self::BlockFooter => "block_footer",
            Self::EntryUpdateParent => "entry_update_parent",
        }
    }

    /// Whether it says only that the connection lives: a ping or a pong. Nothing of the chain has come in with it.
    pub fn is_keepalive(self) -> bool {
        matches!(self, Self::Ping | Self::Pong)
    }

    fn from_field(number: u32) -> Option<Self> {
        Some(match number {
            2 => Self::Account,
            3 => Self::Slot,
            4 => Self::Transaction,
            5 => Self::Block,
            6 => Self::Ping,
            7 => Self::BlockMeta,
            8 => Self::Entry,
            9 => Self::Pong,
            10 => Self::TransactionStatus,
            12 => Self::BlockFooter,
            13 => Self::EntryUpdateParent,
            _ => return None,
        })
    }
}

/// The status of a slot, with the protocol's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotStatus {
    /// Executed and voted on by the node itself.
    Processed,
    /// Voted for by a supermajority.
    Confirmed,
    /// Rooted.
    Finalized,
    /// The first shred of the slot arrived.
    FirstShredReceived,
    /// All shreds arrived.
    Completed,
    /// The node began to execute it; a second one voids what came before.
    CreatedBank,
    /// The bank failed and will never be part of the chain.
    Dead,
}

impl SlotStatus {
    /// The status with the protocol's number, `None` for one that this version does not know.
    pub fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Processed,
            1 => Self::Confirmed,
            2 => Self::Finalized,
            3 => Self::FirstShredReceived,
            4 => Self::Completed,
            5 => Self::CreatedBank,
            6 => Self::Dead,
            _ => return None,
        })
    }

    /// The word in taps and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Confirmed => "confirmed",
            Self::Finalized => "finalized",
            Self::FirstShredReceived => "first_shred_received",
            Self::Completed => "completed",
            Self::CreatedBank => "created_bank",
            Self::Dead => "dead",
        }
    }
}

/// A range of bytes inside a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        // A frame is bounded by the receive limit, which is a u32.
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    /// The bytes of this range of `frame`.
    #[inline]
    pub fn slice(self, frame: &[u8]) -> &[u8] {
        &frame[self.start as usize..self.end as usize]
    }
}

/// What the scan reads from a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The kind of update.
    pub kind: Kind,
    /// True if only filters that Sluice added by itself matched.
    pub ledger_only: bool,
    /// True once the whole body was checked, see [`crate::transaction::check`].
    pub checked: bool,
    /// The slot, 0 for pings and pongs.
    pub slot: Slot,
    /// The bank, scoped to one node's process; 0 is unknown.
    pub bank_id: u64,
    /// Position in the block of a transaction or an entry, 0 for other kinds.
    pub index: u32,
    /// What only some kinds have.
    pub detail: Detail,
    /// The bytes of the oneof's member.
    pub body: Span,
    /// A transaction's or transaction status' signature, an account's key, an entry's hash; empty for other kinds.
    pub key: Span,
    /// What tells two versions of the same thing apart: a transaction's info without slot and bank, an entry's index,
    /// counts and hash; the whole body for other kinds.
    pub content: Span,
}

/// What a header holds beside what all kinds have. Small, as every update has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Nothing, or what is not known before the check.
    Nothing,
    /// Of a slot update.
    Slot {
        /// The status.
        status: SlotStatus,
        /// The parent, where the server sends it.
        parent: Option<NonMaxU64>,
    },
    /// Of a transaction that was checked: the members of its [`Outcome`], which take less room one by one.
    Transaction {
        /// [`Outcome::is_vote`].
        is_vote: bool,
        /// [`Outcome::failed`].
        failed: bool,
        /// [`Outcome::compute_units`].
        compute_units: Option<NonMaxU32>,
        /// [`Outcome::fee`].
        fee: u64,
    },
}

impl From<Outcome> for Detail {
    fn from(Outcome { is_vote, failed, compute_units, fee }: Outcome) -> Self {
        Self::Transaction { is_vote, failed, compute_units, fee }
    }
}

/// What became of a transaction, as far as its check has seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Whether the node calls it a vote.
    pub is_vote: bool,
    /// Whether it failed: it is on the chain all the same.
    pub failed: bool,
    /// Compute units that it consumed, where the node tells: as many as no block can have stand for more.
    pub compute_units: Option<NonMaxU32>,
    /// Its fee in lamports.
    pub fee: u64,
}

/// Every update has a header and it is copied from stage to stage: a cache line.
const _: () = assert!(size_of::<Header>() <= 64);

impl Header {
    /// A slot update's status.
    #[inline]
    pub fn status(&self) -> Option<SlotStatus> {
        match self.detail {
            Detail::Slot { status, .. } => Some(status),
            Detail::Nothing | Detail::Transaction { .. } => None,
        }
    }

    /// A slot update's parent, where the server sends it.
    #[inline]
    pub fn parent(&self) -> Option<Slot> {
        match self.detail {
            Detail::Slot { parent, .. } => parent.map(|slot| slot.get()),
            Detail::Nothing | Detail::Transaction { .. } => None,
        }
    }

    /// A transaction's outcome, once it was checked.
    #[inline]
    pub fn outcome(&self) -> Option<Outcome> {
        match self.detail {
            Detail::Transaction { is_vote, failed, compute_units, fee } => {
                Some(Outcome { is_vote, failed, compute_units, fee })
            }
            Detail::Nothing | Detail::Slot { .. } => None,
        }
    }
}

/// A frame that can't be used, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes are not a `SubscribeUpdate`.
    #[error("malformed update: {0}")]
    Wire(#[from] WireError),
    /// A kind of update that this version does not know: a newer server's.
    #[error("unknown kind of update (field {0}); a newer Sluice may know it")]
    UnknownKind(u32),
    /// No update in it at all.
    #[error("the update is empty")]
    Empty,
}

const ENVELOPE: &str = "SubscribeUpdate";
const FIELD_FILTERS: u32 = 1;
const FIELD_CREATED_AT: u32 = 11;

/// Reads the header of `frame`.
///
/// # Errors
/// If the top fields are malformed, a singular one is there twice, or the update is of no known kind.
pub fn scan(frame: &[u8]) -> Result<Header, FrameError> {
    let mut reader = Reader::new(ENVELOPE, frame);
    let mut member: Option<(Kind, Field<'_>)> = None;
    let mut unknown = None;
    let (mut filters, mut own_filters) = (0_u32, 0_u32);
    while let Some(field) = reader.next_field()? {
        match field.number {
            FIELD_FILTERS => {
                filters += 1;
                own_filters += u32::from(field.text()?.starts_with(LEDGER_FILTER_PREFIX));
            }
            FIELD_CREATED_AT => {
                field.bytes()?;
            }
            number => match Kind::from_field(number) {
                Some(_) if member.is_some() => return Err(field.error(Fault::Repeated).into()),
                Some(kind) => member = Some((kind, field)),
                None => unknown = Some(number),
            },
        }
    }
    let Some((kind, field)) = member else {
        return Err(unknown.map_or(FrameError::Empty, FrameError::UnknownKind));
    };
    let mut header = Header {
        kind,
        ledger_only: filters > 0 && filters == own_filters,
        checked: false,
        slot: 0,
        bank_id: 0,
        index: 0,
        detail: Detail::Nothing,
        body: Span::of(field.bytes()?, frame),
        key: Span::default(),
        content: Span::of(field.bytes()?, frame),
    };
    scan_body(&mut header, field, frame)?;
    Ok(header)
}

fn scan_body(header: &mut Header, field: Field<'_>, frame: &[u8]) -> Result<(), WireError> {
    match header.kind {
        Kind::Transaction => scan_transaction(header, field.message("SubscribeUpdateTransaction")?, frame),
        Kind::Account => scan_account(header, field.message("SubscribeUpdateAccount")?, frame),
        Kind::Entry => scan_entry(header, field.message("SubscribeUpdateEntry")?, frame),
        Kind::Slot => scan_slot(header, field.message("SubscribeUpdateSlot")?),
        Kind::TransactionStatus => {
            scan_transaction_status(header, field.message("SubscribeUpdateTransactionStatus")?, frame)
        }
        Kind::Block => scan_slot_and_bank(header, field.message("SubscribeUpdateBlock")?, 14),
        Kind::BlockMeta => scan_slot_and_bank(header, field.message("SubscribeUpdateBlockMeta")?, 10),
        Kind::BlockFooter => scan_slot_and_bank(header, field.message("SubscribeUpdateBlockFooter")?, 2),
        Kind::EntryUpdateParent => {
            scan_slot_and_bank(header, field.message("SubscribeUpdateEntryUpdateParent")?, 2)
        }
        Kind::Ping | Kind::Pong => Ok(()),
    }
}

fn scan_transaction(header: &mut Header, mut body: Reader<'_>, frame: &[u8]) -> Result<(), WireError> {
    let mut info = None;
    while let Some(field) = body.next_field()? {
        match field.number {
            1 if info.is_some() => return Err(field.error(Fault::Repeated)),
            1 => {
                header.content = Span::of(field.bytes()?, frame);
                info = Some(field.message("SubscribeUpdateTransactionInfo")?);
            }
            2 => header.slot = field.varint()?,
            3 => header.bank_id = field.varint()?,
            _ => {}
        }
    }
    let mut info = info.ok_or_else(|| body.error(1, Fault::Missing))?;
    let mut signature = None;
    while let Some(field) = info.next_field()? {
        match field.number {
            1 => signature = Some(field.array::<64>()?),
            5 => header.index = field.index()?,
            _ => {}
        }
    }
    let signature = signature.ok_or_else(|| info.error(1, Fault::Missing))?;
    header.key = Span::of(signature, frame);
    Ok(())
}

fn scan_transaction_status(header: &mut Header, mut body: Reader<'_>, frame: &[u8]) -> Result<(), WireError> {
    let mut signature = None;
    while let Some(field) = body.next_field()? {
        match field.number {
            1 => header.slot = field.varint()?,
            2 => signature = Some(field.array::<64>()?),
            4 => header.index = field.index()?,
            6 => header.bank_id = field.varint()?,
            _ => {}
        }
    }
    let signature = signature.ok_or_else(|| body.error(2, Fault::Missing))?;
    header.key = Span::of(signature, frame);
    Ok(())
}

fn scan_account(header: &mut Header, mut body: Reader<'_>, frame: &[u8]) -> Result<(), WireError> {
    let mut info = None;
    while let Some(field) = body.next_field()? {
        match field.number {
            1 if info.is_some() => return Err(field.error(Fault::Repeated)),
            1 => info = Some(field.message("SubscribeUpdateAccountInfo")?),
            2 => header.slot = field.varint()?,
            4 => header.bank_id = field.varint()?,
            _ => {}
        }
    }
    let mut info = info.ok_or_else(|| body.error(1, Fault::Missing))?;
    let mut pubkey = None;
    while let Some(field) = info.next_field()? {
        if field.number == 1 {
            pubkey = Some(field.array::<32>()?);
        }
    }
    let pubkey = pubkey.ok_or_else(|| info.error(1, Fault::Missing))?;
    header.key = Span::of(pubkey, frame);
    Ok(())
}

/// Index, number of hashes, hash and number of transactions, which stand beside each other. The hash alone would let the
/// first copy with a wrong count keep all others out.
const PROVEN_ENTRY_FIELDS: std::ops::RangeInclusive<u32> = 2..=5;

fn scan_entry(header: &mut Header, mut body: Reader<'_>, frame: &[u8]) -> Result<(), WireError> {
    let (mut hash, mut content) = (None, None::<Span>);
    loop {
        let unread = body.rest();
        let Some(field) = body.next_field()? else { break };
        match field.number {
            1 => header.slot = field.varint()?,
            2 => header.index = field.index()?,
            4 => hash = Some(field.array::<32>()?),
            7 => header.bank_id = field.varint()?,
            _ => {}
        }
        if PROVEN_ENTRY_FIELDS.contains(&field.number) {
            let Span { start, end } = Span::of(&unread[..unread.len() - body.rest().len()], frame);
            content = Some(Span { start: content.map_or(start, |content| content.start), end });
        }
    }
    let hash = hash.ok_or_else(|| body.error(4, Fault::Missing))?;
    header.key = Span::of(hash, frame);
    header.content = content.unwrap_or(header.key);
    Ok(())
}

fn scan_slot(header: &mut Header, mut body: Reader<'_>) -> Result<(), WireError> {
    // proto3 leaves out the default, which is SLOT_PROCESSED.
    let (mut status, mut parent) = (0, None);
    while let Some(field) = body.next_field()? {
        match field.number {
            1 => header.slot = field.varint()?,
            2 => {
                let slot = field.varint()?;
                parent = Some(NonMaxU64::new(slot).ok_or_else(|| field.error(Fault::Range(slot)))?);
            }
            3 => status = field.varint()?,
            5 => header.bank_id = field.varint()?,
            _ => {}
        }
    }
    let status = SlotStatus::from_number(status).ok_or_else(|| body.error(3, Fault::Range(status)))?;
    header.detail = Detail::Slot { status, parent };
    Ok(())
}

fn scan_slot_and_bank(header: &mut Header, mut body: Reader<'_>, bank: u32) -> Result<(), WireError> {
    while let Some(field) = body.next_field()? {
        if field.number == 1 {
            header.slot = field.varint()?;
        } else if field.number == bank {
            header.bank_id = field.varint()?;
        }
    }
    Ok(())
}

/// A block's meta, decoded: one message a slot, so convenience beats speed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockMeta {
    /// The slot.
    pub slot: Slot,
    /// Its blockhash.
    pub blockhash: Hash,
    /// The slot that it builds on.
    pub parent_slot: Slot,
    /// That slot's blockhash.
    pub parent_blockhash: Hash,
    /// Number of transactions executed in the slot, votes and failed ones included.
    pub executed_transaction_count: u32,
    /// Number of entries, `None` if unknown: a leader's own node reports 0.
    pub entries_count: Option<u32>,
}

impl BlockMeta {
    /// Reads the meta from the body of a [`Kind::BlockMeta`] frame.
    ///
    /// # Errors
    /// If it is malformed, or a hash is not there or not 32 bytes of base58.
    pub fn read(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new("SubscribeUpdateBlockMeta", body);
        let (mut blockhash, mut parent_blockhash) = (None, None);
        let mut meta = Self {
            slot: 0,
            blockhash: Hash([0; 32]),
            parent_slot: 0,
            parent_blockhash: Hash([0; 32]),
            executed_transaction_count: 0,
            entries_count: None,
        };
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => meta.slot = field.varint()?,
                2 => blockhash = Some(base58_hash(&field)?),
                6 => meta.parent_slot = field.varint()?,
                7 => parent_blockhash = Some(base58_hash(&field)?),
                8 => meta.executed_transaction_count = field.index()?,
                9 => meta.entries_count = Some(field.index()?).filter(|&count| count > 0),
                _ => {}
            }
        }
        meta.blockhash = blockhash.ok_or_else(|| reader.error(2, Fault::Missing))?;
        meta.parent_blockhash = parent_blockhash.ok_or_else(|| reader.error(7, Fault::Missing))?;
        Ok(meta)
    }
}

fn base58_hash(field: &Field<'_>) -> Result<Hash, WireError> {
    let text = field.text()?;
    Hash::from_base58(text).ok_or_else(|| field.error(Fault::Length(text.len())))
}

/// A frame and its header.
#[derive(Debug, Clone)]
pub struct Frame {
    bytes: Bytes,
    /// What the scan read.
    pub header: Header,
}

impl Frame {
    /// Scans `bytes` and takes them over.
    ///
    /// # Errors
    /// As [`scan`].
    pub fn try_new(bytes: Bytes) -> Result<Self, FrameError> {
        let header = scan(&bytes)?;
        Ok(Self { bytes, header })
    }

    /// The whole `SubscribeUpdate`.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes of the update itself, e.g. of the `SubscribeUpdateTransaction`.
    #[inline]
    pub fn body(&self) -> &[u8] {
        self.header.body.slice(&self.bytes)
    }

    /// The signature, account key or entry hash, see [`Header::key`].
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.header.key.slice(&self.bytes)
    }

    /// What tells two versions of the same thing apart, see [`Header::content`].
    #[inline]
    pub fn content(&self) -> &[u8] {
        self.header.content.slice(&self.bytes)
    }
}
