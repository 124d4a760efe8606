//! `PERFORMANCE_MODE`, `COMMITMENT_STRATEGY`, `MAX_LATENCY`, `MAX_THROUGHPUT`.

use std::time::Duration;

use sluice_cluster::cluster::Level;
use sluice_cluster::server::Running as Served;

use super::{Text, calm, serve};
use crate::support::until;

const SLOT_TIME: Duration = Duration::from_millis(60);
/// The cluster's slots from processed to finalized.
const FINAL_AFTER: u64 = 32;

/// Limits that nothing here exceeds.
const WIDE: &str = "level = \"processed\"
[stages.live.thresholds]
max_latency = \"1h\"
max_throughput = 10000000
max_fork_rate = 1.0
max_skip_rate = 1.0
max_slot_time = \"1h\"
min_healthy_endpoints = 0.01
fall_back_after = \"100ms\"
window_slots = 16
";

/// How far the next blocks are behind the chain's tip, at best.
fn lag(served: &Served, variables: &[(&str, &str)]) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let run = Text::new(served).run(folder.path(), variables);
    let behind = |_| {
        let slot = run.next_slot();
        let tip = served.cluster().tip(served.now(), Level::Processed).expect("it goes on");
        tip.saturating_sub(slot)
    };
    let lag = (0..60).map(behind).min().expect("some");
    run.stop();
    lag
}

#[tokio::test(flavor = "multi_thread")]
async fn performance_mode_says_how_early_blocks_come() {
    let served = serve(calm(1, SLOT_TIME)).await;
    let aggressive = lag(&served, &[("PERFORMANCE_MODE", "aggressive")]);
    let conservative = lag(&served, &[("PERFORMANCE_MODE", "conservative")]);
    assert!(aggressive < 8, "processed ones come {aggressive} slots late");
    assert!(conservative >= FINAL_AFTER - 2, "final ones come {conservative} slots late");
}

/// Runs with `strategy` in the file until so many blocks have come; what the log says of the commitment.
fn switches(served: &Served, strategy: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut text = Text::new(served);
    text.commitment = format!("strategy = \"{strategy}\"\n{WIDE}");
    // Blocks wait here for a tenth of a second, which is the latency that is measured behind.
    text.more = "[stages.late]\ntype = \"batcher\"\ninputs = [\"whole\"]\nbatch_size = 100000\n\
                 batch_interval = \"200ms\"\n"
        .to_owned();
    text.settled = "late";
    let run = text.run(folder.path(), variables);
    let switched = || run.process.log().contains("commitment switched");
    let first = run.next_slot();
    until("a switch, or many slots", || switched() || run.next_slot() > first + 60);
    let log = run.stop();
    log.lines().filter(|line| line.contains("commitment switched")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commitment_strategy_says_whether_conditions_choose_the_level() {
    let served = serve(calm(1, SLOT_TIME)).await;
    let bad = ("MAX_THROUGHPUT", "1");
    let adaptive = switches(&served, "fixed", &[bad, ("COMMITMENT_STRATEGY", "adaptive")]);
    assert!(!adaptive.is_empty());
    let fixed = switches(&served, "adaptive", &[bad, ("COMMITMENT_STRATEGY", "fixed")]);
    assert_eq!(fixed, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn max_throughput_and_max_latency_are_what_an_adaptive_commitment_judges_by() {
    let served = serve(calm(1, SLOT_TIME)).await;
    for (name, value, reason) in [("MAX_THROUGHPUT", "1", "throughput"), ("MAX_LATENCY", "5", "latency")] {
        let told = switches(&served, "adaptive", &[(name, value)]);
        assert!(told.iter().any(|line| line.contains(reason)), "{name}: {told:?}");
    }
    assert_eq!(switches(&served, "adaptive", &[]), Vec::<String>::new(), "the limits are wide");
}
