use std::collections::BTreeSet;

use prost::Message as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use sluice_cluster::ledger::load_bytes;
use sluice_cluster::{GeneratedLedger, Ledger};
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude::{
    SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateBlock, SubscribeUpdateBlockMeta,
    SubscribeUpdatePing, SubscribeUpdateTransaction,
};

use super::*;
use crate::fixtures::encode;
use crate::frame;
use crate::proof::chain::Reason;

const FULL_STREAM: &[u8] =
    include_bytes!("../../../../tests/cluster/data/testvalidator-full-stream.subscribe_updates.bin.zst");

/// Mutilated recordings that are tried.
const MUTILATIONS: u64 = 400;

/// What a real server sent.
fn frames() -> Vec<Bytes> {
    let loaded = load_bytes("recording", FULL_STREAM, None).expect("a file of the project");
    loaded.frames.into_iter().map(|frame| frame.body).collect()
}

fn slot_of(frame: &Bytes) -> Option<Slot> {
    let header = frame::scan(frame).ok()?;
    let of_slot = matches!(header.kind, Kind::Transaction | Kind::Entry | Kind::BlockMeta | Kind::Slot);
    of_slot.then_some(header.slot)
}

/// The frames about some slots.
fn about(frames: &[Bytes], slots: std::ops::Range<Slot>) -> Vec<Bytes> {
    let is_about = |frame: &&Bytes| slot_of(frame).is_some_and(|slot| slots.contains(&slot));
    frames.iter().filter(is_about).cloned().collect()
}

fn taken(recordings: &[Vec<Bytes>]) -> Recordings {
    let mut taken = Recordings::default();
    for (endpoint, frames) in recordings.iter().enumerate() {
        frames.iter().for_each(|frame| taken.take(endpoint, frame.clone()));
    }
    taken
}

fn findings(recordings: &[Vec<Bytes>]) -> BTreeMap<Slot, Finding> {
    taken(recordings).prove().into_iter().collect()
}

fn is_proven(findings: &BTreeMap<Slot, Finding>, slot: Slot) -> bool {
    matches!(findings.get(&slot), Some(Finding::Proven(_)))
}

/// What a proof is about, as prost reads it: by slot, kind and index.
type Facts = BTreeSet<(Slot, u8, u64, Vec<Vec<u8>>)>;

fn facts(frames: &[Bytes]) -> Facts {
    let fact = |frame: &Bytes| match SubscribeUpdate::decode(frame.clone()).ok()?.update_oneof? {
        UpdateOneof::Transaction(update) => {
            let info = update.transaction?;
            Some((update.slot, 0, info.index, info.transaction?.signatures))
        }
        UpdateOneof::Entry(entry) => {
            let counts =
                [entry.num_hashes, entry.executed_transaction_count].map(|count| count.to_be_bytes());
            let parts = [counts[0].to_vec(), counts[1].to_vec(), entry.hash];
            Some((entry.slot, 1, entry.index, parts.to_vec()))
        }
        UpdateOneof::BlockMeta(meta) => {
            let hashes = [meta.blockhash, meta.parent_blockhash].map(String::into_bytes);
            Some((meta.slot, 2, 0, hashes.to_vec()))
        }
        _ => None,
    };
    frames.iter().filter_map(fact).collect()
}

/// Does something to a recording.
fn mutilate(frames: &mut Vec<Bytes>, random: &mut StdRng) {
    let place = random.random_range(0..frames.len());
    let other = random.random_range(0..frames.len());
    let mut bytes = frames[place].to_vec();
    match random.random_range(0..8) {
        0 => drop(frames.remove(place)),
        1 => frames.swap(place, other),
        2 => frames.insert(place, frames[other].clone()),
        3 => frames.truncate(place + 1),
        4 => frames[place] = Bytes::from(bytes.split_off(random.random_range(0..bytes.len()))),
        5 => {
            bytes.truncate(random.random_range(0..bytes.len()));
            frames[place] = Bytes::from(bytes);
        }
        6 => frames[place] = Bytes::from((0..50).map(|_| random.random()).collect::<Vec<u8>>()),
        _ => {
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            frames[place] = Bytes::from(bytes);
        }
    }
}

