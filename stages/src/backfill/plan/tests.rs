mod history;
mod speed;

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _};

use std::time::Duration;

use super::failures::MAX_SILENCE;
use super::*;
use crate::backfill::BlockMaker;
use crate::budget::Budget;
use crate::fixtures::{meta, transaction};
use crate::yellowstone::filters::Selection;

const COMMIT_SLOTS: u64 = 10;
const ROOM: Room = Room { questions: usize::MAX, memory: true };
const FULL: Room = Room { memory: false, ..ROOM };

fn bounds() -> Bounds {
    Bounds { commit_slots: COMMIT_SLOTS, max_in_flight: 4, max_retries: 3, max_holes: 100 }
}

fn at(millis: u64) -> Timestamp {
    Timestamp(millis * 1_000)
}

/// The block of `slot`, whose parent is `parent`.
fn block(slot: Slot, parent: Slot) -> Arc<Block> {
    let frames = vec![transaction(0, 0, slot, 0, 0).frame, meta(0, 0, slot, 0, (parent, 0), 1).frame];
    let maker = BlockMaker::try_new(&Selection::Everything).expect("no keys");
    Arc::new(maker.make(slot, frames, at(0), &Budget::new(1 << 20)).expect("a whole block"))
}

/// A node with a chain, and what it answers wrongly.
struct Node {
    chain: BTreeSet<Slot>,
    tip: Slot,
    /// The first slot that it keeps.
    first_available: Slot,
    /// Slots that its lists leave out.
    withheld: BTreeSet<Slot>,
    /// Slots that its lists make up.
    invented: BTreeSet<Slot>,
    /// Answers to each question that fail before one is true.
    failures: BTreeMap<Slot, (FailureKind, u32)>,
    asked: Vec<Ask>,
}

impl Node {
    fn new(chain: impl IntoIterator<Item = Slot>) -> Self {
        let chain: BTreeSet<Slot> = chain.into_iter().collect();
        let tip = chain.last().copied().unwrap_or_default();
        let (withheld, invented) = (BTreeSet::new(), BTreeSet::new());
        Self {
            chain,
            tip,
            first_available: 0,
            withheld,
            invented,
            failures: BTreeMap::new(),
            asked: Vec::new(),
        }
    }

    fn parent(&self, slot: Slot) -> Slot {
        self.chain.range(..slot).next_back().copied().unwrap_or(slot.saturating_sub(1))
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        self.asked.push(ask);
        match ask {
            Ask::Tip => Answer::Tip(self.tip),
            Ask::List { first, last } => {
                let listed = self.chain.difference(&self.withheld).chain(&self.invented).copied();
                let slots: BTreeSet<Slot> = listed
                    .filter(|slot| (first.max(self.first_available)..=last.min(self.tip)).contains(slot))
                    .collect();
                Answer::Slots(slots.into_iter().collect())
            }
            Ask::FirstAvailable => Answer::FirstAvailable(self.first_available),
            Ask::Block(slot) if slot < self.first_available => failed(FailureKind::Gone),
            Ask::Block(slot) => self.block(slot),
        }
    }

    fn block(&mut self, slot: Slot) -> Answer {
        if let Some((kind, left)) = self.failures.get_mut(&slot)
            && *left > 0
        {
            *left -= 1;
            return failed(*kind);
        }
        match self.chain.contains(&slot) {
            true => Answer::Block(block(slot, self.parent(slot))),
            false => failed(FailureKind::ClaimedSkipped),
        }
    }
}

fn failed(kind: FailureKind) -> Answer {
    Answer::Failed(Failure { kind, reason: format!("{kind:?}"), retry_after: None })
}

#[derive(Debug, Default)]
struct Ran {
    slots: Vec<Slot>,
    holes: Vec<Slot>,
    fatal: Option<String>,
    most_waiting: usize,
}

