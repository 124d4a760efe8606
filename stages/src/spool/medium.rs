//! The folder of a spool: what can be done with its segments, and the real one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::catalog::Segment;
use crate::component::BuildError;
use crate::process_lock;
use crate::recording::format::IndexEntry;
use crate::recording::reader::Index;

/// The ending of a segment's name.
const EXTENSION: &str = "recording";
/// The file whose lock a running spool holds.
const LOCK_FILE: &str = ".lock";

/// Where segments are made. The tests have one that fills up.
pub(crate) trait Medium: Send {
    /// Makes an empty segment, whose name is durable.
    fn create(&mut self, sequence: u64) -> io::Result<Box<dyn SegmentFile>>;
    /// Removes a segment; fine if it is not there.
    fn remove(&mut self, sequence: u64) -> io::Result<()>;
}

/// A segment that is written.
pub(crate) trait SegmentFile: Write + Send {
    /// Makes what was written durable. After an error nothing is known of it.
    fn sync(&mut self) -> io::Result<()>;
}

impl SegmentFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A real folder.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Kept for its lock.
    _lock: File,
}

impl Folder {
    /// Opens the folder, which is made if it is not there, for one process.
    pub(crate) fn open(root: &Path) -> Result<Self, BuildError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| BuildError::Io { path, source }
        };
        fs::create_dir_all(root).map_err(io(root))?;
        let lock = process_lock::lock(&root.join(LOCK_FILE), || {
            format!("{} is in use by another process; stop it, or spool to another folder", root.display())
        })?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The file of a segment.
    pub(crate) fn path(&self, sequence: u64) -> PathBuf {
        self.root.join(format!("{sequence:012}.{EXTENSION}"))
    }

    /// The segments that are there, in their order. What is no recording is left alone.
    pub(crate) fn segments(&self) -> Result<Vec<Segment>, BuildError> {
        let io = |source| BuildError::Io { path: self.root.clone(), source };
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let Some(sequence) = sequence_of(&path) else { continue };
            let read = || -> io::Result<Segment> {
                let mut file = File::open(&path)?;
                let bytes = file.metadata()?.len();
                // One whose head did not make it to the disk holds nothing.
                let index = Index::read(&mut file)?.unwrap_or_default();
                Ok(Segment::of(sequence, bytes, index.entries.iter()))
            };
            segments.push(read().map_err(|source| BuildError::Io { path: path.clone(), source })?);
        }
        segments.sort_by_key(|segment| segment.sequence);
        Ok(segments)
    }
}

fn sequence_of(path: &Path) -> Option<u64> {
    let is_segment = path.extension().is_some_and(|extension| extension == EXTENSION);
    is_segment.then(|| path.file_stem()?.to_str()?.parse().ok())?
}

impl Medium for Folder {
    fn create(&mut self, sequence: u64) -> io::Result<Box<dyn SegmentFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(self.path(sequence))?;
        File::open(&self.root)?.sync_all()?;
        Ok(Box::new(file))
    }

    fn remove(&mut self, sequence: u64) -> io::Result<()> {
        match fs::remove_file(self.path(sequence)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Segment {
    /// What the blocks of a segment amount to.
    pub(crate) fn of<'a>(sequence: u64, bytes: u64, entries: impl Iterator<Item = &'a IndexEntry>) -> Self {
        let mut segment = Self { sequence, bytes, ..Self::default() };
        entries.for_each(|entry| segment.add(entry));
        segment
    }
}
