use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::format::{Head, HeadEndpoint, Record, RecordedBlock};
use super::player::{Guests, Player};
use super::reader::{Index, PLAIN_BLOCK_BYTES, Reader, RecordingError};
use super::writer::{Encoder, Writer};
use crate::batch::{Item, Scope, Session, SessionId, Update, Want};
use crate::fixtures::{TRANSACTIONS, meta, opened, session, transaction};
use crate::slot::Timestamp;
use crate::watch::{Watch, Watched};

fn update(endpoint: u16, slot: u64, index: u64, at: u64) -> Item {
    let update = transaction(endpoint, 7, slot, 1, index);
    Item::Update(Update { received_at: Timestamp(at), ..update })
}

fn closed(endpoint: u16, at: u64) -> Item {
    Item::Session(Session::Closed { id: session(endpoint), at: Timestamp(at) })
}

/// Records `items`, with a block after each `per_block` of them.
fn record(items: &[Item], per_block: usize) -> (Vec<u8>, Vec<u64>) {
    let mut encoder = Encoder::new(1);
    let endpoints = vec![HeadEndpoint { name: "endpoint".to_owned(), scope: TRANSACTIONS }];
    let head = Head { pipeline: "test".to_owned(), endpoints };
    let mut writer = Writer::begin(Vec::new(), &head).expect("memory takes everything");
    let mut ends = vec![writer.len_bytes()];
    for chunk in items.chunks(per_block) {
        chunk.iter().for_each(|item| encoder.push(item));
        let block = encoder.take().expect("packed").expect("not empty");
        writer.append(&block).expect("memory takes everything");
        ends.push(writer.len_bytes());
    }
    (writer.finish().expect("memory takes everything").0, ends)
}

fn read(path: &Path) -> (Vec<RecordedBlock>, Option<u64>) {
    let mut reader = Reader::open(path).expect("a recording");
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block().expect("readable") {
        blocks.push(block);
    }
    (blocks, reader.torn_at())
}

/// What is the same in what was recorded and what is played.
fn shown(items: &[Item]) -> Vec<(String, Timestamp, Bytes)> {
    let show = |item: &Item| match item {
        Item::Update(update) => ("update".to_owned(), update.received_at, update.frame.bytes().clone()),
        Item::Session(Session::Opened { endpoint, scope, at, .. }) => {
            (format!("{endpoint} {scope:?}"), *at, Bytes::new())
        }
        Item::Session(Session::Closed { at, .. }) => ("closed".to_owned(), *at, Bytes::new()),
        other => panic!("{other:?}"),
    };
    items.iter().map(show).collect()
}

fn play(blocks: Vec<RecordedBlock>) -> Vec<Item> {
    let mut player = Player::new(&[], Guests::default());
    blocks.into_iter().flat_map(|block| player.play(block)).collect()
}

fn story() -> Vec<Item> {
    let mut items = vec![opened(0, TRANSACTIONS), opened(1, TRANSACTIONS)];
    for index in 0..40 {
        items.push(update((index % 2) as u16, 100 + index / 4, index % 4, 1_000 + index * 10 - index % 3));
    }
    items.push(closed(0, 2_000));
    items.push(opened(0, Scope { entries: Want::Filtered, ..TRANSACTIONS }));
    items.extend((0..10).map(|index| update(0, 120, index, 2_100 + index)));
    items
}

#[test]
fn what_was_recorded_is_played_in_its_order_with_its_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("story");
    let items = story();
    for per_block in [1, 3, 7, 1_000] {
        fs::write(&path, record(&items, per_block).0).expect("writable");
        let (blocks, torn_at) = read(&path);
        assert_eq!(torn_at, None);
        assert_eq!(shown(&play(blocks)), shown(&items), "{per_block} items a block");
    }
}

