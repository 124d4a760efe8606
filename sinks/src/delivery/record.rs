//! One JSON record for each transaction, block, skipped slot, notice and sample, on a line of its own.
//!
//! Field names, units and meanings are those of the Parquet columns (`sluice list parquet` shows them); `type` says which
//! kind of record it is: `transaction`, `block`, `skipped_slot`, `alert` or `sample`. Keys, hashes and signatures are
//! base58, other bytes base64. A transaction carries its instructions and token balances as lists; `err` is RPC's JSON
//! itself. An `alert` is described at [`super::alert_record`].
//!
//! The records of a slot come in the order skipped slots before it, block, transactions by index. The same slot gives
//! the same bytes, whichever way it came in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sluice_stages::block::Block;
use sluice_stages::sample::Sample;
use sluice_stages::slot::Slot;
use sluice_stages::transaction::Transaction;
use sluice_stages::wire::WireError;

use super::cells::Key;
use super::filters::Filters;
use super::time_text::rfc3339;
use super::transaction_record::TransactionRecord;
use crate::parquet::{ErrorTexts, MetaDetails, is_simple_vote};

/// Skipped slots before one block that get a record each: many times the longest pause that the chain ever made between
/// two blocks of one fork.
const MAX_SKIPPED_SLOTS: u64 = 65_536;

/// What a record may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// Transactions of blocks.
    Transactions,
    /// Blocks.
    Blocks,
    /// Slots without a block, as the next block's parent proves them.
    SkippedSlots,
    /// Notices of alerts.
    Alerts,
    /// What the performance monitor measured.
    Samples,
}

impl RecordKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Transactions, Self::Blocks, Self::SkippedSlots, Self::Alerts, Self::Samples];
}

/// Records, ready to be written: JSON, a line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// The text.
    pub(crate) bytes: Vec<u8>,
    /// Where each line ends in it, behind its newline.
    pub(crate) ends: Vec<usize>,
}

impl Lines {
    /// Adds a record.
    pub(crate) fn push(&mut self, record: &impl Serialize) {
        let before = self.bytes.len();
        // Writing to a Vec can't fail, and no record has a map whose keys are no texts.
        match serde_json::to_writer(&mut self.bytes, record) {
            Ok(()) => {
                self.bytes.push(b'\n');
                self.ends.push(self.bytes.len());
            }
            Err(error) => {
                tracing::error!(%error, "a record is not JSON, which is a bug in Sluice");
                self.bytes.truncate(before);
            }
        }
    }

    /// The records, without their newlines.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end - 1])
    }
}

#[derive(Serialize)]
struct BlockRecord<'a> {
    r#type: &'static str,
    slot: Slot,
    blockhash: Key<'a>,
    parent_slot: Slot,
    parent_blockhash: Key<'a>,
    block_time: Option<i64>,
    block_height: Option<u64>,
    executed_transaction_count: u32,
}

#[derive(Serialize)]
struct SkippedSlotRecord {
    r#type: &'static str,
    slot: Slot,
    parent_slot: Slot,
    child_slot: Slot,
}

#[derive(Serialize)]
struct SampleRecord<'a> {
    r#type: &'static str,
    timestamp: String,
    readings: &'a [sluice_stages::sample::Reading],
}

/// Makes records. Holds room to read transactions into, so that it can be used again and again.
pub(crate) struct Recorder {
    kinds: Vec<RecordKind>,
    filters: Filters,
    scratch: Transaction,
    errors: ErrorTexts,
}

impl Recorder {
    /// A recorder of these kinds, cut down by `filters`.
    pub(crate) fn new(kinds: &[RecordKind], filters: Filters) -> Self {
        let (scratch, errors) = (Transaction::default(), ErrorTexts::default());
        Self { kinds: kinds.to_vec(), filters, scratch, errors }
    }

    /// Whether it makes records of this kind.
    pub(crate) fn makes(&self, kind: RecordKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether it makes any records of blocks.
    pub(crate) fn makes_any_of_blocks(&self) -> bool {
        [RecordKind::Transactions, RecordKind::Blocks, RecordKind::SkippedSlots]
            .into_iter()
            .any(|kind| self.makes(kind))
    }

    /// Adds the records of `block`, with those of the skipped slots right before it.
    pub(crate) fn record_block(&mut self, block: &Block, lines: &mut Lines) {
        if self.makes(RecordKind::SkippedSlots) {
            push_skipped(block, lines);
        }
        if self.makes(RecordKind::Blocks) {
            push_block(block, lines);
        }
        if !self.makes(RecordKind::Transactions) {
            return;
        }
        for update in block.transactions.updates().unwrap_or_default() {
            if let Err(error) = self.push_transaction(update.frame.body(), lines) {
                // Every frame of a block was checked before it became part of it.
                tracing::error!(slot = block.slot(), %error, "a checked transaction is malformed, which is a bug in Sluice");
            }
        }
    }

    /// Adds the record of a sample.
    pub(crate) fn record_sample(&self, sample: &Sample, lines: &mut Lines) {
        if self.makes(RecordKind::Samples) {
            lines.push(&SampleRecord {
                r#type: "sample",
                timestamp: rfc3339(sample.at),
                readings: &sample.readings,
            });
        }
    }

    fn push_transaction(&mut self, body: &[u8], lines: &mut Lines) -> Result<(), WireError> {
        self.scratch.read(body)?;
        let transaction = &self.scratch;
        let is_vote = is_simple_vote(transaction, body);
        if !self.filters.matches(transaction, is_vote, body) {
            return Ok(());
        }
        let err = transaction.err.map(|err| self.errors.text(err.of(body)));
        let err = err.and_then(|err| serde_json::from_str::<&RawValue>(err).ok());
        lines.push(&TransactionRecord::new(transaction, body, is_vote, err));
        Ok(())
    }
}

fn push_skipped(block: &Block, lines: &mut Lines) {
    let (parent_slot, child_slot) = (block.meta.parent_slot, block.slot());
    let slots = parent_slot.saturating_add(1)..child_slot;
    if child_slot.saturating_sub(parent_slot) > MAX_SKIPPED_SLOTS {
        tracing::warn!(
            parent_slot,
            child_slot,
            "only the first {MAX_SKIPPED_SLOTS} skipped slots are recorded"
        );
    }
    for slot in slots.take(MAX_SKIPPED_SLOTS as usize) {
        lines.push(&SkippedSlotRecord { r#type: "skipped_slot", slot, parent_slot, child_slot });
    }
}

fn push_block(block: &Block, lines: &mut Lines) {
    let meta = &block.meta;
    // The meta was read once when the block was put together; its time and height are of no less use if they are odd.
    let details = MetaDetails::read(block.meta_update.frame.body()).unwrap_or_default();
    lines.push(&BlockRecord {
        r#type: "block",
        slot: meta.slot,
        blockhash: Key(&meta.blockhash.0),
        parent_slot: meta.parent_slot,
        parent_blockhash: Key(&meta.parent_blockhash.0),
        block_time: details.block_time,
        block_height: details.block_height,
        executed_transaction_count: meta.executed_transaction_count,
    });
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
