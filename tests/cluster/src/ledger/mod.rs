//! Ledgers: what is on the simulated chain, slot by slot, in the order in which it is played.

mod block;
pub mod car;
mod confirmed_block;
mod generated;
mod get_block;
mod lie;
mod listed;
mod load;
mod poh;
mod recording;
mod signing;
mod transaction;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;

pub use block::{Block, Fate, Version};
pub use generated::{GeneratedLedger, mainnet_blocks};
pub use get_block::{GetBlockError, error_bytes, parse as parse_get_block};
pub use lie::Lie;
pub use listed::ListedLedger;
pub use load::{Answer, LedgerError, Loaded, load, load_bytes};
pub use poh::{Hash, Shape, hash, verify};
pub use recording::RecordedFrame;
pub use transaction::{
    WireError, decode as decode_transaction, encode as encode_transaction, is_vote,
    version as message_version,
};

use generated::Generator;

/// The slot that generated ledgers start with: the first of epoch 200.
pub const FIRST_SLOT: u64 = 86_400_000;
/// Slots in an epoch, as on mainnet.
pub const EPOCH_SLOTS: u64 = 432_000;

/// A slot of the ledger.
#[derive(Debug)]
pub struct LedgerSlot {
    /// Its number.
    pub slot: u64,
    /// What banks there were for it, in the order in which they were made; none if nothing was seen of it.
    pub versions: Vec<Arc<Version>>,
    /// The recorded updates that are played in its place, if it comes from a recording.
    pub(crate) frames: Vec<RecordedFrame>,
    /// Whether the recording itself tells that the slot is processed, confirmed and finalized.
    pub(crate) told: [bool; 3],
    /// Whether a server can replay it whole.
    pub(crate) replayable: bool,
    /// Whether there was a block of which the files do not hold the transactions.
    pub(crate) lost: bool,
}

impl LedgerSlot {
    /// A slot of which all is known.
    pub(crate) fn new(slot: u64, versions: Vec<Arc<Version>>) -> Self {
        Self { slot, versions, frames: Vec::new(), told: [false; 3], replayable: true, lost: false }
    }

    /// The version on the chain; `None` if the slot is skipped.
    pub fn canonical(&self) -> Option<&Arc<Version>> {
        self.versions.iter().find(|version| version.fate == Fate::Canonical)
    }
}

/// A ledger. Positions count its slots from 0 in the order of play.
#[derive(Debug)]
pub enum Ledger {
    /// Blocks and recordings from files.
    Listed(ListedLedger),
    /// Made up as it is played.
    Generated(Generator),
}

impl Ledger {
    /// A ledger of real transactions in new slots.
    pub fn generated(settings: GeneratedLedger) -> Self {
        Self::Generated(Generator::new(settings))
    }

    /// A ledger from files, in the order given.
    pub fn listed(files: Vec<Loaded>) -> Result<Self, LedgerError> {
        Ok(Self::Listed(ListedLedger::try_new(files)?))
    }

    /// Reads a ledger's files.
    pub fn open(files: &[LedgerFile]) -> Result<Self, LedgerError> {
        Self::listed(files.iter().map(|file| load(&file.path, file.slot)).collect::<Result<_, _>>()?)
    }

    /// The full recording of a real validator, with its RPC answers.
    pub fn recorded_validator() -> Result<Self, LedgerError> {
        let frames = include_bytes!("../../data/testvalidator-full-stream.subscribe_updates.bin.zst");
        let answers = include_bytes!("../../data/testvalidator-full-stream.get_blocks.jsonl.gz");
        Self::listed(vec![
            load_bytes("testvalidator-full-stream.subscribe_updates.bin.zst", frames, None)?,
            load_bytes("testvalidator-full-stream.get_blocks.jsonl.gz", answers, None)?,
        ])
    }

    /// Number of slots; `None` is without end.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Listed(listed) => Some(listed.slots().len() as u64),
            Self::Generated(generator) => generator.length(),
        }
    }

    /// The slot at a position, if the ledger is that long.
    pub fn at(&self, position: u64) -> Option<Arc<LedgerSlot>> {
        match self {
            Self::Listed(listed) => listed.slots().get(position as usize).cloned(),
            Self::Generated(generator) => generator.at(position),
        }
    }

    /// The number of the slot at a position, without making its content.
    pub fn number(&self, position: u64) -> Option<u64> {
        match self {
            Self::Listed(listed) => listed.slots().get(position as usize).map(|slot| slot.slot),
            Self::Generated(generator) => generator.number(position),
        }
    }

    /// Whether there is a block of the chain at a position; its content is made only if that was never asked before.
    pub fn is_canonical(&self, position: u64) -> bool {
        match self {
            Self::Listed(_) => self.at(position).is_some_and(|slot| slot.canonical().is_some()),
            Self::Generated(generator) => generator.is_canonical(position),
        }
    }

    /// The position of the first slot that is not below `slot`; the ledger's length if there is none.
    pub fn position_from(&self, slot: u64) -> u64 {
        match self {
            Self::Listed(listed) => listed.slots().partition_point(|one| one.slot < slot) as u64,
            Self::Generated(generator) => generator.position_from(slot),
        }
    }

    /// The slot with a number, if the ledger plays it.
    pub fn slot(&self, slot: u64) -> Option<Arc<LedgerSlot>> {
        self.at(self.position_from(slot)).filter(|found| found.slot == slot)
    }

    /// The recorded answer to `getBlock` in an encoding.
    pub fn answer(&self, slot: u64, encoding: &str) -> Option<&Value> {
        match self {
            Self::Listed(listed) => listed.answer(slot, encoding),
            Self::Generated(_) => None,
        }
    }
}

/// A ledger file and the slot of the block in it, written `FILE[@SLOT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerFile {
    /// The file.
    pub path: PathBuf,
    /// The slot of a block that carries no number; its parent's successor if absent.
    pub slot: Option<u64>,
}

impl FromStr for LedgerFile {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbered = text.rsplit_once('@').and_then(|(path, slot)| Some((path, slot.parse().ok()?)));
        Ok(match numbered {
            Some((path, slot)) => Self { path: path.into(), slot: Some(slot) },
            None => Self { path: text.into(), slot: None },
        })
    }
}

#[cfg(test)]
mod tests;
