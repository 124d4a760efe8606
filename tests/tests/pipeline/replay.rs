//! Recordings: the same one gives the same files, however often and how fast it is played.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice::runner::Watch;
use sluice_cluster::cluster::Config;
use sluice_cluster::faults::Profile;

use crate::support::{Lossless, assert_same, audited, files, parse, run_until, serve, small_ledger};

/// Slots of a cluster that is recorded.
const SLOTS: u64 = 60;
/// Slots behind the last one that is compared, so that it becomes final.
const TAIL_SLOTS: u64 = 20;
/// Slots of its files.
const COMMIT_SLOTS: u64 = 10;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/data").join(name)
}

/// A pipeline of replays and nothing that could fetch what they lack.
fn text(recordings: &[(&Path, &str)], out: &Path, commit_slots: u64, start_slot: u64) -> String {
    let mut text = String::new();
    let mut names = Vec::new();
    for (position, (path, speed)) in recordings.iter().enumerate() {
        let path = path.display();
        writeln!(text, "[sources.tape_{position}]\ntype = \"replay\"\npath = \"{path}\"\nspeed = {speed}")
            .expect("a string takes everything");
        names.push(format!("\"tape_{position}\""));
    }
    let (names, out) = (names.join(", "), out.display());
    text + &format!(
        "[stages.first]\ntype = \"merge\"\ninputs = [{names}]\n[stages.once]\ntype = \"dedupe\"\ninputs = [\"first\"]\n\
         [stages.slots]\ntype = \"gap_detector\"\ninputs = [\"once\"]\n[stages.final]\ntype = \"commitment\"\n\
         inputs = [\"slots\"]\nlevel = \"finalized\"\n[sinks.files]\ntype = \"parquet\"\ninputs = [\"final\"]\n\
         path = \"{out}\"\ncommit_slots = {commit_slots}\nstart_slot = {start_slot}\n"
    )
}

/// The files that a run to the end of the recordings makes.
async fn played(
    recordings: &[(&Path, &str)],
    commit_slots: u64,
    start_slot: u64,
) -> (BTreeMap<String, Vec<u8>>, Watch) {
    let root = tempfile::tempdir().expect("a folder");
    let plan = parse(&text(recordings, root.path(), commit_slots, start_slot));
    let (watch, result) = run_until(plan, |_| false).await;
    result.expect("ends with its recordings");
    (files(root.path()), watch)
}

fn count(files: &BTreeMap<String, Vec<u8>>, dataset: &str) -> usize {
    files.keys().filter(|name| name.starts_with(&format!("{dataset}/"))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_recording_of_a_real_validator_gives_the_same_files_at_any_speed() {
    let path = data("testvalidator-full-stream.subscribe_updates.bin.zst");
    let (once, watch) = played(&[(&path, "\"max\"")], 1, 78).await;
    assert!(watch.sum("source_updates_total") > 10_000, "{}", watch.sum("source_updates_total"));
    let slots = count(&once, "blocks");
    assert!(slots > 90, "{slots} slots");
    for dataset in ["transactions", "entries", "accounts"] {
        assert!(count(&once, dataset) > slots * 9 / 10, "{dataset} of {} slots", count(&once, dataset));
    }
    let (again, _) = played(&[(&path, "\"max\"")], 1, 78).await;
    assert_same(&once, &again, "played twice");
    let (paced, _) = played(&[(&path, "20")], 1, 78).await;
    assert_same(&once, &paced, "played at twenty times its speed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_joined_in_the_middle_gives_the_same_files_again() {
    let path = data("testvalidator-from-slot-replay.subscribe_updates.bin.zst");
    let (once, _) = played(&[(&path, "\"max\"")], 1, 100).await;
    let (again, _) = played(&[(&path, "\"max\"")], 1, 100).await;
    assert!(count(&once, "blocks") > 10, "{} slots", count(&once, "blocks"));
    assert_same(&once, &again, "played twice");
}

/// Records a cluster under faults while a pipeline makes files of it.
async fn recorded(faults: Profile, root: &Path) -> (PathBuf, BTreeMap<String, Vec<u8>>, u64) {
    let config = Config {
        endpoints: 3,
        seed: 11,
        faults,
        slot_time: Duration::from_millis(20),
        finalized_after: 8,
        ..Config::default()
    };
    let served = serve(small_ledger(SLOTS + TAIL_SLOTS), config, 3).await;
    let mut live = Lossless::new(&served, &root.join("live"), COMMIT_SLOTS);
    live.source = "transactions = true\nentries = true\naccounts = true\n".to_owned();
    let tape = root.join("tape.recording");
    let plan = parse(&format!(
        "{}[sinks.tape]\ntype = \"recorder\"\ninputs = [\"endpoint_0\", \"endpoint_1\", \"endpoint_2\"]\npath = \"{}\"\n",
        live.text(),
        tape.display()
    ));
    let end = live.start_slot + SLOTS;
    let (watch, result) = run_until(plan, |_| live.is_committed(end - 1)).await;
    result.expect("drained without an error");
    assert!(watch.sum("recorder_updates_total") > 1_000);
    served.shutdown().await.expect("the cluster served to its end");
    audited(&live.out);
    (tape, files(&live.out), live.start_slot)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_a_cluster_under_faults_gives_the_same_files_again_and_those_of_the_live_run() {
    let root = tempfile::tempdir().expect("a folder");
    let (tape, live, start_slot) = recorded(Profile::Default, root.path()).await;
    let (once, _) = played(&[(&tape, "\"max\"")], COMMIT_SLOTS, start_slot).await;
    let (again, _) = played(&[(&tape, "\"max\"")], COMMIT_SLOTS, start_slot).await;
    assert_same(&once, &again, "played twice");
    assert!(count(&once, "transactions") > 0, "whole ranges came through three endpoints alone");
    let differing: Vec<_> =
        once.iter().filter(|(name, bytes)| live.get(*name).is_some_and(|live| live != *bytes)).collect();
    assert!(differing.is_empty(), "{:?}", differing.iter().map(|(name, _)| name).collect::<Vec<_>>());
}
