use std::time::Duration;

use yellowstone_grpc_proto::geyser::SubscribeUpdateBlockMeta;
use yellowstone_grpc_proto::geyser::subscribe_update::UpdateOneof;

use super::*;
use crate::batch::{Update, Want};
use crate::block::Part;
use crate::fixtures::*;
use crate::frame::SlotStatus;
use crate::recovery::rpc::RpcOptions;
use crate::slot::Hash;

mod end_of_chain;
mod holes;

fn planner_with(options: RecoveryOptions) -> Planner {
    Planner::new(options, TRANSACTIONS, TransactionFilters::Everything, vec![0, 1], Start::At(1), 7)
}

fn planner() -> Planner {
    planner_with(RecoveryOptions {
        rpc: Some(RpcOptions::new("http://127.0.0.1:1").into()),
        replay: false,
        ..RecoveryOptions::default()
    })
}

fn gap(planner: &mut Planner, first: Slot, last: Slot) {
    let gap = Gap { first, last, missing: Missing::Content };
    planner.on_batch(Timestamp(0), vec![Item::Gap(gap)], &mut Output::default());
}

fn finalized(planner: &mut Planner, slot: Slot, blockhash: Option<Hash>) {
    let status = Status { slot, parent: None, blockhash, status: SlotStatus::Finalized, at: Timestamp(0) };
    planner.on_batch(Timestamp(0), vec![Item::Status(status)], &mut Output::default());
}

/// A live block whose parent this is: it names the version that RPC is believed to answer with.
fn child_of(planner: &mut Planner, slot: Slot, version: u8) -> Output {
    let updates = vec![meta(0, 0, slot + 1, 0, (slot, version), 0)];
    let mut assembler = Assembler::new(Scope::default(), TransactionFilters::Everything);
    let mut blocks = assembler.assemble(slot + 1, Way::Live, updates).expect("a block without transactions");
    let block = Item::Block(Arc::new(blocks.remove(0)));
    let mut out = Output::default();
    planner.on_batch(Timestamp(0), vec![block], &mut out);
    out
}

fn all_fetches(planner: &mut Planner, now: Timestamp) -> Vec<Fetch> {
    std::iter::from_fn(|| planner.next_fetch(now)).collect()
}

/// Fetches for slots; the question for the tip is put beside them after a while.
fn fetches(planner: &mut Planner, now: Timestamp) -> Vec<Fetch> {
    all_fetches(planner, now).into_iter().filter(|fetch| *fetch != Fetch::Tip).collect()
}

/// A whole slot with one transaction, as RPC and the wire give it.
fn whole(slot: Slot, parent: Slot) -> Vec<Update> {
    vec![transaction(9, 0, slot, 0, 0), meta(9, 0, slot, 0, (parent, 0), 1)]
}

fn bring(planner: &mut Planner, fetch: Fetch, slot: Slot, updates: Vec<Update>) -> Output {
    let mut out = Output::default();
    planner.on_fetched(Timestamp(1), fetch, Fetched::Updates { slot, updates }, &mut out);
    planner.on_fetched(Timestamp(1), fetch, Fetched::Done, &mut out);
    out
}

fn slots(out: &Output) -> Vec<Slot> {
    let slot = |item: &Item| match item {
        Item::Block(block) => Some(block.slot()),
        _ => None,
    };
    out.items.iter().filter_map(slot).collect()
}

fn fail(planner: &mut Planner, now: Timestamp, fetch: Fetch) -> Output {
    let mut out = Output::default();
    let failed = Fetched::Failed { reason: "no".to_owned(), retry_after: None, first_available: None };
    planner.on_fetched(now, fetch, failed, &mut out);
    out
}

fn block_of(slot: Slot) -> Fetch {
    Fetch::Block { slot, commitment: Commitment::Confirmed }
}

#[test]
fn the_lowest_slot_goes_first() {
    let mut planner = planner();
    for slot in [30, 10, 20] {
        gap(&mut planner, slot, slot);
    }
    assert_eq!(fetches(&mut planner, Timestamp(0)), [block_of(10), block_of(20), block_of(30)]);
}

