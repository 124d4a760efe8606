//! Rules against Prometheus: random series and edge cases run through our evaluator, and what it says at every tick is what
//! `promtool test rules` has to find in `ALERTS` (which alerts are pending and which fire) and `ALERTS_FOR_STATE` (since
//! when).
//!
//! A series that is not there is marked stale for Prometheus, as a scrape without it marks it.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use sluice_stages::alert::AlertState;
use sluice_stages::alert_evaluator::{AlertEvaluator, AlertEvaluatorOptions};
use sluice_stages::sample::{Reading, Sample};
use sluice_stages::silence::Silences;
use sluice_stages::slot::Timestamp;

use crate::{program, seed};

/// Time between two ticks, in seconds.
const INTERVAL: u64 = 10;
/// Ticks of a run.
const TICKS: usize = 80;
/// Rules with random series.
const RANDOM_RULES: usize = 60;
/// What random rules compare with; values are drawn around it, and hit it often.
const THRESHOLD: i64 = 5;

/// A rule and the series that it reads, by the value of their label `series`.
struct Case {
    condition: &'static str,
    hold: u64,
    keep_firing_for: u64,
    series: BTreeMap<&'static str, Vec<Option<f64>>>,
}

impl Case {
    /// A rule `> 5` on one series.
    fn edge(hold: u64, keep_firing_for: u64, values: &[Option<f64>]) -> Self {
        let series = BTreeMap::from([("a", values.to_vec())]);
        Self { condition: "> 5", hold, keep_firing_for, series }
    }

    fn random(random: &mut StdRng) -> Self {
        const CONDITIONS: [&str; 6] = ["> 5", ">= 5", "< 5", "<= 5", "== 5", "!= 5"];
        // Also times that are no multiple of the interval.
        const TIMES: [u64; 9] = [0, 0, 1, 10, 15, 20, 30, 55, 100];
        let names = ["a", "b", "c"].into_iter().take(random.random_range(1..=3));
        Self {
            condition: CONDITIONS[random.random_range(0..CONDITIONS.len())],
            hold: TIMES[random.random_range(0..TIMES.len())],
            keep_firing_for: TIMES[random.random_range(0..TIMES.len())],
            series: names.map(|name| (name, walk(random))).collect(),
        }
    }
}

/// A value that stays, moves, jumps, is no number, or is not there.
fn walk(random: &mut StdRng) -> Vec<Option<f64>> {
    let (mut value, mut gone) = (random.random_range(0..10) as f64, 0);
    let step = |_| {
        match random.random_range(0..20) {
            0..10 => {}
            10..15 => value += random.random_range(-2..=2) as f64,
            15..17 => value = (THRESHOLD + random.random_range(-1..=1)) as f64,
            17 => value = random.random_range(0..10) as f64 + 0.5,
            18 => gone = random.random_range(1..=6),
            _ => return Some(f64::NAN),
        }
        gone = i32::max(gone - 1, 0);
        (gone == 0).then_some(value)
    };
    (0..TICKS).map(step).collect()
}

/// What random series may miss.
fn edges() -> Vec<Case> {
    let (low, at, high, none) = (Some(1.0), Some(5.0), Some(6.0), None);
    let times = |values: &[(Option<f64>, usize)]| -> Vec<Option<f64>> {
        values.iter().flat_map(|(value, count)| vec![*value; *count]).collect()
    };
    vec![
        // Exactly at the threshold is not above it.
        Case::edge(0, 0, &times(&[(at, 5), (high, 5), (at, 5)])),
        // Fires at the first tick at which `for` has passed, also where it lies between two.
        Case::edge(30, 0, &times(&[(low, 2), (high, 10), (low, 2)])),
        Case::edge(31, 0, &times(&[(low, 2), (high, 10), (low, 2)])),
        // Gone a tick too early, and from the beginning once more.
        Case::edge(30, 0, &times(&[(high, 3), (low, 1), (high, 3), (low, 1), (high, 5)])),
        // Flaps at every tick.
        Case::edge(0, 0, &times(&[(high, 1), (low, 1)].repeat(10))),
        Case::edge(10, 0, &times(&[(high, 1), (low, 1)].repeat(10))),
        Case::edge(0, 20, &times(&[(high, 1), (low, 1)].repeat(10))),
        // Kept firing, and then for as long once more.
        Case::edge(0, 50, &times(&[(high, 2), (low, 4), (high, 1), (low, 10)])),
        // Over, and again: what was kept is a new alert.
        Case::edge(20, 20, &times(&[(high, 4), (low, 3), (high, 4), (low, 5)])),
        // No data while pending, while firing, while kept.
        Case::edge(20, 0, &times(&[(high, 1), (none, 2), (high, 4), (none, 2), (high, 2)])),
        Case::edge(0, 40, &times(&[(high, 2), (none, 3), (low, 3), (none, 3), (high, 1)])),
        // There from the middle on, there to the middle.
        Case::edge(20, 0, &times(&[(none, 10), (high, 10)])),
        Case::edge(20, 0, &times(&[(high, 10), (none, 10)])),
    ]
}

