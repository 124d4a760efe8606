//! `api`: shows a running pipeline over HTTP: a REST API under `/api/v1`, its description at `/openapi.json`, Prometheus
//! text at `/metrics`, a stream of server-sent events, and a dashboard at `/performance`.
//!
//! ```text
//!  inbox (blocks, samples, alerts) ─┐
//!  Watch (metrics, edges, events) ──┼─→ Live (bounded) ──→ routes ──→ connections (bounded)
//!  tick, 1 s ───────────────────────┘        └─ frames (64) ─→ /stream clients (bounded, slow ones miss frames)
//! ```
//!
//! The sink takes its inbox empty at once, whoever asks for what: nothing that a client does can hold the pipeline up.
//! All that is kept is bounded: see `state`. Every error is a problem document (RFC 9457).

mod assets;
mod conditional;
mod frame;
mod guard;
mod listing;
mod openapi;
mod options;
mod patient;
mod problem;
mod query;
mod rate_limit;
mod router;
mod routes;
mod server;
mod shared;
mod sink;
mod state;
#[cfg(test)]
mod tests;
mod token;

pub use options::{ApiOptions, TlsFiles};
