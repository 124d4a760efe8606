//! The output folder at start: locked against a second process, checked against the options, cleared of what a crash
//! left, and listed. The listing is the checkpoint; beside it only the first slot is remembered, since ranges are
//! committed as they become whole, and the first one need not be the first to be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sluice_stages::component::BuildError;
use sluice_stages::process_lock;
use sluice_stages::slot::Slot;

use super::cells::KeyFormat;
use super::commit::staging;
use super::dataset::{Dataset, Track};
use super::disk::{Disk, RealDisk};
use super::range::CommitRange;

/// The file whose lock a running sink holds.
pub(crate) const LOCK_FILE: &str = ".lock";
/// The file that says how the folder's files are made.
pub(crate) const SETTINGS_FILE: &str = "sluice.json";
/// The file that says which slot the folder begins with.
const START_FILE: &str = "start.json";

/// What shapes the bytes of a folder's files: all of it has to stay the same for as long as the folder lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Version of schemas and encodings.
    pub(crate) format_version: u32,
    /// Slots of a file.
    pub(crate) commit_slots: u64,
    /// How keys are written.
    pub(crate) keys: KeyFormat,
    /// Level of zstd.
    pub(crate) compression_level: i32,
    /// The datasets.
    pub(crate) datasets: Vec<Dataset>,
}

impl Settings {
    /// Those of the folder at `root`; `None` if it is not there, or was never used.
    pub(crate) fn read(root: &Path) -> Result<Option<Self>, BuildError> {
        let path = root.join(SETTINGS_FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(io_error(&path))?,
        };
        let settings: Self = serde_json::from_str(&text)
            .map_err(|error| BuildError::Other(format!("{}: {error}", path.display())))?;
        if settings.commit_slots == 0 {
            return Err(BuildError::Other(format!("{}: commit_slots is 0", path.display())));
        }
        Ok(Some(settings))
    }

    /// Whether the folder at `root` has files that are made in another way. Nothing in it is touched.
    pub(crate) fn check(&self, root: &Path) -> Result<(), BuildError> {
        match Self::read(root)?.and_then(|known| difference(&known, self)) {
            None => Ok(()),
            Some(what) => Err(BuildError::Other(format!(
                "{} was made with another {what}, and its files would not fit together; set it back, or write to another \
                 folder",
                root.display()
            ))),
        }
    }
}

/// Where the folder begins.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beginning {
    first_slot: Slot,
}

/// A folder that is ours alone.
pub(crate) struct Folder {
    /// Where it is.
    pub(crate) root: PathBuf,
    /// The ranges that are there, by dataset.
    pub(crate) listing: Listing,
    /// The slot that it begins with, once that is known.
    pub(crate) first_slot: Option<Slot>,
    /// Held for as long as the folder is in use.
    _lock: File,
}

impl Folder {
    /// Opens the folder, making it if it is not there.
    pub(crate) fn open(root: &Path, settings: &Settings) -> Result<Self, BuildError> {
        fs::create_dir_all(staging(root)).map_err(io_error(root))?;
        let lock = lock(root)?;
        clear_staging(root)?;
        settings.check(root)?;
        note_settings(root, settings)?;
        let listing = Listing::read(root, settings.commit_slots)?;
        let first_slot = read_start(root)?.into_iter().chain(listing.earliest()).min();
        Ok(Self { root: root.to_owned(), listing, first_slot, _lock: lock })
    }

    /// Notes, durably, that the folder begins with `first`, unless it begins before that.
    pub(crate) fn begin_with(&mut self, first: Slot) -> Result<(), BuildError> {
        if self.first_slot.is_some_and(|known| known <= first) {
            return Ok(());
        }
        let path = self.root.join(START_FILE);
        let text = serde_json::to_string(&Beginning { first_slot: first })
            .map_err(|error| BuildError::Other(error.to_string()))?;
        write_durably(&self.root, START_FILE, text).map_err(io_error(&path))?;
        self.first_slot = Some(first);
        Ok(())
    }

    /// The slot to go on with: the first of the first range that is not there, with all of the `required` datasets.
    pub(crate) fn resume_slot(&self, commit_slots: u64, required: &[Dataset]) -> Option<Slot> {
        let committed = self.listing.committed(required);
        let ranges = std::iter::successors(self.first_slot, |first| Some(first + commit_slots));
        ranges.into_iter().find(|first| !committed.contains(first))
    }
}

fn lock(root: &Path) -> Result<File, BuildError> {
    process_lock::lock(&root.join(LOCK_FILE), || {
        format!("{} is in use by another process; stop it, or write to another folder", root.display())
    })
}

