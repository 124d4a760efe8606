//! Reads the columns that the audit needs from a file, and decodes all others to see that they can be.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, PrimitiveArray, RecordBatch, StringArray};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;

use super::folder::DataFile;
use super::report::Fault;

/// Of a value that is wrong, so much is shown: the longest signature has 88.
const SHOWN_CHARS: usize = 100;
/// Rows decoded at once.
const BATCH_ROWS: usize = 8_192;

/// Bytes of keys and hashes, and of signatures.
pub(super) const KEY_32: usize = 32;
pub(super) const KEY_64: usize = 64;

/// Calls `each` with every batch of a file; a file that can't be decoded whole is a fault.
pub(super) fn each_batch(
    file: &DataFile,
    mut each: impl FnMut(&RecordBatch) -> Result<(), Fault>,
) -> Result<u64, Fault> {
    guarded(|| {
        let mut rows = 0;
        for batch in open(file, None)? {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            each(&batch)?;
        }
        Ok(rows)
    })
}

/// The batches of some columns of a file, each with all that is nested in it.
pub(super) fn batches(file: &DataFile, columns: &[&'static str]) -> Result<Batches, Fault> {
    open(file, Some(columns))
}

/// The batches of a file, up to the first that can't be decoded, which is a fault.
pub(super) struct Batches {
    reader: Option<ParquetRecordBatchReader>,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let next = guarded(|| reader.next().transpose().map_err(|error| unreadable(&error))).transpose();
        if !matches!(next, Some(Ok(_))) {
            self.reader = None;
        }
        next
    }
}

fn open(file: &DataFile, columns: Option<&[&'static str]>) -> Result<Batches, Fault> {
    guarded(|| {
        let file = File::open(&file.path).map_err(|error| unreadable(&error))?;
        let mut builder =
            ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(&error))?;
        check_codecs(builder.metadata())?;
        if let Some(columns) = columns {
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            builder = builder.with_projection(mask);
        }
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| unreadable(&error))?;
        Ok(Batches { reader: Some(reader) })
    })
}

/// Damaged lengths have made decoders panic; a damaged file is a finding, not the end of the audit.
fn guarded<T>(read: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(Fault::Unreadable("the decoder panicked".to_owned())))
}

fn unreadable(error: &dyn std::fmt::Display) -> Fault {
    Fault::Unreadable(error.to_string())
}

/// Says by its name which codec is not known here: other writers have other defaults.
fn check_codecs(metadata: &ParquetMetaData) -> Result<(), Fault> {
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    let mut codecs = columns.map(|column| column.compression());
    match codecs.find(|codec| !matches!(codec, Compression::UNCOMPRESSED | Compression::ZSTD(_))) {
        Some(codec) => Err(Fault::Codec(codec.to_string())),
        None => Ok(()),
    }
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
    name: &'static str,
    offsets: &'a [i32],
    keys: Keys<'a>,
}

/// The column `name` of lists of keys.
pub(super) fn key_lists<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<KeyLists<'a>, Fault> {
    let lists = batch.column_by_name(name).and_then(|column| column.as_list_opt::<i32>());
    let lists = lists.ok_or(Fault::Column(name))?;
    Ok(KeyLists { name, offsets: lists.value_offsets(), keys: Keys::of(lists.values(), name)? })
}

impl<'a> KeyLists<'a> {
    /// The keys of `row`, in the form in which they are stored.
    pub(super) fn into_keys(self, row: usize) -> impl Iterator<Item = &'a [u8]> {
        let Self { offsets, keys, .. } = self;
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

    /// The bytes of the signatures of `row`; a fault for each that is not one.
    pub(super) fn keys_64(&self, row: usize) -> impl Iterator<Item = Result<[u8; 64], Fault>> {
        let wrong = |place| self.keys.wrong(self.name, place, KEY_64);
        self.places(row).map(move |place| self.keys.key_64(place).ok_or_else(|| wrong(place)))
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

    /// The fault that the value in `row` of the column `name` is no key of so many `bytes`.
    pub(super) fn wrong(&self, name: &'static str, row: usize, bytes: usize) -> Fault {
        let shown = self.show(row);
        let end = shown.char_indices().nth(SHOWN_CHARS).map_or(shown.len(), |(end, _)| end);
        Fault::Value(name, shown[..end].to_owned(), bytes)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::basic::Type as Physical;
    use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, RowGroupMetaData};
    use parquet::schema::types::{SchemaDescriptor, Type};

    use super::*;

    fn packed_with(codec: Compression) -> ParquetMetaData {
        let column = Type::primitive_type_builder("slot", Physical::INT64).build().expect("a column");
        let schema = Type::group_type_builder("schema").with_fields(vec![Arc::new(column)]).build();
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(schema.expect("a schema"))));
        let chunk = ColumnChunkMetaData::builder(schema.column(0)).set_compression(codec).build();
        let group = RowGroupMetaData::builder(Arc::clone(&schema)).add_column_metadata(chunk.expect("whole"));
        let file = FileMetaData::new(1, 0, None, None, schema, None);
        ParquetMetaData::new(file, vec![group.build().expect("whole")])
    }

    #[test]
    fn a_codec_that_is_not_known_is_named() {
        let fault = check_codecs(&packed_with(Compression::SNAPPY)).expect_err("not known");
        assert!(fault.to_string().starts_with("packed with SNAPPY, "), "{fault}");
        for codec in [Compression::UNCOMPRESSED, Compression::ZSTD(Default::default())] {
            assert_eq!(check_codecs(&packed_with(codec)), Ok(()));
        }
    }
}
