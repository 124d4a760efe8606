//! The hot paths one by one, on the frames of two slots of real transactions, in one thread.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use sluice_benches::feed::{COMMIT_SLOTS, Feed};
use sluice_benches::sink_run::SinkRun;
use sluice_stages::batch::{Batch, Item, Scope, SessionId, Update, Want};
use sluice_stages::component::Start;
use sluice_stages::dedupe::Dedupe;
use sluice_stages::frame::{Frame, Kind, scan};
use sluice_stages::gap_detector::GapDetector;
use sluice_stages::slot::Timestamp;
use sluice_stages::stage::{Output, Stage};
use sluice_stages::transaction::Transaction;

/// The allocator of the binary `sluice`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Slots of the frames.
const SLOTS: u64 = 2;
/// Updates handed to a stage at once, as the source does.
const BATCH_UPDATES: usize = 256;

fn updates(feed: &Feed) -> Vec<Update> {
    let frames = feed.frames.iter();
    let frames = frames.map(|bytes| Frame::try_new(bytes.clone()).expect("the cluster's own frame"));
    let session = SessionId { endpoint: 0, number: 0 };
    frames.map(|frame| Update { frame, session, received_at: Timestamp(1), lease: None }).collect()
}

fn batches(updates: &[Update]) -> Vec<Batch> {
    updates.chunks(BATCH_UPDATES).map(|chunk| chunk.iter().cloned().map(Item::Update).collect()).collect()
}

fn run(stage: &mut dyn Stage, batches: Vec<Batch>) -> Vec<Batch> {
    let step = |batch| {
        let mut out = Output::default();
        stage.on_batch(Timestamp(1), 0, batch, &mut out);
        out.items
    };
    batches.into_iter().map(step).collect()
}

fn gap_detector() -> GapDetector {
    let scope = Scope { transactions: Want::Everything, ..Scope::default() };
    GapDetector::new(Default::default(), scope, Start::Tip)
}

fn group<'c>(criterion: &'c mut Criterion, name: &str, count: usize) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(count as u64));
    group
}

fn wire(criterion: &mut Criterion) {
    let feed = Feed::generate(SLOTS).expect("a perfect cluster");
    let updates = updates(&feed);
    let mut group = group(criterion, "wire", updates.len());
    group.bench_function("scan", |bencher| {
        bencher
            .iter(|| updates.iter().filter(|update| scan(black_box(update.frame.bytes())).is_ok()).count());
    });
    let transactions = updates.iter().filter(|update| update.frame.header.kind == Kind::Transaction);
    let bodies: Vec<&[u8]> = transactions.map(|update| update.frame.body()).collect();
    let mut transaction = Transaction::default();
    group.bench_function("read a transaction", |bencher| {
        bencher.iter(|| bodies.iter().for_each(|body| transaction.read(body).expect("valid")));
    });
}

fn stages(criterion: &mut Criterion) {
    let feed = Feed::generate(SLOTS).expect("a perfect cluster");
    let updates = updates(&feed);
    let firsts = batches(&updates);
    let mut group = group(criterion, "stages", updates.len());
    group.bench_function("dedupe, first", |bencher| {
        let fresh = || (Dedupe::new(Default::default()), firsts.clone());
        bencher.iter_batched(fresh, |(mut dedupe, batches)| run(&mut dedupe, batches), BatchSize::LargeInput);
    });
    group.bench_function("dedupe, repeat", |bencher| {
        let mut dedupe = Dedupe::new(Default::default());
        run(&mut dedupe, firsts.clone());
        bencher.iter_batched(|| firsts.clone(), |batches| run(&mut dedupe, batches), BatchSize::LargeInput);
    });
    let checked = run(&mut Dedupe::new(Default::default()), firsts.clone());
    group.bench_function("gap detector", |bencher| {
        let fresh = || (gap_detector(), checked.clone());
        bencher.iter_batched(fresh, |(mut ledger, batches)| run(&mut ledger, batches), BatchSize::LargeInput);
    });
}

fn base58(criterion: &mut Criterion) {
    let mut group = group(criterion, "base58", 1);
    let mut text = [0; 88];
    group.bench_function("key", |bencher| {
        let mut text = [0; 44];
        bencher.iter(|| five8::encode_32(black_box(&[171; 32]), &mut text));
    });
    group.bench_function("signature", |bencher| {
        bencher.iter(|| five8::encode_64(black_box(&[171; 64]), &mut text));
    });
}

/// The whole sink, from blocks to durable files.
fn parquet(criterion: &mut Criterion) {
    let feed = Feed::generate(COMMIT_SLOTS + 1).expect("a perfect cluster");
    let checked = run(&mut Dedupe::new(Default::default()), batches(&updates(&feed)));
    let blocks: Batch = run(&mut gap_detector(), checked)
        .into_iter()
        .flatten()
        .filter(|item| matches!(item, Item::Block(_)))
        .collect();
    let mut group = group(criterion, "parquet", feed.in_files().transactions as usize);
    group.sample_size(10);
    group.bench_function("transactions to files", |bencher| {
        let fresh = || SinkRun::new(blocks.clone()).expect("a free folder");
        bencher.iter_batched(fresh, |run| run.finish().expect("written"), BatchSize::PerIteration);
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for hot_path in [wire, stages, base58, parquet] {
        hot_path(&mut criterion);
    }
    criterion.final_summary();
}
