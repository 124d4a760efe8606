//! The sink without its task: blocks in, committed files and events out. Runs on rayon, never on an async thread.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rayon::prelude::*;
use sluice_stages::block::Block;
use sluice_stages::slot::{Slot, Timestamp};
use sluice_stages::stage::{Event, Metric};
use thiserror::Error;

use super::commit::{CommitError, Committer};
use super::dataset::Track;
use super::disk::Disk;
use super::encode::{EncodedFile, Encoder, OpenFiles, SlotRows};
use super::planner::{Load, Planner, Skip, Step};
use super::range::CommitRange;
use super::schema::EncodeError;

/// Slots whose rows are made at once, for each core: a second one for the core that is done first. Their rows are several
/// megabytes a slot, which are written again sooner the fewer there are.
const LOADS_PER_CORE: usize = 2;

/// Why the sink can't go on.
#[derive(Debug, Error)]
pub(crate) enum EngineError {
    /// Rows or files could not be made.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A file is there and is not the one that belongs there.
    #[error(transparent)]
    Commit(CommitError),
}

/// What it has done, for the metrics.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    ranges: u64,
    files: u64,
    rows: u64,
    bytes: u64,
    failures: u64,
}

/// Planner, encoder and committer, put together.
pub(crate) struct Engine<D> {
    planner: Planner,
    encoder: Encoder,
    committer: Committer<D>,
    open: BTreeMap<(CommitRange, Track), OpenFiles>,
    /// Complete files that are not durable yet; not empty only while the disk refuses.
    refused: Vec<Vec<EncodedFile>>,
    counts: Counts,
}

impl<D: Disk> Engine<D> {
    /// An engine that has done nothing yet.
    pub(crate) fn new(planner: Planner, encoder: Encoder, committer: Committer<D>) -> Self {
        let (open, refused) = (BTreeMap::new(), Vec::new());
        Self { planner, encoder, committer, open, refused, counts: Counts::default() }
    }

    /// Learns which slots are wanted, if that was open.
    pub(crate) fn begin(&mut self, floor: Slot) {
        self.planner.begin(floor);
    }

