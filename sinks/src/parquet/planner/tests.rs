use proptest::prelude::*;

use super::*;
use crate::parquet::testing::{Chain, without_extras};

const COMMIT_SLOTS: u64 = 10;

fn planner(max_waiting_bytes: usize) -> Planner {
    let config = PlannerConfig { commit_slots: COMMIT_SLOTS, max_waiting_bytes, floor: Some(20) };
    Planner::new(config, BTreeSet::new())
}

/// The slots in a file, and the skips.
type Committed = (Vec<Slot>, Vec<(Slot, Slot)>);

/// What a planner's steps amount to: the slots of each committed file, in the order in which they were encoded.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    open: BTreeMap<(Slot, Track), Vec<Slot>>,
    committed: BTreeMap<(Slot, Track), Committed>,
    events: Vec<Event>,
}

impl Outcome {
    fn apply(&mut self, steps: &mut Vec<Step>) {
        for step in steps.drain(..) {
            match step {
                Step::Encode(range, track, load) => {
                    self.open.entry((range.first, track)).or_default().push(load.slot());
                }
                Step::Commit(range, track, skips) => {
                    let slots = self.open.remove(&(range.first, track)).unwrap_or_default();
                    let skips = skips.iter().map(|skip| (skip.parent, skip.child)).collect();
                    let before = self.committed.insert((range.first, track), (slots, skips));
                    assert_eq!(before, None, "a file is committed once");
                }
                Step::Forget(range, track) => {
                    self.open.remove(&(range.first, track));
                }
                Step::Report(event) => self.events.push(event),
            }
        }
    }

    fn content(&self) -> Vec<Slot> {
        let content = self.committed.keys().filter(|(_, track)| *track == Track::Content);
        content.map(|(first, _)| *first).collect()
    }
}

fn feed(planner: &mut Planner, outcome: &mut Outcome, blocks: &[Arc<Block>]) {
    let mut steps = Vec::new();
    for block in blocks {
        planner.accept(block, &mut steps);
        outcome.apply(&mut steps);
    }
}

fn plan(blocks: &[Arc<Block>]) -> Outcome {
    let mut outcome = Outcome::default();
    feed(&mut planner(usize::MAX), &mut outcome, blocks);
    outcome
}

#[test]
fn a_range_is_committed_when_a_block_beyond_it_proves_its_end() {
    let chain = Chain::with_skips(20, 33, 1, |slot| [20, 21, 27, 29, 30].contains(&slot));
    let blocks = chain.blocks();
    let before = plan(&blocks[..blocks.len() - 3]);
    assert_eq!(before.content(), [] as [Slot; 0], "29 and 30 may still come");
    let outcome = plan(&blocks);
    let (slots, skips) = &outcome.committed[&(20, Track::Content)];
    assert_eq!(*slots, [20, 22, 23, 24, 25, 26, 28]);
    assert_eq!(*skips, [(20, 22), (26, 28), (28, 31)]);
    assert_eq!(outcome.content(), [20]);
}

#[test]
fn a_range_without_a_single_block_is_committed() {
    let chain = Chain::with_skips(20, 55, 1, |slot| (28..=51).contains(&slot));
    let outcome = plan(&chain.blocks());
    assert_eq!(outcome.content(), [20, 30, 40]);
    assert_eq!(outcome.committed[&(30, Track::Content)], (vec![], vec![(27, 52)]));
    let backwards: Vec<_> = chain.blocks().into_iter().rev().collect();
    assert_eq!(plan(&backwards).committed, outcome.committed);
}

