//! What moves along an edge: batches of items, and the memory that they hold.
//!
//! Sources emit [`Item::Update`]s and [`Item::Session`]s; a dedupe turns repeats into [`Item::Echo`]es; the gap
//! detector turns all of them into [`Item::Block`]s, [`Item::Status`]es, [`Item::Gap`]s and [`Item::Dispute`]s. A monitor emits
//! [`Item::Sample`]s, an alert evaluator turns them into [`Item::Alert`]s. An edge carries one of these families
//! ([`crate::stage::Flow`]).

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::alert::AlertItem;
use crate::block::Block;
use crate::budget::Lease;
use crate::dispute::Dispute;
use crate::frame::{Frame, SlotStatus};
use crate::sample::Sample;
use crate::slot::{Commitment, Hash, Slot, Timestamp};

/// An endpoint's position in the pipeline's list of endpoints.
pub type EndpointId = u16;

/// One subscription of one endpoint: a stream without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Counts that endpoint's subscriptions.
    pub number: u32,
}

/// One bank of one session: within a lane all content is of the same version of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The session.
    pub session: SessionId,
    /// The server's number for the bank, 0 if it sends none.
    pub bank_id: u64,
}

/// One geyser message, where it came from and when.
#[derive(Debug, Clone)]
pub struct Update {
    /// The message.
    pub frame: Frame,
    /// The session that it came in on.
    pub session: SessionId,
    /// When its bytes were read.
    pub received_at: Timestamp,
    /// The memory that it stands for, shared with the updates it was read together with.
    pub lease: Option<Arc<Lease>>,
}

impl Update {
    /// The lane that it belongs to.
    #[inline]
    pub fn lane(&self) -> Lane {
        Lane { session: self.session, bank_id: self.frame.header.bank_id }
    }

    /// Bytes of its frame.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.frame.bytes().len()
    }
}

/// Word that a lane delivered, too, what another one had delivered before.
///
/// The bytes of a repeat are let go, but not the fact: which version of a slot is whole depends on who delivered what.
#[derive(Debug, Clone)]
pub enum Echo {
    /// Transactions with these indexes, each with the signature that was passed first for that index.
    Transactions {
        /// The lane that repeated them.
        lane: Lane,
        /// The slot.
        slot: Slot,
        /// Their indexes.
        indexes: Range<u32>,
    },
    /// Entries with these indexes, each as the one that was passed first for that index.
    Entries {
        /// The lane that repeated them.
        lane: Lane,
        /// The slot.
        slot: Slot,
        /// Their indexes.
        indexes: Range<u32>,
    },
    /// A write to an account that leaves it as an earlier one of the same transaction did.
    Account {
        /// The first such write, as a delivery of the lane that repeated it.
        update: Update,
        /// The repeat's own write version, which orders it among its lane's writes.
        write_version: u64,
    },
    /// Any other repeat: its frame is the one that was passed first where the content is the same.
    Update(Update),
}

/// What a subscription asks for; decides what "whole" means for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scope {
    /// Transactions: none, those that match filters (can't be counted), or all.
    pub transactions: Want,
    /// Entries.
    pub entries: Want,
    /// Accounts.
    pub accounts: Want,
}

/// How much of a kind a subscription asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// None of it.
    #[default]
    Nothing,
    /// What matches filters.
    Filtered,
    /// All of it.
    Everything,
}

/// Slots of which a session has only the end. Rarely more than one, or one on each of two forks.
pub type Torn = SmallVec<[Slot; 2]>;

/// The begin or end of a session.
#[derive(Debug, Clone)]
pub enum Session {
    /// Subscribed; what was executed before this is not in the stream.
    Opened {
        /// The session.
        id: SessionId,
        /// The endpoint's name.
        endpoint: Arc<str>,
        /// What it asks for.
        scope: Scope,
        /// Slots that were being executed when it began, and of which it may bring the slots before all the same: their
        /// beginning is not in the stream.
        torn: Torn,
        /// The time.
        at: Timestamp,
    },
    /// Ended; what was executed after this is not in the stream.
    Closed {
        /// The session.
        id: SessionId,
        /// The time.
        at: Timestamp,
    },
}

