//! `recovery`: fetches what the ledger says is missing.
//!
//! Blocks, statuses and gaps in; the same blocks and statuses, and the recovered blocks, out. What to fetch next is
//! decided by a pure [`plan::Planner`]; this file runs the fetches around it.
//!
//! ```text
//!  inbox ──→ planner ──→ outbox            at most `max_in_flight` fetches at a time;
//!              │  ▲                        each is a task of a JoinSet that this node owns
//!       fetches│  │results (bounded)
//!              ▼  │
//!     replay: endpoint from_slot     rpc: getBlocks, getBlock
//! ```

pub mod convert;
pub mod fetch;
pub mod ledger_format;
pub mod pace;
pub mod plan;
pub mod replay;
pub mod rpc;
mod sender;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of `recovery`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecoveryOptions {
    /// The RPC node to ask for blocks. Without one only replays are tried, and what they can't give stays a hole.
    pub rpc: Option<String>,
    /// Whether to ask the pipeline's endpoints for a `from_slot` replay before RPC. Default true.
    pub replay: bool,
    /// How many slots behind the tip a replay may begin: it brings everything since. Default 150, the plugin's default
    /// window.
    pub max_replay_slots: u64,
    /// Slots that are looked at together for one replay. Default 100.
    pub batch_size: usize,
    /// Fetches under way at a time. Default 8.
    pub max_in_flight: usize,
    /// Tries of RPC before a slot is called a hole. Default 3.
    pub max_retries: u32,
    /// The first wait between tries. Default 250ms; doubled with each try, with full jitter.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub min_backoff: Duration,
    /// The longest wait between tries. Default 30s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub max_backoff: Duration,
    /// How often a hole is tried again, for as long as the pipeline runs. Default 30s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub hole_interval: Duration,
}

impl Default for RecoveryOptions {
    fn default() -> Self {
        Self {
            rpc: None,
            replay: true,
            max_replay_slots: 150,
            batch_size: 100,
            max_in_flight: 8,
            max_retries: 3,
            min_backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(30),
            hole_interval: Duration::from_secs(30),
        }
    }
}
