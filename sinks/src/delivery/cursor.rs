//! Up to where a sink has delivered the chain, kept in a file.
//!
//! A block covers its own slot and the skipped ones between its parent and itself. The cursor stands behind the slots that
//! are covered without a break; stretches that were delivered beyond holes are remembered beside it, and so is the message
//! that is on its way, so that a restart sends it as it was.
//!
//! The file (`{"version":1,"next_slot":N}`, with `delivered`, `begun` and `message` where there is such) is written to
//! another name, synced, renamed, and its folder synced.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sluice_stages::slot::{Hash, Slot};

use super::durable;
use super::record_message::{Begun, RecordMessage};

/// The file's name in the state folder.
pub(crate) const FILE_NAME: &str = "cursor.json";
/// The version of the file's format.
const VERSION: u32 = 1;
/// Stretches beyond holes that the file remembers; what lies beyond more of them is delivered again after a restart.
const MAX_STORED_STRETCHES: usize = 256;
/// Stretches beyond holes that are remembered; each stands for a hole.
const MAX_STRETCHES: usize = 4_096;
/// Versions of slots that were accepted and are not behind the cursor: seven hours of the chain.
const MAX_ACCEPTED: usize = 65_536;

/// The position, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Everything below was delivered; `None` until it is known where the pipeline begins.
    next_slot: Option<Slot>,
    /// Stretches that were delivered at or above `next_slot`: first slot to the slot behind the last.
    stretches: BTreeMap<Slot, Slot>,
    /// Stretches that a process before this one delivered, or whose last message it stored; of which versions, nobody knows.
    inherited: BTreeMap<Slot, Slot>,
    /// What was taken in, so that a slot which comes again is not delivered again.
    accepted: BTreeMap<(Slot, Hash), ()>,
}

impl Cursor {
    /// A cursor that goes on where a process before this one was, if there was one.
    pub(crate) fn resume(position: Option<&Position>) -> Self {
        let Some(position) = position else { return Self::default() };
        let stretches: BTreeMap<Slot, Slot> = position.delivered.iter().copied().collect();
        let mut inherited = stretches.clone();
        for mark in position.message.iter().flat_map(|message| &message.marks) {
            cover(&mut inherited, mark.parent_slot, mark.slot);
        }
        let next_slot = Some(position.next_slot);
        let mut cursor = Self { next_slot, inherited, stretches, accepted: BTreeMap::new() };
        cursor.advance();
        cursor
    }

    /// Where it is while `message` is on its way and these blocks are begun; `None` if nothing is known yet.
    pub(crate) fn position(&self, message: Option<RecordMessage>, begun: Vec<Begun>) -> Option<Position> {
        let next_slot = self.next_slot.or(message.as_ref().and_then(RecordMessage::first_slot))?;
        let delivered = self.stretches.iter().take(MAX_STORED_STRETCHES).map(|(&first, &end)| (first, end));
        Some(Position { next_slot, delivered: delivered.collect(), begun, message })
    }

    /// The pipeline looks for nothing below `slot`. True if slots that were never delivered lie below.
    pub(crate) fn begin(&mut self, slot: Slot) -> bool {
        let missed = self.next_slot.is_some_and(|next| next < slot);
        self.next_slot = Some(self.next_slot.map_or(slot, |next| next.max(slot)));
        self.advance();
        missed
    }

    /// Whether this version of a slot is to be delivered: it was not yet, and is not about to be.
    pub(crate) fn accept(&mut self, slot: Slot, blockhash: Hash) -> bool {
        let inherited = self.inherited.range(..=slot).next_back().is_some_and(|(_, &end)| slot < end);
        if inherited || self.next_slot.is_some_and(|next| slot < next) {
            return false;
        }
        if self.accepted.len() >= MAX_ACCEPTED {
            self.accepted.pop_first();
        }
        self.accepted.insert((slot, blockhash), ()).is_none()
    }

    /// A block in `slot` whose parent is in `parent_slot` was delivered.
    pub(crate) fn on_delivered(&mut self, parent_slot: Slot, slot: Slot) {
        // Without a word about where the pipeline begins, it begins with the first block.
        self.next_slot.get_or_insert(slot);
        cover(&mut self.stretches, parent_slot, slot);
        self.advance();
        if self.stretches.len() > MAX_STRETCHES {
            self.stretches.pop_last();
        }
    }

    fn advance(&mut self) {
        let Some(mut next) = self.next_slot else { return };
        while let Some(stretch) = self.stretches.first_entry()
            && *stretch.key() <= next
        {
            next = next.max(stretch.remove());
        }
        self.next_slot = Some(next);
        self.accepted = self.accepted.split_off(&(next, Hash([0; 32])));
    }
}

/// Adds what a block in `slot` covers; stretches that touch it become part of the new one.
fn cover(stretches: &mut BTreeMap<Slot, Slot>, parent_slot: Slot, slot: Slot) {
    let (mut first, mut end) = (parent_slot.saturating_add(1).min(slot), slot.saturating_add(1));
    while let Some((&other_first, &other_end)) = stretches.range(..=end).next_back()
        && other_end >= first
    {
        stretches.remove(&other_first);
        (first, end) = (first.min(other_first), end.max(other_end));
    }
    stretches.insert(first, end);
}

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct CursorFile {
    path: PathBuf,
}

/// How far the deliveries have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Everything below was delivered.
    pub(crate) next_slot: Slot,
    /// Stretches above that were delivered, too: first slot, slot behind the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) delivered: Vec<(Slot, Slot)>,
    /// Blocks of which only the first records were delivered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) begun: Vec<Begun>,
    /// The message that was sent and perhaps taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<RecordMessage>,
}

impl Position {
    /// Blocks that are begun once the message was delivered.
    pub(crate) fn begun_then(&self) -> Vec<Begun> {
        self.message.as_ref().map_or(&self.begun, |message| &message.begun).clone()
    }
}

#[derive(Serialize, Deserialize)]
struct Stored<P> {
    version: u32,
    #[serde(flatten)]
    position: P,
}

impl CursorFile {
    /// The file at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says; `None` if it is not there.
    ///
    /// # Errors
    /// If it can't be read, or is no cursor of this version.
    pub(crate) fn load(&self) -> io::Result<Option<Position>> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let wrong = |what: String| {
            let message = format!("{what}; move it away to begin at the tip");
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let stored: Stored<Position> =
            serde_json::from_slice(&bytes).map_err(|error| wrong(format!("not a cursor: {error}")))?;
        if stored.version != VERSION {
            return Err(wrong(format!("a cursor of version {}, this is {VERSION}", stored.version)));
        }
        Ok(Some(stored.position))
    }

    /// Makes `position` durable.
    ///
    /// # Errors
    /// If the disk refuses; the file is as it was, or says `position`.
    pub(crate) fn store(&self, position: &Position) -> io::Result<()> {
        durable::replace(&self.path, &serde_json::to_vec(&Stored { version: VERSION, position })?)
    }
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
