use std::time::Duration;

use super::*;
use crate::batch::Arrival;
use crate::block::{Part, Way};
use crate::commitment::adaptive::Thresholds;
use crate::fixtures::*;
use crate::frame::BlockMeta;

fn block_of(slot: Slot, version: u8, parent: (Slot, u8)) -> Block {
    let meta_update = meta(0, 0, slot, version, parent, 0);
    Block {
        meta: BlockMeta::read(meta_update.frame.body()).expect("valid"),
        meta_update,
        transactions: Part::NotSubscribed,
        entries: Part::NotSubscribed,
        accounts: Part::NotSubscribed,
        way: Way::Live,
        witnesses: Default::default(),
        vouched: None,
    }
}

fn block(slot: Slot, version: u8, parent: (Slot, u8)) -> Item {
    Item::Block(Arc::new(block_of(slot, version, parent)))
}

fn vouched(slot: Slot, parent: Slot, level: Level) -> Item {
    Item::Block(Arc::new(Block { vouched: Some(level), ..block_of(slot, 0, (parent, 0)) }))
}

fn status_of(slot: Slot, blockhash: Option<Hash>, status: SlotStatus) -> Item {
    Item::Status(Status { slot, parent: None, blockhash, status, at: Timestamp(0) })
}

fn finalized(slot: Slot, version: u8) -> Item {
    status_of(slot, Some(hash(slot, version)), SlotStatus::Finalized)
}

fn stage(level: Level) -> Commitment {
    Commitment::new(CommitmentOptions { level, ..CommitmentOptions::default() })
}

fn feed(stage: &mut Commitment, items: impl IntoIterator<Item = Item>) -> Output {
    let mut out = Output::default();
    stage.on_batch(Timestamp(0), 0, items.into_iter().collect(), &mut out);
    out
}

fn emitted(out: &Output) -> Vec<(Slot, Hash)> {
    let block = |item: &Item| match item {
        Item::Block(block) => Some((block.slot(), block.blockhash())),
        _ => None,
    };
    out.items.iter().filter_map(block).collect()
}

#[test]
fn a_block_waits_for_its_level() {
    let mut stage = stage(Level::Finalized);
    assert!(emitted(&feed(&mut stage, [block(10, 0, (9, 0))])).is_empty());
    let confirmed = status_of(10, Some(hash(10, 0)), SlotStatus::Confirmed);
    assert!(emitted(&feed(&mut stage, [confirmed])).is_empty());
    assert_eq!(emitted(&feed(&mut stage, [finalized(10, 0)])), [(10, hash(10, 0))]);
}

#[test]
fn one_final_slot_settles_its_ancestors_in_slot_order() {
    let mut stage = stage(Level::Finalized);
    feed(&mut stage, [block(12, 0, (11, 0)), block(10, 0, (9, 0)), block(11, 0, (10, 0))]);
    let slots: Vec<Slot> =
        emitted(&feed(&mut stage, [finalized(12, 0)])).iter().map(|&(slot, _)| slot).collect();
    assert_eq!(slots, [10, 11, 12]);
}

#[test]
fn orphans_and_dead_versions_never_go_on() {
    let mut stage = stage(Level::Finalized);
    // 11 forks off from 10 and loses against 12; 12 has a dead version as well.
    let items = [block(10, 0, (9, 0)), block(11, 0, (10, 0)), block(12, 7, (10, 0)), block(12, 0, (10, 0))];
    feed(&mut stage, items);
    feed(&mut stage, [status_of(12, Some(hash(12, 7)), SlotStatus::Dead)]);
    let out = feed(&mut stage, [finalized(12, 0)]);
    assert_eq!(emitted(&out), [(10, hash(10, 0)), (12, hash(12, 0))]);
    assert_eq!((stage.counters.dead, stage.counters.orphaned), (1, 1));
}

