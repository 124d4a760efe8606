//! What is counted, and how much it grows.

use std::collections::HashMap;
use std::sync::Arc;

use super::observation::Observation;
use super::windows::{Counter, WINDOWS, Window};
use crate::sample::{Labels, Reading};

/// What is counted, and the metric that shows how much it grows a second.
const RATES: [(&str, &str); 14] = [
    ("transactions", "throughput_tx_per_second"),
    ("blocks", "throughput_blocks_per_second"),
    ("updates", "updates_per_second"),
    ("bytes", "bytes_per_second"),
    ("duplicates", "duplicates_per_second"),
    ("gaps", "gaps_per_second"),
    ("recovered", "recovered_slots_per_second"),
    ("cpu_seconds", "cpu_cores"),
    ("received_bytes", "network_received_bytes_per_second"),
    ("sent_bytes", "network_sent_bytes_per_second"),
    ("written_bytes", "disk_written_bytes_per_second"),
    ("blocked_seconds", "edge_blocked_ratio"),
    ("edge_items", "edge_items_per_second"),
    ("edge_dropped", "edge_dropped_per_second"),
];

/// Causes of errors: what failed, and what went well.
const CAUSES: [(&str, &[&str], &[&str]); 4] = [
    (
        "malformed",
        &["source_malformed_total", "source_unknown_total", "malformed_total"],
        &["source_updates_total"],
    ),
    ("recovery", &["recovery_failures_total"], &["recovered_slots_total"]),
    ("commit", &["parquet_commit_failures_total"], &["parquet_committed_ranges_total"]),
    ("proof", &["proof_failed_total"], &["proof_proven_total", "proof_counted_total"]),
];

/// Counters that ratios are made of, by the metric that nodes show.
const COUNTED: [(&str, &str); 6] = [
    ("whole", "ledger_whole_slots_total"),
    ("committed", "committed_blocks_total"),
    ("discarded", "discarded_blocks_total"),
    ("firsts", "first_updates_total"),
    ("repeats", "duplicate_updates_total"),
    ("watermark", "watermark_slot"),
];

/// All counters, each over its windows.
#[derive(Debug, Default)]
pub(super) struct Rates {
    counters: HashMap<(&'static str, Labels), Counter>,
}

impl Rates {
    /// Takes what an observation counted.
    pub(super) fn take(&mut self, seen: &Observation) {
        for (name, labels, value) in totals(seen) {
            self.counters.entry((name, labels)).or_default().push(seen.at, value);
        }
    }

    /// All series.
    pub(super) fn show(&self, seen: &Observation, readings: &mut Vec<Reading>) {
        for window in WINDOWS {
            self.show_rates(window, readings);
            self.show_errors(window, readings);
            self.show_ratios(seen, window, readings);
        }
    }

    fn show_rates(&self, window: Window, readings: &mut Vec<Reading>) {
        for ((name, labels), counter) in &self.counters {
            let metric = RATES.iter().find(|(counted, _)| counted == name).map(|(_, metric)| *metric);
            // There are many edges, and who looks at one looks at now.
            let is_wanted = !labels.contains_key("from") || window.length <= WINDOWS[1].length;
            if let (Some(metric), Some(rate), true) = (metric, counter.rate(window), is_wanted) {
                let reading = Reading { metric: Arc::from(metric), labels: labels.clone(), value: rate };
                readings.push(reading.with("window", window.name));
            }
        }
    }

    fn show_errors(&self, window: Window, readings: &mut Vec<Reading>) {
        let mut all = (0.0, 0.0);
        for (cause, ..) in CAUSES {
            let (failed, went_well) =
                (self.growth("failed", cause, window), self.growth("done", cause, window));
            let (Some(failed), Some(went_well)) = (failed, went_well) else { continue };
            all = (all.0 + failed, all.1 + failed + went_well);
            push_share(readings, "error_rate", failed, failed + went_well, window, Some(("cause", cause)));
        }
        push_share(readings, "error_rate", all.0, all.1, window, None);
    }

    fn show_ratios(&self, seen: &Observation, window: Window, readings: &mut Vec<Reading>) {
        let growth = |name: &str| self.growth(name, "", window);
        if let (Some(discarded), Some(committed)) = (growth("discarded"), growth("committed")) {
            push_share(readings, "fork_rate", discarded, discarded + committed, window, None);
        }
        if let (Some(committed), Some(slots)) = (growth("committed"), growth("watermark")) {
            // Before the first slot the watermark is 0, and the step from there is no growth.
            if slots < 1e6 {
                push_share(readings, "skip_rate", (slots - committed).max(0.0), slots, window, None);
            }
        }
        if let (Some(firsts), Some(repeats)) = (growth("firsts"), growth("repeats")) {
            push_share(readings, "duplicate_rate", repeats, firsts + repeats, window, None);
        }
        if let Some(whole) = growth("whole") {
            let missing =
                ["holes", "recovery_searches"].iter().filter_map(|metric| seen.sum(metric)).sum::<f64>();
            let whole = whole + self.growth("recovered", "", window).unwrap_or(0.0);
            push_share(readings, "slot_coverage", whole, whole + missing, window, None);
        }
        self.show_wins(window, readings);
    }

