//! What one process writes to is its own: a file beside it is locked for as long as it is open, and a crash lets it go.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::component::BuildError;

/// Locks the file at `path`, which is made if it is not there; `in_use` says what another process has, and what to do.
///
/// # Errors
/// If another process has it, or the disk refuses.
pub fn lock(path: &Path, in_use: impl FnOnce() -> String) -> Result<File, BuildError> {
    let io = |source| BuildError::Io { path: path.to_owned(), source };
    let file = File::options().create(true).append(true).open(path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BuildError::Other(in_use())),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_until_it_lets_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.lock");
        let first = lock(&path, String::new).expect("free");
        let refused = lock(&path, || "in use".to_owned()).expect_err("taken");
        assert_eq!(refused.to_string(), "in use");
        drop(first);
        lock(&path, String::new).expect("free again");
        let missing = lock(&folder.path().join("no/x.lock"), String::new).expect_err("no folder");
        assert!(missing.to_string().contains("x.lock"), "{missing}");
    }
}
