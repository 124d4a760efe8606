//! The nodes of the ledger's schema. Pure.
//!
//! All are tuples that begin with their kind. Fields at the end of one may be left out.

use bytes::Bytes;
use thiserror::Error;

use super::cbor::{CborError, Reader};
use super::section::Cid;
use crate::slot::{Hash, Slot};

const TRANSACTION: u64 = 0;
const ENTRY: u64 = 1;
const BLOCK: u64 = 2;
const SUBSET: u64 = 3;
const EPOCH: u64 = 4;
const REWARDS: u64 = 5;
const DATA_FRAME: u64 = 6;

/// Why a section is not a node.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum NodeError {
    /// Its encoding.
    #[error("a node that is not of the schema: {0}")]
    Cbor(#[from] CborError),
    /// A kind that the schema does not have.
    #[error("a node of kind {0}, which the schema does not have")]
    Kind(u64),
    /// Fewer or more fields than the schema has.
    #[error("a {node} of {fields} fields")]
    Fields {
        /// The node.
        node: &'static str,
        /// Their number.
        fields: usize,
    },
    /// A hash that is none.
    #[error("an entry's hash of {0} bytes")]
    Hash(usize),
}

/// Part of some bytes, and where more of them are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataFrame {
    /// The part.
    pub(super) data: Bytes,
    /// The parts that follow, each of which may have more behind it.
    pub(super) next: Vec<Cid>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A transaction: its bytes and its outcome.
    Transaction {
        /// The ledger's bytes.
        data: DataFrame,
        /// The outcome, zstd over protobuf or bincode.
        metadata: DataFrame,
        /// Its slot.
        slot: Slot,
        /// Its position in the block, in newer files.
        index: Option<u64>,
    },
    /// An entry.
    Entry {
        /// Its hash.
        hash: Hash,
        /// Its transactions.
        transactions: Vec<Cid>,
    },
    /// A block.
    Block(BlockNode),
    /// Blocks.
    Subset(Vec<Cid>),
    /// Subsets.
    Epoch(Vec<Cid>),
    /// The rewards of a block, zstd over protobuf or bincode.
    Rewards(Slot, DataFrame),
    /// Part of something.
    DataFrame(DataFrame),
}

/// A block without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockNode {
    /// The slot.
    pub(super) slot: Slot,
    /// The parent.
    pub(super) parent_slot: Slot,
    /// Unix seconds, 0 if unknown.
    pub(super) block_time: i64,
    /// Blocks below it, in newer files.
    pub(super) block_height: Option<u64>,
    /// The entries, in order.
    pub(super) entries: Vec<Cid>,
    /// The rewards.
    pub(super) rewards: Cid,
}

impl Node {
    /// Reads one node, which has to fill `data`.
    pub(super) fn read(data: &Bytes) -> Result<Self, NodeError> {
        let mut reader = Reader::new(data);
        let node = Self::read_from(&mut reader, data)?;
        reader.end()?;
        Ok(node)
    }

    fn read_from(reader: &mut Reader<'_>, whole: &Bytes) -> Result<Self, NodeError> {
        let fields = reader.list()?;
        let kind = reader.number()?;
        let has = |node, least, most| match (least..=most).contains(&fields) {
            true => Ok(()),
            false => Err(NodeError::Fields { node, fields }),
        };
        match kind {
            TRANSACTION => {
                has("transaction", 4, 5)?;
                transaction(reader, whole, fields)
            }
            ENTRY => {
                has("entry", 4, 4)?;
                entry(reader)
            }
            BLOCK => {
                has("block", 6, 6)?;
                block(reader).map(Self::Block)
            }
            SUBSET => {
                has("subset", 4, 4)?;
                reader.number()?;
                reader.number()?;
                Ok(Self::Subset(reader.links()?))
            }
            EPOCH => {
                has("epoch", 3, 3)?;
                reader.number()?;
                Ok(Self::Epoch(reader.links()?))
            }
            REWARDS => {
                has("rewards", 3, 3)?;
                Ok(Self::Rewards(reader.number()?, data_frame(reader, whole)?))
            }
            DATA_FRAME => data_frame_fields(reader, whole, fields).map(Self::DataFrame),
            kind => Err(NodeError::Kind(kind)),
        }
    }
}

fn transaction(reader: &mut Reader<'_>, whole: &Bytes, fields: usize) -> Result<Node, NodeError> {
    let data = data_frame(reader, whole)?;
    let metadata = data_frame(reader, whole)?;
    let slot = reader.number()?;
    let index = if fields > 4 { reader.optional_number()? } else { None };
    Ok(Node::Transaction { data, metadata, slot, index })
}

fn entry(reader: &mut Reader<'_>) -> Result<Node, NodeError> {
    reader.number()?;
    let hash = reader.bytes()?;
    let hash = Hash(hash.try_into().map_err(|_| NodeError::Hash(hash.len()))?);
    Ok(Node::Entry { hash, transactions: reader.links()? })
}

fn block(reader: &mut Reader<'_>) -> Result<BlockNode, NodeError> {
    let slot = reader.number()?;
    for _ in 0..reader.list()? {
        match reader.list()? {
            2 => (reader.signed()?, reader.signed()?),
            fields => return Err(NodeError::Fields { node: "shredding", fields }),
        };
    }
    let entries = reader.links()?;
    let fields = reader.list()?;
    if !(2..=3).contains(&fields) {
        return Err(NodeError::Fields { node: "slot meta", fields });
    }
    let (parent_slot, block_time) = (reader.number()?, reader.signed()?);
    let block_height = if fields > 2 { reader.optional_number()? } else { None };
    let rewards = reader.link()?;
    Ok(BlockNode { slot, parent_slot, block_time, block_height, entries, rewards })
}

/// A data frame within another node.
fn data_frame(reader: &mut Reader<'_>, whole: &Bytes) -> Result<DataFrame, NodeError> {
    let fields = reader.list()?;
    match reader.number()? {
        DATA_FRAME => data_frame_fields(reader, whole, fields),
        kind => Err(NodeError::Kind(kind)),
    }
}

/// The hash over all parts is not looked at: CIDs are the stronger one, and older files have another function there.
fn data_frame_fields(reader: &mut Reader<'_>, whole: &Bytes, fields: usize) -> Result<DataFrame, NodeError> {
    if !(5..=6).contains(&fields) {
        return Err(NodeError::Fields { node: "data frame", fields });
    }
    for _ in 0..3 {
        reader.skip_number()?;
    }
    let data = whole.slice_ref(reader.bytes()?);
    let next = if fields < 6 || reader.null()? { Vec::new() } else { reader.links()? };
    Ok(DataFrame { data, next })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_end_in_a_node_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Node::read(&Bytes::from(bytes));
        }

        #[test]
        fn so_do_bytes_that_begin_like_one(
            kind in 0_u8..8, fields in 0_u8..8, rest in proptest::collection::vec(any::<u8>(), 0..80)
        ) {
            let _ = Node::read(&Bytes::from([vec![0x80 | fields, kind], rest].concat()));
        }
    }

    #[test]
    fn a_kind_from_the_future_is_named() {
        assert_eq!(Node::read(&Bytes::from_static(&[0x81, 9])), Err(NodeError::Kind(9)));
    }
}