#[test]
fn of_a_mutilated_recording_no_slot_is_proven_that_lacks_anything_and_every_other_is() {
    let all = frames();
    let mut refused = 0;
    for seed in 0..MUTILATIONS {
        let mut random = StdRng::seed_from_u64(seed);
        let first = random.random_range(80..200);
        let mut honest = about(&all, first..first + 3);
        honest.retain(|frame| !matches!(frame::scan(frame).map(|header| header.kind), Ok(Kind::Slot)));
        let mut frames = honest.clone();
        (0..random.random_range(1..4)).for_each(|_| mutilate(&mut frames, &mut random));
        let (before, after, taken) = (facts(&honest), facts(&frames), taken(&[frames]));
        let found: BTreeMap<Slot, Finding> = taken.prove().into_iter().collect();
        for slot in first..first + 3 {
            let own = |facts: &Facts| facts.iter().filter(|fact| fact.0 == slot).cloned().collect::<Facts>();
            let (before, after) = (own(&before), own(&after));
            if before == after && taken.unreadable() == 0 {
                assert!(is_proven(&found, slot) && !before.is_empty(), "seed {seed}, slot {slot}");
            } else if !before.is_subset(&after) {
                refused += 1;
                assert!(!is_proven(&found, slot), "seed {seed}, slot {slot}");
            }
        }
    }
    assert!(refused > MUTILATIONS / 4, "{refused} slots lost something");
}

#[test]
fn frames_may_come_in_any_order() {
    let mut frames = about(&frames(), 90..96);
    for seed in 0..20 {
        frames.shuffle(&mut StdRng::seed_from_u64(seed));
        let found = findings(&[frames.clone()]);
        assert!((90..96).all(|slot| is_proven(&found, slot)), "seed {seed}: {found:?}");
    }
}

#[test]
fn recordings_may_begin_and_end_anywhere_and_are_never_called_broken_for_their_beginning() {
    let frames = about(&frames(), 90..94);
    for begin in (0..frames.len()).step_by(7) {
        let found = findings(&[frames[begin..].to_vec()]);
        let first = frames[begin..]
            .iter()
            .filter(|frame| !matches!(frame::scan(frame).map(|header| header.kind), Ok(Kind::Slot)));
        let Some(first) = first.filter_map(slot_of).next() else { break };
        for (slot, finding) in found {
            let is_right = match finding {
                Finding::Proven(_) => true,
                // What is about the slot behind may have come before the end of this one.
                Finding::Joined => slot <= first + 1,
                Finding::Unfinished
                | Finding::Broken(_)
                | Finding::MetaMissing { .. }
                | Finding::Missing { .. } => false,
            };
            assert!(is_right, "from frame {begin} on: slot {slot} {finding:?}");
        }
    }
    for end in (1..frames.len()).step_by(7) {
        let parts = [frames[..end].to_vec(), frames[end..].to_vec()];
        let found = findings(&parts);
        assert!((90..94).all(|slot| is_proven(&found, slot)), "cut at {end}: {found:?}");
        let found = findings(&parts[..1]);
        assert!(found.values().all(|finding| !matches!(finding, Finding::Joined)), "up to {end}: {found:?}");
    }
}

#[test]
fn what_a_proof_does_not_need_is_passed_over() {
    let update = |update| {
        let update =
            SubscribeUpdate { filters: vec!["a".to_owned()], update_oneof: Some(update), created_at: None };
        Bytes::from(update.encode_to_vec())
    };
    let account = SubscribeUpdateAccount { slot: 91, ..Default::default() };
    let others = [UpdateOneof::Ping(SubscribeUpdatePing {}), UpdateOneof::Account(account)].map(update);
    let mut frames = about(&frames(), 90..93);
    for (number, other) in others.into_iter().cycle().take(40).enumerate() {
        frames.insert(number * 3, other);
    }
    let found = findings(&[frames]);
    assert!(found.len() == 3 && (90..93).all(|slot| is_proven(&found, slot)), "{found:?}");
}

