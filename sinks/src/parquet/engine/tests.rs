use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::*;
use crate::parquet::cells::KeyFormat;
use crate::parquet::commit::{STAGING, staging};
use crate::parquet::dataset::Dataset;
use crate::parquet::disk::Created;
use crate::parquet::planner::PlannerConfig;
use crate::parquet::testing::{Chain, without_extras};

const COMMIT_SLOTS: u64 = 10;
const ROOT: &str = "/out";

#[derive(Clone)]
struct Content {
    bytes: Vec<u8>,
    durable: bool,
}

type Shared = Arc<Mutex<Content>>;
type Names = BTreeMap<PathBuf, Option<Shared>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// This step fails, the next ones don't.
    Once(io::ErrorKind),
    /// This step and all after it fail: the process is gone.
    Crash,
}

/// A disk that forgets what was not synced, and fails when told to.
#[derive(Default)]
struct Memory {
    /// What a process sees: files, and folders as `None`.
    visible: Names,
    /// What is still there after a crash.
    durable: Names,
    steps: u64,
    fault: Option<(u64, Fault)>,
    skips_file_syncs: bool,
    skips_folder_syncs: bool,
}

#[derive(Clone, Default)]
struct MemoryDisk(Arc<Mutex<Memory>>);

struct MemoryFile(MemoryDisk, Shared);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        match self.fault {
            Some((at, Fault::Once(kind))) if at == self.steps => Err(kind.into()),
            Some((at, Fault::Crash)) if at <= self.steps => Err(io::Error::other("crashed")),
            _ => Ok(()),
        }
    }

    /// What a process that starts after a crash finds: unsynced names are gone, unsynced content is half there.
    fn crash(&mut self) {
        self.visible = self.durable.clone();
        for content in self.visible.values().flatten() {
            let mut content = lock(content);
            if !content.durable {
                let half = content.bytes.len() / 2;
                content.bytes.truncate(half);
            }
        }
        self.fault = None;
    }
}

impl MemoryDisk {
    fn new() -> Self {
        let disk = Self::default();
        for path in [Path::new(ROOT).to_owned(), staging(Path::new(ROOT))] {
            lock(&disk.0).visible.insert(path.clone(), None);
            lock(&disk.0).durable.insert(path, None);
        }
        disk
    }

    fn with_fault(step: u64, fault: Fault) -> Self {
        let disk = Self::new();
        lock(&disk.0).fault = Some((step, fault));
        disk
    }

    /// The files below the root by name, staging left out.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let memory = lock(&self.0);
        let files = memory.visible.iter().filter_map(|(path, content)| Some((path, content.as_ref()?)));
        files
            .filter(|(path, _)| !path.starts_with(staging(Path::new(ROOT))))
            .map(|(path, content)| (path.clone(), lock(content).bytes.clone()))
            .collect()
    }

    fn clear_staging(&self) {
        lock(&self.0).visible.retain(|path, content| {
            content.is_none() || !path.components().any(|part| part.as_os_str() == STAGING)
        });
    }

    /// First slots of the ranges that have a blocks file: what a restart finds committed.
    fn committed(&self) -> BTreeSet<Slot> {
        let names = self.files().into_keys().filter(|path| path.starts_with("/out/blocks"));
        names
            .filter_map(|path| CommitRange::from_file_name(path.file_name()?.to_str()?))
            .map(|range| range.first)
            .collect()
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path, pieces: &[Vec<u8>]) -> io::Result<Box<dyn Created>> {
        let mut memory = lock(&self.0);
        memory.step()?;
        assert!(memory.visible.contains_key(path.parent().expect("below the root")), "{path:?}");
        if memory.visible.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let bytes = pieces.concat();
        let half = Content { bytes: bytes[..bytes.len() / 2].to_vec(), durable: false };
        let shared = Arc::new(Mutex::new(half));
        memory.visible.insert(path.to_owned(), Some(Arc::clone(&shared)));
        memory.step()?;
        lock(&shared).bytes = bytes;
        Ok(Box::new(MemoryFile(self.clone(), shared)))
    }

    fn publish(&self, staged: &Path, path: &Path) -> io::Result<()> {
        let mut memory = lock(&self.0);
        memory.step()?;
        if memory.visible.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = memory.visible.get(staged).cloned().ok_or(io::ErrorKind::NotFound)?;
        memory.visible.insert(path.to_owned(), content);
        memory.step()?;
        memory.visible.remove(staged);
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut memory = lock(&self.0);
        memory.step()?;
        memory.visible.entry(path.to_owned()).or_insert(None);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut memory = lock(&self.0);
        memory.step()?;
        if memory.skips_folder_syncs {
            return Ok(());
        }
        let inside = |name: &Path| name.parent() == Some(path);
        let now: Names = memory
            .visible
            .iter()
            .filter(|(name, _)| inside(name))
            .map(|(name, content)| (name.clone(), content.clone()))
            .collect();
        memory.durable.retain(|name, _| !inside(name));
        memory.durable.extend(now);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut memory = lock(&self.0);
        memory.step()?;
        memory.visible.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn holds(&self, path: &Path, pieces: &[Vec<u8>]) -> io::Result<Option<bool>> {
        let mut memory = lock(&self.0);
        memory.step()?;
        let content = memory.visible.get(path).and_then(Option::as_ref);
        Ok(content.map(|content| lock(content).bytes == pieces.concat()))
    }
}

