use proptest::prelude::*;

use super::*;
use crate::delivery::record_message::Mark;

fn position(next_slot: Slot, delivered: &[(Slot, Slot)], message: Option<RecordMessage>) -> Position {
    Position { next_slot, delivered: delivered.to_vec(), begun: Vec::new(), message }
}

fn at(next_slot: Slot) -> Cursor {
    Cursor::resume(Some(&position(next_slot, &[], None)))
}

/// A message in which a block ends.
fn message(parent_slot: Slot, slot: Slot) -> Option<RecordMessage> {
    Some(RecordMessage {
        id: "records_1".to_owned(),
        body: "{\"records\":[\"\\u0000\"]}".into(),
        records: 1,
        marks: vec![Mark { parent_slot, slot }],
        begun: Vec::new(),
        is_of_chain: true,
    })
}

#[test]
fn skipped_slots_are_covered_by_the_block_behind_them() {
    let mut cursor = at(10);
    cursor.on_delivered(9, 10);
    cursor.on_delivered(10, 14);
    assert_eq!(cursor.next_slot, Some(15));
}

#[test]
fn a_hole_holds_it_until_it_is_filled() {
    let mut cursor = at(10);
    cursor.on_delivered(9, 10);
    cursor.on_delivered(11, 12);
    cursor.on_delivered(12, 13);
    assert_eq!(cursor.next_slot, Some(11));
    cursor.on_delivered(10, 11);
    assert_eq!((cursor.next_slot, cursor.stretches.len()), (Some(14), 0));
}

#[test]
fn what_was_delivered_beyond_a_hole_is_not_delivered_again_after_a_restart() {
    let mut cursor = at(10);
    cursor.on_delivered(9, 10);
    cursor.on_delivered(11, 12);
    let position = cursor.position(None, Vec::new()).expect("known");
    assert_eq!((position.next_slot, &position.delivered), (11, &vec![(12, 13)]));
    let mut cursor = Cursor::resume(Some(&position));
    assert!(!cursor.accept(12, Hash([1; 32])));
    assert!(cursor.accept(11, Hash([1; 32])) && cursor.accept(13, Hash([1; 32])));
    cursor.on_delivered(10, 11);
    assert_eq!(cursor.next_slot, Some(13));
}

#[test]
fn what_is_in_the_message_that_is_sent_again_is_not_accepted_and_holds_the_cursor() {
    let stored = position(10, &[(13, 15)], message(11, 12));
    let mut cursor = Cursor::resume(Some(&stored));
    assert_eq!(
        [10, 11, 12, 13, 14, 15].map(|slot| cursor.accept(slot, Hash([1; 32]))),
        [true, true, false, false, false, true]
    );
    assert_eq!(cursor.next_slot, Some(10));
    cursor.on_delivered(9, 11);
    assert_eq!(cursor.next_slot, Some(12), "the message was not taken yet");
    cursor.on_delivered(11, 12);
    assert_eq!(cursor.next_slot, Some(15));
}

#[test]
fn before_anything_is_known_a_message_says_where_it_begins() {
    assert_eq!(Cursor::default().position(None, Vec::new()), None);
    let known = Cursor::default().position(message(11, 12), Vec::new());
    assert_eq!(known.map(|position| position.next_slot), Some(12));
}

#[test]
fn what_comes_again_is_not_accepted_again() {
    let mut cursor = at(10);
    let (one, other) = (Hash([1; 32]), Hash([2; 32]));
    assert!(!cursor.accept(9, one), "behind the cursor");
    assert!(cursor.accept(10, one));
    assert!(!cursor.accept(10, one));
    assert!(cursor.accept(10, other), "another version");
    cursor.on_delivered(9, 10);
    assert!(!cursor.accept(10, Hash([3; 32])));
    assert!(cursor.accepted.is_empty());
}

#[test]
fn a_begin_behind_the_cursor_means_that_slots_were_missed() {
    assert!(!Cursor::resume(None).begin(10));
    assert!(!at(10).begin(10));
    assert!(!at(10).begin(5));
    let mut cursor = at(10);
    assert!(cursor.begin(12));
    assert_eq!(cursor.next_slot, Some(12));
}

#[test]
fn the_file_says_what_was_stored_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = CursorFile::new(folder.path().join(FILE_NAME));
    assert_eq!(file.load().expect("none"), None);
    for position in
        [position(1, &[(5, 9)], None), position(432_000_000, &[], None), position(7, &[], message(7, 9))]
    {
        file.store(&position).expect("stored");
        assert_eq!(file.load().expect("there"), Some(position));
    }
    fs::write(file.path(), "{\"version\":1,\"next_slot\":8}").expect("written");
    assert_eq!(file.load().expect("an older one").map(|position| position.next_slot), Some(8));
    fs::write(file.path(), "{\"version\":2,\"next_slot\":1}").expect("written");
    assert!(file.load().expect_err("another version").to_string().contains("move it away"));
    fs::write(file.path(), "{").expect("written");
    assert!(file.load().is_err());
}

proptest! {
    #[test]
    fn in_any_order_all_blocks_bring_it_behind_the_last(
        steps in proptest::collection::vec(1..4u64, 1..60),
        seed: u64,
    ) {
        let mut links = Vec::new();
        let mut slot = 100;
        for step in steps {
            links.push((slot, slot + step));
            slot += step;
        }
        let mut order = links.clone();
        order.sort_by_key(|(_, slot)| slot.wrapping_mul(seed | 1));
        let mut cursor = at(101);
        let mut done = std::collections::BTreeSet::new();
        for (parent, slot) in order {
            cursor.on_delivered(parent, slot);
            done.insert(slot);
            let expected = links.iter().find(|(_, slot)| !done.contains(slot)).map(|(parent, _)| parent + 1);
            prop_assert_eq!(cursor.next_slot, Some(expected.unwrap_or(links[links.len() - 1].1 + 1)));
        }
    }
}
