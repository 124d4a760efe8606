//! Commit ranges: the aligned ranges of slots that files stand for, and the names of those files.

use std::path::{Path, PathBuf};

use sluice_stages::slot::{SLOTS_PER_EPOCH, Slot};

use super::dataset::Dataset;

/// The last slot that files are asked for: names hold twelve digits, enough for 12,000 years.
pub const MAX_SLOT: Slot = 999_999_999_999;

/// The aligned range of slots of one file, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitRange {
    /// The first slot.
    pub first: Slot,
    /// The last slot.
    pub last: Slot,
}

impl CommitRange {
    /// The range of `commit_slots` slots that `slot` lies in.
    pub fn containing(slot: Slot, commit_slots: u64) -> Self {
        let first = slot - slot % commit_slots;
        // The names of files and the slots of servers may be any number.
        Self { first, last: first.saturating_add(commit_slots - 1) }
    }

    /// The range after this one.
    #[must_use]
    pub fn next(self) -> Self {
        let slots = self.slots();
        Self { first: self.first.saturating_add(slots), last: self.last.saturating_add(slots) }
    }

    /// Number of slots in it.
    pub fn slots(self) -> u64 {
        self.last - self.first + 1
    }

    /// Whether `slot` lies in it.
    pub fn contains(self, slot: Slot) -> bool {
        (self.first..=self.last).contains(&slot)
    }

    /// The epoch that it lies in, counted in mainnet's epochs; a range never spans two.
    pub fn epoch(self) -> u64 {
        self.first / SLOTS_PER_EPOCH
    }

    /// The file's name: both slots, padded so that names sort as slots do up to [`MAX_SLOT`].
    pub fn file_name(self) -> String {
        format!("{:012}-{:012}.parquet", self.first, self.last)
    }

    /// The folder of the file of `dataset`, relative to the output folder.
    pub fn folder(self, dataset: Dataset) -> PathBuf {
        Path::new(dataset.name()).join(format!("epoch={}", self.epoch()))
    }

    /// The file of `dataset`, relative to the output folder.
    pub fn path(self, dataset: Dataset) -> PathBuf {
        self.folder(dataset).join(self.file_name())
    }

    /// The range that a file name stands for; `None` if it is not exactly what [`Self::file_name`] gives.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (first, last) = name.strip_suffix(".parquet")?.split_once('-')?;
        let range = Self { first: first.parse().ok()?, last: last.parse().ok()? };
        (range.first <= range.last && range.file_name() == name).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tile_the_slots() {
        let range = CommitRange::containing(863, 432);
        assert_eq!((range.first, range.last, range.slots()), (432, 863, 432));
        assert_eq!(CommitRange::containing(864, 432), range.next());
        assert!(range.contains(432) && range.contains(863) && !range.contains(864));
    }

    #[test]
    fn the_range_of_the_greatest_number_ends_with_it() {
        let range = CommitRange::containing(u64::MAX, 432);
        assert!(range.contains(u64::MAX));
        assert_eq!(range.next().last, u64::MAX);
    }

    #[test]
    fn a_file_name_reads_back_and_no_other_text_does() {
        let range = CommitRange::containing(398_202_773, 432);
        assert_eq!(CommitRange::from_file_name(&range.file_name()), Some(range));
        for name in
            ["1-2.parquet", "000000000002-000000000001.parquet", "000000000001-000000000002.parquet.tmp"]
        {
            assert_eq!(CommitRange::from_file_name(name), None, "{name}");
        }
        let path = range.path(Dataset::Blocks);
        assert_eq!(path, Path::new("blocks/epoch=921").join(range.file_name()));
    }
}
