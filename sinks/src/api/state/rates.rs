//! What moved along each edge in the last seconds.

use std::collections::VecDeque;
use std::time::Duration;

use sluice_stages::edge::EdgeSnapshot;
use sluice_stages::slot::Timestamp;
use sluice_stages::watch::Watch;

/// Over how long rates are taken: long enough to be calm, short enough to be now.
const WINDOW: Duration = Duration::from_secs(5);

/// Rates of one edge.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::api) struct EdgeRates {
    /// Items a second.
    pub(in crate::api) items: f64,
    /// Bytes a second.
    pub(in crate::api) bytes: f64,
    /// Items dropped a second.
    pub(in crate::api) dropped: f64,
    /// The share of the time that the sender waited for room, 0 to 1.
    pub(in crate::api) blocked: f64,
    /// The share of the time that the receiver waited for a batch, 0 to 1.
    pub(in crate::api) starved: f64,
}

/// Snapshots of all edges over the window.
#[derive(Debug, Default)]
pub(in crate::api) struct Rates {
    taken: VecDeque<(Timestamp, Vec<EdgeSnapshot>)>,
}

impl Rates {
    /// Takes a snapshot of every edge.
    pub(in crate::api) fn take(&mut self, now: Timestamp, watch: &Watch) {
        let edges = watch.edge_views().iter().map(|edge| edge.stats.snapshot()).collect();
        self.push(now, edges);
    }

    fn push(&mut self, now: Timestamp, edges: Vec<EdgeSnapshot>) {
        while self.taken.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.taken.pop_front();
        }
        self.taken.push_back((now, edges));
    }

    /// The rates of the edge at `position`, none before two snapshots were taken.
    pub(in crate::api) fn edge(&self, position: usize) -> EdgeRates {
        let (Some((began, first)), Some((ended, last))) = (self.taken.front(), self.taken.back()) else {
            return EdgeRates::default();
        };
        let seconds = ended.since(*began).as_secs_f64();
        match (first.get(position), last.get(position)) {
            (Some(first), Some(last)) if seconds > 0.0 => between(first, last, seconds),
            _ => EdgeRates::default(),
        }
    }
}

fn between(first: &EdgeSnapshot, last: &EdgeSnapshot, seconds: f64) -> EdgeRates {
    let rate = |first: u64, last: u64| last.saturating_sub(first) as f64 / seconds;
    let share = |first: Duration, last: Duration| {
        (last.saturating_sub(first).as_secs_f64() / seconds).clamp(0.0, 1.0)
    };
    EdgeRates {
        items: rate(first.received_items, last.received_items),
        bytes: rate(first.received_bytes, last.received_bytes),
        dropped: rate(first.dropped_items, last.dropped_items),
        blocked: share(first.blocked, last.blocked),
        starved: share(first.starved, last.starved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_taken_over_the_window_and_forgets_what_is_older() {
        let mut rates = Rates::default();
        for second in 0..20_u64 {
            let received_items = if second < 10 { second * 1_000 } else { 9_000 + (second - 9) * 10 };
            let blocked = Duration::from_millis(second * 250);
            let edge = EdgeSnapshot { received_items, blocked, ..EdgeSnapshot::default() };
            rates.push(Timestamp(second * 1_000_000), vec![edge]);
        }
        let edge = rates.edge(0);
        assert!((edge.items - 10.0).abs() < 1e-9 && (edge.blocked - 0.25).abs() < 1e-9, "{edge:?}");
        assert_eq!(rates.edge(1), EdgeRates::default());
    }
}
