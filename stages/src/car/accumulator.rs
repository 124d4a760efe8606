//! Nodes put together to blocks, and the file's lists held against what came. Pure.
//!
//! All that a block links to stands before it in the file and behind the block before, so nothing is kept for longer than
//! that. Links are hashes, so they can't form a circle; bounds hold even if they did.

use std::collections::HashMap;

use bytes::Bytes;
use thiserror::Error;

use super::node::{BlockNode, DataFrame, Node, NodeError};
use super::root::CarRoot;
use super::section::{Cid, Section, SectionError};
use crate::slot::{Hash, Slot};

/// Most bytes of nodes that wait for their block: five times the largest blocks, those with an epoch's rewards.
const MAX_WAITING_BYTES: usize = 512 << 20;
/// Most bytes that data frames are put together to.
const MAX_PAYLOAD_BYTES: usize = 256 << 20;
/// Most frames of one payload: frames are of up to a megabyte.
const MAX_FRAMES: usize = 65_536;

type Digest = [u8; 32];

/// Why a file can't be read on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum CarError {
    /// Its sections.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// A node.
    #[error("behind slot {after}: {source}")]
    Node {
        /// The last block that was read.
        after: Slot,
        /// What is wrong.
        source: NodeError,
    },
    /// A link to something that is not there, or is something else.
    #[error("slot {slot}: a {what} that it links to is not there")]
    Link {
        /// The slot.
        slot: Slot,
        /// What is missing.
        what: &'static str,
    },
    /// More than a block can have.
    #[error("slot {slot}: {what} larger than any block's; the file is damaged")]
    TooLarge {
        /// The slot.
        slot: Slot,
        /// What.
        what: &'static str,
    },
    /// Content that contradicts itself.
    #[error("slot {slot}: {what}")]
    Block {
        /// The slot.
        slot: Slot,
        /// What is wrong.
        what: String,
    },
    /// Blocks are missing, or not in order.
    #[error(
        "slot {slot} follows slot {parent}, but the block before it in the file is that of slot {before}"
    )]
    Gap {
        /// The slot.
        slot: Slot,
        /// Its parent.
        parent: Slot,
        /// The block before it.
        before: Slot,
    },
    /// Another archive than the one that is wanted.
    #[error("the archive's root is {found}, not {wanted}: it is another epoch's, or not the published one")]
    Root {
        /// The one that its header names.
        found: CarRoot,
        /// The published one.
        wanted: CarRoot,
    },
    /// The end of the file does not vouch for what came.
    #[error("the file's end: {0}")]
    End(&'static str),
}

/// A transaction as it is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawTransaction {
    /// The ledger's bytes.
    pub(super) data: Bytes,
    /// The outcome, zstd over protobuf or bincode.
    pub(super) metadata: Bytes,
}

/// A block as it is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawBlock {
    /// What its node says.
    pub(super) node: BlockNode,
    /// The last entry's hash.
    pub(super) blockhash: Hash,
    /// The blockhash of the block before it, if that is in the file.
    pub(super) parent_blockhash: Option<Hash>,
    /// The transactions, in order.
    pub(super) transactions: Vec<RawTransaction>,
    /// The rewards, zstd over protobuf or bincode, if there are any.
    pub(super) rewards: Option<Bytes>,
}

/// Puts nodes together.
#[derive(Debug, Default)]
pub(super) struct Accumulator {
    waiting: HashMap<Digest, Node>,
    waiting_bytes: usize,
    tail: Option<(Slot, Hash)>,
    /// All blocks that came: 14 MB for an epoch.
    blocks: Vec<Cid>,
    subsets: HashMap<Digest, Vec<Cid>>,
    epoch: Option<(Digest, Vec<Cid>)>,
}

impl Accumulator {
    /// Takes a section; a block comes out with its last one.
    pub(super) fn accept(&mut self, section: Section) -> Result<Option<RawBlock>, CarError> {
        let after = self.tail.map_or(0, |(slot, _)| slot);
        if self.epoch.is_some() {
            return Err(CarError::End("something follows the epoch"));
        }
        match Node::read(&section.data).map_err(|source| CarError::Node { after, source })? {
            Node::Block(node) => return self.on_block(section.digest, node).map(Some),
            Node::Subset(blocks) => {
                self.subsets.insert(section.digest, blocks);
            }
            Node::Epoch(subsets) => self.epoch = Some((section.digest, subsets)),
            node => {
                self.waiting_bytes += section.data.len();
                self.waiting.insert(section.digest, node);
            }
        }
        if self.waiting_bytes > MAX_WAITING_BYTES {
            return Err(CarError::TooLarge { slot: after + 1, what: "content" });
        }
        Ok(None)
    }

