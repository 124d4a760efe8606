//! A recording whose process was killed is readable up to the last whole block.

use std::fs::{self, File};
use std::path::Path;

use crate::support::{Cluster, Pipeline, Process, run, until};

/// What is recorded before the kill.
const ENOUGH_BYTES: u64 = 400_000;
/// What a cut in the middle of a write takes off: not the end of any block.
const CUT_BYTES: u64 = 1_001;

/// Plays `tape` as fast as it goes into another recording; its log, and the copy's length in bytes.
fn copied(folder: &Path, tape: &Path, name: &str) -> (String, u64) {
    let (copy, toml) = (folder.join(name), folder.join(format!("{name}.toml")));
    let text = format!(
        "[sources.tape]\ntype = \"replay\"\npath = \"{}\"\nspeed = \"max\"\n\
         [sinks.copy]\ntype = \"recorder\"\ninputs = [\"tape\"]\npath = \"{}\"\n",
        tape.display(),
        copy.display()
    );
    fs::write(&toml, text).expect("writable");
    let (status, log) = run(&toml).end();
    assert!(status.success(), "{log}");
    (log, fs::metadata(copy).expect("it was made").len())
}

#[test]
fn a_recording_that_was_killed_is_played_up_to_its_last_whole_block() {
    let mut cluster = Cluster::start(1, &["--slot-time", "20ms", "--faults", "none"]);
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = Pipeline::new(&cluster, folder.path().join("out"), 10).write("live.toml");
    let tape = folder.path().join("tape.recording");
    let recorder =
        Process::sluice(&[Path::new("record"), pipeline.as_path(), Path::new("--out"), tape.as_path()]);
    until("enough to be recorded", || fs::metadata(&tape).is_ok_and(|file| file.len() > ENOUGH_BYTES));
    recorder.kill();
    cluster.assert_alive();

    let length = fs::metadata(&tape).expect("it is there").len();
    let (_, whole) = copied(folder.path(), &tape, "whole");
    assert!(whole > length / 2, "{whole} of {length} bytes");
    File::options().write(true).open(&tape).and_then(|file| file.set_len(length - CUT_BYTES)).expect("cut");
    let (log, cut) = copied(folder.path(), &tape, "cut");
    assert!(log.contains("breaks off"), "{log}");
    assert!(cut <= whole && cut > whole / 2, "{cut} of {whole} bytes");
}
