//! Writes Old Faithful archives: CARv1 files of DAG-CBOR nodes by the ledger's schema,
//! <https://github.com/rpcpool/yellowstone-faithful/blob/main/ledger.ipldsch>.
//!
//! All that a node links to is written before it, as in the archives that are served. Encoded by hand, so that no reader
//! is held to a library that it may be made with.

use prost::Message;
use sha2::{Digest as _, Sha256};
use yellowstone_grpc_proto::prelude::{NumPartitions, Rewards};

use super::block::Block;
use super::transaction;

/// The SHA-256 of a node, by which others link to it.
pub type Digest = [u8; 32];

/// Blocks in a subset.
const SUBSET_BLOCKS: usize = 50;
/// Most data in one frame: large enough that most payloads have one, small enough that some have several.
const FRAME_BYTES: usize = 4 << 10;
/// Links from one frame to others.
const FRAME_LINKS: usize = 3;
/// The CID that stands where there are no rewards: the identity of no bytes.
const NOTHING: [u8; 4] = [1, 0x55, 0, 0];

/// What a block node says of its own.
#[derive(Debug, Clone, Copy)]
pub struct BlockHead {
    /// The slot.
    pub slot: u64,
    /// The parent.
    pub parent_slot: u64,
    /// Unix seconds.
    pub block_time: i64,
    /// Blocks below it, if the archive is a newer one.
    pub block_height: Option<u64>,
}

/// An archive that is being written.
#[derive(Debug, Clone)]
pub struct CarWriter {
    sections: Vec<u8>,
    /// The blocks that the epoch will list.
    pub listed: Vec<Digest>,
    /// Most data in one frame.
    pub frame_bytes: usize,
}

impl Default for CarWriter {
    fn default() -> Self {
        Self { sections: Vec::new(), listed: Vec::new(), frame_bytes: FRAME_BYTES }
    }
}

impl CarWriter {
    /// Writes a section.
    pub fn add(&mut self, node: &[u8]) -> Digest {
        let digest: Digest = Sha256::digest(node).into();
        let cid = cid(digest);
        self.sections.extend(varint((cid.len() + node.len()) as u64));
        self.sections.extend(cid);
        self.sections.extend(node);
        digest
    }

    /// Writes a block of a ledger, with its entries if there are any, else with one for all transactions.
    pub fn block(&mut self, block: &Block) {
        let mut digests = Vec::new();
        for (index, info) in block.transactions.iter().enumerate() {
            let data = transaction::encode(&info.transaction.clone().unwrap_or_default());
            let metadata = pack(&info.meta.clone().unwrap_or_default().encode_to_vec());
            digests.push(self.transaction(block.slot, index as u64, &data, &metadata));
        }
        let blockhash = super::hash(&block.blockhash).unwrap_or_default();
        let mut entries: Vec<(Vec<u8>, Vec<Digest>)> = Vec::new();
        for entry in &block.entries {
            let first = entry.starting_transaction_index as usize;
            let of_entry = digests.iter().skip(first).take(entry.executed_transaction_count as usize);
            entries.push((entry.hash.clone(), of_entry.copied().collect()));
        }
        if entries.is_empty() {
            entries.push((blockhash.to_vec(), digests));
        }
        let num_partitions = block.num_partitions.map(|num_partitions| NumPartitions { num_partitions });
        let has_rewards = !block.rewards.is_empty() || num_partitions.is_some();
        let rewards = Rewards { rewards: block.rewards.clone(), num_partitions };
        let rewards = has_rewards.then(|| self.rewards(block.slot, &pack(&rewards.encode_to_vec())));
        let head = BlockHead {
            slot: block.slot,
            parent_slot: block.parent_slot,
            block_time: block.block_time.unwrap_or_default(),
            block_height: block.block_height,
        };
        self.block_of(head, &entries, rewards);
    }

    /// Writes a transaction: the ledger's bytes and its outcome.
    pub fn transaction(&mut self, slot: u64, index: u64, data: &[u8], metadata: &[u8]) -> Digest {
        let (data, metadata) = (self.frames(data), self.frames(metadata));
        self.add(&list(&[number(0), data, metadata, number(slot), number(index)]))
    }

    /// Writes the rewards of a block.
    pub fn rewards(&mut self, slot: u64, data: &[u8]) -> Digest {
        let data = self.frames(data);
        self.add(&list(&[number(5), number(slot), data]))
    }

