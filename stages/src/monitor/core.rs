//! The pure core: observations in, samples out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::observation::{NodeReading, Observation};
use super::rates::Rates;
use super::trend::{Trend, Worse};
use super::windows::{Latencies, QUANTILES, WINDOWS};
use crate::delivery::Delivery;
use crate::sample::{Labels, Reading, Sample};
use crate::slot::Timestamp;

/// A block older than this is a recording that is played again, or a backfill: how far behind now it lies says nothing.
const OLDEST_LIVE: Duration = Duration::from_secs(86_400);
/// A latency's path, and the label that says where it was measured, if it was measured in several places.
type PathKey = (&'static str, Option<(&'static str, Arc<str>)>);

/// A series whose trend is watched: metric, labels, which way is worse, and what is noise.
struct Watched {
    metric: &'static str,
    labels: &'static [(&'static str, &'static str)],
    worse: Worse,
    floor: f64,
}

const WATCHED: [Watched; 7] = [
    watched("throughput_tx_per_second", &[("window", "10s")], Worse::Down, 1.0),
    watched("updates_per_second", &[("window", "10s")], Worse::Down, 1.0),
    watched(
        "latency_ms",
        &[("path", "arrival_to_commit"), ("quantile", "p90"), ("window", "10s")],
        Worse::Up,
        5.0,
    ),
    watched("lag_slots", &[], Worse::Up, 8.0),
    watched("error_rate", &[("window", "10s")], Worse::Up, 0.01),
    watched("duplicate_rate", &[("window", "10s")], Worse::Up, 0.1),
    // Less than what a few slots take is noise.
    watched("memory_resident_bytes", &[], Worse::Up, 67_108_864.0),
];

const fn watched(
    metric: &'static str,
    labels: &'static [(&'static str, &'static str)],
    worse: Worse,
    floor: f64,
) -> Watched {
    Watched { metric, labels, worse, floor }
}

impl Watched {
    fn is(&self, reading: &Reading) -> bool {
        let has =
            |(name, value): &(&str, &str)| reading.labels.get(*name).is_some_and(|found| **found == **value);
        *reading.metric == *self.metric
            && reading.labels.len() == self.labels.len()
            && self.labels.iter().all(has)
    }
}

/// Turns observations into samples.
#[derive(Debug)]
pub(super) struct Monitor {
    rates: Rates,
    latencies: BTreeMap<PathKey, Latencies>,
    trends: Vec<Trend>,
    block_time: Option<i64>,
}

impl Monitor {
    /// A monitor that has seen nothing.
    pub(super) fn new() -> Self {
        let trends = WATCHED.iter().map(|watched| Trend::new(watched.worse, watched.floor)).collect();
        Self { rates: Rates::default(), latencies: BTreeMap::new(), trends, block_time: None }
    }

    /// Takes an observation, and says what it and those before it amount to.
    pub(super) fn sample(&mut self, seen: &Observation) -> Sample {
        self.rates.take(seen);
        self.take_deliveries(seen);
        let mut readings = Vec::new();
        self.rates.show(seen, &mut readings);
        self.show_latencies(seen.at, &mut readings);
        self.show_lag(seen, &mut readings);
        show_endpoints(seen, &mut readings);
        show_edges(seen, &mut readings);
        show_system(seen, &mut readings);
        self.show_trends(seen.at, &mut readings);
        Sample { at: seen.at, readings }
    }

    fn take_deliveries(&mut self, seen: &Observation) {
        let last = seen.last_stage().map(|node| Arc::clone(&node.name));
        for node in &seen.nodes {
            let is_last = last.as_ref() == Some(&node.name);
            for delivery in &node.deliveries {
                if delivery.is_block {
                    self.take_block(node, delivery, is_last);
                } else if node.is_source {
                    self.take_meta(seen.endpoint_of(node, delivery), delivery);
                }
            }
        }
        for latencies in self.latencies.values_mut() {
            latencies.forget(seen.at);
        }
    }

    fn take_meta(&mut self, endpoint: Arc<str>, delivery: &Delivery) {
        let at = delivery.received_at;
        let label = || Some(("endpoint", Arc::clone(&endpoint)));
        if let Some(created_at) = delivery.created_at {
            self.push_latency(("server_to_arrival", label()), delivery.passed_at, at.since(created_at));
        }
        if let Some(latency) = delivery.block_time.and_then(|time| age(at, time)) {
            self.push_latency(("chain_to_arrival", label()), delivery.passed_at, latency);
        }
    }

    fn take_block(&mut self, node: &NodeReading, delivery: &Delivery, is_last: bool) {
        let latency = delivery.passed_at.since(delivery.received_at);
        let label = Some(("node", Arc::clone(&node.name)));
        self.push_latency(("arrival_to_stage", label), delivery.passed_at, latency);
        if is_last {
            self.push_latency(("arrival_to_commit", None), delivery.passed_at, latency);
            self.block_time = self.block_time.max(delivery.block_time);
        }
    }

    fn push_latency(&mut self, path: PathKey, at: Timestamp, latency: Duration) {
        if latency < OLDEST_LIVE {
            self.latencies.entry(path).or_default().push(at, latency);
        }
    }

    fn show_latencies(&self, now: Timestamp, readings: &mut Vec<Reading>) {
        for ((path, label), latencies) in &self.latencies {
            for window in WINDOWS {
                let Some(values) = latencies.quantiles(now, window) else { continue };
                for ((quantile, _), value) in QUANTILES.into_iter().zip(values) {
                    let reading =
                        Reading::new("latency_ms", value).with("path", *path).with("quantile", quantile);
                    let reading = reading.with("window", window.name);
                    readings.push(match label {
                        Some((name, place)) => reading.with(*name, Arc::clone(place)),
                        None => reading,
                    });
                }
            }
        }
    }

