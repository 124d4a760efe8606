//! The file operations that a commit is made of, one method for each step that can fail or be the last before a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// A disk. The tests have one that fails, fills up and forgets what was not synced.
pub(crate) trait Disk: Send + Sync {
    /// Makes a new file of these pieces.
    fn create(&self, path: &Path, pieces: &[Vec<u8>]) -> io::Result<Box<dyn Created>>;
    /// Gives a file its final name; [`io::ErrorKind::AlreadyExists`] if that is taken.
    fn publish(&self, staged: &Path, path: &Path) -> io::Result<()>;
    /// Makes a folder in a folder that is there; fine if it is there, too.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Whether a file holds exactly these pieces; `None` if there is no such file.
    fn holds(&self, path: &Path, pieces: &[Vec<u8>]) -> io::Result<Option<bool>>;
}

/// A file that was written and is not durable yet.
pub(crate) trait Created {
    /// Makes its content durable. After an error nothing is known of the content: a second try on the same file may
    /// succeed without it.
    fn sync(self: Box<Self>) -> io::Result<()>;
}

impl Created for File {
    fn sync(self: Box<Self>) -> io::Result<()> {
        self.sync_all()
    }
}

/// The real one.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path, pieces: &[Vec<u8>]) -> io::Result<Box<dyn Created>> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        for piece in pieces {
            file.write_all(piece)?;
        }
        Ok(Box::new(file))
    }

    fn publish(&self, staged: &Path, path: &Path) -> io::Result<()> {
        // A link fails if the name is taken, where a rename would replace what is there.
        match fs::hard_link(staged, path) {
            Ok(()) => fs::remove_file(staged),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            // Without links in this file system the folder's lock has to do.
            Err(_) if !path.try_exists()? => fs::rename(staged, path),
            Err(_) => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
        }
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn holds(&self, path: &Path, pieces: &[Vec<u8>]) -> io::Result<Option<bool>> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let length: usize = pieces.iter().map(Vec::len).sum();
        if file.metadata()?.len() != length as u64 {
            return Ok(Some(false));
        }
        let mut there = Vec::new();
        for piece in pieces {
            there.resize(piece.len(), 0);
            file.read_exact(&mut there)?;
            if there != *piece {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }
}
