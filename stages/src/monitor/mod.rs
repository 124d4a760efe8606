//! `monitor`: measures the pipeline that it stands in, once a second.
//!
//! ```text
//!  Watch (boards, edges, budget), /proc, statvfs ─→ Observation ─ pure core ─→ Item::Sample ─→ alerts, history, API
//! ```
//!
//! In: nothing but a look at what all nodes show anyway, so its cost does not depend on the load. Out: one
//! [`Item::Sample`](crate::batch::Item) a tick, with every series that has a value:
//!
//! | series | labels |
//! | --- | --- |
//! | `throughput_tx_per_second`, `throughput_blocks_per_second` | `window`; behind the commitment stage |
//! | `updates_per_second`, `bytes_per_second` | `window`, and `kind` or `endpoint`; pings and pongs are none |
//! | `latency_ms` | `quantile`, `window`, `path`: `server_to_arrival` and `chain_to_arrival` (`endpoint`), `arrival_to_stage` (`node`), `arrival_to_commit` |
//! | `error_rate` | `window`, and `cause`: `malformed`, `recovery`, `commit`, `proof` |
//! | `slot_coverage`, `fork_rate`, `skip_rate`, `duplicate_rate` | `window` |
//! | `duplicates_per_second`, `gaps_per_second`, `recovered_slots_per_second` | `window`, and `way` |
//! | `lag_slots`, `lag_seconds`, `tip_slot`, `watermark_slot`, `gap_slots`, `holes`, `recovery_in_flight`, `open_slots`, `held_blocks` | |
//! | `endpoint_up`, `endpoint_lag_slots`, `endpoint_wins_ratio`; `endpoints_up` | `endpoint` |
//! | `edge_fill_ratio`, `edge_blocked_ratio`, `edge_items_per_second`, `edge_dropped_per_second` | `from`, `to`, and `window` |
//! | `memory_resident_bytes`, `memory_budget_bytes`, `memory_budget_ratio`, `cpu_cores` | |
//! | `network_received_bytes_per_second`, `network_sent_bytes_per_second`, `disk_written_bytes_per_second` | `window` |
//! | `disk_free_bytes`, `disk_free_ratio` | `path`: each file or folder that a node keeps to itself |
//! | `trend_degradation`, `trend_effect_ratio`, `trend_slope_per_minute`, `trend_change_age_seconds` | `of` |
//!
//! `window` is `10s`, `1m`, `5m` or `1h`. The chain's time has whole seconds, so `chain_to_arrival` is that coarse.

mod core;
mod observation;
mod options;
mod rates;
mod series;
mod shell;
mod system;
mod trend;
mod windows;

pub use options::MonitorOptions;
pub use series::{SERIES, Series};
