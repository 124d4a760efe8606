//! How columns are described and stored.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, Encoding, Type as PhysicalType, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::SchemaDescriptor;

use sluice_stages::slot::Slot;
use sluice_stages::wire::WireError;

use super::cells::KeyFormat;
use super::dataset::Dataset;
use super::tables;

/// Written into each file. Part of the bytes, so it changes only together with [`FORMAT_VERSION`].
const CREATED_BY: &str = "sluice";
/// Counts changes to schemas or encodings; two folders of one version compare byte by byte.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// The key of a column's description in Arrow's field metadata.
pub(crate) const DESCRIPTION_KEY: &str = "description";
/// The key under which Arrow keeps its own copy of the schema.
const ARROW_SCHEMA_KEY: &str = "ARROW:schema";
/// Room for the distinct keys of a row group: 95,000 in base58. Beyond it a column falls back to plain.
const DICTIONARY_PAGE_BYTES: usize = 4 << 20;

/// How a column is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Numbers that rise from row to row: differences, and the bounds of each page for pruning.
    Rising,
    /// Values that come again and again: a dictionary.
    Repeated,
    /// Values that hardly do, so that looking for repeats is wasted.
    Unique,
}

/// A column of a dataset.
pub(crate) struct Column {
    field: Field,
    storage: Storage,
}

impl Column {
    /// A column that is never null.
    pub(crate) fn new(name: &str, kind: DataType, storage: Storage, description: &str) -> Self {
        let metadata = [(DESCRIPTION_KEY.to_owned(), description.to_owned())];
        let field = Field::new(name, kind, false).with_metadata(HashMap::from(metadata));
        Self { field, storage }
    }

    /// The same column, null where the chain has no value.
    pub(crate) fn nullable(mut self) -> Self {
        self.field = self.field.with_nullable(true);
        self
    }
}

/// The schema of a dataset and how it is stored.
pub(crate) struct Table {
    /// The dataset.
    pub(crate) dataset: Dataset,
    /// Its columns.
    pub(crate) schema: SchemaRef,
    /// How they are written.
    pub(crate) properties: WriterProperties,
}

impl Table {
    /// The table of `dataset`.
    pub(crate) fn try_new(dataset: Dataset, keys: KeyFormat, level: i32) -> Result<Self, ParquetError> {
        let columns = columns(dataset, keys);
        let schema = schema_of(&columns);
        let parquet_schema = ArrowSchemaConverter::new().convert(&schema)?;
        let mut builder = properties(dataset, &columns, level)?;
        for leaf in parquet_schema.columns() {
            let name = leaf.path().parts().first().map(String::as_str);
            let column = columns.iter().find(|column| Some(column.field.name().as_str()) == name);
            let path = leaf.path().clone();
            let storage = column.map_or(Storage::Unique, |column| column.storage);
            builder = builder.set_column_dictionary_enabled(path.clone(), storage == Storage::Repeated);
            if let Some(encoding) = encoding(leaf.physical_type()) {
                builder = builder.set_column_encoding(path.clone(), encoding);
            }
            if storage == Storage::Rising {
                builder = builder.set_column_statistics_enabled(path, EnabledStatistics::Page);
            }
        }
        builder = builder.set_sorting_columns(Some(sorting(dataset, &parquet_schema)));
        Ok(Self { dataset, schema, properties: builder.build() })
    }
}

/// The encoding where there is no dictionary, or no room in it any more. The default for bytes would look for common
/// prefixes, which keys and signatures do not have, at an allocation for each value.
fn encoding(physical: PhysicalType) -> Option<Encoding> {
    match physical {
        PhysicalType::INT32 | PhysicalType::INT64 => Some(Encoding::DELTA_BINARY_PACKED),
        PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY => Some(Encoding::PLAIN),
        _ => None,
    }
}

/// The schema of `dataset`, for whoever reads it.
pub fn schema(dataset: Dataset, keys: KeyFormat) -> SchemaRef {
    schema_of(&columns(dataset, keys))
}

fn schema_of(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>()))
}