#[test]
fn a_range_is_listed_and_what_the_list_leaves_out_is_found_by_parent_links() {
    let mut planner = planner();
    gap(&mut planner, 10, 20);
    let list = Fetch::List { first: 10, last: 19 };
    assert_eq!(fetches(&mut planner, Timestamp(0)), [list, block_of(20)]);
    planner.on_fetched(Timestamp(0), list, Fetched::Slots(vec![12]), &mut Output::default());
    assert_eq!(fetches(&mut planner, Timestamp(0)), [block_of(12)]);
    bring(&mut planner, block_of(20), 20, whole(20, 17));
    assert_eq!(fetches(&mut planner, Timestamp(1)), [block_of(17)], "the list lied");
}

#[test]
fn a_recovered_slot_goes_on_with_the_commitment_that_rpc_was_asked_for() {
    let mut planner = planner();
    finalized(&mut planner, 50, None);
    gap(&mut planner, 10, 10);
    child_of(&mut planner, 10, 0);
    let fetch = Fetch::Block { slot: 10, commitment: Commitment::Finalized };
    assert_eq!(fetches(&mut planner, Timestamp(0)), [fetch]);
    let out = bring(&mut planner, fetch, 10, whole(10, 9));
    let Some(Item::Block(block)) = out.items.first() else { panic!("a block") };
    assert_eq!((block.vouched, block.way), (Some(Commitment::Finalized), Way::Rpc));
}

#[test]
fn a_block_that_is_not_whole_or_not_the_one_that_was_asked_for_is_not_believed() {
    let mut planner = planner();
    gap(&mut planner, 10, 10);
    let lacking = vec![meta(9, 0, 10, 0, (9, 0), 1)];
    let other = whole(11, 10);
    for updates in [lacking, other, Vec::new()] {
        fetches(&mut planner, Timestamp(u64::MAX / 2));
        assert!(slots(&bring(&mut planner, block_of(10), 10, updates)).is_empty());
    }
    assert!(planner.searches.contains_key(&10));
}

#[test]
fn what_rpc_answers_is_held_until_a_child_names_it() {
    let mut planner = planner();
    gap(&mut planner, 10, 10);
    fetches(&mut planner, Timestamp(0));
    assert!(slots(&bring(&mut planner, block_of(10), 10, whole(10, 9))).is_empty());
    assert!(fetches(&mut planner, Timestamp(u64::MAX / 2)).iter().all(|fetch| *fetch != block_of(10)));
    assert_eq!(slots(&child_of(&mut planner, 10, 0)), [11, 10]);
    assert!(!planner.searches.contains_key(&10));
}

#[test]
fn blocks_of_a_range_name_each_other_in_whichever_order_they_come() {
    for order in [[10, 11, 12], [12, 11, 10], [11, 10, 12], [12, 10, 11]] {
        let mut planner = planner();
        [10, 11, 12].into_iter().for_each(|slot| gap(&mut planner, slot, slot));
        fetches(&mut planner, Timestamp(0));
        let bring = |slot| slots(&bring(&mut planner, block_of(slot), slot, whole(slot, slot - 1)));
        let mut came: Vec<Slot> = order.into_iter().flat_map(bring).collect();
        came.extend(slots(&child_of(&mut planner, 12, 0)));
        came.sort_unstable();
        assert_eq!(came, [10, 11, 12, 13], "{order:?}");
    }
}

/// What a node that mixes its answers up sends for slot 10: the block of `other`, which carries no slot of its own.
fn mixed_up(other: Slot, parent: Slot) -> Vec<Update> {
    let meta = SubscribeUpdateBlockMeta {
        slot: 10,
        blockhash: hash(other, 0).to_base58(),
        parent_slot: parent,
        parent_blockhash: hash(parent, 0).to_base58(),
        ..Default::default()
    };
    vec![update_of(9, UpdateOneof::BlockMeta(meta))]
}

