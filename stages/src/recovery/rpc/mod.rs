//! Blocks from one RPC node: `getBlocks` and `getBlock`, at the node's pace.

mod error;
#[cfg(test)]
pub(crate) mod fake_node;
mod fetcher;
mod gate;
mod options;
mod sender;
mod standing;
mod verdict;

pub use error::FetchError;
pub use fetcher::{FetchedBlock, MAX_LISTED_SLOTS, RpcFetcher};
pub use options::RpcOptions;
pub use standing::{Offer, Outcome, RpcCounts, Standing};
pub(crate) use verdict::{all_paused, verdict};
