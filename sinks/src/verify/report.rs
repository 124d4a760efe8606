//! What an audit found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use sluice_stages::slot::Slot;

use super::poh::ProveOptions;
use super::undone::{self, Check, Obstacle, Undone};

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
    /// Packed in a way that is not known here.
    #[error("packed with {0}, which can't be unpacked here; only zstd and no packing at all can")]
    Codec(String),
    /// A value is not what its column holds.
    #[error("{0} is `{1}`, which is not one: it has to be {2} bytes")]
    Value(&'static str, String, usize),
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

impl Fault {
    /// Whether it is about the whole file: nothing of it can be relied on.
    pub(super) fn is_of_file(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::Codec(_) | Self::Column(_))
    }
}

/// How far an output folder is proven, and what that took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
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
    /// What was asked for and could not be done. Empty if all was.
    pub undone: Vec<Undone>,
}

impl Proven {
    /// Notes that something that was asked for could not be done.
    pub(super) fn leave(&mut self, check: Check, obstacle: Obstacle, blocks: u64) {
        undone::add(&mut self.undone, check, obstacle, blocks);
    }

    /// Notes where nothing at all was looked at, of `blocks` blocks: that is not a success.
    pub(super) fn conclude(&mut self, options: ProveOptions, blocks: u64) {
        let asked = [(options.hashes, Check::Hashes), (options.signatures, Check::Signatures)];
        for (_, check) in asked.into_iter().filter(|(asked, _)| *asked && blocks == 0) {
            self.leave(check, Obstacle::NoBlocks, 0);
        }
        if self.counted > 0 && self.counted == blocks {
            self.leave(Check::Hashes, Obstacle::NoEntries, blocks);
        }
    }
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
        self.undone.iter().try_for_each(|undone| writeln!(f, "not done: {undone}"))
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

    /// Whether all that was asked for could be done.
    pub fn is_done(&self) -> bool {
        self.proven.as_ref().is_none_or(|proven| proven.undone.is_empty())
    }

    /// Whether a file was found to be unreadable.
    pub(super) fn is_unreadable(&self, file: &str) -> bool {
        self.violations.iter().any(|violation| violation.fault.is_of_file() && violation.file == file)
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
        let verdict = match (self.is_clean(), self.is_done()) {
            (true, true) => "no violations",
            (true, false) => "no violations, but not all that was asked for could be done",
            (false, _) => "the folder does not keep its promises",
        };
        writeln!(f, "{verdict}")?;
        write!(f, "sha256 {}", self.digest)
    }
}
