//! `skipped_slots`: one row for each slot without a block.

use std::sync::Arc;

use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::parquet::planner::Skip;
use crate::parquet::range::CommitRange;
use crate::parquet::schema::{Column, Storage};

/// The columns.
pub(crate) fn columns() -> Vec<Column> {
    use Storage::Rising;
    let parent =
        "The last block before it. The block in child_slot names it as its parent, which proves the skip.";
    vec![
        super::slot_column("The slot that has no block."),
        Column::new("parent_slot", DataType::UInt64, Rising, parent),
        Column::new("child_slot", DataType::UInt64, Rising, "The first block after it."),
    ]
}

/// The rows of those slots of `range` that lie within `skips`.
pub(crate) fn batch(
    schema: SchemaRef,
    range: CommitRange,
    skips: &[Skip],
) -> Result<RecordBatch, ArrowError> {
    let rows = || skips.iter().flat_map(|skip| skip.slots_in(range).map(move |slot| (slot, skip)));
    let slots = UInt64Array::from_iter_values(rows().map(|(slot, _)| slot));
    let parents = UInt64Array::from_iter_values(rows().map(|(_, skip)| skip.parent));
    let children = UInt64Array::from_iter_values(rows().map(|(_, skip)| skip.child));
    RecordBatch::try_new(schema, vec![Arc::new(slots), Arc::new(parents), Arc::new(children)])
}
