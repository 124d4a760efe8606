use super::super::observation::EdgeReading;
use super::super::system::SystemReading;
use super::*;
use crate::alert::AlertState;
use crate::alert_evaluator::AlertEvaluatorOptions;
use crate::edge::EdgeSnapshot;
use crate::silence::Silences;

const NOW: u64 = 1_800_000_000;

fn second(second: u64) -> Timestamp {
    Timestamp((NOW + second) * 1_000_000)
}

fn node(name: &str, kind: &'static str, metrics: &[(&'static str, &str, f64)]) -> NodeReading {
    let metrics = metrics.iter().map(|(name, label, value)| (*name, Arc::from(*label), *value)).collect();
    NodeReading {
        name: Arc::from(name),
        kind,
        is_source: kind == "yellowstone",
        metrics,
        ..NodeReading::default()
    }
}

/// A pipeline that takes 100 transactions and a block in a second, in the second `at`.
fn observation(at: u64) -> Observation {
    let (count, slot) = (at as f64, 1_000.0 + at as f64);
    let mut source = node(
        "ams",
        "yellowstone",
        &[
            ("source_updates_total", "transaction", 100.0 * count),
            ("source_updates_total", "account", 0.0),
            ("source_bytes_total", "", 5_000.0 * count),
            ("source_malformed_total", "", 25.0 * count),
            ("source_connected", "", 1.0),
            ("source_tip_slot", "", slot - 2.0),
            ("endpoint_connected", "ams/0", 1.0),
            ("endpoint_connected", "ams/1", 0.0),
            ("endpoint_tip_slot", "ams/0", slot - 2.0),
            ("endpoint_tip_slot", "ams/1", 0.0),
            ("endpoint_bytes_total", "ams/0", 4_000.0 * count),
            ("endpoint_bytes_total", "ams/1", 1_000.0 * count),
        ],
    );
    source.deliveries = vec![Delivery {
        slot: 1,
        endpoint: 0,
        is_block: false,
        created_at: Some(Timestamp(second(at).0 - 20_000)),
        block_time: Some((NOW + at) as i64 - 2),
        received_at: second(at),
        passed_at: second(at),
    }];
    let slots =
        node("slots", "gap_detector", &[("tip_slot", "", slot), ("ledger_whole_slots_total", "", count)]);
    let whole = node("whole", "recovery", &[("holes", "", 1.0), ("recovery_searches", "", 1.0)]);
    let mut last = node(
        "final",
        "commitment",
        &[
            ("watermark_slot", "", slot - 40.0),
            ("committed_blocks_total", "", 0.75 * count),
            ("discarded_blocks_total", "dead", 0.25 * count),
        ],
    );
    last.passed = (at, 100 * at);
    last.deliveries = vec![Delivery {
        is_block: true,
        received_at: Timestamp(second(at).0 - 500_000),
        ..source.deliveries[0]
    }];
    let stats = EdgeSnapshot {
        sent_items: 30,
        received_items: 10,
        blocked: Duration::from_millis(250 * at),
        ..EdgeSnapshot::default()
    };
    let edge = EdgeReading {
        from: Arc::from("ams"),
        to: Arc::from("slots"),
        stats,
        capacity_items: 40,
        capacity_bytes: 1_000,
    };
    let system = SystemReading {
        resident_bytes: Some(7),
        cpu_seconds: Some(0.5 * count),
        disks: vec![("out".into(), 25, 100)],
        ..SystemReading::default()
    };
    Observation {
        at: second(at),
        nodes: vec![source, slots, whole, last],
        edges: vec![edge],
        endpoints: vec![Arc::from("ams/0"), Arc::from("ams/1")],
        budget: (10, 100),
        system,
    }
}

/// The same without a hole.
fn undisturbed(at: u64) -> Observation {
    let mut seen = observation(at);
    seen.nodes[2].metrics.clear();
    seen
}

fn sample_after(seconds: u64) -> Sample {
    let mut monitor = Monitor::new();
    (0..seconds).for_each(|at| drop(monitor.sample(&observation(at))));
    monitor.sample(&observation(seconds))
}

