//! Dead letters: what a receiver will never take, kept in a file (JSON Lines) for people to look at and send again.
//!
//! ```json
//! {"timestamp":"…","id":"…","reason":"HTTP 422 Unprocessable Entity","attempts":1,"content_type":"application/json","body":"…"}
//! ```
//!
//! A letter is synced before the cursor goes on behind it. The file is bounded: when it is full the letter is not
//! accepted, and the sink goes on trying, as it does while a receiver is down.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sluice_stages::slot::Timestamp;

use super::time_text::rfc3339;

/// The file's name in the state folder.
pub(crate) const FILE_NAME: &str = "dead_letters.jsonl";

/// Something that will not be taken.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    /// The message's id.
    pub(crate) id: &'a str,
    /// Why.
    pub(crate) reason: &'a str,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// What the body is.
    pub(crate) content_type: &'a str,
    /// The body.
    pub(crate) body: &'a [u8],
}

#[derive(Serialize)]
struct LetterRecord<'a> {
    timestamp: String,
    id: &'a str,
    reason: &'a str,
    attempts: u32,
    content_type: &'a str,
    body: std::borrow::Cow<'a, str>,
}

/// The file.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    path: PathBuf,
    max_bytes: u64,
}

impl DeadLetters {
    /// The file in `folder`, which may grow to `max_bytes`. Nothing is opened yet.
    pub(crate) fn new(folder: &Path, max_bytes: u64) -> Self {
        Self { path: folder.join(FILE_NAME), max_bytes }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a letter, durably.
    ///
    /// # Errors
    /// If the disk refuses, or the file is full ([`io::ErrorKind::StorageFull`]).
    pub(crate) fn append(&self, now: Timestamp, letter: &Letter<'_>) -> io::Result<()> {
        let record = LetterRecord {
            timestamp: rfc3339(now),
            id: letter.id,
            reason: letter.reason,
            attempts: letter.attempts,
            content_type: letter.content_type,
            body: String::from_utf8_lossy(letter.body),
        };
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let length = file.metadata()?.len();
        if length + line.len() as u64 > self.max_bytes {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let written = file.write_all(&line).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a line would spoil the next one.
            file.set_len(length)?;
        }
        written?;
        if length == 0 {
            self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_lines_and_a_full_file_takes_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let letters = DeadLetters::new(folder.path(), 400);
        let letter = Letter {
            id: "blocks_1_2",
            reason: "HTTP 422 Unprocessable Entity",
            attempts: 1,
            content_type: "application/json",
            body: b"{\"a\":\n1}",
        };
        let mut accepted = 0;
        while letters.append(Timestamp(0), &letter).is_ok() {
            accepted += 1;
        }
        let full = letters.append(Timestamp(0), &letter).expect_err("full");
        assert_eq!((full.kind(), accepted), (io::ErrorKind::StorageFull, 2));
        let text = std::fs::read_to_string(letters.path()).expect("there");
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(
                (line["id"].as_str(), line["body"].as_str()),
                (Some("blocks_1_2"), Some("{\"a\":\n1}"))
            );
        }
        assert_eq!(text.lines().count(), accepted);
    }
}
