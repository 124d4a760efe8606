use std::collections::{BTreeSet, HashMap};

use prost::Message;
use serde_json::{Value, json};
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude::*;

use super::*;
use crate::ledger::{FIRST_SLOT, GeneratedLedger};
use crate::truth::TruthSlot;

const SLOT: Duration = Duration::from_millis(400);

fn cluster(slots: u64, config: Config) -> Cluster {
    let settings = GeneratedLedger {
        slots: Some(slots),
        transactions_per_slot: 5..=20,
        mainnet_blocks: false,
        ..GeneratedLedger::default()
    };
    Cluster::new(Ledger::generated(settings), config)
}

fn perfect() -> Config {
    Config { faults: Profile::None, ..Config::default() }
}

fn named<T: Default>() -> HashMap<String, T> {
    HashMap::from([("all".to_owned(), T::default())])
}

fn everything() -> SubscribeRequest {
    let slots = SubscribeRequestFilterSlots { interslot_updates: Some(true), ..Default::default() };
    SubscribeRequest {
        slots: HashMap::from([("all".to_owned(), slots)]),
        accounts: named(),
        transactions: named(),
        blocks_meta: named(),
        entry: named(),
        ..SubscribeRequest::default()
    }
}

fn frames(emissions: Vec<Emission>) -> Vec<UpdateOneof> {
    let frame = |emission| match emission {
        Emission::Frame(bytes) => SubscribeUpdate::decode(bytes).expect("an update").update_oneof,
        _ => None,
    };
    emissions.into_iter().filter_map(frame).collect()
}

/// All updates of a subscription up to a time.
fn play(subscription: &mut Subscription, until: Duration) -> Vec<Emission> {
    let mut out = Vec::new();
    while let Some(deadline) = subscription.next_deadline().filter(|deadline| *deadline <= until) {
        out.extend(subscription.poll(deadline, 64));
    }
    out
}

fn status_of(update: &UpdateOneof) -> Option<(u64, SlotStatus)> {
    match update {
        UpdateOneof::Slot(slot) => Some((slot.slot, slot.status())),
        _ => None,
    }
}

#[test]
fn a_perfect_endpoint_shows_every_canonical_block_whole_and_finalized() {
    let cluster = cluster(60, perfect());
    for endpoint in cluster.endpoints() {
        let mut subscription = endpoint.subscribe(Duration::ZERO, &everything(), None).expect("let in");
        let updates = frames(play(&mut subscription, cluster.end().expect("an end")));
        let mut signatures: HashMap<u64, Vec<(u64, Vec<u8>)>> = HashMap::new();
        for update in &updates {
            if let UpdateOneof::Transaction(update) = update {
                let info = update.transaction.as_ref().expect("a body");
                signatures.entry(update.slot).or_default().push((info.index, info.signature.clone()));
            }
        }
        let statuses: BTreeSet<_> =
            updates.iter().filter_map(status_of).map(|(slot, status)| (slot, status as i32)).collect();
        for (slot, truth) in cluster.truth().slots() {
            let finalized = statuses.contains(&(slot, SlotStatus::SlotFinalized as i32));
            assert_eq!(finalized, matches!(truth, TruthSlot::Block(_)), "slot {slot}");
            let seen = signatures.get(&slot).cloned().unwrap_or_default();
            for (index, signature) in truth.signatures().enumerate() {
                assert!(seen.contains(&(index as u64, signature.to_vec())), "slot {slot} index {index}");
            }
        }
    }
}

#[test]
fn after_the_end_only_pings_come() {
    let cluster = cluster(10, perfect());
    let end = cluster.end().expect("an end");
    let mut subscription = cluster.endpoints()[0].subscribe(end + SLOT, &everything(), None).expect("let in");
    let updates = frames(play(&mut subscription, end + SLOT * 200));
    assert!(updates.len() > 5 && updates.iter().all(|update| matches!(update, UpdateOneof::Ping(_))));
}

