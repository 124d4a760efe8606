//! What outlives a restart, and the file that it is kept in.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::evaluator::Active;
use super::grouping::Book;
use crate::component::BuildError;
use crate::silence::Silence;
use crate::slot::Timestamp;

/// The version of the format; another one is not read.
const VERSION: u32 = 1;
/// The largest file that is read: what fills every bound stays far below.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// What outlives a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    pub(super) saved_at: Timestamp,
    pub(super) active: Vec<Active>,
    pub(super) book: Book,
    pub(super) silences: Vec<Silence>,
}

impl Saved {
    /// These parts, as of now.
    pub(super) fn new(saved_at: Timestamp, active: Vec<Active>, book: Book, silences: Vec<Silence>) -> Self {
        Self { version: VERSION, saved_at, active, book, silences }
    }
}

/// Reads the file. One that is not there is as good as an empty one; one that can't be made sense of is put aside, since
/// it is better to be told twice than not at all.
///
/// # Errors
/// If the file can't be read or put aside.
pub(super) fn read(path: &Path) -> Result<Option<Saved>, BuildError> {
    let io_error = |source: io::Error| BuildError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
        Ok(file) if file.len() > MAX_FILE_BYTES => {
            let message = format!(
                "{}: this is too large to be a state file, remove it or name another",
                path.display()
            );
            return Err(BuildError::Other(message));
        }
        Ok(_) => {}
    }
    let text = fs::read(path).map_err(io_error)?;
    let reason = match serde_json::from_slice::<Saved>(&text) {
        Ok(saved) if saved.version == VERSION => return Ok(Some(saved)),
        Ok(saved) => format!("its version is {}, not {VERSION}", saved.version),
        Err(error) => error.to_string(),
    };
    let aside = beside(path, ".unreadable");
    fs::rename(path, &aside).map_err(io_error)?;
    let (path, aside) = (path.display(), aside.display());
    tracing::warn!(%path, %aside, reason, "the state file of the alerts makes no sense and was put aside");
    Ok(None)
}

/// Replaces the file, so that at any time either the old or the new one is there.
///
/// # Errors
/// If the disk refuses.
pub(super) fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::create_dir_all(folder)?;
    }
    let temporary = beside(path, ".tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(saved)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        Saved::new(Timestamp(7), Vec::new(), Book::default(), Vec::new())
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let folder = Folder::new("alert-state");
        let path = folder.0.join("deeper").join("alerts.json");
        assert_eq!(read(&path).expect("readable"), None);
        write(&path, &saved()).expect("written");
        assert_eq!(read(&path).expect("readable"), Some(saved()));
    }

    #[test]
    fn what_makes_no_sense_is_put_aside() {
        let folder = Folder::new("alert-nonsense");
        let path = folder.0.join("alerts.json");
        for text in ["{", "{}", &serde_json::to_string(&Saved { version: 9, ..saved() }).expect("JSON")] {
            fs::write(&path, text).expect("written");
            assert_eq!(read(&path).expect("put aside"), None);
            assert_eq!(fs::read_to_string(folder.0.join("alerts.json.unreadable")).expect("there"), text);
            assert!(!path.exists());
        }
    }
}
