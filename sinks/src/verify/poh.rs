//! Proof from the files alone: the chain of hashes of each block, and the signatures of its transactions.
//!
//! Ranges are read one after the other, so that one is in memory; the blocks of a range are proven in parallel. A range
//! without an `entries` file is counted, not proven; one whose other files are not there, or can't be read, is left undone,
//! and the report says so.
//!
//! The chain does not say where a transaction's signatures end; by itself it holds them to the number that their message
//! asks for, and whether the message is theirs is seen by their check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rayon::prelude::*;
use sluice_stages::entry::Entry;
use sluice_stages::proof::DEFAULT_MAX_HASHES;
use sluice_stages::proof::chain::{History, Signers};
use sluice_stages::slot::{Hash, Slot};

use super::VerifyError;
use super::folder::{self, DataFile};
use super::read::{KEY_32, KEY_64, batches, key_lists, keys, u32s, u64s};
use super::report::{Fault, Proven, Report, Violation};
use super::signatures;
use super::undone::{Check, Obstacle};

/// What to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProveOptions {
    /// Recompute the chain of hashes of each block. Default false.
    pub hashes: bool,
    /// Hold each signature against its message. Default false.
    pub signatures: bool,
    /// Do so for this many blocks, spread evenly over the folder. Default all.
    pub sample: Option<u64>,
}

/// How far [`prove`] has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// Blocks to look at.
    pub total: AtomicU64,
    /// Blocks done.
    pub done: AtomicU64,
    /// Hashes recomputed.
    pub hashes: AtomicU64,
    /// Signatures checked.
    pub signatures: AtomicU64,
}

/// The files of a range, by dataset.
pub(super) type RangeFiles = BTreeMap<&'static str, DataFile>;

/// Values that are not what they have to be: slot, index and fault.
type WrongValues = Vec<(Slot, Option<u64>, Fault)>;

/// Proves the blocks of the output folder `root`, adding to `report` what it finds; `progress` can be read meanwhile.
///
/// # Errors
/// If the folder can't be listed; what is wrong inside files is in the report.
pub fn prove(
    root: &Path,
    options: ProveOptions,
    progress: &Progress,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let begun = Instant::now();
    let contents = folder::scan(root)?;
    let blocks: Vec<(&RangeFiles, Vec<BlockHashes>)> = contents
        .files
        .values()
        // A range whose blocks are not there, or can't be read, is broken for the audit.
        .map(|files| (files, read(files, "blocks", report, read_blocks).unwrap_or_default()))
        .collect();
    let mut sample = Sample::new(options.sample, blocks.iter().map(|(_, blocks)| blocks.len() as u64).sum());
    progress.total.store(sample.wanted, Ordering::Relaxed);
    let mut proven = Proven::default();
    for (files, mut blocks) in blocks {
        blocks.retain(|_| sample.takes_next());
        if blocks.is_empty() {
            continue;
        }
        if options.signatures {
            let slots: BTreeSet<Slot> = blocks.iter().map(|block| block.slot).collect();
            if let Err(obstacle) = signatures::check(files, &slots, progress, report, &mut proven.signatures)
            {
                proven.leave(Check::Signatures, obstacle, blocks.len() as u64);
            }
        }
        if options.hashes {
            prove_range(files, &blocks, progress, report, &mut proven);
        }
        progress.done.fetch_add(blocks.len() as u64, Ordering::Relaxed);
    }
    proven.conclude(options, sample.wanted);
    proven.millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.proven = Some(proven);
    report.violations.sort();
    Ok(())
}

/// Takes as many blocks as wanted, spread evenly over all.
struct Sample {
    wanted: u64,
    all: u64,
    seen: u64,
}

impl Sample {
    fn new(wanted: Option<u64>, all: u64) -> Self {
        Self { wanted: wanted.unwrap_or(all).min(all), all, seen: 0 }
    }

