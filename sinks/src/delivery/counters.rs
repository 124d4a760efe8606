//! What a sink that delivers counts, shared by its tasks and shown once in a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sluice_stages::node::MetricBoard;
use sluice_stages::stage::Metric;

/// How often the counters are shown.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);

/// The counters of one sink.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Messages (or lines) that the receiver has.
    pub(crate) messages: AtomicU64,
    /// Records of blocks and samples that the receiver has.
    pub(crate) records: AtomicU64,
    /// Notices that the receiver has.
    pub(crate) notices: AtomicU64,
    /// Bytes that the receiver has.
    pub(crate) bytes: AtomicU64,
    /// Tries that failed and are repeated.
    pub(crate) retries: AtomicU64,
    /// Those of them that were asked to come later (HTTP 429, SMTP 4xx).
    pub(crate) throttled: AtomicU64,
    /// Messages that will never be taken.
    pub(crate) dead_letters: AtomicU64,
    /// Recipients whom a mail server refused for good, once for each mail.
    pub(crate) refused_recipients: AtomicU64,
    /// Messages that were given up when the pipeline ended.
    pub(crate) abandoned: AtomicU64,
    /// Notices that a newer one of their group, or only a summary, stands for.
    pub(crate) held_back: AtomicU64,
    /// Whether the circuit breaker keeps messages from being tried.
    pub(crate) breaker_open: AtomicBool,
    /// The cursor, 0 without one.
    pub(crate) next_slot: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Counters {
    /// Shows the current values.
    pub(crate) fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        let counters = [
            ("delivery_messages_total", &self.messages),
            ("delivery_records_total", &self.records),
            ("delivery_notices_total", &self.notices),
            ("delivery_bytes_total", &self.bytes),
            ("delivery_retries_total", &self.retries),
            ("delivery_throttled_total", &self.throttled),
            ("delivery_dead_letters_total", &self.dead_letters),
            ("delivery_refused_recipients_total", &self.refused_recipients),
            ("delivery_abandoned_total", &self.abandoned),
            ("delivery_held_back_notices_total", &self.held_back),
        ];
        for (name, counter) in counters {
            show(Metric::new(name, counter.load(Ordering::Relaxed)));
        }
        let open = self.breaker_open.load(Ordering::Relaxed);
        show(Metric::new("delivery_breaker_open", u64::from(open)));
        match self.next_slot.load(Ordering::Relaxed) {
            0 => {}
            slot => show(Metric::new("delivery_next_slot", slot)),
        }
    }
}

/// Shows `counters` for as long as the task lives, also while the sink waits for its receiver.
pub(crate) async fn show_forever(counters: Arc<Counters>, board: MetricBoard) {
    let mut tick = tokio::time::interval(SHOW_INTERVAL);
    loop {
        tick.tick().await;
        board.show(|show| counters.metrics(show));
    }
}