#[test]
fn a_recording_cut_at_any_byte_reads_as_its_whole_blocks() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cut");
    let (bytes, ends) = record(&story(), 6);
    fs::write(&path, &bytes).expect("writable");
    let (all, _) = read(&path);
    let head = ends[0] as usize;
    for length in 0..=bytes.len() {
        fs::write(&path, &bytes[..length]).expect("writable");
        if length < head {
            let refused = Reader::open(&path).err().expect("no head, no recording");
            assert!(matches!(
                (length, refused),
                (0, RecordingError::Empty { .. })
                    | (1.., RecordingError::Head { .. } | RecordingError::Unknown { .. })
            ));
            continue;
        }
        let whole = ends[1..].iter().filter(|&&end| end <= length as u64).count();
        let (blocks, torn_at) = read(&path);
        assert_eq!(blocks, all[..whole], "cut at byte {length}");
        let end_of_blocks = *ends.last().expect("there are blocks");
        let is_torn = !ends.contains(&(length as u64)) && (length as u64) < end_of_blocks + 4;
        assert_eq!(torn_at.is_some(), is_torn, "cut at byte {length}");
        let index = Index::read(&mut File::open(&path).expect("there")).expect("readable").expect("one");
        assert_eq!(index.entries.len(), whole, "cut at byte {length}");
        assert_eq!(index.rebuilt, length < bytes.len());
    }
}

#[test]
fn a_flipped_bit_is_never_played() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("flipped");
    let (bytes, ends) = record(&story(), 6);
    fs::write(&path, &bytes).expect("writable");
    let (all, _) = read(&path);
    let end_of_blocks = *ends.last().expect("there are blocks") as usize;
    for at in ends[0] as usize..end_of_blocks {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, &damaged).expect("writable");
        let before = ends[1..].iter().filter(|&&end| end <= at as u64).count();
        let (blocks, torn_at) = read(&path);
        assert_eq!((blocks.as_slice(), torn_at), (&all[..before], Some(ends[before])), "byte {at}");
    }
}

#[test]
fn an_index_that_was_lost_is_made_anew_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index");
    let (bytes, ends) = record(&story(), 6);
    fs::write(&path, &bytes).expect("writable");
    let written = Index::read(&mut File::open(&path).expect("there")).expect("readable").expect("one");
    fs::write(&path, &bytes[..*ends.last().expect("blocks") as usize]).expect("writable");
    let rebuilt = Index::read(&mut File::open(&path).expect("there")).expect("readable").expect("one");
    assert_eq!((written.rebuilt, rebuilt.rebuilt), (false, true));
    assert_eq!(written.entries, rebuilt.entries);
    assert_eq!(written.entries[0].first_slot, 100);
    assert_eq!(written.entries.last().map(|entry| entry.last_slot), Some(120));
    assert_eq!(written.entries.last().map(|entry| entry.last_at), Some(Timestamp(2_109)));
}

#[test]
fn a_garbled_slot_number_does_not_stretch_the_index() {
    let mut encoder = Encoder::new(1);
    for slot in [100, 101, u64::MAX, 102] {
        encoder.push(&update(0, slot, 0, 0));
    }
    let entry = encoder.take().expect("packed").expect("not empty").entry;
    assert_eq!((entry.first_slot, entry.last_slot), (100, 102));
}

#[test]
fn a_replay_that_begins_later_opens_the_sessions_that_were_open_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("later");
    fs::write(&path, record(&story(), 6).0).expect("writable");
    let mut reader = Reader::open(&path).expect("a recording");
    reader.skip_to(Some(108), Duration::ZERO).expect("there is an index");
    let block = reader.next_block().expect("readable").expect("a block");
    let items = play(vec![block]);
    assert!(matches!(items[0], Item::Session(Session::Opened { .. })));
    assert!(matches!(items[1], Item::Session(Session::Opened { .. })));
    let slot = |item: &Item| match item {
        Item::Update(update) => Some(update.frame.header.slot),
        _ => None,
    };
    assert!(items.iter().filter_map(slot).max() >= Some(108));
    assert!(items.iter().filter_map(slot).min() > Some(100), "earlier blocks are not read");
}

/// The first slot and time that are played from there on; how it fails, if it does.
fn begun(path: &Path, slot: Option<u64>, after_micros: u64) -> Result<(u64, u64), RecordingError> {
    let mut reader = Reader::open(path)?;
    reader.skip_to(slot, Duration::from_micros(after_micros))?;
    let block = reader.next_block()?.expect("a block");
    let first = block.records.iter().find_map(|record| match record {
        Record::Frame { at, bytes, .. } => Some((crate::frame::scan(bytes).expect("a frame").slot, at.0)),
        _ => None,
    });
    Ok(first.expect("a frame"))
}