    fn takes_next(&mut self) -> bool {
        let taken_before =
            |seen: u64| u128::from(seen) * u128::from(self.wanted) / u128::from(self.all.max(1));
        let takes = taken_before(self.seen + 1) > taken_before(self.seen);
        self.seen += 1;
        takes
    }
}

/// What of a block begins and ends its chain.
struct BlockHashes {
    slot: Slot,
    parent_slot: Slot,
    parent_blockhash: [u8; 32],
    blockhash: [u8; 32],
}

/// The file of a dataset that a range has, unless the audit has found that it can't be read.
pub(super) fn readable<'a>(
    files: &'a RangeFiles,
    dataset: &'static str,
    report: &Report,
) -> Result<&'a DataFile, Obstacle> {
    let file = files.get(dataset).ok_or(Obstacle::Missing(dataset))?;
    if report.is_unreadable(&file.name) { Err(Obstacle::Unreadable(dataset)) } else { Ok(file) }
}

/// Reads one file of a range; what is wrong in it is noted.
fn read<T>(
    files: &RangeFiles,
    dataset: &'static str,
    report: &mut Report,
    read: impl FnOnce(&DataFile, &mut WrongValues) -> Result<T, Fault>,
) -> Result<T, Obstacle> {
    let file = readable(files, dataset, report)?;
    let mut wrong = Vec::new();
    let result = read(file, &mut wrong);
    for (slot, index, fault) in wrong {
        note(report, &file.name, Some(slot), index, fault);
    }
    result.map_err(|fault| {
        note(report, &file.name, None, None, fault);
        Obstacle::Unreadable(dataset)
    })
}

/// Adds a violation, unless the audit has found the same already.
pub(super) fn note(report: &mut Report, file: &str, slot: Option<Slot>, index: Option<u64>, fault: Fault) {
    let violation = Violation { file: file.to_owned(), slot, index, fault };
    if !report.violations.contains(&violation) {
        report.violations.push(violation);
    }
}

fn read_blocks(file: &DataFile, wrong: &mut WrongValues) -> Result<Vec<BlockHashes>, Fault> {
    let mut blocks = Vec::new();
    for batch in batches(file, &["slot", "parent_slot", "parent_blockhash", "blockhash"])? {
        let batch = batch?;
        let (slots, parents) = (u64s(&batch, "slot")?, u64s(&batch, "parent_slot")?);
        let (hashes, parent_hashes) = (keys(&batch, "blockhash")?, keys(&batch, "parent_blockhash")?);
        for row in 0..batch.num_rows() {
            let slot = slots.get(row);
            match (parent_hashes.key_32(row), hashes.key_32(row)) {
                (Some(parent_blockhash), Some(blockhash)) => {
                    let parent_slot = parents.get(row);
                    blocks.push(BlockHashes { slot, parent_slot, parent_blockhash, blockhash });
                }
                (None, _) => {
                    wrong.push((slot, None, parent_hashes.wrong("parent_blockhash", row, KEY_32)));
                }
                (_, None) => wrong.push((slot, None, hashes.wrong("blockhash", row, KEY_32))),
            }
        }
    }
    Ok(blocks)
}

fn prove_range(
    files: &RangeFiles,
    blocks: &[BlockHashes],
    progress: &Progress,
    report: &mut Report,
    proven: &mut Proven,
) {
    let Some(entries) = files.get("entries") else {
        proven.counted += blocks.len() as u64;
        return;
    };
    let mut histories: BTreeMap<Slot, History> =
        blocks.iter().map(|block| (block.slot, begin(block))).collect();
    let result =
        read(files, "transactions", report, |file, wrong| read_transactions(file, &mut histories, wrong))
            .and_then(|()| {
                read(files, "entries", report, |file, wrong| read_entries(file, &mut histories, wrong))
            });
    if let Err(obstacle) = result {
        return proven.leave(Check::Hashes, obstacle, blocks.len() as u64);
    }
    // Those with a value that is wrong are not proven: that value has been noted.
    proven.blocks += (blocks.len() - histories.len()) as u64;
    let results: Vec<_> = histories
        .par_iter()
        .map(|(&slot, history)| {
            let result = history.prove();
            progress.hashes.fetch_add(result.unwrap_or_default(), Ordering::Relaxed);
            (slot, result)
        })
        .collect();
    for (slot, result) in results {
        proven.blocks += 1;
        match result {
            Ok(hashes) => {
                proven.proven += 1;
                proven.hashes += hashes;
            }
            Err(broken) => {
                let fault = Fault::Proof(broken.reason.to_string());
                note(report, &entries.name, Some(slot), Some(broken.index.into()), fault);
            }
        }
    }
}