#[test]
fn an_orphan_that_comes_after_the_decision_is_discarded_too() {
    let mut stage = stage(Level::Finalized);
    feed(&mut stage, [block(12, 0, (10, 0)), finalized(12, 0)]);
    assert!(emitted(&feed(&mut stage, [block(11, 0, (10, 0)), block(10, 9, (9, 0))])).is_empty());
    assert_eq!(stage.counters.orphaned, 2);
}

#[test]
fn a_status_that_names_no_version_settles_nothing() {
    let mut stage = stage(Level::Finalized);
    feed(&mut stage, [block(10, 0, (9, 0))]);
    assert!(emitted(&feed(&mut stage, [status_of(10, None, SlotStatus::Finalized)])).is_empty());
}

#[test]
fn a_block_that_rpc_vouches_for_goes_on_and_settles_what_is_below() {
    let mut stage = stage(Level::Finalized);
    feed(&mut stage, [block(10, 0, (9, 0))]);
    let out = feed(&mut stage, [vouched(11, 10, Level::Finalized)]);
    assert_eq!(emitted(&out).len(), 2);
    assert!(emitted(&feed(&mut stage, [vouched(12, 11, Level::Confirmed)])).is_empty());
}

#[test]
fn parts_that_come_later_follow_their_slot() {
    let mut stage = stage(Level::Finalized);
    feed(&mut stage, [block(10, 0, (9, 0)), finalized(10, 0)]);
    assert_eq!(emitted(&feed(&mut stage, [block(10, 0, (9, 0))])).len(), 1);
}

#[test]
fn nothing_waits_at_processed() {
    let mut stage = stage(Level::Processed);
    assert_eq!(emitted(&feed(&mut stage, [block(10, 0, (9, 0))])).len(), 1);
}

#[test]
fn a_slot_of_which_only_the_wrong_version_came_is_asked_for_until_it_comes() {
    let mut stage = stage(Level::Finalized);
    feed(&mut stage, [block(10, 9, (9, 0)), block(11, 0, (10, 0)), finalized(11, 0)]);
    let requests = |stage: &mut Commitment, seconds: u64| {
        let mut out = Output::default();
        stage.on_tick(Timestamp(seconds * 1_000_000), &mut out);
        out.requests
    };
    assert_eq!(requests(&mut stage, 1), [10]);
    assert!(requests(&mut stage, 2).is_empty());
    assert_eq!(requests(&mut stage, 7), [10]);
    assert_eq!(emitted(&feed(&mut stage, [block(10, 0, (9, 0))])), [(10, hash(10, 0))]);
    assert!(requests(&mut stage, 60).is_empty());
}

#[test]
fn what_is_shed_under_pressure_is_asked_for_once_it_is_final() {
    let mut stage = stage(Level::Finalized);
    feed(&mut stage, [block(10, 0, (9, 0)), block(11, 0, (10, 0))]);
    let mut out = Output::default();
    stage.on_pressure(Timestamp(0), &mut out);
    assert_eq!(out.events, [Event::GivenUp { first: 11, last: 11 }], "the older half stays");
    assert_eq!(emitted(&feed(&mut stage, [finalized(11, 0)])), [(10, hash(10, 0))]);
    stage.on_tick(Timestamp(1), &mut out);
    assert_eq!(out.requests, [11]);
}

#[test]
fn what_is_shed_is_asked_for_when_there_is_room_and_the_lowest_of_it_in_any_case() {
    let mut stage = stage(Level::Finalized);
    feed(&mut stage, (10..18).map(|slot| block(slot, 0, (slot - 1, 0))));
    let requests = |stage: &mut Commitment, seconds: u64, has_room| {
        let mut out = Output::default();
        stage.on_room(has_room);
        stage.on_tick(Timestamp(seconds * 1_000_000), &mut out);
        out.requests
    };
    stage.on_pressure(Timestamp(0), &mut Output::default());
    feed(&mut stage, [finalized(17, 0)]);
    assert_eq!(requests(&mut stage, 1, false), [14]);
    assert!(requests(&mut stage, 2, false).is_empty());
    feed(&mut stage, [block(14, 0, (13, 0))]);
    assert_eq!(requests(&mut stage, 3, false), [15]);
    assert_eq!(requests(&mut stage, 4, true), [16, 17]);
}

