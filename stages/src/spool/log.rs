//! The log of a spool: batches and ticks in; segments on a [`Medium`], and events, out. It has no clock and no thread.
//!
//! What came is written and synced together: once in `sync_interval`, or when `sync_bytes` wait. A medium that refuses is
//! left alone for [`RETRY_INTERVAL`]; what comes meanwhile goes past the log, and the next segment begins with a note that
//! something is missing before it.

use std::io;
use std::time::Duration;

use super::catalog::{Bounds, Catalog, Reason, Segment};
use super::medium::{Medium, SegmentFile};
use crate::batch::Item;
use crate::recording::format::Head;
use crate::recording::writer::{Encoder, Writer};
use crate::slot::{Slot, Timestamp};
use crate::stage::{Event, Metric};

/// How long a medium that refused is left alone. One that was full has room again when somebody or a commit makes it.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// How a log works.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Longest time for which what came is not durable.
    pub(crate) sync_interval: Duration,
    /// Most raw bytes that are not durable.
    pub(crate) sync_bytes: usize,
    /// Size at which a segment ends.
    pub(crate) segment_bytes: u64,
    /// Bounds of all segments.
    pub(crate) bounds: Bounds,
    /// zstd's level.
    pub(crate) compression_level: i32,
    /// What each segment begins with.
    pub(crate) head: Head,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counters {
    updates: u64,
    lost: u64,
    written_bytes: u64,
    syncs: u64,
    failures: u64,
    removed: [u64; 3],
}

/// The log.
pub(crate) struct Log<M> {
    medium: M,
    settings: Settings,
    encoder: Encoder,
    catalog: Catalog,
    open: Option<Writer<Box<dyn SegmentFile>>>,
    /// Since when something waits to become durable.
    waiting_since: Option<Timestamp>,
    unsynced_bytes: usize,
    /// Updates that are not durable.
    unsynced_updates: u64,
    /// When a medium that refused is tried again.
    retry_at: Option<Timestamp>,
    lost_updates: u64,
    counters: Counters,
    events: Vec<Event>,
}

impl<M: Medium> Log<M> {
    /// A log on `medium`, where `segments` are.
    pub(crate) fn new(medium: M, settings: Settings, segments: Vec<Segment>) -> Self {
        Self {
            medium,
            encoder: Encoder::new(settings.compression_level),
            settings,
            catalog: Catalog::new(segments),
            open: None,
            waiting_since: None,
            unsynced_bytes: 0,
            unsynced_updates: 0,
            retry_at: None,
            lost_updates: 0,
            counters: Counters::default(),
            events: Vec::new(),
        }
    }

    /// Takes items in; `lost` updates before them never got here.
    pub(crate) fn append(&mut self, now: Timestamp, items: &[Item], lost: u64) {
        if lost > 0 {
            self.flush(now);
            self.encoder.interrupt();
            self.lose(lost);
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return self.skip(items);
        }
        for item in items {
            self.unsynced_updates += u64::from(matches!(item, Item::Update(_)));
            self.encoder.push(item);
            if self.encoder.is_full() {
                self.flush(now);
            }
        }
        if self.encoder.waiting_bytes() > 0 {
            self.waiting_since.get_or_insert(now);
        }
        self.sync_if_due(now);
    }

    /// Time has passed, and everything below `watermark` is durable elsewhere.
    pub(crate) fn tick(&mut self, now: Timestamp, watermark: Option<Slot>) {
        self.trim(watermark);
        self.sync_if_due(now);
    }

    /// Makes durable what can be, and ends the segment.
    pub(crate) fn end(&mut self, now: Timestamp) {
        self.flush(now);
        self.sync(now);
        self.end_segment(now);
    }

