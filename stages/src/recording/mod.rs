//! Recordings: raw updates as they came, on disk, to be played again.
//!
//! ```text
//!  sources ──→ recorder ──→ file ──→ replay (a source) ──→ the same updates, sessions and order
//!                 └ Encoder ─ Writer    └ Reader ─ Player
//! ```
//!
//! `format` says what is in a file. The recorder, the replay and the [`crate::spool`] share it.

pub mod format;
pub mod options;
pub mod player;
pub mod reader;
pub mod recorder;
pub mod source;
pub mod writer;

pub use options::{RecorderOptions, ReplayOptions};

#[cfg(test)]
mod tests;