#[test]
fn commitment_filters_choose_statuses_and_hold_content_back() {
    let cluster = cluster(50, perfect());
    let filter = SubscribeRequestFilterSlots { filter_by_commitment: Some(true), ..Default::default() };
    let request = SubscribeRequest {
        slots: HashMap::from([("own".to_owned(), filter)]),
        commitment: Some(CommitmentLevel::Confirmed as i32),
        ..everything()
    };
    let mut subscription = cluster.endpoints()[0].subscribe(Duration::ZERO, &request, None).expect("let in");
    let updates = frames(play(&mut subscription, cluster.end().expect("an end")));
    assert!(updates.iter().filter_map(status_of).all(|(_, status)| status == SlotStatus::SlotConfirmed));
    let metas = updates.iter().filter(|update| matches!(update, UpdateOneof::BlockMeta(_))).count();
    let blocks = cluster.truth().slots().filter(|(_, truth)| truth.block().is_some()).count();
    assert_eq!(metas, blocks, "orphans have no block meta at confirmed");
}

#[test]
fn a_block_filter_gets_whole_blocks_under_its_name() {
    let cluster = cluster(5, perfect());
    let wanted = SubscribeRequestFilterBlocks { include_entries: Some(true), ..Default::default() };
    let blocks = HashMap::from([("whole".to_owned(), wanted)]);
    let request = SubscribeRequest { blocks, ..SubscribeRequest::default() };
    let mut subscription = cluster.endpoints()[0].subscribe(Duration::ZERO, &request, None).expect("let in");
    for update in frames(play(&mut subscription, SLOT * 5)) {
        let UpdateOneof::Block(block) = update else { continue };
        assert_eq!(block.executed_transaction_count as usize, block.transactions.len());
        assert_eq!(block.entries_count as usize, block.entries.len());
    }
}

#[test]
fn transaction_filters_hold_in_all_their_fields() {
    let cluster = Cluster::new(Ledger::generated(GeneratedLedger::default()), perfect());
    let filter =
        SubscribeRequestFilterTransactions { vote: Some(false), failed: Some(true), ..Default::default() };
    let transactions = HashMap::from([("failed".to_owned(), filter)]);
    let request = SubscribeRequest { transactions, ..SubscribeRequest::default() };
    let mut subscription = cluster.endpoints()[0].subscribe(Duration::ZERO, &request, None).expect("let in");
    let mut count = 0;
    for update in frames(play(&mut subscription, SLOT)) {
        let UpdateOneof::Transaction(update) = update else { continue };
        let info = update.transaction.expect("a body");
        assert!(!info.is_vote && info.meta.expect("a meta").err.is_some());
        count += 1;
    }
    assert_eq!(count, 262);
}

fn transactions_for(filter: SubscribeRequestFilterTransactions) -> Vec<SubscribeUpdateTransactionInfo> {
    let cluster = Cluster::new(Ledger::generated(GeneratedLedger::default()), perfect());
    let transactions = HashMap::from([("some".to_owned(), filter)]);
    let request = SubscribeRequest { transactions, ..SubscribeRequest::default() };
    let mut subscription = cluster.endpoints()[0].subscribe(Duration::ZERO, &request, None).expect("let in");
    let updates = frames(play(&mut subscription, SLOT)).into_iter();
    let info = |update| match update {
        UpdateOneof::Transaction(update) => update.transaction,
        _ => None,
    };
    updates.filter_map(info).collect()
}

#[test]
fn accounts_match_by_list_by_cuckoo_filter_and_by_token_owner() {
    const TOKEN_PROGRAM: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
    let program = crate::ledger::hash(TOKEN_PROGRAM).expect("a key");
    let by_list = SubscribeRequestFilterTransactions {
        account_include: vec![TOKEN_PROGRAM.to_owned()],
        ..Default::default()
    };
    let mut cuckoo = yellowstone_grpc_proto::cuckoo::CuckooFilter::with_capacity(16).expect("small");
    cuckoo.insert(&program).expect("room");
    let by_cuckoo = SubscribeRequestFilterTransactions {
        cuckoo_account_include: Some((&cuckoo).into()),
        ..Default::default()
    };
    let listed = transactions_for(by_list);
    assert!(!listed.is_empty());
    let filtered = transactions_for(by_cuckoo);
    assert!(filtered.len() >= listed.len() && listed.iter().all(|info| filtered.contains(info)));
    let balances =
        listed.iter().filter_map(|info| info.meta.as_ref()).flat_map(|meta| &meta.post_token_balances);
    let owner =
        balances.map(|balance| balance.owner.clone()).find(|owner| !owner.is_empty()).expect("an owner");
    let owned = |token_accounts| SubscribeRequestFilterTransactions {
        account_include: vec![owner.clone()],
        token_accounts,
        ..Default::default()
    };
    let direct = transactions_for(owned(None)).len();
    let expanded = transactions_for(owned(Some(TokenAccountExpansionControlFlag::All as i32))).len();
    let changed =
        transactions_for(owned(Some(TokenAccountExpansionControlFlag::BalanceChanged as i32))).len();
    assert!(expanded >= direct && expanded >= changed && expanded > 0);
}

