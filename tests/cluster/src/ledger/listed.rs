//! Ledgers from files: blocks as they were, or a recording with the RPC answers that belong to it.
//!
//! A few empty slots are made up behind the last block, and behind each block that the next one does not build on if
//! there is room, so that every block has a child.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;

use super::block::{Block, Fate, Version};
use super::load::{Answer, LedgerError, Loaded};
use super::recording::{self, Gathered, RecordedFrame};
use super::{LedgerSlot, get_block, poh};
use crate::random::random;

/// Empty slots behind a block that has no child of its own: enough for one to be lost and the proof to hold.
const TRAILING_SLOTS: u64 = 4;

/// Slots in the order of their numbers, with recorded RPC answers.
#[derive(Debug)]
pub struct ListedLedger {
    slots: Vec<Arc<LedgerSlot>>,
    answers: HashMap<(u64, String), Value>,
}

impl ListedLedger {
    /// Puts the content of files together.
    pub fn try_new(files: Vec<Loaded>) -> Result<Self, LedgerError> {
        let mut all = Loaded::default();
        for file in files {
            all.blocks.extend(file.blocks);
            all.frames.extend(file.frames);
            all.answers.extend(file.answers);
        }
        check_order(&all.blocks)?;
        let mut blocks: BTreeMap<u64, Block> = answered_blocks(&all.answers);
        blocks.extend(all.blocks.into_iter().map(|block| (block.slot, block)));
        let slots = with_trailing(merge(blocks, all.frames))?;
        let key = |answer: Answer| ((answer.slot, answer.encoding), answer.response);
        Ok(Self { slots, answers: all.answers.into_iter().map(key).collect() })
    }

    /// All slots.
    pub(crate) fn slots(&self) -> &[Arc<LedgerSlot>] {
        &self.slots
    }

    /// The recorded answer to `getBlock`.
    pub(crate) fn answer(&self, slot: u64, encoding: &str) -> Option<&Value> {
        self.answers.get(&(slot, encoding.to_owned()))
    }
}

fn check_order(blocks: &[Block]) -> Result<(), LedgerError> {
    let unordered = blocks.windows(2).find(|pair| pair[1].slot <= pair[0].slot);
    match unordered {
        Some(pair) => Err(LedgerError::Order { slot: pair[1].slot, before: pair[0].slot }),
        None => Ok(()),
    }
}

/// The blocks that answers hold; an answer that is an error holds none.
fn answered_blocks(answers: &[Answer]) -> BTreeMap<u64, Block> {
    let parse = |answer: &Answer| get_block::parse(answer.response.clone(), Some(answer.slot)).ok();
    answers.iter().filter_map(parse).map(|block| (block.slot, block)).collect()
}

fn merge(mut blocks: BTreeMap<u64, Block>, frames: Vec<RecordedFrame>) -> BTreeMap<u64, LedgerSlot> {
    let mut gathered = recording::gather(&frames);
    let told = told_levels(&frames);
    let mut slots = BTreeMap::new();
    for (slot, window) in windows(frames) {
        let mut one = recorded_slot(slot, blocks.remove(&slot), gathered.remove(&slot));
        one.frames = window;
        one.told = told.get(&slot).copied().unwrap_or_default();
        slots.insert(slot, one);
    }
    for (slot, block) in blocks {
        slots.insert(slot, LedgerSlot::new(slot, canonical(block)));
    }
    slots
}

/// The block of a recorded slot: from its frames if they are whole, else from the RPC answer.
fn recorded_slot(slot: u64, answered: Option<Block>, gathered: Option<Gathered>) -> LedgerSlot {
    let Some(gathered) = gathered else {
        return LedgerSlot { versions: answered.map(canonical).unwrap_or_default(), ..unknown(slot) };
    };
    let replayable =
        gathered.transactions_whole && (gathered.entries_whole || gathered.block.entries.is_empty());
    let mut block = gathered.block;
    if !gathered.transactions_whole {
        // Without bodies anywhere, the frames can be played and nothing else.
        let Some(answered) = answered else { return LedgerSlot { lost: true, ..unknown(slot) } };
        block.transactions = answered.transactions;
    }
    let mut one = LedgerSlot::new(slot, canonical(block));
    one.replayable = replayable;
    one
}

fn unknown(slot: u64) -> LedgerSlot {
    LedgerSlot { replayable: false, ..LedgerSlot::new(slot, Vec::new()) }
}

fn canonical(block: Block) -> Vec<Arc<Version>> {
    vec![Arc::new(Version::new(block, Fate::Canonical, 0))]
}

/// Cuts a recording where a new slot begins; what comes late for an older slot stays where it came.
fn windows(frames: Vec<RecordedFrame>) -> BTreeMap<u64, Vec<RecordedFrame>> {
    let mut windows: BTreeMap<u64, Vec<RecordedFrame>> = BTreeMap::new();
    let mut current = 0;
    for frame in frames {
        current = current.max(frame.slot().unwrap_or_default());
        windows.entry(current).or_default().push(frame);
    }
    windows
}

fn told_levels(frames: &[RecordedFrame]) -> HashMap<u64, [bool; 3]> {
    let mut told: HashMap<u64, [bool; 3]> = HashMap::new();
    for frame in frames {
        if let UpdateOneof::Slot(update) = &frame.update
            && let Some(level) = told.entry(update.slot).or_default().get_mut(update.status as usize)
        {
            *level = true;
        }
    }
    told
}

fn with_trailing(slots: BTreeMap<u64, LedgerSlot>) -> Result<Vec<Arc<LedgerSlot>>, LedgerError> {
    let mut out: Vec<Arc<LedgerSlot>> = Vec::new();
    let mut rest = slots.into_values().peekable();
    let mut tip: Option<Arc<Version>> = None;
    while let Some(slot) = rest.next() {
        tip = slot.canonical().cloned().or(tip);
        let last = slot.slot;
        out.push(Arc::new(slot));
        let Some(parent) = &tip else { continue };
        if has_room(last, rest.peek()) {
            out.extend(trailing(&parent.block, last)?);
        }
    }
    if out.is_empty() {
        return Err(LedgerError::Empty);
    }
    Ok(out)
}

/// Whether the slots behind `last` are free: none is played there, nor named as a parent.
fn has_room(last: u64, next: Option<&LedgerSlot>) -> bool {
    let Some(next) = next else { return true };
    let named = next.canonical().map_or(next.slot, |version| version.block.parent_slot);
    named > last + TRAILING_SLOTS
}

fn trailing(parent: &Block, last: u64) -> Result<Vec<Arc<LedgerSlot>>, LedgerError> {
    let mut parent = parent.clone();
    let mut out = Vec::new();
    for slot in last + 1..=last + TRAILING_SLOTS {
        let block = empty_child(&parent, slot)?;
        out.push(Arc::new(LedgerSlot::new(slot, canonical(block.clone()))));
        parent = block;
    }
    Ok(out)
}

fn empty_child(parent: &Block, slot: u64) -> Result<Block, LedgerError> {
    let state = poh::hash(&parent.blockhash).ok_or_else(|| LedgerError::Hash(parent.blockhash.clone()))?;
    let (entries, blockhash) =
        poh::forge(state, slot, &[], poh::Shape::default(), &mut random("trailing", &[slot]));
    Ok(Block {
        slot,
        parent_slot: parent.slot,
        blockhash: bs58::encode(blockhash).into_string(),
        parent_blockhash: parent.blockhash.clone(),
        block_time: parent.block_time,
        block_height: parent.block_height.map(|height| height + 1),
        told_entries: entries.len() as u64,
        entries,
        ..Block::default()
    })
}
