//! The Yellowstone source: one subscription of one endpoint, kept alive.
//!
//! ```text
//!  gRPC server ══ HTTP/2 windows ══> tonic ── FrameCodec ──> read_ready (256 updates / 1 MiB)
//!       ^                                                        │ Budget::lease
//!       └──── requests (capacity 8) <── pings, answers           v
//!                                                     scan ──> Outbox (blocks when full)
//! ```
//!
//! What to ask for ([`request`]), what to do next ([`connection`]) and what an error means ([`failure`]) are decided by
//! pure code; [`source`] only carries it out.

pub mod client;
pub mod codec;
pub mod connection;
pub mod failure;
pub mod filters;
pub mod options;
mod problems;
pub mod request;
pub mod source;

pub use failure::{Failure, FailureKind};
pub use options::YellowstoneOptions;

/// How to reach an endpoint and what to ask it for: a source's options, which replays of the same endpoint use too.
pub type EndpointOptions = YellowstoneOptions;