/// How far a slot has come, as a lane reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The slot.
    pub slot: Slot,
    /// Its parent, where known.
    pub parent: Option<Slot>,
    /// The version, where the lane that reports it tells.
    pub blockhash: Option<Hash>,
    /// What happened.
    pub status: SlotStatus,
    /// When it was heard first.
    pub at: Timestamp,
}

impl Status {
    /// The commitment that this status stands for, if it is one.
    pub fn commitment(&self) -> Option<Commitment> {
        match self.status {
            SlotStatus::Processed => Some(Commitment::Processed),
            SlotStatus::Confirmed => Some(Commitment::Confirmed),
            SlotStatus::Finalized => Some(Commitment::Finalized),
            _ => None,
        }
    }
}

/// Slots that a child or the chain's tip proves to be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gap {
    /// The first slot that may be missing.
    pub first: Slot,
    /// The last one, which is known to exist.
    pub last: Slot,
    /// What is missing of them.
    pub missing: Missing,
}

/// What a gap lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Missing {
    /// Transactions or meta: the slot can't go on without.
    Content,
    /// Entries or accounts alone, which no RPC can give: the slot went on without.
    Extras,
}

/// How one session of an endpoint delivered one bank: a row of `arrivals`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The slot.
    pub slot: Slot,
    /// The endpoint's name.
    pub endpoint: Arc<str>,
    /// The session that it came in on.
    pub session: SessionId,
    /// The version, if its block meta came.
    pub blockhash: Option<Hash>,
    /// When its first content came.
    pub first_seen_at: Timestamp,
    /// When its block meta came.
    pub completed_at: Option<Timestamp>,
    /// Transactions that came, repeats of other endpoints' included.
    pub transactions: u32,
    /// Entries that came.
    pub entries: u32,
    /// Accounts that were written.
    pub accounts: u32,
    /// What a proof of history said of the version, if it was asked.
    pub standing: Option<Standing>,
}

/// How far a version of a slot is proven by its proof of history, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its chain breaks, or its entries did not come.
    Failed,
    /// RPC alone delivered it, without entries: its transactions are counted.
    Counted,
    /// Its chain holds.
    Proven,
}

impl Standing {
    /// The word in `arrivals`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Counted => "counted",
            Self::Proven => "proven",
        }
    }
}

/// What moves along an edge.
#[derive(Debug, Clone)]
pub enum Item {
    /// Where the pipeline begins: nothing below this slot is looked for. Comes before the first block.
    Begin(Slot),
    /// A message, for the first time.
    Update(Update),
    /// A message that was there already.
    Echo(Echo),
    /// A subscription began or ended.
    Session(Session),
    /// A whole slot.
    Block(Arc<Block>),
    /// What one endpoint alone says of a slot about which endpoints differ: a proof can tell who is right, nobody else.
    Claim(Arc<Block>),
    /// A slot's status.
    Status(Status),
    /// Slots that are missing.
    Gap(Gap),
    /// What endpoints that contradict each other say of a slot.
    Dispute(Arc<Dispute>),
    /// How each endpoint delivered a slot, once nothing more of it is looked at.
    Arrivals(Arc<[Arrival]>),
    /// What the performance monitor measured.
    Sample(Arc<Sample>),
    /// What an alert evaluator says.
    Alert(Arc<AlertItem>),
}

impl Item {
    /// Bytes that it holds in memory, about.
    pub fn size_bytes(&self) -> usize {
        const FIXED_BYTES: usize = size_of::<Item>();
        FIXED_BYTES
            + match self {
                Self::Update(update) | Self::Echo(Echo::Update(update) | Echo::Account { update, .. }) => {
                    update.size_bytes()
                }
                Self::Block(block) | Self::Claim(block) => block.size_bytes(),
                Self::Dispute(dispute) => dispute.size_bytes(),
                Self::Arrivals(arrivals) => size_of_val::<[Arrival]>(arrivals),
                Self::Sample(sample) => sample.size_bytes(),
                Self::Alert(alert) => alert.size_bytes(),
                Self::Begin(_) | Self::Echo(_) | Self::Session(_) | Self::Status(_) | Self::Gap(_) => 0,
            }
    }
}

/// What moves together.
pub type Batch = Vec<Item>;
