//! A disk that refuses holds the sources up, within the budget, and loses nothing.
//!
//! The cluster is a process of its own, so that the memory of this one is the pipeline's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sluice::plan::Plan;
use sluice::runner::{self, RunError, Running, Watch};
use tokio::task::JoinHandle;

use crate::support::{Cluster, FIRST_SLOT, Pipeline, assert_same, audited, committed, files_before, until};

/// Slots that are played: enough to fill the budget several times.
const SLOTS: u64 = 250;
/// Slots of a file.
const COMMIT_SLOTS: u64 = 10;
/// Slots behind the last whole file that may be left: the last one has to become final, and to have a child.
const TAIL_SLOTS: u64 = 40;
/// The budget: some 80 slots.
const LIMIT_BYTES: usize = 8 << 20;
/// What a process needs beside its frames: connections, encoders, what the allocator keeps.
const OVERHEAD_BYTES: u64 = 96 << 20;
/// How long a drain may take.
const DEADLINE: Duration = Duration::from_secs(30);

fn cluster() -> Cluster {
    let slots = (SLOTS + TAIL_SLOTS).to_string();
    Cluster::start(2, &["--slots", &slots, "--slot-time", "15ms", "--faults", "none"])
}

fn pipeline(cluster: &Cluster, out: PathBuf) -> Pipeline {
    let mut pipeline = Pipeline::new(cluster, out, COMMIT_SLOTS);
    pipeline.settings = format!("memory_limit = \"{}MiB\"", LIMIT_BYTES >> 20);
    pipeline
}

/// The files of a run that nothing disturbs.
fn undisturbed(folder: &Path) -> PathBuf {
    let cluster = cluster();
    let pipeline = pipeline(&cluster, folder.join("calm"));
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let started = Started::new(&runtime, &pipeline);
    until("the undisturbed run to get there", || is_complete(&pipeline));
    started.stop(&runtime).expect("drained");
    pipeline.out
}

fn is_complete(pipeline: &Pipeline) -> bool {
    committed(&pipeline.out).iter().filter(|&&first| first < FIRST_SLOT + SLOTS).count() as u64
        == SLOTS / COMMIT_SLOTS
}

/// A pipeline of this process.
struct Started {
    watch: Watch,
    stop: tokio_util::sync::CancellationToken,
    joined: JoinHandle<Result<(), RunError>>,
}

impl Started {
    fn new(runtime: &tokio::runtime::Runtime, pipeline: &Pipeline) -> Self {
        let _inside = runtime.enter();
        let plan = Plan::parse("test.toml", &pipeline.text(), &|_: &str| None);
        let plan = plan.unwrap_or_else(|wrong| panic!("{}", wrong.render(false)));
        let running: Running = runner::start(plan).expect("all nodes can be made");
        let (watch, stop) = (running.watch(), running.stopper());
        Self { watch, stop, joined: runtime.spawn(running.join(DEADLINE)) }
    }

    fn stop(self, runtime: &tokio::runtime::Runtime) -> Result<(), RunError> {
        self.stop.cancel();
        runtime.block_on(self.joined).expect("the runner does not panic")
    }

    /// Time that senders of all edges out of sources have waited.
    fn sources_blocked(&self) -> Duration {
        let edges = self.watch.edges();
        edges.iter().filter(|(from, ..)| from.starts_with("endpoint")).map(|(.., stats)| stats.blocked).sum()
    }
}

/// The most memory that this process ever had.
fn high_water_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("a high-water mark");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

/// Stalls a disk with `refuse`, waits until the sources feel it, makes it good with `relent`, and compares.
fn assert_holds_up(
    pipeline: &Pipeline,
    calm: &Path,
    felt: impl Fn(&Started) -> bool,
    refuse: impl FnOnce(),
    relent: impl FnOnce(),
) {
    let before = high_water_bytes();
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let started = Started::new(&runtime, pipeline);
    refuse();
    until("the disk to refuse", || started.watch.sum("parquet_commit_failures_total") > 0);
    until("the sources to feel it", || felt(&started));
    relent();
    until("all to be there", || is_complete(pipeline));
    let (peak, limit) = (started.watch.budget().peak_bytes(), started.watch.budget().limit_bytes());
    started.stop(&runtime).expect("drained");
    assert!(peak <= limit, "{peak} bytes of frames");
    let grown = high_water_bytes() - before;
    assert!(grown <= LIMIT_BYTES as u64 + OVERHEAD_BYTES, "{grown} bytes more than before");
    audited(&pipeline.out);
    let end = FIRST_SLOT + SLOTS;
    assert_same(&files_before(calm, end), &files_before(&pipeline.out, end));
}

/// Puts a file where the sink will want a folder.
fn block(pipeline: &Pipeline) -> PathBuf {
    let blocked = pipeline.out.join("transactions");
    until("the place to be free", || fs::write(&blocked, "").is_ok());
    blocked
}

/// In a process of its own, as what other tests take in this one would count, too.
#[test]
fn a_disk_that_stalls_holds_sources_up_within_the_budget_and_loses_nothing() {
    let mut alone = Command::new(std::env::current_exe().expect("it runs"));
    let output = alone.args(["--exact", "backpressure::alone", "--ignored", "--nocapture"]).output();
    let output = output.expect("it can be started again");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "the process that another test starts"]
fn alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let calm = undisturbed(folder.path());
    by_the_budget(folder.path(), &calm);
    by_the_edges(folder.path(), &calm);
    by_a_full_disk(folder.path(), &calm);
}

/// With wide edges it is the budget that sources wait for.
fn by_the_budget(folder: &Path, calm: &Path) {
    let cluster = cluster();
    let pipeline = pipeline(&cluster, folder.join("budget"));
    let blocked = pipeline.out.join("transactions");
    assert_holds_up(
        &pipeline,
        calm,
        |started| started.watch.budget().waiting() > 0,
        || drop(block(&pipeline)),
        || fs::remove_file(blocked).expect("it is there"),
    );
}

/// With narrow edges it is the edges, from the sink up.
fn by_the_edges(folder: &Path, calm: &Path) {
    let cluster = cluster();
    let mut pipeline = pipeline(&cluster, folder.join("edges"));
    // So wide that it can't be what holds anybody up.
    pipeline.settings = "memory_limit = \"1GiB\"\n".to_owned();
    pipeline.narrow_items = Some(8);
    let blocked = pipeline.out.join("transactions");
    assert_holds_up(
        &pipeline,
        calm,
        |started| started.sources_blocked() > Duration::from_millis(500),
        || drop(block(&pipeline)),
        || fs::remove_file(blocked).expect("it is there"),
    );
}

/// A file system that is really full, where this process may mount one.
fn by_a_full_disk(folder: &Path, calm: &Path) {
    let cluster = cluster();
    let mount = folder.join("mount");
    fs::create_dir(&mount).expect("writable");
    let Some(disk) = FullDisk::mount(&mount) else {
        return eprintln!("skipped: this process may not mount a file system");
    };
    let pipeline = pipeline(&cluster, mount.join("out"));
    let waits = |started: &Started| started.watch.budget().waiting() > 0;
    assert_holds_up(&pipeline, calm, waits, || (), || disk.grow());
}

/// A small file system in memory.
struct FullDisk<'a>(&'a Path);

impl<'a> FullDisk<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        let mut command = Command::new("mount");
        let status = command.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path).output();
        status.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }

    fn grow(&self) {
        let status = Command::new("mount").args(["-o", "remount,size=1g"]).arg(self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "a mounted file system can grow");
    }
}

impl Drop for FullDisk<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.0).status().ok();
    }
}
