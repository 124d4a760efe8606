//! The commit of a range: its files become visible whole and durable, `blocks` last, or not at all.
//!
//! ```text
//!  _staging/x  ──write──sync──►  link to the final name  ──►  sync the folder  ──►  the same for `blocks`
//! ```
//!
//! A crash before the link leaves a file in `_staging`, which the next start removes; a crash after it leaves a file
//! that the range, made again, is compared with. A step that fails fails the commit: staged files are thrown away and
//! written anew from memory, as a descriptor whose sync failed can't be trusted again.

use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use thiserror::Error;

use super::dataset::Dataset;
use super::disk::Disk;
use super::encode::EncodedFile;

/// The folder in which files are made, on the same file system as the output.
pub(crate) const STAGING: &str = "_staging";

/// Why a range could not be committed.
#[derive(Debug, Error)]
pub(crate) enum CommitError {
    /// The disk refused; another try may help.
    #[error("{path}: {source}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A file is there and is not the one that the same slots give now.
    #[error(
        "{path} is there already and differs from what its slots give now ({rows} rows of {dataset}); it may be \
         damaged, or another version wrote it: run `sluice verify`, and move it away to have it made again"
    )]
    Different {
        /// The file.
        path: PathBuf,
        /// Its dataset.
        dataset: Dataset,
        /// Rows that it should have.
        rows: u64,
    },
}

impl CommitError {
    /// Whether another try may help.
    pub(crate) fn is_retryable(&self) -> bool {
        matches!(self, Self::Disk { .. })
    }
}

/// Publishes files below a folder.
pub(crate) struct Committer<D> {
    root: PathBuf,
    disk: D,
}

impl<D: Disk> Committer<D> {
    /// A committer to `root`, which is there, as its staging folder is.
    pub(crate) fn new(root: PathBuf, disk: D) -> Self {
        Self { root, disk }
    }

    /// Publishes the files of one track of one range. After an error it may be called again with the same files.
    pub(crate) fn commit(&self, files: &[EncodedFile]) -> Result<(), CommitError> {
        let (last, first): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.dataset == Dataset::Blocks);
        self.publish_all(&first)?;
        self.publish_all(&last)
    }

    fn publish_all(&self, files: &[&EncodedFile]) -> Result<(), CommitError> {
        for file in files {
            self.make_folders(file)?;
        }
        let staged: Result<Vec<_>, _> = files.par_iter().map(|file| self.stage(file)).collect();
        let published = staged.and_then(|staged| {
            files
                .iter()
                .zip(staged)
                .filter(|(_, staged)| *staged)
                .try_for_each(|(file, _)| self.publish(file))
        });
        if published.is_err() {
            for file in files {
                // What can't be removed now is removed at the next start, or replaced by the next try.
                self.disk.remove(&self.staged_path(file)).ok();
            }
        }
        published?;
        for file in files {
            let folder = self.root.join(file.range.folder(file.dataset));
            self.disk.sync_folder(&folder).map_err(|source| CommitError::Disk { path: folder, source })?;
        }
        Ok(())
    }

    /// Makes the folders of a dataset and an epoch, and their names durable.
    fn make_folders(&self, file: &EncodedFile) -> Result<(), CommitError> {
        let mut parent = self.root.clone();
        for part in file.range.folder(file.dataset).components() {
            let folder = parent.join(part);
            let made = self.disk.make_folder(&folder).and_then(|()| self.disk.sync_folder(&parent));
            made.map_err(|source| CommitError::Disk { path: folder.clone(), source })?;
            parent = folder;
        }
        Ok(())
    }

    /// Writes and syncs a file beside its final place; false if it is in that place already.
    fn stage(&self, file: &EncodedFile) -> Result<bool, CommitError> {
        if self.is_there(file)? {
            return Ok(false);
        }
        let path = self.staged_path(file);
        let fail = |source| CommitError::Disk { path: path.clone(), source };
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        self.disk.create(&path, &file.chunks).and_then(|created| created.sync()).map_err(fail)?;
        Ok(true)
    }

    fn is_there(&self, file: &EncodedFile) -> Result<bool, CommitError> {
        let path = self.root.join(file.range.path(file.dataset));
        match self.disk.holds(&path, &file.chunks) {
            Ok(None) => Ok(false),
            Ok(Some(true)) => Ok(true),
            Ok(Some(false)) => Err(CommitError::Different { path, dataset: file.dataset, rows: file.rows }),
            Err(source) => Err(CommitError::Disk { path, source }),
        }
    }

    fn publish(&self, file: &EncodedFile) -> Result<(), CommitError> {
        let path = self.root.join(file.range.path(file.dataset));
        self.disk.publish(&self.staged_path(file), &path).map_err(|source| CommitError::Disk { path, source })
    }

    fn staged_path(&self, file: &EncodedFile) -> PathBuf {
        staging(&self.root).join(format!("{}-{}.tmp", file.dataset, file.range.file_name()))
    }
}

/// The staging folder below `root`.
pub(crate) fn staging(root: &Path) -> PathBuf {
    root.join(STAGING)
}
