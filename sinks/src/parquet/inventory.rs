//! What an output folder holds and what it lacks, read without touching it: for those who fill it.

use std::path::Path;

use sluice_stages::component::BuildError;
use sluice_stages::slot::Slot;

use super::dataset::{Dataset, Track};
use super::folder::{Listing, Settings};
use super::missing::Missing;
use super::range::CommitRange;

/// The listing of a folder.
#[derive(Debug)]
pub struct Inventory {
    commit_slots: u64,
    listing: Listing,
    required: Vec<Dataset>,
}

/// A dataset that lacks ranges which others have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The dataset.
    pub dataset: Dataset,
    /// Whether blocks alone can bring it back: entries and accounts are in no archive.
    pub is_recoverable: bool,
    /// The ranges.
    pub ranges: Vec<CommitRange>,
}

impl Inventory {
    /// Lists the folder at `root`. One that is not there, or was never used, holds nothing; its files would be of
    /// `commit_slots` slots. A range of which one of the `required` datasets is not there is missing, even if no other range
    /// has it either.
    ///
    /// # Errors
    /// If something in it can't be read.
    pub fn read(root: &Path, commit_slots: u64, required: &[Dataset]) -> Result<Self, BuildError> {
        let commit_slots = Settings::read(root)?.map_or(commit_slots, |settings| settings.commit_slots);
        Ok(Self { commit_slots, listing: Listing::read(root, commit_slots)?, required: required.to_vec() })
    }

    /// Slots of a file.
    pub fn commit_slots(&self) -> u64 {
        self.commit_slots
    }

    /// The range of `slot`.
    pub fn range_of(&self, slot: Slot) -> CommitRange {
        CommitRange::containing(slot, self.commit_slots)
    }

    /// From the first slot to the last one of the ranges of which there is anything.
    pub fn extent(&self) -> Option<(Slot, Slot)> {
        let all = || Dataset::ALL.into_iter().flat_map(|dataset| self.listing.of(dataset));
        let (first, last) = (all().min()?, all().max()?);
        Some((first, self.range_of(last).last))
    }

    /// The ranges between two slots, their own ranges included, whose blocks and transactions are not all there.
    pub fn missing(&self, first: Slot, last: Slot) -> Missing {
        Missing::between(first, last, self.commit_slots, &self.listing.committed(&self.required))
    }

    /// The datasets that lack ranges which the blocks are there for. One that is not required and has no file at all was not
    /// subscribed to.
    pub fn lags(&self) -> Vec<Lag> {
        let blocks: Vec<Slot> = self.listing.of(Dataset::Blocks).collect();
        let lag = |dataset: Dataset| {
            let there: Vec<Slot> = self.listing.of(dataset).collect();
            let lacking = blocks.iter().filter(|first| there.binary_search(first).is_err());
            let ranges: Vec<CommitRange> = lacking.map(|&first| self.range_of(first)).collect();
            let is_expected = !there.is_empty() || self.required.contains(&dataset);
            let lags = is_expected && !ranges.is_empty();
            lags.then_some(Lag { dataset, is_recoverable: dataset.track() == Track::Content, ranges })
        };
        Dataset::ALL.into_iter().filter_map(lag).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::folder::SETTINGS_FILE;
    use super::*;

    fn touch(root: &Path, dataset: Dataset, slots: &[Slot]) {
        for &slot in slots {
            let path = root.join(CommitRange::containing(slot, 10).path(dataset));
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, "").expect("written");
        }
    }

    fn ends(missing: &Missing) -> Vec<(Slot, Slot)> {
        missing.stretches().iter().map(|stretch| (stretch.first, stretch.last)).collect()
    }

    fn firsts(ranges: &[CommitRange]) -> Vec<Slot> {
        ranges.iter().map(|range| range.first).collect()
    }

    #[test]
    fn a_folder_that_is_not_there_lacks_everything() {
        let root = tempfile::tempdir().expect("a folder");
        let inventory = Inventory::read(&root.path().join("none"), 10, &[]).expect("nothing to read");
        assert_eq!(inventory.extent(), None);
        assert_eq!(ends(&inventory.missing(15, 30)), [(10, 39)]);
        assert_eq!(inventory.lags(), []);
    }

    #[test]
    fn what_is_missing_is_told_by_range_and_what_lags_by_dataset() {
        let root = tempfile::tempdir().expect("a folder");
        touch(root.path(), Dataset::Blocks, &[0, 10, 30]);
        touch(root.path(), Dataset::Transactions, &[0, 30]);
        touch(root.path(), Dataset::Entries, &[30]);
        let inventory = Inventory::read(root.path(), 10, &[]).expect("readable");
        assert_eq!(inventory.extent(), Some((0, 39)));
        assert_eq!(ends(&inventory.missing(0, 39)), [(10, 29)]);
        let lags: Vec<_> = inventory
            .lags()
            .iter()
            .map(|lag| (lag.dataset, lag.is_recoverable, firsts(&lag.ranges)))
            .collect();
        assert_eq!(
            lags,
            [(Dataset::Transactions, true, vec![10]), (Dataset::Entries, false, vec![0, 10])],
            "no file of the others means that nobody subscribed to them"
        );
    }

    #[test]
    fn a_required_dataset_that_is_gone_as_a_whole_is_missing_everywhere() {
        let root = tempfile::tempdir().expect("a folder");
        touch(root.path(), Dataset::Blocks, &[0, 10]);
        let inventory =
            Inventory::read(root.path(), 10, &[Dataset::Blocks, Dataset::Rewards]).expect("readable");
        assert_eq!(ends(&inventory.missing(0, 19)), [(0, 19)]);
        let lags: Vec<_> = inventory.lags().iter().map(|lag| (lag.dataset, firsts(&lag.ranges))).collect();
        assert_eq!(lags, [(Dataset::Rewards, vec![0, 10])]);
    }

    #[test]
    fn the_folders_own_settings_win() {
        let root = tempfile::tempdir().expect("a folder");
        let settings = r#"{"format_version":1,"commit_slots":25,"keys":"base58","compression_level":1,"datasets":["blocks"]}"#;
        fs::write(root.path().join(SETTINGS_FILE), settings).expect("written");
        assert_eq!(Inventory::read(root.path(), 10, &[]).expect("readable").commit_slots(), 25);
        fs::write(root.path().join(SETTINGS_FILE), "{}").expect("written");
        assert!(Inventory::read(root.path(), 10, &[]).is_err());
    }
}