/// The frames of a slot as one `blocks` update.
fn as_block(frames: &[Bytes]) -> Bytes {
    let mut block = SubscribeUpdateBlock::default();
    for frame in frames {
        match SubscribeUpdate::decode(frame.clone()).expect("a real frame").update_oneof {
            Some(UpdateOneof::Transaction(update)) => block.transactions.extend(update.transaction),
            Some(UpdateOneof::Entry(entry)) => block.entries.push(entry),
            Some(UpdateOneof::BlockMeta(meta)) => {
                block.slot = meta.slot;
                block.blockhash = meta.blockhash;
                block.parent_slot = meta.parent_slot;
                block.parent_blockhash = meta.parent_blockhash;
                block.executed_transaction_count = meta.executed_transaction_count;
            }
            _ => {}
        }
    }
    let update = SubscribeUpdate {
        filters: Vec::new(),
        update_oneof: Some(UpdateOneof::Block(block)),
        created_at: None,
    };
    Bytes::from(update.encode_to_vec())
}

#[test]
fn a_block_update_proves_by_itself() {
    let own = about(&frames(), 92..93);
    let found = findings(&[vec![as_block(&own)]]);
    assert!(is_proven(&found, 92), "{found:?}");
    let lacking: Vec<Bytes> = own.iter().skip(1).cloned().collect();
    let content = |frame: &Bytes| frame::scan(frame).is_ok_and(|header| header.kind != Kind::Slot);
    if content(&own[0]) {
        assert!(!is_proven(&findings(&[vec![as_block(&lacking)]]), 92));
    }
    let metas = own.iter().filter(|frame| {
        matches!(frame::scan(frame).map(|header| header.kind), Ok(Kind::BlockMeta | Kind::Slot))
    });
    assert!(!is_proven(&findings(&[metas.cloned().collect()]), 92), "metas alone prove nothing");
}

#[test]
fn frames_that_cannot_be_read_are_counted() {
    let mut recordings = Recordings::default();
    recordings.take(0, Bytes::from_static(&[0x12, 0xff, 0xff]));
    recordings.take(0, Bytes::new());
    assert_eq!((recordings.unreadable(), recordings.entries()), (2, 0));
    assert!(recordings.prove().is_empty());
}

#[test]
fn a_slot_proves_from_its_parent_over_the_skipped_ones_between() {
    let ledger = Ledger::generated(GeneratedLedger { mainnet_blocks: false, ..GeneratedLedger::default() });
    let told = (0..2_000).filter_map(|at| Some(ledger.at(at)?.canonical()?.block.clone()));
    let behind_skips: Vec<_> =
        told.filter(|block| block.slot - block.parent_slot > 1 && block.entries.len() > 1).take(5).collect();
    assert_eq!(behind_skips.len(), 5, "slots are skipped");
    for block in behind_skips {
        let (slot, bank_id) = (block.slot, 0);
        let transaction = |info: &_| {
            let transaction = Some(Clone::clone(info));
            encode(UpdateOneof::Transaction(SubscribeUpdateTransaction { transaction, slot, bank_id }))
        };
        let entries = block.entries.iter().map(|entry| encode(UpdateOneof::Entry(entry.clone())));
        let meta = encode(UpdateOneof::BlockMeta(block.meta(bank_id)));
        let frames: Vec<_> =
            block.transactions.iter().map(transaction).chain(entries).chain([meta]).collect();
        assert!(is_proven(&findings(std::slice::from_ref(&frames)), slot), "{slot} on {}", block.parent_slot);
        let lost = [&frames[..1], &frames[2..]].concat();
        assert!(!is_proven(&findings(&[lost]), slot), "{slot} without its second frame");
    }
}

/// The recording without some frames.
fn without(frames: &[Bytes], is_lost: impl Fn(&frame::Header) -> bool) -> Vec<Bytes> {
    let is_kept = |frame: &&Bytes| !frame::scan(frame).is_ok_and(|header| is_lost(&header));
    frames.iter().filter(is_kept).cloned().collect()
}