    /// The file is over: what came has to be what its root lists.
    pub(super) fn end(&self, root: Option<Cid>) -> Result<(), CarError> {
        let Some((digest, subsets)) = &self.epoch else {
            return Err(CarError::End("there is no epoch: the file was cut"));
        };
        if root != Some(Cid::Node(*digest)) {
            return Err(CarError::End("the epoch is not the root that the header names"));
        }
        let mut listed = Vec::new();
        for subset in subsets {
            let blocks = match subset {
                Cid::Node(digest) => self.subsets.get(digest),
                Cid::Nothing => None,
            };
            listed.extend_from_slice(blocks.ok_or(CarError::End("a subset is missing"))?);
        }
        let is_all = listed == self.blocks;
        if is_all { Ok(()) } else { Err(CarError::End("the blocks that came are not those that are listed")) }
    }

    fn on_block(&mut self, digest: Digest, node: BlockNode) -> Result<RawBlock, CarError> {
        let (slot, parent) = (node.slot, node.parent_slot);
        if let Some((before, _)) = self.tail
            && (parent != before || slot <= before)
        {
            return Err(CarError::Gap { slot, parent, before });
        }
        let mut transactions = Vec::new();
        let mut blockhash = None;
        for entry in &node.entries {
            let Some(Node::Entry { hash, transactions: links }) = self.find(*entry) else {
                return Err(CarError::Link { slot, what: "entry" });
            };
            blockhash = Some(*hash);
            for link in links {
                transactions.push(self.transaction(slot, *link, transactions.len() as u64)?);
            }
        }
        let no_entry = || CarError::Block { slot, what: "it has no entry, so no blockhash".to_owned() };
        let blockhash = blockhash.ok_or_else(no_entry)?;
        let rewards = self.rewards(&node)?;
        let parent_blockhash = self.tail.map(|(_, hash)| hash);
        self.tail = Some((slot, blockhash));
        self.blocks.push(Cid::Node(digest));
        self.waiting.clear();
        self.waiting_bytes = 0;
        Ok(RawBlock { node, blockhash, parent_blockhash, transactions, rewards })
    }

    fn find(&self, link: Cid) -> Option<&Node> {
        match link {
            Cid::Node(digest) => self.waiting.get(&digest),
            Cid::Nothing => None,
        }
    }

    fn transaction(&self, slot: Slot, link: Cid, place: u64) -> Result<RawTransaction, CarError> {
        let Some(Node::Transaction { data, metadata, slot: of, index }) = self.find(link) else {
            return Err(CarError::Link { slot, what: "transaction" });
        };
        if *of != slot || index.is_some_and(|index| index != place) {
            let what = format!("transaction {place} calls itself number {index:?} of slot {of}");
            return Err(CarError::Block { slot, what });
        }
        Ok(RawTransaction { data: self.join(slot, data)?, metadata: self.join(slot, metadata)? })
    }

    fn rewards(&self, block: &BlockNode) -> Result<Option<Bytes>, CarError> {
        match (block.rewards, self.find(block.rewards)) {
            (Cid::Nothing, _) => Ok(None),
            (_, Some(Node::Rewards(of, data))) if *of == block.slot => self.join(block.slot, data).map(Some),
            _ => Err(CarError::Link { slot: block.slot, what: "list of rewards" }),
        }
    }

    /// The whole of what is cut into frames: a frame's own part, then those behind each of its links, in order.
    fn join(&self, slot: Slot, first: &DataFrame) -> Result<Bytes, CarError> {
        if first.next.is_empty() {
            return Ok(first.data.clone());
        }
        let (mut whole, mut frames) = (first.data.to_vec(), 1);
        let mut open: Vec<Cid> = first.next.iter().rev().copied().collect();
        while let Some(link) = open.pop() {
            let Some(Node::DataFrame(frame)) = self.find(link) else {
                return Err(CarError::Link { slot, what: "data frame" });
            };
            whole.extend_from_slice(&frame.data);
            open.extend(frame.next.iter().rev());
            frames += 1;
            if whole.len() > MAX_PAYLOAD_BYTES || frames > MAX_FRAMES || open.len() > MAX_FRAMES {
                return Err(CarError::TooLarge { slot, what: "data frames" });
            }
        }
        Ok(Bytes::from(whole))
    }
}

