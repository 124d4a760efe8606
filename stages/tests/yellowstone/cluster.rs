//! Live stream, replay and RPC of a simulated cluster, over the loopback interface: all three have to bring the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{run_plain, updates};
use prost::Message;
use sluice_cluster::{
    Cluster, Config, GeneratedLedger, Ledger, Profile, Running as Served, ServeOptions, Truth,
};
use sluice_stages::batch::Update;
use sluice_stages::budget::Budget;
use sluice_stages::component::Endpoint;
use sluice_stages::frame::{BlockMeta, Kind};
use sluice_stages::node::Clock;
use sluice_stages::recovery::replay::{Replay, SlotUpdates};
use sluice_stages::recovery::rpc::{FetchError, FetchedBlock, RpcFetcher, RpcOptions};
use sluice_stages::slot::Commitment;
use sluice_stages::yellowstone::YellowstoneOptions;
use sluice_stages::yellowstone::filters::Selection;
use tokio::sync::mpsc;
use yellowstone_grpc_proto::prelude::{
    SubscribeUpdateBlockMeta, SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo,
};

/// Slots of the made-up ledger.
const SLOTS: u64 = 60;

async fn serve(ledger: Ledger, faults: Profile) -> Served {
    let config = Config {
        endpoints: 1,
        faults,
        slot_time: Duration::from_millis(20),
        finalized_after: 8,
        mixed_servers: false,
        seed: 7,
        ..Config::default()
    };
    let options = ServeOptions { start_after_subscriptions: 1, ..ServeOptions::default() };
    Served::start(Cluster::new(ledger, config), options).await.expect("free ports")
}

fn generated() -> Ledger {
    let transactions_per_slot = 1..=20;
    Ledger::generated(GeneratedLedger {
        slots: Some(SLOTS),
        transactions_per_slot,
        ..GeneratedLedger::default()
    })
}

fn options(served: &Served) -> YellowstoneOptions {
    let mut options = YellowstoneOptions::new(&served.grpc_urls()[0]);
    options.transactions = Selection::Everything;
    options.entries = Selection::Everything;
    options.reconnect_min = Duration::from_millis(5);
    options.reconnect_max = Duration::from_millis(50);
    options
}

fn fetcher(served: &Served) -> RpcFetcher {
    let mut options = RpcOptions::new(served.rpc_url());
    options.requests_per_second = 10_000;
    options.timeout = Duration::from_secs(1);
    RpcFetcher::try_new("rpc", &options, Clock::start()).expect("valid options")
}

fn info(body: &[u8]) -> SubscribeUpdateTransactionInfo {
    let update = SubscribeUpdateTransaction::decode(body).expect("a transaction");
    update.transaction.expect("its content")
}

/// Without the floating-point amounts, which the cluster's own JSON may hold one bit off; nothing is made of them.
fn comparable(mut info: SubscribeUpdateTransactionInfo) -> SubscribeUpdateTransactionInfo {
    let meta = info.meta.as_mut().expect("a transaction has its outcome");
    for balance in meta.pre_token_balances.iter_mut().chain(&mut meta.post_token_balances) {
        balance.ui_token_amount.as_mut().expect("a balance has an amount").ui_amount = 0.0;
    }
    info
}

/// The transactions of a fetched block, and its meta as far as RPC knows it.
fn content(block: &FetchedBlock) -> (Vec<SubscribeUpdateTransactionInfo>, SubscribeUpdateBlockMeta) {
    let (meta, transactions) = block.frames.split_last().expect("at least the meta");
    let infos = transactions.iter().map(|frame| info(frame.body())).collect();
    (infos, SubscribeUpdateBlockMeta::decode(meta.body()).expect("a meta"))
}

/// The block, asked for until the node gives it.
async fn insist(rpc: &RpcFetcher, slot: u64) -> FetchedBlock {
    loop {
        match rpc.block(slot, Commitment::Confirmed).await {
            Ok(block) => return block,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                tokio::time::sleep(error.retry_after().unwrap_or(Duration::from_millis(5))).await;
            }
        }
    }
}

async fn assert_rpc_tells_the_truth(rpc: &RpcFetcher, truth: &Truth, slots: usize) {
    for (slot, expected) in truth.slots().take(slots) {
        let Some(expected) = expected.block() else { continue };
        let (mut infos, meta) = content(&insist(rpc, slot).await);
        let mut wanted = expected.transactions.clone();
        infos.sort_by_key(|info| info.index);
        wanted.sort_by_key(|info| info.index);
        assert_eq!(infos.len(), wanted.len(), "slot {slot}");
        for (info, wanted) in infos.into_iter().zip(wanted) {
            assert_eq!(comparable(info), comparable(wanted), "slot {slot}");
        }
        assert_eq!(meta, SubscribeUpdateBlockMeta { entries_count: 0, ..expected.meta(0) }, "slot {slot}");
    }
}