#[test]
fn account_data_is_cut_to_the_slices_asked_for() {
    let cluster = cluster(5, perfect());
    let slice = SubscribeRequestAccountsDataSlice { offset: 0, length: 8 };
    let request = SubscribeRequest {
        accounts: named(),
        accounts_data_slice: vec![slice],
        ..SubscribeRequest::default()
    };
    let mut subscription = cluster.endpoints()[0].subscribe(Duration::ZERO, &request, None).expect("let in");
    let updates = frames(play(&mut subscription, SLOT * 3));
    let mut accounts = updates.iter().filter_map(|update| match update {
        UpdateOneof::Account(update) => update.account.as_ref(),
        _ => None,
    });
    assert!(accounts.clone().count() > 0 && accounts.all(|account| account.data.len() == 8));
}

#[test]
fn pings_are_answered_and_leave_the_filters_alone() {
    let cluster = cluster(20, perfect());
    let mut subscription =
        cluster.endpoints()[0].subscribe(Duration::ZERO, &everything(), None).expect("let in");
    let ping = SubscribeRequest { ping: Some(SubscribeRequestPing { id: 7 }), ..Default::default() };
    subscription.update(SLOT, &ping).expect("a ping is fine");
    let updates = frames(play(&mut subscription, SLOT * 5));
    assert!(updates.iter().any(|update| matches!(update, UpdateOneof::Pong(pong) if pong.id == 7)));
    assert!(updates.iter().any(|update| matches!(update, UpdateOneof::Transaction(_))));
}

fn replay(cluster: &Cluster, now: Duration, from_slot: u64) -> Vec<Emission> {
    let request = SubscribeRequest { from_slot: Some(from_slot), ..everything() };
    let mut subscription = cluster.endpoints()[0].subscribe(now, &request, None).expect("accepted");
    play(&mut subscription, now + SLOT)
}

fn end_of(emissions: &[Emission]) -> Option<(tonic::Code, String)> {
    emissions.iter().find_map(|emission| match emission {
        Emission::End(status) => Some((status.code(), status.message().to_owned())),
        _ => None,
    })
}

#[test]
fn a_replay_holds_every_frozen_slot_from_its_first_on() {
    let cluster = cluster(100, perfect());
    let now = SLOT * 60;
    let updates = frames(replay(&cluster, now, FIRST_SLOT + 20));
    let metas: BTreeSet<u64> = updates
        .iter()
        .filter_map(|update| match update {
            UpdateOneof::BlockMeta(meta) => Some(meta.slot),
            _ => None,
        })
        .collect();
    let truth = cluster.truth();
    for slot in FIRST_SLOT + 20..FIRST_SLOT + 59 {
        if truth.slot(slot).expect("in the ledger").block().is_some() {
            assert!(metas.contains(&slot), "slot {slot}");
        }
    }
    assert!(metas.iter().all(|&slot| slot >= FIRST_SLOT + 20));
}

#[test]
fn a_replay_from_before_the_window_is_accepted_and_then_ends_out_of_range() {
    let cluster = cluster(300, Config { replay_window: 20, ..perfect() });
    let (code, text) = end_of(&replay(&cluster, SLOT * 100, FIRST_SLOT)).expect("an end");
    assert_eq!(code, tonic::Code::OutOfRange);
    let available =
        [100, 101].map(|slots| cluster.endpoints()[0].first_available(SLOT * slots).expect("a window"));
    let texts = available
        .map(|first| format!("broadcast from {FIRST_SLOT} is not available, last available: {first}"));
    assert!(texts.contains(&text), "{text}, not {texts:?}");
}

#[test]
fn a_replay_from_ahead_of_the_tip_fails_internally() {
    let cluster = cluster(300, perfect());
    let end = end_of(&replay(&cluster, SLOT * 100, FIRST_SLOT + 102)).expect("an end");
    assert_eq!(end, (tonic::Code::Internal, "failed to get replay response".to_owned()));
}

#[test]
fn a_server_without_replay_says_so() {
    let cluster = cluster(30, Config { replay_window: 0, ..perfect() });
    let end = end_of(&replay(&cluster, SLOT * 10, FIRST_SLOT)).expect("an end");
    assert_eq!(end, (tonic::Code::Internal, "from_slot is not supported".to_owned()));
}