#[test]
fn a_replay_begins_at_a_slot_or_a_time_with_an_index_and_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let (indexed, packed) = (folder.path().join("indexed"), folder.path().join("packed"));
    let bytes = record(&story(), 6).0;
    fs::write(&indexed, &bytes).expect("writable");
    fs::write(&packed, zstd::encode_all(bytes.as_slice(), 1).expect("in memory")).expect("writable");
    for path in [&indexed, &packed] {
        let (slot, _) = begun(path, Some(108), 0).expect("it is there");
        assert!((107..=108).contains(&slot), "{slot}");
        let (_, at) = begun(path, None, 1_300).expect("it is there");
        assert!((1_230..=1_300).contains(&at), "{at}: six updates, 10 µs apart, are a block");
        let (slot, _) = begun(path, Some(101), 2_000).expect("it is there");
        assert_eq!(slot, 120, "both have to be reached");
        for (slot, after) in [(Some(500), 0), (None, 1_000_000)] {
            let error = begun(path, slot, after).expect_err("it ends before that");
            assert!(error.to_string().contains("its last slot is 120"), "{error}");
        }
    }
}

#[test]
fn where_something_is_missing_sessions_end_and_begin_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("missing");
    let mut encoder = Encoder::new(1);
    let mut writer = Writer::begin(Vec::new(), &Head::default()).expect("memory takes everything");
    let mut write = |encoder: &mut Encoder| {
        let block = encoder.take().expect("packed").expect("not empty");
        writer.append(&block).expect("memory takes everything");
    };
    encoder.push(&opened(0, TRANSACTIONS));
    encoder.push(&update(0, 100, 0, 10));
    write(&mut encoder);
    encoder.push(&update(0, 100, 1, 20));
    encoder.interrupt();
    encoder.skip(&closed(0, 30));
    encoder.skip(&opened(1, TRANSACTIONS));
    encoder.push(&update(1, 100, 2, 40));
    write(&mut encoder);
    fs::write(&path, writer.finish().expect("memory takes everything").0).expect("writable");
    let items = play(read(&path).0);
    let sessions: Vec<_> = items
        .iter()
        .map(|item| match item {
            Item::Update(update) => ("update", update.session),
            Item::Session(Session::Opened { id, .. }) => ("opened", *id),
            Item::Session(Session::Closed { id, .. }) => ("closed", *id),
            other => panic!("{other:?}"),
        })
        .collect();
    let words: Vec<_> = sessions.iter().map(|(word, _)| *word).collect();
    assert_eq!(words, ["opened", "update", "closed", "opened", "update"]);
    assert_eq!(sessions[0].1, sessions[2].1);
    assert_ne!(sessions[0].1, sessions[3].1);
}

#[test]
fn an_update_whose_session_was_not_seen_is_recorded_all_the_same() {
    let mut encoder = Encoder::new(1);
    encoder.push(&update(3, 100, 0, 10));
    assert_eq!(encoder.take().expect("packed").expect("not empty").entry.records, 2);
}

#[test]
fn endpoints_of_recordings_never_share_an_id_with_live_ones_or_each_other() {
    let guests = Guests::default();
    let session = |name: &str| super::format::RecordedSession {
        id: SessionId { endpoint: 0, number: 1 },
        name: std::sync::Arc::from(name),
        scope: TRANSACTIONS,
        torn: crate::batch::Torn::new(),
        opened_at: Timestamp(0),
    };
    let id = |name: &str| {
        let mut player = Player::new(&[], guests.clone());
        let block = RecordedBlock { sessions: vec![session(name)], ..RecordedBlock::default() };
        match player.play(block).first() {
            Some(Item::Session(Session::Opened { id, .. })) => id.endpoint,
            other => panic!("{other:?}"),
        }
    };
    let (one, other) = (id("ams"), id("ams"));
    assert_ne!(one, other, "two recordings of one endpoint");
    assert!(one > 1_000 && one < crate::recovery::fetch::RPC_ENDPOINT);
    let watch = Watch::new(Watched { guests, ..Watched::default() });
    let names = [one, other, one - 2, crate::recovery::fetch::RPC_ENDPOINT].map(|id| watch.endpoint(id));
    assert_eq!(names, ["ams", "ams", "unknown", "rpc"], "nobody is shown as another");
}

fn plain(frames: &[Bytes]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        bytes.extend((frame.len() as u32).to_be_bytes());
        bytes.extend(frame);
    }
    bytes
}