#[test]
fn another_slots_block_is_refused_when_the_chain_names_the_right_one_and_asked_for_again() {
    let mut planner = planner();
    gap(&mut planner, 10, 10);
    fetches(&mut planner, Timestamp(0));
    assert!(slots(&bring(&mut planner, block_of(10), 10, mixed_up(8, 7))).is_empty());
    child_of(&mut planner, 10, 0);
    assert!(!planner.chain.is_passed_over(8), "it proves no skip");
    finalized(&mut planner, 11, Some(hash(11, 0)));
    assert_eq!(planner.counters.refused, 1);
    let again = Fetch::Block { slot: 10, commitment: Commitment::Finalized };
    assert!(fetches(&mut planner, Timestamp(u64::MAX / 2)).contains(&again));
    assert!(slots(&bring(&mut planner, again, 10, mixed_up(8, 7))).is_empty(), "it is known to be wrong now");
    assert_eq!(slots(&bring(&mut planner, again, 10, whole(10, 9))), [10]);
}

#[test]
fn a_block_that_is_known_as_another_slots_or_whose_parent_is_not_below_it_is_refused() {
    let mut planner = planner();
    child_of(&mut planner, 7, 0);
    gap(&mut planner, 10, 10);
    for (other, parent) in [(8, 7), (12, 11)] {
        fetches(&mut planner, Timestamp(u64::MAX / 2));
        assert!(slots(&bring(&mut planner, block_of(10), 10, mixed_up(other, parent))).is_empty());
    }
    assert_eq!(planner.counters.refused, 2);
}

#[test]
fn an_error_proves_no_skip_and_a_final_childs_link_does() {
    let mut planner = planner();
    gap(&mut planner, 11, 11);
    for _ in 0..10 {
        fetches(&mut planner, Timestamp(u64::MAX / 2));
        fail(&mut planner, Timestamp(u64::MAX / 2), block_of(11));
    }
    assert!(planner.searches.contains_key(&11));
    gap(&mut planner, 12, 12);
    fetches(&mut planner, Timestamp(u64::MAX / 2));
    bring(&mut planner, block_of(12), 12, whole(12, 10));
    assert!(planner.searches.contains_key(&11), "the child may be orphaned itself");
    finalized(&mut planner, 12, Some(hash(12, 0)));
    assert!(!planner.searches.contains_key(&11));
}

#[test]
fn a_slot_that_comes_by_itself_is_not_fetched() {
    let mut planner = planner();
    gap(&mut planner, 10, 10);
    let meta_update = meta(0, 0, 10, 0, (9, 0), 0);
    let block = Block {
        meta: BlockMeta::read(meta_update.frame.body()).expect("valid"),
        meta_update,
        transactions: Part::Whole(Arc::from([])),
        entries: Part::NotSubscribed,
        accounts: Part::NotSubscribed,
        way: Way::Live,
        witnesses: Default::default(),
        vouched: None,
    };
    planner.on_batch(Timestamp(0), vec![Item::Block(Arc::new(block))], &mut Output::default());
    assert!(fetches(&mut planner, Timestamp(0)).is_empty());
}

#[test]
fn endpoints_are_asked_for_a_replay_before_rpc_each_once_and_only_within_its_window() {
    let mut planner = planner_with(RecoveryOptions {
        rpc: Some(RpcOptions::new("http://127.0.0.1:1").into()),
        ..RecoveryOptions::default()
    });
    gap(&mut planner, 10, 10);
    gap(&mut planner, 12, 12);
    let replay = |endpoint| Fetch::Replay { endpoint, first: 10, last: 12 };
    assert_eq!(fetches(&mut planner, Timestamp(0)), [replay(0)]);
    let too_old =
        Fetched::Failed { reason: "too old".to_owned(), retry_after: None, first_available: Some(100) };
    planner.on_fetched(Timestamp(0), replay(0), too_old, &mut Output::default());
    assert_eq!(fetches(&mut planner, Timestamp(0)), [replay(1)]);
    fail(&mut planner, Timestamp(0), replay(1));
    assert_eq!(fetches(&mut planner, Timestamp(0)), [block_of(10), block_of(12)]);
    gap(&mut planner, 50, 50);
    let next = fetches(&mut planner, Timestamp(0));
    assert_eq!(
        next,
        [Fetch::Replay { endpoint: 1, first: 50, last: 50 }],
        "50 is beyond endpoint 0's window"
    );
}

