//! Puts records together to the messages of a webhook, pure: by number, by size, and by how long the first one waited.
//!
//! A message holds records in the order in which they came. Its id names the slots and what is in it: the same records
//! give the same id, whenever they are sent.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sluice_stages::slot::{Slot, Timestamp};

use super::record::Lines;

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
}

impl Batches {
    /// Nothing yet.
    pub(crate) fn new(limits: BatchLimits) -> Self {
        Self { limits, text: Vec::new(), records: 0, slots: None, marks: Vec::new(), since: None }
    }

    /// Adds the records of a block, or of no block; messages that are full go to `out`.
    pub(crate) fn push(
        &mut self,
        now: Timestamp,
        lines: &Lines,
        mark: Option<Mark>,
        out: &mut Vec<RecordMessage>,
    ) {
        for line in lines.iter() {
            let bytes = self.text.len() + 1 + line.len();
            if self.records >= self.limits.items || (self.records > 0 && bytes > self.limits.bytes) {
                out.extend(self.take());
            }
            if self.records > 0 {
                self.text.push(b',');
            }
            self.text.extend_from_slice(line);
            self.records += 1;
            self.since.get_or_insert(now);
            if let Some(Mark { slot, .. }) = mark {
                let (first, last) = self.slots.unwrap_or((slot, slot));
                self.slots = Some((first.min(slot), last.max(slot)));
            }
        }
        let Some(mark) = mark else { return };
        self.marks.push(mark);
        self.since.get_or_insert(now);
        // Blocks of which nothing is sent don't wait without end either.
        if self.marks.len() >= self.limits.items {
            out.extend(self.take());
        }
    }

    /// When [`Self::take`] is due; `None` if there is nothing to take.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.since.map(|since| since.after(self.limits.wait))
    }

    /// Whatever there is.
    pub(crate) fn take(&mut self) -> Option<RecordMessage> {
        self.since.take()?;
        let (text, marks) = (std::mem::take(&mut self.text), std::mem::take(&mut self.marks));
        let (records, slots) = (std::mem::take(&mut self.records), self.slots.take());
        let body = if records == 0 { Bytes::new() } else { body(&text, records, slots).into() };
        Some(RecordMessage { id: id(&body, slots), body, records, marks })
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(items: usize, bytes: usize) -> BatchLimits {
        BatchLimits { items, bytes, wait: Duration::from_secs(1) }
    }

    fn lines(slot: Slot, count: usize) -> Lines {
        let mut lines = Lines::default();
        (0..count).for_each(|index| lines.push(&serde_json::json!({"slot": slot, "index": index})));
        lines
    }

    fn mark(slot: Slot) -> Option<Mark> {
        Some(Mark { parent_slot: slot - 1, slot })
    }

    #[test]
    fn a_body_is_json_and_its_id_names_what_is_in_it() {
        let message = || {
            let (mut batches, mut out) = (Batches::new(limits(10, 10_000)), Vec::new());
            batches.push(Timestamp(0), &lines(7, 2), mark(7), &mut out);
            batches.push(Timestamp(5), &lines(8, 1), mark(8), &mut out);
            assert_eq!((out.len(), batches.due()), (0, Some(Timestamp(1_000_000))));
            batches.take().expect("three records")
        };
        let body: serde_json::Value = serde_json::from_slice(&message().body).expect("JSON");
        assert_eq!(
            (&body["first_slot"], &body["last_slot"], &body["count"]),
            (&7.into(), &8.into(), &3.into())
        );
        assert_eq!(body["records"][2]["slot"], 8);
        assert!(message().id.starts_with("records_7_8_"), "{}", message().id);
        assert_eq!(message(), message());
    }

    #[test]
    fn blocks_without_records_are_passed_on_too() {
        let (mut batches, mut out) = (Batches::new(limits(3, 100)), Vec::new());
        for slot in 1..=3 {
            batches.push(Timestamp(0), &Lines::default(), mark(slot), &mut out);
        }
        assert_eq!((out[0].records, out[0].body.len(), out[0].marks.len()), (0, 0, 3));
        assert_eq!(batches.take(), None);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_bound_is_broken(
            blocks in proptest::collection::vec(0..40usize, 1..30),
            items in 1..20usize,
            bytes in 1..400usize,
        ) {
            let (mut batches, mut out) = (Batches::new(limits(items, bytes)), Vec::new());
            for (slot, &count) in (1..).zip(&blocks) {
                batches.push(Timestamp(0), &lines(slot, count), mark(slot), &mut out);
            }
            out.extend(batches.take());
            let mut records = Vec::new();
            let mut marks = Vec::new();
            for message in out {
                prop_assert!(message.records <= items);
                if message.records > 0 {
                    let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
                    let own = body["records"].as_array().expect("a list").clone();
                    prop_assert_eq!(own.len(), message.records);
                    let text_bytes: usize = own.iter().map(|one| one.to_string().len() + 1).sum();
                    prop_assert!(own.len() == 1 || text_bytes <= bytes + 1);
                    records.extend(own.into_iter().map(|one| (one["slot"].as_u64(), one["index"].as_u64())));
                }
                // A block is marked only where all of its records are in this message or one before.
                for mark in message.marks {
                    marks.push(mark.slot);
                    let there = records.iter().filter(|(slot, _)| *slot == Some(mark.slot)).count();
                    prop_assert_eq!(there, blocks[mark.slot as usize - 1]);
                }
            }
            let expected: Vec<_> = (1u64..).zip(&blocks)
                .flat_map(|(slot, &count)| (0..count as u64).map(move |index| (Some(slot), Some(index))))
                .collect();
            prop_assert_eq!(records, expected);
            prop_assert_eq!(marks, (1..=blocks.len() as u64).collect::<Vec<_>>());
        }
    }
}
