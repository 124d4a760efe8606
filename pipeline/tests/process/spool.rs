//! What a spool is for: entries and accounts of slots that were not committed when the process was killed. No RPC has
//! them, and servers replay only the last few slots.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{
    Cluster, FIRST_SLOT, Pipeline, assert_same, audited, committed, files_before, run, until,
};

/// How often it is killed.
const KILLS: usize = 2;
/// Seeds the moments.
const SEED: u64 = 11;
/// Slots of a file: more than servers replay.
const COMMIT_SLOTS: u64 = 100;
/// Slots that servers replay: what comes while a process starts and until it misses something, and no more.
const REPLAY_WINDOW: &str = "60";
/// What only a stream can give.
const EXTRAS: [&str; 2] = ["entries", "accounts"];

fn pipeline(cluster: &Cluster, root: &Path, name: &str, has_spool: bool) -> Pipeline {
    pipeline_of(cluster, root, name, has_spool, COMMIT_SLOTS)
}

fn pipeline_of(cluster: &Cluster, root: &Path, name: &str, has_spool: bool, commit_slots: u64) -> Pipeline {
    let mut pipeline = Pipeline::new(cluster, root.join(name), commit_slots);
    pipeline.source = "entries = true\naccounts = true\n".to_owned();
    pipeline.spool = has_spool.then(|| root.join(format!("{name}.spool")));
    pipeline
}

fn extras(out: &Path, end: u64) -> usize {
    let is_extra = |name: &&String| EXTRAS.iter().any(|dataset| name.starts_with(dataset));
    files_before(out, end).keys().filter(is_extra).count()
}

#[test]
fn a_killed_process_with_a_spool_loses_neither_entries_nor_accounts() {
    let mut cluster =
        Cluster::start(2, &["--slot-time", "50ms", "--faults", "none", "--replay-window", REPLAY_WINDOW]);
    let folder = tempfile::tempdir().expect("a folder");
    let calm = pipeline(&cluster, folder.path(), "calm", false);
    let spooled = pipeline(&cluster, folder.path(), "spooled", true);
    let bare = pipeline(&cluster, folder.path(), "bare", false);
    let undisturbed = run(&calm.write("calm.toml"));
    let (spooled_toml, bare_toml) = (spooled.write("spooled.toml"), bare.write("bare.toml"));

    let mut random = StdRng::seed_from_u64(SEED);
    for kill in 0..KILLS {
        let mut processes = [run(&spooled_toml), run(&bare_toml)];
        until("the next range", || {
            [&spooled.out, &bare.out].into_iter().all(|out| committed(out).len() > kill)
        });
        // In the middle of the range that is open then; the moment is the point of this test, not a condition to wait for.
        thread::sleep(Duration::from_millis(random.random_range(1_800..2_600)));
        for process in &mut processes {
            assert!(process.is_running(), "{}", process.log());
        }
        processes.into_iter().for_each(|process| process.kill());
    }

    let (last, control) = (run(&spooled_toml), run(&bare_toml));
    let end = committed(&calm.out).last().expect("the undisturbed run got somewhere") + 2 * COMMIT_SLOTS;
    let is_there = |out| committed(out).iter().filter(|&&first| first < end).count() as u64 * COMMIT_SLOTS;
    until("all runs to get there", || {
        [&calm.out, &spooled.out, &bare.out].into_iter().all(|out| is_there(out) == end - FIRST_SLOT)
    });
    cluster.assert_alive();
    let mut logs = Vec::new();
    for process in [undisturbed, last, control] {
        process.signal("TERM");
        let (status, log) = process.end();
        assert!(status.success(), "{log}");
        logs.push(log);
    }

    assert_same(&files_before(&calm.out, end), &files_before(&spooled.out, end));
    assert_eq!(extras(&calm.out, end) as u64, 2 * (end - FIRST_SLOT) / COMMIT_SLOTS, "{}", logs[0]);
    assert!(
        extras(&bare.out, end) < extras(&calm.out, end),
        "without a spool there would be nothing to lose"
    );
    assert!(logs[1].contains("playing what an earlier run left"), "{}", logs[1]);
    audited(&spooled.out);
}

/// Slots of a file into which two kills fit, with more than a replay window between them.
const LONG_COMMIT_SLOTS: u64 = 240;
/// How long what was missed has to lie back until no server replays it any more.
const BEYOND_THE_WINDOW: Duration = Duration::from_millis(60 * 50 + 500);

#[test]
fn two_kills_in_one_range_lose_nothing_of_what_was_recovered_in_between() {
    let mut cluster =
        Cluster::start(2, &["--slot-time", "50ms", "--faults", "none", "--replay-window", REPLAY_WINDOW]);
    let folder = tempfile::tempdir().expect("a folder");
    let calm = pipeline_of(&cluster, folder.path(), "calm", false, LONG_COMMIT_SLOTS);
    let spooled = pipeline_of(&cluster, folder.path(), "spooled", true, LONG_COMMIT_SLOTS);
    let undisturbed = run(&calm.write("calm.toml"));
    let toml = spooled.write("spooled.toml");
    let first = run(&toml);
    until("the first range", || !committed(&spooled.out).is_empty());
    // Final is what came half a second ago, so the next range has begun.
    first.kill();
    let second = run(&toml);
    second.wait_for("gap filled");
    // The moment is the point: what was recovered is in no window any more, and its range is not committed.
    thread::sleep(BEYOND_THE_WINDOW);
    assert_eq!(committed(&spooled.out).len(), 1, "{}", second.log());
    second.kill();
    let third = run(&toml);
    let end = committed(&calm.out).first().expect("it is there") + 2 * LONG_COMMIT_SLOTS;
    until("both runs to get there", || {
        [&calm.out, &spooled.out].into_iter().all(|out| committed(out).contains(&(end - LONG_COMMIT_SLOTS)))
    });
    cluster.assert_alive();
    for process in [undisturbed, third] {
        process.signal("TERM");
        let (status, log) = process.end();
        assert!(status.success(), "{log}");
    }
    assert_same(&files_before(&calm.out, end), &files_before(&spooled.out, end));
    assert_eq!(extras(&calm.out, end) as u64, 2 * (end - FIRST_SLOT) / LONG_COMMIT_SLOTS);
    audited(&spooled.out);
}
