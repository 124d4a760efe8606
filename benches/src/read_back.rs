//! Tallies what is in files.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::tally::Tally;

/// Counts the blocks and transactions of an output folder.
///
/// # Errors
/// If a file can't be read, or has not the columns that it should.
pub fn tally(folder: &Path) -> Result<Tally> {
    let mut tally = Tally::default();
    for batch in batches(folder, "blocks", &["slot"])? {
        (0..batch?.num_rows()).for_each(|_| tally.add_block());
    }
    for batch in batches(folder, "transactions", &["slot", "index", "signature"])? {
        add_transactions(&mut tally, &batch?)?;
    }
    Ok(tally)
}

fn add_transactions(tally: &mut Tally, batch: &RecordBatch) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("no column {name}"));
    let slots = column("slot")?.as_primitive_opt::<UInt64Type>().context("slots are numbers")?;
    let indexes = column("index")?.as_primitive_opt::<UInt32Type>().context("indexes are numbers")?;
    let signatures: &ArrayRef = column("signature")?;
    let signatures = signatures.as_string_opt::<i32>().context("signatures are texts")?;
    for row in 0..batch.num_rows() {
        let mut signature = [0; 64];
        five8::decode_64(signatures.value(row), &mut signature)
            .map_err(|error| anyhow::anyhow!("not a signature: {error:?}"))?;
        tally.add_transaction(slots.value(row), u64::from(indexes.value(row)), &signature);
    }
    Ok(())
}

/// The batches of all files of a dataset; none if there are no files.
fn batches(
    folder: &Path,
    dataset: &str,
    columns: &[&str],
) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
    let mut readers = Vec::new();
    for file in files(&folder.join(dataset))? {
        readers.push(reader(&file, columns)?);
    }
    Ok(readers.into_iter().flatten().map(|batch| Ok(batch?)))
}

fn reader(file: &Path, columns: &[&str]) -> Result<ParquetRecordBatchReader> {
    let open = File::open(file).with_context(|| file.display().to_string())?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(open)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    Ok(builder.with_projection(mask).build()?)
}

fn files(dataset: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !dataset.is_dir() {
        return Ok(files);
    }
    for epoch in dataset.read_dir()? {
        for file in epoch?.path().read_dir()? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "parquet") {
                files.push(path);
            }
        }
    }
    Ok(files)
}
