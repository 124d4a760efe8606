use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::log::RETRY_INTERVAL;
use super::medium::{Medium, SegmentFile};
use super::*;
use crate::batch::{Item, Session, Update};
use crate::fixtures::{TRANSACTIONS, opened, session, transaction};
use crate::recording::reader::Reader;
use crate::slot::{Slot, Timestamp};
use crate::stage::{Event, Metric};

/// What is on a disk: each file's bytes, and how many of them are durable.
#[derive(Debug, Default)]
struct Content {
    files: BTreeMap<u64, (Vec<u8>, usize)>,
    /// Bytes that still fit.
    room: Option<usize>,
}

impl Content {
    fn used(&self) -> usize {
        self.files.values().map(|(bytes, _)| bytes.len()).sum()
    }
}

/// A disk that can be full, and forgets what was not synced.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Content>>);

struct OpenFile {
    disk: Disk,
    sequence: u64,
}

impl Disk {
    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.0.lock().expect("no panic while it is held")
    }

    /// What a start after a power cut finds, played.
    fn play(&self) -> Vec<Item> {
        self.play_with(Player::new(&[], Guests::default())).0
    }

    fn play_with(&self, mut player: Player) -> (Vec<Item>, Vec<crate::recovery::kept::FetchedSlot>) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut items = Vec::new();
        for (sequence, (bytes, durable)) in &self.content().files {
            let path = folder.path().join(sequence.to_string());
            std::fs::write(&path, &bytes[..*durable]).expect("writable");
            let Ok(mut reader) = Reader::open(&path) else { continue };
            while let Some(block) = reader.next_block().expect("readable") {
                items.extend(player.play(block));
            }
        }
        (items, player.take_fetched())
    }

    fn slots(&self) -> Vec<Slot> {
        let slot = |item: Item| match item {
            Item::Update(update) => Some(update.frame.header.slot),
            _ => None,
        };
        self.play().into_iter().filter_map(slot).collect()
    }
}

