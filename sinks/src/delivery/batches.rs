//! Puts records together to the messages of a webhook, pure: by number, by size, and by how long the first one waited.
//!
//! A message holds records in the order in which they came. Its id names the slots and what is in it: the same records
//! give the same id, whenever they are sent. Of a block whose first records were sent before a restart only the others are
//! put in ([`super::record_message`]).

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sluice_stages::slot::{Hash, Slot, Timestamp};

use super::record::Lines;
use super::record_message::{Begun, BegunBlocks, Mark, RecordMessage, short_hex};

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

/// The message under construction.
#[derive(Debug)]
pub(crate) struct Batches {
    limits: BatchLimits,
    /// Records, with commas between them.
    text: Vec<u8>,
    records: usize,
    /// First and last slot of the records; `None` for those that are not on the chain.
    slots: Option<(Slot, Slot)>,
    marks: Vec<Mark>,
    since: Option<Timestamp>,
    /// Blocks whose first records a process before this one sent.
    begun: BegunBlocks,
}

impl Batches {
    /// Nothing yet, where the first records of some blocks were sent before.
    pub(crate) fn new(limits: BatchLimits, begun: BegunBlocks) -> Self {
        let (text, marks) = (Vec::new(), Vec::new());
        Self { limits, text, records: 0, slots: None, marks, since: None, begun }
    }

    /// Adds the records of a block, or of no block; messages that are full go to `out`.
    pub(crate) fn push(
        &mut self,
        now: Timestamp,
        lines: &Lines,
        block: Option<(Mark, Hash)>,
        out: &mut Vec<RecordMessage>,
    ) {
        // Samples don't come again, so they are in no message that is sent again.
        if self.records > 0 && self.slots.is_some() != block.is_some() {
            out.extend(self.take());
        }
        let sent = block.map_or(0, |(mark, hash)| self.begun.take(mark.slot, hash, lines));
        for (record, line) in lines.iter().enumerate().skip(sent) {
            if self.is_full(line) {
                let begun = block.filter(|_| record > 0);
                let begun = begun.map(|(mark, hash)| Begun::new(mark.slot, hash, lines, record));
                out.extend(self.cut(begun));
            }
            self.add(now, line, block.map(|(mark, _)| mark.slot));
        }
        let Some((mark, _)) = block else { return };
        self.marks.push(mark);
        self.since.get_or_insert(now);
        // Blocks of which nothing is sent don't wait without end either.
        if self.marks.len() >= self.limits.items {
            out.extend(self.take());
        }
    }

    fn add(&mut self, now: Timestamp, line: &[u8], slot: Option<Slot>) {
        if self.records > 0 {
            self.text.push(b',');
        }
        self.text.extend_from_slice(line);
        self.records += 1;
        self.since.get_or_insert(now);
        if let Some(slot) = slot {
            let (first, last) = self.slots.unwrap_or((slot, slot));
            self.slots = Some((first.min(slot), last.max(slot)));
        }
    }

    /// Whether another record is too much.
    fn is_full(&self, line: &[u8]) -> bool {
        let bytes = self.text.len() + 1 + line.len();
        self.records > 0 && (self.records >= self.limits.items || bytes > self.limits.bytes)
    }

    /// When [`Self::take`] is due; `None` if there is nothing to take.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.since.map(|since| since.after(self.limits.wait))
    }

    /// Whatever there is.
    pub(crate) fn take(&mut self) -> Option<RecordMessage> {
        self.cut(None)
    }

    /// Whatever there is, while some records of a block are in it and others are not.
    fn cut(&mut self, begun: Option<Begun>) -> Option<RecordMessage> {
        self.since.take()?;
        let (text, marks) = (std::mem::take(&mut self.text), std::mem::take(&mut self.marks));
        let (records, slots) = (std::mem::take(&mut self.records), self.slots.take());
        let body = if records == 0 { Bytes::new() } else { body(&text, records, slots).into() };
        let (id, begun, is_of_chain) = (id(&body, slots), self.begun.with(begun), slots.is_some());
        Some(RecordMessage { id, body, records, marks, begun, is_of_chain })
    }
}

fn body(text: &[u8], records: usize, slots: Option<(Slot, Slot)>) -> Vec<u8> {
    let range = slots
        .map_or_else(String::new, |(first, last)| format!("\"first_slot\":{first},\"last_slot\":{last},"));
    let head = format!("{{\"type\":\"records\",{range}\"count\":{records},\"records\":[");
    [head.as_bytes(), text, b"]}"].concat()
}

/// The slots and a digest of the body, which tells messages about the same slots apart.
fn id(body: &[u8], slots: Option<(Slot, Slot)>) -> String {
    let digest = short_hex(&Sha256::digest(body));
    match slots {
        Some((first, last)) => format!("records_{first}_{last}_{digest}"),
        None => format!("records_{digest}"),
    }
}

#[cfg(test)]
#[path = "batches_tests.rs"]
mod tests;
