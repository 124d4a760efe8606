use proptest::prelude::*;

use super::*;
use crate::delivery::cursor::{Cursor, Position};

fn limits(items: usize, bytes: usize) -> BatchLimits {
    BatchLimits { items, bytes, wait: Duration::from_secs(1) }
}

fn lines(slot: Slot, count: usize) -> Lines {
    let mut lines = Lines::default();
    (0..count).for_each(|index| lines.push(&serde_json::json!({"slot": slot, "index": index})));
    lines
}

fn block(slot: Slot) -> Option<(Mark, Hash)> {
    Some((Mark { parent_slot: slot - 1, slot }, Hash([slot as u8; 32])))
}

fn batches(items: usize, bytes: usize) -> Batches {
    Batches::new(limits(items, bytes), BegunBlocks::default())
}

#[test]
fn a_body_is_json_and_its_id_names_what_is_in_it() {
    let message = || {
        let (mut batches, mut out) = (batches(10, 10_000), Vec::new());
        batches.push(Timestamp(0), &lines(7, 2), block(7), &mut out);
        batches.push(Timestamp(5), &lines(8, 1), block(8), &mut out);
        assert_eq!((out.len(), batches.due()), (0, Some(Timestamp(1_000_000))));
        batches.take().expect("three records")
    };
    let body: serde_json::Value = serde_json::from_slice(&message().body).expect("JSON");
    assert_eq!((&body["first_slot"], &body["last_slot"], &body["count"]), (&7.into(), &8.into(), &3.into()));
    assert_eq!(body["records"][2]["slot"], 8);
    assert!(message().id.starts_with("records_7_8_"), "{}", message().id);
    assert_eq!(message(), message());
}

#[test]
fn samples_go_in_messages_of_their_own() {
    let (mut batches, mut out) = (batches(10, 10_000), Vec::new());
    batches.push(Timestamp(0), &lines(7, 2), block(7), &mut out);
    batches.push(Timestamp(0), &lines(0, 1), None, &mut out);
    batches.push(Timestamp(0), &lines(8, 1), block(8), &mut out);
    out.extend(batches.take());
    let shown: Vec<_> = out.iter().map(|message| (message.records, message.is_of_chain)).collect();
    assert_eq!(shown, [(2, true), (1, false), (1, true)]);
}

#[test]
fn of_a_block_that_was_begun_only_the_rest_is_sent_unless_it_is_another_one_now() {
    let (mut first, mut out) = (batches(2, 10_000), Vec::new());
    first.push(Timestamp(0), &lines(7, 3), block(7), &mut out);
    let begun = || BegunBlocks::new(out[0].begun.clone());
    assert_eq!((out[0].records, out[0].begun.len()), (2, 1));
    let rest = |lines: &Lines, block| {
        let (mut then, mut out) = (Batches::new(limits(9, 10_000), begun()), Vec::new());
        then.push(Timestamp(0), lines, block, &mut out);
        then.take().map(|message| (message.records, message.begun.len()))
    };
    assert_eq!(rest(&lines(7, 3), block(7)), Some((1, 0)));
    assert_eq!(rest(&lines(8, 3), block(8)), Some((3, 1)), "what is begun is remembered until it comes");
    let other = block(7).map(|(mark, _)| (mark, Hash([9; 32])));
    assert_eq!(rest(&lines(7, 3), other), Some((3, 1)), "another version");
    assert_eq!(rest(&lines(6, 3), block(7)), Some((3, 0)), "other records of the same block");
}

#[test]
fn blocks_without_records_are_passed_on_too() {
    let (mut batches, mut out) = (batches(3, 100), Vec::new());
    for slot in 1..=3 {
        batches.push(Timestamp(0), &Lines::default(), block(slot), &mut out);
    }
    assert_eq!((out[0].records, out[0].body.len(), out[0].marks.len()), (0, 0, 3));
    assert_eq!(batches.take(), None);
}