/// A crash may have left files that were never published.
fn clear_staging(root: &Path) -> Result<(), BuildError> {
    let folder = staging(root);
    for entry in fs::read_dir(&folder).map_err(io_error(&folder))? {
        let path = entry.map_err(io_error(&folder))?.path();
        fs::remove_file(&path).map_err(io_error(&path))?;
    }
    Ok(())
}

fn difference(known: &Settings, wanted: &Settings) -> Option<String> {
    let differs = |name: &str, known: String, wanted: String| {
        (known != wanted).then(|| format!("{name} ({known}, now {wanted})"))
    };
    let version = |settings: &Settings| settings.format_version.to_string();
    let names = |settings: &Settings| {
        settings.datasets.iter().map(|dataset| dataset.name()).collect::<Vec<_>>().join(", ")
    };
    differs("format version", version(known), version(wanted))
        .or_else(|| differs("commit_slots", known.commit_slots.to_string(), wanted.commit_slots.to_string()))
        .or_else(|| differs("keys", format!("{:?}", known.keys), format!("{:?}", wanted.keys)))
        .or_else(|| {
            let level = |settings: &Settings| settings.compression_level.to_string();
            differs("compression_level", level(known), level(wanted))
        })
        .or_else(|| differs("datasets", names(known), names(wanted)))
}

/// Notes how the files of a folder are made that was never used.
fn note_settings(root: &Path, settings: &Settings) -> Result<(), BuildError> {
    let path = root.join(SETTINGS_FILE);
    if path.exists() {
        return Ok(());
    }
    let text =
        serde_json::to_string_pretty(settings).map_err(|error| BuildError::Other(error.to_string()))?;
    write_durably(root, SETTINGS_FILE, text).map_err(io_error(&path))
}

/// Replaces a small file: whole and durable, or as it was.
fn write_durably(root: &Path, name: &str, text: String) -> io::Result<()> {
    let staged = staging(root).join(name);
    RealDisk.create(&staged, &[format!("{text}\n").into_bytes()])?.sync()?;
    fs::rename(&staged, root.join(name))?;
    RealDisk.sync_folder(root)
}

fn read_start(root: &Path) -> Result<Option<Slot>, BuildError> {
    let path = root.join(START_FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(io_error(&path))?,
    };
    let start: Beginning = serde_json::from_str(&text)
        .map_err(|error| BuildError::Other(format!("{}: {error}", path.display())))?;
    Ok(Some(start.first_slot))
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> BuildError + use<> {
    let path = path.to_owned();
    move |source| BuildError::Io { path: path.clone(), source }
}

/// The ranges that a folder holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// First slots of the ranges of each dataset.
    ranges: BTreeMap<Dataset, BTreeSet<Slot>>,
}

impl Listing {
    /// Lists `root`. Names that no commit makes are not ours and are left alone.
    pub(crate) fn read(root: &Path, commit_slots: u64) -> Result<Self, BuildError> {
        let mut listing = Self::default();
        for dataset in Dataset::ALL {
            for epoch in subfolders(&root.join(dataset.name()))? {
                for name in names(&epoch)? {
                    let range = CommitRange::from_file_name(&name);
                    let aligned = |range: &CommitRange| {
                        CommitRange::containing(range.first, commit_slots) == *range
                            && epoch.join(&name) == root.join(range.path(dataset))
                    };
                    if let Some(range) = range.filter(aligned) {
                        listing.ranges.entry(dataset).or_default().insert(range.first);
                    }
                }
            }
        }
        Ok(listing)
    }

    /// First slots of the ranges whose content is there: in each dataset made of content that is `required` or has any
    /// file at all. Another one that has none was not subscribed to.
    pub(crate) fn committed(&self, required: &[Dataset]) -> BTreeSet<Slot> {
        let content = |dataset: &Dataset| dataset.track() == Track::Content;
        let mut committed = self.ranges.get(&Dataset::Blocks).cloned().unwrap_or_default();
        for (_, ranges) in self.ranges.iter().filter(|(dataset, _)| content(dataset)) {
            committed.retain(|first| ranges.contains(first));
        }
        if required.iter().any(|dataset| content(dataset) && !self.ranges.contains_key(dataset)) {
            committed.clear();
        }
        committed
    }

    /// First slots of the ranges that there is a file of `dataset` for, rising.
    pub(crate) fn of(&self, dataset: Dataset) -> impl Iterator<Item = Slot> {
        self.ranges.get(&dataset).into_iter().flatten().copied()
    }

    /// The first slot of the earliest range of blocks.
    fn earliest(&self) -> Option<Slot> {
        self.ranges.get(&Dataset::Blocks)?.first().copied()
    }
}

fn subfolders(folder: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let names = names(folder)?.into_iter().map(|name| folder.join(name));
    Ok(names.filter(|path| path.is_dir()).collect())
}

