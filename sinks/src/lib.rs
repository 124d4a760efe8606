//! Where a pipeline's items go: Parquet files, receivers of webhooks, files, people; and the offline audit of what was
//! written.

pub mod api;
pub mod console;
pub mod delivery;
pub mod discard;
pub mod email;
pub mod file;
pub mod history;
pub mod parquet;
pub mod verify;
pub mod webhook;

#[cfg(test)]
mod monitoring_tests;
