//! What was asked for and could not be done, and why: what was not looked at must not pass for what holds.

use serde::Serialize;

/// A proof that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The chain of hashes of each block.
    #[error("proof of history")]
    Hashes,
    /// The signatures of each transaction.
    #[error("signatures")]
    Signatures,
}

/// Why a proof could not be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
pub enum Obstacle {
    /// Ranges have no file of a dataset that it needs.
    #[error("their ranges have no `{0}`")]
    Missing(&'static str),
    /// A file of a dataset that it needs is damaged.
    #[error("`{0}` of their ranges can't be read")]
    Unreadable(&'static str),
    /// No range that was looked at has entries, so that nothing is proven.
    #[error("none of their ranges has `entries`, so nothing is proven")]
    NoEntries,
    /// There is nothing to prove.
    #[error("there is none to look at")]
    NoBlocks,
}

/// Blocks for which a proof could not be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Undone {
    /// What was asked for.
    pub check: Check,
    /// Why it could not be done.
    pub obstacle: Obstacle,
    /// For how many blocks.
    pub blocks: u64,
}

impl std::fmt::Display for Undone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { check, obstacle, blocks } = self;
        write!(f, "{check}: {blocks} blocks not looked at: {obstacle}")
    }
}

/// Adds blocks to those of the same check and obstacle.
pub(super) fn add(all: &mut Vec<Undone>, check: Check, obstacle: Obstacle, blocks: u64) {
    match all.iter_mut().find(|known| known.check == check && known.obstacle == obstacle) {
        Some(known) => known.blocks += blocks,
        None => all.push(Undone { check, obstacle, blocks }),
    }
}