#[test]
fn a_replay_has_one_write_for_each_account() {
    let cluster = cluster(40, perfect());
    let mut seen = BTreeSet::new();
    let request = SubscribeRequest { from_slot: Some(FIRST_SLOT), ..everything() };
    let now = SLOT * 39;
    let mut subscription = cluster.endpoints()[0].subscribe(now, &request, None).expect("accepted");
    let until = subscription.next_deadline().expect("more");
    for update in frames(play(&mut subscription, until)) {
        if let UpdateOneof::Account(update) = update
            && update.slot < FIRST_SLOT + 35
        {
            let key = update.account.expect("an account").pubkey;
            assert!(seen.insert((update.slot, update.bank_id, key)));
        }
    }
    assert!(seen.len() > 50);
}

#[test]
fn equal_seeds_play_equal_streams_and_other_seeds_other_ones() {
    let stream = |seed| {
        let cluster = cluster(120, Config { faults: Profile::Harsh, seed, ..Config::default() });
        let mut out: Vec<Vec<u8>> = Vec::new();
        for number in 0..120 {
            let now = SLOT * number;
            let Ok(mut one) = cluster.endpoints()[0].subscribe(now, &everything(), None) else { continue };
            for emission in play(&mut one, now + SLOT) {
                out.push(match emission {
                    Emission::Frame(bytes) => bytes.to_vec(),
                    other => format!("{other:?}").into_bytes(),
                });
            }
        }
        out
    };
    assert_eq!(stream(1), stream(1));
    assert_ne!(stream(1), stream(2));
}

#[test]
fn harsh_faults_come_to_pass_and_are_counted() {
    let cluster = cluster(400, Config { faults: Profile::Harsh, seed: 3, ..Config::default() });
    for number in 0..400 {
        let now = SLOT * number;
        for endpoint in cluster.endpoints() {
            if let Ok(mut subscription) = endpoint.subscribe(now, &everything(), None) {
                play(&mut subscription, now + SLOT);
            }
        }
    }
    let counts = cluster.fault_counts();
    for fault in [Fault::Disconnect, Fault::Drop, Fault::DropEverywhere, Fault::Duplicate, Fault::LateMeta] {
        assert!(counts.get(&fault).is_some_and(|&count| count > 0), "{fault:?} in {counts:?}");
    }
    for fault in [Fault::Outage, Fault::Refusal, Fault::EarlyMeta, Fault::WrongCount, Fault::Stall] {
        assert!(counts.get(&fault).is_some_and(|&count| count > 0), "{fault:?} in {counts:?}");
    }
}

fn get_block(cluster: &Cluster, now: Duration, slot: u64, config: Value) -> Result<Value, i64> {
    cluster.rpc().call(now, "getBlock", &json!([slot, config])).map_err(|error| error.code)
}

#[test]
fn rpc_tells_every_slot_truthfully_in_the_end() {
    let cluster = cluster(150, Config { faults: Profile::Harsh, seed: 9, ..Config::default() });
    let now = cluster.end().expect("an end");
    let config = json!({ "encoding": "base64", "maxSupportedTransactionVersion": 0 });
    for (slot, truth) in cluster.truth().slots() {
        let answers: Vec<_> = (0..3).map(|_| get_block(&cluster, now, slot, config.clone())).collect();
        let last = answers.last().expect("three answers");
        match truth.block() {
            None => assert_eq!(last, &Err(-32_007)),
            Some(block) => {
                let answer = last.clone().expect("lies end");
                let parsed = crate::ledger::parse_get_block(answer, Some(slot)).expect("a block");
                assert_eq!(parsed.transactions, block.transactions);
                assert_eq!(parsed.rewards, block.rewards);
            }
        }
    }
    assert!(cluster.fault_counts().contains_key(&Fault::RpcLie));
}

