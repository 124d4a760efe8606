//! What an audit found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use sluice_stages::slot::Slot;

/// Violations shown in the text of a report; the rest is counted.
const SHOWN: usize = 100;

/// One thing that is not as it has to be, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Violation {
    /// The file, relative to the folder.
    pub file: String,
    /// The slot, where it is about one.
    pub slot: Option<Slot>,
    /// The transaction's, entry's or row's position in the slot, where it is about one.
    pub index: Option<u64>,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(slot) = self.slot {
            write!(f, ", slot {slot}")?;
        }
        if let Some(index) = self.index {
            write!(f, ", index {index}")?;
        }
        write!(f, ": {}", self.fault)
    }
}

/// The ways in which an output folder can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
pub enum Fault {
    /// Not a Parquet file, cut short, or damaged.
    #[error("can't be read: {0}")]
    Unreadable(String),
    /// A column is missing or of another type.
    #[error("column {0} is missing or of another type")]
    Column(&'static str),
    /// The name is not that of an aligned range in the folder of its epoch.
    #[error("the name is not that of a range of slots in the folder of its epoch")]
    Name,
    /// Two files of a dataset cover the same slot.
    #[error("covers slots that {0} covers, too")]
    Overlap(String),
    /// A row's slot is not one that the file's name promises.
    #[error("the slot is not in the range of the file's name")]
    OutsideRange,
    /// Rows are not sorted by their key, or one is there twice.
    #[error("the row does not come after the one before it: out of order, or twice")]
    Order,
    /// A range is there in `blocks` and not in another dataset, or the other way round.
    #[error("the range is not there, but is in {0}")]
    MissingRange(&'static str),
    /// Slots between two files that are there.
    #[error("slots {0} to {1} are in no file")]
    MissingSlots(Slot, Slot),
    /// A slot has neither a block nor a row in `skipped_slots`.
    #[error("the slot has no block and is not in skipped_slots")]
    Unaccounted,
    /// A slot has a block and a row in `skipped_slots`.
    #[error("the slot has a block and is in skipped_slots, too")]
    SkippedAndThere,
    /// No block names the parent that would prove the skip.
    #[error("no block proves the skip: {0}")]
    UnprovenSkip(String),
    /// The parent link leads to no block.
    #[error("parent_slot {0} has no block")]
    MissingParent(Slot),
    /// The parent link leads past a block.
    #[error("parent_slot {0} lies before the block in slot {1}")]
    Fork(Slot, Slot),
    /// The parent's blockhash is another one.
    #[error("parent_blockhash is not the blockhash of slot {0}")]
    ParentHash(Slot),
    /// The block's count differs from the rows.
    #[error("executed_transaction_count is {0}, and there are {1} transactions")]
    TransactionCount(u64, u64),
    /// A position is missing.
    #[error("the index should be {0}")]
    Index(u64),
    /// A row of a slot or transaction that is not there.
    #[error("the {0} that it belongs to is not there")]
    Orphan(&'static str),
    /// A signature is there twice.
    #[error("the signature {0} is there twice")]
    DuplicateSignature(String),
    /// An instruction's place among the others makes no sense.
    #[error("the instruction's outer_index, inner_index or stack_height does not fit the one before it")]
    InstructionTree,
    /// Entries do not tile the transactions.
    #[error("the entries before it hold {0} transactions, starting_transaction_index is {1}")]
    EntryStart(u64, u64),
    /// Entries hold another number of transactions than the block.
    #[error("the entries hold {0} transactions, the block {1}")]
    EntryCount(u64, u64),
    /// The last entry is not the block's end.
    #[error("the last entry's hash is not the blockhash")]
    EntryHash,
    /// A block without entries.
    #[error("the block has no entries")]
    NoEntries,
    /// The chain of hashes breaks at the entry.
    #[error("not proven: {0}")]
    Proof(String),
    /// A signature does not sign the transaction's message.
    #[error("signature {0} of the transaction does not sign its message")]
    Signature(u32),
    /// The transaction's message can't be put together from its columns.
    #[error("the message that was signed can't be put together: {0}")]
    Message(&'static str),
}

/// How far an output folder is proven, and what that took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Proven {
    /// Blocks whose chain of hashes was looked at.
    pub blocks: u64,
    /// Of these, those whose chain holds.
    pub proven: u64,
    /// Blocks in ranges without entries: their transactions are counted, not proven.
    pub counted: u64,
    /// Hashes recomputed.
    pub hashes: u64,
    /// Signatures held against their messages.
    pub signatures: u64,
    /// Time for hashes and signatures, reading included.
    pub millis: u64,
}

impl fmt::Display for Proven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |count: u64| count as f64 * 1_000.0 / self.millis.max(1) as f64;
        if self.blocks + self.counted > 0 {
            let (proven, blocks, counted) = (self.proven, self.blocks, self.counted);
            writeln!(
                f,
                "proof of history: {proven} of {blocks} blocks proven, {counted} counted without; {} hashes, {:.1} \
                 million a second",
                self.hashes,
                rate(self.hashes) / 1e6
            )?;
        }
        if self.signatures > 0 {
            writeln!(f, "signatures: {} checked, {:.0} a second", self.signatures, rate(self.signatures))?;
        }
        Ok(())
    }
}

/// The result of an audit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Files read.
    pub files: u64,
    /// Slots covered, with and without a block.
    pub slots: u64,
    /// Blocks.
    pub blocks: u64,
    /// Slots proven to have none.
    pub skipped: u64,
    /// Rows of each dataset.
    pub rows: BTreeMap<String, u64>,
    /// The first and last slot covered.
    pub range: Option<(Slot, Slot)>,
    /// How far it is proven, if that was asked for.
    pub proven: Option<Proven>,
    /// What is wrong, sorted by place. Empty if the folder keeps its promises.
    pub violations: Vec<Violation>,
    /// Violations beyond those listed.
    pub more_violations: u64,
    /// What is not wrong and still worth knowing: leftovers of a crash, datasets with holes of their own, unknown files.
    pub notes: Vec<String>,
    /// SHA-256, in hex, over a line `<sha256 in hex>  <relative name>` for each file in order of names: what
    /// `sha256sum` prints for them. `arrivals/`, staged files and the lock are left out.
    pub digest: String,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files", self.files)?;
        if let Some((first, last)) = self.range {
            write!(f, ", slots {first} to {last}")?;
        }
        writeln!(f, ": {} blocks, {} skipped slots", self.blocks, self.skipped)?;
        for (dataset, rows) in &self.rows {
            writeln!(f, "  {dataset:<16}{rows:>14} rows")?;
        }
        if let Some(proven) = &self.proven {
            write!(f, "{proven}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for violation in self.violations.iter().take(SHOWN) {
            writeln!(f, "violation: {violation}")?;
        }
        let hidden = self.violations.len().saturating_sub(SHOWN) as u64 + self.more_violations;
        if hidden > 0 {
            writeln!(f, "and {hidden} more violations")?;
        }
        writeln!(
            f,
            "{}",
            if self.is_clean() { "no violations" } else { "the folder does not keep its promises" }
        )?;
        write!(f, "sha256 {}", self.digest)
    }
}