#[test]
fn two_final_versions_of_a_slot_are_reported_and_the_first_stays() {
    let mut stage = stage(Level::Finalized);
    feed(&mut stage, [block(10, 0, (9, 0)), finalized(10, 0)]);
    let out = feed(&mut stage, [block(10, 5, (9, 0)), finalized(10, 5)]);
    assert!(emitted(&out).is_empty());
    assert!(out.events.iter().any(|event| matches!(event, Event::Contradiction { slot: 10, .. })));
}

#[test]
fn a_block_that_comes_again_while_it_waits_keeps_the_parts_of_both() {
    let mut stage = stage(Level::Finalized);
    let whole = || Part::Whole(Arc::from(Vec::new()));
    let entries = Block { entries: whole(), accounts: Part::Missing, ..block_of(10, 0, (9, 0)) };
    let accounts = Block { entries: Part::Missing, accounts: whole(), ..block_of(10, 0, (9, 0)) };
    let blocks = [entries, accounts].map(|block| Item::Block(Arc::new(block)));
    let out = feed(&mut stage, blocks.into_iter().chain([finalized(10, 0)]));
    let Some(Item::Block(block)) = out.items.iter().find(|item| matches!(item, Item::Block(_))) else {
        panic!("a block")
    };
    assert!(!block.entries.is_missing() && !block.accounts.is_missing());
}

fn short_memory() -> Commitment {
    Commitment::new(CommitmentOptions { keep_slots: 5, ..CommitmentOptions::default() })
}

#[test]
fn what_was_shed_is_asked_for_however_late_it_settles() {
    let mut stage = short_memory();
    feed(&mut stage, [block(10, 0, (9, 0)), block(11, 0, (10, 0))]);
    stage.on_pressure(Timestamp(0), &mut Output::default());
    feed(&mut stage, [finalized(100, 0)]);
    feed(&mut stage, [block(12, 0, (11, 0)), vouched(13, 12, Level::Finalized)]);
    let mut out = Output::default();
    stage.on_tick(Timestamp(0), &mut out);
    assert_eq!(out.requests, [11]);
}

#[test]
fn links_are_remembered_down_to_the_lowest_block_that_waits() {
    let mut stage = short_memory();
    feed(&mut stage, [block(10, 0, (9, 0)), block(11, 0, (10, 0))]);
    feed(&mut stage, [finalized(100, 0)]);
    let out = feed(&mut stage, [vouched(12, 11, Level::Finalized)]);
    assert_eq!(emitted(&out).iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [10, 11, 12]);
    feed(&mut stage, [finalized(200, 0)]);
    assert!(stage.slots.keys().all(|&slot| slot > 100), "nothing of it waits any more");
}

/// An adaptive stage that looks at every tick, and whose endpoints decide alone.
fn adaptive(floor: Level) -> Commitment {
    let thresholds = Thresholds { fall_back_after: Duration::ZERO, ..Thresholds::default() };
    Commitment::new(CommitmentOptions {
        level: floor,
        strategy: Strategy::Adaptive,
        thresholds,
        ..CommitmentOptions::default()
    })
}

/// Word of which endpoints delivered the last slots, then a tick at `seconds`.
fn tick_with(stage: &mut Commitment, seconds: u64, healthy: bool) -> Output {
    let arrival = |endpoint: &str, is_whole: bool| Arrival {
        slot: 1,
        endpoint: Arc::from(endpoint),
        session: session(0),
        blockhash: None,
        first_seen_at: Timestamp(0),
        completed_at: is_whole.then_some(Timestamp(0)),
        transactions: 0,
        entries: 0,
        accounts: 0,
        standing: None,
    };
    let arrivals: Arc<[Arrival]> = ["a", "b", "c", "d"].map(|name| arrival(name, healthy)).into();
    feed(stage, (0..16).map(|_| Item::Arrivals(Arc::clone(&arrivals))));
    let mut out = Output::default();
    stage.on_tick(Timestamp(seconds * 1_000_000), &mut out);
    out
}

