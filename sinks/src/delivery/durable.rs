//! Replaces a small file as a whole: a crash leaves what was there, or what is new.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Makes `bytes` the content of `path`, durably: written to another name, synced, renamed, and its folder synced.
///
/// # Errors
/// If the disk refuses; the file is as it was, or holds `bytes`.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("json.tmp");
    let mut file = File::create(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
