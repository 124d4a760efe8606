//! A file that starts over when it is large or old: `alerts.jsonl` is written to, `alerts.jsonl.1` is the one before,
//! `alerts.jsonl.2` the one before that, up to the number that is kept.
//!
//! Lines are whole: what a crash or a full disk left of one is cut off before the next is written. Somebody else may move
//! or remove the file at any time: a new one is begun, with the lines that are nowhere else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use sluice_stages::slot::Timestamp;

/// What is read at once while the end of the last line is looked for.
const CHUNK_BYTES: u64 = 64 << 10;

/// When a file starts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rotation {
    /// Before it would be larger than this; a larger piece goes into a file of its own.
    pub(super) bytes: u64,
    /// When its first line is this old.
    pub(super) age: Duration,
    /// How many older files stay.
    pub(super) keep: usize,
}

/// The file that is written to.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    /// Bytes of whole lines in it.
    length: u64,
    /// Bytes of it that were durable at `path`.
    synced: u64,
    /// When its first line was written.
    since: Option<Timestamp>,
    /// Whether there are lines that are not durable.
    dirty: bool,
}

impl RotatingFile {
    /// Opens the file at `path`, and makes it and its folder if they are not there.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let (file, length) = open(path)?;
        let since = (length > 0).then(|| begun_at(&file));
        sync_folder(path)?;
        Ok(Self { path: path.to_owned(), rotation, file, length, synced: length, since, dirty: false })
    }

    /// Adds lines.
    ///
    /// # Errors
    /// If the disk refuses; nothing of them is in the file then.
    pub(super) fn write(&mut self, now: Timestamp, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.is_due(now, lines.len() as u64) {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += lines.len() as u64;
        self.since.get_or_insert(now);
        self.dirty = true;
        Ok(())
    }

    /// Makes what was written durable, in a file that is at the path.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.is_in_place()? {
            self.begin_anew()?;
        }
        if self.dirty {
            self.file.sync_data()?;
            (self.synced, self.dirty) = (self.length, false);
        }
        Ok(())
    }

    fn is_due(&self, now: Timestamp, more: u64) -> bool {
        let old = self.since.is_some_and(|since| now.since(since) >= self.rotation.age);
        self.length > 0 && (old || self.length + more > self.rotation.bytes)
    }

    fn rotate(&mut self) -> io::Result<()> {
        // A file that is not in place was taken away, or an earlier try came this far.
        if self.is_in_place()? {
            self.file.sync_data()?;
            self.synced = self.length;
            // From the oldest on, so that a crash in between loses none but the one that was to go.
            match self.rotation.keep {
                0 => fs::remove_file(&self.path)?,
                keep => {
                    for number in (1..keep).rev() {
                        rename_if_there(&self.numbered(number), &self.numbered(number + 1))?;
                    }
                    fs::rename(&self.path, self.numbered(1))?;
                }
            }
        }
        self.begin_anew()
    }

    /// Whether the file that is open is the one at the path.
    fn is_in_place(&self) -> io::Result<bool> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            there => Ok(is_same(&there?, &self.file.metadata()?)),
        }
    }

    /// Goes on with the file at the path. Lines that no durable file has go with it: a file that was moved keeps its own.
    fn begin_anew(&mut self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut left = Vec::new();
        if is_removed(&self.file.metadata()?) {
            self.file.seek(SeekFrom::Start(self.synced))?;
            Read::by_ref(&mut self.file).take(self.length - self.synced).read_to_end(&mut left)?;
        } else {
            self.file.sync_data()?;
        }
        let (mut file, length) = open(&self.path)?;
        if let Err(error) = file.write_all(&left) {
            file.set_len(length)?;
            return Err(error);
        }
        sync_folder(&self.path)?;
        self.since = (length > 0).then(|| begun_at(&file)).or(self.since.filter(|_| !left.is_empty()));
        (self.file, self.length, self.synced) = (file, length + left.len() as u64, length);
        self.dirty = !left.is_empty();
        Ok(())
    }

    fn numbered(&self, number: usize) -> PathBuf {
        numbered(&self.path, number)
    }
}

/// The path of the older file with this number.
pub(super) fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// The file at `path`, and how many bytes of whole lines it has; the rest is cut off.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let length = whole_lines_bytes(&mut file)?;
    file.set_len(length)?;
    Ok((file, length))
}

#[cfg(unix)]
fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Elsewhere a file that is open stays where it is.
#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

/// Whether no name leads to the file any more.
#[cfg(unix)]
fn is_removed(file: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(file) == 0
}

