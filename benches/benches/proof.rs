//! The proof of a slot at mainnet's number of hashes, beside Agave's own check of the same entries and a plain loop of
//! `sha2`, in one thread. Throughput is hashes a second: mainnet makes 10 million, so 33 million a second are 0.3 of a core.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use rayon::{ThreadPool, ThreadPoolBuilder};
use sha2::{Digest, Sha256};
use sluice_cluster::ledger::{Block, Shape, hash, verify};
use sluice_cluster::{GeneratedLedger, Ledger};
use sluice_sha256::{Chain, Kernel};
use sluice_stages::entry::Entry;
use sluice_stages::proof::DEFAULT_MAX_HASHES;
use sluice_stages::proof::chain::{History, Signers};
use sluice_stages::slot::Hash;
use solana_entry::entry::{EntryVerificationData, verify_entries_cpu};

/// Mainnet's ticks in a slot, and hashes from one to the next.
const MAINNET: Shape = Shape { ticks: 64, hashes_per_tick: 62_500 };
/// Chains of the kernels' own measurement: more than any has lanes.
const CHAINS: u64 = 64;
/// Hashes of each; of a tick's order.
const CHAIN_HASHES: u64 = 10_000;

/// The first block of a ledger with transactions as mainnet has them.
fn block() -> Block {
    let ledger = Ledger::generated(GeneratedLedger { shape: MAINNET, ..GeneratedLedger::default() });
    let version = (0..).find_map(|at| ledger.at(at)?.canonical().cloned());
    version.expect("the ledger has no end").block.clone()
}

fn parent(block: &Block) -> [u8; 32] {
    hash(&block.parent_blockhash).expect("the cluster's own hash")
}

fn history(block: &Block) -> History {
    let own = hash(&block.blockhash).expect("the cluster's own hash");
    let slots = block.slot - block.parent_slot;
    let mut history = History::new(Hash(parent(block)), Hash(own), slots, DEFAULT_MAX_HASHES);
    for entry in &block.entries {
        history.push_entry(&Entry {
            index: entry.index as u32,
            num_hashes: entry.num_hashes,
            hash: entry.hash.as_slice().try_into().expect("32 bytes"),
            executed_transaction_count: entry.executed_transaction_count as u32,
        });
    }
    for info in &block.transactions {
        let signatures = &info.transaction.as_ref().expect("it is there").signatures;
        let signatures = signatures.iter().map(|bytes| bytes.as_slice().try_into().expect("64 bytes"));
        let signers = Signers::counted(signatures.len() as u32);
        history.push_transaction(info.index as u32, signatures, signers);
    }
    history
}

/// The same entries as Agave checks them.
fn agave_entries(block: &Block) -> Vec<EntryVerificationData> {
    let mut transactions = block.transactions.iter();
    let entry = |entry: &yellowstone_grpc_proto::prelude::SubscribeUpdateEntry| {
        let own = transactions.by_ref().take(entry.executed_transaction_count as usize);
        let signatures = own.flat_map(|info| &info.transaction.as_ref().expect("it is there").signatures);
        EntryVerificationData {
            num_hashes: entry.num_hashes,
            hash: <[u8; 32]>::try_from(entry.hash.as_slice()).expect("32 bytes").into(),
            num_transactions: entry.executed_transaction_count as usize,
            signatures: signatures
                .map(|bytes| <[u8; 64]>::try_from(bytes.as_slice()).expect("64 bytes").into())
                .collect(),
        }
    };
    block.entries.iter().map(entry).collect()
}

fn group<'c>(criterion: &'c mut Criterion, name: &str, hashes: u64) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(hashes));
    group
}

fn kernels(criterion: &mut Criterion) {
    let mut group = group(criterion, "sha256", CHAINS * CHAIN_HASHES);
    let chain = |number: u64| Chain { state: [number as u8; 32], hashes: CHAIN_HASHES };
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        group.bench_function(format!("{kernel:?}"), |bencher| {
            bencher.iter(|| {
                let mut chains: Vec<Chain> = (0..CHAINS).map(chain).collect();
                kernel.run(&mut chains);
                chains
            });
        });
    }
    group.bench_function("sha2", |bencher| {
        bencher.iter(|| {
            let hash = |state: [u8; 32], _| Sha256::digest(state).into();
            (0..CHAINS * CHAIN_HASHES).fold([7; 32], hash)
        });
    });
    group.finish();
}

fn slots(criterion: &mut Criterion, pool: &ThreadPool) {
    let block = block();
    let (history, entries) = (history(&block), agave_entries(&block));
    let parent = parent(&block);
    let mut group = group(criterion, "slot", history.hashes());
    group.bench_function("sluice", |bencher| {
        bencher.iter(|| pool.install(|| black_box(&history).prove()).expect("an honest slot"));
    });
    group.bench_function("agave", |bencher| {
        let start = parent.into();
        bencher.iter(|| assert!(pool.install(|| verify_entries_cpu(black_box(&entries), &start)).status()));
    });
    group.bench_function("sha2", |bencher| {
        bencher.iter(|| verify(parent, black_box(&block.entries), &block.transactions).expect("honest"));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let pool = ThreadPoolBuilder::new().num_threads(1).build().expect("a thread can be started");
    kernels(&mut criterion);
    slots(&mut criterion, &pool);
    criterion.final_summary();
}