/// The value of the one series with exactly these labels.
fn value(sample: &Sample, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: Labels = labels.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect();
    let mut found =
        sample.readings.iter().filter(|reading| *reading.metric == *metric && reading.labels == labels);
    let value = found.next().map(|reading| reading.value);
    assert!(found.next().is_none(), "{metric} {labels:?} is there twice");
    value
}

#[test]
fn what_the_pipeline_does_is_what_is_shown() {
    let sample = sample_after(60);
    let window = ("window", "10s");
    for (metric, labels, expected) in [
        ("throughput_tx_per_second", &[window][..], 100.0),
        ("throughput_blocks_per_second", &[window], 1.0),
        ("updates_per_second", &[window], 100.0),
        ("updates_per_second", &[window, ("kind", "transaction")], 100.0),
        ("bytes_per_second", &[window, ("endpoint", "ams/0")], 4_000.0),
        ("bytes_per_second", &[window, ("endpoint", "ams/1")], 1_000.0),
        // This one does not tell its endpoints apart.
        ("updates_per_second", &[window, ("endpoint", "ams")], 100.0),
        ("error_rate", &[window, ("cause", "malformed")], 0.2),
        ("error_rate", &[window], 0.2),
        ("fork_rate", &[window], 0.25),
        ("skip_rate", &[window], 0.25),
        ("slot_coverage", &[window], 10.0 / 12.0),
        ("lag_slots", &[], 40.0),
        ("lag_seconds", &[], 2.0),
        ("holes", &[], 1.0),
        ("endpoint_up", &[("endpoint", "ams/0")], 1.0),
        ("endpoint_up", &[("endpoint", "ams/1")], 0.0),
        ("endpoints_up", &[], 1.0),
        ("endpoint_lag_slots", &[("endpoint", "ams/0")], 2.0),
        ("edge_fill_ratio", &[("from", "ams"), ("to", "slots")], 0.5),
        ("edge_blocked_ratio", &[("from", "ams"), ("to", "slots"), window], 0.25),
        ("cpu_cores", &[("window", "1m")], 0.5),
        ("memory_budget_ratio", &[], 0.1),
        ("disk_free_ratio", &[("path", "out")], 0.25),
    ] {
        let found =
            value(&sample, metric, labels).unwrap_or_else(|| panic!("{metric} {labels:?} is not there"));
        assert!((found - expected).abs() < 1e-9, "{metric} {labels:?}: {found}, not {expected}");
    }
    assert_eq!(value(&sample, "updates_per_second", &[window, ("kind", "account")]), None);
}

#[test]
fn latencies_say_from_where_to_where() {
    let sample = sample_after(30);
    for (labels, expected) in [
        (&[("path", "server_to_arrival"), ("endpoint", "ams/0")][..], 20.0),
        (&[("path", "chain_to_arrival"), ("endpoint", "ams/0")], 2_000.0),
        (&[("path", "arrival_to_stage"), ("node", "final")], 500.0),
        (&[("path", "arrival_to_commit")], 500.0),
    ] {
        let all = [labels, &[("quantile", "p99"), ("window", "10s")]].concat();
        let found = value(&sample, "latency_ms", &all).unwrap_or_else(|| panic!("{labels:?} is not there"));
        assert!((found / expected - 1.0).abs() < 0.01, "{labels:?}: {found}");
    }
}

#[test]
fn no_series_is_there_twice() {
    let sample = sample_after(70);
    let mut seen = std::collections::BTreeSet::new();
    for reading in &sample.readings {
        assert!(seen.insert((Arc::clone(&reading.metric), reading.labels.clone())), "{reading:?}");
    }
}

#[test]
fn what_is_not_known_yet_is_absent() {
    let sample = Monitor::new().sample(&observation(5));
    assert_eq!(value(&sample, "throughput_tx_per_second", &[("window", "10s")]), None);
    let nothing = Monitor::new().sample(&Observation { at: second(0), ..Observation::default() });
    for metric in ["lag_slots", "holes", "endpoints_up", "memory_budget_ratio", "lag_seconds"] {
        assert_eq!(value(&nothing, metric, &[]), None, "{metric}");
    }
}

