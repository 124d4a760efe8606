//! `spool`: a write-ahead log of raw updates in front of the ledger.
//!
//! ```text
//!           ┌──────────────→ outbox: what an earlier run left, then what comes
//!  inbox ───┤
//!           └→ [64 batches] ─→ log (a thread) ─→ segments: 000000000001.recording, …   group commit
//!                                │  ▲
//!                         events │  │ watermark: what sinks behind have made durable
//! ```
//!
//! What recovery fetches from streams is written down, too, and goes back to it when the pipeline starts again ([`crate::recovery::kept`]).
//!
//! Updates in, the same updates out, at once: the pipeline never waits for a sync. What came is written in the format of
//! [`crate::recording`] and made durable together. When the pipeline starts again, what is in the segments goes out before
//! anything live, as sessions of their own, so that slots which were not committed get back what no RPC has: accounts and
//! entries. What a crash takes is what came within the last `sync_interval`, and what came while nothing ran; both are for
//! recovery, as after any disconnect, and what it fetches is spooled in its turn.
//!
//! Bounded by `max_bytes` and `max_age`; segments behind what all sinks have committed go earlier. A disk that refuses, or
//! is too slow for [`node::PATIENCE`], does not stop the pipeline: it goes on without, says so, and spools again when it
//! can (`spool_lost_updates_total` counts what went past).

mod catalog;
mod commits;
mod log;
mod medium;
pub mod node;

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use crate::recording::options::level_problem;
use crate::recording::player::{Guests, Player};
use crate::recovery::kept::Handover;
use crate::stage::Flow;
use catalog::Bounds;
use commits::Commits;
use medium::Folder;
use node::Spool;

/// Smallest segment: what a block of a recording holds.
const MIN_SEGMENT_BYTES: u64 = 1 << 20;

/// Options of `spool`. It stands in front of the dedupe, behind the merge if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpoolOptions {
    /// The folder for the segments; it is made if it is not there, and belongs to this node alone.
    pub path: PathBuf,
    /// Longest time for which what came is not durable. Default 100ms: a quarter of a slot.
    #[serde(default = "default_sync_interval", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub sync_interval: Duration,
    /// Bytes of updates that are made durable earlier. Default 8MiB.
    #[serde(default = "default_sync_bytes", with = "sluice_config::units::bytes")]
    #[schemars(with = "String")]
    pub sync_bytes: usize,
    /// Size at which a segment ends, which is what can be removed. Default 128MiB.
    #[serde(default = "default_segment_bytes", with = "sluice_config::units::bytes")]
    #[schemars(with = "String")]
    pub segment_bytes: u64,
    /// Most bytes of all segments; beyond, the oldest goes, committed or not. Default 16GiB: three of the usual ranges of
    /// mainnet with its accounts.
    #[serde(default = "default_max_bytes", with = "sluice_config::units::bytes")]
    #[schemars(with = "String")]
    pub max_bytes: u64,
    /// How old the last update of a segment may be, against the newest; beyond, it goes, committed or not. Default 1h.
    #[serde(default = "default_max_age", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub max_age: Duration,
    /// zstd's level, 1 to 22. Default 1: the log shares its cores with everything else.
    #[serde(default = "default_compression_level")]
    pub compression_level: i32,
}

fn default_sync_interval() -> Duration {
    Duration::from_millis(100)
}

fn default_sync_bytes() -> usize {
    8 << 20
}

fn default_segment_bytes() -> u64 {
    128 << 20
}

fn default_max_bytes() -> u64 {
    16 << 30
}

fn default_max_age() -> Duration {
    Duration::from_secs(3_600)
}

fn default_compression_level() -> i32 {
    1
}

impl SpoolOptions {
    fn log_settings(&self) -> log::Settings {
        log::Settings {
            sync_interval: self.sync_interval,
            sync_bytes: self.sync_bytes,
            segment_bytes: self.segment_bytes,
            bounds: Bounds { max_bytes: self.max_bytes, max_age: self.max_age },
            compression_level: self.compression_level,
            head: crate::recording::format::Head::default(),
        }
    }
}

impl Component for SpoolOptions {
    const KIND: &'static str = "spool";
    const ROLE: Role = Role::Stage;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Updates);
    const EMITS: Emits = Emits::Only(Flow::Updates);
    const SUMMARY: &'static str =
        "Keeps raw updates on disk until they are committed, so that a crash loses none of them.";

    fn problems(&self) -> Vec<Problem> {
        let problem = |option: &str, message: String, help: &str| Problem {
            option: option.to_owned(),
            message,
            help: help.to_owned(),
        };
        let mut problems: Vec<_> = level_problem(self.compression_level).into_iter().collect();
        if self.segment_bytes < MIN_SEGMENT_BYTES {
            let message = "a segment has to hold a block of 1MiB".to_owned();
            problems.push(problem("segment_bytes", message, "give 1MiB or more; 128MiB is the default"));
        }
        if self.max_bytes < self.segment_bytes.saturating_mul(2) {
            let message = format!("two segments of {} bytes have to fit", self.segment_bytes);
            problems.push(problem("max_bytes", message, "give at least twice `segment_bytes`"));
        }
        if self.sync_bytes == 0 {
            let message = "nothing could be made durable together".to_owned();
            problems.push(problem("sync_bytes", message, "give 1 or more; 8MiB is the default"));
        }
        problems
    }

    fn claims(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        let folder = Folder::open(&self.path)?;
        let segments = folder.segments()?;
        let guests = Guests::of(context);
        let player = Player::apart(&context.endpoints, guests);
        let start = context.start;
        let settings = self.log_settings();
        let ends = context.shared.get_or_insert_default::<Handover>().leave();
        Ok(Node::Transform(Box::new(Spool { folder, segments, player, start, settings, ends })))
    }
}

/// What sinks that commit files are called.
const COMMITTING_KINDS: [&str; 1] = ["parquet"];

/// What was committed so far in the pipeline that `watch` shows.
fn commits_of(watch: &crate::watch::Watch, start: crate::component::Start) -> Commits {
    let sinks = watch.nodes().iter().filter(|node| COMMITTING_KINDS.contains(&node.kind));
    Commits::new(start, sinks.map(|node| node.name.clone()))
}

#[cfg(test)]
mod tests;
