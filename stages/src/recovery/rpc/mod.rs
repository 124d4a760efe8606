//! Blocks from one RPC node: `getBlocks` and `getBlock`, at the node's pace.

mod error;
mod fetcher;
mod gate;
mod options;
mod sender;
mod standing;

pub use error::FetchError;
pub use fetcher::{FetchedBlock, RpcFetcher};
pub use options::RpcOptions;
pub use standing::{Offer, Outcome, RpcCounts, Standing};
