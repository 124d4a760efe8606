//! One test for each way in which a pipeline comes to its end.

mod kinds;

use std::path::Path;
use std::time::{Duration, Instant};

use sluice::runner::{self, RunError, Watch};
use sluice_cluster::cluster::Config;
use sluice_cluster::faults::Profile;
use sluice_cluster::ledger::{GeneratedLedger, Ledger};

use crate::support::{DEADLINE, Lossless, audited, parse_with, run_until, serve, small_ledger, until};
use kinds::KINDS;

/// A source that plays a short ledger to its end, then the lossless path up to `final`.
const PLAYED: &str = r#"
[sources.played]
type = "played"
[stages.once]
type = "dedupe"
inputs = ["played"]
[stages.slots]
type = "gap_detector"
inputs = ["once"]
[stages.whole]
type = "recovery"
inputs = ["slots"]
[stages.final]
type = "commitment"
inputs = ["whole"]
level = "finalized"
"#;

fn parquet(root: &Path) -> String {
    format!(
        "[sinks.files]\ntype = \"parquet\"\ninputs = [\"final\"]\npath = \"{}\"\ncommit_slots = 10\nstart_slot = {}\n",
        root.display(),
        kinds::FIRST_SLOT,
    )
}

fn sink(name: &str, options: &str) -> String {
    format!("[sinks.{name}]\ntype = \"{name}\"\ninputs = [\"final\"]\n{options}\n")
}

/// Runs a played pipeline until it ends by itself.
async fn run_to_the_end(text: &str, deadline: Duration) -> (Watch, Result<(), RunError>) {
    let running = runner::start(parse_with(KINDS, text)).expect("all nodes can be made");
    let watch = running.watch();
    (watch, tokio::time::timeout(DEADLINE, running.join(deadline)).await.expect("it ends by itself"))
}

/// Asserts that nothing is left on any edge.
fn assert_drained(watch: &Watch) {
    for (from, to, stats) in watch.edges() {
        assert_eq!(stats.sent_items, stats.received_items, "{from} -> {to}");
    }
    assert_eq!(watch.budget().used_bytes(), 0, "memory is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_stream_ends_everything_that_came_is_committed_and_the_run_succeeds() {
    let root = tempfile::tempdir().expect("a folder");
    let (watch, result) = run_to_the_end(&format!("{PLAYED}{}", parquet(root.path())), DEADLINE).await;
    result.expect("the end of a stream is no failure");
    assert_drained(&watch);
    assert_eq!(audited(root.path()).slots, kinds::COMMITTED_SLOTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_sources_and_drains_the_rest() {
    let ledger = Ledger::generated(GeneratedLedger { mainnet_blocks: false, ..GeneratedLedger::default() });
    let config = Config {
        faults: Profile::None,
        slot_time: Duration::from_millis(20),
        finalized_after: 4,
        ..Config::default()
    };
    let served = serve(ledger, config, 1).await;
    let root = tempfile::tempdir().expect("a folder");
    let pipeline = Lossless::new(&served, root.path(), 5);
    let first_file = pipeline.file("blocks", pipeline.start_slot);
    let (watch, result) = run_until(pipeline.plan(), |_| first_file.exists()).await;
    result.expect("a stop is no failure");
    assert_drained(&watch);
    assert_eq!(watch.sum("source_connected"), 0);
    audited(root.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_fails_is_named_and_the_others_drain() {
    let root = tempfile::tempdir().expect("a folder");
    let text = format!("{PLAYED}{}{}", parquet(root.path()), sink("failing", "after_items = 20"));
    let (watch, result) = run_to_the_end(&text, DEADLINE).await;
    match result {
        Err(RunError::Node { node, source }) => {
            assert_eq!((node.as_str(), source.to_string().as_str()), ("failing", kinds::FAILURE));
        }
        other => panic!("{other:?}"),
    }
    audited(root.path());
    assert_eq!(watch.budget().used_bytes(), 0, "memory is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_panics_is_named_and_the_others_drain() {
    let root = tempfile::tempdir().expect("a folder");
    let text = format!("{PLAYED}{}{}", parquet(root.path()), sink("panicking", ""));
    let (_, result) = run_to_the_end(&text, DEADLINE).await;
    assert!(matches!(&result, Err(RunError::Panicked { node }) if node == "panicking"), "{result:?}");
    audited(root.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_drain_in_time_are_ended_and_named() {
    let deadline = Duration::from_millis(300);
    let running =
        runner::start(parse_with(KINDS, &format!("{PLAYED}{}", sink("stuck", "")))).expect("makeable");
    let began = Instant::now();
    running.stop();
    match running.join(deadline).await {
        Err(RunError::Deadline { nodes, .. }) => assert!(nodes.contains(&"stuck".to_owned()), "{nodes:?}"),
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() >= deadline && began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_stop_has_no_deadline() {
    let running =
        runner::start(parse_with(KINDS, &format!("{PLAYED}{}", sink("stuck", "")))).expect("makeable");
    let (watch, stop) = (running.watch(), running.stopper());
    let joined = tokio::spawn(running.join(Duration::ZERO));
    until("the source to end", Some(&watch), || {
        watch.edges().iter().any(|(.., stats)| stats.received_items > 0)
    })
    .await;
    assert!(!joined.is_finished());
    stop.cancel();
    assert!(matches!(joined.await.expect("no panic"), Err(RunError::Deadline { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_only_receiver_is_gone_everything_upstream_ends() {
    let (_, result) = run_to_the_end(&format!("{PLAYED}{}", sink("leaving", "")), DEADLINE).await;
    result.expect("a receiver that has had enough is no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_receiver_is_gone_the_other_still_gets_everything() {
    let root = tempfile::tempdir().expect("a folder");
    let text = format!("{PLAYED}{}{}", parquet(root.path()), sink("leaving", ""));
    let (_, result) = run_to_the_end(&text, DEADLINE).await;
    result.expect("a receiver that has had enough is no failure");
    assert_eq!(audited(root.path()).slots, kinds::COMMITTED_SLOTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pipeline_on_the_same_folder_is_refused_and_leaves_the_first_alone() {
    let served = serve(small_ledger(40), Config { faults: Profile::None, ..Config::default() }, 0).await;
    let root = tempfile::tempdir().expect("a folder");
    let pipeline = Lossless::new(&served, root.path(), 10);
    let first = runner::start(pipeline.plan()).expect("all nodes can be made");
    let refused = runner::start(pipeline.plan()).err().expect("the folder is locked");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    first.stop();
    first.join(DEADLINE).await.expect("drained");
}
