use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sluice_cluster::ledger::{Block as Told, hash, load_bytes, verify};
use sluice_cluster::{GeneratedLedger, Ledger, Lie};
use yellowstone_grpc_proto::geyser::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude::SubscribeUpdateTransaction;

use super::chain::{Break, History, Reason};
use super::recording::{Finding, Recordings};
use super::*;
use crate::batch::{Arrival, Batch, Item, Missing, Standing, Update};
use crate::block::{Block, Part, Way};
use crate::entry::Entry;
use crate::fixtures::{session, status, update_of};
use crate::frame::{BlockMeta, SlotStatus};
use crate::slot::{Hash, Timestamp};
use crate::stage::{Event, Metric, Output, Stage};

/// Lies of each kind that are told, and the blocks that they are told about.
const LIES: u64 = 1_000;
const LIED_ABOUT: usize = 100;

fn ledger() -> Ledger {
    Ledger::generated(GeneratedLedger { mainnet_blocks: false, ..GeneratedLedger::default() })
}

/// Blocks of the chain, without end.
fn told(ledger: &Ledger) -> impl Iterator<Item = Told> {
    (0..).filter_map(|at| Some(ledger.at(at)?.canonical()?.block.clone()))
}

fn base58(text: &str) -> Hash {
    Hash(hash(text).expect("the cluster makes valid hashes"))
}

/// What the stage makes of it.
fn history(told: &Told) -> History {
    let history = History::of(&block(told, Way::Live), DEFAULT_MAX_HASHES);
    history.expect("well-formed").expect("it has entries and transactions")
}

/// What the diagnosis may say about a lie: the exact change where it can be found, else what kind of entry it hit.
fn names(lie: Lie, reason: Reason) -> bool {
    use Reason::*;
    match lie {
        Lie::TransactionLeftOut => matches!(reason, Transactions | Tick | Parent),
        Lie::TransactionAdded => matches!(reason, TransactionAdded(_)),
        Lie::TransactionsSwapped => matches!(reason, TransactionsSwapped(_) | Transactions | Parent),
        Lie::SignatureChanged => matches!(reason, Transactions | Parent),
        Lie::EntryLeftOut => matches!(reason, EntryLeftOut { .. }),
        Lie::EntrySplit => matches!(reason, EntrySplit),
        Lie::HashCountChanged => matches!(reason, HashCount { .. }),
        Lie::WrongParent => matches!(reason, Parent),
        Lie::TransactionHidden => matches!(reason, SignatureForeign(_)),
        Lie::TransactionRepeated => matches!(reason, SignatureTwice(_)),
    }
}

#[test]
fn each_lie_is_found_at_its_first_entry_and_named() {
    let blocks: Vec<Told> = told(&ledger()).take(LIED_ABOUT).collect();
    assert!(blocks.iter().all(|block| history(block).prove().is_ok()));
    for lie in Lie::ALL {
        let mut random = StdRng::seed_from_u64(lie as u64);
        let mut told = 0;
        for honest in blocks.iter().cycle() {
            let mut block = honest.clone();
            lie.tell(&mut block, &mut random);
            if block == *honest {
                continue;
            }
            let parent = base58(&block.parent_blockhash).0;
            let first = verify(parent, &block.entries, &block.transactions).expect_err("a lie");
            let Break { index, reason } = history(&block).prove().expect_err("a lie");
            assert_eq!(index as usize, first, "{lie:?} in slot {}: {reason}", block.slot);
            assert!(names(lie, reason), "{lie:?} in slot {}, entry {index}: {reason}", block.slot);
            told += 1;
            if told == LIES {
                break;
            }
        }
    }
}

#[test]
fn what_is_not_there_is_named_before_what_follows_from_it() {
    let ledger = ledger();
    let block = told(&ledger).find(|block| block.entries.len() > 4 && block.transactions.len() > 4);
    let block = block.expect("most are that large");
    let change = |change: fn(&mut Told)| {
        let mut changed = block.clone();
        change(&mut changed);
        history(&changed).prove().expect_err("not whole")
    };
    let last = block.entries.len() as u32 - 1;
    assert_eq!(change(|block| block.entries.clear()), Break { index: 0, reason: Reason::NoEntries });
    let cut = change(|block| drop(block.entries.pop()));
    assert_eq!(cut, Break { index: last, reason: Reason::Unfinished });
    let hole = change(|block| drop(block.entries.remove(2)));
    assert_eq!(hole, Break { index: 2, reason: Reason::EntryMissing });
    let hole = change(|block| drop(block.transactions.remove(0)));
    assert_eq!(hole.reason, Reason::TransactionMissing(0));
    let claimed = change(|block| block.entries[1].num_hashes = u64::MAX);
    assert_eq!(claimed, Break { index: 1, reason: Reason::HashLimit(u64::MAX) });
}

