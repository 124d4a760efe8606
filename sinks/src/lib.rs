//! Where a pipeline's items go: Parquet files, and nowhere at all; and the offline audit of what was written.

pub mod discard;
pub mod history;
pub mod parquet;
pub mod verify;
