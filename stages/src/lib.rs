//! What Sluice is made of between the sockets and the sinks: updates, frames and the wire scan; sources (endpoints,
//! recordings, RPC, archives, the monitor); the stages from merge to alert evaluator; and what watches a pipeline.

pub mod account;
pub mod alert;
pub mod alert_evaluator;
pub mod backfill;
pub mod batch;
pub mod batcher;
pub mod block;
pub mod budget;
pub mod candidates;
pub mod car;
mod chain;
pub mod commitment;
pub mod component;
pub mod dedupe;
pub mod delivery;
pub mod dispute;
pub mod edge;
pub mod entry;
pub mod filter;
#[cfg(test)]
mod fixtures;
pub mod frame;
pub mod gap_detector;
pub mod http_url;
pub mod matcher;
pub mod merge;
pub mod metrics_tap;
pub mod monitor;
pub mod node;
pub mod process_lock;
pub mod proof;
pub mod recording;
pub mod recovery;
pub mod sample;
pub mod silence;
pub mod slot;
pub mod spool;
pub mod stage;
pub mod tap;
pub mod time_text;
pub mod tip;
pub mod transaction;
pub mod watch;
pub mod wire;
pub mod yellowstone;
