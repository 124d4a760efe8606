//! The offline audit of an output folder: reads every file with an independent reader and checks what the folder
//! promises. It shares no code with the sink that writes.
//!
//! Checked are: names against content; each slot of each range is a block or a proven skip; the chain of parents and
//! blockhashes through all ranges; counts, indexes and order; that nothing is there twice; that nothing refers to what
//! is not there; that entries tile the transactions and end in the blockhash. Ranges are audited in parallel.
//!
//! [`prove`] goes further, by recomputing hashes and signatures from the files alone. What no one can prove from what the
//! stream delivers are the outcomes of transactions: status, logs, balances, inner instructions, return data, accounts.

mod chain;
mod duplicates;
mod ed25519;
mod folder;
mod poh;
mod range;
mod read;
mod report;
mod signatures;
mod undone;

use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use thiserror::Error;

pub use poh::{Progress, ProveOptions, prove};
pub use report::{Fault, Proven, Report, Violation};
pub use undone::{Check, Obstacle, Undone};

use chain::ChainCheck;
use folder::{Contents, DATASETS, DataFile, SETTINGS};
use range::RangeReport;

/// Bytes for the hashes of signatures: 64 million of them, some 14 hours of mainnet, in one pass.
const DEFAULT_MAX_HASH_BYTES: usize = 512 << 20;
/// Ranges whose blocks are in memory at once.
const RANGES_AT_ONCE: usize = 64;
/// Datasets that a range may lack although its blocks are there: RPC can't give them.
const OPTIONAL_DATASETS: [&str; 2] = ["entries", "accounts"];
/// Datasets made of transactions: a subscription without any, which is a filtered one, has none of them.
const TRANSACTION_DATASETS: [&str; 3] = ["transactions", "instructions", "token_balances"];

/// How to audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyOptions {
    /// True if the subscription had filters: then counts and gaps in indexes mean nothing. Default false.
    pub filtered: bool,
    /// Most bytes for the search for duplicate signatures; with fewer it reads the files more often. Default 512 MiB.
    pub max_hash_bytes: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { filtered: false, max_hash_bytes: DEFAULT_MAX_HASH_BYTES }
    }
}

/// The folder could not be audited at all.
#[derive(Debug, Error)]
#[error("{path}: {source}")]
pub struct VerifyError {
    /// The file or folder that could not be listed or read.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Audits the output folder `root`.
///
/// # Errors
/// If the folder can't be listed, or a file not be read at all; what is wrong inside files is in the report.
pub fn verify(root: &Path, options: VerifyOptions) -> Result<Report, VerifyError> {
    let contents = folder::scan(root)?;
    let mut report = Report { digest: contents.digest()?, ..Report::default() };
    report.check_names(&contents, &options);
    let ranges: Vec<_> = contents.files.values().collect();
    let mut chain = ChainCheck::default();
    for group in ranges.chunks(RANGES_AT_ONCE) {
        let audited: Vec<RangeReport> =
            group.par_iter().map(|files| range::verify(files, &options)).collect();
        for range in audited {
            chain.follow(&range);
            report.add(range);
        }
    }
    report.violations.append(&mut chain.violations);
    let transactions: Vec<&DataFile> = ranges.iter().filter_map(|files| files.get("transactions")).collect();
    let rows = report.rows.get("transactions").copied().unwrap_or(0);
    report.violations.extend(duplicates::find(&transactions, rows, options.max_hash_bytes));
    report.violations.sort();
    Ok(report)
}

/// Whether a range has to have a file of `dataset`: others have one, or the folder was made to hold it. A dataset that is
/// gone as a whole must not look like one that nobody wanted.
fn is_expected(contents: &Contents, dataset: &str, options: &VerifyOptions) -> bool {
    let optional =
        OPTIONAL_DATASETS.contains(&dataset) || options.filtered && TRANSACTION_DATASETS.contains(&dataset);
    contents.has(dataset) || !optional && contents.promised.contains(dataset)
}

impl Report {
    fn add(&mut self, range: RangeReport) {
        self.slots += range.last - range.first + 1;
        self.blocks += range.blocks.len() as u64;
        self.skipped += range.skipped.len() as u64;
        self.range = Some((self.range.map_or(range.first, |(first, _)| first), range.last));
        for (dataset, rows) in range.rows {
            *self.rows.entry(dataset.to_owned()).or_default() += rows;
        }
        self.violations.extend(range.violations);
        self.more_violations += range.more_violations;
    }

    fn check_names(&mut self, contents: &Contents, options: &VerifyOptions) {
        for name in &contents.misnamed {
            let (file, fault) = (name.clone(), Fault::Name);
            self.violations.push(Violation { file, slot: None, index: None, fault });
        }
        let note = |what: &str, name: &String| format!("{name}: {what}");
        let left = "left by a crash or still being written; the next start removes it";
        self.notes.extend(contents.staged.iter().map(|name| note(left, name)));
        self.notes.extend(contents.unknown.iter().map(|name| note("not a file of any dataset", name)));
        if contents.promised.is_empty() {
            let unread =
                format!("{SETTINGS}: can't be read; a dataset that is missing altogether is not noticed");
            self.notes.push(unread);
        }
        let absent = OPTIONAL_DATASETS
            .into_iter()
            .filter(|dataset| contents.promised.contains(*dataset) && !contents.has(dataset));
        let absent = absent.map(|dataset| {
            format!(
                "{dataset}: chosen in {SETTINGS}, and not there for any range: not subscribed to, or gone"
            )
        });
        self.notes.extend(absent);
        self.check_overlaps(contents);
        for dataset in DATASETS.into_iter().filter(|dataset| is_expected(contents, dataset, options)) {
            self.check_ranges(contents, dataset);
        }
    }

    fn check_overlaps(&mut self, contents: &Contents) {
        let mut covered: Option<&DataFile> = None;
        for file in contents.files.values().flat_map(|files| files.values()) {
            self.files += 1;
            match covered {
                Some(before)
                    if file.first <= before.last
                        && (file.first, file.last) != (before.first, before.last) =>
                {
                    let fault = Fault::Overlap(before.name.clone());
                    let file = file.name.clone();
                    self.violations.push(Violation { file, slot: None, index: None, fault });
                }
                _ => covered = Some(file),
            }
        }
    }

    /// A dataset that has any file has to have one for each range; `entries` and `accounts` may have holes.
    fn check_ranges(&mut self, contents: &Contents, dataset: &'static str) {
        for files in contents.files.values().filter(|files| !files.contains_key(dataset)) {
            let Some(other) = files.values().next() else { continue };
            let file = other.name.replacen(other.dataset, dataset, 1);
            if OPTIONAL_DATASETS.contains(&dataset) {
                self.notes.push(format!("{file}: not there, a hole of this dataset"));
            } else {
                let fault = Fault::MissingRange(other.dataset);
                self.violations.push(Violation { file, slot: None, index: None, fault });
            }
        }
    }
}

#[cfg(test)]
mod tests;