#[cfg(test)]
mod tests {
    use sluice_cluster::ledger::car::{BlockHead, CarWriter, frame_node, transaction_node};

    use super::super::section::Sections;
    use super::*;

    fn head(slot: Slot, parent_slot: Slot) -> BlockHead {
        BlockHead { slot, parent_slot, block_time: 1_700_000_000, block_height: Some(slot / 2) }
    }

    /// An archive of blocks, given as slot and parent, of two transactions that are none.
    fn archive(blocks: &[(Slot, Slot)]) -> Vec<u8> {
        let mut writer = CarWriter::default();
        for &(slot, parent) in blocks {
            let transactions = (0..2).map(|index| writer.transaction(slot, index, &[slot as u8, 1], &[2]));
            let entries = [(vec![0; 32], transactions.collect()), (vec![slot as u8; 32], Vec::new())];
            let rewards = writer.rewards(slot, &[slot as u8]);
            writer.block_of(head(slot, parent), &entries, Some(rewards));
        }
        writer.end()
    }

    fn read(file: &[u8]) -> Result<Vec<RawBlock>, CarError> {
        let (mut sections, mut accumulator) = (Sections::default(), Accumulator::default());
        let mut blocks = Vec::new();
        sections.push(file);
        while let Some(section) = sections.next()? {
            blocks.extend(accumulator.accept(section)?);
        }
        sections.end()?;
        accumulator.end(sections.root()).map(|()| blocks)
    }

    #[test]
    fn blocks_come_out_with_all_that_they_link_to() {
        let blocks = read(&archive(&[(7, 5), (8, 7), (11, 8)])).expect("whole");
        let slots: Vec<Slot> = blocks.iter().map(|block| block.node.slot).collect();
        assert_eq!(slots, [7, 8, 11]);
        assert_eq!(blocks[0].parent_blockhash, None);
        assert_eq!(blocks[2].parent_blockhash, Some(blocks[1].blockhash));
        assert_eq!(blocks[1].transactions.len(), 2);
    }

    #[test]
    fn long_payloads_are_put_together_in_order() {
        let mut writer = CarWriter::default();
        writer.frame_bytes = 10;
        let payload: Vec<u8> = (0..=255).collect();
        let transaction = writer.transaction(7, 0, &payload, &[1; 95]);
        let rewards = writer.rewards(7, &[2; 33]);
        writer.block_of(head(7, 5), &[(vec![7; 32], vec![transaction])], Some(rewards));
        let blocks = read(&writer.end()).expect("whole");
        assert_eq!(blocks[0].transactions[0].data, payload);
        assert_eq!(blocks[0].transactions[0].metadata, vec![1; 95]);
        assert_eq!(blocks[0].rewards.as_deref(), Some(&[2; 33][..]));
    }

    #[test]
    fn a_file_cut_anywhere_does_not_pass_for_whole() {
        let file = archive(&[(7, 5), (8, 7)]);
        assert!(read(&file).is_ok());
        for length in 0..file.len() {
            assert!(read(&file[..length]).is_err(), "{length} of {} bytes", file.len());
        }
    }

    #[test]
    fn a_block_that_was_left_out_is_missed() {
        assert_eq!(read(&archive(&[(7, 5), (9, 8)])), Err(CarError::Gap { slot: 9, parent: 8, before: 7 }));
        assert_eq!(read(&archive(&[(7, 5), (7, 7)])), Err(CarError::Gap { slot: 7, parent: 7, before: 7 }));
        let mut writer = CarWriter::default();
        writer.block_of(head(7, 5), &[(vec![7; 32], Vec::new())], None);
        writer.listed.clear();
        assert!(matches!(read(&writer.end()), Err(CarError::End(_))));
    }

    #[test]
    fn a_link_to_itself_or_to_nothing_leads_nowhere() {
        let mut writer = CarWriter::default();
        let part = writer.add(&frame_node(b"part", &[[9; 32]]));
        let transaction = writer.add(&transaction_node(7, 0, b"x", &[part], b"y"));
        writer.block_of(head(7, 5), &[(vec![7; 32], vec![transaction])], None);
        assert_eq!(read(&writer.end()), Err(CarError::Link { slot: 7, what: "data frame" }));
    }
}