fn begin(block: &BlockHashes) -> History {
    let slots = block.slot.saturating_sub(block.parent_slot);
    History::new(Hash(block.parent_blockhash), Hash(block.blockhash), slots, DEFAULT_MAX_HASHES)
}

fn read_transactions(
    file: &DataFile,
    histories: &mut BTreeMap<Slot, History>,
    wrong: &mut WrongValues,
) -> Result<(), Fault> {
    let columns = ["slot", "index", "signature", "additional_signatures", "num_required_signatures"];
    for batch in batches(file, &columns)? {
        let batch = batch?;
        let (slots, indexes) = (u64s(&batch, "slot")?, u32s(&batch, "index")?);
        let required = u32s(&batch, "num_required_signatures")?;
        let (firsts, others) = (keys(&batch, "signature")?, key_lists(&batch, "additional_signatures")?);
        for row in 0..batch.num_rows() {
            let (slot, index) = (slots.get(row), indexes.get(row));
            let Some(history) = histories.get_mut(&slot) else { continue };
            let first = firsts.key_64(row).ok_or_else(|| firsts.wrong("signature", row, KEY_64));
            match std::iter::once(first).chain(others.keys_64(row)).collect::<Result<Vec<_>, _>>() {
                Ok(all) => {
                    let signers = Signers::counted(u32::try_from(required.get(row)).unwrap_or(u32::MAX));
                    history.push_transaction(index as u32, &all, signers);
                }
                Err(fault) => {
                    histories.remove(&slot);
                    wrong.push((slot, Some(index), fault));
                }
            }
        }
    }
    Ok(())
}

fn read_entries(
    file: &DataFile,
    histories: &mut BTreeMap<Slot, History>,
    wrong: &mut WrongValues,
) -> Result<(), Fault> {
    for batch in batches(file, &["slot", "index", "num_hashes", "hash", "executed_transaction_count"])? {
        let batch = batch?;
        let (slots, indexes) = (u64s(&batch, "slot")?, u32s(&batch, "index")?);
        let (counts, numbers) = (u32s(&batch, "executed_transaction_count")?, u64s(&batch, "num_hashes")?);
        let hashes = keys(&batch, "hash")?;
        for row in 0..batch.num_rows() {
            let (slot, index) = (slots.get(row), indexes.get(row));
            let Some(history) = histories.get_mut(&slot) else { continue };
            let Some(hash) = hashes.key_32(row) else {
                histories.remove(&slot);
                wrong.push((slot, Some(index), hashes.wrong("hash", row, KEY_32)));
                continue;
            };
            history.push_entry(&Entry {
                index: index as u32,
                num_hashes: numbers.get(row),
                hash: &hash,
                executed_transaction_count: counts.get(row) as u32,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_as_large_as_asked_for_and_spread_evenly() {
        for (wanted, all) in [(3, 10), (10, 10), (20, 10), (0, 10), (1, 1), (7, 1_000)] {
            let mut sample = Sample::new(Some(wanted), all);
            let taken: Vec<u64> = (0..all).filter(|_| sample.takes_next()).collect();
            assert_eq!(taken.len() as u64, wanted.min(all));
            let widest = taken.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            assert!(widest <= all / wanted.max(1) + 1, "{wanted} of {all}: {taken:?}");
        }
    }
}