    fn show_wins(&self, window: Window, readings: &mut Vec<Reading>) {
        let Some(all) = self.growth("firsts", "", window) else { return };
        let endpoints = self.counters.iter().filter(|((name, _), _)| *name == "wins");
        for ((_, labels), counter) in endpoints {
            if let (Some((won, _)), Some(endpoint)) = (counter.growth(window), labels.get("endpoint")) {
                push_share(readings, "endpoint_wins_ratio", won, all, window, Some(("endpoint", endpoint)));
            }
        }
    }

    /// How much a counter with at most the label `cause` grew.
    fn growth(&self, name: &str, cause: &str, window: Window) -> Option<f64> {
        let labels = if cause.is_empty() { Labels::new() } else { label("cause", cause) };
        let mut counters = self.counters.iter();
        let counter = counters.find(|((counted, of), _)| *counted == name && *of == labels);
        counter.and_then(|(_, counter)| counter.growth(window)).map(|(growth, _)| growth)
    }
}

/// Pushes a share of what happened, if anything did.
fn push_share(
    readings: &mut Vec<Reading>,
    metric: &str,
    part: f64,
    whole: f64,
    window: Window,
    label: Option<(&'static str, &str)>,
) {
    if whole > 0.0 {
        let mut reading = Reading::new(metric, part / whole).with("window", window.name);
        if let Some((name, value)) = label {
            reading = reading.with(name, value);
        }
        readings.push(reading);
    }
}

fn label(name: &str, value: &str) -> Labels {
    Labels::from([(Arc::from(name), Arc::from(value))])
}

type Total = (&'static str, Labels, f64);

/// Everything that is counted, as it stands.
fn totals(seen: &Observation) -> Vec<Total> {
    let mut totals = Vec::new();
    add_updates(seen, &mut totals);
    for (cause, failures, successes) in CAUSES {
        let sum = |metrics: &[&str]| {
            let found: Vec<f64> = metrics.iter().filter_map(|metric| seen.sum(metric)).collect();
            (!found.is_empty()).then(|| found.iter().sum::<f64>())
        };
        if let (Some(failed), Some(done)) = (sum(failures), sum(successes)) {
            totals.push(("failed", label("cause", cause), failed));
            totals.push(("done", label("cause", cause), done));
        }
    }
    for (name, metric) in COUNTED {
        totals.extend(seen.sum(metric).map(|value| (name, Labels::new(), value)));
    }
    let wins = seen.by_label("first_updates_total").into_iter();
    totals.extend(wins.map(|(endpoint, won)| ("wins", label("endpoint", &endpoint), won)));
    add_system(seen, &mut totals);
    add_edges(seen, &mut totals);
    totals
}

fn add_updates(seen: &Observation, totals: &mut Vec<Total>) {
    for (name, metric, own) in [
        ("updates", "source_updates_total", "endpoint_updates_total"),
        ("bytes", "source_bytes_total", "endpoint_bytes_total"),
    ] {
        totals.extend(seen.sum(metric).map(|value| (name, Labels::new(), value)));
        let endpoints = seen.by_endpoint(own, metric).into_iter();
        totals.extend(endpoints.map(|(endpoint, value)| (name, label("endpoint", &endpoint), value)));
    }
    let kinds = seen.by_label("source_updates_total").into_iter().filter(|(_, value)| *value > 0.0);
    totals.extend(kinds.map(|(kind, value)| ("updates", label("kind", &kind), value)));
    // The first slots are final only after a while; until then there is nothing to hold against a rule.
    if let Some(last) = seen.last_stage().filter(|node| node.passed.0 > 0) {
        totals.push(("transactions", Labels::new(), last.passed.1 as f64));
        totals.push(("blocks", Labels::new(), last.passed.0 as f64));
    }
    for (name, metric) in [("duplicates", "duplicate_updates_total"), ("gaps", "ledger_gaps_total")] {
        totals.extend(seen.sum(metric).map(|value| (name, Labels::new(), value)));
    }
    totals.extend(seen.sum("recovered_slots_total").map(|value| ("recovered", Labels::new(), value)));
    let ways = seen.by_label("recovered_slots_total").into_iter();
    totals.extend(ways.map(|(way, value)| ("recovered", label("way", &way), value)));
}

fn add_system(seen: &Observation, totals: &mut Vec<Total>) {
    let system = &seen.system;
    let mut add = |name, value: Option<f64>| totals.extend(value.map(|value| (name, Labels::new(), value)));
    add("cpu_seconds", system.cpu_seconds);
    add("written_bytes", system.written_bytes.map(|bytes| bytes as f64));
    add("received_bytes", system.network_bytes.map(|(received, _)| received as f64));
    add("sent_bytes", system.network_bytes.map(|(_, sent)| sent as f64));
}

fn add_edges(seen: &Observation, totals: &mut Vec<Total>) {
    for edge in &seen.edges {
        let labels = || {
            let [from, to] = [("from", &edge.from), ("to", &edge.to)]
                .map(|(name, node)| (Arc::from(name), Arc::clone(node)));
            Labels::from([from, to])
        };
        totals.push(("blocked_seconds", labels(), edge.stats.blocked.as_secs_f64()));
        totals.push(("edge_items", labels(), edge.stats.received_items as f64));
        totals.push(("edge_dropped", labels(), edge.stats.dropped_items as f64));
    }
}
