use prost::Message as _;
use yellowstone_grpc_proto::geyser::SubscribeUpdate;
use yellowstone_grpc_proto::geyser::subscribe_update::UpdateOneof;

use super::*;
use crate::batch::{Gap, Missing, SessionId, Want};
use crate::block::Block;
use crate::fixtures::*;
use crate::frame::Frame;

const ALL: Scope =
    Scope { transactions: Want::Everything, entries: Want::Everything, accounts: Want::Everything };

fn detector(scope: Scope) -> GapDetector {
    GapDetector::new(GapDetectorOptions::default(), scope, Start::At(9))
}

fn feed(detector: &mut GapDetector, at: u64, updates: impl IntoIterator<Item = Update>) -> Output {
    let mut out = Output::default();
    detector.on_batch(Timestamp(at), 0, batch(updates), &mut out);
    out
}

fn tick(detector: &mut GapDetector, at: Duration) -> Output {
    let mut out = Output::default();
    detector.on_tick(Timestamp(0).after(at), &mut out);
    out
}

fn blocks(out: &Output) -> Vec<&Block> {
    fn block(item: &Item) -> Option<&Block> {
        match item {
            Item::Block(block) => Some(block),
            _ => None,
        }
    }
    out.items.iter().filter_map(block).collect()
}

fn gaps(out: &Output) -> Vec<Gap> {
    let gap = |item: &Item| match item {
        Item::Gap(gap) => Some(*gap),
        _ => None,
    };
    out.items.iter().filter_map(gap).collect()
}

fn whole_slot(endpoint: u16, bank: u64, slot: Slot, parent: Slot) -> Vec<Update> {
    let transactions = (0..3).map(|index| transaction(endpoint, bank, slot, 0, index));
    transactions.chain([meta(endpoint, bank, slot, 0, (parent, 0), 3)]).collect()
}

#[test]
fn a_slot_goes_out_once_all_that_its_meta_counts_is_there() {
    let mut detector = detector(TRANSACTIONS);
    let mut updates = whole_slot(0, 1, 10, 9);
    let last = updates.remove(2);
    assert!(blocks(&feed(&mut detector, 0, updates)).is_empty(), "the meta alone closes nothing");
    let out = feed(&mut detector, 0, [last]);
    let indexes: Vec<u32> = blocks(&out)[0]
        .transactions
        .updates()
        .expect("whole")
        .iter()
        .map(|update| update.frame.header.index)
        .collect();
    assert_eq!(indexes, [0, 1, 2]);
}

#[test]
fn endpoints_that_saw_a_part_each_make_one_whole() {
    let mut detector = detector(TRANSACTIONS);
    feed(&mut detector, 0, [transaction(0, 1, 10, 0, 0), meta(0, 1, 10, 0, (9, 0), 3)]);
    let rest = [transaction(1, 5, 10, 0, 1), transaction(1, 5, 10, 0, 2), meta(1, 5, 10, 0, (9, 0), 3)];
    assert_eq!(blocks(&feed(&mut detector, 0, rest)).len(), 1);
}

#[test]
fn a_lane_that_broke_off_before_its_meta_vouches_for_nothing() {
    let mut detector = detector(TRANSACTIONS);
    // Endpoint 0 delivers the beginning of a bank that is thrown away, endpoint 1 the end of the one that counts.
    feed(&mut detector, 0, [transaction(0, 1, 10, 9, 0)]);
    let out = feed(&mut detector, 0, [transaction(1, 5, 10, 0, 1), meta(1, 5, 10, 0, (9, 0), 2)]);
    assert!(blocks(&out).is_empty());
}

#[test]
fn two_versions_of_a_slot_are_never_mixed() {
    let mut detector = detector(TRANSACTIONS);
    let first = [transaction(0, 1, 10, 0, 0), transaction(0, 1, 10, 0, 1), meta(0, 1, 10, 0, (9, 0), 2)];
    let second = [transaction(0, 2, 10, 7, 0), transaction(0, 2, 10, 0, 1), meta(0, 2, 10, 7, (9, 0), 2)];
    let out = feed(&mut detector, 0, first.into_iter().chain(second));
    let blocks = blocks(&out);
    assert_eq!(blocks.iter().map(|block| block.blockhash()).collect::<Vec<_>>(), [hash(10, 0), hash(10, 7)]);
    for (block, version) in blocks.iter().zip([0, 7]) {
        let first = &block.transactions.updates().expect("whole")[0];
        assert_eq!(first.frame.key(), transaction(0, 0, 10, version, 0).frame.key());
    }
}