    /// Writes a block of entries, each a hash and the transactions in it.
    pub fn block_of(&mut self, head: BlockHead, entries: &[(Vec<u8>, Vec<Digest>)], rewards: Option<Digest>) {
        let entry = |(hash, transactions): &(Vec<u8>, Vec<Digest>)| {
            list(&[number(1), number(1), bytes(hash), links(transactions)])
        };
        let entries: Vec<Digest> = entries.iter().map(|one| self.add(&entry(one))).collect();
        // -1: an entry that ends within a shred.
        let shredding = list(&[list(&[number(0), vec![0x20]])]);
        let mut meta = vec![number(head.parent_slot), number(head.block_time.unsigned_abs())];
        meta.extend(head.block_height.map(number));
        let rewards = rewards.map_or_else(|| link(&NOTHING), |digest| link(&cid(digest)));
        let node = list(&[number(2), number(head.slot), shredding, links(&entries), list(&meta), rewards]);
        let digest = self.add(&node);
        self.listed.push(digest);
    }

    /// Adds the subsets and the epoch, and returns the file.
    pub fn end(mut self) -> Vec<u8> {
        let listed = std::mem::take(&mut self.listed);
        let subset = |blocks: &[Digest]| list(&[number(3), number(0), number(0), links(blocks)]);
        let subsets: Vec<Digest> =
            listed.chunks(SUBSET_BLOCKS).map(|blocks| self.add(&subset(blocks))).collect();
        let root = self.add(&list(&[number(4), number(0), links(&subsets)]));
        self.finish(root)
    }

    /// Puts the header before all that was added.
    pub fn finish(self, root: Digest) -> Vec<u8> {
        let text = |text: &str| [head(3, text.len() as u64), text.as_bytes().to_vec()].concat();
        let header = [head(5, 2), text("roots"), links(&[root]), text("version"), number(1)].concat();
        [varint(header.len() as u64), header, self.sections].concat()
    }

    /// A payload in frames: each of the first ones stands alone, the last of a row has the rest behind it.
    fn frames(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut parts = payload.chunks(self.frame_bytes.max(1));
        let first = parts.next().unwrap_or_default();
        let next = self.behind(&parts.collect::<Vec<_>>());
        frame_node(first, &next)
    }

    fn behind(&mut self, parts: &[&[u8]]) -> Vec<Digest> {
        let (here, rest) = parts.split_at(parts.len().min(FRAME_LINKS));
        let rest = if rest.is_empty() { Vec::new() } else { self.behind(rest) };
        let last = here.len().saturating_sub(1);
        let node = |(at, part): (usize, &&[u8])| frame_node(part, if at == last { &rest } else { &[] });
        let nodes: Vec<Vec<u8>> = here.iter().enumerate().map(node).collect();
        nodes.iter().map(|node| self.add(node)).collect()
    }
}

/// An encoded data frame.
pub fn frame_node(data: &[u8], next: &[Digest]) -> Vec<u8> {
    let null = || vec![0xf6];
    list(&[number(6), null(), null(), null(), bytes(data), links(next)])
}

/// An encoded transaction whose data goes on in other frames.
pub fn transaction_node(slot: u64, index: u64, data: &[u8], next: &[Digest], metadata: &[u8]) -> Vec<u8> {
    list(&[number(0), frame_node(data, next), frame_node(metadata, &[]), number(slot), number(index)])
}

/// A number of seven bits a byte, the lowest first.
pub fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap_or_default()
}

/// The head of a CBOR value, in its shortest form.
fn head(major: u8, number: u64) -> Vec<u8> {
    let major = major << 5;
    match number {
        0..24 => vec![major | number as u8],
        24..0x100 => vec![major | 24, number as u8],
        0x100..0x1_0000 => [&[major | 25][..], &(number as u16).to_be_bytes()].concat(),
        0x1_0000..0x1_0000_0000 => [&[major | 26][..], &(number as u32).to_be_bytes()].concat(),
        _ => [&[major | 27][..], &number.to_be_bytes()].concat(),
    }
}

fn number(number: u64) -> Vec<u8> {
    head(0, number)
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [head(2, bytes.len() as u64), bytes.to_vec()].concat()
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len() as u64), items.concat()].concat()
}

fn cid(digest: Digest) -> Vec<u8> {
    [&[1, 0x71, 0x12, 32][..], &digest].concat()
}

fn link(cid: &[u8]) -> Vec<u8> {
    [head(6, 42), bytes(&[&[0][..], cid].concat())].concat()
}

fn links(digests: &[Digest]) -> Vec<u8> {
    list(&digests.iter().map(|digest| link(&cid(*digest))).collect::<Vec<_>>())
}