/// A process: goes on from `position` with blocks in this order, in messages that are cut by their limits and, where
/// `cuts` says so, by time, until the receiver has taken `crash` messages and nobody has noted that of the last one.
/// Returns what the receiver has taken, and what is stored then.
fn run(
    position: Option<Position>,
    blocks: &[(Slot, usize)],
    limits: BatchLimits,
    cuts: u64,
    crash: usize,
) -> (Vec<RecordMessage>, Option<Position>) {
    let mut cursor = Cursor::resume(position.as_ref());
    cursor.begin(1);
    let begun = position.as_ref().map(Position::begun_then).unwrap_or_default();
    let (mut batches, mut queue) = (Batches::new(limits, BegunBlocks::new(begun)), Vec::new());
    let mut noted = position.as_ref().map(|position| position.begun.clone()).unwrap_or_default();
    queue.extend(position.and_then(|position| position.message));
    for &(slot, count) in blocks {
        let (mark, hash) = block(slot).expect("a block");
        if cursor.accept(slot, hash) {
            batches.push(Timestamp(0), &lines(slot, count), Some((mark, hash)), &mut queue);
        }
        if cuts >> (slot % 64) & 1 == 1 {
            queue.extend(batches.take());
        }
    }
    queue.extend(batches.take());
    let mut taken = Vec::new();
    for message in queue {
        if message.records > 0 {
            taken.push(message.clone());
        }
        if taken.len() == crash {
            let position = cursor.position(Some(message), noted);
            return (taken, position);
        }
        message.marks.iter().for_each(|mark| cursor.on_delivered(mark.parent_slot, mark.slot));
        noted = message.begun;
    }
    let position = cursor.position(None, noted);
    (taken, position)
}

proptest! {
    #[test]
    fn whoever_keeps_ids_takes_each_record_once_whatever_comes_when_between_crashes(
        counts in proptest::collection::vec(0..40usize, 1..30),
        runs in proptest::collection::vec((1..20usize, 50..400usize, any::<u64>(), any::<u64>(), 1..12usize), 1..5),
    ) {
        let blocks: Vec<(Slot, usize)> = (1..).zip(counts).collect();
        let (mut position, mut taken) = (None, Vec::new());
        let last = (7, 300, 0, 1, usize::MAX);
        for (items, bytes, cuts, seed, crash) in runs.into_iter().chain([last]) {
            let mut order = blocks.clone();
            order.sort_by_key(|(slot, _)| slot.wrapping_mul(seed | 1));
            let (more, stored) = run(position, &order, limits(items, bytes), cuts, crash);
            // What is stored survives as it is written.
            position = stored.map(|stored| {
                let text = serde_json::to_vec(&stored).expect("JSON");
                serde_json::from_slice(&text).expect("the same")
            });
            taken.extend(more);
        }
        let mut ids = std::collections::BTreeSet::new();
        let mut records = Vec::new();
        for message in taken.iter().filter(|message| ids.insert(message.id.clone())) {
            let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
            let own = body["records"].as_array().expect("a list").clone();
            records.extend(own.into_iter().map(|one| (one["slot"].as_u64(), one["index"].as_u64())));
        }
        records.sort_unstable();
        let expected: Vec<_> = blocks.iter()
            .flat_map(|&(slot, count)| (0..count as u64).map(move |index| (Some(slot), Some(index))))
            .collect();
        prop_assert_eq!(records, expected);
    }

    #[test]
    fn nothing_is_lost_and_no_bound_is_broken(
        blocks in proptest::collection::vec(0..40usize, 1..30),
        items in 1..20usize,
        bytes in 1..400usize,
    ) {
        let (mut batches, mut out) = (batches(items, bytes), Vec::new());
        for (slot, &count) in (1..).zip(&blocks) {
            batches.push(Timestamp(0), &lines(slot, count), block(slot), &mut out);
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