#[cfg(not(unix))]
fn is_removed(_: &fs::Metadata) -> bool {
    false
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// When the file was made, or, where the file system does not know, last written to.
fn begun_at(file: &File) -> Timestamp {
    let metadata = file.metadata();
    let time = metadata.and_then(|metadata| metadata.created().or_else(|_| metadata.modified()));
    let since_epoch = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Timestamp(0).after(since_epoch)
}

/// Bytes up to behind the last newline.
fn whole_lines_bytes(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK_BYTES);
        chunk.clear();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(end - start).read_to_end(&mut chunk)?;
        if let Some(position) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + position as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOREVER: Duration = Duration::from_secs(1 << 40);

    fn rotation(bytes: u64, keep: usize) -> Rotation {
        Rotation { bytes, age: FOREVER, keep }
    }

    fn text(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    #[test]
    fn older_files_move_up_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/er/x.jsonl");
        let mut file = RotatingFile::open(&path, rotation(4, 2)).expect("opened");
        for number in 0..5 {
            file.write(Timestamp(0), format!("{number}{number}\n").as_bytes()).expect("written");
        }
        assert_eq!(text(&path).as_deref(), Some("44\n"));
        assert_eq!(text(&numbered(&path, 1)).as_deref(), Some("33\n"));
        assert_eq!(text(&numbered(&path, 2)).as_deref(), Some("22\n"));
        assert_eq!(text(&numbered(&path, 3)), None);
    }

    #[test]
    fn a_file_starts_over_when_its_first_line_is_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.jsonl");
        let by_age = Rotation { bytes: 1 << 20, age: Duration::from_secs(10), keep: 3 };
        let mut file = RotatingFile::open(&path, by_age).expect("opened");
        for second in [0, 9, 10, 12, 21] {
            file.write(Timestamp(second * 1_000_000), format!("{second}\n").as_bytes()).expect("written");
        }
        assert_eq!(text(&path).as_deref(), Some("21\n"));
        assert_eq!(text(&numbered(&path, 1)).as_deref(), Some("10\n12\n"));
        assert_eq!(text(&numbered(&path, 2)).as_deref(), Some("0\n9\n"));
    }

    #[test]
    fn nothing_is_kept_where_that_is_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.jsonl");
        let mut file = RotatingFile::open(&path, rotation(3, 0)).expect("opened");
        file.write(Timestamp(0), b"ab\n").expect("written");
        file.write(Timestamp(0), b"cd\n").expect("written");
        assert_eq!((text(&path).as_deref(), text(&numbered(&path, 1))), (Some("cd\n"), None));
    }

    #[test]
    fn what_was_not_durable_in_a_file_that_was_removed_is_in_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/x.jsonl");
        let mut file = RotatingFile::open(&path, rotation(1 << 20, 3)).expect("opened");
        file.write(Timestamp(0), b"durable\n").expect("written");
        file.sync().expect("synced");
        file.write(Timestamp(0), b"not yet\n").expect("written");
        fs::remove_dir_all(folder.path().join("deep")).expect("removed");
        file.write(Timestamp(0), b"into nothing\n").expect("written");
        file.sync().expect("synced");
        assert_eq!(text(&path).as_deref(), Some("not yet\ninto nothing\n"));
        file.write(Timestamp(0), b"next\n").expect("written");
        assert_eq!(text(&path).as_deref(), Some("not yet\ninto nothing\nnext\n"));
    }

    #[test]
    fn a_file_that_was_moved_keeps_its_lines_and_another_is_gone_on_with() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, away) = (folder.path().join("x.jsonl"), folder.path().join("away"));
        let mut file = RotatingFile::open(&path, rotation(1 << 20, 3)).expect("opened");
        file.write(Timestamp(0), b"1\n").expect("written");
        fs::rename(&path, &away).expect("moved");
        fs::write(&path, "another\ntorn").expect("written");
        file.write(Timestamp(0), b"2\n").expect("written");
        file.sync().expect("synced");
        file.write(Timestamp(0), b"3\n").expect("written");
        assert_eq!(text(&away).as_deref(), Some("1\n2\n"));
        assert_eq!(text(&path).as_deref(), Some("another\n3\n"));
    }

    #[test]
    fn a_file_that_is_gone_when_it_is_to_start_over_moves_no_other() {
        for keep in [0, 2] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("x.jsonl");
            let mut file = RotatingFile::open(&path, rotation(4, keep)).expect("opened");
            file.write(Timestamp(0), b"aa\n").expect("written");
            file.write(Timestamp(0), b"bb\n").expect("written");
            fs::remove_file(&path).expect("removed");
            file.write(Timestamp(0), b"cc\n").expect("written");
            assert_eq!(text(&path).as_deref(), Some("bb\ncc\n"), "what was never durable is kept");
            assert_eq!(text(&numbered(&path, 1)).as_deref(), (keep > 0).then_some("aa\n"));
            assert_eq!(text(&numbered(&path, 2)), None);
        }
    }

    #[test]
    fn a_try_to_start_over_that_failed_in_the_middle_is_gone_on_with() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.jsonl");
        let mut file = RotatingFile::open(&path, rotation(3, 3)).expect("opened");
        file.write(Timestamp(0), b"aa\n").expect("written");
        // What a try leaves that could rename the file and not open the next one.
        fs::rename(&path, numbered(&path, 1)).expect("renamed");
        fs::create_dir(&path).expect("in the way");
        file.write(Timestamp(0), b"bb\n").expect_err("a folder is in the way");
        fs::remove_dir(&path).expect("removed");
        file.write(Timestamp(0), b"bb\n").expect("written");
        assert_eq!(text(&path).as_deref(), Some("bb\n"));
        assert_eq!(text(&numbered(&path, 1)).as_deref(), Some("aa\n"));
        assert_eq!(text(&numbered(&path, 2)), None);
    }

    proptest! {
        #[test]
        fn half_a_line_is_cut_off_and_whole_ones_stay(
            lines in proptest::collection::vec("[a-z]{0,20}", 0..20),
            torn in "[a-z]{0,20}",
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("x.jsonl");
            let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
            fs::write(&path, format!("{whole}{torn}")).expect("written");
            let mut file = RotatingFile::open(&path, rotation(1 << 20, 1)).expect("opened");
            file.write(Timestamp(0), b"next\n").expect("written");
            file.sync().expect("synced");
            prop_assert_eq!(text(&path), Some(format!("{whole}next\n")));
        }
    }

    #[test]
    fn a_torn_line_longer_than_a_chunk_is_cut_off_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.jsonl");
        fs::write(&path, format!("whole\n{}", "x".repeat(3 * CHUNK_BYTES as usize))).expect("written");
        RotatingFile::open(&path, rotation(1 << 20, 1)).expect("opened");
        assert_eq!(text(&path).as_deref(), Some("whole\n"));
    }
}
