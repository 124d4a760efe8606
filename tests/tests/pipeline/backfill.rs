//! Files that were filled afterwards are the files of the live stream, at the pace that the node allows.

mod killed;
mod limited;
mod ranged;
mod spans;
mod starved;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice::commands::backfill::{self, BackfillArgs, BackfillSlots, EXIT_HOLES};
use sluice::commands::repair::{self, RepairArgs};
use sluice::overrides::Overrides;
use sluice_cluster::cluster::Config;
use sluice_cluster::faults::Profile;
use sluice_cluster::ledger::car::CarWriter;
use sluice_cluster::server::Running as Served;
use sluice_cluster::truth::TruthSlot;

use crate::support::{Lossless, assert_same, audited, files, serve, small_ledger, until};
use limited::Limit;
use starved::Metronome;

/// Slots of a file.
const COMMIT_SLOTS: u64 = 250;
/// Slots behind those that are compared: the last one has to become final and to have a child.
const TAIL_SLOTS: u64 = 60;

/// A cluster that has played `slots` slots, and the files that a live pipeline made of them.
struct Past {
    served: Arc<Served>,
    first: u64,
    slots: u64,
    live: BTreeMap<String, Vec<u8>>,
}

impl Past {
    async fn of(slots: u64, rpc_faults: Profile) -> Self {
        let config = Config {
            endpoints: 1,
            faults: Profile::None,
            slot_time: Duration::from_millis(4),
            finalized_after: 8,
            ..Config::default()
        };
        let served = serve(small_ledger(slots + TAIL_SLOTS), config.clone(), 1).await;
        let root = tempfile::tempdir().expect("a folder");
        let pipeline = Lossless::new(&served, root.path(), COMMIT_SLOTS);
        let first = pipeline.start_slot;
        pipeline.run_until_committed(first + slots - 1).await;
        served.shutdown().await.expect("the cluster served to its end");
        let live = files(root.path());
        let config = Config { faults: rpc_faults, slot_time: Duration::from_micros(1), ..config };
        let served = Arc::new(serve(small_ledger(slots + TAIL_SLOTS), config, 0).await);
        let end = served.cluster().end().expect("the ledger has an end");
        until("the ledger to be played", None, || served.now() > end).await;
        Self { served, first, slots, live }
    }

    /// An archive of all slots that are compared.
    fn archive(&self) -> Vec<u8> {
        let mut writer = CarWriter::default();
        for slot in self.first..self.first + self.slots {
            if let Some(TruthSlot::Block(version)) = self.served.cluster().truth().slot(slot) {
                writer.block(&version.block);
            }
        }
        writer.end()
    }

    /// The live pipeline's file, with an RPC node at `rpc_url`.
    fn pipeline(&self, out: &Path, rpc_url: &str, rpc: &str) -> PathBuf {
        let mut pipeline = Lossless::new(&self.served, out, COMMIT_SLOTS);
        pipeline.rpc_url = rpc_url.to_owned();
        let text = pipeline.text().replace("requests_per_second = 500, burst = 500", rpc);
        let path = out.with_extension("toml");
        fs::write(&path, text).expect("written");
        path
    }

    fn args(&self, pipeline: PathBuf, slots: u64) -> BackfillArgs {
        let span = format!("{}..{}", self.first, self.first + slots).parse().expect("a span");
        let what = BackfillSlots { slots: Some(span), epoch: None, since: None };
        args(pipeline, what)
    }
}

