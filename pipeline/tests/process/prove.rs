//! `sluice prove` on recordings of real servers, whole and in every state in which a recording may be found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Recorded by a subscription of everything; joined in the middle of slot 77.
const FULL: &str = "testvalidator-full-stream.subscribe_updates.bin.zst";
/// Recorded by a subscription with `from_slot`, of the same validator; the server left the last entry of slot 112 out.
const REPLAY: &str = "testvalidator-from-slot-replay.subscribe_updates.bin.zst";

fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cluster/data").join(name)
}

/// The exit code, and what was said to stdout and stderr.
fn prove(recordings: &[&Path]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    let output =
        command.arg("prove").args(recordings).env("NO_COLOR", "1").output().expect("the binary is there");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Frames of a recording as its file holds them, each with its length before it.
fn frames(name: &str) -> Vec<Vec<u8>> {
    let raw =
        zstd::decode_all(fs::File::open(recording(name)).expect("a file of the project")).expect("zstd");
    let mut frames = Vec::new();
    let mut rest = &raw[..];
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let (frame, others) = rest.split_at(4 + u32::from_be_bytes(*length) as usize);
        frames.push(frame.to_vec());
        rest = others;
    }
    frames
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("writable");
        path
    }
}

#[test]
fn the_full_stream_proves_but_for_the_slot_that_it_joined() {
    let (code, out, _) = prove(&[&recording(FULL)]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("135 slots proven, 0 broken, 1 joined"), "{out}");
    assert!(out.contains("slot 77: joined in the middle\n"), "{out}");
}

#[test]
fn the_replay_that_lost_an_entry_is_broken_there() {
    let (code, out, _) = prove(&[&recording(REPLAY)]);
    assert_eq!(code, Some(1), "{out}");
    let lost =
        "slot 112: broken at entry 64: the last entry's hash is not the blockhash: the end is missing\n";
    assert!(out.contains(lost) && out.contains("slot 121: joined in the middle\n"), "{out}");
    assert!(out.contains(" 1 broken, 1 joined"), "{out}");
}

#[test]
fn together_they_prove_all_but_the_slot_that_was_joined() {
    let both = [recording(FULL), recording(REPLAY)];
    for order in [[&both[0], &both[1]], [&both[1], &both[0]]] {
        let (code, out, _) = prove(&order.map(PathBuf::as_path));
        assert_eq!(code, Some(0), "{out}");
        assert!(out.contains("135 slots proven, 0 broken, 1 joined"), "{out}");
        assert!(out.contains("slot 77: joined in the middle\n") && !out.contains("112"), "{out}");
    }
}

#[test]
fn a_recording_may_be_plain_or_packed_and_its_frames_in_any_order() {
    let folder = Folder::new();
    let mut frames = frames(FULL);
    let plain = folder.file("plain.bin", &frames.concat());
    frames.reverse();
    let backwards = folder.file("backwards.bin", &frames.concat());
    for path in [&plain, &backwards] {
        let (code, out, _) = prove(&[path]);
        assert_eq!(code, Some(0), "{out}");
        assert!(out.contains("135 slots proven, 0 broken"), "{}: {out}", path.display());
    }
}

#[test]
fn a_recording_that_breaks_off_proves_up_to_there_and_says_where() {
    let folder = Folder::new();
    let packed = fs::read(recording(FULL)).expect("a file of the project");
    let plain = frames(FULL).concat();
    for (name, bytes) in [("packed.zst", &packed), ("plain.bin", &plain)] {
        let path = folder.file(name, &bytes[..bytes.len() / 2 + 1]);
        let (code, out, err) = prove(&[&path]);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(err.contains("breaks off at byte"), "{err}");
        let proven: u64 =
            out.lines().last().and_then(|line| line.split(' ').next()?.parse().ok()).expect("a number");
        assert!((10..135).contains(&proven), "{out}");
    }
}

#[test]
fn what_is_no_recording_is_refused_with_a_reason() {
    let folder = Folder::new();
    let garbage: Vec<u8> =
        (0..10_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let cases = [
        (folder.file("empty.bin", &[]), "is empty"),
        (folder.file("garbage.bin", &garbage), "is no recording"),
        (folder.file("text.toml", b"[sources.main]\ntype = \"yellowstone\"\n"), "is no recording"),
        (folder.file("short.zst", &[0x28, 0xb5, 0x2f, 0xfd, 0]), "is no recording"),
        (folder.file("head.bin", b"SLUICER1\x05\0\0\0\0\0\0\0"), "head of the recording is damaged"),
        (folder.0.path().join("nowhere.bin"), "No such file"),
        (folder.0.path().to_owned(), "directory"),
    ];
    for (path, reason) in cases {
        let (code, out, err) = prove(&[&path]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{}: {err}", path.display());
        assert!(err.contains(reason) && err.contains("can't prove"), "{}: {err}", path.display());
    }
}

#[test]
fn garbage_between_frames_and_frames_beyond_64_mib_cost_no_other_slot() {
    let folder = Folder::new();
    let mut frames = frames(FULL);
    // An account update (field 2 of the message) of 65 MiB.
    let size = 65_u32 << 20;
    let mut huge = vec![0x12];
    let mut length = size;
    while length >= 0x80 {
        huge.push(length as u8 | 0x80);
        length >>= 7;
    }
    huge.push(length as u8);
    huge.resize(huge.len() + size as usize, 0);
    let framed = |body: &[u8]| [&(body.len() as u32).to_be_bytes(), body].concat();
    frames.insert(1_000, framed(&huge));
    frames.insert(500, framed(&[0xff; 40]));
    let path = folder.file("huge.bin", &frames.concat());
    let (code, out, err) = prove(&[&path]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("135 slots proven, 0 broken"), "{out}");
    assert!(err.contains("can't be read"), "{err}");
}

#[test]
fn a_recording_without_entries_is_told_what_it_lacks() {
    let folder = Folder::new();
    // The kind of an update is the number of its first field behind `filters`; 8 is an entry.
    let is_entry = |frame: &Vec<u8>| {
        let mut body = &frame[4..];
        while let Some((&0x0a, rest)) = body.split_first() {
            body = &rest[1 + usize::from(rest[0])..];
        }
        body.first() == Some(&0x42)
    };
    let mut frames = frames(FULL);
    let all = frames.len();
    frames.retain(|frame| !is_entry(frame));
    assert!(frames.len() < all && !frames.is_empty());
    let path = folder.file("counted.bin", &frames.concat());
    let (code, out, err) = prove(&[&path]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("no entries were recorded") && err.contains("entries = true"), "{err}");
}
