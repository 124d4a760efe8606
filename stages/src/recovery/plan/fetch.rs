//! What is fetched, and what comes of it.

use std::time::Duration;

use crate::batch::{EndpointId, Update};
use crate::slot::{Commitment, Slot};

/// Something to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fetch {
    /// The newest finalized slot: `getSlot`.
    Tip,
    /// Which slots between two have a block: `getBlocks`.
    List {
        /// The first slot.
        first: Slot,
        /// The last.
        last: Slot,
    },
    /// One block: `getBlock`.
    Block {
        /// Its slot.
        slot: Slot,
        /// The commitment to ask for.
        commitment: Commitment,
    },
    /// Slots again from an endpoint's stream: `from_slot`.
    Replay {
        /// The endpoint.
        endpoint: EndpointId,
        /// The first slot.
        first: Slot,
        /// The last.
        last: Slot,
    },
}

/// What came of a fetch.
#[derive(Debug, Clone)]
pub enum Fetched {
    /// The slots that a node says have a block.
    Slots(Vec<Slot>),
    /// The updates of one slot. A replay may bring several slots, one after the other.
    Updates {
        /// The slot.
        slot: Slot,
        /// All that came for it.
        updates: Vec<Update>,
    },
    /// The fetch is over.
    Done,
    /// The fetch failed, whatever it brought before.
    Failed {
        /// What was said.
        reason: String,
        /// When to come back at the earliest, if that was said.
        retry_after: Option<Duration>,
        /// The lowest slot that the endpoint can replay, if that was said.
        first_available: Option<Slot>,
    },
}