    /// What happened since this was last asked.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Shows the current value of each metric.
    pub(crate) fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        let counters = self.counters;
        show(Metric::new("spool_updates_total", counters.updates));
        show(Metric::new("spool_lost_updates_total", counters.lost));
        show(Metric::new("spool_written_bytes_total", counters.written_bytes));
        show(Metric::new("spool_syncs_total", counters.syncs));
        show(Metric::new("spool_failures_total", counters.failures));
        for reason in [Reason::Committed, Reason::Size, Reason::Age] {
            let removed = counters.removed[reason as usize];
            show(Metric::new("spool_removed_segments_total", removed).with("reason", reason.name()));
        }
        show(Metric::new("spool_segments", self.catalog.segments().len() as u64));
        show(Metric::new("spool_bytes", self.catalog.total_bytes()));
        show(Metric::new("spool_failing", u64::from(self.retry_at.is_some())));
    }

    /// Lets items go past.
    fn skip(&mut self, items: &[Item]) {
        let lost = items.iter().filter(|item| matches!(item, Item::Update(_))).count() as u64;
        items.iter().for_each(|item| self.encoder.skip(item));
        self.lose(lost);
    }

    fn sync_if_due(&mut self, now: Timestamp) {
        let late = |since: Timestamp| now.since(since) >= self.settings.sync_interval;
        let many = self.unsynced_bytes + self.encoder.waiting_bytes() >= self.settings.sync_bytes;
        if many || self.waiting_since.is_some_and(late) {
            self.flush(now);
            self.sync(now);
        }
    }

    /// Writes the block that has been filling.
    fn flush(&mut self, now: Timestamp) {
        let raw_bytes = self.encoder.waiting_bytes();
        if raw_bytes == 0 {
            return;
        }
        let written = self.write();
        if let Err(error) = written {
            return self.on_refused(now, &error);
        }
        self.waiting_since.get_or_insert(now);
        self.unsynced_bytes += raw_bytes;
        if self.retry_at.take().is_some() {
            let lost_updates = std::mem::take(&mut self.lost_updates);
            self.events.push(Event::SpoolResumed { lost_updates });
        }
        if self.open.as_ref().is_some_and(|open| open.len_bytes() >= self.settings.segment_bytes) {
            self.sync(now);
            self.end_segment(now);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.open.is_none() {
            let sequence = self.catalog.next_sequence();
            let file = self.medium.create(sequence)?;
            self.catalog.push(Segment { sequence, ..Segment::default() });
            self.open = Some(Writer::begin(file, &self.settings.head)?);
        }
        let (Some(block), Some(open)) = (self.encoder.take()?, &mut self.open) else { return Ok(()) };
        // Counted before it is written: a part of it may be on the disk after an error.
        if let Some(segment) = self.catalog.last_mut() {
            segment.add(&block.entry);
            segment.bytes = open.len_bytes() + block.bytes.len() as u64;
        }
        open.append(&block)?;
        self.counters.written_bytes += block.bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self, now: Timestamp) {
        if self.unsynced_bytes == 0 {
            self.waiting_since = None;
            return;
        }
        (self.unsynced_bytes, self.waiting_since) = (0, None);
        let Some(open) = &mut self.open else { return };
        match open.get_mut().sync() {
            Ok(()) => {
                self.counters.syncs += 1;
                self.settle();
            }
            Err(error) => self.on_refused(now, &error),
        }
    }

    /// What was written is durable; what waits for its block is not.
    fn settle(&mut self) {
        let waiting = u64::from(self.encoder.waiting_updates());
        self.counters.updates += self.unsynced_updates.saturating_sub(waiting);
        self.unsynced_updates = self.unsynced_updates.min(waiting);
    }

    /// Adds the index to the open segment. Without it the segment is as good.
    fn end_segment(&mut self, now: Timestamp) {
        let Some(open) = self.open.take() else { return };
        let finished = open.finish().and_then(|(mut file, bytes)| file.sync().map(|()| bytes));
        match finished {
            Ok(bytes) => self.catalog.last_mut().into_iter().for_each(|segment| segment.bytes = bytes),
            Err(error) => self.on_refused(now, &error),
        }
    }

    fn on_refused(&mut self, now: Timestamp, error: &io::Error) {
        self.counters.failures += 1;
        if self.retry_at.is_none() {
            self.events.push(Event::SpoolFailed { reason: error.to_string() });
        }
        self.retry_at = Some(now.after(RETRY_INTERVAL));
        (self.open, self.unsynced_bytes, self.waiting_since) = (None, 0, None);
        self.encoder.interrupt();
        let lost = std::mem::take(&mut self.unsynced_updates);
        self.lose(lost);
    }

    fn lose(&mut self, updates: u64) {
        self.lost_updates += updates;
        self.counters.lost += updates;
    }

    fn trim(&mut self, watermark: Option<Slot>) {
        while let Some((sequence, reason)) = self.catalog.removable(watermark, self.settings.bounds) {
            if let Err(error) = self.medium.remove(sequence) {
                tracing::debug!(sequence, %error, "a segment can't be removed now");
                break;
            }
            self.catalog.remove(sequence);
            self.counters.removed[reason as usize] += 1;
        }
    }
}
