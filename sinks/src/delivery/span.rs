//! Where a message begins and ends among the records of the chain.
//!
//! A message is cut by what comes and when, so after a crash it would be cut elsewhere, under another id, and a receiver that
//! keeps ids would take its records twice. So its span is stored before it is sent, and it is cut there again. That holds for
//! slots that come in the chain's order; around holes, which fill in any order, records may come again under another id.

use serde::{Deserialize, Serialize};
use sluice_stages::slot::Slot;

/// A record, by its slot and its number among the slot's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The slot.
    pub(crate) slot: Slot,
    /// The number.
    pub(crate) record: usize,
}

/// The records of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// The first.
    pub(crate) from: Place,
    /// Behind the last: the slot of that, and how many of its records are in this message or one before.
    pub(crate) to: Place,
}

impl Span {
    /// The span with one more record.
    pub(crate) fn with(span: Option<Self>, place: Place) -> Self {
        let from = span.map_or(place, |span| span.from);
        Self { from, to: Place { record: place.record + 1, ..place } }
    }
}