#[test]
fn a_chain_that_is_played_again_has_no_lag_in_seconds() {
    let mut old = observation(5);
    for delivery in old.nodes.iter_mut().flat_map(|node| &mut node.deliveries) {
        delivery.block_time = Some(1_600_000_000);
    }
    let sample = Monitor::new().sample(&old);
    assert_eq!(value(&sample, "lag_seconds", &[]), None);
    assert!(
        !sample
            .readings
            .iter()
            .any(|reading| reading.labels.values().any(|value| &**value == "chain_to_arrival"))
    );
}

#[test]
fn a_fall_of_throughput_is_named() {
    let mut monitor = Monitor::new();
    let mut last = None;
    let mut transactions = 0;
    for at in 0..2_400 {
        transactions += if at < 2_000 { 100 } else { 50 };
        let mut seen = undisturbed(at);
        seen.nodes[3].passed.1 = transactions;
        last = Some(monitor.sample(&seen));
    }
    let sample = last.expect("a sample");
    let of = [("of", "throughput_tx_per_second")];
    assert!(value(&sample, "trend_degradation", &of).expect("a trend") > 0.95);
    assert_eq!(value(&sample, "trend_degradation", &[("of", "updates_per_second")]), Some(0.0));
}

#[test]
fn each_endpoint_of_a_group_is_up_or_down_by_itself() {
    let mut seen = observation(1);
    let states = [
        ("source_connected", "", 2.0),
        ("endpoint_connected", "eu/1", 1.0),
        ("endpoint_connected", "eu/2", 1.0),
        ("endpoint_connected", "eu/3", 0.0),
    ];
    seen.nodes.push(node("eu", "yellowstone", &states));
    let sample = Monitor::new().sample(&seen);
    let up = |name| value(&sample, "endpoint_up", &[("endpoint", name)]);
    let ups = [up("eu/1"), up("eu/2"), up("eu/3"), up("ams/0"), up("ams/1")];
    assert_eq!(ups, [Some(1.0), Some(1.0), Some(0.0), Some(1.0), Some(0.0)]);
    assert_eq!((up("eu"), value(&sample, "endpoints_up", &[])), (None, Some(3.0)));
}

#[test]
fn an_outage_is_no_trend_when_it_is_over() {
    let mut monitor = Monitor::new();
    let mut last = None;
    let mut transactions = 0;
    for at in 0..2_400 {
        let out = (2_000..2_300).contains(&at);
        transactions += if out { 0 } else { 100 };
        let mut seen = if out { observation(at) } else { undisturbed(at) };
        seen.nodes[3].passed.1 = transactions;
        last = Some(monitor.sample(&seen));
    }
    let sample = last.expect("a sample");
    let of = [("of", "throughput_tx_per_second")];
    assert!(value(&sample, "trend_degradation", &of).expect("a trend") < 0.1);
}

/// A pipeline whose endpoints are connected and answer pings, and send nothing else after the second `last`.
fn at_rest(at: u64, last: u64) -> Observation {
    let mut seen = undisturbed(at.min(last));
    seen.at = second(at);
    if at > last {
        seen.nodes.iter_mut().for_each(|node| node.deliveries.clear());
    }
    let kept_alive = ["ping", "pong"].map(|kind| ("source_updates_total", Arc::from(kind), 3.0 * at as f64));
    seen.nodes[0].metrics.extend(kept_alive);
    seen
}

/// The default rules that fire after a minute and a half of these.
fn firing(observations: impl Fn(u64) -> Observation) -> Vec<String> {
    let mut monitor = Monitor::new();
    let mut evaluator = AlertEvaluatorOptions::default().evaluator(Silences::default());
    for at in 0..90 {
        evaluator.on_sample(&monitor.sample(&observations(at)), &mut Vec::new());
    }
    let firing = evaluator.active().filter(|alert| alert.state == AlertState::Firing);
    firing.map(|alert| alert.rule.to_string()).collect()
}