impl Created for MemoryFile {
    fn sync(self: Box<Self>) -> io::Result<()> {
        let mut memory = lock(&self.0.0);
        memory.step()?;
        lock(&self.1).durable |= !memory.skips_file_syncs;
        Ok(())
    }
}

fn engine(disk: &MemoryDisk, keys: KeyFormat) -> Engine<MemoryDisk> {
    let config = PlannerConfig { commit_slots: COMMIT_SLOTS, max_waiting_bytes: usize::MAX, floor: Some(20) };
    let planner = Planner::new(config, disk.committed());
    let encoder = Encoder::try_new(&Dataset::ALL, keys, 1, COMMIT_SLOTS).expect("valid schemas");
    Engine::new(planner, encoder, Committer::new(PathBuf::from(ROOT), disk.clone()))
}

/// Feeds blocks in batches of `size`, trying again where the disk refuses, and returns the events.
fn run(engine: &mut Engine<MemoryDisk>, blocks: &[Arc<Block>], size: usize, tries: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for batch in blocks.chunks(size) {
        engine.accept(batch.iter().map(Arc::as_ref), &mut events).expect("no fatal error");
        for _ in 0..tries {
            if engine.is_refused() {
                engine.retry(&mut events).expect("no fatal error");
            }
        }
        if engine.is_refused() {
            break;
        }
    }
    events
}

/// The files that an undisturbed run makes of `blocks`.
fn files_of(blocks: &[Arc<Block>], size: usize) -> BTreeMap<PathBuf, Vec<u8>> {
    let disk = MemoryDisk::new();
    run(&mut engine(&disk, KeyFormat::Base58), blocks, size, 0);
    disk.files()
}

fn chain() -> Chain {
    Chain::generate(20, 52, 4)
}

#[test]
fn every_dataset_of_every_complete_range_has_a_file() {
    let files = files_of(&chain().blocks(), 7);
    assert_eq!(files.len(), 3 * Dataset::ALL.len());
    for (range, dataset) in [(20, Dataset::Blocks), (40, Dataset::Accounts)] {
        let path = Path::new(ROOT).join(CommitRange::containing(range, COMMIT_SLOTS).path(dataset));
        assert!(files.contains_key(&path), "{path:?}");
    }
}

#[test]
fn the_bytes_depend_on_the_content_alone() {
    let blocks = chain().blocks();
    let expected = files_of(&blocks, 1);
    assert_eq!(files_of(&blocks, 100), expected, "another batch size");
    let backwards: Vec<_> = blocks.iter().rev().cloned().collect();
    assert_eq!(files_of(&backwards, 5), expected, "another order");
    let twice: Vec<_> = blocks.iter().flat_map(|block| [block.clone(), block.clone()]).collect();
    assert_eq!(files_of(&twice, 3), expected, "everything twice");
    let late: Vec<_> = blocks.iter().map(|block| Arc::new(without_extras(block))).collect();
    let late: Vec<_> = late.into_iter().chain(blocks.clone()).collect();
    assert_eq!(files_of(&late, 9), expected, "entries and accounts a second time");
}

#[test]
fn a_restart_in_the_middle_gives_the_same_files() {
    let blocks = chain().blocks();
    let disk = MemoryDisk::new();
    run(&mut engine(&disk, KeyFormat::Base58), &blocks[..15], 4, 0);
    assert_eq!(disk.committed(), BTreeSet::from([20]));
    run(&mut engine(&disk, KeyFormat::Base58), &blocks, 4, 0);
    assert_eq!(disk.files(), files_of(&blocks, 4));
}

#[test]
fn a_crash_at_any_step_loses_nothing_that_was_committed_and_ends_in_the_same_files() {
    let blocks = chain().blocks();
    let expected = files_of(&blocks, 4);
    let steps = steps_of(&blocks);
    assert!(steps > 100, "{steps} steps");
    for step in 1..=steps {
        assert_eq!(crash_at(step, &blocks, &expected, |_| ()), [] as [String; 0], "step {step}");
    }
}

#[test]
fn the_crash_test_notices_a_missing_sync() {
    let blocks = chain().blocks();
    let expected = files_of(&blocks, 4);
    let losses = |mutate: fn(&mut Memory)| {
        (1..=steps_of(&blocks)).flat_map(|step| crash_at(step, &blocks, &expected, mutate)).count()
    };
    assert!(losses(|memory| memory.skips_file_syncs = true) > 0);
    assert!(losses(|memory| memory.skips_folder_syncs = true) > 0);
}

fn steps_of(blocks: &[Arc<Block>]) -> u64 {
    let disk = MemoryDisk::new();
    run(&mut engine(&disk, KeyFormat::Base58), blocks, 4, 0);
    lock(&disk.0).steps
}

