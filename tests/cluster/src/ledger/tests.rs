use super::*;

fn recorded() -> ListedLedger {
    match Ledger::recorded_validator().expect("the crate's own recording is whole") {
        Ledger::Listed(listed) => listed,
        Ledger::Generated(_) => unreachable!("a recording is listed"),
    }
}

#[test]
fn generated_slots_prove_their_history_and_link_to_their_parents() {
    let ledger = Ledger::generated(GeneratedLedger { slots: Some(200), ..GeneratedLedger::default() });
    let mut tip: Option<Arc<Version>> = None;
    for position in 0..200 {
        let slot = ledger.at(position).expect("the ledger is that long");
        for version in &slot.versions {
            let block = &version.block;
            let parent = hash(&block.parent_blockhash).expect("a hash");
            assert_eq!(verify(parent, &block.entries, &block.transactions).ok(), hash(&block.blockhash));
            if let Some(tip) = &tip {
                assert_eq!(
                    (block.parent_slot, &block.parent_blockhash),
                    (tip.block.slot, &tip.block.blockhash)
                );
            }
        }
        tip = slot.canonical().cloned().or(tip);
    }
}

#[test]
fn a_generated_slot_does_not_depend_on_the_order_of_asking() {
    let settings = GeneratedLedger { slots: Some(250), ..GeneratedLedger::default() };
    let (one, other) = (Ledger::generated(settings.clone()), Ledger::generated(settings));
    let late = other.at(249).expect("the last slot");
    for position in (0..250).rev().step_by(7) {
        let (a, b) = (one.at(position).expect("there"), other.at(position).expect("there"));
        let blocks =
            |slot: &LedgerSlot| slot.versions.iter().map(|one| one.block.clone()).collect::<Vec<_>>();
        assert_eq!(blocks(&a), blocks(&b));
    }
    assert!(late.canonical().is_some());
}

#[test]
fn generated_ledgers_hold_every_kind_of_fork() {
    let ledger = Ledger::generated(GeneratedLedger { slots: Some(600), ..GeneratedLedger::default() });
    let slots: Vec<_> = (0..600).filter_map(|position| ledger.at(position)).collect();
    let has = |test: &dyn Fn(&LedgerSlot) -> bool| slots.iter().any(|slot| test(slot));
    assert!(has(&|slot| slot.versions.is_empty()));
    assert!(has(&|slot| slot.canonical().is_none() && !slot.versions.is_empty()));
    for fate in [Fate::Reset, Fate::Orphaned, Fate::Dead("transaction failed to verify".to_owned())] {
        assert!(has(&|slot| slot.canonical().is_some() && slot.versions[0].fate == fate), "{fate:?}");
    }
}

#[test]
fn the_mainnet_blocks_are_whole_and_survive_the_wire() {
    let blocks = mainnet_blocks();
    assert_eq!(blocks.iter().map(|block| block.transactions.len()).collect::<Vec<_>>(), [1445, 602]);
    let votes = blocks[0].transactions.iter().filter(|info| info.is_vote).count();
    assert_eq!(votes, 1085);
    for info in blocks.iter().flat_map(|block| &block.transactions) {
        let transaction = info.transaction.as_ref().expect("a body");
        assert_eq!(decode_transaction(&encode_transaction(transaction)).as_ref(), Ok(transaction));
    }
}

#[test]
fn a_block_of_2020_loads() {
    let bytes = include_bytes!("../../data/mainnet-43200000.confirmed_block.pb.zst");
    let loaded = load_bytes("2020", bytes, Some(43_200_000)).expect("a block");
    assert_eq!(loaded.blocks[0].transactions.len(), 208);
}

#[test]
fn recorded_frames_and_recorded_answers_in_both_encodings_are_the_same_blocks() {
    let listed = recorded();
    let mut compared = 0;
    for slot in listed.slots().iter().filter(|slot| slot.replayable && !slot.frames.is_empty()) {
        let live = &slot.canonical().expect("a whole slot").block;
        for encoding in ["base64", "json"] {
            let Some(answer) = listed.answer(slot.slot, encoding) else { continue };
            let rpc = parse_get_block(answer.clone(), Some(slot.slot)).expect("a block");
            assert_eq!(rpc.transactions, live.transactions, "slot {} {encoding}", slot.slot);
            assert_eq!(rpc.meta(0), Block { told_entries: 0, ..live.clone() }.meta(0));
            compared += 1;
        }
    }
    assert_eq!(compared, 135 + 14);
}

#[test]
fn a_recording_plays_every_slot_and_ends_with_children() {
    let listed = recorded();
    let slots: Vec<u64> = listed.slots().iter().map(|slot| slot.slot).collect();
    assert_eq!(slots, (77..=217).collect::<Vec<_>>());
    assert!(!listed.slots()[0].replayable, "slot 77 was joined in the middle");
    assert!(listed.slots()[0].canonical().is_some(), "slot 77 has an answer");
    assert_eq!(
        listed.slots().last().and_then(|slot| slot.canonical()).map(|one| one.block.parent_slot),
        Some(216)
    );
}

