//! Reads the columns that the audit needs from a file, and decodes all others to see that they can be.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, PrimitiveArray, RecordBatch, StringArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::folder::DataFile;
use super::report::Fault;

/// Rows decoded at once.
const BATCH_ROWS: usize = 8_192;

/// Calls `each` with every batch of a file; a file that can't be decoded whole is a fault.
pub(super) fn each_batch(
    file: &DataFile,
    mut each: impl FnMut(&RecordBatch) -> Result<(), Fault>,
) -> Result<u64, Fault> {
    // Damaged lengths have made decoders panic; a damaged file is a finding, not the end of the audit.
    let read = catch_unwind(AssertUnwindSafe(|| {
        let unreadable = |error: &dyn std::fmt::Display| Fault::Unreadable(error.to_string());
        let open = File::open(&file.path).map_err(|error| unreadable(&error))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(open).map_err(|error| unreadable(&error))?;
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| unreadable(&error))?;
        let mut rows = 0;
        for batch in reader {
            let batch = batch.map_err(|error| unreadable(&error))?;
            rows += batch.num_rows() as u64;
            each(&batch)?;
        }
        Ok(rows)
    }));
    read.unwrap_or_else(|_| Err(Fault::Unreadable("the decoder panicked".to_owned())))
}

/// A column of numbers.
pub(super) struct Numbers<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

/// The column `name` of 64-bit numbers.
pub(super) fn u64s<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<Numbers<'a, UInt64Type>, Fault> {
    numbers(batch, name)
}

/// The column `name` of 32-bit numbers.
pub(super) fn u32s<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<Numbers<'a, UInt32Type>, Fault> {
    numbers(batch, name)
}

fn numbers<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<Numbers<'a, T>, Fault> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<T>());
    column.map(Numbers).ok_or(Fault::Column(name))
}

impl<T: ArrowPrimitiveType> Numbers<'_, T>
where
    u64: From<T::Native>,
{
    /// The number in `row`, 0 for null.
    pub(super) fn get(&self, row: usize) -> u64 {
        self.0.value(row).into()
    }

    /// The number in `row`, `None` for null.
    pub(super) fn option(&self, row: usize) -> Option<u64> {
        self.0.is_valid(row).then(|| self.get(row))
    }
}

/// A column of keys, hashes or signatures, as text or as bytes.
pub(super) enum Keys<'a> {
    Text(&'a StringArray),
    Bytes(&'a FixedSizeBinaryArray),
}

/// The column `name` of keys.
pub(super) fn keys<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<Keys<'a>, Fault> {
    let column: &ArrayRef = batch.column_by_name(name).ok_or(Fault::Column(name))?;
    match (column.as_string_opt::<i32>(), column.as_fixed_size_binary_opt()) {
        (Some(text), _) => Ok(Keys::Text(text)),
        (None, Some(bytes)) => Ok(Keys::Bytes(bytes)),
        (None, None) => Err(Fault::Column(name)),
    }
}

impl Keys<'_> {
    /// The key in `row`, in the form in which it is stored.
    pub(super) fn get(&self, row: usize) -> &[u8] {
        match self {
            Self::Text(text) => text.value(row).as_bytes(),
            Self::Bytes(bytes) => bytes.value(row),
        }
    }

    /// The key in `row`, for people.
    pub(super) fn show(&self, row: usize) -> String {
        match self {
            Self::Text(text) => text.value(row).to_owned(),
            Self::Bytes(bytes) => bytes.value(row).iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}
