//! `rpc_blocks`: ranges of slots from RPC nodes, in order, as a source of whole blocks.
//!
//! In: nothing but the nodes' answers. Out: an [`Item::Begin`](crate::batch::Item::Begin), then the finalized block of
//! each slot in rising order, each vouched for as finalized, in the very frames that a live stream would have brought
//! ([`crate::recovery::convert`]). Behind the last block of a stretch comes the first one beyond it, which proves the
//! stretch's end. A pipeline is backfilled by this source in the place of its live ones.
//!
//! ```text
//!            ┌── planner (pure) ──┐           at most `max_in_flight` questions at a time, fewer while the nodes
//!   answers  │  list, fetch, link │ asks      push back; each is a task of a JoinSet that the source owns
//!     ┌──────┘                    └─────┐
//!     └── RpcPool: each node's limit ◄──┘     blocks that wait for others, or to be taken: at most four times
//!                                             `max_in_flight`; while one is sent, answers go on coming in
//! ```
//!
//! A slot is skipped when the parent link of a finalized block passes over it, and for no other reason: lists of slots
//! are hints, errors prove nothing. What can't be had is a hole: it is reported, the rest of its commit range is not
//! fetched, and the source goes on behind that.

mod maker;
mod options;
mod plan;
mod search;
mod source;

pub use maker::BlockMaker;
pub(crate) use options::range_problems;
pub use options::{RpcBlocksOptions, SlotRange};
pub use plan::{Answer, Ask, Bounds, Failure, FailureKind, Planner, Room};