#[test]
fn rpc_errors_have_the_codes_of_a_validator() {
    let cluster = cluster(150, perfect());
    let now = SLOT * 120;
    let config = json!({ "maxSupportedTransactionVersion": 0 });
    assert_eq!(get_block(&cluster, now, FIRST_SLOT + 119, config.clone()), Err(-32_004), "not final yet");
    assert_eq!(get_block(&cluster, now, FIRST_SLOT - 1, config), Err(-32_001), "before the ledger");
    assert_eq!(get_block(&cluster, now, FIRST_SLOT, json!({ "commitment": "processed" })), Err(-32_602));
    assert_eq!(get_block(&cluster, now, FIRST_SLOT, json!({ "encoding": "jsonParsed" })), Err(-32_602));
    let unknown = cluster.rpc().call(now, "getNothing", &json!([])).map_err(|error| error.code);
    assert_eq!(unknown, Err(-32_601));
    let blocks = mainnet_with(json!({}));
    assert_eq!(blocks, Err(-32_015), "v0 transactions have to be asked for");
}

fn mainnet_with(config: Value) -> Result<Value, i64> {
    let ledger = Ledger::generated(GeneratedLedger { slots: Some(3), ..GeneratedLedger::default() });
    let cluster = Cluster::new(ledger, perfect());
    get_block(&cluster, cluster.end().expect("an end"), FIRST_SLOT, config)
}

#[test]
fn all_encodings_of_a_real_block_are_the_same_block() {
    let read = |encoding: &str| {
        let config = json!({ "encoding": encoding, "maxSupportedTransactionVersion": 0 });
        crate::ledger::parse_get_block(mainnet_with(config).expect("a block"), None).expect("a block")
    };
    let real = &crate::ledger::mainnet_blocks()[0].transactions;
    for encoding in ["json", "base64"] {
        let block = read(encoding);
        assert_eq!(block.transactions.len(), real.len());
        for (one, other) in block.transactions.iter().zip(real) {
            assert_eq!(
                (one.index, &one.transaction, one.is_vote),
                (other.index, &other.transaction, other.is_vote)
            );
        }
    }
    assert_eq!(read("json"), read("base64"));
}

#[test]
fn lists_of_blocks_leave_skipped_slots_out() {
    let cluster = cluster(100, perfect());
    let now = cluster.end().expect("an end");
    let expected: Vec<u64> =
        cluster.truth().slots().filter(|(_, truth)| truth.block().is_some()).map(|(slot, _)| slot).collect();
    let listed = cluster.rpc().call(now, "getBlocks", &json!([FIRST_SLOT, FIRST_SLOT + 99])).expect("a list");
    assert_eq!(listed, json!(expected));
    let limited = cluster.rpc().call(now, "getBlocksWithLimit", &json!([FIRST_SLOT, 10])).expect("a list");
    assert_eq!(limited, json!(expected[..10]));
}

#[test]
fn answers_made_from_recorded_frames_are_the_recorded_answers() {
    let Ledger::Listed(listed) = Ledger::recorded_validator().expect("whole") else { return };
    let mut compared = 0;
    for slot in listed.slots().iter().filter(|slot| slot.replayable) {
        for (name, encoding) in [("json", answer::Encoding::Json), ("base64", answer::Encoding::Base64)] {
            let Some(recorded) = listed.answer(slot.slot, name) else { continue };
            let details = answer::Details::Full;
            let options = answer::BlockOptions { encoding, details, rewards: true, max_version: Some(0) };
            let made = answer::block(&slot.canonical().expect("whole").block, options).expect("a block");
            assert_eq!(Some(&made), recorded.get("result"), "slot {} {name}", slot.slot);
            compared += 1;
        }
    }
    assert_eq!(compared, 135 + 14);
}

#[test]
fn a_recording_is_played_as_it_was_recorded() {
    let ledger = Ledger::recorded_validator().expect("whole");
    let Ledger::Listed(listed) = &ledger else { return };
    let recorded: Vec<UpdateOneof> =
        listed.slots().iter().flat_map(|slot| &slot.frames).map(|frame| frame.update.clone()).collect();
    let cluster = Cluster::new(ledger, perfect());
    let mut subscription =
        cluster.endpoints()[0].subscribe(Duration::ZERO, &everything(), None).expect("let in");
    let played = frames(play(&mut subscription, cluster.end().expect("an end")));
    let mut rest = played.iter();
    for update in &recorded {
        assert!(rest.any(|played| played == update), "in order");
    }
}

#[test]
fn banks_and_write_versions_are_numbered_by_each_endpoint() {
    let cluster = cluster(10, perfect());
    let numbers = |index: usize| {
        let endpoint = &cluster.endpoints()[index];
        let mut subscription = endpoint.subscribe(Duration::ZERO, &everything(), None).expect("let in");
        let updates = frames(play(&mut subscription, SLOT * 5));
        updates.iter().find_map(|update| match update {
            UpdateOneof::Account(update) => {
                Some((update.bank_id, update.account.as_ref().map(|account| account.write_version)))
            }
            _ => None,
        })
    };
    let (first, second, third) = (numbers(0), numbers(1), numbers(2));
    assert_eq!(second.map(|(bank, _)| bank), Some(None), "a proto 12 server has no bank ids");
    assert!(first != second && first != third && second != third);
}