#[test]
fn a_chain_at_rest_is_a_quiet_stream_however_many_pings_are_answered() {
    let rules = firing(|at| at_rest(at, 30));
    assert!(rules.contains(&"quiet_stream".to_owned()), "{rules:?}");
    assert!(!firing(|at| at_rest(at, 90)).contains(&"quiet_stream".to_owned()));
}

#[test]
fn a_pipeline_that_starts_into_silence_is_told_of() {
    let silent = |at| {
        let mut seen = at_rest(at, 0);
        for (_, label, value) in seen.nodes.iter_mut().flat_map(|node| &mut node.metrics) {
            *value = if ["ping", "pong"].contains(&&**label) { *value } else { 0.0 };
        }
        // The endpoint's stream is open all the same.
        seen.nodes[0].metrics.push(("endpoint_connected", Arc::from("ams/0"), 1.0));
        seen.nodes.iter_mut().for_each(|node| node.passed = (0, 0));
        seen
    };
    let rules = firing(silent);
    assert!(rules.contains(&"quiet_stream".to_owned()), "{rules:?}");
    assert!(!rules.contains(&"no_endpoint".to_owned()), "{rules:?}");
}

#[test]
fn pings_are_neither_updates_nor_a_kind_of_them() {
    let mut monitor = Monitor::new();
    (0..60).for_each(|at| drop(monitor.sample(&at_rest(at, 20))));
    let sample = monitor.sample(&at_rest(60, 20));
    let window = ("window", "10s");
    for labels in [&[window][..], &[window, ("endpoint", "ams")], &[window, ("kind", "transaction")]] {
        assert_eq!(value(&sample, "updates_per_second", labels), Some(0.0), "{labels:?}");
    }
    assert_eq!(value(&sample, "updates_per_second", &[window, ("kind", "ping")]), None);
    assert_eq!(value(&sample, "bytes_per_second", &[window]), Some(0.0));
}

/// A pipeline of which everything is measured, with a throughput that falls in the second 2,000.
fn everything(at: u64) -> Observation {
    let mut seen = undisturbed(at);
    let count = at as f64;
    seen.nodes[1].metrics.extend([
        ("ledger_gaps_total", Arc::from(""), count),
        ("ledger_owed_slots", Arc::from(""), 1.0),
        ("ledger_open_slots", Arc::from(""), 1.0),
        ("first_updates_total", Arc::from("ams/0"), count),
        ("duplicate_updates_total", Arc::from("ams/1"), count),
    ]);
    seen.nodes[2].metrics.extend([
        ("holes", Arc::from(""), 0.0),
        ("recovery_in_flight", Arc::from(""), 1.0),
        ("recovered_slots_total", Arc::from("rpc"), count),
    ]);
    seen.nodes[3].metrics.push(("held_blocks", Arc::from(""), 1.0));
    seen.nodes[3].passed.1 = 100 * at.min(2_000) + 50 * at.saturating_sub(2_000);
    seen.system.network_bytes = Some((at, at));
    seen.system.written_bytes = Some(at);
    seen
}

#[test]
fn the_table_of_series_holds_what_is_measured_and_nothing_else() {
    let mut monitor = Monitor::new();
    let mut found: BTreeMap<String, std::collections::BTreeSet<String>> = BTreeMap::new();
    for reading in (0..2_400).flat_map(|at| monitor.sample(&everything(at)).readings) {
        let labels = found.entry(reading.metric.to_string()).or_default();
        labels.extend(reading.labels.keys().map(ToString::to_string));
    }
    let table: BTreeMap<_, _> = super::super::SERIES
        .iter()
        .map(|series| {
            (series.metric.to_owned(), series.labels.iter().map(|label| (*label).to_owned()).collect())
        })
        .collect();
    assert_eq!(found, table);
    assert!(super::super::SERIES.is_sorted_by(|first, second| first.metric < second.metric));
}
