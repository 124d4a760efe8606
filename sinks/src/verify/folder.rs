//! The files of an output folder: their names, what the names promise, and their digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use sluice_stages::slot::{SLOTS_PER_EPOCH, Slot};

use super::VerifyError;

/// Datasets that this audit knows; each has a file for each range.
pub(super) const DATASETS: [&str; 8] = [
    "blocks",
    "transactions",
    "instructions",
    "token_balances",
    "rewards",
    "skipped_slots",
    "entries",
    "accounts",
];
/// The folder of what is not reproducible by nature.
const ARRIVALS: &str = "arrivals";
/// The folder of files under construction.
const STAGING: &str = "_staging";
/// The file that says how the folder was made.
pub(super) const SETTINGS: &str = "sluice.json";
/// Files at the root that are not data.
const OWN_FILES: [&str; 3] = [".lock", SETTINGS, "start.json"];
/// What is read of a file at once to hash it.
const HASHED_BYTES: usize = 256 << 10;

/// A file whose name is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataFile {
    /// Relative to the folder, with forward slashes.
    pub(super) name: String,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its dataset, one of [`DATASETS`].
    pub(super) dataset: &'static str,
    /// The first slot that the name promises.
    pub(super) first: Slot,
    /// The last one.
    pub(super) last: Slot,
}

/// What is in a folder.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Data files by first slot, then dataset.
    pub(super) files: BTreeMap<Slot, BTreeMap<&'static str, DataFile>>,
    /// Names of Parquet files of a dataset that promise nothing.
    pub(super) misnamed: Vec<String>,
    /// Files left by a crash.
    pub(super) staged: Vec<String>,
    /// Files that are none of the above.
    pub(super) unknown: Vec<String>,
    /// Datasets that the folder was made to hold, as its settings say; empty if they can't be read.
    pub(super) promised: BTreeSet<String>,
    /// All files that the digest covers.
    digested: BTreeMap<String, PathBuf>,
}

/// Lists a folder.
pub(super) fn scan(root: &Path) -> Result<Contents, VerifyError> {
    let mut contents = Contents::default();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let fail = |source| VerifyError { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                contents.add(root, path);
            }
        }
    }
    contents.promised = promised(root);
    for names in [&mut contents.misnamed, &mut contents.staged, &mut contents.unknown] {
        names.sort_unstable();
    }
    Ok(contents)
}

impl Contents {
    fn add(&mut self, root: &Path, path: PathBuf) {
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let parts: Vec<String> =
            relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let name = parts.join("/");
        match parts.first().map(String::as_str) {
            Some(STAGING) => return self.staged.push(name),
            Some(ARRIVALS | ".lock") => return,
            _ => {}
        }
        self.digested.insert(name.clone(), path.clone());
        let dataset = DATASETS.into_iter().find(|dataset| parts.len() > 1 && parts[0] == *dataset);
        match (dataset, slots_of(&parts)) {
            (Some(dataset), Some((first, last))) => {
                let file = DataFile { name, path, dataset, first, last };
                self.files.entry(first).or_default().insert(dataset, file);
            }
            (Some(_), None) if name.ends_with(".parquet") => self.misnamed.push(name),
            _ if OWN_FILES.contains(&name.as_str()) => {}
            _ => self.unknown.push(name),
        }
    }

    /// Whether any range has a file of `dataset`.
    pub(super) fn has(&self, dataset: &str) -> bool {
        self.files.values().any(|files| files.contains_key(dataset))
    }

    /// SHA-256 over the lines that `sha256sum` prints for the files in order of names.
    pub(super) fn digest(&self) -> Result<String, VerifyError> {
        let line = |(name, path): (&String, &PathBuf)| {
            let hash = hash_file(path).map_err(|source| VerifyError { path: path.clone(), source })?;
            Ok(format!("{hash}  {name}\n"))
        };
        let files: Vec<_> = self.digested.iter().collect();
        let lines: Vec<String> = files.into_par_iter().map(line).collect::<Result<_, VerifyError>>()?;
        Ok(hex(&Sha256::digest(lines.concat())))
    }
}

/// The datasets that the settings name. Read as plain JSON: the sink's own types are not for its auditor.
fn promised(root: &Path) -> BTreeSet<String> {
    let settings = fs::read(root.join(SETTINGS)).unwrap_or_default();
    let settings: serde_json::Value = serde_json::from_slice(&settings).unwrap_or_default();
    let names = settings["datasets"].as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The slots that `<dataset>/epoch=<E>/<first>-<last>.parquet` promises.
fn slots_of(parts: &[String]) -> Option<(Slot, Slot)> {
    let [_, epoch, file] = parts else { return None };
    let epoch: u64 = epoch.strip_prefix("epoch=")?.parse().ok()?;
    let (first, last) = file.strip_suffix(".parquet")?.split_once('-')?;
    let slot = |text: &str| (text.len() >= 12).then(|| text.parse::<Slot>().ok()).flatten();
    let (first, last) = (slot(first)?, slot(last)?);
    let slots = last.checked_sub(first)? + 1;
    let aligned = first.is_multiple_of(slots) && SLOTS_PER_EPOCH.is_multiple_of(slots);
    (aligned && epoch == first / SLOTS_PER_EPOCH).then_some((first, last))
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut part = vec![0; HASHED_BYTES];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(&part[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(name: &str) -> Option<(Slot, Slot)> {
        slots_of(&name.split('/').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_name_promises_an_aligned_range_of_its_epoch() {
        assert_eq!(slots("blocks/epoch=1/000000432000-000000432431.parquet"), Some((432_000, 432_431)));
        for name in [
            "blocks/epoch=0/000000432000-000000432431.parquet",
            "blocks/epoch=1/000000432001-000000432432.parquet",
            "blocks/epoch=1/432000-432431.parquet",
            "blocks/000000432000-000000432431.parquet",
            "blocks/epoch=0/000000000009-000000000001.parquet",
        ] {
            assert_eq!(slots(name), None, "{name}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_lines_of_sha256sum() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("b"), "two").expect("written");
        fs::write(root.path().join("a"), "one").expect("written");
        fs::create_dir_all(root.path().join("arrivals")).expect("made");
        fs::write(root.path().join("arrivals/x"), "different each time").expect("written");
        fs::write(root.path().join(".lock"), "").expect("written");
        let line = |text: &str, name: &str| format!("{}  {name}\n", hex(&Sha256::digest(text)));
        let expected = hex(&Sha256::digest(line("one", "a") + &line("two", "b")));
        let contents = scan(root.path()).expect("listed");
        assert_eq!(contents.digest().expect("read"), expected);
        assert_eq!(contents.unknown, ["a", "b"]);
    }
}
