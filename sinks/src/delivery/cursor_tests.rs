use proptest::prelude::*;

use super::*;
use crate::delivery::span::Place;

fn at(next_slot: Slot) -> Cursor {
    Cursor::resume(Some(&Position { next_slot, delivered: Vec::new(), sending: None }))
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
    let position = cursor.position(None).expect("known");
    assert_eq!((position.next_slot, &position.delivered), (11, &vec![(12, 13)]));
    let mut cursor = Cursor::resume(Some(&position));
    assert!(!cursor.accept(12, Hash([1; 32])));
    assert!(cursor.accept(11, Hash([1; 32])) && cursor.accept(13, Hash([1; 32])));
    cursor.on_delivered(10, 11);
    assert_eq!(cursor.next_slot, Some(13));
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
    let span = Span { from: Place { slot: 7, record: 3 }, to: Place { slot: 9, record: 1 } };
    for (next_slot, delivered, sending) in
        [(1, vec![(5, 9)], None), (432_000_000, Vec::new(), None), (7, Vec::new(), Some(span))]
    {
        let position = Position { next_slot, delivered, sending };
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
