//! Reads the columns that the audit needs from a file, and decodes all others to see that they can be.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, PrimitiveArray, RecordBatch, StringArray};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

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

/// The batches of some columns of a file, each with all that is nested in it.
pub(super) fn batches(file: &DataFile, columns: &[&'static str]) -> Result<ParquetRecordBatchReader, Fault> {
    let unreadable = |error: &dyn std::fmt::Display| Fault::Unreadable(error.to_string());
    let open = File::open(&file.path).map_err(|error| unreadable(&error))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(open).map_err(|error| unreadable(&error))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
    builder.build().map_err(|error| unreadable(&error))
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
#[derive(Clone, Copy)]
pub(super) enum Keys<'a> {
    Text(&'a StringArray),
    Bytes(&'a FixedSizeBinaryArray),
}

/// The column `name` of keys.
pub(super) fn keys<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<Keys<'a>, Fault> {
    Keys::of(batch.column_by_name(name).ok_or(Fault::Column(name))?, name)
}

/// A column of lists of keys.
pub(super) struct KeyLists<'a> {
    offsets: &'a [i32],
    keys: Keys<'a>,
}

/// The column `name` of lists of keys.
pub(super) fn key_lists<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<KeyLists<'a>, Fault> {
    let lists = batch.column_by_name(name).and_then(|column| column.as_list_opt::<i32>());
    let lists = lists.ok_or(Fault::Column(name))?;
    Ok(KeyLists { offsets: lists.value_offsets(), keys: Keys::of(lists.values(), name)? })
}

impl<'a> KeyLists<'a> {
    /// The keys of `row`, in the form in which they are stored.
    pub(super) fn into_keys(self, row: usize) -> impl Iterator<Item = &'a [u8]> {
        let Self { offsets, keys } = self;
        let places = offsets[row] as usize..offsets[row + 1] as usize;
        places.map(move |place| match keys {
            Keys::Text(text) => text.value(place).as_bytes(),
            Keys::Bytes(bytes) => bytes.value(place),
        })
    }

    /// The bytes of the keys of `row`.
    pub(super) fn keys_32(&self, row: usize) -> impl Iterator<Item = Option<[u8; 32]>> {
        self.places(row).map(|place| self.keys.key_32(place))
    }

    /// The bytes of the signatures of `row`.
    pub(super) fn keys_64(&self, row: usize) -> impl Iterator<Item = Option<[u8; 64]>> {
        self.places(row).map(|place| self.keys.key_64(place))
    }

    fn places(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }
}

impl<'a> Keys<'a> {
    /// A column that was found.
    pub(super) fn of(column: &'a ArrayRef, name: &'static str) -> Result<Self, Fault> {
        match (column.as_string_opt::<i32>(), column.as_fixed_size_binary_opt()) {
            (Some(text), _) => Ok(Self::Text(text)),
            (None, Some(bytes)) => Ok(Self::Bytes(bytes)),
            (None, None) => Err(Fault::Column(name)),
        }
    }

    /// The bytes of the key in `row`; `None` if it is not one.
    pub(super) fn key_32(&self, row: usize) -> Option<[u8; 32]> {
        match self {
            Self::Text(text) => sluice_stages::slot::Hash::from_base58(text.value(row)).map(|key| key.0),
            Self::Bytes(bytes) => bytes.value(row).try_into().ok(),
        }
    }

    /// The bytes of the signature in `row`; `None` if it is not one.
    pub(super) fn key_64(&self, row: usize) -> Option<[u8; 64]> {
        match self {
            Self::Text(text) => {
                let mut bytes = [0; 64];
                five8::decode_64(text.value(row), &mut bytes).ok()?;
                Some(bytes)
            }
            Self::Bytes(bytes) => bytes.value(row).try_into().ok(),
        }
    }

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
