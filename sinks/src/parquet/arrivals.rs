//! `arrivals`: which endpoint delivered each slot, when, and how far behind the first.
//!
//! The one dataset that differs between runs, so it keeps out of the way of the others: files of its own below
//! `arrivals/`, never compared, never part of a digest, never a reason to stop. A range is written once an arrival of a
//! later range has come, or at the end; a restart in the middle of a range adds a second file, `…-1.parquet`. Rows that
//! the disk refuses stay in memory for the next try, at most [`MAX_ROWS`] of them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::builder::{StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use sluice_stages::batch::{Arrival, Standing};
use sluice_stages::slot::{Slot, Timestamp};
use thiserror::Error;

use super::commit::staging;
use super::disk::Disk;
use super::range::CommitRange;
use super::schema::DESCRIPTION_KEY;

/// The folder of the dataset.
const FOLDER: &str = "arrivals";
/// Rows kept while the disk refuses: an hour of mainnet from three endpoints.
const MAX_ROWS: usize = 30_000;
/// Files of one range, one for each restart in its middle.
const MAX_FILES: u32 = 1_000;

/// Rows could not be written.
#[derive(Debug, Error)]
pub(crate) enum ArrivalsError {
    /// The disk refused.
    #[error("{FOLDER}: {0}")]
    Disk(#[from] io::Error),
    /// Arrow refused a column.
    #[error("columns of {FOLDER}: {0}")]
    Arrow(#[from] ArrowError),
    /// Parquet refused a row group.
    #[error("file of {FOLDER}: {0}")]
    Parquet(#[from] ParquetError),
}

/// Collects arrivals and writes them range by range.
pub(crate) struct Arrivals<D> {
    root: PathBuf,
    disk: D,
    commit_slots: u64,
    rows: BTreeMap<CommitRange, Vec<Arrival>>,
    highest: Slot,
    lost: u64,
}

impl<D: Disk> Arrivals<D> {
    /// A collector for files of `commit_slots` slots below `root`.
    pub(crate) fn new(root: PathBuf, disk: D, commit_slots: u64) -> Self {
        Self { root, disk, commit_slots, rows: BTreeMap::new(), highest: 0, lost: 0 }
    }

    /// Takes rows in.
    pub(crate) fn accept(&mut self, arrivals: &[Arrival]) {
        for arrival in arrivals {
            self.highest = self.highest.max(arrival.slot);
            let range = CommitRange::containing(arrival.slot, self.commit_slots);
            self.rows.entry(range).or_default().push(arrival.clone());
        }
        while self.rows.values().map(Vec::len).sum::<usize>() > MAX_ROWS {
            let oldest = self.rows.pop_first();
            self.lost += oldest.map_or(0, |(_, rows)| rows.len() as u64);
        }
    }

    /// Writes the ranges that are over.
    pub(crate) fn write_due(&mut self) -> Result<(), ArrivalsError> {
        let highest = self.highest;
        self.write(|range| range.last < highest)
    }

    /// Writes everything.
    pub(crate) fn write_rest(&mut self) -> Result<(), ArrivalsError> {
        self.write(|_| true)
    }

    /// Rows that the disk refused for too long.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    fn write(&mut self, is_due: impl Fn(CommitRange) -> bool) -> Result<(), ArrivalsError> {
        while let Some((&range, rows)) = self.rows.first_key_value() {
            if !is_due(range) {
                return Ok(());
            }
            let bytes = encode(rows)?;
            self.publish(range, bytes)?;
            self.rows.pop_first();
        }
        Ok(())
    }

    fn publish(&self, range: CommitRange, bytes: Vec<u8>) -> Result<(), ArrivalsError> {
        let dataset = self.root.join(FOLDER);
        let folder = dataset.join(format!("epoch={}", range.epoch()));
        self.disk.make_folder(&dataset)?;
        self.disk.make_folder(&folder)?;
        let staged = staging(&self.root).join(format!("{FOLDER}-{}.tmp", range.file_name()));
        match self.disk.remove(&staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.disk.create(&staged, &[bytes])?.sync()?;
        for number in 0..MAX_FILES {
            match self.disk.publish(&staged, &folder.join(file_name(range, number))) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => {
                    result?;
                    return Ok(self.disk.sync_folder(&folder)?);
                }
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists).into())
    }
}

fn file_name(range: CommitRange, number: u32) -> String {
    let name = range.file_name();
    match number {
        0 => name,
        _ => name.replace(".parquet", &format!("-{number}.parquet")),
    }
}

fn encode(rows: &[Arrival]) -> Result<Vec<u8>, ArrivalsError> {
    let mut rows: Vec<&Arrival> = rows.iter().collect();
    rows.sort_by_key(|row| (row.slot, row.first_seen_at, row.session));
    let batch = batch(&rows)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?));
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build()))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