#[test]
fn a_second_bank_without_an_id_voids_the_first() {
    let mut detector = detector(TRANSACTIONS);
    let created = || status(0, None, 10, Some(9), SlotStatus::CreatedBank);
    feed(&mut detector, 0, [created(), transaction(0, 0, 10, 9, 0), created()]);
    let out = feed(&mut detector, 0, [transaction(0, 0, 10, 0, 1), meta(0, 0, 10, 0, (9, 0), 2)]);
    assert!(blocks(&out).is_empty(), "index 0 belongs to the bank that was thrown away");
    assert_eq!(blocks(&feed(&mut detector, 0, [transaction(0, 0, 10, 0, 0)])).len(), 1);
}

#[test]
fn where_counts_differ_the_larger_one_counts() {
    let mut detector = detector(TRANSACTIONS);
    let liar = [transaction(0, 1, 10, 0, 0), meta(0, 1, 10, 0, (9, 0), 2)];
    feed(&mut detector, 0, liar);
    let honest = (0..2).map(|index| transaction(1, 1, 10, 0, index)).chain([meta(1, 1, 10, 0, (9, 0), 3)]);
    assert!(blocks(&feed(&mut detector, 0, honest)).is_empty());
    assert_eq!(blocks(&feed(&mut detector, 0, [transaction(1, 1, 10, 0, 2)])).len(), 1);
}

#[test]
fn more_transactions_than_the_meta_counts_is_a_contradiction_and_a_gap() {
    let mut detector = detector(TRANSACTIONS);
    let updates = (0..3).map(|index| transaction(0, 1, 10, 0, index)).chain([meta(0, 1, 10, 0, (9, 0), 2)]);
    let out = feed(&mut detector, 0, updates);
    assert!(blocks(&out).is_empty());
    assert!(out.events.iter().any(|event| matches!(event, Event::Contradiction { slot: 10, .. })));
    let gaps = gaps(&tick(&mut detector, Duration::from_secs(2)));
    assert!(gaps.iter().any(|gap| gap.last == 10));
}

fn disputes(out: &Output) -> Vec<&crate::dispute::Dispute> {
    fn dispute(item: &Item) -> Option<&crate::dispute::Dispute> {
        match item {
            Item::Dispute(dispute) => Some(dispute),
            _ => None,
        }
    }
    out.items.iter().filter_map(dispute).collect()
}

#[test]
fn who_contradicts_whom_is_told_at_once_and_again_when_nothing_more_of_the_slot_comes() {
    let mut detector = detector(TRANSACTIONS);
    let lying = [transaction(1, 1, 10, 0, 0), transaction(1, 1, 10, 5, 1), transaction(1, 1, 10, 0, 2)];
    feed(&mut detector, 0, whole_slot(0, 1, 10, 9));
    let out = feed(&mut detector, 0, lying.into_iter().chain([meta(1, 1, 10, 0, (9, 0), 3)]));
    assert!(disputes(&out).is_empty(), "what went out whole before is not looked at again");

    let mut detector = GapDetector::new(GapDetectorOptions::default(), TRANSACTIONS, Start::At(9));
    let lying = [transaction(1, 1, 10, 0, 0), transaction(1, 1, 10, 5, 1), transaction(1, 1, 10, 0, 2)];
    feed(&mut detector, 0, lying);
    feed(&mut detector, 0, whole_slot(0, 1, 10, 9).into_iter().take(3));
    let out = feed(&mut detector, 0, [meta(0, 1, 10, 0, (9, 0), 3), meta(1, 1, 10, 0, (9, 0), 3)]);
    assert!(blocks(&out).is_empty());
    let [dispute] = disputes(&out)[..] else { panic!("one dispute") };
    assert_eq!((dispute.slot, dispute.closed, dispute.endpoints().to_vec()), (10, false, vec![0, 1]));
    let named =
        |event: &Event| matches!(event, Event::Contradiction { endpoints, .. } if endpoints[..] == [0, 1]);
    assert!(out.events.iter().any(named));
    feed(&mut detector, 0, whole_slot(2, 1, 10, 9));
    let final_status = status(0, None, 30, Some(29), SlotStatus::Finalized);
    let out = feed(&mut detector, 0, [final_status]);
    let [dispute] = disputes(&out)[..] else { panic!("one dispute") };
    assert!(dispute.closed);
    let wrong: Vec<_> = dispute.wrong(None).into_iter().map(|(endpoint, _)| endpoint).collect();
    assert_eq!(wrong, [1], "the third one has come meanwhile");
}

