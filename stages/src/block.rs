//! A whole slot: what the gap detector and recovery hand on, and sinks write.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::batch::{EndpointId, Update};
use crate::frame::BlockMeta;
use crate::slot::{Commitment, Hash, Slot};

/// What is known of one kind of content of a slot.
#[derive(Debug, Clone)]
pub enum Part {
    /// Nobody asked for it.
    NotSubscribed,
    /// It was asked for and is not all there (a hole of the datasets made from it).
    Missing,
    /// All of it, in the chain's order.
    Whole(Arc<[Update]>),
}

impl Part {
    /// The updates, if all are there.
    pub fn updates(&self) -> Option<&[Update]> {
        match self {
            Self::Whole(updates) => Some(updates),
            Self::NotSubscribed | Self::Missing => None,
        }
    }

    /// Whether it was asked for and is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

/// The way a slot came in; never written to a reproducible dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// The live streams.
    Live,
    /// A `from_slot` replay.
    Replay,
    /// RPC `getBlock`.
    Rpc,
}

impl Way {
    /// The word in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Replay => "replay",
            Self::Rpc => "rpc",
        }
    }
}

/// One version of one slot, whole in its meta and its transactions.
///
/// Every update in it was checked ([`crate::transaction::check`]), belongs to the version with this blockhash, and is
/// there once. The same slot may come again later with parts that were missing the first time.
#[derive(Debug, Clone)]
pub struct Block {
    /// Hashes, parent and count.
    pub meta: BlockMeta,
    /// The frame that the meta was read from; it holds the rewards, block time and height too.
    pub meta_update: Update,
    /// Transactions by index: 0..n without a hole, or those that match the subscription's filter.
    pub transactions: Part,
    /// Entries by index.
    pub entries: Part,
    /// The last write to each account, by key.
    pub accounts: Part,
    /// The way it came in.
    pub way: Way,
    /// The endpoints whose block metas say that it is what they delivered; empty from RPC.
    pub witnesses: SmallVec<[EndpointId; 2]>,
    /// The commitment that whoever delivered it vouched for, beside the statuses: RPC is asked for a level.
    pub vouched: Option<Commitment>,
}

impl Block {
    /// The slot.
    pub fn slot(&self) -> Slot {
        self.meta.slot
    }

    /// The blockhash, which tells this version from others of the slot.
    pub fn blockhash(&self) -> Hash {
        self.meta.blockhash
    }

    /// The same with each part that is missing taken from `other`, another delivery of this version.
    #[must_use]
    pub fn or_parts_of(mut self, other: &Self) -> Self {
        for (part, others) in [(&mut self.entries, &other.entries), (&mut self.accounts, &other.accounts)] {
            if part.is_missing() {
                part.clone_from(others);
            }
        }
        self
    }

    /// Bytes of all frames in it.
    pub fn size_bytes(&self) -> usize {
        let parts = [&self.transactions, &self.entries, &self.accounts];
        let updates = parts.iter().filter_map(|part| part.updates()).flatten();
        updates.map(Update::size_bytes).sum::<usize>() + self.meta_update.size_bytes()
    }
}