/// Waits until the whole ledger was streamed, and returns its transactions by slot and blockhash.
async fn live_transactions(served: &Served) -> BTreeMap<u64, Vec<SubscribeUpdateTransactionInfo>> {
    let last = served
        .cluster()
        .truth()
        .slots()
        .filter(|(_, slot)| slot.block().is_some())
        .map(|(slot, _)| slot)
        .max();
    let last = last.expect("a block");
    let mut running = run_plain(options(served));
    let is_last = |update: &&Update| {
        let header = &update.frame.header;
        header.kind == Kind::BlockMeta && header.slot == last
    };
    let items = running.items(|items| updates(items).iter().rev().take(300).any(&is_last)).await;
    let mut transactions: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for update in updates(&items).into_iter().filter(|update| update.frame.header.kind == Kind::Transaction) {
        transactions.entry(update.frame.header.slot).or_default().push(info(update.frame.body()));
    }
    running.end().await;
    transactions
}

#[tokio::test]
async fn live_replayed_and_fetched_slots_hold_the_same_transactions() {
    let ledger = Ledger::generated(GeneratedLedger {
        slots: Some(SLOTS),
        transactions_per_slot: 1..=20,
        forks: false,
        ..GeneratedLedger::default()
    });
    let served = serve(ledger, Profile::None).await;
    let truth = served.cluster().truth();
    let mut live = live_transactions(&served).await;
    let first = truth.first_slot().expect("a ledger");
    for (slot, expected) in truth.slots().filter(|&(slot, _)| slot > first) {
        let mut wanted = expected.block().expect("no forks").transactions.clone();
        let mut got = live.remove(&slot).unwrap_or_default();
        wanted.sort_by_key(|info| info.index);
        got.sort_by_key(|info| info.index);
        assert_eq!(got, wanted, "slot {slot}");
    }
    assert_rpc_tells_the_truth(&fetcher(&served), &truth, usize::MAX).await;
    assert_replay_tells_the_truth(&served, first + 10, first + 40).await;
    served.shutdown().await.expect("a clean end");
}

async fn assert_replay_tells_the_truth(served: &Served, first: u64, last: u64) {
    let endpoint = Endpoint::new(0, Arc::from("ams"), options(served));
    let replay = Replay { endpoint, first, last, number: 0 };
    let (sender, mut receiver) = mpsc::channel::<SlotUpdates>(4);
    let collect = async move {
        let mut slots = BTreeMap::new();
        while let Some((slot, updates)) = receiver.recv().await {
            slots.insert(slot, updates);
        }
        slots
    };
    let budget = Budget::new(1 << 30);
    let run = async move { replay.run(Clock::start(), &budget, &sender).await };
    let (result, slots) = tokio::join!(run, collect);
    result.expect("a whole replay");
    assert_eq!(slots.keys().copied().collect::<Vec<_>>(), (first..=last).collect::<Vec<_>>());
    for (slot, updates) in slots {
        let expected = served.cluster().truth().slot(slot).expect("part of the ledger");
        let expected = expected.block().expect("no forks");
        let count = |kind| updates.iter().filter(|update| update.frame.header.kind == kind).count();
        assert_eq!(count(Kind::Transaction), expected.transactions.len());
        assert_eq!(count(Kind::Entry), expected.entries.len());
        assert_eq!(count(Kind::BlockMeta), 1);
    }
}

#[tokio::test]
async fn an_rpc_node_on_a_bad_day_gives_the_truth_in_the_end() {
    let served = serve(generated(), Profile::Harsh).await;
    let source = run_plain(options(&served));
    let truth = served.cluster().truth();
    let rpc = fetcher(&served);
    assert_rpc_tells_the_truth(&rpc, &truth, 15).await;
    source.end().await;
    served.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn the_recorded_validators_answers_come_out_as_its_stream_did() {
    let served = serve(Ledger::recorded_validator().expect("data of the project"), Profile::None).await;
    let source = run_plain(options(&served));
    let truth = served.cluster().truth();
    let rpc = fetcher(&served);
    for (slot, expected) in truth.slots().take(40) {
        let Some(expected) = expected.block() else { continue };
        let block = insist(&rpc, slot).await;
        let meta = BlockMeta::read(block.frames.last().expect("a meta").body()).expect("a valid meta");
        assert_eq!(meta.blockhash.to_base58(), expected.blockhash, "slot {slot}");
        assert_eq!(meta.executed_transaction_count as usize, block.frames.len() - 1);
    }
    source.end().await;
    served.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn skipped_slots_are_claimed_and_listed_as_such() {
    let served = serve(generated(), Profile::None).await;
    let source = run_plain(options(&served));
    let truth = served.cluster().truth();
    let rpc = fetcher(&served);
    let (mut wanted, mut skipped) = (Vec::new(), Vec::new());
    for (slot, expected) in truth.slots() {
        match expected.block() {
            Some(_) => wanted.push(slot),
            None => skipped.push(slot),
        }
    }
    let (&first, &last) = (wanted.first().expect("blocks"), wanted.last().expect("blocks"));
    insist(&rpc, last).await;
    assert_eq!(rpc.blocks(first, last, Commitment::Confirmed).await.expect("a list"), wanted);
    let inner = skipped.into_iter().find(|slot| (first..last).contains(slot)).expect("a skipped slot");
    let error = rpc.block(inner, Commitment::Confirmed).await.expect_err("there is no block");
    assert!(
        matches!(error, FetchError::ClaimedSkipped { .. } | FetchError::NotAvailableYet { .. }),
        "{error}"
    );
    assert!(rpc.slot(Commitment::Processed).await.expect("a tip") >= last);
    source.end().await;
    served.shutdown().await.expect("a clean end");
}
