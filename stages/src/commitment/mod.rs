//! `commitment`: holds each slot until it has the wanted level, and lets only the canonical chain through.
//!
//! Blocks, statuses and gaps in; blocks and statuses out. A version of a slot is canonical when
//!
//! * a status of the level, from a lane that is bound to its blockhash, says so, or
//! * a canonical child names it as its parent, or
//! * whoever delivered it vouches for the level (RPC is asked for it).
//!
//! From each canonical version the parent links lead down: what they name is canonical, what they pass over is orphaned.
//! Blocks that are let out at one time go in slot order; a hole holds up nobody but itself. Dead and orphaned versions
//! are reported and counted (`discarded_blocks_total{reason}`). At `processed` nothing is held.
//!
//! The level is fixed, or adaptive: then `observer` measures what passes, and the rule in [`adaptive`] decides between
//! the wanted level and the safer ones. A switch loses nothing and repeats nothing: what went out stays out, what is held
//! waits for the new level, which has a chain of its own (`tiers`).
//!
//! Bounded by finality: what lies `keep_slots` below the highest slot of the level is forgotten.

pub mod adaptive;
mod holder;
mod observer;
mod tiers;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use crate::slot::Commitment as Level;
use crate::stage::Flow;
use adaptive::Thresholds;
pub use holder::Commitment;

/// How the level is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// It is always `level`.
    #[default]
    Fixed,
    /// It is `level` in calm, and a safer one while conditions are bad.
    Adaptive,
}

/// Options of `commitment`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommitmentOptions {
    /// The level that a slot has to reach: `processed`, `confirmed` or `finalized`, which never takes anything back and
    /// costs some 13 seconds. With `strategy = "adaptive"` it is the lowest level that may be chosen. Default: what the
    /// pipeline's profile says, and finalized before a sink that insists on it.
    #[schemars(with = "String", extend("enum" = ["processed", "confirmed", "finalized"]))]
    pub level: Level,
    /// How the level is chosen: `fixed`, or `adaptive` by the conditions. Default fixed.
    pub strategy: Strategy,
    /// When conditions are bad, and how fast to act on it, if the strategy is adaptive.
    pub thresholds: Thresholds,
    /// How many slots below the highest one of the level are remembered, so that parts which come late still find their
    /// slot. Default 4,096: half an hour.
    pub keep_slots: u64,
    /// How long a canonical slot may be missing before it is asked for again. Default 5s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub request_interval: Duration,
}

impl Default for CommitmentOptions {
    fn default() -> Self {
        Self {
            level: Level::Finalized,
            strategy: Strategy::default(),
            thresholds: Thresholds::default(),
            keep_slots: 4_096,
            request_interval: Duration::from_secs(5),
        }
    }
}

impl Component for CommitmentOptions {
    const KIND: &'static str = "commitment";
    const ROLE: Role = Role::Stage;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Blocks);
    const EMITS: Emits = Emits::Only(Flow::Blocks);
    const SUMMARY: &'static str = "Holds slots until they are settled; discards dead and orphaned forks.";

    fn problems(&self) -> Vec<Problem> {
        self.thresholds.problems("thresholds")
    }

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Stage(Box::new(Commitment::new(self))))
    }
}
