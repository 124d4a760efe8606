//! A pipeline that is killed again and again, and started again on the same folder, ends up with the same files as one
//! that is left alone.

use std::fs;
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{
    Cluster, FIRST_SLOT, Pipeline, assert_same, audited, committed, files_before, run, until,
};

/// How often it is killed.
const KILLS: usize = 10;
/// Seeds the moments.
const SEED: u64 = 7;
/// Slots of a file: small, so that kills fall into commits.
const COMMIT_SLOTS: u64 = 5;

#[test]
fn ten_kills_at_random_moments_leave_the_files_of_an_undisturbed_run() {
    let mut cluster = Cluster::start(2, &["--slot-time", "50ms", "--faults", "default", "--seed", "3"]);
    let folder = tempfile::tempdir().expect("a folder");
    let calm = Pipeline::new(&cluster, folder.path().join("calm"), COMMIT_SLOTS);
    let killed = Pipeline::new(&cluster, folder.path().join("killed"), COMMIT_SLOTS);
    let undisturbed = run(&calm.write("calm.toml"));
    let toml = killed.write("killed.toml");

    let mut random = StdRng::seed_from_u64(SEED);
    let mut progress = Vec::new();
    for _ in 0..KILLS {
        let mut process = run(&toml);
        // The moment is the point of this test, not a condition to wait for.
        thread::sleep(Duration::from_millis(random.random_range(50..2_500)));
        assert!(process.is_running(), "{:?}", process.end());
        process.kill();
        progress.push(committed(&killed.out).len());
    }
    assert!(progress.last() > progress.first(), "kills fell between commits: {progress:?}");

    let last = run(&toml);
    let end = committed(&calm.out).last().expect("the undisturbed run got somewhere") + 2 * COMMIT_SLOTS;
    let is_there = |out| committed(out).iter().filter(|&&first| first < end).count() as u64 * COMMIT_SLOTS;
    until("both runs to get there", || {
        [&calm.out, &killed.out].into_iter().all(|out| is_there(out) == end - FIRST_SLOT)
    });
    cluster.assert_alive();
    for process in [undisturbed, last] {
        process.signal("TERM");
        let (status, log) = process.end();
        assert!(status.success(), "{log}");
    }

    assert_same(&files_before(&calm.out, end), &files_before(&killed.out, end));
    for out in [&calm.out, &killed.out] {
        let leftovers: Vec<_> = fs::read_dir(out.join("_staging")).expect("a folder").collect();
        assert!(leftovers.is_empty(), "{leftovers:?}");
        audited(out);
    }
}