#[test]
fn plain_frames_read_the_same_packed_or_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let frames: Vec<Bytes> =
        (0..5).map(|index| transaction(0, 1, 100, 1, index).frame.bytes().clone()).collect();
    let bytes = plain(&frames);
    let gzip = {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packer, &bytes).expect("memory takes everything");
        packer.finish().expect("memory takes everything")
    };
    let zstd = zstd::encode_all(bytes.as_slice(), 1).expect("packed");
    for (name, bytes) in [("plain", bytes), ("zstd", zstd), ("gzip", gzip)] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("writable");
        let reader = Reader::open(&path).expect("a recording");
        assert_eq!(reader.endpoints()[0].scope, TRANSACTIONS);
        let (blocks, torn_at) = read(&path);
        let read: Vec<Bytes> = blocks
            .into_iter()
            .flat_map(|block| block.records)
            .filter_map(|record| match record {
                Record::Frame { bytes, .. } => Some(bytes),
                _ => None,
            })
            .collect();
        assert_eq!((read, torn_at), (frames.clone(), None), "{name}");
    }
}

#[test]
fn a_plain_recording_cut_at_any_byte_reads_as_its_whole_frames() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("plain");
    let frames: Vec<Bytes> =
        (0..4).map(|slot| meta(0, 1, 100 + slot, 1, (99, 1), 0).frame.bytes().clone()).collect();
    let bytes = plain(&frames);
    let first = 4 + frames[0].len();
    for length in first..bytes.len() {
        fs::write(&path, &bytes[..length]).expect("writable");
        let (blocks, torn_at) = read(&path);
        let count: usize = blocks.iter().map(|block| block.records.len()).sum();
        let mut ends = (1..=4).map(|count| plain(&frames[..count]).len());
        assert_eq!(count, ends.clone().filter(|&end| end <= length).count(), "cut at byte {length}");
        assert_eq!(torn_at.is_none(), ends.any(|end| end == length), "cut at byte {length}");
    }
}

#[test]
fn any_number_of_empty_frames_is_handed_on_in_small_blocks() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("empty");
    let mut bytes = plain(&[transaction(0, 1, 100, 1, 0).frame.bytes().clone()]);
    bytes.resize(bytes.len() + (4 << 20), 0);
    fs::write(&path, zstd::encode_all(bytes.as_slice(), 1).expect("packed")).expect("writable");
    let (blocks, torn_at) = read(&path);
    let counts: Vec<usize> = blocks.iter().map(|block| block.records.len()).collect();
    assert_eq!((counts.iter().sum::<usize>(), torn_at), (1 + (1 << 20), None));
    let most = PLAIN_BLOCK_BYTES / size_of::<Record>() + 1;
    assert!(counts.iter().all(|&count| count <= most), "{:?} of {most}", counts.iter().max());
}

#[test]
fn a_block_takes_no_more_memory_than_it_may() {
    let session = |torn: u8| {
        let mut session = vec![0, 1, 0, 1 << 6, torn];
        session.extend(0..torn);
        session.push(0);
        session
    };
    let frame = [3, 0, 0, 0];
    let opened = [&[1], session(0).as_slice()].concat();
    let empty = [&[1], session(0).as_slice()].concat();
    for raw in [
        [empty.as_slice(), &frame.repeat(1_000)].concat(),
        [empty.as_slice(), &opened.repeat(1_000)].concat(),
        [&[100], session(0).repeat(100).as_slice()].concat(),
        [&[1], session(100).as_slice()].concat(),
        [empty.as_slice(), &[3, 0, 0, 0xff, 0x7f], &[0; (1 << 14) - 1]].concat(),
    ] {
        let decode = |max_bytes| super::format::decode_block(true, Timestamp(0), &raw, max_bytes);
        assert!(decode(1 << 20).is_some(), "{} bytes", raw.len());
        assert_eq!(decode(1_000), None, "{} bytes", raw.len());
    }
}

#[test]
fn something_else_is_told_from_a_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("else");
    for bytes in [&b"{}"[..], b"[pipeline]\nname = \"x\"\n", b"PAR1"] {
        fs::write(&path, bytes).expect("writable");
        let refused = Reader::open(&path).err().expect("no recording");
        assert!(matches!(refused, RecordingError::Unknown { .. }), "{refused}");
    }
    fs::write(&path, "").expect("writable");
    assert!(matches!(Reader::open(&path).err(), Some(RecordingError::Empty { .. })));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), own: bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("arbitrary");
        let mut all = if own { Head::default().encode() } else { Vec::new() };
        all.extend(&bytes);
        fs::write(&path, &all).expect("writable");
        if let Ok(mut reader) = Reader::open(&path) {
            while let Ok(Some(_)) = reader.next_block() {}
        }
        super::format::decode_block(true, Timestamp(0), &bytes, 1 << 20);
    }
}