/// Crashes at a step, starts again, and says what was lost.
fn crash_at(
    step: u64,
    blocks: &[Arc<Block>],
    expected: &BTreeMap<PathBuf, Vec<u8>>,
    mutate: impl Fn(&mut Memory),
) -> Vec<String> {
    let disk = MemoryDisk::with_fault(step, Fault::Crash);
    mutate(&mut lock(&disk.0));
    let events = run(&mut engine(&disk, KeyFormat::Base58), blocks, 4, 0);
    lock(&disk.0).crash();
    let mut lost = Vec::new();
    let there = disk.files();
    for event in events {
        if let Event::Committed { dataset, first, .. } = event {
            let dataset = Dataset::from_name(dataset).expect("known");
            let path = Path::new(ROOT).join(CommitRange::containing(first, COMMIT_SLOTS).path(dataset));
            if there.get(&path) != expected.get(&path) {
                lost.push(format!("{path:?} was committed"));
            }
        }
    }
    for (path, bytes) in &there {
        if expected.get(path) != Some(bytes) {
            lost.push(format!("{path:?} is damaged"));
        }
    }
    disk.clear_staging();
    if lost.is_empty() {
        run(&mut engine(&disk, KeyFormat::Base58), blocks, 4, 0);
        assert_eq!(disk.files(), *expected, "after a crash at step {step}");
    }
    lost
}

#[test]
fn an_error_at_any_step_is_reported_and_tried_again_until_all_is_there() {
    let blocks = chain().blocks();
    let expected = files_of(&blocks, 4);
    for step in 1..=steps_of(&blocks) {
        let disk = MemoryDisk::with_fault(step, Fault::Once(io::ErrorKind::StorageFull));
        let mut engine = engine(&disk, KeyFormat::Base58);
        let events = run(&mut engine, &blocks, 4, 1);
        assert_eq!(disk.files(), expected, "an error at step {step}");
        assert!(!engine.is_refused());
        let failed = events.iter().filter(|event| matches!(event, Event::CommitFailed { .. })).count();
        assert!(failed <= 1, "{failed} failures");
    }
}

#[test]
fn a_full_disk_keeps_the_files_until_there_is_room() {
    let blocks = chain().blocks();
    let disk = MemoryDisk::with_fault(1, Fault::Crash);
    let mut engine = engine(&disk, KeyFormat::Base58);
    let mut events = Vec::new();
    engine.accept(blocks.iter().map(Arc::as_ref), &mut events).expect("not fatal");
    assert!(engine.is_refused());
    for _ in 0..3 {
        engine.retry(&mut events).expect("not fatal");
        assert!(engine.is_refused() && disk.files().is_empty());
    }
    lock(&disk.0).fault = None;
    engine.retry(&mut events).expect("not fatal");
    assert!(!engine.is_refused());
    assert_eq!(disk.files(), files_of(&blocks, 4));
}

#[test]
fn a_file_that_differs_is_never_replaced() {
    let blocks = chain().blocks();
    let disk = MemoryDisk::new();
    run(&mut engine(&disk, KeyFormat::Base58), &blocks, 4, 0);
    let files = disk.files();
    let (blocks_file, _) = files.iter().find(|(path, _)| path.starts_with("/out/blocks")).expect("there");
    let (damaged, _) = files.iter().find(|(path, _)| path.starts_with("/out/rewards")).expect("there");
    {
        let mut memory = lock(&disk.0);
        memory.visible.remove(blocks_file);
        let content = memory.visible[damaged].clone().expect("a file");
        lock(&content).bytes.push(0);
    }
    let mut events = Vec::new();
    let result = engine(&disk, KeyFormat::Base58).accept(blocks.iter().map(Arc::as_ref), &mut events);
    let error = result.expect_err("refused").to_string();
    assert!(error.contains("rewards") && error.contains("sluice verify"), "{error}");
}

#[test]
fn raw_keys_make_smaller_files() {
    let blocks = chain().blocks();
    let disk = MemoryDisk::new();
    run(&mut engine(&disk, KeyFormat::Bytes), &blocks, 4, 0);
    let size = |files: &BTreeMap<PathBuf, Vec<u8>>| files.values().map(Vec::len).sum::<usize>();
    assert!(size(&disk.files()) < size(&files_of(&blocks, 4)));
}

#[test]
fn a_refused_file_holds_up_those_after_it() {
    let blocks = chain().blocks();
    for step in 1..=steps_of(&blocks) {
        let disk = MemoryDisk::with_fault(step, Fault::Once(io::ErrorKind::StorageFull));
        let mut engine = engine(&disk, KeyFormat::Base58);
        let mut events = Vec::new();
        engine.accept(blocks.iter().map(Arc::as_ref), &mut events).expect("not fatal");
        let files = disk.files();
        for first in disk.committed() {
            let range = CommitRange::containing(first, COMMIT_SLOTS);
            for dataset in Dataset::ALL {
                let path = Path::new(ROOT).join(range.path(dataset));
                assert!(files.contains_key(&path), "step {step}: blocks are there, {path:?} is not");
            }
        }
    }
}