fn columns(dataset: Dataset, keys: KeyFormat) -> Vec<Column> {
    match dataset {
        Dataset::Blocks => tables::blocks::columns(keys),
        Dataset::Transactions => tables::transactions::columns(keys),
        Dataset::Instructions => tables::instructions::columns(keys),
        Dataset::TokenBalances => tables::token_balances::columns(keys),
        Dataset::Rewards => tables::rewards::columns(keys),
        Dataset::SkippedSlots => tables::skipped_slots::columns(),
        Dataset::Entries => tables::entries::columns(keys),
        Dataset::Accounts => tables::accounts::columns(keys),
    }
}

fn properties(
    dataset: Dataset,
    columns: &[Column],
    level: i32,
) -> Result<WriterPropertiesBuilder, ParquetError> {
    // Version 1 pages would drop the dictionary of fixed-size keys without a word.
    Ok(WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?))
        .set_dictionary_page_size_limit(DICTIONARY_PAGE_BYTES)
        .set_statistics_enabled(EnabledStatistics::None)
        // Row groups are cut where slots say so, and nowhere else.
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(descriptions(dataset, columns))))
}

fn descriptions(dataset: Dataset, columns: &[Column]) -> Vec<KeyValue> {
    let mut pairs = vec![
        KeyValue::new("sluice.dataset".to_owned(), dataset.name().to_owned()),
        KeyValue::new("sluice.format_version".to_owned(), FORMAT_VERSION.to_string()),
    ];
    pairs.extend(columns.iter().map(|column| {
        let text = column.field.metadata().get(DESCRIPTION_KEY).cloned().unwrap_or_default();
        KeyValue::new(format!("sluice.description.{}", column.field.name()), text.to_string())
    }));
    debug_assert!(pairs.iter().all(|pair| pair.key != ARROW_SCHEMA_KEY));
    pairs
}

fn sorting(dataset: Dataset, schema: &SchemaDescriptor) -> Vec<SortingColumn> {
    let position = |name: &str| schema.columns().iter().position(|leaf| leaf.path().string() == name);
    let sorted = tables::sorted_by(dataset).iter().filter_map(|name| position(name));
    sorted
        .map(|position| SortingColumn { column_idx: position as i32, descending: false, nulls_first: false })
        .collect()
}

/// Why the rows of a slot could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    /// A frame is malformed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Arrow refused a column.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl RowError {
    /// The same, with the place.
    pub(crate) fn at(self, dataset: Dataset, slot: Slot) -> EncodeError {
        match self {
            Self::Wire(source) => EncodeError::Wire { slot, source },
            Self::Arrow(source) => EncodeError::Arrow { dataset, source },
        }
    }
}

/// Why rows could not be made or written; none of these can happen to a frame that passed the checks upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// A frame is malformed.
    #[error("slot {slot}: {source}")]
    Wire {
        /// The slot.
        slot: Slot,
        /// Which field, and what is wrong with it.
        source: WireError,
    },
    /// Arrow refused a column.
    #[error("columns of {dataset}: {source}")]
    Arrow {
        /// The dataset.
        dataset: Dataset,
        /// Why.
        source: ArrowError,
    },
    /// Parquet refused a row group.
    #[error("file of {dataset}: {source}")]
    Parquet {
        /// The dataset.
        dataset: Dataset,
        /// Why.
        source: ParquetError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_described_and_every_sorting_column_exists() {
        for dataset in Dataset::ALL {
            for keys in [KeyFormat::Base58, KeyFormat::Bytes] {
                let table = Table::try_new(dataset, keys, 1).expect("a valid schema");
                for field in table.schema.fields() {
                    let text = field.metadata().get(DESCRIPTION_KEY).map(|text| text.to_string());
                    assert!(text.is_some_and(|text| text.len() > 10), "{dataset}.{}", field.name());
                }
                let sorted = table.properties.sorting_columns().map(Vec::len);
                assert_eq!(sorted, Some(tables::sorted_by(dataset).len()), "{dataset}");
            }
        }
    }
}
