//! The notices that wait for a receiver, kept in a file, so that the next run tells them under the same ids.
//!
//! ```text
//!  push, on its way, done ─→ bell of one ─→ keeper: the newest state, as a whole ─→ waiting_notices.json
//! ```
//!
//! The file holds `{"version":1,"notices":[…]}` and what belongs to it. It is as large as what waits, which
//! `max_queued_notices` bounds, and is replaced as a whole. Changes that come while it is written are written together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::durable;
use super::notices::SharedWaiting;
use super::waiting::Kept;

/// The file's name in the state folder.
const FILE_NAME: &str = "waiting_notices.json";
/// The version of the file's format.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored<K> {
    version: u32,
    #[serde(flatten)]
    kept: K,
}

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct WaitingFile {
    path: PathBuf,
}

impl WaitingFile {
    /// The file in `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { path: folder.join(FILE_NAME) }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds; nothing if it is not there.
    ///
    /// # Errors
    /// If it can't be read, or holds no notices of this version.
    pub(crate) fn load(&self) -> io::Result<Kept> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
            bytes => bytes?,
        };
        let wrong = |what: String| {
            let message = format!("{what}; move it away to begin without the notices that waited");
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let stored: Stored<Kept> =
            serde_json::from_slice(&bytes).map_err(|error| wrong(format!("no notices: {error}")))?;
        if stored.version != VERSION {
            return Err(wrong(format!("notices of version {}, this is {VERSION}", stored.version)));
        }
        Ok(stored.kept)
    }

    fn store(&self, kept: &Kept) -> io::Result<()> {
        durable::replace(&self.path, &serde_json::to_vec(&Stored { version: VERSION, kept })?)
    }
}

/// Keeps the file like what waits.
pub(crate) struct Keeper {
    pub(super) node: Arc<str>,
    pub(super) waiting: SharedWaiting,
    pub(super) file: WaitingFile,
    /// Rings after a change; its other ends are those of the lane.
    pub(super) changed: mpsc::Receiver<()>,
}

impl Keeper {
    /// Stores each change until both ends of the lane are gone, and then what is left.
    pub(crate) async fn run(mut self) {
        let mut stored = 0;
        while self.changed.recv().await.is_some() {
            self.store(&mut stored).await;
        }
        let kept = self.store(&mut stored).await;
        let notices = self.waiting.lock().kept().1.len();
        if notices > 0 {
            tracing::warn!(node = %self.node, notices, kept, "ended with notices that were not delivered");
        }
    }

    /// Stores what waits if it is not `stored` yet; false if that did not work. The next change tries again.
    async fn store(&self, stored: &mut u64) -> bool {
        let (version, kept) = {
            let waiting = self.waiting.lock();
            let (version, kept) = waiting.kept();
            (version, kept.clone())
        };
        if version == *stored {
            return true;
        }
        let file = self.file.clone();
        let written = tokio::task::spawn_blocking(move || file.store(&kept)).await;
        let path = self.file.path().display().to_string();
        match written {
            Ok(Ok(())) => {
                *stored = version;
                return true;
            }
            Ok(Err(error)) => {
                tracing::warn!(node = %self.node, path, %error, "waiting notices were not stored");
            }
            Err(error) => {
                tracing::warn!(node = %self.node, path, %error, "the writer of waiting notices panicked");
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use sluice_stages::alert::Severity;
    use sluice_stages::slot::Timestamp;

    use super::*;
    use crate::delivery::testing::notice;
    use crate::delivery::waiting::Waiting;

    #[test]
    fn what_waits_is_read_as_it_was_written_and_what_is_no_such_file_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = WaitingFile::new(folder.path());
        assert_eq!(file.load().expect("not there yet"), Kept::default());
        let mut waiting = Waiting::new("ops", 2, Some(1), Kept::default());
        for rule in ["a", "b", "c", "d"] {
            waiting.push(Timestamp(0), notice(rule, Severity::Error));
        }
        waiting.next(Timestamp(0));
        let (_, kept) = waiting.kept();
        file.store(kept).expect("stored");
        assert_eq!(file.load().expect("there"), *kept);
        for wrong in ["{}", r#"{"version":2,"notices":[]}"#, "x"] {
            fs::write(file.path(), wrong).expect("written");
            let error = file.load().expect_err("not ours");
            assert!(error.to_string().contains("move it away"), "{error}");
        }
    }
}