/// What a replay of the whole ledger brings, by kind, slot and place.
fn replayed(cluster: &Cluster, endpoint: &Arc<Endpoint>, now: &mut Duration) -> BTreeSet<(u8, u64, Vec<u8>)> {
    let request = SubscribeRequest { from_slot: Some(FIRST_SLOT), ..everything() };
    let mut subscription = loop {
        *now += SLOT;
        match endpoint.subscribe(*now, &request, None) {
            Ok(subscription) => break subscription,
            Err(_) => continue,
        }
    };
    let updates = frames(play(&mut subscription, *now + SLOT));
    let canonical: BTreeSet<u64> =
        cluster.truth().slots().filter(|(_, truth)| truth.block().is_some()).map(|(slot, _)| slot).collect();
    let place = |update| match update {
        UpdateOneof::Transaction(update) => Some((0, update.slot, update.transaction?.signature)),
        UpdateOneof::Entry(update) => Some((1, update.slot, update.hash)),
        UpdateOneof::Account(update) => Some((2, update.slot, update.account?.pubkey)),
        UpdateOneof::BlockMeta(meta) => Some((3, meta.slot, meta.blockhash.into_bytes())),
        _ => None,
    };
    updates.into_iter().filter_map(place).filter(|(_, slot, _)| canonical.contains(slot)).collect()
}

#[test]
fn whatever_goes_wrong_a_second_replay_is_whole() {
    let config = Config { faults: Profile::Harsh, seed: 11, endpoints: 1, ..Config::default() };
    let cluster = cluster(100, config);
    let mut now = cluster.end().expect("an end");
    let endpoint = &cluster.endpoints()[0];
    let first = replayed(&cluster, endpoint, &mut now);
    let second = replayed(&cluster, endpoint, &mut now);
    assert!(first.is_subset(&second) && first != second, "the first one lacks something");
    for (slot, truth) in cluster.truth().slots() {
        let Some(block) = truth.block() else { continue };
        let has = |kind, name: &[u8]| second.contains(&(kind, slot, name.to_vec()));
        assert!(block.transactions.iter().all(|info| has(0, &info.signature)), "slot {slot}");
        assert!(block.entries.iter().all(|entry| has(1, &entry.hash)), "slot {slot}");
        assert!(block.accounts.iter().all(|account| has(2, &account.pubkey)), "slot {slot}");
        assert!(has(3, block.blockhash.as_bytes()), "slot {slot}");
    }
}

#[test]
fn an_endless_ledger_plays_on() {
    let cluster = Cluster::new(Ledger::generated(GeneratedLedger::default()), perfect());
    let mut subscription =
        cluster.endpoints()[0].subscribe(Duration::ZERO, &everything(), None).expect("let in");
    let updates = play(&mut subscription, SLOT * 1000).len();
    assert!(updates > 80_000 && subscription.next_deadline().is_some());
}

#[test]
fn only_the_liar_lies_and_only_about_its_slot() {
    let slot = FIRST_SLOT + 3;
    let config = Config { lies: vec![(1, slot, crate::ledger::Lie::SignatureChanged)], ..perfect() };
    let ledger =
        GeneratedLedger { slots: Some(8), forks: false, mainnet_blocks: false, ..GeneratedLedger::default() };
    let cluster = Cluster::new(Ledger::generated(ledger), config);
    for endpoint in cluster.endpoints() {
        let mut subscription = endpoint.subscribe(Duration::ZERO, &everything(), None).expect("let in");
        let updates = frames(play(&mut subscription, cluster.end().expect("an end")));
        let seen: BTreeSet<Vec<u8>> = updates
            .into_iter()
            .filter_map(|update| match update {
                UpdateOneof::Transaction(update) => update.transaction.map(|info| info.signature),
                _ => None,
            })
            .collect();
        for (number, truth) in cluster.truth().slots() {
            let lacking = truth.signatures().filter(|signature| !seen.contains(*signature)).count();
            assert_eq!(lacking, usize::from(endpoint.index() == 1 && number == slot));
        }
    }
}
