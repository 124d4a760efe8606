//! A recording whose process was killed is readable up to the last whole block.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sluice_stages::recording::format::Record;
use sluice_stages::recording::reader::Reader;

use crate::support::{Cluster, Pipeline, Process, run, until};

/// What is recorded before the kill.
const ENOUGH_BYTES: u64 = 400_000;
/// What a cut in the middle of a write takes off: not the end of any block.
const CUT_BYTES: u64 = 1_001;

/// The updates up to the last whole block, and where that ends.
fn updates(path: &Path) -> (Vec<Record>, u64) {
    let mut reader = Reader::open(path).expect("a recording");
    let mut updates = Vec::new();
    while let Some(block) = reader.next_block().expect("readable") {
        updates.extend(block.records.into_iter().filter(|record| matches!(record, Record::Frame { .. })));
    }
    let end = reader.torn_at().unwrap_or_else(|| fs::metadata(path).expect("it is there").len());
    (updates, end)
}

/// Plays `tape` as fast as it goes into another recording; its log, and the copy.
fn copied(folder: &Path, tape: &Path, name: &str) -> (String, PathBuf) {
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
    (log, copy)
}

/// The updates of a recording, without when and in which session they came.
fn frames(updates: &[Record]) -> Vec<&[u8]> {
    let mut frames = Vec::with_capacity(updates.len());
    for update in updates {
        if let Record::Frame { bytes, .. } = update {
            frames.push(&bytes[..]);
        }
    }
    frames
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
    let (whole, end) = updates(&tape);
    assert!(end > length / 2, "whole blocks end at {end} of {length} bytes");
    let (_, copy) = copied(folder.path(), &tape, "whole");
    assert_eq!(frames(&updates(&copy).0), frames(&whole));

    File::options().write(true).open(&tape).and_then(|file| file.set_len(end - CUT_BYTES)).expect("cut");
    let (log, copy) = copied(folder.path(), &tape, "cut");
    assert!(log.contains("breaks off"), "{log}");
    let (cut, _) = updates(&copy);
    assert!(!cut.is_empty() && cut.len() < whole.len(), "{} of {} updates", cut.len(), whole.len());
    assert_eq!(frames(&cut), frames(&whole[..cut.len()]));
}