#[test]
fn an_entry_without_hashes_or_transactions_leaves_the_state_as_it_is() {
    let parent = Hash([7; 32]);
    let mut history = History::new(parent, parent, 1, DEFAULT_MAX_HASHES);
    history.push_entry(&Entry { index: 0, num_hashes: 0, hash: &parent.0, executed_transaction_count: 0 });
    assert_eq!(history.prove(), Ok(0));
}

/// A block as the gap detector hands it on, delivered by endpoint 3.
fn block(told: &Told, way: Way) -> Arc<Block> {
    let meta_update = update_of(3, UpdateOneof::BlockMeta(told.meta(0)));
    let meta = BlockMeta::read(meta_update.frame.body()).expect("valid");
    let transaction = |info: &_| {
        let (transaction, slot) = (Some(Clone::clone(info)), told.slot);
        update_of(3, UpdateOneof::Transaction(SubscribeUpdateTransaction { transaction, slot, bank_id: 0 }))
    };
    let transactions: Vec<Update> = told.transactions.iter().map(transaction).collect();
    let entries = told.entries.iter().map(|entry| update_of(3, UpdateOneof::Entry(entry.clone())));
    let entries = match way {
        Way::Rpc => Part::Missing,
        Way::Live | Way::Replay => Part::Whole(entries.collect()),
    };
    Arc::new(Block {
        meta,
        meta_update,
        transactions: Part::Whole(Arc::from(transactions)),
        entries,
        accounts: Part::NotSubscribed,
        way,
        witnesses: smallvec::smallvec![3],
        vouched: None,
    })
}

fn prover(mode: Mode) -> Prover {
    Prover::new(ProofOptions { mode, max_in_flight: 2, ..ProofOptions::default() })
}

fn told_blocks(count: usize) -> Vec<Told> {
    told(&ledger())
        .filter(|block| block.entries.len() > 1 && block.transactions.len() > 1)
        .take(count)
        .collect()
}

fn liar(honest: &Told) -> Told {
    let mut block = honest.clone();
    Lie::SignatureChanged.tell(&mut block, &mut StdRng::seed_from_u64(1));
    block
}

/// What came out: blocks by slot, gaps by their negative slot.
fn passed(out: &Output) -> Vec<i128> {
    let slot = |item: &Item| match item {
        Item::Block(block) => Some(i128::from(block.slot())),
        Item::Gap(gap) if gap.missing == Missing::Content => Some(-i128::from(gap.first)),
        _ => None,
    };
    out.items.iter().filter_map(slot).collect()
}

fn value(prover: &Prover, name: &str) -> f64 {
    let mut sum = 0.0;
    prover.metrics(&mut |metric: Metric| sum += if metric.name == name { metric.value } else { 0.0 });
    sum
}

fn run(prover: &mut Prover, at: u64, batch: Batch) -> Output {
    let mut out = Output::default();
    prover.on_batch(Timestamp(0).after(Duration::from_secs(at)), 0, batch, &mut out);
    out
}

#[test]
fn an_audit_passes_all_and_reports_what_fails() {
    let blocks = told_blocks(2);
    let mut prover = prover(Mode::Audit);
    let batch = [&blocks[0], &liar(&blocks[1])].map(|told| Item::Block(block(told, Way::Live)));
    let out = run(&mut prover, 0, batch.to_vec());
    assert_eq!(passed(&out), [i128::from(blocks[0].slot), i128::from(blocks[1].slot)]);
    let [Event::ProofFailed { slot, index: Some(_), endpoint: 3, .. }] = &out.events[..] else {
        panic!("{:?}", out.events)
    };
    assert_eq!(*slot, blocks[1].slot);
    assert!(out.requests.is_empty());
    assert_eq!((value(&prover, "proof_proven_total"), value(&prover, "proof_failed_total")), (1.0, 1.0));
    assert_eq!(value(&prover, "proof_endpoint_failed_total"), 1.0);
}

