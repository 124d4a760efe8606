//! What the planner asks, and what it is told.

use std::sync::Arc;
use std::time::Duration;

use crate::block::Block;
use crate::slot::Slot;

/// A question for the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ask {
    /// The newest finalized slot.
    Tip,
    /// Which slots have a block.
    List {
        /// The first slot.
        first: Slot,
        /// The last.
        last: Slot,
    },
    /// The first slot that the nodes keep the block of.
    FirstAvailable,
    /// The block of a slot.
    Block(Slot),
}

/// What came of a question.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The newest finalized slot.
    Tip(Slot),
    /// The slots with a block.
    Slots(Vec<Slot>),
    /// The first slot with a block that is kept.
    FirstAvailable(Slot),
    /// The block.
    Block(Arc<Block>),
    /// It failed.
    Failed(Failure),
}

/// Why a question failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Whose fault it is.
    pub kind: FailureKind,
    /// What was said.
    pub reason: String,
    /// When to come back at the earliest, if that is known.
    pub retry_after: Option<Duration>,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The node wants to be asked less, or is left alone for a while.
    Pushback,
    /// The node did not answer.
    Silence,
    /// The node calls the slot skipped, which proves nothing.
    ClaimedSkipped,
    /// What came is not what was asked for.
    Slot,
    /// The node does not have it any more.
    Gone,
    /// The node refuses.
    Refused,
}

/// What there is room for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Questions under way at a time that the nodes bear.
    pub questions: usize,
    /// Whether there is memory for more than the block that all others wait for.
    pub memory: bool,
}

/// How much is asked for, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Slots that stand and fall together.
    pub commit_slots: u64,
    /// Questions under way at a time, at most.
    pub max_in_flight: usize,
    /// Tries before a slot is called a hole.
    pub max_retries: u32,
    /// Holes before the backfill ends.
    pub max_holes: u64,
}