/// Runs the planner against `node` until it is done; answers come in an order that `seed` draws.
fn run(ranges: &[(Slot, Slot)], node: &mut Node, seed: u64) -> Ran {
    let ranges = ranges.iter().map(|&(first, last)| SlotRange { first, last }).collect();
    let mut planner = Planner::new(bounds(), ranges, at(0), SmallRng::seed_from_u64(seed));
    let mut order = SmallRng::seed_from_u64(seed);
    let (mut open, mut ran, mut now) = (Vec::new(), Ran::default(), at(0));
    while !planner.is_done() && ran.fatal.is_none() {
        assert!(now < at(10_000_000), "no end in sight: {planner:?}");
        while let Some(ask) = planner.next_ask(now, ROOM) {
            open.push(ask);
        }
        assert!(open.len() <= bounds().max_in_flight);
        now = now.after(Duration::from_millis(100));
        if !open.is_empty() {
            let ask = open.swap_remove(order.random_range(0..open.len()));
            let answer = node.answer(ask);
            planner.on_answer(now, ask, answer);
        }
        ran.slots.extend(std::iter::from_fn(|| planner.next_block()).map(|block| block.slot()));
        ran.holes.extend(planner.take_events().into_iter().filter_map(|event| match event {
            Event::HoleOpened { slot, .. } => Some(slot),
            _ => None,
        }));
        let waiting = planner.searches.values().filter(|search| search.block().is_some()).count();
        ran.most_waiting = ran.most_waiting.max(waiting);
        ran.fatal = planner.fatal().map(str::to_owned);
    }
    ran
}

#[test]
fn a_stretch_goes_out_in_order_with_the_block_that_proves_its_end() {
    let ran = run(&[(10, 29)], &mut Node::new([7, 11, 12, 15, 28, 31, 32]), 1);
    assert_eq!(ran.slots, [11, 12, 15, 28, 31]);
    assert!(ran.holes.is_empty(), "{ran:?}");
}

#[test]
fn stretches_are_worked_on_one_after_the_other() {
    let ran = run(&[(10, 19), (40, 49)], &mut Node::new(0..60), 2);
    let expected: Vec<Slot> = (10..=20).chain(40..=50).collect();
    assert_eq!(ran.slots, expected);
}

#[test]
fn the_chain_may_begin_with_its_first_block() {
    let ran = run(&[(0, 9)], &mut Node::new([0, 1, 2, 11]), 3);
    assert_eq!(ran.slots, [0, 1, 2, 11]);
}

#[test]
fn lists_may_lie_in_both_ways() {
    let mut node = Node::new([9, 11, 12, 13, 20, 25, 31, 33]);
    node.withheld.extend([11, 13, 25, 31]);
    node.invented.extend([14, 21, 30]);
    let ran = run(&[(10, 29)], &mut node, 4);
    assert_eq!(ran.slots, [11, 12, 13, 20, 25, 31]);
    assert!(ran.holes.is_empty(), "{ran:?}");
}

#[test]
fn an_empty_list_is_walked_from_block_to_block_in_bounded_memory() {
    let mut node = Node::new(0..2_100);
    node.withheld.extend(0..2_050);
    let ran = run(&[(1_900, 1_999)], &mut node, 5);
    assert_eq!(ran.slots, (1_900..=2_000).collect::<Vec<_>>());
    assert!(ran.most_waiting <= WINDOW_ROUNDS * bounds().max_in_flight, "{}", ran.most_waiting);
}

#[test]
fn an_error_alone_proves_no_skip() {
    let mut node = Node::new(0..40);
    node.failures.insert(15, (FailureKind::ClaimedSkipped, u32::MAX));
    let ran = run(&[(0, 29)], &mut node, 6);
    assert_eq!(ran.holes, [15]);
    let expected: Vec<Slot> = (0..=14).chain(20..=30).collect();
    assert_eq!(ran.slots, expected, "the rest of its files goes on");
}

#[test]
fn what_the_node_no_longer_keeps_is_a_hole_at_once() {
    let mut node = Node::new(0..40);
    node.failures.insert(3, (FailureKind::Gone, u32::MAX));
    let ran = run(&[(0, 9)], &mut node, 7);
    assert_eq!(ran.holes, [3]);
    assert_eq!(node.asked.iter().filter(|ask| **ask == Ask::Block(3)).count(), 1);
}

#[test]
fn a_refusal_to_be_asked_more_is_no_fault_of_the_slot() {
    let mut node = Node::new(0..20);
    node.failures.insert(4, (FailureKind::Pushback, 50));
    let ran = run(&[(0, 9)], &mut node, 8);
    assert_eq!((ran.holes.as_slice(), ran.slots.len()), (&[][..], 11));
}

