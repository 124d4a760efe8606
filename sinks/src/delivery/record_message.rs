//! A message of records, and what a restart has to know of the one that was on its way.
//!
//! A message is cut by what comes and when, so after a crash its records would come in other messages, under other ids, and
//! a receiver that keeps ids would take them twice. So a message is stored before it is sent, and sent again as it was,
//! whatever comes then and in which order. A block whose records are in several messages is told by how many of them were
//! in those that were stored.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sluice_stages::slot::{Hash, Slot};

use super::record::Lines;

/// Blocks that are begun: one that is being cut, and those of which a process before this one sent the beginning.
const MAX_BEGUN: usize = 64;

/// A message of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordMessage {
    /// The idempotency key.
    pub(crate) id: String,
    /// JSON; empty if there is nothing to send.
    #[serde(with = "text")]
    pub(crate) body: Bytes,
    /// Number of records.
    pub(crate) records: usize,
    /// Blocks that end in it.
    pub(crate) marks: Vec<Mark>,
    /// Blocks of which only the first records are in it or a message before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) begun: Vec<Begun>,
    /// Whether its records are on the chain. Samples are lost with the process that measured them.
    pub(crate) is_of_chain: bool,
}

impl RecordMessage {
    /// The first slot that it is about.
    pub(crate) fn first_slot(&self) -> Option<Slot> {
        let ended = self.marks.iter().map(|mark| mark.slot);
        ended.chain(self.begun.iter().map(|begun| begun.slot)).next()
    }
}

/// A body as text.
mod text {
    use bytes::Bytes;
    use serde::{Deserialize as _, Deserializer, Serializer, ser};

    pub(super) fn serialize<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(body).map_err(ser::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        String::deserialize(deserializer).map(Bytes::from)
    }
}

/// A block whose last record is in a message: when that is delivered, the block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The slot of its parent.
    pub(crate) parent_slot: Slot,
    /// Its slot.
    pub(crate) slot: Slot,
}

/// A block of which the first records were in a message, and the others were not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begun {
    slot: Slot,
    blockhash: String,
    /// Records that were in a message.
    records: usize,
    /// Of these records: others than these are no reason to leave any out.
    digest: String,
}

impl Begun {
    /// The first `records` of the lines of a block.
    pub(crate) fn new(slot: Slot, blockhash: Hash, lines: &Lines, records: usize) -> Self {
        Self { slot, blockhash: blockhash.to_base58(), records, digest: digest_of(lines, records) }
    }

    fn is_of(&self, slot: Slot, blockhash: Hash) -> bool {
        self.slot == slot && self.blockhash == blockhash.to_base58()
    }
}

fn digest_of(lines: &Lines, records: usize) -> String {
    let mut digest = Sha256::new();
    lines.iter().take(records).for_each(|line| {
        digest.update(line);
        digest.update(b"\n");
    });
    short_hex(&digest.finalize())
}

/// 64 bits of a digest, which tell apart what is about the same slots.
pub(crate) fn short_hex(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Blocks that are begun, by whatever process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BegunBlocks(Vec<Begun>);

impl BegunBlocks {
    /// Those that were stored.
    pub(crate) fn new(mut stored: Vec<Begun>) -> Self {
        stored.truncate(MAX_BEGUN);
        Self(stored)
    }

    /// Takes a block out; how many of its records were in messages.
    pub(crate) fn take(&mut self, slot: Slot, blockhash: Hash, lines: &Lines) -> usize {
        let Some(place) = self.0.iter().position(|begun| begun.is_of(slot, blockhash)) else { return 0 };
        let begun = self.0.remove(place);
        // Another choice of records makes other lines of a block.
        if begun.digest == digest_of(lines, begun.records) { begun.records } else { 0 }
    }

    /// All of them, and the one that is being cut.
    pub(crate) fn with(&self, cut: Option<Begun>) -> Vec<Begun> {
        cut.into_iter().chain(self.0.iter().cloned()).collect()
    }
}