#[test]
fn two_counts_that_are_each_whole_are_a_contradiction() {
    let mut detector = detector(TRANSACTIONS);
    let longer = (0..4).map(|index| transaction(1, 1, 10, 0, index));
    feed(&mut detector, 0, longer.chain(whole_slot(0, 1, 10, 9).into_iter().take(3)));
    let out = feed(&mut detector, 0, [meta(1, 1, 10, 0, (9, 0), 4), meta(0, 1, 10, 0, (9, 0), 3)]);
    assert!(blocks(&out).is_empty());
    assert!(out.events.iter().any(|event| matches!(event, Event::Contradiction { slot: 10, .. })));
}

#[test]
fn a_parent_that_nobody_sent_is_a_gap_after_the_grace_and_reaches_down_to_what_is_known() {
    let mut detector = detector(TRANSACTIONS);
    feed(&mut detector, 0, whole_slot(0, 1, 9, 8));
    feed(&mut detector, 0, whole_slot(0, 1, 20, 15));
    assert!(gaps(&tick(&mut detector, Duration::from_millis(999))).is_empty());
    let found = gaps(&tick(&mut detector, Duration::from_millis(1_001)));
    assert_eq!(found, [Gap { first: 10, last: 15, missing: Missing::Content }]);
    assert!(gaps(&tick(&mut detector, Duration::from_secs(5))).is_empty(), "a gap is reported once");
}

#[test]
fn a_jump_in_slot_numbers_is_no_gap() {
    let mut detector = detector(TRANSACTIONS);
    feed(&mut detector, 0, whole_slot(0, 1, 9, 8));
    feed(&mut detector, 0, whole_slot(0, 1, 30, 9));
    assert!(gaps(&tick(&mut detector, Duration::from_secs(60))).is_empty());
}

#[test]
fn a_confirmed_slot_without_content_is_a_gap() {
    let mut detector = detector(TRANSACTIONS);
    feed(&mut detector, 0, whole_slot(0, 1, 9, 8));
    feed(&mut detector, 0, [status(0, None, 10, Some(9), SlotStatus::Confirmed)]);
    let found = gaps(&tick(&mut detector, Duration::from_secs(2)));
    assert_eq!(found.iter().map(|gap| gap.last).collect::<Vec<_>>(), [10]);
}

#[test]
fn entries_are_whole_only_up_to_the_blockhash() {
    let scope = Scope { accounts: Want::Nothing, ..ALL };
    let mut detector = detector(scope);
    let mut updates = whole_slot(0, 1, 10, 9);
    updates.push(entry(0, 10, 0, hash(1, 1), 3));
    for update in &mut updates {
        update.frame.header.bank_id = 1;
    }
    assert!(blocks(&feed(&mut detector, 0, updates)).is_empty(), "the last entry is missing");
    let mut last = entry(0, 10, 1, hash(10, 0), 0);
    last.frame.header.bank_id = 1;
    assert_eq!(blocks(&feed(&mut detector, 0, [last]))[0].entries.updates().expect("whole").len(), 2);
}

#[test]
fn a_slot_goes_on_without_entries_after_their_grace_and_again_with_them() {
    let scope = Scope { accounts: Want::Nothing, ..ALL };
    let mut detector = detector(scope);
    feed(&mut detector, 0, whole_slot(0, 0, 10, 9));
    let out = tick(&mut detector, Duration::from_secs(3));
    assert!(blocks(&out)[0].entries.is_missing());
    assert!(gaps(&out).contains(&Gap { first: 10, last: 10, missing: Missing::Extras }));
    let out = feed(&mut detector, 3_100_000, [entry(0, 10, 0, hash(10, 0), 3)]);
    assert!(!blocks(&out)[0].entries.is_missing());
}