#[test]
fn genesis_is_the_first_block_of_its_range() {
    let config = PlannerConfig { commit_slots: 10, max_waiting_bytes: usize::MAX, floor: Some(0) };
    let mut outcome = Outcome::default();
    feed(&mut Planner::new(config, BTreeSet::new()), &mut outcome, &Chain::generate(0, 12, 1).blocks());
    assert_eq!(outcome.committed[&(0, Track::Content)].0, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn ranges_that_are_there_are_not_made_again_but_prove_their_neighbours() {
    let chain = Chain::generate(20, 45, 1);
    let config = PlannerConfig { commit_slots: 10, max_waiting_bytes: usize::MAX, floor: Some(20) };
    let mut planner = Planner::new(config, BTreeSet::from([30]));
    let mut outcome = Outcome::default();
    feed(&mut planner, &mut outcome, &chain.blocks());
    assert_eq!(outcome.content(), [20]);
    assert_eq!(planner.open_ranges(), 1, "40 alone");
}

#[test]
fn the_content_does_not_wait_for_entries_and_accounts() {
    let chain = Chain::generate(20, 45, 1);
    let mut blocks = chain.blocks();
    let whole = Arc::clone(&blocks[2]);
    blocks[2] = Arc::new(without_extras(&whole));
    let mut planner = planner(usize::MAX);
    let mut outcome = Outcome::default();
    feed(&mut planner, &mut outcome, &blocks);
    let tracks: Vec<_> = outcome.committed.keys().copied().collect();
    let rest = [Track::Content, Track::Entries, Track::Accounts].map(|track| (30, track));
    assert_eq!(tracks, [&[(20, Track::Content)][..], &rest].concat());
    feed(&mut planner, &mut outcome, &[whole]);
    assert!(outcome.committed.contains_key(&(20, Track::Entries)), "the slot came again, with entries");
    assert_eq!(planner.waiting_bytes(), 0);
}

#[test]
fn extras_that_never_come_are_a_hole_of_theirs_alone() {
    let chain = Chain::generate(20, 199, 1);
    let mut blocks = chain.blocks();
    blocks[2] = Arc::new(without_extras(&blocks[2]));
    let mut planner = planner(usize::MAX);
    let mut outcome = Outcome::default();
    feed(&mut planner, &mut outcome, &blocks);
    assert_eq!(outcome.content(), (20..190).step_by(10).collect::<Vec<_>>());
    let holes = outcome.events.iter().filter(|event| matches!(event, Event::HoleOpened { slot: 22, .. }));
    assert_eq!((holes.count(), planner.holes()), (2, [1, 1]));
    assert!(!outcome.committed.contains_key(&(20, Track::Entries)));
    assert!(outcome.committed.contains_key(&(80, Track::Entries)));
    assert_eq!(planner.waiting_bytes(), 0);
}

#[test]
fn extras_that_come_while_a_replay_may_bring_them_are_no_hole() {
    let blocks = Chain::generate(20, 199, 1).blocks();
    let (late, mut rest) = (Arc::clone(&blocks[2]), blocks);
    rest[2] = Arc::new(without_extras(&late));
    let before_the_end = rest.iter().take_while(|block| block.slot() < 20 + 150).cloned().collect::<Vec<_>>();
    let mut planner = planner(usize::MAX);
    let mut outcome = Outcome::default();
    feed(&mut planner, &mut outcome, &before_the_end);
    feed(&mut planner, &mut outcome, &[late]);
    assert!(outcome.committed.contains_key(&(20, Track::Entries)));
    assert_eq!(planner.holes(), [0, 0]);
}

#[test]
fn what_nobody_subscribed_to_has_no_files() {
    let unsubscribed = |block: Arc<Block>| {
        let parts = (Part::NotSubscribed, Part::NotSubscribed);
        Arc::new(Block { entries: parts.0, accounts: parts.1, ..Block::clone(&block) })
    };
    let blocks: Vec<_> = Chain::generate(20, 33, 1).blocks().into_iter().map(unsubscribed).collect();
    let outcome = plan(&blocks);
    assert_eq!(outcome.committed.keys().copied().collect::<Vec<_>>(), [(20, Track::Content)]);
    assert_eq!(outcome.events, []);
}

#[test]
fn a_block_that_contradicts_the_chain_is_refused() {
    let chain = Chain::generate(20, 45, 1);
    let mut blocks = chain.blocks();
    let reasons = |blocks: &[Arc<Block>]| -> Vec<&'static str> {
        let events = plan(blocks).events.into_iter();
        events
            .filter_map(
                |event| if let Event::Contradiction { reason, .. } = event { Some(reason) } else { None },
            )
            .collect()
    };
    let change = |block: &Arc<Block>, change: fn(&mut BlockMeta)| {
        let mut block = Block::clone(block);
        change(&mut block.meta);
        Arc::new(block)
    };
    let second = change(&blocks[5], |meta| meta.blockhash = Hash([1; 32]));
    let jump = change(&blocks[5], |meta| meta.parent_slot = 21);
    let stranger = change(&blocks[5], |meta| meta.parent_blockhash = Hash([1; 32]));
    blocks.insert(6, second);
    assert_eq!(reasons(&blocks), ["a second block for a slot that has a final one"]);
    blocks.remove(6);
    blocks[5] = jump;
    assert_eq!(reasons(&blocks[..6]), ["its parent lies before another final block"]);
    blocks[5] = stranger;
    assert_eq!(reasons(&blocks[..6]), ["its parent has another blockhash"]);
    let other = change(&blocks[4], |meta| meta.blockhash = Hash([1; 32]));
    let child_first = [Arc::clone(&chain.blocks()[5]), other];
    assert_eq!(reasons(&child_first), ["a later final block names another blockhash"]);
    let skipped = change(&chain.blocks()[3], |meta| (meta.slot, meta.parent_slot) = (24, 23));
    let child_first = [Arc::clone(&chain.blocks()[4]), skipped];
    assert_eq!(reasons(&child_first), ["a later final block skips it"]);
}

/// Plays the part of recovery: answers requests until nothing changes any more.
fn answer_requests(planner: &mut Planner, outcome: &mut Outcome, chain: &Chain) {
    for round in 0..1_000 {
        let now = Timestamp(round * 60_000_000);
        let slots = planner.requests(now);
        if slots.is_empty() {
            return;
        }
        planner.on_requested(now);
        assert_eq!(planner.requests(now), [] as [Slot; 0], "not twice at a time");
        for slot in slots {
            feed(planner, outcome, &[crate::parquet::testing::block_of(chain, slot)]);
        }
    }
    panic!("requests never end");
}

#[test]
fn memory_stays_bounded_behind_a_hole_and_nothing_is_lost() {
    let chain = Chain::generate(20, 99, 2);
    let blocks = chain.blocks();
    let size = Load::content(&blocks[3], blocks[3].transactions.updates().map(Arc::from)).size_bytes();
    let limit = 5 * size;
    let mut planner = planner(limit);
    let mut outcome = Outcome::default();
    for (position, block) in blocks.iter().enumerate() {
        if position != 3 && position != 14 {
            feed(&mut planner, &mut outcome, &[Arc::clone(block)]);
            assert!(planner.waiting_bytes() <= limit, "{}", planner.waiting_bytes());
        }
    }
    assert!(outcome.events.iter().any(|event| matches!(event, Event::GivenUp { .. })));
    answer_requests(&mut planner, &mut outcome, &chain);
    assert!(!outcome.content().contains(&20), "its hole is still open");
    feed(&mut planner, &mut outcome, &[Arc::clone(&blocks[3]), Arc::clone(&blocks[14])]);
    answer_requests(&mut planner, &mut outcome, &chain);
    let expected = plan(&blocks);
    let content = |outcome: &Outcome| {
        let committed = outcome.committed.iter().filter(|((_, track), _)| *track == Track::Content);
        committed.map(|(key, value)| (*key, value.clone())).collect::<Vec<_>>()
    };
    assert_eq!(content(&outcome), content(&expected));
}

fn order(slots: usize) -> impl Strategy<Value = Vec<usize>> {
    // Every block at least once, some twice or more, in any order.
    let extra = proptest::collection::vec(0..slots, 0..slots);
    extra.prop_map(move |extra| (0..slots).chain(extra).collect::<Vec<_>>()).prop_shuffle()
}

proptest! {
    #[test]
    fn any_order_and_any_repeats_give_the_same_commits(order in order(50), skips: u64) {
        let chain = Chain::with_skips(20, 85, 0, |slot| (skips >> (slot % 64)) & 1 == 1 || (skips >> 60) * 4 > slot - 20);
        let blocks = chain.blocks();
        let shuffled: Vec<_> = order.iter().filter_map(|&position| blocks.get(position)).cloned().collect();
        let rest = blocks.iter().skip(50).cloned();
        let shuffled: Vec<_> = shuffled.into_iter().chain(rest).collect();
        let (expected, outcome) = (plan(&blocks), plan(&shuffled));
        prop_assert_eq!(&outcome.committed, &expected.committed);
        prop_assert_eq!(outcome.events, vec![]);
        prop_assert!(!expected.committed.is_empty());
    }

    #[test]
    fn any_order_within_any_bound_loses_nothing(order in order(40), bound in 1_usize..20_000) {
        let chain = Chain::with_skips(20, 75, 1, |slot| slot % 7 == 3);
        let blocks = chain.blocks();
        let mut planner = planner(bound);
        let mut outcome = Outcome::default();
        for position in order {
            if let Some(block) = blocks.get(position) {
                feed(&mut planner, &mut outcome, &[Arc::clone(block)]);
            }
        }
        feed(&mut planner, &mut outcome, &blocks[40..]);
        answer_requests(&mut planner, &mut outcome, &chain);
        let expected = plan(&blocks);
        prop_assert_eq!(outcome.content(), expected.content());
        for (key, files) in &outcome.committed {
            prop_assert_eq!(Some(files), expected.committed.get(key));
        }
    }
}

#[test]
fn the_proof_of_a_range_is_kept_until_its_blocks_come() {
    let chain = Chain::with_skips(20, 85, 1, |slot| (21..34).contains(&slot));
    let mut blocks = chain.blocks();
    let first = blocks.remove(0);
    for floor in [Some(20), None] {
        let config = PlannerConfig { commit_slots: 10, max_waiting_bytes: usize::MAX, floor };
        let mut planner = Planner::new(config, BTreeSet::new());
        let mut outcome = Outcome::default();
        feed(&mut planner, &mut outcome, &blocks);
        assert_eq!(outcome.content(), [30, 40, 50, 60, 70]);
        assert!(planner.links.len() < 20, "links of what is done are let go");
        feed(&mut planner, &mut outcome, std::slice::from_ref(&first));
        assert_eq!(outcome.content(), [20, 30, 40, 50, 60, 70]);
    }
}

#[test]
fn pressure_frees_what_waits_and_nothing_is_lost() {
    let chain = Chain::generate(20, 65, 1);
    let mut blocks = chain.blocks();
    let first = blocks.remove(0);
    let mut planner = planner(usize::MAX);
    let mut outcome = Outcome::default();
    feed(&mut planner, &mut outcome, &blocks);
    let mut steps = Vec::new();
    while planner.on_pressure(&mut steps) {
        outcome.apply(&mut steps);
    }
    assert!(planner.waiting_bytes() < 10_000, "one block may wait in the oldest range");
    feed(&mut planner, &mut outcome, &[first]);
    answer_requests(&mut planner, &mut outcome, &chain);
    assert_eq!(outcome.content(), plan(&chain.blocks()).content());
}