#[test]
fn enforcing_holds_a_failed_slot_back_until_it_comes_in_a_form_that_holds() {
    let honest = &told_blocks(1)[0];
    let mut prover = prover(Mode::Enforce);
    let out = run(&mut prover, 0, vec![Item::Block(block(&liar(honest), Way::Live))]);
    assert_eq!((passed(&out), out.requests), (vec![-i128::from(honest.slot)], vec![honest.slot]));
    let ask = |prover: &mut Prover, at| {
        let mut out = Output::default();
        prover.on_tick(Timestamp(0).after(Duration::from_secs(at)), &mut out);
        out.requests
    };
    assert!(ask(&mut prover, 4).is_empty());
    assert_eq!(ask(&mut prover, 5), [honest.slot]);
    let out = run(&mut prover, 6, vec![Item::Block(block(honest, Way::Replay))]);
    assert_eq!(passed(&out), [i128::from(honest.slot)]);
    assert!(ask(&mut prover, 60).is_empty());
}

#[test]
fn of_claims_the_one_that_holds_goes_on_and_the_other_is_named() {
    let honest = &told_blocks(1)[0];
    for mode in [Mode::Audit, Mode::Enforce] {
        let mut prover = prover(mode);
        let claims = [liar(honest), honest.clone(), honest.clone()];
        let claims = claims.iter().map(|told| Item::Claim(block(told, Way::Live)));
        let out = run(&mut prover, 0, claims.collect());
        assert_eq!(passed(&out), [i128::from(honest.slot)], "once");
        let [Event::ProofFailed { slot, index: Some(_), endpoint: 3, .. }] = &out.events[..] else {
            panic!("{:?}", out.events)
        };
        assert_eq!((*slot, out.requests.len()), (honest.slot, 0));
        assert_eq!((value(&prover, "proof_proven_total"), value(&prover, "proof_failed_total")), (1.0, 1.0));
    }
}

#[test]
fn a_block_that_failed_is_made_up_for_by_a_claim_that_holds() {
    let honest = &told_blocks(1)[0];
    let mut prover = prover(Mode::Enforce);
    run(&mut prover, 0, vec![Item::Block(block(&liar(honest), Way::Live))]);
    assert_eq!(value(&prover, "proof_held_back_slots"), 1.0);
    let out = run(&mut prover, 0, vec![Item::Claim(block(honest, Way::Live))]);
    assert_eq!((passed(&out), value(&prover, "proof_held_back_slots")), (vec![i128::from(honest.slot)], 0.0));
}

#[test]
fn who_says_that_an_entry_belongs_to_the_block_is_to_blame_and_not_who_sent_it_first() {
    let honest = &told_blocks(1)[0];
    let mut shared = Block::clone(&block(&liar(honest), Way::Live));
    shared.meta_update.session = session(1);
    shared.witnesses = smallvec::smallvec![1];
    let out = run(&mut prover(Mode::Audit), 0, vec![Item::Block(Arc::new(shared))]);
    assert!(matches!(out.events[..], [Event::ProofFailed { endpoint: 1, .. }]), "{:?}", out.events);
}

#[test]
fn a_first_entry_is_to_blame_itself_where_the_parent_is_proven() {
    let blocks = told_blocks(40);
    let pair = blocks.windows(2).find(|pair| {
        let first = &pair[1].entries[0];
        pair[1].parent_slot == pair[0].slot && first.executed_transaction_count > 0
    });
    let [parent, honest] = pair.expect("a block that begins with transactions") else {
        unreachable!("windows of two")
    };
    let mut told = honest.clone();
    told.transactions[0].signature[0] ^= 1;
    let first = told.transactions[0].transaction.as_mut().expect("a transaction");
    first.signatures[0][0] ^= 1;
    let reason = |before: Option<&Told>| {
        let items = before.into_iter().chain([&told]).map(|told| Item::Block(block(told, Way::Live)));
        let out = run(&mut prover(Mode::Audit), 0, items.collect());
        let [Event::ProofFailed { index: Some(0), reason, .. }] = &out.events[..] else {
            panic!("{:?}", out.events)
        };
        reason.clone()
    };
    assert_eq!(reason(None), Reason::Parent.to_string());
    assert_eq!(reason(Some(parent)), Reason::Transactions.to_string());
}