    fn show_lag(&self, seen: &Observation, readings: &mut Vec<Reading>) {
        let (tip, watermark) = (tip(seen), seen.highest("watermark_slot"));
        readings.extend(tip.map(|slot| Reading::new("tip_slot", slot)));
        readings.extend(watermark.map(|slot| Reading::new("watermark_slot", slot)));
        if let (Some(tip), Some(watermark)) = (tip, watermark) {
            readings.push(Reading::new("lag_slots", (tip - watermark).max(0.0)));
        }
        let lag = self.block_time.and_then(|time| age(seen.at, time));
        readings.extend(lag.map(|lag| Reading::new("lag_seconds", lag.as_secs_f64())));
        let gauges = [
            ("gap_slots", "ledger_owed_slots"),
            ("holes", "holes"),
            ("recovery_in_flight", "recovery_in_flight"),
            ("open_slots", "ledger_open_slots"),
            ("held_blocks", "held_blocks"),
        ];
        for (name, metric) in gauges {
            readings.extend(seen.sum(metric).map(|value| Reading::new(name, value)));
        }
    }

    fn show_trends(&mut self, now: Timestamp, readings: &mut Vec<Reading>) {
        let disturbed = is_disturbed(readings);
        for (watched, trend) in WATCHED.iter().zip(&mut self.trends) {
            let reading = readings.iter().find(|reading| watched.is(reading) && !disturbed);
            if let Some(reading) = reading {
                trend.push(now, reading.value);
            }
            let Some(found) = trend.finding(now) else { continue };
            let mut show = |metric: &str, value: f64| {
                readings.push(Reading::new(metric, value).with("of", watched.metric));
            };
            show("trend_degradation", found.degradation);
            show("trend_effect_ratio", found.effect);
            show("trend_slope_per_minute", found.slope_per_minute);
            if let Some(changed) = found.changed {
                show("trend_change_age_seconds", changed.as_secs_f64());
            }
        }
    }
}

/// Whether the stream stands still or a hole holds it up. That has alerts of its own; as part of a trend it would ring once
/// more when it is over.
fn is_disturbed(readings: &[Reading]) -> bool {
    let first = |metric: &str, window: Option<&str>| {
        let is = |reading: &&Reading| {
            *reading.metric == *metric
                && reading.labels.get("window").map(|value| &**value) == window
                && reading.labels.len() == usize::from(window.is_some())
        };
        readings.iter().find(is).map(|reading| reading.value)
    };
    first("holes", None).is_some_and(|holes| holes > 0.0)
        || first("endpoints_up", None) == Some(0.0)
        || first("updates_per_second", Some("10s")).is_some_and(|updates| updates < 1.0)
}

/// The highest slot that is believed: the gap detector's, or else what endpoints are at.
fn tip(seen: &Observation) -> Option<f64> {
    seen.highest("tip_slot")
        .or_else(|| seen.highest("endpoint_slot"))
        .or_else(|| seen.highest("source_tip_slot"))
}

/// How long ago a block's time is; none if that is not the live chain.
fn age(now: Timestamp, block_time: i64) -> Option<Duration> {
    let block_time = Timestamp(u64::try_from(block_time).ok()?.checked_mul(1_000_000)?);
    Some(now.since(block_time)).filter(|age| *age < OLDEST_LIVE)
}

fn show_endpoints(seen: &Observation, readings: &mut Vec<Reading>) {
    let connected = seen.by_endpoint("endpoint_connected", "source_connected");
    if !connected.is_empty() {
        readings.push(Reading::new("endpoints_up", connected.values().sum::<f64>()));
    }
    for (endpoint, up) in connected {
        readings.push(Reading::new("endpoint_up", up).with("endpoint", endpoint));
    }
    let Some(tip) = tip(seen) else { return };
    let slots = seen.by_endpoint("endpoint_tip_slot", "source_tip_slot").into_iter();
    for (endpoint, slot) in slots.filter(|(_, slot)| *slot > 0.0) {
        readings.push(Reading::new("endpoint_lag_slots", (tip - slot).max(0.0)).with("endpoint", endpoint));
    }
}

fn show_edges(seen: &Observation, readings: &mut Vec<Reading>) {
    for edge in &seen.edges {
        let fill = |sent: u64, received: u64, capacity: u64| {
            if capacity == 0 {
                0.0
            } else {
                (sent.saturating_sub(received) as f64 / capacity as f64).min(1.0)
            }
        };
        let items = fill(edge.stats.sent_items, edge.stats.received_items, edge.capacity_items);
        let bytes = fill(edge.stats.sent_bytes, edge.stats.received_bytes, edge.capacity_bytes);
        let reading = Reading::new("edge_fill_ratio", items.max(bytes));
        readings.push(reading.with("from", Arc::clone(&edge.from)).with("to", Arc::clone(&edge.to)));
    }
}

fn show_system(seen: &Observation, readings: &mut Vec<Reading>) {
    let (used, limit) = seen.budget;
    readings.push(Reading::new("memory_budget_bytes", used as f64));
    if limit > 0 && limit < usize::MAX {
        readings.push(Reading::new("memory_budget_ratio", used as f64 / limit as f64));
    }
    let resident = seen.system.resident_bytes;
    readings.extend(resident.map(|bytes| Reading::new("memory_resident_bytes", bytes as f64)));
    for (folder, free, total) in &seen.system.disks {
        let labels = Labels::from([(Arc::from("path"), Arc::from(folder.to_string_lossy()))]);
        let mut show = |metric: &str, value: f64| {
            readings.push(Reading { metric: Arc::from(metric), labels: labels.clone(), value });
        };
        show("disk_free_bytes", *free as f64);
        show("disk_free_ratio", *free as f64 / (*total).max(1) as f64);
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
