//! Real blocks through the real sink, as a pipeline runs it, read back and held against prost.

mod oracle;
mod proven;
mod run;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use sluice_cluster::ledger::{Loaded, load_bytes, mainnet_blocks};
use sluice_sinks::parquet::{Dataset, KeyFormat, ParquetOptions};
use sluice_sinks::verify::{VerifyOptions, verify};
use sluice_stages::block::{Block, Part, Way};
use sluice_stages::recovery::convert;

use run::{block_of, child_of, run_sink, update};

fn recording() -> (Loaded, Loaded) {
    let frames =
        include_bytes!("../../../tests/cluster/data/testvalidator-full-stream.subscribe_updates.bin.zst");
    let answers = include_bytes!("../../../tests/cluster/data/testvalidator-full-stream.get_blocks.jsonl.gz");
    let load = |name, bytes: &[u8]| load_bytes(name, bytes, None).expect("a file of the project");
    (load("frames", frames), load("answers", answers))
}

fn old_block() -> sluice_cluster::ledger::Block {
    let bytes = include_bytes!("../../../tests/cluster/data/mainnet-43200000.confirmed_block.pb.zst");
    load_bytes("43200000", bytes, Some(43_200_000)).expect("a file of the project").blocks.remove(0)
}

#[tokio::test]
async fn real_mainnet_blocks_come_out_with_every_field_as_prost_reads_it() {
    let mut originals = vec![old_block()];
    originals.extend(mainnet_blocks().iter().cloned());
    for original in originals {
        for keys in [KeyFormat::Base58, KeyFormat::Bytes] {
            let root = tempfile::tempdir().expect("a folder");
            let block = block_of(&original);
            let blocks = [Arc::clone(&block), child_of(&block, 1)];
            let options = ParquetOptions { commit_slots: 1, keys, ..ParquetOptions::new(root.path()) };
            run_sink(options, &blocks).await;
            let (expected, rows) = (oracle::expected(&original), oracle::read(root.path(), original.slot));
            assert_eq!(rows.transactions.len(), original.transactions.len());
            for (row, expected) in rows.transactions.iter().zip(&expected.transactions) {
                assert_eq!(row, expected);
            }
            assert!(rows.instructions == expected.instructions);
            assert!(rows.token_balances == expected.token_balances);
            assert_eq!(rows.rewards, expected.rewards);
            let report = verify(root.path(), VerifyOptions::default()).expect("readable");
            assert!(report.is_clean(), "{report}");
        }
    }
}

/// The blocks of the recording that came in whole, with their entries and accounts.
fn live_blocks(loaded: &Loaded) -> BTreeMap<u64, Arc<Block>> {
    let mut slots: BTreeMap<u64, run::Collected> = BTreeMap::new();
    for frame in &loaded.frames {
        if let Some(slot) = frame.slot() {
            slots.entry(slot).or_default().add(update(frame.body.clone()));
        }
    }
    slots.into_iter().filter_map(|(slot, collected)| Some((slot, collected.whole()?))).collect()
}

/// The same blocks as RPC gives them.
fn rpc_blocks(loaded: &Loaded) -> BTreeMap<u64, Arc<Block>> {
    let base64 = loaded.answers.iter().filter(|answer| answer.encoding == "base64");
    base64
        .map(|answer| {
            let frames = convert::block(answer.slot, answer.response["result"].clone()).expect("a block");
            let mut collected = run::Collected::default();
            frames.into_iter().for_each(|frame| collected.add(update(frame.bytes().clone())));
            let block = collected.whole().expect("RPC blocks are whole");
            let missing = (Part::Missing, Part::Missing);
            let block =
                Block { entries: missing.0, accounts: missing.1, way: Way::Rpc, ..Block::clone(&block) };
            (answer.slot, Arc::new(block))
        })
        .collect()
}

fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for dataset in Dataset::ALL {
        let folder = root.join(dataset.name()).join("epoch=0");
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("listed").path();
            let name = path.strip_prefix(root).expect("below").display().to_string();
            files.insert(name, fs::read(path).expect("readable"));
        }
    }
    files
}

#[tokio::test]
async fn what_rpc_gives_is_byte_for_byte_what_the_live_stream_gave() {
    let (frames, answers) = recording();
    let (live, rpc) = (live_blocks(&frames), rpc_blocks(&answers));
    let options = |root: &Path| ParquetOptions { commit_slots: 10, ..ParquetOptions::new(root) };
    let (live_root, rpc_root) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    run_sink(options(live_root.path()), &live.values().cloned().collect::<Vec<_>>()).await;
    run_sink(options(rpc_root.path()), &rpc.values().cloned().collect::<Vec<_>>()).await;
    let (live, rpc) = (files(live_root.path()), files(rpc_root.path()));
    let compared = live.iter().filter(|(name, _)| rpc.contains_key(*name));
    let mut ranges = 0;
    for (name, bytes) in compared {
        assert!(rpc[name] == *bytes, "{name}");
        ranges += usize::from(name.starts_with("blocks"));
    }
    assert!(ranges >= 12, "{ranges} ranges");
    let extras =
        live.keys().filter(|name| name.starts_with("entries") || name.starts_with("accounts")).count();
    assert!(extras >= 20, "{extras} files of entries and accounts");
    assert!(!rpc.keys().any(|name| name.starts_with("entries")));
    for root in [&live_root, &rpc_root] {
        let report = verify(root.path(), VerifyOptions::default()).expect("readable");
        assert!(report.is_clean(), "{report}");
    }
}

#[tokio::test]
async fn a_second_run_goes_on_where_the_first_one_ended() {
    let (_, answers) = recording();
    let blocks: Vec<Arc<Block>> = rpc_blocks(&answers).into_values().collect();
    let options = |root: &Path| ParquetOptions { commit_slots: 10, ..ParquetOptions::new(root) };
    let (once, twice) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    run_sink(options(once.path()), &blocks).await;
    let middle = blocks.len() / 2;
    run_sink(options(twice.path()), &blocks[..middle]).await;
    let before = files(twice.path()).len();
    run_sink(options(twice.path()), &blocks).await;
    assert!(before > 0 && before < files(twice.path()).len());
    assert!(files(once.path()) == files(twice.path()));
}

/// How fast rows are made and files written; run it by hand, in release, with `--ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn throughput() {
    let originals = mainnet_blocks();
    let (mut blocks, mut transactions, mut bytes) = (Vec::new(), 0, 0);
    let rounds: u64 = std::env::var("SLUICE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(54);
    for slot in 1_000..1_000 + rounds {
        let mut original = originals[(slot % 2) as usize].clone();
        (original.slot, original.parent_slot) = (slot, slot - 1);
        original.blockhash = run::hash_of(slot);
        original.parent_blockhash = run::hash_of(slot - 1);
        transactions += original.transactions.len();
        let block = block_of(&original);
        bytes += block.size_bytes();
        blocks.push(block);
    }
    blocks.push(child_of(&blocks[blocks.len() - 1], 1_000));
    let root = tempfile::tempdir().expect("a folder");
    let options = ParquetOptions { commit_slots: 1_000, ..ParquetOptions::new(root.path()) };
    let began = std::time::Instant::now();
    let used = run::cpu_time();
    run_sink(options, &blocks).await;
    let (wall, cpu) = (began.elapsed(), run::cpu_time() - used);
    println!(
        "{transactions} transactions, {} MB: {wall:?} of time, {cpu:?} of CPU, {:.0} transactions and {:.0} MB a CPU second",
        bytes / 1_000_000,
        transactions as f64 / cpu.as_secs_f64(),
        bytes as f64 / 1e6 / cpu.as_secs_f64(),
    );
}