#[test]
fn a_beginning_that_is_lost_in_the_middle_of_a_recording_was_not_joined() {
    let all = about(&frames(), 78..160);
    let lost_entry =
        without(&all, |header| (header.kind, header.slot, header.index) == (Kind::Entry, 150, 0));
    let lost_transaction =
        without(&all, |header| (header.kind, header.slot, header.index) == (Kind::Transaction, 150, 0));
    let lost_half = without(&all, |header| {
        header.slot == 150
            && (header.kind == Kind::Entry && header.index < 30
                || header.kind == Kind::Transaction && header.index < 6)
    });
    for (frames, reason) in [
        (lost_entry, Some(Reason::EntryMissing)),
        (lost_transaction, Some(Reason::TransactionMissing(0))),
        (lost_half, None),
    ] {
        let no_statuses = without(&frames, |header| header.kind == Kind::Slot);
        let Finding::Broken(broken) = findings(&[frames])[&150] else { panic!("not broken") };
        assert!(reason.is_none_or(|reason| reason == broken.reason), "{broken:?}");
        // Without statuses it may be where a replay passed into the live stream, unless that was before.
        let earlier = without(&no_statuses, |header| {
            (header.kind, header.slot) == (Kind::Entry, 100) && header.index < 30
                || (header.kind, header.slot) == (Kind::Transaction, 100) && header.index < 6
        });
        let found = findings(&[earlier]);
        assert_eq!(found[&100], Finding::Joined);
        assert!(matches!(found[&150], Finding::Broken(_)), "{:?}", found[&150]);
    }
}

#[test]
fn slots_that_others_name_as_their_parents_are_missed() {
    let all = about(&frames(), 78..160);
    let found = findings(&[without(&all, |header| header.slot == 150)]);
    assert_eq!(found[&150], Finding::Missing { since: 150, child: 151 });
    let found = findings(&[without(&all, |header| (120..=150).contains(&header.slot))]);
    assert_eq!(found[&150], Finding::Missing { since: 120, child: 151 });
    assert_eq!(found.values().filter(|finding| !matches!(finding, Finding::Proven(_))).count(), 1);
    let meta = |header: &frame::Header| (header.kind, header.slot) == (Kind::BlockMeta, 150);
    let found = findings(&[without(&all, meta)]);
    assert_eq!(found[&150], Finding::MetaMissing { child: 151, holds: true });
    let found = findings(&[without(&all, |header| {
        meta(header) || (header.kind, header.slot, header.index) == (Kind::Entry, 150, 5)
    })]);
    let entry_5 = Finding::Broken(Break { index: 5, reason: Reason::EntryMissing });
    assert_eq!(found[&150], entry_5);
}

/// The recording with another block meta of slot 150.
fn with_meta(frames: &[Bytes], change: impl Fn(&mut SubscribeUpdateBlockMeta)) -> Vec<Bytes> {
    let changed = |frame: &Bytes| {
        let mut update = SubscribeUpdate::decode(frame.clone()).expect("a real frame");
        match &mut update.update_oneof {
            Some(UpdateOneof::BlockMeta(meta)) if meta.slot == 150 => change(meta),
            _ => return frame.clone(),
        }
        Bytes::from(update.encode_to_vec())
    };
    frames.iter().map(changed).collect()
}

#[test]
fn a_block_that_names_another_parent_than_its_hash_says_is_not_proven() {
    let all = about(&frames(), 130..160);
    let lie = with_meta(&all, |meta| meta.parent_slot = 140);
    let wrong = Finding::Broken(Break { index: 0, reason: Reason::ParentSlot { named: 140, of: 149 } });
    assert_eq!(findings(std::slice::from_ref(&lie))[&150], wrong);
    let found = findings(&[lie, all]);
    assert!(is_proven(&found, 150), "another endpoint has it right: {:?}", found[&150]);
}