fn cases() -> Vec<Case> {
    let mut random = StdRng::seed_from_u64(seed());
    let drawn = (0..RANDOM_RULES).map(|_| Case::random(&mut random));
    edges().into_iter().chain(drawn).collect()
}

fn evaluator(cases: &[Case]) -> AlertEvaluator {
    let rule = |(number, case): (usize, &Case)| {
        let rule = json!({
            "metric": format!("m{number}"), "fire_when": case.condition,
            "for": format!("{}s", case.hold), "keep_firing_for": format!("{}s", case.keep_firing_for),
        });
        (format!("r{number}"), rule)
    };
    let rules: serde_json::Map<_, _> = cases.iter().enumerate().map(rule).collect();
    let options = json!({ "default_rules": false, "rules": rules });
    let options: AlertEvaluatorOptions = serde_json::from_value(options).expect("options");
    options.evaluator(Silences::default())
}

fn sample(cases: &[Case], tick: usize) -> Sample {
    let series = |(number, case): (usize, &Case)| {
        let reading = move |(name, values): (&&'static str, &Vec<Option<f64>>)| {
            let value = values.get(tick).copied().flatten()?;
            Some(Reading::new(format!("m{number}"), value).with("series", *name))
        };
        case.series.iter().filter_map(reading).collect::<Vec<_>>()
    };
    let at = Timestamp(0).after(Duration::from_secs(INTERVAL * tick as u64));
    Sample { at, readings: cases.iter().enumerate().flat_map(series).collect() }
}

/// What Prometheus has to find at one tick.
#[derive(Debug, Default)]
struct Tick {
    alerts: Vec<Value>,
    since: Vec<Value>,
    pending: usize,
    firing: usize,
}

/// What our evaluator says at each tick.
fn evaluate(cases: &[Case]) -> Vec<Tick> {
    let mut evaluator = evaluator(cases);
    let tick = |tick| {
        evaluator.on_sample(&sample(cases, tick), &mut Vec::new());
        let mut found = Tick::default();
        for alert in evaluator.active() {
            let state = if alert.state == AlertState::Firing { "firing" } else { "pending" };
            found.firing += usize::from(state == "firing");
            found.pending += usize::from(state == "pending");
            let (rule, series) = (&alert.rule, alert.label("series").expect("each has one"));
            let labels =
                format!("ALERTS{{alertname=\"{rule}\", alertstate=\"{state}\", series=\"{series}\"}}");
            found.alerts.push(json!({ "labels": labels, "value": 1 }));
            let labels = format!("ALERTS_FOR_STATE{{alertname=\"{rule}\", series=\"{series}\"}}");
            found.since.push(json!({ "labels": labels, "value": alert.active_at.0 / 1_000_000 }));
        }
        found
    };
    (0..TICKS).map(tick).collect()
}

/// Values in promtool's notation.
fn notation(values: &[Option<f64>]) -> String {
    let word = |tick: usize| match values.get(tick).copied().flatten() {
        Some(value) if value.is_nan() => "NaN".to_owned(),
        Some(value) => value.to_string(),
        None => "stale".to_owned(),
    };
    (0..TICKS).map(word).collect::<Vec<_>>().join(" ")
}

