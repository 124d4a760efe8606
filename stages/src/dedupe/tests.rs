use super::*;
use crate::batch::Scope;
use crate::fixtures::*;
use proptest::prelude::*;

fn dedupe() -> Dedupe {
    Dedupe::new(DedupeOptions::default())
}

fn feed(dedupe: &mut Dedupe, updates: impl IntoIterator<Item = Update>) -> Output {
    let mut out = Output::default();
    dedupe.on_batch(Timestamp(0), 0, batch(updates), &mut out);
    out
}

fn passed(out: &Output) -> usize {
    out.items.iter().filter(|item| matches!(item, Item::Update(_))).count()
}

fn runs(out: &Output) -> Vec<(u16, Range<u32>)> {
    let run = |item: &Item| match item {
        Item::Echo(Echo::Transactions { lane, indexes, .. }) => {
            Some((lane.session.endpoint, indexes.clone()))
        }
        _ => None,
    };
    out.items.iter().filter_map(run).collect()
}

#[test]
fn what_another_endpoint_repeats_becomes_one_run_of_echoes() {
    let mut dedupe = dedupe();
    let stream = |endpoint| (0..100).map(move |index| transaction(endpoint, 1, 10, 0, index));
    assert_eq!(passed(&feed(&mut dedupe, stream(0))), 100);
    let out = feed(&mut dedupe, stream(1));
    assert_eq!((passed(&out), runs(&out)), (0, vec![(1, 0..100)]));
}

#[test]
fn one_index_with_two_contents_passes_twice() {
    let mut dedupe = dedupe();
    let out = feed(&mut dedupe, [transaction(0, 1, 10, 0, 5), transaction(1, 1, 10, 9, 5)]);
    assert_eq!(passed(&out), 2);
}

#[test]
fn the_repeat_of_another_candidate_names_its_bytes() {
    let mut dedupe = dedupe();
    feed(&mut dedupe, [transaction(0, 1, 10, 0, 5), transaction(1, 1, 10, 9, 5)]);
    let out = feed(&mut dedupe, [transaction(2, 4, 10, 9, 5)]);
    let Some(Item::Echo(Echo::Update(echo))) = out.items.first() else { panic!("an echo of the second") };
    assert_eq!(echo.lane(), transaction(2, 4, 10, 9, 5).lane());
    assert_eq!(echo.frame.key(), transaction(1, 1, 10, 9, 5).frame.key());
}

#[test]
fn a_garbled_copy_does_not_displace_the_good_one() {
    let mut dedupe = dedupe();
    let good = transaction(0, 1, 10, 0, 5);
    let mut bytes = good.frame.bytes().to_vec();
    let signature = good.frame.key();
    let second = bytes.windows(64).rposition(|window| window == signature).expect("in the transaction, too");
    bytes[second] ^= 1;
    let frame = crate::frame::Frame::try_new(bytes.into()).expect("the header is whole");
    let garbled = Update { frame, ..good.clone() };
    let out = feed(&mut dedupe, [garbled, good]);
    assert_eq!(passed(&out), 1);
    assert!(matches!(out.events[..], [Event::Malformed { slot: Some(10), .. }]));
}

#[test]
fn an_index_that_no_block_can_have_is_refused_and_allocates_nothing() {
    let mut dedupe = dedupe();
    let out = feed(&mut dedupe, [transaction(0, 1, 10, 0, i32::MAX as u64)]);
    assert_eq!((passed(&out), out.events.len()), (0, 1));
}

#[test]
fn the_last_write_of_a_lane_is_known_even_where_its_content_was_seen_before() {
    let mut dedupe = dedupe();
    let writes = [account(0, 10, 1, 5, 1), account(0, 10, 1, 6, 2), account(0, 10, 1, 5, 3)];
    let out = feed(&mut dedupe, writes);
    assert_eq!(passed(&out), 2);
    assert!(matches!(out.items[2], Item::Echo(Echo::Account { write_version: 3, .. })));
}

#[test]
fn statuses_and_metas_pass_once() {
    let mut dedupe = dedupe();
    let of = |endpoint| {
        [
            meta(endpoint, u64::from(endpoint), 10, 0, (9, 0), 1),
            status(endpoint, None, 10, Some(9), SlotStatus::Confirmed),
        ]
    };
    assert_eq!(passed(&feed(&mut dedupe, of(0))), 2);
    let out = feed(&mut dedupe, of(1));
    assert_eq!((passed(&out), out.items.len()), (0, 2));
}

#[test]
fn what_is_long_final_is_forgotten_and_discarded() {
    let mut dedupe = dedupe();
    for slot in 10..200 {
        feed(&mut dedupe, [transaction(0, 1, slot, 0, 0)]);
    }
    feed(&mut dedupe, [status(0, None, 150, Some(149), SlotStatus::Finalized)]);
    assert_eq!(dedupe.slots.len() as u64, 200 - (150 - DedupeOptions::default().keep_slots));
    assert!(feed(&mut dedupe, [transaction(1, 1, 20, 0, 0)]).items.is_empty());
    assert_eq!(dedupe.late, 1);
}

#[test]
fn sessions_keep_their_place_among_the_updates() {
    let mut dedupe = dedupe();
    feed(&mut dedupe, [transaction(0, 1, 10, 0, 0), transaction(0, 1, 10, 0, 1)]);
    let items = vec![
        Item::Update(transaction(1, 1, 10, 0, 0)),
        opened(1, Scope::default()),
        Item::Update(transaction(1, 1, 10, 0, 1)),
    ];
    let mut out = Output::default();
    dedupe.on_batch(Timestamp(0), 0, items, &mut out);
    assert!(matches!(out.items[..], [Item::Echo(_), Item::Session(_), Item::Echo(_)]));
}

proptest! {
    /// Whatever order several endpoints' streams interleave in, each transaction passes once, and every lane's deliveries
    /// are accounted for.
    #[test]
    fn each_transaction_passes_once_whatever_the_order(order in proptest::collection::vec(0..3_u16, 1..300)) {
        let mut dedupe = dedupe();
        let mut next = [0_u64; 3];
        let mut out = Output::default();
        for endpoint in order {
            let index = &mut next[usize::from(endpoint)];
            dedupe.on_batch(Timestamp(0), 0, batch([transaction(endpoint, 7, 10, 0, *index)]), &mut out);
            *index += 1;
        }
        let mut delivered = [0_u64; 3];
        let mut indexes = Vec::new();
        for item in &out.items {
            match item {
                Item::Update(update) => {
                    indexes.push(update.frame.header.index);
                    delivered[usize::from(update.session.endpoint)] += 1;
                }
                Item::Echo(Echo::Transactions { lane, indexes, .. }) => {
                    delivered[usize::from(lane.session.endpoint)] += u64::from(indexes.end - indexes.start);
                }
                _ => {}
            }
        }
        let longest = next.iter().max().copied().unwrap_or(0) as u32;
        indexes.sort_unstable();
        prop_assert_eq!(indexes, (0..longest).collect::<Vec<_>>());
        prop_assert_eq!(delivered, next);
    }
}
