//! The routes: one file for each resource.

pub(super) mod alerts;
pub(super) mod commitment;
pub(super) mod config;
pub(super) mod datasets;
pub(super) mod endpoints;
pub(super) mod events;
pub(super) mod graph;
pub(super) mod health;
pub(super) mod history;
pub(super) mod metrics;
pub(super) mod recovery;
pub(super) mod silences;
pub(super) mod slots;
pub(super) mod stream;
pub(super) mod tap;
pub(super) mod transactions;
