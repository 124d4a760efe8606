//! The graph, the runner, and what the binary `sluice` can be asked to do.

pub mod commands;
mod draft;
pub mod kinds;
pub mod layers;
mod measured;
pub mod open_files;
pub mod origins;
pub mod overrides;
pub mod plan;
mod redact;
pub mod report;
mod rules;
pub mod runner;
mod signals;
#[cfg(test)]
mod testing;
