//! The Yellowstone source: one subscription of one endpoint, kept alive.
//!
//! ```text
//!  gRPC server ══ HTTP/2 windows ══> tonic ── FrameCodec ──> read_ready (256 updates / 1 MiB)
//!       ^                                                        │ Budget::lease
//!       └──── requests (capacity 8) <── pings, answers           v
//!                                                     scan ──> Outbox (blocks when full)
//! ```
//!
//! A source of several endpoints has one such task for each, and a group that says which of them are subscribed to in
//! full, which stand by and which rest.
//!
//! What to ask for ([`request`]), what to do next with one endpoint ([`connection`]) and with all of
//! them ([`group`]), and what an error means ([`failure`]) are decided by pure code; [`source`] only carries it
//! out.

mod check;
pub mod client;
pub mod codec;
pub mod connection;
mod crew;
pub mod endpoints;
pub mod failure;
pub mod filters;
pub mod group;
pub mod health;
pub mod link;
mod live;
pub mod options;
pub mod probe;
mod problems;
pub mod race;
pub mod request;
pub mod source;
mod subscriber;
pub mod windows;

pub use failure::{Failure, FailureKind};
pub use options::YellowstoneOptions;

/// How to reach an endpoint and what to ask it for: a source's options, which replays of the same endpoint use too.
pub type EndpointOptions = YellowstoneOptions;
