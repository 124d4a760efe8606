//! Servers that send rubbish cost time, never a slot, a secret or the process.

mod rpc;
mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluice_cluster::cluster::Config;
use sluice_cluster::faults::{Fault, Profile};
use sluice_cluster::server::Running as Served;

use crate::support::{
    Lossless, all_metrics, assert_same, audited, files, parse_with_variables, run_until, serve, small_ledger,
    until,
};

/// Slots that are compared.
const SLOTS: u64 = 50;
/// Slots of a file.
const COMMIT_SLOTS: u64 = 10;
/// Slots behind them: the last one has to become final and to have a child.
const TAIL_SLOTS: u64 = COMMIT_SLOTS - 1;
/// Something that may be shown nowhere.
const CANARY: &str = "canary-7f3a9c";

async fn weather(endpoints: usize, slots: u64, faults: Profile, seed: u64, awaited: usize) -> Served {
    let config = Config {
        endpoints,
        seed,
        faults,
        slot_time: Duration::from_millis(20),
        finalized_after: 8,
        ..Config::default()
    };
    serve(small_ledger(slots + TAIL_SLOTS), config, awaited).await
}

async fn calm(slots: u64) -> Served {
    weather(1, slots, Profile::None, 0, 1).await
}

/// Runs the usual pipeline against a cluster of good servers.
async fn expected(root: &Path, slots: u64) {
    let served = calm(slots).await;
    let pipeline = Lossless::new(&served, root, COMMIT_SLOTS);
    pipeline.run_until_committed(pipeline.start_slot + slots - 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_oversized_messages_lose_nothing() {
    let (good, bad) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let slots = 3 * SLOTS;
    expected(good.path(), slots).await;
    let served = weather(4, slots, Profile::Harsh, 1, 1).await;
    let mut pipeline = Lossless::new(&served, bad.path(), COMMIT_SLOTS);
    pipeline.source.push_str("max_message_bytes = \"1MiB\"\n");
    let watch = pipeline.run_until_committed(pipeline.start_slot + slots - 1).await;
    let faults = served.cluster().fault_counts();
    assert!(faults.contains_key(&Fault::Garbage) && faults.contains_key(&Fault::Oversize), "{faults:?}");
    assert!(watch.sum("source_malformed_total") > 0, "{}", all_metrics(&watch));
    let ends = watch.by_label("source_disconnects_total");
    assert!(ends.contains_key("message_too_large"), "{ends:?}");
    audited(bad.path());
    assert_same(&files(good.path()), &files(bad.path()), "rubbish got in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_protocol_beside_a_good_one_loses_nothing() {
    let (good, bad) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    expected(good.path(), SLOTS).await;
    let served = calm(SLOTS).await;
    let hostile = server::start().await;
    let mut pipeline = Lossless::new(&served, bad.path(), COMMIT_SLOTS);
    pipeline.urls = vec![hostile.url.clone(), served.grpc_urls()[0].clone()];
    pipeline.source.push_str("connect_timeout = \"300ms\"\n");
    let enough = |watch: &sluice::runner::Watch| {
        pipeline.is_committed(pipeline.start_slot + SLOTS - 1)
            && watch.sum("source_disconnects_total") >= server::MANNERS as u64
    };
    let (_, result) = run_until(pipeline.plan(), enough).await;
    result.expect("drained without an error");
    audited(bad.path());
    assert_same(&files(good.path()), &files(bad.path()), "rubbish got in");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rpc_node_that_answers_rubbish_first_loses_nothing() {
    let (good, bad) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    expected(good.path(), SLOTS).await;
    let served = Arc::new(weather(1, SLOTS, Profile::None, 0, 0).await);
    let end = served.cluster().end().expect("the ledger has an end");
    until("the ledger to be played", None, || served.now() > end).await;
    let hostile = rpc::start(Arc::clone(&served)).await;
    let mut pipeline = Lossless::new(&served, bad.path(), COMMIT_SLOTS);
    pipeline.rpc_url.clone_from(&hostile.url);
    pipeline.recovery = "replay = false\n".to_owned();
    let watch = pipeline.run_until_committed(pipeline.start_slot + SLOTS - 1).await;
    assert!(hostile.rubbish() >= rpc::KINDS as u64, "{} answers were rubbish", hostile.rubbish());
    assert!(watch.by_label("recovered_slots_total")["rpc"] > 0, "{}", all_metrics(&watch));
    assert!(watch.sum("recovery_refused_blocks_total") > 0, "{}", all_metrics(&watch));
    audited(bad.path());
    assert_same(&files(good.path()), &files(bad.path()), "rubbish got in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_told_and_never_shown() {
    let config = Config { x_token: Some("sesame".to_owned()), faults: Profile::None, ..Config::default() };
    let served = serve(small_ledger(40), config, 0).await;
    let root = tempfile::tempdir().expect("a folder");
    let mut pipeline = Lossless::new(&served, root.path(), COMMIT_SLOTS);
    pipeline.source.push_str("x_token = \"${TOKEN}\"\nheaders = { authorization = \"${TOKEN}\" }\n");
    pipeline.rpc_url.push_str("/?api-key=${TOKEN}");
    let plan =
        parse_with_variables(&pipeline.text(), &|name: &str| (name == "TOKEN").then(|| CANARY.to_owned()));
    let shown = format!("{plan:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    let refused = |watch: &sluice::runner::Watch| {
        watch.by_label("source_disconnects_total").contains_key("unauthenticated")
    };
    let (watch, result) = run_until(plan, refused).await;
    result.expect("a refused subscription is tried again, for ever");
    let shown = all_metrics(&watch);
    assert!(!shown.contains(CANARY), "{shown}");
}
