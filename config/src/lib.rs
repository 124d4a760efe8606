//! The pipeline TOML: what it may say, where it says it, and how what is wrong with it is shown.

pub mod diagnostic;
pub mod document;
pub mod graph;
pub mod options;
pub mod schema;
pub mod secret;
pub mod settings;
pub mod spelling;
pub mod substitute;
pub mod units;

pub use secret::Secret;
