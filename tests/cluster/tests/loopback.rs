//! The servers, by clients that are not ours: tonic's generated client and solana-client.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sluice_cluster::{Cluster, Config, GeneratedLedger, Ledger, Profile, Running, ServeOptions};
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_client::rpc_config::RpcBlockConfig;
use tonic::Request;
use tonic::codec::CompressionEncoding;
use yellowstone_grpc_proto::geyser::geyser_client::GeyserClient;
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude::*;

const SLOTS: u64 = 40;

fn cluster(config: Config) -> Cluster {
    let settings = GeneratedLedger { slots: Some(SLOTS), ..GeneratedLedger::default() };
    Cluster::new(Ledger::generated(settings), config)
}

fn fast() -> Config {
    Config { faults: Profile::None, slot_time: Duration::from_millis(5), ..Config::default() }
}

async fn running(config: Config, options: ServeOptions) -> Running {
    Running::start(cluster(config), options).await.expect("loopback ports are free")
}

fn all_transactions() -> SubscribeRequest {
    let all = SubscribeRequestFilterTransactions::default();
    let slots = SubscribeRequestFilterSlots { interslot_updates: Some(true), ..Default::default() };
    SubscribeRequest {
        transactions: HashMap::from([("all".to_owned(), all)]),
        slots: HashMap::from([("all".to_owned(), slots)]),
        ..SubscribeRequest::default()
    }
}

