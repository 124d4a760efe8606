//! What the binary can be asked to do: one file for each command, with its arguments.

pub mod graph;
pub mod list;
pub mod validate;