fn args(pipeline: PathBuf, what: BackfillSlots) -> BackfillArgs {
    let overrides = Overrides::default();
    BackfillArgs { pipeline, what, workers: None, car: None, car_root: None, overrides }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let out = root.path().join("out");
    (root, out)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_slots_come_at_the_limits_speed_never_over_it_and_equal_the_live_files() {
    let past = Past::of(2_000, Profile::None).await;
    // The node allows larger bursts than it is told to the client, as packets bunch up on their way.
    let limit = Limit { requests_per_second: 100, burst: 60, errors: 25 };
    let node = limited::start(Arc::clone(&past.served), limit).await;
    let (_root, out) = folder();
    let pipeline = past.pipeline(&out, &node.url, "requests_per_second = 100, burst = 10");
    let (began, metronome) = (Instant::now(), Metronome::start());
    let code = backfill::run(past.args(pipeline, past.slots)).await;
    let (took, starved) = (began.elapsed(), metronome.end());
    assert_eq!(code, ExitCode::SUCCESS);
    let seen = node.seen();
    assert_eq!(seen.over_the_limit, 0, "{seen:?}");
    assert!(seen.errors > 50, "{seen:?}");
    let at_the_limit = Duration::from_secs_f64(seen.requests as f64 / 100.0);
    let allowed = at_the_limit.mul_f64(1.15) + Duration::from_secs(1) + starved;
    assert!(took < allowed, "{took:?} of {allowed:?} for {seen:?}; the machine took {starved:?}");
    println!("{} requests in {took:?} ({starved:?} starved), {} failed", seen.requests, seen.errors);
    audited(&out);
    assert_same(&past.live, &files(&out), "backfilled files differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_are_asked_and_the_pace_is_the_sum_of_theirs() {
    let past = Past::of(1_000, Profile::None).await;
    let limit = |requests_per_second, errors| Limit { requests_per_second, burst: 60, errors };
    let fast = limited::start(Arc::clone(&past.served), limit(60, 20)).await;
    let slow = limited::start(Arc::clone(&past.served), limit(30, 1_000_000)).await;
    let (_root, out) = folder();
    let pipeline = past.pipeline(&out, &fast.url, "requests_per_second = 60, burst = 10");
    let text = fs::read_to_string(&pipeline).expect("it was written");
    let (before, rest) = text.split_once("rpc = ").expect("a recovery");
    let (first, after) = rest.split_once('\n').expect("a line");
    let second = format!("{{ url = \"{}\", requests_per_second = 30, burst = 10 }}", slow.url);
    fs::write(&pipeline, format!("{before}rpc = [{first}, {second}]\n{after}")).expect("written");
    let (began, metronome) = (Instant::now(), Metronome::start());
    assert_eq!(backfill::run(past.args(pipeline, past.slots)).await, ExitCode::SUCCESS);
    let (took, starved) = (began.elapsed(), metronome.end());
    let (fast, slow) = (fast.seen(), slow.seen());
    assert_eq!((fast.over_the_limit, slow.over_the_limit), (0, 0));
    let at_the_limits = Duration::from_secs_f64((fast.requests + slow.requests) as f64 / 90.0);
    let allowed = at_the_limits.mul_f64(1.15) + Duration::from_secs(1) + starved;
    assert!(took < allowed, "{took:?} of {allowed:?} for {fast:?} and {slow:?}");
    assert_same(&past.live, &files(&out), "files from two nodes differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_was_aborted_goes_on_where_it_was() {
    let past = Past::of(1_000, Profile::Default).await;
    let node = limited::start(Arc::clone(&past.served), Limit::generous()).await;
    let (_root, out) = folder();
    let pipeline = past.pipeline(&out, &node.url, "requests_per_second = 400, burst = 10");
    let first = tokio::spawn(backfill::run(past.args(pipeline.clone(), past.slots)));
    let blocks = out.join("blocks/epoch=200");
    let committed = || fs::read_dir(&blocks).map_or(0, Iterator::count);
    until("the first half", None, || committed() >= 2 || first.is_finished()).await;
    first.abort();
    assert!(first.await.is_err_and(|ended| ended.is_cancelled()), "it was killed on its way");
    let (there, before) = (committed() as u64, node.seen().blocks);
    assert!(there < past.slots / COMMIT_SLOTS, "{there} ranges were there");
    // Its tasks end when they are looked at next, and with them its hold on the folder.
    let lock = fs::File::open(out.join(".lock")).expect("it is there");
    until("the folder to be let go", None, || lock.try_lock().is_ok()).await;
    drop(lock);
    assert_eq!(backfill::run(past.args(pipeline.clone(), past.slots)).await, ExitCode::SUCCESS);
    let again = node.seen().blocks - before;
    assert!(again as u64 <= 2 * (past.slots - there * COMMIT_SLOTS), "{again} blocks for what {there} left");
    assert_same(&past.live, &files(&out), "resumed files differ");
    let before = node.seen().requests;
    assert_eq!(backfill::run(past.args(pipeline, past.slots)).await, ExitCode::SUCCESS);
    assert_eq!(node.seen().requests, before, "all of it is there: nobody is asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_final_yet_is_told_and_the_rest_is_written() {
    let past = Past::of(500, Profile::None).await;
    let (_root, out) = folder();
    let pipeline = past.pipeline(&out, past.served.rpc_url(), "requests_per_second = 2000, burst = 100");
    let code = backfill::run(past.args(pipeline, past.slots + COMMIT_SLOTS)).await;
    assert_eq!(code, ExitCode::from(EXIT_HOLES));
    assert_same(&past.live, &files(&out), "the files of what is final");
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_finds_lost_files_and_brings_back_the_same() {
    let past = Past::of(1_000, Profile::Default).await;
    let (_root, out) = folder();
    let pipeline = past.pipeline(&out, past.served.rpc_url(), "requests_per_second = 2000, burst = 100");
    assert_eq!(backfill::run(past.args(pipeline.clone(), past.slots)).await, ExitCode::SUCCESS);
    let name = |first: u64| format!("epoch=200/{first:012}-{:012}.parquet", first + COMMIT_SLOTS - 1);
    let second = name(past.first + COMMIT_SLOTS);
    for dataset in ["blocks", "transactions", "instructions"] {
        fs::remove_file(out.join(dataset).join(&second)).expect("it is there");
    }
    fs::remove_file(out.join("rewards").join(name(past.first + 2 * COMMIT_SLOTS))).expect("it is there");
    let repair = |paths: Vec<PathBuf>, dry_run| {
        repair::run(RepairArgs { paths, dry_run, workers: Some(4), overrides: Overrides::default() })
    };
    let dry = files(&out);
    assert_eq!(repair(vec![pipeline.clone()], true).await, ExitCode::from(EXIT_HOLES));
    assert_same(&dry, &files(&out), "a dry run changes nothing");
    let moved = out.with_file_name("moved");
    fs::rename(&out, &moved).expect("renamed");
    assert_eq!(repair(vec![moved.clone(), pipeline.clone()], false).await, ExitCode::SUCCESS);
    assert_same(&past.live, &files(&moved), "repaired files differ");
    for gone in [&["rewards"][..], &["transactions", "instructions", "token_balances"]] {
        for dataset in gone {
            fs::remove_dir_all(moved.join(dataset)).expect("it is there");
        }
        let paths = vec![moved.clone(), pipeline.clone()];
        assert_eq!(repair(paths.clone(), true).await, ExitCode::from(EXIT_HOLES), "{gone:?} are missed");
        assert_eq!(repair(paths, false).await, ExitCode::SUCCESS);
        assert_same(&past.live, &files(&moved), "datasets that were gone as a whole differ");
    }
    assert_eq!(repair(vec![moved.clone(), pipeline], true).await, ExitCode::SUCCESS);
    assert_eq!(
        repair(vec![moved], false).await,
        ExitCode::FAILURE,
        "a folder does not say where to fetch from"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_gives_the_same_files_with_two_blocks_from_rpc() {
    let past = Past::of(1_000, Profile::None).await;
    let node = limited::start(Arc::clone(&past.served), Limit::generous()).await;
    let archive = past.archive();
    let (root, out) = folder();
    let pipeline = past.pipeline(&out, &node.url, "requests_per_second = 400, burst = 10");
    let file = root.path().join("epoch.car");
    fs::write(&file, &archive).expect("written");
    let from = |place: String, pipeline: PathBuf| BackfillArgs {
        car: Some(place),
        ..past.args(pipeline, past.slots)
    };
    assert_eq!(backfill::run(from(file.display().to_string(), pipeline)).await, ExitCode::SUCCESS);
    assert!(node.seen().blocks <= 6, "{:?}", node.seen());
    audited(&out);
    assert_same(&past.live, &files(&out), "the archive's files differ");

    let (_root, out) = folder();
    let pipeline = past.pipeline(&out, &node.url, "requests_per_second = 400, burst = 10");
    // The root of another archive: that of DAG-CBOR's empty map.
    let other = "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua".parse().expect("a root");
    let args = BackfillArgs { car_root: Some(other), ..from(file.display().to_string(), pipeline) };
    assert_eq!(backfill::run(args).await, ExitCode::FAILURE);
    let written = files(&out).into_keys().filter(|name| name.ends_with(".parquet")).count();
    assert_eq!(written, 0, "nothing is taken from an archive that is not the published one");

    let server = ranged::start(archive, 5).await;
    let (_root, out) = folder();
    let pipeline = past.pipeline(&out, &node.url, "requests_per_second = 400, burst = 10");
    assert_eq!(backfill::run(from(server.url.clone(), pipeline)).await, ExitCode::SUCCESS);
    assert_same(&past.live, &files(&out), "the served archive's files differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_is_told_and_what_it_gave_is_right() {
    let past = Past::of(500, Profile::None).await;
    let (root, out) = folder();
    let pipeline = past.pipeline(&out, past.served.rpc_url(), "requests_per_second = 400, burst = 10");
    let mut archive = past.archive();
    let late = archive.len() * 9 / 10;
    archive[late] ^= 1;
    let file = root.path().join("epoch.car");
    fs::write(&file, &archive).expect("written");
    let car = Some(file.display().to_string());
    let args = BackfillArgs { car, ..past.args(pipeline.clone(), past.slots) };
    assert_eq!(backfill::run(args).await, ExitCode::FAILURE);
    let partial = files(&out);
    assert!(
        partial.iter().all(|(name, bytes)| past.live.get(name) == Some(bytes)),
        "wrong files were written"
    );
    assert_eq!(backfill::run(past.args(pipeline, past.slots)).await, ExitCode::SUCCESS);
    assert_same(&past.live, &files(&out), "RPC makes up for the archive");
}