impl Medium for Disk {
    fn create(&mut self, sequence: u64) -> io::Result<Box<dyn SegmentFile>> {
        let mut content = self.content();
        if content.room.is_some_and(|room| content.used() >= room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        assert!(content.files.insert(sequence, (Vec::new(), 0)).is_none(), "a name is used once");
        drop(content);
        Ok(Box::new(OpenFile { disk: self.clone(), sequence }))
    }

    fn remove(&mut self, sequence: u64) -> io::Result<()> {
        self.content().files.remove(&sequence);
        Ok(())
    }
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut content = self.disk.content();
        let room = content.room.map_or(usize::MAX, |room| room.saturating_sub(content.used()));
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(room);
        let file = content.files.get_mut(&self.sequence).expect("it was created");
        file.0.extend(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SegmentFile for OpenFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut content = self.disk.content();
        let file = content.files.get_mut(&self.sequence).expect("it was created");
        file.1 = file.0.len();
        Ok(())
    }
}

fn options(text: &str) -> SpoolOptions {
    toml::from_str(&format!("path = 'spool'\n{text}")).expect("valid options")
}

fn log(disk: &Disk, text: &str) -> log::Log<Disk> {
    log::Log::new(disk.clone(), options(text).log_settings(), Vec::new())
}

fn at(millis: u64) -> Timestamp {
    Timestamp(1_000_000 + millis * 1_000)
}

fn update(slot: Slot, now: Timestamp) -> Item {
    Item::Update(Update { received_at: now, ..transaction(0, 1, slot, 1, 0) })
}

fn metric(log: &log::Log<Disk>, name: &str) -> u64 {
    let mut value = 0.0;
    log.metrics(&mut |metric: Metric| {
        if metric.name == name {
            value += metric.value;
        }
    });
    value as u64
}

/// Files of the smallest size, one for each update that is larger than that.
const SMALL: &str = "segment_bytes = 1\nsync_bytes = 1\n";

#[test]
fn what_came_is_durable_after_the_interval_and_not_synced_one_by_one() {
    let disk = Disk::default();
    let mut log = log(&disk, "sync_interval = '100ms'");
    log.append(at(0), &[opened(0, TRANSACTIONS)], 0);
    for slot in 0..90 {
        log.append(at(slot), &[update(100 + slot, at(slot))], 0);
        log.tick(at(slot), None);
    }
    assert!(disk.slots().is_empty(), "nothing is synced yet");
    log.tick(at(100), None);
    assert_eq!(disk.slots(), (100..190).collect::<Vec<_>>());
    assert_eq!(metric(&log, "spool_syncs_total"), 1);
}

#[test]
fn many_bytes_do_not_wait_for_the_interval() {
    let disk = Disk::default();
    let mut log = log(&disk, "sync_interval = '1h'\nsync_bytes = 1000");
    for slot in 100..110 {
        log.append(at(0), &[update(slot, at(0))], 0);
    }
    assert!(disk.slots().len() >= 5, "{:?}", disk.slots());
}

#[test]
fn the_end_makes_everything_durable_and_a_new_log_goes_on_with_new_names() {
    let disk = Disk::default();
    let mut first = log(&disk, "sync_interval = '1h'");
    first.append(at(0), &[opened(0, TRANSACTIONS), update(100, at(0))], 0);
    first.end(at(1));
    let left = vec![catalog::Segment { sequence: 1, ..Default::default() }];
    let mut second = log::Log::new(disk.clone(), options("").log_settings(), left);
    second.append(at(2), &[opened(0, TRANSACTIONS), update(101, at(2))], 0);
    second.end(at(3));
    assert_eq!(disk.slots(), [100, 101]);
    let sessions =
        disk.play().iter().filter(|item| matches!(item, Item::Session(Session::Opened { .. }))).count();
    assert_eq!(sessions, 2, "a session does not outlive its process");
}

#[test]
fn a_session_goes_on_from_segment_to_segment() {
    let disk = Disk::default();
    let mut log = log(&disk, SMALL);
    log.append(at(0), &[opened(0, TRANSACTIONS)], 0);
    for slot in 100..105 {
        log.append(at(slot), &[update(slot, at(slot))], 0);
    }
    assert!(disk.content().files.len() >= 5);
    let sessions = disk.play().iter().filter(|item| matches!(item, Item::Session(_))).count();
    assert_eq!((disk.slots().len(), sessions), (5, 1));
}

#[test]
fn committed_segments_go_and_what_is_left_opens_its_sessions_again() {
    let disk = Disk::default();
    let mut log = log(&disk, SMALL);
    log.append(at(0), &[opened(0, TRANSACTIONS)], 0);
    for slot in 100..200 {
        log.append(at(slot), &[update(slot, at(slot))], 0);
    }
    let watermark = 190;
    log.tick(at(300), Some(watermark));
    let first = watermark - catalog::MARGIN_SLOTS;
    assert_eq!(disk.slots(), (first..200).collect::<Vec<_>>());
    assert!(matches!(disk.play()[0], Item::Session(Session::Opened { .. })));
}

#[test]
fn beyond_its_size_the_spool_lets_the_oldest_go() {
    let disk = Disk::default();
    let mut log = log(&disk, &format!("{SMALL}max_bytes = 5000"));
    for slot in 100..200 {
        log.append(at(slot), &[update(slot, at(slot))], 0);
        log.tick(at(slot), None);
    }
    assert!(disk.content().used() <= 5_000);
    assert!(disk.slots().contains(&199) && !disk.slots().contains(&100));
}

#[test]
fn a_full_disk_is_told_once_left_alone_for_a_while_and_used_again() {
    let disk = Disk::default();
    let mut log = log(&disk, "sync_bytes = 1");
    log.append(at(0), &[opened(0, TRANSACTIONS), update(100, at(0))], 0);
    let used = disk.content().used();
    disk.content().room = Some(used + 10);
    for slot in 101..110 {
        log.append(at(slot), &[update(slot, at(slot))], 0);
        log.tick(at(slot), None);
    }
    let failed = log.take_events();
    assert!(matches!(failed[..], [Event::SpoolFailed { .. }]), "{failed:?}");
    let closed = Item::Session(Session::Closed { id: session(0), at: at(120) });
    log.append(at(120), &[closed, opened(0, TRANSACTIONS)], 0);
    disk.content().room = None;
    let later = at(200).after(RETRY_INTERVAL);
    log.append(later, &[update(110, later)], 0);
    log.tick(later.after(Duration::from_secs(1)), None);
    assert_eq!(log.take_events(), [Event::SpoolResumed { lost_updates: 9 }]);
    assert_eq!(disk.slots(), [100, 110]);
    let sessions = disk.play().iter().filter(|item| matches!(item, Item::Session(_))).count();
    assert_eq!(sessions, 3, "the session that misses something has ended, another goes on");
}

#[test]
fn what_never_reached_the_log_breaks_its_sessions_too() {
    let disk = Disk::default();
    let mut log = log(&disk, "sync_bytes = 1");
    log.append(at(0), &[opened(0, TRANSACTIONS), update(100, at(0))], 0);
    log.append(at(1), &[update(102, at(1))], 7);
    assert_eq!(metric(&log, "spool_lost_updates_total"), 7);
    let sessions = disk.play().iter().filter(|item| matches!(item, Item::Session(_))).count();
    assert_eq!((disk.slots(), sessions), (vec![100, 102], 3));
}

#[test]
fn a_folder_serves_one_process_and_knows_what_is_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("deep/spool");
    let open = Folder::open(&root).expect("made");
    assert!(Folder::open(&root).is_err(), "in use");
    let mut log = log::Log::new(open, options("sync_bytes = 1").log_settings(), Vec::new());
    log.append(at(0), &[opened(0, TRANSACTIONS), update(100, at(0)), update(105, at(7))], 0);
    // Killed: no end, no index.
    drop(log);
    std::fs::write(root.join("000000000002.recording"), "SLUI").expect("a head that did not make it");
    std::fs::write(root.join("notes.txt"), "mine").expect("not ours");
    let segments = Folder::open(&root).expect("free again").segments().expect("readable");
    let shown: Vec<_> = segments.iter().map(|one| (one.sequence, one.last_slot, one.last_at)).collect();
    assert_eq!(shown, [(1, 105, at(7)), (2, 0, Timestamp(0))]);
}

