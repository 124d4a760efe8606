//! What a monitor measures, as a table: for those who check what is asked of it.

/// A metric, and the labels that tell its series apart. Not each series has each label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// The metric.
    pub metric: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
}

const fn series(metric: &'static str, labels: &'static [&'static str]) -> Series {
    Series { metric, labels }
}

/// Every metric, in alphabetical order; the module's table says what they mean.
pub const SERIES: [Series; 43] = [
    series("bytes_per_second", &["endpoint", "window"]),
    series("cpu_cores", &["window"]),
    series("disk_free_bytes", &["path"]),
    series("disk_free_ratio", &["path"]),
    series("disk_written_bytes_per_second", &["window"]),
    series("duplicate_rate", &["window"]),
    series("duplicates_per_second", &["window"]),
    series("edge_blocked_ratio", &["from", "to", "window"]),
    series("edge_dropped_per_second", &["from", "to", "window"]),
    series("edge_fill_ratio", &["from", "to"]),
    series("edge_items_per_second", &["from", "to", "window"]),
    series("endpoint_lag_slots", &["endpoint"]),
    series("endpoint_up", &["endpoint"]),
    series("endpoint_wins_ratio", &["endpoint", "window"]),
    series("endpoints_up", &[]),
    series("error_rate", &["cause", "window"]),
    series("fork_rate", &["window"]),
    series("gap_slots", &[]),
    series("gaps_per_second", &["window"]),
    series("held_blocks", &[]),
    series("holes", &[]),
    series("lag_seconds", &[]),
    series("lag_slots", &[]),
    series("latency_ms", &["endpoint", "node", "path", "quantile", "window"]),
    series("memory_budget_bytes", &[]),
    series("memory_budget_ratio", &[]),
    series("memory_resident_bytes", &[]),
    series("network_received_bytes_per_second", &["window"]),
    series("network_sent_bytes_per_second", &["window"]),
    series("open_slots", &[]),
    series("recovered_slots_per_second", &["way", "window"]),
    series("recovery_in_flight", &[]),
    series("skip_rate", &["window"]),
    series("slot_coverage", &["window"]),
    series("throughput_blocks_per_second", &["window"]),
    series("throughput_tx_per_second", &["window"]),
    series("tip_slot", &[]),
    series("trend_change_age_seconds", &["of"]),
    series("trend_degradation", &["of"]),
    series("trend_effect_ratio", &["of"]),
    series("trend_slope_per_minute", &["of"]),
    series("updates_per_second", &["endpoint", "kind", "window"]),
    series("watermark_slot", &[]),
];
