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
        let (mut batches, mut out) = (Batches::new(limits(10, 10_000), None), Vec::new());
        batches.push(Timestamp(0), &lines(7, 2), mark(7), &mut out);
        batches.push(Timestamp(5), &lines(8, 1), mark(8), &mut out);
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
    let (mut batches, mut out) = (Batches::new(limits(10, 10_000), None), Vec::new());
    batches.push(Timestamp(0), &lines(7, 2), mark(7), &mut out);
    batches.push(Timestamp(0), &lines(0, 1), None, &mut out);
    batches.push(Timestamp(0), &lines(8, 1), mark(8), &mut out);
    out.extend(batches.take());
    let shown: Vec<_> = out.iter().map(|message| (message.records, message.span.is_some())).collect();
    assert_eq!(shown, [(2, true), (1, false), (1, true)]);
}

#[test]
fn a_message_whose_last_slot_is_another_one_now_does_not_wait_for_it() {
    let span = Span { from: Place { slot: 7, record: 0 }, to: Place { slot: 8, record: 5 } };
    let (mut batches, mut out) = (Batches::new(limits(10, 10_000), Some(span)), Vec::new());
    batches.push(Timestamp(0), &lines(7, 2), mark(7), &mut out);
    batches.push(Timestamp(0), &lines(8, 2), mark(8), &mut out);
    assert_eq!((out.len(), batches.due()), (0, None), "three more may come");
    batches.push(Timestamp(0), &lines(9, 1), mark(9), &mut out);
    assert_eq!(out.iter().map(|message| message.records).collect::<Vec<_>>(), [4]);
    assert!(batches.due().is_some(), "what follows is cut as usual");
}

#[test]
fn blocks_without_records_are_passed_on_too() {
    let (mut batches, mut out) = (Batches::new(limits(3, 100), None), Vec::new());
    for slot in 1..=3 {
        batches.push(Timestamp(0), &Lines::default(), mark(slot), &mut out);
    }
    assert_eq!((out[0].records, out[0].body.len(), out[0].marks.len()), (0, 0, 3));
    assert_eq!(batches.take(), None);
}

/// Sends blocks in batches that are cut by their limits and, where `cuts` says so, by time, until `crash` messages are
/// sent; returns them and the blocks that are behind the cursor then.
fn sent(
    batches: &mut Batches,
    blocks: &[usize],
    from: usize,
    cuts: u64,
    crash: usize,
) -> (Vec<RecordMessage>, usize) {
    let mut out = Vec::new();
    for (slot, &count) in (1..).zip(blocks).skip(from) {
        batches.push(Timestamp(0), &lines(slot, count), mark(slot), &mut out);
        if cuts >> (slot % 64) & 1 == 1 && batches.due().is_some() {
            out.extend(batches.take());
        }
    }
    out.extend(batches.take());
    // Messages without records are not sent, but bring the cursor on.
    let mut sent = 0;
    out.retain(|message| {
        sent += usize::from(message.records > 0);
        sent <= crash
    });
    // The last one was sent, but the crash came before its end was noted.
    let noted = out.iter().rposition(|message| message.records > 0).unwrap_or(out.len());
    let behind = out[..noted].iter().flat_map(|message| &message.marks).map(|mark| mark.slot).max();
    out.retain(|message| message.records > 0);
    (out, behind.map_or(from, |slot| slot as usize))
}

proptest! {
    #[test]
    fn a_message_that_was_on_its_way_is_cut_the_same_again(
        blocks in proptest::collection::vec(0..40usize, 1..30),
        first in (1..20usize, 50..400usize),
        then in (1..20usize, 50..400usize),
        (cuts, other_cuts) in any::<(u64, u64)>(),
        crash in 1..20usize,
    ) {
        let mut batches = Batches::new(limits(first.0, first.1), None);
        let (before, behind) = sent(&mut batches, &blocks, 0, cuts, crash);
        let again = before.last().and_then(|message| message.span);
        let mut batches = Batches::new(limits(then.0, then.1), again);
        let (after, _) = sent(&mut batches, &blocks, behind, other_cuts, usize::MAX);
        let mut ids = std::collections::BTreeSet::new();
        let mut records = Vec::new();
        for message in before.iter().chain(&after).filter(|message| ids.insert(message.id.clone())) {
            let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
            let own = body["records"].as_array().expect("a list").clone();
            records.extend(own.into_iter().map(|one| (one["slot"].as_u64(), one["index"].as_u64())));
        }
        let expected: Vec<_> = (1u64..).zip(&blocks)
            .flat_map(|(slot, &count)| (0..count as u64).map(move |index| (Some(slot), Some(index))))
            .collect();
        prop_assert_eq!(records, expected, "whoever keeps ids takes each record once");
        prop_assert_eq!(after.first().map(|message| &message.id), before.last().map(|message| &message.id));
    }

    #[test]
    fn nothing_is_lost_and_no_bound_is_broken(
        blocks in proptest::collection::vec(0..40usize, 1..30),
        items in 1..20usize,
        bytes in 1..400usize,
    ) {
        let (mut batches, mut out) = (Batches::new(limits(items, bytes), None), Vec::new());
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