#[test]
fn bounds_that_can_not_be_kept_are_refused() {
    let wrong = options("segment_bytes = '1kB'\nmax_bytes = 1\nsync_bytes = 0\ncompression_level = 99");
    let named: Vec<_> = wrong.problems().into_iter().map(|problem| problem.option).collect();
    assert_eq!(named, ["compression_level", "segment_bytes", "max_bytes", "sync_bytes"]);
    assert!(options("").problems().is_empty());
}

/// A slot of `count` transactions that was fetched, as it is logged.
fn fetched_slot(slot: Slot, count: u64) -> Vec<Item> {
    let id = crate::batch::SessionId { endpoint: 0, number: crate::recovery::replay::FIRST_NUMBER | 7 };
    let update = |index| Item::Update(Update { session: id, ..transaction(0, 1, slot, 0, index) });
    let (endpoint, torn) = (Arc::from("endpoint"), crate::batch::Torn::new());
    let opened = Session::Opened { id, endpoint, scope: TRANSACTIONS, torn, at: at(0) };
    let closed = Item::Session(Session::Closed { id, at: at(0) });
    std::iter::once(Item::Session(opened)).chain((0..count).map(update)).chain([closed]).collect()
}

#[test]
fn what_was_fetched_comes_back_slot_by_slot_and_apart_from_what_came_live() {
    let disk = Disk::default();
    let mut log = log(&disk, "");
    log.append(at(0), &[opened(0, TRANSACTIONS), Item::Update(transaction(0, 1, 20, 0, 0))], 0);
    log.append(at(1), &fetched_slot(10, 3), 0);
    log.append(at(2), &[Item::Update(transaction(0, 1, 20, 0, 1))], 0);
    log.append(at(3), &fetched_slot(11, 2), 0);
    log.end(at(4));
    let (items, fetched) = disk.play_with(Player::apart(&[], Guests::default()));
    let told: Vec<_> = fetched.iter().map(|slot| (slot.slot, slot.updates.len(), &*slot.endpoint)).collect();
    assert_eq!(told, [(10, 3, "endpoint"), (11, 2, "endpoint")]);
    let live = items.iter().filter(|item| matches!(item, Item::Update(_))).count();
    assert_eq!((live, items.len()), (2, 3), "one session and its updates");
}

#[test]
fn a_fetched_slot_whose_beginning_or_end_was_lost_does_not_come_back() {
    let disk = Disk::default();
    let mut log = log(&disk, "");
    let slot = fetched_slot(10, 4);
    log.append(at(0), &slot[..3], 0);
    // The disk refused here.
    log.append(at(1), &slot[3..], 1);
    log.append(at(2), &fetched_slot(11, 4)[..3], 0);
    log.end(at(3));
    let (_, fetched) = disk.play_with(Player::apart(&[], Guests::default()));
    assert!(fetched.is_empty(), "{fetched:?}");
}
