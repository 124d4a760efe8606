//! `entries`: one row for each entry; with the transactions' signatures, all that a proof-of-history check needs.

use std::sync::Arc;

use arrow_array::builder::{UInt32Builder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};

use crate::parquet::cells::{Cells, KeyFormat};
use crate::parquet::schema::{Column, RowError, Storage};
use sluice_stages::batch::Update;
use sluice_stages::slot::Slot;
use sluice_stages::wire::{Fault, Reader, WireError};

/// The columns.
pub(crate) fn columns(keys: KeyFormat) -> Vec<Column> {
    use Storage::{Repeated, Rising, Unique};
    vec![
        super::slot_column("The slot of the block that the entry is part of."),
        Column::new("index", DataType::UInt32, Rising, "Position in the block."),
        Column::new("num_hashes", DataType::UInt64, Repeated, "Hashes since the entry before."),
        Column::new("hash", keys.key_type(), Unique, "The proof-of-history hash at the entry."),
        Column::new(
            "executed_transaction_count",
            DataType::UInt32,
            Repeated,
            "Number of transactions in the entry; 0 for a tick.",
        ),
        Column::new(
            "starting_transaction_index",
            DataType::UInt32,
            Rising,
            "Position in the block of the entry's first transaction: the sum of the counts before.",
        ),
    ]
}

#[derive(Default)]
struct Entry<'a> {
    index: u32,
    num_hashes: u64,
    hash: Option<&'a [u8; 32]>,
    executed_transaction_count: u32,
}

/// The rows of one block.
pub(crate) fn batch(
    schema: SchemaRef,
    keys: KeyFormat,
    slot: Slot,
    updates: &[Update],
) -> Result<RecordBatch, RowError> {
    let mut slots = UInt64Builder::with_capacity(updates.len());
    let mut index = UInt32Builder::with_capacity(updates.len());
    let mut num_hashes = UInt64Builder::with_capacity(updates.len());
    let mut hash = Cells::keys(keys);
    let mut count = UInt32Builder::with_capacity(updates.len());
    let mut starting = UInt32Builder::with_capacity(updates.len());
    // The wire's own starting index is 0 from old servers.
    let mut transactions = 0_u32;
    for update in updates {
        let entry = read(update.frame.body())?;
        slots.append_value(slot);
        index.append_value(entry.index);
        num_hashes.append_value(entry.num_hashes);
        hash.push_unique(entry.hash.unwrap_or(&[0; 32]));
        count.append_value(entry.executed_transaction_count);
        starting.append_value(transactions);
        transactions = transactions.saturating_add(entry.executed_transaction_count);
    }
    let columns = vec![
        Arc::new(slots.finish()) as ArrayRef,
        Arc::new(index.finish()),
        Arc::new(num_hashes.finish()),
        hash.finish()?,
        Arc::new(count.finish()),
        Arc::new(starting.finish()),
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn read(body: &[u8]) -> Result<Entry<'_>, WireError> {
    let mut reader = Reader::new("SubscribeUpdateEntry", body);
    let mut entry = Entry::default();
    while let Some(field) = reader.next_field()? {
        match field.number {
            2 => entry.index = field.index()?,
            3 => entry.num_hashes = field.varint()?,
            4 => entry.hash = Some(field.array::<32>()?),
            5 => entry.executed_transaction_count = field.index()?,
            _ => {}
        }
    }
    if entry.hash.is_none() { Err(reader.error(4, Fault::Missing)) } else { Ok(entry) }
}
