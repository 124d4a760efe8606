//! `blocks`: one row for each block.

use std::sync::Arc;

use arrow_array::builder::{Int64Builder, UInt32Builder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::parquet::cells::{Cells, KeyFormat};
use crate::parquet::meta::MetaDetails;
use crate::parquet::schema::{Column, Storage};
use sluice_stages::frame::BlockMeta;

/// The columns.
pub(crate) fn columns(keys: KeyFormat) -> Vec<Column> {
    use Storage::{Rising, Unique};
    vec![
        super::slot_column("The slot that the block was made in."),
        Column::new("blockhash", keys.key_type(), Unique, "The block's hash: that of its last entry."),
        Column::new(
            "parent_slot",
            DataType::UInt64,
            Rising,
            "The slot of the block that this one builds on.",
        ),
        Column::new("parent_blockhash", keys.key_type(), Unique, "The hash of the block in parent_slot."),
        Column::new(
            "block_time",
            DataType::Int64,
            Rising,
            "Estimated production time in unix seconds; null where the chain has none.",
        )
        .nullable(),
        Column::new(
            "block_height",
            DataType::UInt64,
            Rising,
            "Number of blocks beneath this one; null for blocks older than the field.",
        )
        .nullable(),
        Column::new(
            "executed_transaction_count",
            DataType::UInt32,
            Rising,
            "Number of transactions in the block, votes and failed ones included.",
        ),
    ]
}

/// The row of one block.
pub(crate) fn batch(
    schema: SchemaRef,
    keys: KeyFormat,
    meta: &BlockMeta,
    details: &MetaDetails,
) -> Result<RecordBatch, ArrowError> {
    let (mut blockhash, mut parent_blockhash) = (Cells::keys(keys), Cells::keys(keys));
    blockhash.push_unique(&meta.blockhash.0);
    parent_blockhash.push_unique(&meta.parent_blockhash.0);
    let number = |value: u64| -> ArrayRef {
        let mut column = UInt64Builder::with_capacity(1);
        column.append_value(value);
        Arc::new(column.finish())
    };
    let mut block_time = Int64Builder::with_capacity(1);
    block_time.append_option(details.block_time);
    let mut block_height = UInt64Builder::with_capacity(1);
    block_height.append_option(details.block_height);
    let mut count = UInt32Builder::with_capacity(1);
    count.append_value(meta.executed_transaction_count);
    RecordBatch::try_new(
        schema,
        vec![
            number(meta.slot),
            blockhash.finish()?,
            number(meta.parent_slot),
            parent_blockhash.finish()?,
            Arc::new(block_time.finish()),
            Arc::new(block_height.finish()),
            Arc::new(count.finish()),
        ],
    )
}
