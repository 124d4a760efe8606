//! The graph, the runner, and what the binary `sluice` can be asked to do.

pub mod commands;
pub mod kinds;
pub mod plan;
mod rules;
