//! Signatures that are there twice anywhere in the folder, found within a bound of memory.
//!
//! Each pass looks at the signatures whose hash falls into its share, so that the hashes of one pass fit the bound; equal
//! hashes are then told from equal signatures by reading those again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use rayon::prelude::*;
use sluice_stages::slot::Slot;

use super::folder::DataFile;
use super::read::{each_batch, keys, u32s, u64s};
use super::report::{Fault, Violation};

/// Reads the transactions files again and reports each signature that is there twice in two slots. Repeats within one
/// slot are reported elsewhere.
pub(super) fn find(files: &[&DataFile], rows: u64, max_bytes: usize) -> Vec<Violation> {
    let hasher = RandomState::new();
    let hashes_at_once = (max_bytes / size_of::<u64>()).max(1) as u64;
    let passes = rows.div_ceil(hashes_at_once).max(1);
    let mut suspects = HashSet::new();
    for pass in 0..passes {
        let mut hashes: Vec<u64> =
            files.par_iter().flat_map_iter(|file| share(file, &hasher, pass, passes)).collect();
        hashes.par_sort_unstable();
        suspects.extend(hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]));
    }
    if suspects.is_empty() { Vec::new() } else { confirm(files, &hasher, &suspects) }
}

fn share(file: &DataFile, hasher: &RandomState, pass: u64, passes: u64) -> Vec<u64> {
    let mut hashes = Vec::new();
    // A file that can't be read was reported by the first reading.
    let _unreadable = each_batch(file, |batch| {
        let signatures = keys(batch, "signature")?;
        let all = (0..batch.num_rows()).map(|row| hasher.hash_one(signatures.get(row)));
        hashes.extend(all.filter(|hash| hash % passes == pass));
        Ok(())
    });
    hashes
}

fn confirm(files: &[&DataFile], hasher: &RandomState, suspects: &HashSet<u64>) -> Vec<Violation> {
    let mut first_seen: HashMap<Vec<u8>, Slot> = HashMap::new();
    let mut violations = Vec::new();
    for file in files {
        let _unreadable = each_batch(file, |batch| {
            let signatures = keys(batch, "signature")?;
            let (slots, indexes) = (u64s(batch, "slot")?, u32s(batch, "index")?);
            for row in 0..batch.num_rows() {
                if suspects.contains(&hasher.hash_one(signatures.get(row))) {
                    let slot = slots.get(row);
                    let first = *first_seen.entry(signatures.get(row).to_vec()).or_insert(slot);
                    if first != slot {
                        let fault = Fault::DuplicateSignature(signatures.show(row));
                        let (slot, index) = (Some(slot), Some(indexes.get(row)));
                        violations.push(Violation { file: file.name.clone(), slot, index, fault });
                    }
                }
            }
            Ok(())
        });
    }
    violations
}
