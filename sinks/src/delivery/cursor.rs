//! Up to where a sink has delivered the chain, kept in a file.
//!
//! A block covers its own slot and the skipped ones between its parent and itself. The cursor stands behind the slots that
//! are covered without a break; what was delivered beyond a hole is remembered in memory, and is delivered again if the
//! process ends before the hole is filled.
//!
//! The file (`{"version":1,"next_slot":N}`) is written to another name, synced, renamed, and its folder synced.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sluice_stages::slot::{Hash, Slot};

/// The file's name in the state folder.
pub(crate) const FILE_NAME: &str = "cursor.json";
/// The version of the file's format.
const VERSION: u32 = 1;
/// Stretches beyond holes that are remembered; each stands for a hole. What lies beyond more of them is delivered again
/// after a restart.
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
    /// What was taken in, so that a slot which comes again is not delivered again.
    accepted: BTreeMap<(Slot, Hash), ()>,
}

impl Cursor {
    /// A cursor that goes on with `next_slot`.
    pub(crate) fn at(next_slot: Option<Slot>) -> Self {
        Self { next_slot, ..Self::default() }
    }

    /// The first slot that has not been delivered, as far as is known.
    pub(crate) fn next_slot(&self) -> Option<Slot> {
        self.next_slot
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
        if self.next_slot.is_some_and(|next| slot < next) {
            return false;
        }
        if self.accepted.len() >= MAX_ACCEPTED {
            self.accepted.pop_first();
        }
        self.accepted.insert((slot, blockhash), ()).is_none()
    }

    /// A block in `slot` whose parent is in `parent_slot` was delivered.
    pub(crate) fn on_delivered(&mut self, parent_slot: Slot, slot: Slot) {
        let (mut first, mut end) = (parent_slot.saturating_add(1).min(slot), slot.saturating_add(1));
        // Without a word about where the pipeline begins, it begins with the first block.
        self.next_slot.get_or_insert(slot);
        // Those that touch the new stretch become part of it.
        while let Some((&other_first, &other_end)) = self.stretches.range(..=end).next_back()
            && other_end >= first
        {
            self.stretches.remove(&other_first);
            (first, end) = (first.min(other_first), end.max(other_end));
        }
        self.stretches.insert(first, end);
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

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct CursorFile {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    next_slot: Slot,
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
    pub(crate) fn load(&self) -> io::Result<Option<Slot>> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let wrong = |what: String| {
            let message = format!("{what}; move it away to begin at the tip");
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let stored: Stored =
            serde_json::from_slice(&bytes).map_err(|error| wrong(format!("not a cursor: {error}")))?;
        if stored.version != VERSION {
            return Err(wrong(format!("a cursor of version {}, this is {VERSION}", stored.version)));
        }
        Ok(Some(stored.next_slot))
    }

    /// Makes `next_slot` durable.
    ///
    /// # Errors
    /// If the disk refuses; the file is as it was, or says `next_slot`.
    pub(crate) fn store(&self, next_slot: Slot) -> io::Result<()> {
        let staged = self.path.with_extension("json.tmp");
        let mut file = File::create(&staged)?;
        file.write_all(&serde_json::to_vec(&Stored { version: VERSION, next_slot })?)?;
        file.sync_all()?;
        fs::rename(&staged, &self.path)?;
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn skipped_slots_are_covered_by_the_block_behind_them() {
        let mut cursor = Cursor::at(Some(10));
        cursor.on_delivered(9, 10);
        cursor.on_delivered(10, 14);
        assert_eq!(cursor.next_slot(), Some(15));
    }

    #[test]
    fn a_hole_holds_it_until_it_is_filled() {
        let mut cursor = Cursor::at(Some(10));
        cursor.on_delivered(9, 10);
        cursor.on_delivered(11, 12);
        cursor.on_delivered(12, 13);
        assert_eq!(cursor.next_slot(), Some(11));
        cursor.on_delivered(10, 11);
        assert_eq!((cursor.next_slot(), cursor.stretches.len()), (Some(14), 0));
    }

    #[test]
    fn what_comes_again_is_not_accepted_again() {
        let mut cursor = Cursor::at(Some(10));
        let (one, other) = (Hash([1; 32]), Hash([2; 32]));
        assert!(!cursor.accept(9, one), "behind the cursor");
        assert!(cursor.accept(10, one));
        assert!(!cursor.accept(10, one));
        assert!(cursor.accept(10, other), "another version");
        cursor.on_delivered(9, 10);
        assert!(!cursor.accept(10, Hash([3; 32])));
        assert!(cursor.accepted.is_empty());
    }

    #[test]
    fn a_begin_behind_the_cursor_means_that_slots_were_missed() {
        assert!(!Cursor::at(None).begin(10));
        assert!(!Cursor::at(Some(10)).begin(10));
        assert!(!Cursor::at(Some(10)).begin(5));
        let mut cursor = Cursor::at(Some(10));
        assert!(cursor.begin(12));
        assert_eq!(cursor.next_slot(), Some(12));
    }

    #[test]
    fn the_file_says_what_was_stored_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = CursorFile::new(folder.path().join(FILE_NAME));
        assert_eq!(file.load().expect("none"), None);
        for slot in [1, 432_000_000, 7] {
            file.store(slot).expect("stored");
            assert_eq!(file.load().expect("there"), Some(slot));
        }
        fs::write(file.path(), "{\"version\":2,\"next_slot\":1}").expect("written");
        assert!(file.load().expect_err("another version").to_string().contains("move it away"));
        fs::write(file.path(), "{").expect("written");
        assert!(file.load().is_err());
    }

    proptest! {
        #[test]
        fn in_any_order_all_blocks_bring_it_behind_the_last(
            steps in proptest::collection::vec(1..4u64, 1..60),
            seed: u64,
        ) {
            let mut links = Vec::new();
            let mut slot = 100;
            for step in steps {
                links.push((slot, slot + step));
                slot += step;
            }
            let mut order = links.clone();
            order.sort_by_key(|(_, slot)| slot.wrapping_mul(seed | 1));
            let mut cursor = Cursor::at(Some(101));
            let mut done = std::collections::BTreeSet::new();
            for (parent, slot) in order {
                cursor.on_delivered(parent, slot);
                done.insert(slot);
                let expected = links.iter().find(|(_, slot)| !done.contains(slot)).map(|(parent, _)| parent + 1);
                prop_assert_eq!(cursor.next_slot(), Some(expected.unwrap_or(links[links.len() - 1].1 + 1)));
            }
        }
    }
}