/// Slot 10 with its entries, as a lane that may have another transaction in it tells it.
fn told_by(endpoint: u16, version: u8, parent: (Slot, u8)) -> Vec<Update> {
    let transactions = [transaction(endpoint, 1, 10, 0, 0), transaction(endpoint, 1, 10, version, 1)];
    let mut entries = [entry(endpoint, 10, 0, hash(1, 1), 1), entry(endpoint, 10, 1, hash(10, 0), 1)];
    entries.iter_mut().for_each(|entry| entry.frame.header.bank_id = 1);
    let all = transactions.into_iter().chain(entries);
    all.chain([meta(endpoint, 1, 10, 0, parent, 2)]).collect()
}

/// The entry of a frame with one hash more.
fn recounted(entry: &[u8]) -> Frame {
    let mut update = SubscribeUpdate::decode(entry).expect("a frame of the fixtures");
    if let Some(UpdateOneof::Entry(entry)) = &mut update.update_oneof {
        entry.num_hashes += 1;
    }
    Frame::try_new(update.encode_to_vec().into()).expect("a valid update")
}

fn claims(out: &Output) -> Vec<(u16, Vec<u16>)> {
    let claim = |item: &Item| match item {
        Item::Claim(block) => {
            Some((block.meta_update.session.endpoint, block.witnesses.iter().copied().collect()))
        }
        _ => None,
    };
    out.items.iter().filter_map(claim).collect()
}

#[test]
fn endpoints_that_differ_about_a_block_make_a_claim_each_once() {
    let scope = Scope { accounts: Want::Nothing, ..ALL };
    let mut miscounted = told_by(1, 0, (9, 0));
    let entry = miscounted[2].frame.bytes().to_vec();
    miscounted[2].frame = recounted(&entry);
    miscounted[2].frame.header.bank_id = 1;
    for lie in [told_by(1, 7, (9, 0)), told_by(1, 0, (9, 7)), miscounted] {
        let mut detector = detector(scope);
        let out = feed(&mut detector, 0, told_by(0, 0, (9, 0)));
        assert_eq!((blocks(&out).len(), claims(&out).len()), (1, 0));
        let out = feed(&mut detector, 0, lie);
        assert_eq!((blocks(&out).len(), claims(&out)), (0, vec![(0, vec![0]), (1, vec![1])]));
        assert!(matches!(out.events[..], [Event::Contradiction { slot: 10, .. }]));
        let out = feed(&mut detector, 0, told_by(2, 0, (9, 0)));
        assert_eq!(claims(&out), [(2, vec![2])], "a third one has its say, and the others had theirs");
    }
}

#[test]
fn endpoints_that_agree_or_lost_something_make_no_claim() {
    let scope = Scope { accounts: Want::Nothing, ..ALL };
    let lost = |place: usize| {
        let mut updates = told_by(1, 0, (9, 0));
        updates.remove(place);
        updates
    };
    for other in [told_by(1, 0, (9, 0)), lost(0), lost(2), lost(3)] {
        let mut detector = detector(scope);
        feed(&mut detector, 0, told_by(0, 0, (9, 0)));
        let out = feed(&mut detector, 0, other);
        assert!(claims(&out).is_empty() && out.events.is_empty());
    }
}

#[test]
fn without_entries_nobody_could_judge_a_claim() {
    let mut detector = detector(TRANSACTIONS);
    feed(&mut detector, 0, told_by(0, 0, (9, 0)));
    assert!(claims(&feed(&mut detector, 0, told_by(1, 7, (9, 0)))).is_empty());
}

fn account_slot(detector: &mut GapDetector, endpoint: u16, slot: Slot, writes: &[(u8, u64, u64)]) {
    let writes =
        writes.iter().map(|&(key, lamports, version)| account(endpoint, slot, key, lamports, version));
    feed(detector, 0, writes.chain([meta(endpoint, 0, slot, 0, (slot - 1, 0), 0)]));
}