#[test]
fn a_stretch_that_is_not_final_yet_is_told() {
    let ran = run(&[(0, 29)], &mut Node::new(0..26), 9);
    assert_eq!(ran.slots, (0..26).collect::<Vec<_>>());
    assert_eq!(ran.holes, [29]);
}

#[test]
fn a_node_that_stays_silent_ends_the_backfill() {
    let mut planner =
        Planner::new(bounds(), vec![SlotRange { first: 0, last: 9 }], at(0), SmallRng::seed_from_u64(0));
    let mut now = at(0);
    while planner.fatal().is_none() {
        now = now.after(Duration::from_secs(1));
        assert!(now < at(600_000));
        if let Some(ask) = planner.next_ask(now, ROOM) {
            planner.on_answer(now, ask, failed(FailureKind::Silence));
        }
    }
    assert!(now > Timestamp(0).after(MAX_SILENCE));
}

#[test]
fn without_memory_only_the_block_that_others_wait_for_is_asked_for() {
    let mut planner =
        Planner::new(bounds(), vec![SlotRange { first: 0, last: 9 }], at(0), SmallRng::seed_from_u64(0));
    let mut node = Node::new(0..20);
    for _ in 0..2 {
        let ask = planner.next_ask(at(0), FULL).expect("the tip, then the list");
        planner.on_answer(at(0), ask, node.answer(ask));
    }
    assert_eq!(planner.next_ask(at(0), FULL), Some(Ask::Block(0)));
    assert_eq!(planner.next_ask(at(0), FULL), None);
    assert_eq!(planner.next_ask(at(0), ROOM), Some(Ask::Block(1)));
}

#[test]
fn a_block_that_does_not_follow_is_refused() {
    let mut planner =
        Planner::new(bounds(), vec![SlotRange { first: 0, last: 9 }], at(0), SmallRng::seed_from_u64(0));
    let mut node = Node::new(0..20);
    for _ in 0..2 {
        let ask = planner.next_ask(at(0), ROOM).expect("the tip, then the list");
        planner.on_answer(at(0), ask, node.answer(ask));
    }
    for (slot, parent, goes_out) in [(0, 0, true), (1, 0, true), (2, 0, false), (2, 1, true)] {
        planner.on_answer(at(0), Ask::Block(slot), Answer::Block(block(slot, parent)));
        let out: Vec<Slot> = std::iter::from_fn(|| planner.next_block()).map(|block| block.slot()).collect();
        assert_eq!(out, if goes_out { vec![slot] } else { vec![] }, "{slot} on {parent}");
    }
}

proptest! {
    #[test]
    fn whatever_lists_and_errors_say_the_chain_comes_out_once_and_in_order(
        skips in proptest::collection::btree_set(0_u64..90, 0..40),
        withheld in proptest::collection::btree_set(0_u64..100, 0..30),
        invented in proptest::collection::btree_set(0_u64..100, 0..10),
        failing in proptest::collection::btree_map(0_u64..100, (0_usize..4, 1_u32..=3), 0..30),
        seed in 0_u64..1_000,
    ) {
        let kinds = [FailureKind::Slot, FailureKind::ClaimedSkipped, FailureKind::Refused, FailureKind::Pushback];
        let mut node = Node::new((0..110).filter(|slot| *slot == 0 || !skips.contains(slot)));
        node.invented = invented.difference(&node.chain).copied().collect();
        node.withheld = withheld;
        node.failures = failing.into_iter().map(|(slot, (kind, times))| (slot, (kinds[kind], times))).collect();
        let ran = run(&[(20, 49), (60, 89)], &mut node, seed);
        let stretch = |first: Slot, last: Slot| {
            let end = node.chain.range(last + 1..).next().copied();
            node.chain.range(first..=last).copied().chain(end).collect::<Vec<_>>()
        };
        prop_assert_eq!(ran.slots, [stretch(20, 49), stretch(60, 89)].concat());
        prop_assert_eq!(ran.holes, Vec::<Slot>::new());
        prop_assert!(ran.most_waiting <= WINDOW_ROUNDS * bounds().max_in_flight);
    }
}