/// Prometheus' rules for the cases.
fn prometheus_rules(cases: &[Case]) -> Value {
    let rule = |(number, case): (usize, &Case)| {
        json!({
            "alert": format!("r{number}"), "expr": format!("m{number} {}", case.condition),
            "for": format!("{}s", case.hold), "keep_firing_for": format!("{}s", case.keep_firing_for),
        })
    };
    let rules: Vec<_> = cases.iter().enumerate().map(rule).collect();
    json!({ "groups": [{ "name": "all", "interval": format!("{INTERVAL}s"), "rules": rules }] })
}

/// The test that promtool runs.
fn prometheus_test(cases: &[Case], ticks: &[Tick]) -> Value {
    let series = |(number, case): (usize, &Case)| {
        let one = move |(name, values): (&&str, &Vec<Option<f64>>)| json!({ "series": format!("m{number}{{series=\"{name}\"}}"), "values": notation(values) });
        case.series.iter().map(one).collect::<Vec<_>>()
    };
    let expected = |(number, tick): (usize, &Tick)| {
        let at = format!("{}s", INTERVAL * number as u64);
        [("ALERTS", &tick.alerts), ("ALERTS_FOR_STATE", &tick.since)]
            .map(|(expr, samples)| json!({ "expr": expr, "eval_time": at, "exp_samples": samples }))
    };
    json!({
        "rule_files": ["rules.json"],
        "evaluation_interval": format!("{INTERVAL}s"),
        "tests": [{
            "interval": format!("{INTERVAL}s"),
            "input_series": cases.iter().enumerate().flat_map(series).collect::<Vec<_>>(),
            "promql_expr_test": ticks.iter().enumerate().flat_map(expected).collect::<Vec<_>>(),
        }],
    })
}

/// What promtool says of the cases and the ticks; `None` if it is not there.
fn promtool(cases: &[Case], ticks: &[Tick]) -> Option<Output> {
    let promtool = program("SLUICE_TEST_PROMTOOL", "promtool");
    let version =
        Command::new(&promtool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        eprintln!("skipped: install prometheus, or set SLUICE_TEST_PROMTOOL to its promtool");
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // JSON is YAML.
    let write = |name: &str, value: Value| {
        fs::write(folder.path().join(name), value.to_string()).expect("writable");
    };
    write("rules.json", prometheus_rules(cases));
    write("test.json", prometheus_test(cases, ticks));
    let output = Command::new(promtool).current_dir(&folder).args(["test", "rules", "test.json"]).output();
    let output = output.expect("it was there before");
    if String::from_utf8_lossy(&output.stderr).contains("keep_firing_for not found") {
        eprintln!("skipped: this promtool knows no `keep_firing_for`, use that of Prometheus 2.42 or newer");
        return None;
    }
    Some(output)
}

#[test]
fn every_rule_is_pending_and_fires_at_the_ticks_at_which_it_does_in_prometheus() {
    let cases = cases();
    let ticks = evaluate(&cases);
    let (pending, firing) =
        ticks.iter().fold((0, 0), |sum, tick| (sum.0 + tick.pending, sum.1 + tick.firing));
    assert!(pending > 500 && firing > 500, "the series say too little: {pending} {firing}");
    let Some(output) = promtool(&cases, &ticks) else { return };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let shown: String = said.chars().take(4_000).collect();
    assert!(output.status.success(), "seed {}: {shown}", seed());
    println!(
        "{} rules, {TICKS} ticks: {pending} times pending, {firing} times firing, as in Prometheus",
        cases.len()
    );
}

#[test]
fn a_single_alert_at_a_wrong_tick_does_not_go_unnoticed() {
    let cases = edges();
    let mut ticks = evaluate(&cases);
    let wrong = ticks.iter_mut().rfind(|tick| !tick.alerts.is_empty()).expect("something fires");
    wrong.alerts.pop();
    let Some(output) = promtool(&cases, &ticks) else { return };
    assert!(!output.status.success());
}