/// The names in a folder; none if it is not there.
fn names(folder: &Path) -> Result<Vec<String>, BuildError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(io_error(folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(io_error(folder))?.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            format_version: 1,
            commit_slots: 10,
            keys: KeyFormat::Base58,
            compression_level: 1,
            datasets: Dataset::ALL.to_vec(),
        }
    }

    fn touch(root: &Path, dataset: Dataset, slot: Slot) {
        let path = root.join(CommitRange::containing(slot, 10).path(dataset));
        fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
        fs::write(path, "").expect("written");
    }

    #[test]
    fn a_folder_has_one_owner() {
        let root = tempfile::tempdir().expect("a folder");
        let first = Folder::open(root.path(), &settings()).expect("free");
        let error = Folder::open(root.path(), &settings()).err().expect("in use");
        assert!(error.to_string().contains("another process"), "{error}");
        drop(first);
        Folder::open(root.path(), &settings()).expect("free again");
    }

    #[test]
    fn what_shapes_the_bytes_can_not_be_changed() {
        let root = tempfile::tempdir().expect("a folder");
        drop(Folder::open(root.path(), &settings()).expect("new"));
        let others = [
            Settings { commit_slots: 20, ..settings() },
            Settings { keys: KeyFormat::Bytes, ..settings() },
            Settings { compression_level: 3, ..settings() },
            Settings { format_version: 2, ..settings() },
            Settings { datasets: vec![Dataset::Blocks], ..settings() },
        ];
        for other in others {
            let error = Folder::open(root.path(), &other).err().expect("refused");
            assert!(error.to_string().contains("was made with another"), "{error}");
        }
        Folder::open(root.path(), &settings()).expect("unchanged");
    }

    #[test]
    fn what_a_crash_left_in_staging_is_removed() {
        let root = tempfile::tempdir().expect("a folder");
        drop(Folder::open(root.path(), &settings()).expect("new"));
        fs::write(staging(root.path()).join("blocks.tmp"), "half").expect("written");
        drop(Folder::open(root.path(), &settings()).expect("cleared"));
        assert_eq!(fs::read_dir(staging(root.path())).expect("there").count(), 0);
    }

    #[test]
    fn the_listing_tells_where_to_go_on() {
        let root = tempfile::tempdir().expect("a folder");
        let resume = || Folder::open(root.path(), &settings()).expect("free").resume_slot(10, &[]);
        assert_eq!(resume(), None);
        for slot in [30, 40, 60] {
            touch(root.path(), Dataset::Blocks, slot);
            touch(root.path(), Dataset::Transactions, slot);
        }
        assert_eq!(resume(), Some(50));
        touch(root.path(), Dataset::Blocks, 50);
        assert_eq!(resume(), Some(50), "its transactions are not there");
        touch(root.path(), Dataset::Transactions, 50);
        assert_eq!(resume(), Some(70));
        touch(root.path(), Dataset::Entries, 30);
        assert_eq!(resume(), Some(70), "entries are a hole of their own");
        let required = [Dataset::Rewards];
        let resume = Folder::open(root.path(), &settings()).expect("free").resume_slot(10, &required);
        assert_eq!(resume, Some(30), "what has to be there and has no file at all is missing everywhere");
    }

    #[test]
    fn a_folder_begins_where_it_began_whichever_range_was_committed_first() {
        let root = tempfile::tempdir().expect("a folder");
        let open = || Folder::open(root.path(), &settings()).expect("free");
        open().begin_with(30).expect("noted");
        touch(root.path(), Dataset::Blocks, 50);
        assert_eq!(open().resume_slot(10, &[]), Some(30));
        open().begin_with(40).expect("later changes nothing");
        assert_eq!(open().resume_slot(10, &[]), Some(30));
        open().begin_with(20).expect("earlier does");
        assert_eq!(open().resume_slot(10, &[]), Some(20));
    }

    #[test]
    fn names_that_no_commit_makes_are_left_alone() {
        let root = tempfile::tempdir().expect("a folder");
        touch(root.path(), Dataset::Blocks, 30);
        let folder = root.path().join("blocks/epoch=0");
        for name in ["000000000031-000000000040.parquet", "notes.txt", "000000000040-000000000059.parquet"] {
            fs::write(folder.join(name), "").expect("written");
        }
        fs::create_dir_all(root.path().join("blocks/epoch=7")).expect("made");
        fs::write(root.path().join("blocks/epoch=7/000000000040-000000000049.parquet"), "").expect("written");
        assert_eq!(Listing::read(root.path(), 10).expect("listed").committed(&[]), BTreeSet::from([30]));
    }
}
