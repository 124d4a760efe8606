//! Real blocks proven from their files alone, and what was changed in them found.

use std::path::Path;
use std::sync::Arc;

use sluice_cluster::ledger::mainnet_blocks;
use sluice_sinks::parquet::{KeyFormat, ParquetOptions};
use sluice_sinks::verify::{Fault, Progress, ProveOptions, Proven, Report, VerifyOptions, prove, verify};
use sluice_stages::block::{Block, Part};

use crate::run::{block_of, child_of, run_sink};
use crate::{live_blocks, old_block, recording};

const ALL: ProveOptions = ProveOptions { hashes: true, signatures: true, sample: None };

fn proven(root: &Path, options: ProveOptions) -> (Report, Proven) {
    let mut report = verify(root, VerifyOptions::default()).expect("readable");
    prove(root, options, &Progress::default(), &mut report).expect("readable");
    let proven = report.proven.clone().expect("it was asked for");
    (report, proven)
}

async fn written(blocks: &[Arc<Block>], commit_slots: u64, keys: KeyFormat) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    run_sink(ParquetOptions { commit_slots, keys, ..ParquetOptions::new(root.path()) }, blocks).await;
    root
}

#[tokio::test]
async fn every_whole_slot_of_a_real_validator_is_proven_with_its_signatures() {
    let blocks: Vec<Arc<Block>> = live_blocks(&recording().0).into_values().collect();
    for keys in [KeyFormat::Base58, KeyFormat::Bytes] {
        let root = written(&blocks, 5, keys).await;
        let (report, all) = proven(root.path(), ALL);
        assert!(report.is_clean(), "{report}");
        assert!(all.blocks >= 125 && all.proven == all.blocks, "{all:?}");
        assert!(all.signatures > 2_000, "{all:?}");
        let (_, some) = proven(root.path(), ProveOptions { sample: Some(7), signatures: false, ..ALL });
        assert_eq!((some.blocks, some.proven, some.signatures), (7, 7, 0));
    }
}

#[tokio::test]
async fn every_signature_of_real_mainnet_blocks_holds() {
    for original in std::iter::once(old_block()).chain(mainnet_blocks().iter().cloned()) {
        let block = block_of(&original);
        let root = written(&[Arc::clone(&block), child_of(&block, 1)], 1, KeyFormat::Base58).await;
        let (report, proven) = proven(root.path(), ALL);
        assert!(report.is_clean(), "{report}");
        assert!(proven.signatures >= original.transactions.len() as u64, "{proven:?}");
        assert_eq!((proven.blocks, proven.counted), (0, 1), "it has no entries");
    }
}

#[tokio::test]
async fn an_entry_that_is_lost_is_named() {
    let mut blocks: Vec<Arc<Block>> = live_blocks(&recording().0).into_values().collect();
    let broken = blocks.iter_mut().find(|block| block.slot() == 112).expect("it is whole");
    let mut entries = broken.entries.updates().expect("whole").to_vec();
    entries.pop();
    *broken = Arc::new(Block { entries: Part::Whole(entries.into()), ..Block::clone(broken) });
    let root = written(&blocks, 5, KeyFormat::Bytes).await;
    let (report, proven) = proven(root.path(), ProveOptions { signatures: false, ..ALL });
    let faults = report.violations.iter().filter_map(|violation| match &violation.fault {
        Fault::Proof(reason) => Some((violation.slot, violation.index, reason.as_str())),
        _ => None,
    });
    let faults: Vec<_> = faults.collect();
    assert_eq!(
        faults,
        [(Some(112), Some(64), "the last entry's hash is not the blockhash: the end is missing")]
    );
    assert_eq!(proven.blocks - proven.proven, 1);
}

#[tokio::test]
async fn a_message_that_was_changed_is_named() {
    let mut original = old_block();
    let changed = original.transactions[3].transaction.as_mut().and_then(|it| it.message.as_mut());
    changed.expect("there").instructions[0].data[0] ^= 1;
    let block = block_of(&original);
    let root = written(&[Arc::clone(&block), child_of(&block, 1)], 1, KeyFormat::Base58).await;
    let (report, _) = proven(root.path(), ProveOptions { hashes: false, ..ALL });
    let [violation] = &report.violations[..] else { panic!("{report}") };
    assert_eq!((violation.slot, violation.index), (Some(original.slot), Some(3)));
    assert_eq!(violation.fault, Fault::Signature(0));
}