/// Signatures seen until the last slot is final.
async fn signatures(url: String, compression: Option<CompressionEncoding>, last: u64) -> HashSet<Vec<u8>> {
    let mut client = GeyserClient::connect(url).await.expect("connects").max_decoding_message_size(64 << 20);
    if let Some(encoding) = compression {
        client = client.accept_compressed(encoding).send_compressed(encoding);
    }
    let requests = tokio_stream::iter([all_transactions()]);
    let mut stream = client.subscribe(requests).await.expect("let in").into_inner();
    let mut seen = HashSet::new();
    while let Some(update) = stream.message().await.expect("no fault") {
        match update.update_oneof {
            Some(UpdateOneof::Transaction(update)) => {
                seen.insert(update.transaction.expect("a body").signature);
            }
            Some(UpdateOneof::Slot(slot))
                if slot.slot == last && slot.status() == SlotStatus::SlotFinalized =>
            {
                break;
            }
            _ => {}
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_tonic_client_gets_every_transaction_from_each_endpoint_in_each_compression() {
    let options = ServeOptions { start_after_subscriptions: 3, ..ServeOptions::default() };
    let running = running(fast(), options).await;
    let truth = running.cluster().truth();
    let last = truth.last_slot().expect("an end");
    let compressions = [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)];
    let clients = running.grpc_urls().iter().cloned().zip(compressions);
    let seen = futures::future::join_all(clients.map(|(url, one)| signatures(url, one, last))).await;
    for seen in seen {
        for (slot, truth) in truth.slots() {
            assert!(truth.signatures().all(|signature| seen.contains(signature)), "slot {slot}");
        }
    }
    assert_eq!(running.progress().subscriptions, 3);
    running.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn unary_calls_are_answered() {
    let running = running(fast(), ServeOptions::default()).await;
    tokio::time::sleep(running.cluster().end().expect("an end")).await;
    let mut client = GeyserClient::connect(running.grpc_urls()[0].clone()).await.expect("connects");
    let last = running.cluster().truth().last_slot().expect("an end");
    let slot = client.get_slot(GetSlotRequest::default()).await.expect("answered").into_inner().slot;
    assert_eq!(slot, last);
    let info =
        client.subscribe_replay_info(SubscribeReplayInfoRequest {}).await.expect("answered").into_inner();
    assert_eq!(info.first_available, running.cluster().truth().first_slot());
    let newest = client
        .get_latest_blockhash(GetLatestBlockhashRequest::default())
        .await
        .expect("answered")
        .into_inner();
    let valid = IsBlockhashValidRequest { blockhash: newest.blockhash, ..Default::default() };
    assert!(client.is_blockhash_valid(valid).await.expect("answered").into_inner().valid);
    assert_eq!(client.ping(PingRequest { count: 3 }).await.expect("answered").into_inner().count, 3);
    assert!(
        client
            .get_version(GetVersionRequest {})
            .await
            .expect("answered")
            .into_inner()
            .version
            .contains("proto")
    );
    assert!(client.get_block_height(GetBlockHeightRequest::default()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_turned_away() {
    let running =
        running(Config { x_token: Some("right".to_owned()), ..fast() }, ServeOptions::default()).await;
    let mut client = GeyserClient::connect(running.grpc_urls()[0].clone()).await.expect("connects");
    let refused = client.subscribe(tokio_stream::iter([all_transactions()])).await;
    assert_eq!(refused.expect_err("no token").code(), tonic::Code::Unauthenticated);
    let mut request = Request::new(tokio_stream::iter([all_transactions()]));
    request.metadata_mut().insert("x-token", "right".parse().expect("ascii"));
    assert!(client.subscribe(request).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_be_opened_before_the_first_request_is_sent() {
    let running = running(fast(), ServeOptions::default()).await;
    let mut client = GeyserClient::connect(running.grpc_urls()[0].clone()).await.expect("connects");
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut stream = client.subscribe(requests).await.expect("let in").into_inner();
    sender.send(all_transactions()).await.expect("open");
    assert!(stream.message().await.expect("no fault").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn solana_client_reads_blocks_lists_and_accounts() {
    let running = running(fast(), ServeOptions::default()).await;
    tokio::time::sleep(running.cluster().end().expect("an end")).await;
    let client = RpcClient::new(running.rpc_url().to_owned());
    let truth = running.cluster().truth();
    let (first, last) = (truth.first_slot().expect("a start"), truth.last_slot().expect("an end"));
    assert_eq!(client.get_slot().await.expect("answered"), last);
    let listed = client.get_blocks(first, Some(last)).await.expect("answered");
    let expected: Vec<u64> =
        truth.slots().filter(|(_, one)| one.block().is_some()).map(|(slot, _)| slot).collect();
    assert_eq!(listed, expected);
    let config = serde_json::json!({ "encoding": "base64", "maxSupportedTransactionVersion": 0 });
    let config: RpcBlockConfig = serde_json::from_value(config).expect("known options");
    let block = client.get_block_with_config(first, config).await.expect("answered");
    assert_eq!(block.transactions.map(|all| all.len()), Some(1445));
    assert!(client.get_block_time(first).await.is_ok());
    assert!(client.get_health().await.is_ok() && client.get_version().await.is_ok());
    assert!(client.get_latest_blockhash().await.is_ok() && client.get_epoch_info().await.is_ok());
    assert_eq!(client.get_first_available_block().await.expect("answered"), first);
    assert!(client.get_genesis_hash().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_open_streams() {
    let running = running(fast(), ServeOptions::default()).await;
    let mut client = GeyserClient::connect(running.grpc_urls()[0].clone()).await.expect("connects");
    let mut stream =
        client.subscribe(tokio_stream::iter([all_transactions()])).await.expect("let in").into_inner();
    assert!(stream.message().await.expect("no fault").is_some());
    running.shutdown().await.expect("a clean end");
    while let Ok(Some(_)) = stream.message().await {}
}

/// Reads one endpoint through all its faults until a time has passed; counts what ended the streams.
async fn endure(url: String, until: tokio::time::Instant) -> (HashSet<Vec<u8>>, usize) {
    let (mut seen, mut ends) = (HashSet::new(), 0);
    while tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let Ok(client) = GeyserClient::connect(url.clone()).await else { continue };
        let mut client = client.max_decoding_message_size(64 << 20);
        let Ok(stream) = client.subscribe(tokio_stream::iter([all_transactions()])).await else {
            ends += 1;
            continue;
        };
        let mut stream = stream.into_inner();
        let patience = Duration::from_millis(200);
        while let Ok(Ok(Some(update))) = tokio::time::timeout(patience, stream.message()).await {
            if let Some(UpdateOneof::Transaction(update)) = update.update_oneof {
                seen.extend(update.transaction.map(|info| info.signature));
            }
        }
        ends += 1;
    }
    (seen, ends)
}

#[tokio::test(flavor = "multi_thread")]
async fn through_harsh_faults_streams_break_and_rpc_still_has_every_block() {
    let config =
        Config { faults: Profile::Harsh, seed: 4, slot_time: Duration::from_millis(20), ..Config::default() };
    let running = running(config, ServeOptions::default()).await;
    let until = tokio::time::Instant::now() + running.cluster().end().expect("an end");
    let clients = running.grpc_urls().iter().cloned().map(|url| endure(url, until));
    let endured = futures::future::join_all(clients).await;
    assert!(endured.iter().all(|(seen, ends)| !seen.is_empty() && *ends > 0));
    let rpc = RpcClient::new_with_timeout(running.rpc_url().to_owned(), Duration::from_millis(300));
    let config = serde_json::json!({ "encoding": "base64", "maxSupportedTransactionVersion": 0 });
    let config: RpcBlockConfig = serde_json::from_value(config).expect("known options");
    for (slot, truth) in running.cluster().truth().slots().filter(|(_, truth)| truth.block().is_some()) {
        let mut tries = 0;
        let block = loop {
            match rpc.get_block_with_config(slot, config).await {
                Ok(block) => break block,
                Err(_) => tries += 1,
            }
            assert!(tries < 50, "slot {slot} was never told");
            // An outage of the RPC side lasts up to twelve slots.
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(block.transactions.map(|all| all.len()), Some(truth.signatures().count()));
    }
    assert!(running.cluster().fault_counts().len() > 5);
    running.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_validator_can_be_served() {
    let ledger = Ledger::recorded_validator().expect("whole");
    let config = Config { slot_time: Duration::from_millis(2), ..fast() };
    let options = ServeOptions { start_after_subscriptions: 1, ..ServeOptions::default() };
    let running = Running::start(Cluster::new(ledger, config), options).await.expect("ports are free");
    let last = running.cluster().truth().last_slot().expect("an end");
    let seen = signatures(running.grpc_urls()[0].clone(), None, last).await;
    assert_eq!(seen.len(), 2336);
    let client = RpcClient::new(running.rpc_url().to_owned());
    let slots = client.get_blocks(77, Some(212)).await.expect("answered");
    assert_eq!(slots, (77..=212).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_say_when_they_were_made_by_the_clock_on_the_wall() {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let options = ServeOptions { start_after_subscriptions: 1, ..ServeOptions::default() };
    let served = running(Config { unix_start: None, ..fast() }, options).await;
    let url = served.grpc_urls()[0].clone();
    let mut client = GeyserClient::connect(url).await.expect("connects").max_decoding_message_size(64 << 20);
    // Its time begins to run with the subscription, however long it was served before.
    let begun = now();
    let requests = tokio_stream::iter([all_transactions()]);
    let mut stream = client.subscribe(requests).await.expect("let in").into_inner();
    for _ in 0..20 {
        let update = stream.message().await.expect("no fault").expect("it goes on");
        let made = update.created_at.expect("each has one");
        let made = Duration::new(made.seconds as u64, made.nanos as u32);
        assert!((begun..=now()).contains(&made), "{made:?} is not between {begun:?} and now");
    }
}
