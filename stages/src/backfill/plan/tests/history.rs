//! Nodes that keep less than is asked for, and nodes that answer with something else.

use super::*;
use crate::recovery::rpc::MAX_LISTED_SLOTS;

fn lists(node: &Node) -> Vec<(Slot, Slot)> {
    let list = |ask: &Ask| match ask {
        Ask::List { first, last } => Some((*first, *last)),
        _ => None,
    };
    node.asked.iter().filter_map(list).collect()
}

#[test]
fn what_is_before_the_nodes_history_is_a_hole_at_once() {
    let mut node = Node::new((0..20).chain(86_400_000..86_400_100));
    node.first_available = 86_400_000;
    let ran = run(&[(0, 24), (40, 49)], &mut node, 1);
    assert_eq!((ran.holes.as_slice(), ran.slots.as_slice()), (&[24, 49][..], &[][..]));
    assert!(node.asked.len() <= 5, "{:?}", node.asked);
}

#[test]
fn where_the_nodes_history_begins_the_files_begin() {
    let mut node = Node::new(0..2_100);
    node.first_available = 1_995;
    let ran = run(&[(10, 2_019)], &mut node, 1);
    // The history begins amid a file, which is a hole, too.
    assert_eq!(ran.holes.last(), Some(&1_994));
    assert_eq!(ran.slots, (2_000..=2_020).collect::<Vec<_>>());
}

#[test]
fn what_is_listed_wrongly_as_nothing_is_listed_once_more() {
    let mut node = Node::new(0..100);
    node.withheld.extend(10..80);
    let mut planner =
        Planner::new(bounds(), vec![SlotRange { first: 10, last: 19 }], at(0), SmallRng::seed_from_u64(0));
    let mut asked = Vec::new();
    for _ in 0..4 {
        let ask = planner.next_ask(at(0), ROOM).expect("a question");
        asked.push(ask);
        planner.on_answer(at(0), ask, node.answer(ask));
        if asked.len() == 2 {
            node.withheld.clear();
        }
    }
    let list = Ask::List { first: 10, last: 51 };
    assert_eq!(asked, [Ask::Tip, list, Ask::FirstAvailable, list]);
    assert_eq!(planner.next_ask(at(0), ROOM), Some(Ask::Block(10)));
}

#[test]
fn beyond_the_end_ever_more_slots_are_listed_at_a_time() {
    let mut node = Node::new((0..20).chain(20_000_000..20_000_010));
    let ran = run(&[(0, 24)], &mut node, 1);
    assert_eq!(ran.slots, (0..20).chain([20_000_000]).collect::<Vec<_>>());
    let lists = lists(&node);
    assert!(lists.len() < 60, "{}", lists.len());
    assert_eq!(lists.iter().map(|(first, last)| last - first + 1).max(), Some(MAX_LISTED_SLOTS));
}

/// Fails each question that `is_failing` picks with `kind`, until the end or 600 seconds; returns how long that took.
fn fail(kind: FailureKind, node: &mut Node, is_failing: fn(Ask) -> bool) -> (Planner, u64) {
    let ranges = vec![SlotRange { first: 0, last: 9 }];
    let mut planner = Planner::new(bounds(), ranges, at(0), SmallRng::seed_from_u64(0));
    let mut seconds = 0;
    while planner.fatal().is_none() && !planner.is_done() && seconds < 600 {
        seconds += 1;
        while let Some(ask) = planner.next_ask(at(seconds * 1_000), ROOM) {
            let answer = if is_failing(ask) { failed(kind) } else { node.answer(ask) };
            planner.on_answer(at(seconds * 1_000), ask, answer);
        }
        std::iter::from_fn(|| planner.next_block()).count();
        planner.take_events();
    }
    (planner, seconds)
}

#[test]
fn a_server_that_is_no_node_ends_the_backfill_with_the_reason() {
    for kind in [FailureKind::Slot, FailureKind::ClaimedSkipped, FailureKind::Gone, FailureKind::Refused] {
        for is_failing in [|ask: Ask| ask == Ask::Tip, |ask: Ask| matches!(ask, Ask::List { .. })] {
            let (planner, seconds) = fail(kind, &mut Node::new(0..20), is_failing);
            let fatal = planner.fatal().unwrap_or_default();
            assert!(fatal.contains("lists no slots") && fatal.contains(&format!("{kind:?}")), "{fatal}");
            assert!(seconds < 60, "{seconds}");
        }
    }
}

#[test]
fn nodes_that_do_not_know_where_their_history_begins_are_believed_what_they_list() {
    let mut node = Node::new(5_000..5_020);
    let (planner, _) = fail(FailureKind::Refused, &mut node, |ask| ask == Ask::FirstAvailable);
    assert_eq!(planner.fatal(), None);
    assert!(planner.is_done());
}

#[test]
fn a_long_pause_that_the_node_asked_for_is_no_silence() {
    let mut planner =
        Planner::new(bounds(), vec![SlotRange { first: 0, last: 9 }], at(0), SmallRng::seed_from_u64(0));
    let hour = Duration::from_secs(3_600);
    let paused = |wait| {
        let reason = "a pause".to_owned();
        Answer::Failed(Failure { kind: FailureKind::Pushback, reason, retry_after: Some(wait) })
    };
    let ask = planner.next_ask(at(0), ROOM).expect("a question");
    planner.on_answer(at(0), ask, paused(hour));
    assert_eq!(planner.next_ask(at(3_599_000), ROOM), None);
    let ask = planner.next_ask(at(3_600_000), ROOM).expect("the pause is over");
    planner.on_answer(at(3_600_000), ask, failed(FailureKind::Silence));
    assert_eq!(planner.fatal(), None);
    let mut now = at(3_600_000);
    while planner.fatal().is_none() {
        now = now.after(Duration::from_secs(1));
        assert!(now < at(4_000_000), "silence behind it is one");
        if let Some(ask) = planner.next_ask(now, ROOM) {
            planner.on_answer(now, ask, failed(FailureKind::Silence));
        }
    }
}
