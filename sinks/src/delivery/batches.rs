//! Puts records together to the messages of a webhook, pure: by number, by size, and by how long the first one waited.
//!
//! A message holds records in the order in which they came. Its id names the slots and what is in it: the same records
//! give the same id, whenever they are sent. The message that was on its way when a process ended is cut as it was then,
//! whatever the limits and the times are now, if its slots come in the same order ([`super::span`]).

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sluice_stages::slot::{Slot, Timestamp};

use super::record::Lines;
use super::span::{Place, Span};

/// How messages are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchLimits {
    /// Most records of a message.
    pub(crate) items: usize,
    /// Most bytes of their texts; a larger record goes alone.
    pub(crate) bytes: usize,
    /// The longest that a record waits for others.
    pub(crate) wait: Duration,
}

/// A block whose last record is in a message: when that is delivered, the block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The slot of its parent.
    pub(crate) parent_slot: Slot,
    /// Its slot.
    pub(crate) slot: Slot,
}

/// A message of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordMessage {
    /// The idempotency key.
    pub(crate) id: String,
    /// JSON; empty if there is nothing to send.
    pub(crate) body: Bytes,
    /// Number of records.
    pub(crate) records: usize,
    /// Blocks that end in it.
    pub(crate) marks: Vec<Mark>,
    /// Where its records are on the chain; `None` for those that are not on it.
    pub(crate) span: Option<Span>,
}

/// The message under construction.
#[derive(Debug)]
pub(crate) struct Batches {
    limits: BatchLimits,
    /// Records, with commas between them.
    text: Vec<u8>,
    records: usize,
    /// First and last slot of the records.
    slots: Option<(Slot, Slot)>,
    marks: Vec<Mark>,
    since: Option<Timestamp>,
    span: Option<Span>,
    /// The message that is to be cut as it was, until that is done.
    again: Option<Span>,
}

impl Batches {
    /// Nothing yet. The message of `again` was on its way when the process before this one ended.
    pub(crate) fn new(limits: BatchLimits, again: Option<Span>) -> Self {
        let (text, marks) = (Vec::new(), Vec::new());
        Self { limits, text, records: 0, slots: None, marks, since: None, span: None, again }
    }

    /// Adds the records of a block, or of no block; messages that are full go to `out`.
    pub(crate) fn push(
        &mut self,
        now: Timestamp,
        lines: &Lines,
        mark: Option<Mark>,
        out: &mut Vec<RecordMessage>,
    ) {
        // Samples are not on the chain, by which a message could be cut again.
        if self.records > 0 && self.span.is_some() != mark.is_some() {
            out.extend(self.take());
        }
        for (record, line) in lines.iter().enumerate() {
            let place = mark.map(|mark| Place { slot: mark.slot, record });
            if place.is_some_and(|place| self.was_delivered(place)) {
                continue;
            }
            if self.records > 0
                && (self.is_full(line) || place.is_some_and(|place| self.is_cut_before(place)))
            {
                out.extend(self.take());
            }
            self.add(now, line, place);
        }
        let Some(mark) = mark else { return };
        self.marks.push(mark);
        self.since.get_or_insert(now);
        // Blocks of which nothing is sent don't wait without end either.
        if self.is_repeated() || (self.marks.len() >= self.limits.items && !self.repeats()) {
            out.extend(self.take());
        }
    }

    fn add(&mut self, now: Timestamp, line: &[u8], place: Option<Place>) {
        if self.records > 0 {
            self.text.push(b',');
        }
        self.text.extend_from_slice(line);
        self.records += 1;
        self.since.get_or_insert(now);
        if let Some(place) = place {
            let (first, last) = self.slots.unwrap_or((place.slot, place.slot));
            self.slots = Some((first.min(place.slot), last.max(place.slot)));
            self.span = Some(Span::with(self.span, place));
        }
    }

    /// Whether another record is too much.
    fn is_full(&self, line: &[u8]) -> bool {
        let bytes = self.text.len() + 1 + line.len();
        !self.repeats() && (self.records >= self.limits.items || bytes > self.limits.bytes)
    }

    /// Whether a record was in a message before the one that is repeated: they go out in order.
    fn was_delivered(&self, place: Place) -> bool {
        self.again.is_some_and(|again| place.slot == again.from.slot && place.record < again.from.record)
    }

    /// Whether the message that is repeated begins with this record, or is over; it is, too, when a slot comes that was not
    /// in it, so that it is no longer what it was.
    fn is_cut_before(&self, place: Place) -> bool {
        let Some(again) = self.again else { return false };
        match self.repeats() {
            true => self.is_repeated() || place < again.from || place.slot > again.to.slot,
            false => place == again.from,
        }
    }

    /// Whether the message under construction is the one that is repeated.
    fn repeats(&self) -> bool {
        let from = self.span.map(|span| span.from);
        from.is_some() && from == self.again.map(|again| again.from)
    }

    /// Whether all of it is there.
    fn is_repeated(&self) -> bool {
        self.span.is_some() && self.span == self.again
    }

    /// When [`Self::take`] is due; `None` if there is nothing to take, or if it is not the time that cuts it.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.since.filter(|_| !self.repeats()).map(|since| since.after(self.limits.wait))
    }

    /// Whatever there is.
    pub(crate) fn take(&mut self) -> Option<RecordMessage> {
        self.since.take()?;
        if self.repeats() {
            self.again = None;
        }
        let span = self.span.take();
        let (text, marks) = (std::mem::take(&mut self.text), std::mem::take(&mut self.marks));
        let (records, slots) = (std::mem::take(&mut self.records), self.slots.take());
        let body = if records == 0 { Bytes::new() } else { body(&text, records, slots).into() };
        Some(RecordMessage { id: id(&body, slots), body, records, marks, span })
    }
}

fn body(text: &[u8], records: usize, slots: Option<(Slot, Slot)>) -> Vec<u8> {
    let range = slots
        .map_or_else(String::new, |(first, last)| format!("\"first_slot\":{first},\"last_slot\":{last},"));
    let head = format!("{{\"type\":\"records\",{range}\"count\":{records},\"records\":[");
    [head.as_bytes(), text, b"]}"].concat()
}

/// The slots and a digest of the body: 64 bits of it tell messages about the same slots apart.
fn id(body: &[u8], slots: Option<(Slot, Slot)>) -> String {
    let digest = Sha256::digest(body);
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    match slots {
        Some((first, last)) => format!("records_{first}_{last}_{digest}"),
        None => format!("records_{digest}"),
    }
}

#[cfg(test)]
#[path = "batches_tests.rs"]
mod tests;