fn batch(rows: &[&Arrival]) -> Result<RecordBatch, ArrowError> {
    let (mut first_seen, mut completed) = (timestamps(rows.len()), timestamps(rows.len()));
    let mut blockhashes = StringBuilder::new();
    let mut behind = Vec::with_capacity(rows.len());
    for row in rows {
        first_seen.append_value(micros(row.first_seen_at));
        completed.append_option(row.completed_at.map(micros));
        blockhashes.append_option(row.blockhash.map(|hash| hash.to_base58()));
        let same_slot = rows.iter().filter(|other| other.slot == row.slot);
        let first = same_slot.map(|other| other.first_seen_at).min().unwrap_or(row.first_seen_at);
        behind.push(row.first_seen_at.since(first).as_micros() as u64);
    }
    let numbers = |of: fn(&Arrival) -> u32| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row)).collect::<UInt32Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.slot).collect::<UInt64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.endpoint.as_ref())).collect::<StringArray>()),
        numbers(|row| row.session.number),
        Arc::new(blockhashes.finish()),
        Arc::new(first_seen.finish()),
        Arc::new(completed.finish()),
        Arc::new(UInt64Array::from(behind)),
        numbers(|row| row.transactions),
        numbers(|row| row.entries),
        numbers(|row| row.accounts),
        Arc::new(rows.iter().map(|row| row.standing.map(Standing::name)).collect::<StringArray>()),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns)
}

fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

fn timestamps(capacity: usize) -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::with_capacity(capacity).with_timezone("UTC")
}

fn schema() -> Schema {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let column = |name: &str, data_type: DataType, nullable, description: &str| {
        let metadata = HashMap::from([(DESCRIPTION_KEY.to_owned(), description.to_owned())]);
        Field::new(name, data_type, nullable).with_metadata(metadata)
    };
    Schema::new(vec![
        column("slot", DataType::UInt64, false, "The slot."),
        column("endpoint", DataType::Utf8, false, "The name of the source that it came from."),
        column("session", DataType::UInt32, false, "Counts the subscriptions of that endpoint in this run."),
        column(
            "blockhash",
            DataType::Utf8,
            true,
            "The version, base58; null if its block meta did not come.",
        ),
        column("first_seen_at", time.clone(), false, "When the first update of it came."),
        column("completed_at", time, true, "When its block meta came; null if it did not."),
        column(
            "behind_first_micros",
            DataType::UInt64,
            false,
            "Microseconds from the first endpoint's first update of the slot to this one's.",
        ),
        column(
            "transactions",
            DataType::UInt32,
            false,
            "Transactions that came, repeats of others included.",
        ),
        column("entries", DataType::UInt32, false, "Entries that came, repeats of others included."),
        column("accounts", DataType::UInt32, false, "Accounts whose writes came."),
        column(
            "proof",
            DataType::Utf8,
            true,
            "What the proof of history said of the version: proven, counted (RPC, without entries) or failed; null \
             without a proof stage.",
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parquet::disk::RealDisk;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use sluice_stages::batch::SessionId;

    fn arrival(slot: Slot, endpoint: u16, at: u64) -> Arrival {
        Arrival {
            slot,
            endpoint: Arc::from(format!("endpoint_{endpoint}")),
            session: SessionId { endpoint, number: 0 },
            blockhash: None,
            first_seen_at: Timestamp(at),
            completed_at: Some(Timestamp(at + 5)),
            transactions: 7,
            entries: 0,
            accounts: 0,
            standing: Some(Standing::Proven),
        }
    }

    fn collector(root: &std::path::Path) -> Arrivals<RealDisk> {
        std::fs::create_dir_all(staging(root)).expect("made");
        Arrivals::new(root.to_owned(), RealDisk, 10)
    }

    fn files(root: &std::path::Path) -> Vec<String> {
        let folder = root.join("arrivals/epoch=0");
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_range_is_written_once_a_later_slot_arrived_and_tells_who_was_behind() {
        let root = tempfile::tempdir().expect("a folder");
        let mut arrivals = collector(root.path());
        arrivals.accept(&[arrival(9, 0, 100), arrival(9, 1, 130)]);
        arrivals.write_due().expect("nothing to do");
        assert!(files(root.path()).is_empty());
        arrivals.accept(&[arrival(10, 0, 500)]);
        arrivals.write_due().expect("written");
        assert_eq!(files(root.path()), ["000000000000-000000000009.parquet"]);
        let path = root.path().join("arrivals/epoch=0/000000000000-000000000009.parquet");
        let reader = SerializedFileReader::new(std::fs::File::open(path).expect("there")).expect("a file");
        let rows: Vec<String> =
            reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row").to_string()).collect();
        assert!(rows[0].contains("behind_first_micros: 0") && rows[1].contains("behind_first_micros: 30"));
        assert!(rows[0].contains("proof: \"proven\""), "{}", rows[0]);
    }

    #[test]
    fn a_restart_in_the_middle_of_a_range_adds_a_file_and_replaces_none() {
        let root = tempfile::tempdir().expect("a folder");
        for _ in 0..2 {
            let mut arrivals = collector(root.path());
            arrivals.accept(&[arrival(3, 0, 100)]);
            arrivals.write_rest().expect("written");
        }
        let names = ["000000000000-000000000009-1.parquet", "000000000000-000000000009.parquet"];
        assert_eq!(files(root.path()), names);
    }

    #[test]
    fn what_is_kept_while_the_disk_refuses_is_bounded() {
        let root = tempfile::tempdir().expect("a folder");
        let mut arrivals = Arrivals::new(root.path().join("missing"), RealDisk, 10);
        for slot in 0..40_000 {
            arrivals.accept(&[arrival(slot, 0, slot)]);
        }
        assert!(arrivals.write_due().is_err());
        assert!(arrivals.lost() >= 10_000);
    }
}
