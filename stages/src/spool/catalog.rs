//! The segments of a spool, and which of them can go. Pure.

use std::time::Duration;

use crate::recording::format::IndexEntry;
use crate::slot::{Slot, Timestamp};

/// Slots behind the watermark that are kept: that nothing is missing in front of a slot is seen by what the same session
/// brought of its parent, which may lie further back than a leader's turn.
pub(crate) const MARGIN_SLOTS: u64 = 64;

/// A segment that is in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Segment {
    /// Its number, which is its name and rises.
    pub(crate) sequence: u64,
    /// Its size.
    pub(crate) bytes: u64,
    /// The highest slot in it.
    pub(crate) last_slot: Slot,
    /// When the last update in it came.
    pub(crate) last_at: Timestamp,
}

impl Segment {
    /// Takes note of a block.
    pub(crate) fn add(&mut self, entry: &IndexEntry) {
        self.last_slot = self.last_slot.max(entry.last_slot);
        self.last_at = self.last_at.max(entry.last_at);
    }

    /// Whether nothing in it is needed once everything below `watermark` is durable.
    pub(crate) fn is_behind(&self, watermark: Slot) -> bool {
        self.last_slot.saturating_add(MARGIN_SLOTS) < watermark
    }
}

/// Bounds of a spool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most bytes of all segments.
    pub(crate) max_bytes: u64,
    /// Longest time between the last update of a segment and the newest of all. Time in which nothing came does not
    /// count, so that what is there after a long outage is still used.
    pub(crate) max_age: Duration,
}

/// Why a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// All of it is durable elsewhere.
    Committed,
    /// The spool is too large.
    Size,
    /// It is too old.
    Age,
}

impl Reason {
    /// The word in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Size => "size",
            Self::Age => "age",
        }
    }
}

/// All segments, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    segments: Vec<Segment>,
}

impl Catalog {
    /// Those that are there.
    pub(crate) fn new(segments: Vec<Segment>) -> Self {
        Self { segments }
    }

    /// The number for the next segment.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.segments.last().map_or(1, |last| last.sequence + 1)
    }

    /// Adds a segment that was begun; `None` takes the number of one that could not be.
    pub(crate) fn push(&mut self, segment: Segment) {
        self.segments.push(segment);
    }

    /// The youngest segment.
    pub(crate) fn last_mut(&mut self) -> Option<&mut Segment> {
        self.segments.last_mut()
    }

    /// All segments, the oldest first.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Their bytes.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The oldest segment that can go, and why; never the youngest, which may be open.
    pub(crate) fn removable(&self, watermark: Option<Slot>, bounds: Bounds) -> Option<(u64, Reason)> {
        let [older @ .., newest] = &self.segments[..] else { return None };
        if let Some(done) = older.iter().find(|one| watermark.is_some_and(|slot| one.is_behind(slot))) {
            return Some((done.sequence, Reason::Committed));
        }
        let oldest = older.first()?;
        let newest_at = older.iter().map(|one| one.last_at).fold(newest.last_at, Timestamp::max);
        if self.total_bytes() > bounds.max_bytes {
            return Some((oldest.sequence, Reason::Size));
        }
        (newest_at.since(oldest.last_at) > bounds.max_age).then_some((oldest.sequence, Reason::Age))
    }

    /// Takes a segment off the list.
    pub(crate) fn remove(&mut self, sequence: u64) {
        self.segments.retain(|segment| segment.sequence != sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { max_bytes: 1_000, max_age: Duration::from_secs(60) };

    fn segment(sequence: u64, last_slot: Slot, seconds: u64) -> Segment {
        Segment { sequence, bytes: 100, last_slot, last_at: Timestamp(seconds * 1_000_000) }
    }

    #[test]
    fn what_is_durable_goes_but_for_a_margin() {
        let catalog = Catalog::new(vec![segment(1, 100, 1), segment(2, 200, 2), segment(3, 300, 3)]);
        assert_eq!(catalog.removable(Some(100 + MARGIN_SLOTS), BOUNDS), None);
        assert_eq!(catalog.removable(Some(101 + MARGIN_SLOTS), BOUNDS), Some((1, Reason::Committed)));
        assert_eq!(catalog.removable(None, BOUNDS), None);
    }

    #[test]
    fn the_youngest_segment_stays_whatever_is_asked() {
        let catalog = Catalog::new(vec![Segment { bytes: 5_000, ..segment(1, 100, 1) }]);
        assert_eq!(catalog.removable(Some(10_000), BOUNDS), None);
    }

    #[test]
    fn beyond_the_size_the_oldest_goes_first() {
        let segments = (1..=11).map(|sequence| segment(sequence, 100, 1)).collect();
        let mut catalog = Catalog::new(segments);
        assert_eq!(catalog.removable(None, BOUNDS), Some((1, Reason::Size)));
        catalog.remove(1);
        assert_eq!(catalog.removable(None, BOUNDS), None);
        assert_eq!(catalog.next_sequence(), 12, "numbers are not used again");
    }

    #[test]
    fn age_counts_against_the_newest_update() {
        let catalog = Catalog::new(vec![segment(1, 100, 10), segment(2, 100, 70)]);
        assert_eq!(catalog.removable(None, BOUNDS), None);
        let catalog = Catalog::new(vec![segment(1, 100, 10), segment(2, 100, 71)]);
        assert_eq!(catalog.removable(None, BOUNDS), Some((1, Reason::Age)));
    }
}
