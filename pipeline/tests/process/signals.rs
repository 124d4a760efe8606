//! Signals and exit codes.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Cluster, FIRST_SLOT, Pipeline, Process, audited, committed, run, until};

fn cluster() -> Cluster {
    Cluster::start(1, &["--slot-time", "50ms", "--faults", "none"])
}

/// Starts a pipeline and waits for its first file.
fn running(pipeline: &Pipeline) -> Process {
    let process = run(&pipeline.write("pipeline.toml"));
    until("the first file", || !committed(&pipeline.out).is_empty());
    process
}

/// Starts a pipeline whose disk refuses every commit, and waits until it has done so.
fn refused(pipeline: &Pipeline) -> Process {
    let process = running(pipeline);
    // A file where the sink wants a folder; the sink may be making that folder at this moment.
    let blocked = pipeline.out.join("rewards");
    until("the folder to be gone", || {
        fs::remove_dir_all(&blocked).ok();
        fs::write(&blocked, "").is_ok()
    });
    process.wait_for("commit failed");
    process
}

fn assert_drains_on(signal: &str) {
    let (cluster, folder) = (cluster(), tempfile::tempdir().expect("a folder"));
    let pipeline = Pipeline::new(&cluster, folder.path().join("out"), 5);
    let process = running(&pipeline);
    process.signal(signal);
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("drained"), "{log}");
    audited(&pipeline.out);
}

#[test]
fn sigint_drains_and_exits_with_0() {
    assert_drains_on("INT");
}

#[test]
fn sigterm_drains_and_exits_with_0() {
    assert_drains_on("TERM");
}

#[test]
fn a_second_signal_ends_at_once_with_130() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().expect("a folder"));
    let process = refused(&Pipeline::new(&cluster, folder.path().join("out"), 5));
    process.signal("INT");
    process.wait_for("stopping");
    process.signal("TERM");
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(130), "{log}");
}

#[test]
fn a_disk_that_still_refuses_at_the_end_is_told_by_1() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().expect("a folder"));
    let process = refused(&Pipeline::new(&cluster, folder.path().join("out"), 5));
    process.signal("TERM");
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the disk refuses files"), "{log}");
}

#[test]
fn a_drain_beyond_the_deadline_is_told_by_3_with_the_nodes_that_did_not_end() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().expect("a folder"));
    let mut pipeline = Pipeline::new(&cluster, folder.path().join("out"), 5);
    pipeline.settings = "shutdown_deadline = \"100ms\"".to_owned();
    let process = refused(&pipeline);
    process.signal("TERM");
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("ended by force: files") || log.contains(", files"), "{log}");
}

#[test]
fn a_pipeline_with_errors_is_told_by_78_with_the_place_of_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let toml = folder.path().join("bad.toml");
    fs::write(
        &toml,
        "[sources.a]\ntype = \"yellowstone\"\nurk = \"http://a\"\n\n[sinks.b]\ntype = \"parquett\"\n",
    )
    .expect("writable");
    let (status, log) = run(&toml).end();
    assert_eq!(status.code(), Some(78), "{log}");
    assert!(log.contains("bad.toml:3") && log.contains("bad.toml:6"), "{log}");
}

#[test]
fn a_pipeline_that_is_not_there_is_told_by_78() {
    let (status, log) = run(Path::new("no/such/pipeline.toml")).end();
    assert_eq!(status.code(), Some(78), "{log}");
    assert!(log.contains("no/such/pipeline.toml"), "{log}");
}

#[test]
fn an_audit_tells_a_damaged_folder_by_1_and_a_whole_one_by_0() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().expect("a folder"));
    let pipeline = Pipeline::new(&cluster, folder.path().join("out"), 5);
    let process = running(&pipeline);
    until("a second file", || committed(&pipeline.out).len() > 1);
    process.signal("TERM");
    assert!(process.end().0.success());
    let verify = || Command::new(env!("CARGO_BIN_EXE_sluice")).arg("verify").arg(&pipeline.out).output();
    assert!(verify().expect("the binary is there").status.success());
    let name = format!("{FIRST_SLOT:012}-{:012}.parquet", FIRST_SLOT + 4);
    let epoch = format!("epoch={}", FIRST_SLOT / 432_000);
    fs::remove_file(pipeline.out.join("transactions").join(epoch).join(name))
        .expect("the first range is there");
    assert_eq!(verify().expect("the binary is there").status.code(), Some(1));
}
