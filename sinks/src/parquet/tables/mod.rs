//! The datasets: the columns of each, and how rows come from the wire.

pub(crate) mod accounts;
pub(crate) mod blocks;
pub(crate) mod entries;
pub(crate) mod instructions;
pub(crate) mod rewards;
pub(crate) mod skipped_slots;
pub(crate) mod token_balances;
pub(crate) mod transactions;

use arrow_schema::DataType;

use super::dataset::Dataset;
use super::schema::{Column, Storage};

/// The columns that rows of `dataset` are sorted by; together they are its key.
pub(crate) fn sorted_by(dataset: Dataset) -> &'static [&'static str] {
    match dataset {
        Dataset::Blocks | Dataset::SkippedSlots => &["slot"],
        Dataset::Transactions | Dataset::Entries | Dataset::Rewards => &["slot", "index"],
        Dataset::Instructions => &["slot", "transaction_index", "index"],
        Dataset::TokenBalances => &["slot", "transaction_index"],
        Dataset::Accounts => &["slot", "pubkey"],
    }
}

fn slot_column(description: &str) -> Column {
    Column::new("slot", DataType::UInt64, Storage::Rising, description)
}

fn transaction_index_column() -> Column {
    let description = "Position in the block of the transaction, as in transactions.index.";
    Column::new("transaction_index", DataType::UInt32, Storage::Rising, description)
}