    /// Takes blocks in, and does whatever they make possible.
    pub(crate) fn accept<'a>(
        &mut self,
        blocks: impl IntoIterator<Item = &'a Block>,
        events: &mut Vec<Event>,
    ) -> Result<(), EngineError> {
        let mut steps = Vec::new();
        let mut loads = Vec::new();
        for block in blocks {
            self.planner.accept(block, &mut steps);
            for step in steps.drain(..) {
                self.step(step, &mut loads, events)?;
            }
        }
        self.encode(&mut loads)
    }

    /// Whether files wait for the disk; nothing should be accepted until they are durable.
    pub(crate) fn is_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Tries again to make durable what the disk refused.
    pub(crate) fn retry(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        for files in std::mem::take(&mut self.refused) {
            self.commit(files, events)?;
        }
        Ok(())
    }

    /// Sources wait for memory: lets go of some frames that wait for a missing slot, if there are any.
    pub(crate) fn on_pressure(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let (mut steps, mut loads) = (Vec::new(), Vec::new());
        self.planner.on_pressure(&mut steps);
        steps.into_iter().try_for_each(|step| self.step(step, &mut loads, events))
    }

    /// Slots to ask for again, if it is time to.
    pub(crate) fn requests(&mut self, now: Timestamp) -> Vec<Slot> {
        self.planner.requests(now)
    }

    /// Notes that the request made at `now` was accepted.
    pub(crate) fn on_requested(&mut self, now: Timestamp) {
        self.planner.on_requested(now);
    }

    /// Bytes of frames that wait for missing slots.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.planner.waiting_bytes()
    }

    /// Ranges that are not complete.
    pub(crate) fn open_ranges(&self) -> usize {
        self.planner.open_ranges()
    }

    /// Shows the current value of each metric.
    pub(crate) fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        let open_bytes: usize = self.open.values().map(OpenFiles::size_bytes).sum();
        show(Metric::new("parquet_committed_ranges_total", self.counts.ranges));
        show(Metric::new("parquet_committed_files_total", self.counts.files));
        show(Metric::new("parquet_committed_rows_total", self.counts.rows));
        show(Metric::new("parquet_committed_bytes_total", self.counts.bytes));
        show(Metric::new("parquet_commit_failures_total", self.counts.failures));
        show(Metric::new("parquet_open_ranges", self.planner.open_ranges() as u64));
        show(Metric::new("parquet_open_bytes", open_bytes as u64));
        show(Metric::new("parquet_waiting_bytes", self.planner.waiting_bytes() as u64));
        for (dataset, holes) in ["entries", "accounts"].into_iter().zip(self.planner.holes()) {
            show(Metric::new("parquet_hole_ranges_total", holes).with("dataset", dataset));
        }
    }

    fn step(
        &mut self,
        step: Step,
        loads: &mut Vec<(CommitRange, Track, Load)>,
        events: &mut Vec<Event>,
    ) -> Result<(), EngineError> {
        match step {
            Step::Encode(range, track, load) => {
                loads.push((range, track, load));
                if loads.len() >= LOADS_PER_CORE * rayon::current_num_threads() {
                    self.encode(loads)?;
                }
            }
            Step::Commit(range, track, skips) => {
                self.encode(loads)?;
                self.finish(range, track, &skips, events)?;
            }
            Step::Forget(range, track) => {
                loads.retain(|(other, on, _)| (*other, *on) != (range, track));
                self.open.remove(&(range, track));
            }
            Step::Report(event) => events.push(event),
        }
        Ok(())
    }

    /// Makes the rows of all loads at once, then lets all files grow at once.
    fn encode(&mut self, loads: &mut Vec<(CommitRange, Track, Load)>) -> Result<(), EngineError> {
        let encoder = &self.encoder;
        let made = |(range, track, load): (CommitRange, Track, Load)| {
            encoder.rows(&load).map(|rows| ((range, track), rows))
        };
        let made: Result<Vec<_>, EncodeError> = loads.par_drain(..).map(made).collect();
        let mut by_file: BTreeMap<(CommitRange, Track), Vec<SlotRows>> = BTreeMap::new();
        for (file, rows) in made? {
            by_file.entry(file).or_default().push(rows);
        }
        for &(range, track) in by_file.keys() {
            if let Entry::Vacant(vacant) = self.open.entry((range, track)) {
                vacant.insert(encoder.begin(range, track)?);
            }
        }
        self.open
            .par_iter_mut()
            .try_for_each(|(file, open)| by_file.get(file).map_or(Ok(()), |rows| open.append(rows)))?;
        Ok(())
    }

    fn finish(
        &mut self,
        range: CommitRange,
        track: Track,
        skips: &[Skip],
        events: &mut Vec<Event>,
    ) -> Result<(), EngineError> {
        let open = match self.open.remove(&(range, track)) {
            Some(open) => open,
            None => self.encoder.begin(range, track)?,
        };
        let files = self.encoder.finish(open, skips)?;
        self.commit(files, events)
    }

    fn commit(&mut self, files: Vec<EncodedFile>, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let Some(first) = files.first().map(|file| file.range.first) else { return Ok(()) };
        if self.is_refused() {
            // In order, or a crash could leave a range's content there and its entries not.
            self.refused.push(files);
            return Ok(());
        }
        match self.committer.commit(&files) {
            Ok(()) => {
                self.counts.ranges += 1;
                for file in files {
                    self.counts.files += 1;
                    self.counts.rows += file.rows;
                    self.counts.bytes += file.chunks.iter().map(Vec::len).sum::<usize>() as u64;
                    let CommitRange { first, last } = file.range;
                    events.push(Event::Committed {
                        dataset: file.dataset.name(),
                        first,
                        last,
                        rows: file.rows,
                    });
                }
                Ok(())
            }
            Err(error) if error.is_retryable() => {
                self.counts.failures += 1;
                events.push(Event::CommitFailed { first, reason: error.to_string() });
                self.refused.push(files);
                Ok(())
            }
            Err(error) => Err(EngineError::Commit(error)),
        }
    }
}

#[cfg(test)]
mod tests;