#[test]
fn a_replay_that_hangs_does_not_hold_a_slot_up() {
    let mut planner = planner_with(RecoveryOptions {
        rpc: Some(RpcOptions::new("http://127.0.0.1:1").into()),
        ..RecoveryOptions::default()
    });
    planner.endpoints = vec![0];
    gap(&mut planner, 10, 10);
    assert_eq!(fetches(&mut planner, Timestamp(0)).len(), 1);
    let later = Timestamp(0).after(RecoveryOptions::default().hedge_after);
    assert_eq!(fetches(&mut planner, later), [block_of(10)]);
    assert!(
        fetches(&mut planner, later.after(Duration::from_secs(60))).is_empty(),
        "asked once, not again and again"
    );
}

#[test]
fn when_nothing_becomes_final_rpc_is_asked_for_the_tip_and_everything_up_to_it_is_wanted() {
    let mut planner = planner();
    assert!(fetches(&mut planner, Timestamp(0)).is_empty());
    let later = Timestamp(0).after(RecoveryOptions::default().tip_interval);
    assert_eq!(all_fetches(&mut planner, later), [Fetch::Tip]);
    planner.on_fetched(later, Fetch::Tip, Fetched::Slots(vec![20]), &mut Output::default());
    let wanted =
        [Fetch::List { first: 1, last: 19 }, Fetch::Block { slot: 20, commitment: Commitment::Finalized }];
    assert_eq!(fetches(&mut planner, later), wanted);
}

#[test]
fn what_is_under_way_is_bounded() {
    let mut planner = planner();
    for slot in 10..1_000 {
        gap(&mut planner, slot, slot);
    }
    assert_eq!(fetches(&mut planner, Timestamp(0)).len(), RecoveryOptions::default().max_in_flight);
}

#[test]
fn without_room_only_the_lowest_slots_are_fetched_and_with_room_all() {
    let mut planner = planner();
    for slot in [10, 20, 30, 40] {
        gap(&mut planner, slot, slot);
    }
    planner.set_room(false);
    assert_eq!(fetches(&mut planner, Timestamp(0)), [block_of(10), block_of(20)]);
    assert!(fetches(&mut planner, Timestamp(1)).is_empty());
    child_of(&mut planner, 10, 0);
    assert_eq!(slots(&bring(&mut planner, block_of(10), 10, whole(10, 9))), [10]);
    assert_eq!(fetches(&mut planner, Timestamp(2)), [block_of(9)], "its parent is the lowest now");
    planner.set_room(true);
    assert_eq!(fetches(&mut planner, Timestamp(3)), [block_of(30), block_of(40)]);
}

fn replayer(scope: Scope) -> Planner {
    let options =
        RecoveryOptions { rpc: Some(RpcOptions::new("http://127.0.0.1:1").into()), ..Default::default() };
    Planner::new(options, scope, TransactionFilters::Any(Vec::new()), vec![0, 1], Start::At(1), 7)
}

fn replay_of(endpoint: EndpointId, slot: Slot) -> Fetch {
    Fetch::Replay { endpoint, first: slot, last: slot }
}

#[test]
fn a_version_goes_on_once_whichever_ways_bring_it() {
    let mut planner = planner();
    gap(&mut planner, 10, 10);
    child_of(&mut planner, 10, 0);
    let fetch = block_of(10);
    assert_eq!(fetches(&mut planner, Timestamp(0)), [fetch]);
    let live = bring(&mut planner, fetch, 10, whole(10, 9)).items;
    assert_eq!(live.len(), 1);
    let mut out = Output::default();
    planner.on_batch(Timestamp(2), live.clone(), &mut out);
    assert!(slots(&out).is_empty(), "it has gone on");
    planner.on_request(Timestamp(3), &[10]);
    planner.on_batch(Timestamp(3), live, &mut out);
    assert_eq!(slots(&out), [10], "somebody asked for it again");
}