#[test]
fn a_block_that_names_a_wrong_parent_fails_whatever_the_order_of_verdicts() {
    let blocks: Vec<Told> = told(&ledger()).take(40).collect();
    let trio = blocks.windows(3).find(|trio| trio[2].parent_slot == trio[1].slot).expect("neighbours");
    let mut liar = trio[2].clone();
    liar.parent_slot = trio[0].slot;
    let mut prover = Prover::new(ProofOptions { mode: Mode::Enforce, ..ProofOptions::default() });
    let mut out = Output::default();
    let batch = [&trio[0], &trio[1], &liar].map(|told| Item::Block(block(told, Way::Live)));
    prover.take(Timestamp(0), batch.to_vec(), &mut out);
    let tasks: Vec<_> = std::iter::from_fn(|| prover.next_task()).collect();
    for task in tasks.into_iter().rev() {
        prover.on_verdict(Timestamp(0), task.run(), Duration::ZERO, &mut out);
    }
    let slots = [&trio[0], &trio[1], &liar].map(|told| i128::from(told.slot));
    assert_eq!((passed(&out), &out.requests[..]), (vec![slots[0], slots[1], -slots[2]], &[liar.slot][..]));
    let [Event::ProofFailed { reason, endpoint: 3, .. }] = &out.events[..] else {
        panic!("{:?}", out.events)
    };
    assert!(reason.starts_with("wrong parent"), "{reason}");
    let out = run(&mut prover, 1, vec![Item::Claim(block(&trio[2], Way::Live))]);
    assert_eq!(passed(&out), [slots[2]], "the honest claim goes on");
}

