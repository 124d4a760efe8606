//! The graph, the runner, and what the binary `sluice` can be asked to do.

pub mod commands;
pub mod kinds;
pub mod plan;
pub mod report;
mod rules;
pub mod runner;
mod signals;
#[cfg(test)]
mod testing;