#[test]
fn accounts_are_the_last_writes_of_a_lane_that_saw_the_whole_slot() {
    let scope = Scope { entries: Want::Nothing, ..ALL };
    let mut detector = detector(scope);
    account_slot(&mut detector, 0, 8, &[]);
    account_slot(&mut detector, 0, 9, &[(1, 1, 1)]);
    account_slot(&mut detector, 0, 10, &[(2, 5, 3), (1, 7, 5), (1, 6, 4)]);
    let confirmed = |slot| status(0, None, slot, Some(slot - 1), SlotStatus::Confirmed);
    let out = feed(&mut detector, 0, [confirmed(9), confirmed(10)]);
    let blocks = blocks(&out);
    assert_eq!(blocks.len(), 1, "slot 9 may have begun before the session did");
    let lamports: Vec<u64> = blocks[0]
        .accounts
        .updates()
        .expect("whole")
        .iter()
        .map(|update| crate::account::Account::read(update.frame.body()).expect("valid").lamports)
        .collect();
    assert_eq!(lamports, [7, 5]);
}

#[test]
fn a_status_names_the_version_of_the_bank_that_it_is_about() {
    let mut detector = detector(TRANSACTIONS);
    feed(&mut detector, 0, whole_slot(0, 1, 10, 9));
    let out = feed(&mut detector, 0, [status(0, Some(1), 10, Some(9), SlotStatus::Finalized)]);
    let named = out.items.iter().any(
        |item| matches!(item, Item::Status(status) if status.blockhash == Some(hash(10, 0)) && status.slot == 10),
    );
    assert!(named);
}

#[test]
fn nothing_owed_is_forgotten_silently() {
    let mut detector = detector(TRANSACTIONS);
    feed(&mut detector, 0, whole_slot(0, 1, 9, 8));
    feed(&mut detector, 0, [meta(0, 1, 10, 0, (9, 0), 3)]);
    let mut reported = Vec::new();
    for slot in 11..1_000 {
        let out = feed(&mut detector, 0, whole_slot(0, 1, slot, slot - 1));
        reported.extend(gaps(&out));
    }
    assert!(reported.iter().any(|gap| gap.last == 10));
    assert!(detector.slots.len() <= 513);
}

#[test]
fn a_session_that_ends_covers_nothing_it_did_not_see_the_end_of() {
    let scope = Scope { entries: Want::Nothing, ..ALL };
    let mut detector = detector(scope);
    account_slot(&mut detector, 0, 9, &[(1, 1, 1)]);
    account_slot(&mut detector, 0, 10, &[(1, 2, 2)]);
    let mut out = Output::default();
    let closed = Session::Closed { id: SessionId { endpoint: 0, number: 0 }, at: Timestamp(0) };
    detector.on_batch(Timestamp(0), 0, vec![Item::Session(closed)], &mut out);
    let out = tick(&mut detector, Duration::from_secs(10));
    assert!(blocks(&out).iter().all(|block| block.accounts.is_missing()));
}

#[test]
fn a_session_that_is_younger_than_a_slot_still_says_which_version_is_final() {
    let mut detector = detector(TRANSACTIONS);
    feed(&mut detector, 0, whole_slot(0, 1, 10, 9));
    feed(&mut detector, 0, whole_slot(0, 2, 11, 10));
    let named = |update: Update, detector: &mut GapDetector| {
        let out = feed(detector, 0, [update]);
        let blockhash = |item: &Item| match item {
            Item::Status(status) => status.blockhash,
            _ => None,
        };
        out.items.iter().find_map(blockhash)
    };
    let mut by_bank = status(0, Some(2), 11, Some(10), SlotStatus::Finalized);
    by_bank.session.number = 1;
    assert_eq!(named(by_bank, &mut detector), Some(hash(11, 0)), "bank ids outlive a reconnect");
    let by_child = status(5, None, 10, Some(9), SlotStatus::Finalized);
    assert_eq!(named(by_child, &mut detector), Some(hash(10, 0)));
    let without_child = status(5, None, 11, Some(10), SlotStatus::Finalized);
    assert_eq!(named(without_child, &mut detector), None, "nothing rules out that another version is meant");
}

#[test]
fn a_slot_that_waits_for_its_entries_is_no_gap_until_its_transactions_are_lost() {
    let scope = Scope { accounts: Want::Nothing, ..ALL };
    let mut detector = detector(scope);
    feed(&mut detector, 0, whole_slot(0, 0, 10, 9));
    let found = |out: Output| gaps(&out).iter().map(|gap| gap.last).collect::<Vec<_>>();
    assert_eq!(found(tick(&mut detector, Duration::from_millis(1_500))), [9], "but its parent is one");
    feed(&mut detector, 0, [transaction(0, 0, 30, 0, 0)]);
    detector.on_pressure(Timestamp(0), &mut Output::default());
    let out = tick(&mut detector, Duration::from_secs(10));
    assert!(blocks(&out).is_empty() && !detector.waiting.contains_key(&10));
    assert!(detector.is_reported(10));
}