fn confirmed(slot: Slot, version: u8) -> Item {
    status_of(slot, Some(hash(slot, version)), SlotStatus::Confirmed)
}

fn levels(out: &Output) -> Vec<Level> {
    let level = |event: &Event| match event {
        Event::CommitmentSwitched { level, .. } => Some(*level),
        _ => None,
    };
    out.events.iter().filter_map(level).collect()
}

#[test]
fn in_bad_conditions_what_is_only_confirmed_waits_to_be_final() {
    let mut stage = adaptive(Level::Confirmed);
    assert_eq!(emitted(&feed(&mut stage, [block(10, 0, (9, 0)), confirmed(10, 0)])), [(10, hash(10, 0))]);
    feed(&mut stage, [block(11, 0, (10, 0))]);
    let out = tick_with(&mut stage, 1, false);
    assert_eq!(levels(&out), [Level::Finalized]);
    let reason = |event: &Event| match event {
        Event::CommitmentSwitched { from: Level::Confirmed, reason, .. } => reason.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(&out.events[0]), "endpoints at its worst");
    assert!(emitted(&feed(&mut stage, [confirmed(11, 0)])).is_empty());
    let out = feed(&mut stage, [finalized(11, 0)]);
    assert_eq!(emitted(&out), [(11, hash(11, 0))], "and what went out before does not come again");
}

#[test]
fn on_the_way_back_what_was_held_goes_out_in_slot_order_and_once() {
    let mut stage = adaptive(Level::Processed);
    assert_eq!(emitted(&feed(&mut stage, [block(10, 0, (9, 0))])).len(), 1, "nothing waits at processed");
    assert_eq!(levels(&tick_with(&mut stage, 1, false)), [Level::Finalized]);
    feed(&mut stage, [block(12, 0, (11, 0)), block(11, 0, (10, 0)), confirmed(11, 0)]);
    assert!(levels(&tick_with(&mut stage, 2, true)).is_empty());
    let out = tick_with(&mut stage, 62, true);
    assert_eq!(levels(&out), [Level::Confirmed]);
    assert_eq!(emitted(&out), [(11, hash(11, 0))], "11 was confirmed meanwhile");
    tick_with(&mut stage, 63, true);
    let out = tick_with(&mut stage, 123, true);
    assert_eq!((levels(&out), emitted(&out)), (vec![Level::Processed], vec![(12, hash(12, 0))]));
    assert!(emitted(&feed(&mut stage, [finalized(12, 0)])).is_empty());
}

#[test]
fn a_version_that_went_out_at_processed_and_lost_is_followed_by_the_one_that_won() {
    let mut stage = adaptive(Level::Processed);
    feed(&mut stage, [block(10, 7, (9, 0))]);
    feed(&mut stage, [block(11, 0, (10, 0)), confirmed(11, 0)]);
    let mut out = Output::default();
    stage.on_tick(Timestamp(1_000_000), &mut out);
    assert_eq!(out.requests, [10], "the canonical version never came");
    assert_eq!(emitted(&feed(&mut stage, [block(10, 0, (9, 0))])), [(10, hash(10, 0))]);
}

#[test]
fn what_the_safer_chain_calls_orphaned_does_not_go_out_after_a_switch() {
    let mut stage = adaptive(Level::Confirmed);
    // 12 is finalized on 10, so 11 is orphaned, whatever a status says.
    feed(&mut stage, [block(10, 0, (9, 0)), block(12, 0, (10, 0)), finalized(12, 0)]);
    tick_with(&mut stage, 1, false);
    assert!(emitted(&feed(&mut stage, [block(11, 0, (10, 0)), confirmed(11, 0)])).is_empty());
    assert!(stage.counters.orphaned >= 1);
}

#[test]
fn a_level_that_is_fixed_ignores_conditions() {
    let mut stage = stage(Level::Processed);
    assert!(tick_with(&mut stage, 1, false).events.is_empty());
}
