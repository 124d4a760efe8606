//! The Parquet sink: canonical blocks in, files out that are complete, durable and reproducible.
//!
//! ```text
//!  inbox ─ task ──blocks──► planner ──steps──► encoder (rayon) ──files──► committer ──► <dataset>/epoch=E/F-L.parquet
//!            ▲                 │                                            │
//!            └── requests ─────┴─ what waits behind a hole, bounded         └─ refused: nothing is read, tried again
//! ```
//!
//! A file stands for a fixed, aligned range of slots and is there only if all of them are in it. Its bytes depend on
//! the chain's content and the folder's settings alone. Blocks may come in any order and more than once; anything that
//! is not a block is ignored, but for arrivals, which make a dataset of their own.

mod arrivals;
mod cells;
mod commit;
mod dataset;
mod disk;
mod encode;
mod engine;
mod errors;
mod folder;
mod inventory;
mod meta;
mod missing;
mod options;
mod planner;
mod range;
mod schema;
mod sink;
mod tables;
#[cfg(test)]
pub(crate) mod testing;

pub use cells::KeyFormat;
pub use dataset::Dataset;
pub(crate) use errors::ErrorTexts;
pub use inventory::{Inventory, Lag};
pub(crate) use meta::MetaDetails;
pub use missing::Missing;
pub use options::{ParquetOptions, StartSlot, StartWord};
pub use range::{CommitRange, MAX_SLOT};
pub use schema::schema;
pub(crate) use tables::transactions::is_simple_vote;