#[test]
fn what_rpc_vouches_for_of_a_block_that_went_on_is_told_as_a_status() {
    let mut planner = planner();
    gap(&mut planner, 10, 10);
    child_of(&mut planner, 10, 0);
    fetches(&mut planner, Timestamp(0));
    bring(&mut planner, block_of(10), 10, whole(10, 9));
    let later = Timestamp(0).after(Duration::from_secs(60));
    assert_eq!(all_fetches(&mut planner, later).last(), Some(&Fetch::Tip));
    planner.on_fetched(later, Fetch::Tip, Fetched::Slots(vec![10]), &mut Output::default());
    let fetch = Fetch::Block { slot: 10, commitment: Commitment::Finalized };
    assert!(fetches(&mut planner, later).contains(&fetch));
    let out = bring(&mut planner, fetch, 10, whole(10, 9));
    let told = |item: &Item| match item {
        Item::Status(status) => Some((status.slot, status.blockhash, status.status)),
        _ => None,
    };
    let told: Vec<_> = out.items.iter().map(told).collect();
    assert_eq!(told, [Some((10, Some(hash(10, 0)), SlotStatus::Finalized))]);
}

#[test]
fn extras_are_looked_for_behind_the_content_as_long_as_a_replay_may_bring_them() {
    let mut planner = replayer(Scope { entries: Want::Everything, ..TRANSACTIONS });
    gap(&mut planner, 10, 10);
    assert_eq!(fetches(&mut planner, Timestamp(0)), [replay_of(0, 10)]);
    let out = bring(&mut planner, replay_of(0, 10), 10, whole(10, 0));
    assert_eq!(slots(&out), [10], "without its entries");
    assert!(out.events.iter().all(|event| !matches!(event, Event::HoleOpened { .. })));
    assert_eq!(planner.searches[&10].missing, Missing::Extras);
    planner.tip = 10 + planner.options.max_replay_slots + 1;
    assert!(fetches(&mut planner, Timestamp(2)).is_empty());
    assert!(planner.searches.is_empty(), "no window holds them any more");
}

#[test]
fn versions_that_a_replay_brings_together_are_never_mixed() {
    for (first, second, expected) in [(1, 2, vec![10, 10]), (0, 0, vec![])] {
        let mut planner = replayer(Scope { transactions: Want::Filtered, ..TRANSACTIONS });
        gap(&mut planner, 10, 10);
        fetches(&mut planner, Timestamp(0));
        let orphan = [transaction(9, first, 10, 7, 0), meta(9, first, 10, 7, (9, 0), 5)];
        let canonical = [transaction(9, second, 10, 0, 1), meta(9, second, 10, 0, (9, 0), 6)];
        let updates = orphan.into_iter().chain(canonical).collect();
        let out = bring(&mut planner, replay_of(0, 10), 10, updates);
        assert_eq!(slots(&out), expected, "banks {first} and {second}");
        for item in out.items {
            let Item::Block(block) = item else { continue };
            assert_eq!(block.transactions.updates().expect("whole").len(), 1);
        }
    }
}