#[test]
fn hashes_that_were_made_up_cost_no_more_than_a_slot() {
    let (parent, own) = (Hash([7; 32]), Hash([8; 32]));
    let claim = |num_hashes: u64, entries: u32| {
        let mut history = History::new(parent, own, 64, DEFAULT_MAX_HASHES);
        for index in 0..entries {
            let hash = [index as u8; 32];
            history.push_entry(&Entry { index, num_hashes, hash: &hash, executed_transaction_count: 0 });
        }
        history.prove().expect_err("made up")
    };
    let long = claim(1_020_000_000, 1);
    assert_eq!(long, Break { index: 0, reason: Reason::LongEntry(1_020_000_000) });
    // A thousand million hashes, which would take the better part of a minute.
    let begun = std::time::Instant::now();
    assert_eq!(claim(1_000_000, 1_000), Break { index: 0, reason: Reason::Parent });
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn what_rpc_alone_delivers_is_counted_and_passes() {
    let honest = &told_blocks(1)[0];
    let mut prover = prover(Mode::Enforce);
    let out = run(&mut prover, 0, vec![Item::Block(block(honest, Way::Rpc))]);
    assert_eq!(passed(&out), [i128::from(honest.slot)]);
    assert_eq!((value(&prover, "proof_counted_total"), value(&prover, "proof_proven_total")), (1.0, 0.0));
}

#[test]
fn a_stream_that_lost_the_entries_fails() {
    let honest = &told_blocks(1)[0];
    let mut lost = Block::clone(&block(honest, Way::Live));
    lost.entries = Part::Missing;
    let mut prover = prover(Mode::Enforce);
    let out = run(&mut prover, 0, vec![Item::Block(Arc::new(lost))]);
    assert_eq!(passed(&out), [-i128::from(honest.slot)]);
    assert!(matches!(out.events[..], [Event::ProofFailed { index: None, .. }]));
}

#[test]
fn order_is_kept_whatever_the_order_of_verdicts() {
    let blocks = told_blocks(3);
    let mut prover = prover(Mode::Enforce);
    let mut out = Output::default();
    let batch = blocks.iter().flat_map(|told| {
        let seen = status(0, None, told.slot, None, SlotStatus::Processed);
        [Item::Block(block(told, Way::Live)), Item::Update(seen)]
    });
    prover.take(Timestamp(0), batch.collect(), &mut out);
    assert!(!prover.has_room(), "three slots are more than two");
    let (first, second) = (prover.next_task().expect("room"), prover.next_task().expect("room"));
    assert!(prover.next_task().is_none(), "two are under way");
    prover.on_verdict(Timestamp(0), second.run(), Duration::ZERO, &mut out);
    assert!(out.items.is_empty(), "the first is not there yet");
    prover.on_verdict(Timestamp(0), first.run(), Duration::ZERO, &mut out);
    assert_eq!(out.items.len(), 4);
    let third = prover.next_task().expect("room again");
    prover.on_verdict(Timestamp(0), third.run(), Duration::ZERO, &mut out);
    let expected: Vec<i128> = blocks.iter().map(|told| i128::from(told.slot)).collect();
    assert_eq!((passed(&out), out.items.len()), (expected, 6));
    assert!(prover.is_idle());
}

#[test]
fn a_slot_that_was_turned_off_is_not_looked_at() {
    let honest = &told_blocks(1)[0];
    let mut prover = prover(Mode::Off);
    let out = run(&mut prover, 0, vec![Item::Block(block(&liar(honest), Way::Live))]);
    assert_eq!((passed(&out), out.events.len()), (vec![i128::from(honest.slot)], 0));
}

#[test]
fn arrivals_tell_what_was_found_of_their_version() {
    let blocks = told_blocks(3);
    let mut prover = prover(Mode::Audit);
    let batch = [
        block(&blocks[0], Way::Live),
        block(&liar(&blocks[1]), Way::Live),
        block(&blocks[2], Way::Rpc),
        block(&liar(&blocks[0]), Way::Replay),
    ];
    run(&mut prover, 0, batch.into_iter().map(Item::Block).collect());
    let arrival = |told: &Told| Arrival {
        slot: told.slot,
        endpoint: Arc::from("endpoint"),
        session: session(0),
        blockhash: Some(base58(&told.blockhash)),
        first_seen_at: Timestamp(0),
        completed_at: None,
        transactions: 0,
        entries: 0,
        accounts: 0,
        standing: None,
    };
    let out = run(&mut prover, 1, vec![Item::Arrivals(blocks.iter().map(arrival).collect())]);
    let [Item::Arrivals(marked)] = &out.items[..] else { panic!("{:?}", out.items) };
    let standings: Vec<_> = marked.iter().map(|arrival| arrival.standing).collect();
    let expected = [Standing::Proven, Standing::Failed, Standing::Counted].map(Some);
    assert_eq!(standings, expected, "a lie about a version that was proven does not change it");
}

#[test]
fn reasons_have_words_of_their_own() {
    let reasons = [Reason::NoEntries, Reason::Parent, Reason::Tick, Reason::Transactions, Reason::EntrySplit];
    let words: BTreeSet<&str> = reasons.into_iter().map(Reason::word).collect();
    assert_eq!(words.len(), reasons.len());
}

const FULL_STREAM: &[u8] =
    include_bytes!("../../../tests/cluster/data/testvalidator-full-stream.subscribe_updates.bin.zst");
const REPLAY: &[u8] =
    include_bytes!("../../../tests/cluster/data/testvalidator-from-slot-replay.subscribe_updates.bin.zst");

/// The number of proven slots of recordings, and what is said of the others.
fn findings(files: &[&[u8]]) -> (usize, Vec<(u64, Finding)>) {
    let mut recordings = Recordings::default();
    for (endpoint, bytes) in files.iter().enumerate() {
        for frame in load_bytes("recording", bytes, None).expect("a file of the project").frames {
            recordings.take(endpoint, frame.body);
        }
    }
    let (proven, rest): (Vec<_>, Vec<_>) =
        recordings.prove().into_iter().partition(|(_, finding)| matches!(finding, Finding::Proven(_)));
    (proven.len(), rest)
}

#[test]
fn a_real_stream_proves_but_for_the_slots_that_it_joined_and_left_in_the_middle() {
    let (proven, rest) = findings(&[FULL_STREAM]);
    assert_eq!((proven, rest), (135, vec![(77, Finding::Joined), (213, Finding::Unfinished)]));
}

#[test]
fn a_real_replay_that_lost_an_entry_is_caught_and_a_second_endpoint_makes_up_for_it() {
    let (_, rest) = findings(&[REPLAY]);
    let lost = Finding::Broken(Break { index: 64, reason: Reason::Unfinished });
    assert_eq!(rest[..2], [(112, lost), (121, Finding::Joined)]);
    assert!(rest[2..].iter().all(|(_, finding)| *finding == Finding::Unfinished), "{rest:?}");
    let (proven, rest) = findings(&[REPLAY, FULL_STREAM]);
    assert_eq!((proven, rest), (135, vec![(77, Finding::Joined), (213, Finding::Unfinished)]));
}
