//! `car`: an Old Faithful archive, a file or behind HTTP, as a source of whole blocks.
//!
//! In: a CARv1 file of one epoch. Out: an [`Item::Begin`](crate::batch::Item::Begin), then each block in the file's order,
//! which is that of the slots, in the very frames that a live stream would have brought.
//!
//! ```text
//!  file, or HTTP ranges ──8 MiB──→ sections ──→ nodes ──→ accumulator ──→ frames ──→ block
//!                                  CID checked  DAG-CBOR  until the Block   zstd, protobuf
//! ```
//!
//! Each section's content is checked against its CID (sha2-256), each block against the one before it, and at the end the
//! epoch's lists of blocks against those that came, so a file that was cut, or lacks something, is told. All hangs on the
//! root that the header names, which can be held against the one that was published for the epoch. Formats: CARv1
//! <https://ipld.io/specs/transport/car/carv1/>, DAG-CBOR <https://ipld.io/specs/codecs/dag-cbor/spec/>, the ledger's
//! schema <https://github.com/rpcpool/yellowstone-faithful/blob/main/ledger.ipldsch>.
//!
//! What a file can't tell: the blockhash before its first block, and whether slots behind its last one were skipped. Both
//! are asked of an RPC node if one is given; else the first and the last commit range stay holes, which `sluice repair`
//! fills. A block of which an outcome is missing or can't be read is a hole, too; archives are known to lack some. Outcomes
//! and rewards are protobuf, or bincode in the earliest epochs (`legacy`). Entries are in the file but carry too little to
//! be made rows of; accounts are not in it.

mod accumulator;
mod cbor;
mod convert;
mod feed;
mod legacy;
#[cfg(test)]
mod mutilation_tests;
mod node;
mod options;
mod root;
mod section;
mod source;

pub use options::CarOptions;
pub use root::CarRoot;
