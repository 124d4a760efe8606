//! What the binary can be asked to do: one file for each command, with its arguments.

pub mod alert;
mod api_client;
pub mod backfill;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod endpoints;
pub mod graph;
pub mod list;
pub mod prove;
pub mod record;
pub mod repair;
pub mod run;
pub mod silence;
pub mod tap;
pub mod top;
pub mod validate;
pub mod verify;