#[test]
fn a_ledger_file_may_carry_its_slot() {
    let file: LedgerFile = "a@b/c.json@12".parse().expect("infallible");
    assert_eq!(file, LedgerFile { path: "a@b/c.json".into(), slot: Some(12) });
    let file: LedgerFile = "a@b".parse().expect("infallible");
    assert_eq!(file, LedgerFile { path: "a@b".into(), slot: None });
}

fn files() -> Vec<Loaded> {
    let old = include_bytes!("../../data/mainnet-43200000.confirmed_block.pb.zst");
    let middle = include_bytes!("../../data/mainnet-254170887.get_block.json.zst");
    let new = include_bytes!("../../data/mainnet-332254855.confirmed_block.pb.zst");
    let load = |bytes: &[u8], slot| load_bytes("block", bytes, slot).expect("a block");
    vec![load(old, None), load(middle, Some(254_170_887)), load(new, Some(332_254_855))]
}

#[test]
fn blocks_without_a_number_are_their_parents_successors() {
    assert_eq!(files()[0].blocks[0].slot, 43_200_000);
}

#[test]
fn blocks_far_apart_are_played_as_they_are_and_each_gets_children_that_link_to_it() {
    let ledger = Ledger::listed(files()).expect("in order");
    let blocks: Vec<_> = (0..15).filter_map(|position| ledger.at(position)?.canonical().cloned()).collect();
    assert_eq!((ledger.length(), blocks.len()), (Some(15), 15));
    for group in blocks.chunks(5) {
        assert!(!group[0].block.transactions.is_empty());
        for pair in group.windows(2) {
            let (parent, child) = (&pair[0].block, &pair[1].block);
            assert_eq!((child.slot, child.parent_slot), (parent.slot + 1, parent.slot));
            assert_eq!(child.parent_blockhash, parent.blockhash);
            let state = hash(&child.parent_blockhash).expect("a hash");
            assert_eq!(verify(state, &child.entries, &[]).ok(), hash(&child.blockhash));
        }
    }
}

#[test]
fn blocks_out_of_order_are_refused() {
    let mut files = files();
    files.swap(0, 1);
    let error = Ledger::listed(files).expect_err("out of order");
    assert!(matches!(error, LedgerError::Order { slot: 43_200_000, before: 254_170_887 }));
}

#[test]
fn files_that_are_no_ledger_are_refused() {
    for bytes in [&b"not a ledger"[..], b"{", b"{\"parentSlot\": 1}", b"{\"error\": {\"code\": -32007}}", b""]
    {
        let loaded = load_bytes("bad", bytes, None).and_then(|loaded| Ledger::listed(vec![loaded]));
        assert!(loaded.is_err(), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let raw = include_bytes!("../../data/mainnet-43200000.confirmed_block.pb.zst");
    let whole = zstd::decode_all(raw.as_slice()).expect("zstd");
    for place in (0..whole.len()).step_by(997) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x5a;
        let _ = load_bytes("damaged", &damaged, None).and_then(|loaded| Ledger::listed(vec![loaded]));
        let _ = load_bytes("cut", &whole[..place], None);
    }
}

#[test]
fn a_recording_without_bodies_can_be_played_but_not_replayed() {
    let recorded = recorded();
    let frames = recorded.slots().iter().flat_map(|slot| &slot.frames).filter_map(|frame| {
        use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
        let body = frame.body.clone();
        let bodiless = !matches!(frame.update, UpdateOneof::Transaction(_));
        bodiless.then(|| RecordedFrame { update: frame.update.clone(), body })
    });
    let loaded = Loaded { frames: frames.collect(), ..Loaded::default() };
    let Ledger::Listed(listed) = Ledger::listed(vec![loaded]).expect("frames") else { return };
    let voted = listed.slots().iter().find(|slot| slot.slot == 100).expect("played");
    assert!(!voted.replayable && voted.lost && voted.canonical().is_none() && !voted.frames.is_empty());
}

#[test]
fn generated_transactions_are_encoded_as_prost_would() {
    use prost::Message;
    let ledger = Ledger::generated(GeneratedLedger::default());
    for position in 0..20 {
        let slot = ledger.at(position).expect("endless");
        for version in &slot.versions {
            let encoded = version.encoded_transactions();
            assert_eq!(encoded.len(), version.block.transactions.len());
            for (bytes, info) in encoded.iter().zip(&version.block.transactions) {
                assert_eq!(bytes, &info.encode_to_vec());
            }
        }
    }
}
