use super::*;

/// When a held block has waited long enough.
fn later() -> Timestamp {
    Timestamp(1).after(RecoveryOptions::default().hole_interval)
}

fn final_block_of(slot: Slot) -> Fetch {
    Fetch::Block { slot, commitment: Commitment::Finalized }
}

/// A planner to which slot 9 came, slot 10 is final as a number, and the answer for slot 10 is held.
fn holding(updates: Vec<Update>) -> Planner {
    let mut planner = planner();
    child_of(&mut planner, 8, 0);
    gap(&mut planner, 10, 10);
    planner.on_fetched(Timestamp(0), Fetch::Tip, Fetched::Slots(vec![10]), &mut Output::default());
    assert!(fetches(&mut planner, Timestamp(0)).contains(&final_block_of(10)));
    assert!(slots(&bring(&mut planner, final_block_of(10), 10, updates)).is_empty());
    assert!(planner.searches[&10].held.is_some());
    planner
}

fn answer(planner: &mut Planner, fetch: Fetch, listed: &[Slot]) {
    planner.on_fetched(later(), fetch, Fetched::Slots(listed.to_vec()), &mut Output::default());
}

#[test]
fn the_last_block_goes_on_once_a_list_and_a_second_answer_speak_for_it() {
    let mut planner = holding(whole(10, 9));
    assert!(fetches(&mut planner, Timestamp(2)).is_empty(), "a child may come yet");
    let list = Fetch::List { first: 9, last: 10 };
    assert_eq!(fetches(&mut planner, later()), [list]);
    answer(&mut planner, list, &[9, 10]);
    assert_eq!(fetches(&mut planner, later()), [final_block_of(10)]);
    let out = bring(&mut planner, final_block_of(10), 10, whole(10, 9));
    let Some(Item::Block(block)) = out.items.first() else { panic!("a block") };
    assert_eq!((block.slot(), block.vouched), (10, Some(Commitment::Finalized)));
    assert!(!planner.searches.contains_key(&10));
}

#[test]
fn another_slots_block_does_not_go_on_whichever_of_the_three_shows_it() {
    // 7 is the parent that the block of slot 8 names; slot 8 itself is not known here.
    let mut planner = planner();
    child_of(&mut planner, 6, 0);
    gap(&mut planner, 10, 10);
    planner.on_fetched(Timestamp(0), Fetch::Tip, Fetched::Slots(vec![10]), &mut Output::default());
    fetches(&mut planner, Timestamp(0));
    bring(&mut planner, final_block_of(10), 10, mixed_up(8, 7));
    let list = Fetch::List { first: 7, last: 10 };
    assert_eq!(fetches(&mut planner, later()), [list]);
    answer(&mut planner, list, &[7, 8, 10]);
    assert!(planner.searches[&10].held.is_none() && planner.counters.refused == 1);

    let mut planner = holding(mixed_up(8, 3));
    assert!(
        !fetches(&mut planner, later()).iter().any(|fetch| matches!(fetch, Fetch::List { last: 10, .. }))
    );

    let mut planner = holding(whole(10, 9));
    let list = Fetch::List { first: 9, last: 10 };
    fetches(&mut planner, later());
    answer(&mut planner, list, &[9, 10]);
    fetches(&mut planner, later());
    let out = bring(&mut planner, final_block_of(10), 10, mixed_up(8, 7));
    assert!(slots(&out).is_empty() && planner.searches[&10].held.is_none(), "two answers that differ");
}

#[test]
fn a_failed_question_is_put_again_after_as_long() {
    let mut planner = holding(whole(10, 9));
    let list = Fetch::List { first: 9, last: 10 };
    assert_eq!(fetches(&mut planner, later()), [list]);
    fail(&mut planner, later(), list);
    assert!(fetches(&mut planner, later()).is_empty());
    assert_eq!(fetches(&mut planner, later().after(RecoveryOptions::default().hole_interval)), [list]);
}

#[test]
fn what_is_not_the_last_block_waits_for_its_child() {
    let mut planner = holding(whole(10, 9));
    finalized(&mut planner, 12, None);
    assert!(fetches(&mut planner, later()).is_empty());
    assert_eq!(slots(&child_of(&mut planner, 10, 0)), [11, 10]);
}