#[test]
fn a_slot_that_went_on_without_entries_is_not_looked_at_again_with_every_tick() {
    let scope = Scope { accounts: Want::Nothing, ..ALL };
    let mut detector = detector(scope);
    feed(&mut detector, 0, whole_slot(0, 0, 10, 9));
    assert_eq!(blocks(&tick(&mut detector, Duration::from_secs(3))).len(), 1);
    feed(&mut detector, 0, [entry(0, 10, 7, hash(1, 1), 0)]);
    assert!(detector.waiting.is_empty());
}

#[test]
fn an_empty_block_is_believed_only_of_who_saw_its_beginning() {
    let mut detector = detector(TRANSACTIONS);
    let out = feed(&mut detector, 0, [meta(0, 1, 10, 0, (9, 0), 0)]);
    assert!(blocks(&out).is_empty(), "it may have had one transaction, and a count that is one too low");
    let created = status(1, Some(5), 10, Some(9), SlotStatus::CreatedBank);
    let out = feed(&mut detector, 0, [created, meta(1, 5, 10, 0, (9, 0), 0)]);
    assert_eq!(blocks(&out).len(), 1);
}

#[test]
fn a_filtered_slot_that_waits_for_its_confirmation_is_no_gap() {
    let mut detector = detector(Scope { transactions: Want::Filtered, ..TRANSACTIONS });
    feed(&mut detector, 0, whole_slot(0, 1, 8, 7));
    feed(&mut detector, 0, whole_slot(0, 1, 9, 8));
    feed(&mut detector, 0, whole_slot(0, 1, 10, 9));
    let found = |detector: &mut GapDetector, seconds| {
        gaps(&tick(detector, Duration::from_secs(seconds))).iter().map(|gap| gap.last).collect::<Vec<_>>()
    };
    assert_eq!(found(&mut detector, 2), [9], "its beginning is all that was seen of it");
    assert_eq!(found(&mut detector, 4), [10], "confirmation does not come any more");
}

#[test]
fn a_session_that_began_before_a_late_meta_of_the_parent_vouches_for_no_accounts() {
    let scope = Scope { entries: Want::Nothing, ..ALL };
    for (older, whole) in [(false, false), (true, true)] {
        let mut detector = detector(scope);
        if older {
            feed(&mut detector, 0, [meta(0, 0, 9, 0, (8, 0), 0)]);
        }
        account_slot(&mut detector, 0, 10, &[]);
        account_slot(&mut detector, 0, 11, &[(1, 7, 5)]);
        let out = feed(&mut detector, 0, [status(0, None, 11, Some(10), SlotStatus::Confirmed)]);
        let came = blocks(&out).iter().any(|block| block.slot() == 11 && !block.accounts.is_missing());
        assert_eq!(came, whole, "an older meta was seen: {older}");
    }
}

#[test]
fn a_slot_that_was_under_way_when_a_session_began_is_not_taken_for_whole_by_its_parent() {
    let scope = Scope { transactions: Want::Filtered, ..Scope::default() };
    for (torn, expected) in [(vec![12], vec![11, 13]), (Vec::new(), vec![11, 12, 13])] {
        let mut detector = detector(scope);
        let mut items = vec![Item::Session(Session::Opened {
            id: session(0),
            endpoint: Arc::from("endpoint"),
            scope,
            torn: Torn::from_vec(torn),
            at: Timestamp(0),
        })];
        for slot in 9..=13 {
            items.extend(batch(whole_slot(0, 0, slot, slot - 1)));
            items.extend(batch([status(0, None, slot, Some(slot - 1), SlotStatus::Confirmed)]));
        }
        let mut out = Output::default();
        detector.on_batch(Timestamp(0), 0, items, &mut out);
        let slots: Vec<Slot> =
            blocks(&out).iter().map(|block| block.slot()).filter(|slot| *slot > 10).collect();
        assert_eq!(slots, expected);
    }
}
