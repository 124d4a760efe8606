//! One version of one slot: what was on the chain, in the form that Yellowstone streams it.

use std::sync::OnceLock;

use bytes::Bytes;
use prost::Message;
use yellowstone_grpc_proto::prelude::{
    BlockHeight, NumPartitions, Reward, Rewards, SubscribeUpdateAccountInfo, SubscribeUpdateBlockMeta,
    SubscribeUpdateEntry, SubscribeUpdateTransactionInfo, UnixTimestamp,
};

/// The content of a block. Transactions are in the block's order, `index` counted from 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Block {
    /// The slot it was made for.
    pub slot: u64,
    /// The slot it builds on.
    pub parent_slot: u64,
    /// Its hash, base58.
    pub blockhash: String,
    /// The hash of the block it builds on, base58.
    pub parent_blockhash: String,
    /// Unix seconds, if known.
    pub block_time: Option<i64>,
    /// The number of blocks below it, if known.
    pub block_height: Option<u64>,
    /// Rewards of the block itself (fees, and at an epoch's start staking and voting).
    pub rewards: Vec<Reward>,
    /// Number of partitions of an epoch's rewards, in the first block of an epoch.
    pub num_partitions: Option<u64>,
    /// All transactions.
    pub transactions: Vec<SubscribeUpdateTransactionInfo>,
    /// Entries; empty where the source has none (`getBlock` and `ConfirmedBlock` have not).
    pub entries: Vec<SubscribeUpdateEntry>,
    /// Account writes in the order they happened; empty where the source has none.
    pub accounts: Vec<SubscribeUpdateAccountInfo>,
    /// The number of entries that the block meta tells: 0 on a leader's own node.
    pub told_entries: u64,
}

impl Block {
    /// The block meta that a server with this numbering of banks sends; `bank_id` 0 is a server that has none.
    pub fn meta(&self, bank_id: u64) -> SubscribeUpdateBlockMeta {
        SubscribeUpdateBlockMeta {
            slot: self.slot,
            blockhash: self.blockhash.clone(),
            rewards: Some(Rewards {
                rewards: self.rewards.clone(),
                num_partitions: self.num_partitions.map(|num_partitions| NumPartitions { num_partitions }),
            }),
            block_time: self.block_time.map(|timestamp| UnixTimestamp { timestamp }),
            block_height: self.block_height.map(|block_height| BlockHeight { block_height }),
            parent_slot: self.parent_slot,
            parent_blockhash: self.parent_blockhash.clone(),
            executed_transaction_count: self.transactions.len() as u64,
            entries_count: self.told_entries,
            bank_id,
        }
    }
}

/// What became of a version of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is on the chain.
    Canonical,
    /// Its bank was given up before it was whole, and servers say so, with this reason.
    Dead(String),
    /// Its bank was made anew before it was whole; the next version's `CREATED_BANK` is all that tells.
    Reset,
    /// It was whole and processed, and the cluster went on without it.
    Orphaned,
}

/// A version of a slot.
#[derive(Debug)]
pub struct Version {
    /// Its content.
    pub block: Block,
    /// What became of it.
    pub fate: Fate,
    /// Its place among the versions of the slot, from 0.
    pub ordinal: u8,
    encoded: OnceLock<Vec<Bytes>>,
}

impl Version {
    /// A version of a slot, the `ordinal`-th.
    pub fn new(block: Block, fate: Fate, ordinal: u8) -> Self {
        Self { block, fate, ordinal, encoded: OnceLock::new() }
    }

    /// A version whose transactions are encoded already, as [`Self::encoded_transactions`] would.
    pub(super) fn with_encoded(block: Block, fate: Fate, ordinal: u8, encoded: Vec<Bytes>) -> Self {
        Self { block, fate, ordinal, encoded: OnceLock::from(encoded) }
    }

    /// The encoded `SubscribeUpdateTransactionInfo` of each transaction, made once for all endpoints.
    pub(crate) fn encoded_transactions(&self) -> &[Bytes] {
        self.encoded.get_or_init(|| {
            self.block.transactions.iter().map(|info| Bytes::from(info.encode_to_vec())).collect()
        })
    }

    /// Whether the version was executed to its end, so that it got a blockhash.
    pub fn is_frozen(&self) -> bool {
        matches!(self.fate, Fate::Canonical | Fate::Orphaned)
    }
}