#[test]
fn a_slot_that_is_asked_for_again_comes_from_who_has_not_delivered_it_and_from_rpc_at_last() {
    let rpc = Some(RpcOptions::new("http://127.0.0.1:1").into());
    let mut planner = planner_with(RecoveryOptions { rpc, ..RecoveryOptions::default() });
    let by = |endpoint| vec![transaction(endpoint, 0, 10, 0, 0), meta(endpoint, 0, 10, 0, (9, 0), 1)];
    gap(&mut planner, 10, 10);
    let mut asked = Vec::new();
    loop {
        let [fetch] = fetches(&mut planner, Timestamp(0))[..] else { panic!("one slot is wanted") };
        let Fetch::Replay { endpoint, .. } = fetch else { break };
        asked.push(endpoint);
        assert_eq!(slots(&bring(&mut planner, fetch, 10, by(endpoint))), [10]);
        planner.on_request(Timestamp(0), &[10]);
    }
    assert_eq!(asked, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn content_is_fetched_before_extras_of_lower_slots() {
    let mut planner = replayer(Scope { entries: Want::Everything, ..TRANSACTIONS });
    planner.options.max_in_flight = 1;
    let extras = Gap { first: 10, last: 10, missing: Missing::Extras };
    planner.on_batch(Timestamp(0), vec![Item::Gap(extras)], &mut Output::default());
    gap(&mut planner, 20, 20);
    assert_eq!(fetches(&mut planner, Timestamp(0)), [replay_of(0, 20)]);
}

#[test]
fn an_endpoint_that_replays_nothing_is_not_asked_again() {
    let mut planner = replayer(Scope { entries: Want::Everything, ..TRANSACTIONS });
    let extras = Gap { first: 10, last: 10, missing: Missing::Extras };
    planner.on_batch(Timestamp(0), vec![Item::Gap(extras)], &mut Output::default());
    for endpoint in [0, 1] {
        assert_eq!(fetches(&mut planner, Timestamp(0)), [replay_of(endpoint, 10)]);
        let unsupported =
            Fetched::Failed { reason: String::new(), retry_after: None, first_available: Some(Slot::MAX) };
        planner.on_fetched(Timestamp(0), replay_of(endpoint, 10), unsupported, &mut Output::default());
    }
    assert!(fetches(&mut planner, Timestamp(u64::MAX / 2)).is_empty());
    assert!(planner.searches.is_empty(), "nobody else has them");
}

#[test]
fn a_replayed_version_that_is_known_to_be_final_is_vouched_for() {
    let vouched = |version| {
        let mut planner = replayer(TRANSACTIONS);
        gap(&mut planner, 10, 10);
        finalized(&mut planner, 10, Some(hash(10, version)));
        fetches(&mut planner, Timestamp(0));
        let out = bring(&mut planner, replay_of(0, 10), 10, whole(10, 9));
        out.items.iter().find_map(|item| if let Item::Block(block) = item { block.vouched } else { None })
    };
    assert_eq!(vouched(0), Some(Commitment::Finalized));
    assert_eq!(vouched(7), None, "another version is final");
}

#[test]
fn of_two_endpoints_the_cheaper_one_replays() {
    for cheap in [0, 1] {
        let mut planner = planner_with(RecoveryOptions::default());
        planner.set_costs([(cheap, 10), (1 - cheap, 30)]);
        gap(&mut planner, 90, 90);
        let asked = fetches(&mut planner, Timestamp(0));
        assert!(matches!(asked[..], [Fetch::Replay { endpoint, .. }] if endpoint == cheap), "{asked:?}");
    }
}

/// A claim of `endpoint`, about one transaction, which is of this version.
fn claim(endpoint: EndpointId, version: u8) -> crate::dispute::Testimony {
    let update = transaction(endpoint, 1, 10, version, 0);
    let signature = update.frame.key().try_into().expect("a signature");
    let meta = meta(endpoint, 1, 10, 0, (9, 0), 1);
    crate::dispute::Testimony {
        endpoint,
        meta: BlockMeta::read(meta.frame.body()).expect("well-formed"),
        end: 1,
        deliveries: vec![crate::dispute::Delivery { index: 0, signature, digest: Hash([version; 32]) }],
    }
}

fn dispute(planner: &mut Planner, claims: Vec<crate::dispute::Testimony>, closed: bool) -> Vec<EndpointId> {
    let blockhash = claims[0].meta.blockhash;
    let dispute = crate::dispute::Dispute { slot: 10, blockhash, claims, closed };
    let mut out = Output::default();
    planner.on_batch(Timestamp(0), vec![Item::Dispute(Arc::new(dispute))], &mut out);
    proven_wrong(&out)
}

fn proven_wrong(out: &Output) -> Vec<EndpointId> {
    let wrong = |event: &Event| match event {
        Event::ProvenWrong { slot: 10, endpoint, .. } => Some(*endpoint),
        _ => None,
    };
    out.events.iter().filter_map(wrong).collect()
}

#[test]
fn endpoints_that_contradict_each_other_are_not_asked_and_rpc_says_who_is_wrong() {
    let rpc = Some(RpcOptions::new("http://127.0.0.1:1").into());
    let mut planner = planner_with(RecoveryOptions { rpc, ..RecoveryOptions::default() });
    dispute(&mut planner, vec![claim(0, 0), claim(1, 5)], false);
    gap(&mut planner, 10, 10);
    assert_eq!(fetches(&mut planner, Timestamp(0)), [block_of(10)], "a replay would be one of the parties");
    let replayed = vec![transaction(1, 1, 10, 5, 0), meta(1, 1, 10, 0, (9, 0), 1)];
    let replay = Fetch::Replay { endpoint: 1, first: 10, last: 10 };
    assert_eq!(
        slots(&bring(&mut planner, replay, 10, replayed)),
        Vec::<Slot>::new(),
        "nor is one believed that is under way"
    );
    assert_eq!(
        dispute(&mut planner, vec![claim(0, 0), claim(1, 5)], true),
        Vec::<EndpointId>::new(),
        "the referee is awaited"
    );
    child_of(&mut planner, 10, 0);
    let out = bring(&mut planner, block_of(10), 10, whole(10, 9));
    assert_eq!((slots(&out), proven_wrong(&out)), (vec![10], vec![1]));
}

#[test]
fn a_disputed_slot_that_only_lacks_extras_waits_for_no_referee() {
    let rpc = Some(RpcOptions::new("http://127.0.0.1:1").into());
    let mut planner = planner_with(RecoveryOptions { rpc, ..RecoveryOptions::default() });
    dispute(&mut planner, vec![claim(0, 0), claim(1, 5)], false);
    let extras = Gap { first: 10, last: 10, missing: Missing::Extras };
    planner.on_batch(Timestamp(0), vec![Item::Gap(extras)], &mut Output::default());
    let replay = Fetch::Replay { endpoint: 0, first: 10, last: 10 };
    assert_eq!(slots(&bring(&mut planner, replay, 10, whole(10, 9))), [10], "RPC would never be asked");
}

#[test]
fn without_rpc_what_most_endpoints_say_holds_against_the_others() {
    let mut planner = planner_with(RecoveryOptions::default());
    dispute(&mut planner, vec![claim(0, 5), claim(1, 0)], false);
    assert_eq!(dispute(&mut planner, vec![claim(0, 5), claim(1, 0), claim(2, 0)], true), [0]);
}

#[test]
fn what_an_earlier_run_fetched_goes_on_once_the_pipeline_has_begun_and_is_not_fetched_again() {
    let options = RecoveryOptions { replay: false, ..RecoveryOptions::default() };
    let filters = TransactionFilters::Everything;
    let mut planner = Planner::new(options, TRANSACTIONS, filters, vec![0], Start::Tip, 7);
    let mut out = Output::default();
    planner.on_spooled(Timestamp(0), 10, whole(10, 9), &mut out);
    planner.on_spooled(Timestamp(0), 11, vec![meta(9, 0, 11, 0, (10, 0), 1)], &mut out);
    assert!(out.items.is_empty(), "where it begins is not known");
    planner.on_batch(Timestamp(0), vec![Item::Begin(5)], &mut out);
    assert_eq!(slots(&out), [10], "slot 11 is not whole");
    let mut out = Output::default();
    planner.on_spooled(Timestamp(0), 4, whole(4, 3), &mut out);
    planner.on_spooled(Timestamp(0), 12, whole(12, 10), &mut out);
    assert_eq!(slots(&out), [12], "slot 4 lies before the beginning");
    gap(&mut planner, 12, 12);
    assert_eq!(fetches(&mut planner, Timestamp(0)), []);
}
