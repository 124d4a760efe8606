//! The state folder of a sink that tells of alerts: one process has it, and finds what waited for the receiver.

use std::fs::{self, File};
use std::path::Path;

use sluice_stages::component::BuildError;
use sluice_stages::process_lock;

use super::waiting::Kept;
use super::waiting_file::WaitingFile;

/// The file whose lock a running sink holds.
const LOCK_FILE: &str = ".lock";

/// An open state folder.
pub(crate) struct StateFolder {
    /// Where notices that wait are kept.
    pub(crate) waiting_file: WaitingFile,
    /// Those that a process before this one left.
    pub(crate) waiting: Kept,
    /// No other process writes to the folder for as long as this is open.
    pub(crate) lock: File,
}

impl StateFolder {
    /// Opens the folder, which is made if it is not there.
    ///
    /// # Errors
    /// If another process has it, or the disk refuses.
    pub(crate) fn open(folder: &Path) -> Result<Self, BuildError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| BuildError::Io { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let lock = process_lock::lock(&folder.join(LOCK_FILE), || {
            format!(
                "{} is in use by another process; stop it, or give another `state_path`",
                folder.display()
            )
        })?;
        let waiting_file = WaitingFile::new(folder);
        let waiting = waiting_file.load().map_err(failed(waiting_file.path()))?;
        Ok(Self { waiting_file, waiting, lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_processs_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        let first = StateFolder::open(&path).expect("free");
        let refused = StateFolder::open(&path).err().expect("taken").to_string();
        assert!(refused.contains("in use by another process") && refused.contains("state"), "{refused}");
        drop(first);
        StateFolder::open(&path).expect("free again");
    }
}
