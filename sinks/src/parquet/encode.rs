//! From loads to the bytes of files: rows are made slot by slot, in parallel; files grow dataset by dataset, in
//! parallel. The bytes depend on the rows and their slots alone, never on how many came at a time.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use rayon::prelude::*;
use sluice_stages::batch::Update;
use sluice_stages::slot::Slot;
use sluice_stages::transaction::Transaction;

use super::cells::{KeyFormat, KeyTexts};
use super::dataset::{Dataset, Track};
use super::errors::ErrorTexts;
use super::meta::MetaDetails;
use super::planner::{Content, Load, Skip};
use super::range::CommitRange;
use super::schema::{EncodeError, RowError, Table};
use super::tables;
use super::tables::instructions::InstructionRows;
use super::tables::token_balances::TokenBalanceRows;
use super::tables::transactions::TransactionRows;

/// Most slots of a row group in the datasets that are large: some 60,000 transactions of mainnet, a few megabytes each
/// of the wider columns.
const ROW_GROUP_SLOTS: u64 = 54;
/// Encoded bytes are kept in pieces of this size, so that a growing file is never copied.
const CHUNK_BYTES: usize = 1 << 20;

/// The rows of one slot, a batch for each dataset of a track.
#[derive(Debug)]
pub(crate) struct SlotRows {
    slot: Slot,
    batches: Vec<(Dataset, RecordBatch)>,
    without_transactions: bool,
}

/// What is read into and built in again and again.
struct Scratch {
    transaction: Transaction,
    texts: KeyTexts,
    errors: ErrorTexts,
    transactions: TransactionRows,
    instructions: InstructionRows,
    balances: TokenBalanceRows,
}

impl Scratch {
    fn new(keys: KeyFormat) -> Self {
        Self {
            transaction: Transaction::default(),
            texts: KeyTexts::default(),
            errors: ErrorTexts::default(),
            transactions: TransactionRows::new(keys),
            instructions: InstructionRows::new(keys),
            balances: TokenBalanceRows::new(keys),
        }
    }
}

/// Makes rows and files of the chosen datasets.
pub(crate) struct Encoder {
    keys: KeyFormat,
    tables: BTreeMap<Dataset, Table>,
    scratches: Mutex<Vec<Scratch>>,
    row_group_slots: u64,
}

impl Encoder {
    /// An encoder for `datasets` in files of `commit_slots` slots.
    pub(crate) fn try_new(
        datasets: &[Dataset],
        keys: KeyFormat,
        compression_level: i32,
        commit_slots: u64,
    ) -> Result<Self, EncodeError> {
        let mut tables = BTreeMap::new();
        for &dataset in datasets {
            let table = Table::try_new(dataset, keys, compression_level)
                .map_err(|source| EncodeError::Parquet { dataset, source })?;
            tables.insert(dataset, table);
        }
        let divides = |slots: &u64| commit_slots.is_multiple_of(*slots);
        let row_group_slots = (1..=ROW_GROUP_SLOTS.min(commit_slots)).rev().find(divides).unwrap_or(1);
        Ok(Self { keys, tables, scratches: Mutex::default(), row_group_slots })
    }

    /// The rows of one load.
    pub(crate) fn rows(&self, load: &Load) -> Result<SlotRows, EncodeError> {
        let pool = || self.scratches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = pool().pop().unwrap_or_else(|| Scratch::new(self.keys));
        // One that failed half-way holds rows that nobody wants; it is not used again.
        let rows = self.rows_with(load, &mut scratch)?;
        pool().push(scratch);
        Ok(rows)
    }

    fn rows_with(&self, load: &Load, scratch: &mut Scratch) -> Result<SlotRows, EncodeError> {
        let slot = load.slot();
        let mut rows = SlotRows { slot, batches: Vec::new(), without_transactions: false };
        match load {
            Load::Content(content) => self.content_rows(content, scratch, &mut rows)?,
            Load::Entries(_, updates) => self.add(&mut rows, Dataset::Entries, |table| {
                tables::entries::batch(Arc::clone(&table.schema), self.keys, slot, updates)
            })?,
            Load::Accounts(_, updates) => self.add(&mut rows, Dataset::Accounts, |table| {
                let schema = Arc::clone(&table.schema);
                tables::accounts::batch(schema, self.keys, slot, updates, &mut scratch.texts)
            })?,
        }
        Ok(rows)
    }

    fn add(
        &self,
        rows: &mut SlotRows,
        dataset: Dataset,
        make: impl FnOnce(&Table) -> Result<RecordBatch, RowError>,
    ) -> Result<(), EncodeError> {
        if let Some(table) = self.tables.get(&dataset) {
            rows.batches.push((dataset, make(table).map_err(|error| error.at(dataset, rows.slot))?));
        }
        Ok(())
    }

    fn content_rows(
        &self,
        content: &Content,
        scratch: &mut Scratch,
        rows: &mut SlotRows,
    ) -> Result<(), EncodeError> {
        let (slot, keys) = (rows.slot, self.keys);
        let details = MetaDetails::read(content.meta_update.frame.body())
            .map_err(|source| EncodeError::Wire { slot, source })?;
        self.add(rows, Dataset::Blocks, |table| {
            Ok(tables::blocks::batch(Arc::clone(&table.schema), keys, &content.meta, &details)?)
        })?;
        self.add(rows, Dataset::Rewards, |table| {
            let schema = Arc::clone(&table.schema);
            Ok(tables::rewards::batch(schema, keys, slot, &details.rewards, &mut scratch.texts)?)
        })?;
        match &content.transactions {
            Some(updates) => self.transaction_rows(updates, scratch, rows),
            None => {
                rows.without_transactions = true;
                Ok(())
            }
        }
    }

    /// One pass over each transaction fills the rows of all datasets made of it.
    fn transaction_rows(
        &self,
        updates: &[Update],
        scratch: &mut Scratch,
        rows: &mut SlotRows,
    ) -> Result<(), EncodeError> {
        let Scratch { transaction, texts, errors, transactions, instructions, balances } = scratch;
        let wanted = |dataset| self.tables.contains_key(&dataset);
        let (wants_transactions, wants_instructions, wants_balances) =
            (wanted(Dataset::Transactions), wanted(Dataset::Instructions), wanted(Dataset::TokenBalances));
        for update in updates {
            let body = update.frame.body();
            transaction.read(body).map_err(|source| EncodeError::Wire { slot: rows.slot, source })?;
            if wants_transactions {
                transactions.push(transaction, body, texts, errors);
            }
            if wants_balances {
                balances.push(transaction, body, texts);
            }
            if wants_instructions {
                instructions.push(transaction, body, texts);
            }
        }
        self.add(rows, Dataset::Transactions, |table| Ok(transactions.finish(Arc::clone(&table.schema))?))?;
        self.add(rows, Dataset::Instructions, |table| Ok(instructions.finish(Arc::clone(&table.schema))?))?;
        self.add(rows, Dataset::TokenBalances, |table| Ok(balances.finish(Arc::clone(&table.schema))?))
    }

    /// Begins the files of a track.
    pub(crate) fn begin(&self, range: CommitRange, track: Track) -> Result<OpenFiles, EncodeError> {
        let chosen = self.tables.values().filter(|table| table.dataset.track() == track);
        let files = chosen.map(|table| OpenFile::try_new(table, range, self.row_group_slots));
        Ok(OpenFiles { range, files: files.collect::<Result<_, _>>()? })
    }

    /// Adds the skipped slots and ends the files.
    pub(crate) fn finish(
        &self,
        mut open: OpenFiles,
        skips: &[Skip],
    ) -> Result<Vec<EncodedFile>, EncodeError> {
        let range = open.range;
        for file in open.files.iter_mut().filter(|file| file.dataset == Dataset::SkippedSlots) {
            if let Some(table) = self.tables.get(&file.dataset) {
                let batch = tables::skipped_slots::batch(Arc::clone(&table.schema), range, skips)
                    .map_err(|source| EncodeError::Arrow { dataset: file.dataset, source })?;
                file.write(range.first, &batch)?;
            }
        }
        open.files.into_par_iter().map(OpenFile::finish).collect()
    }
}

/// The files of one track of one range, under construction.
pub(crate) struct OpenFiles {
    range: CommitRange,
    files: Vec<OpenFile>,
}

impl OpenFiles {
    /// Appends the rows of slots, in order.
    pub(crate) fn append(&mut self, slots: &[SlotRows]) -> Result<(), EncodeError> {
        if slots.iter().any(|rows| rows.without_transactions) {
            self.files.retain(|file| !file.dataset.needs_transactions());
        }
        self.files.par_iter_mut().try_for_each(|file| file.append(slots))
    }

    /// Bytes of memory that they take.
    pub(crate) fn size_bytes(&self) -> usize {
        self.files.iter().map(|file| file.writer.memory_size() + file.writer.bytes_written()).sum()
    }
}

struct OpenFile {
    dataset: Dataset,
    range: CommitRange,
    writer: ArrowWriter<Chunks>,
    /// Slots of a row group; `None` for datasets of which a file has one.
    row_group_slots: Option<u64>,
    row_group: u64,
    rows: u64,
}

impl OpenFile {
    fn try_new(table: &Table, range: CommitRange, row_group_slots: u64) -> Result<Self, EncodeError> {
        let dataset = table.dataset;
        let properties = Some(table.properties.clone());
        let writer = ArrowWriter::try_new(Chunks::default(), Arc::clone(&table.schema), properties)
            .map_err(|source| EncodeError::Parquet { dataset, source })?;
        let large = !matches!(dataset, Dataset::Blocks | Dataset::Rewards | Dataset::SkippedSlots);
        let row_group_slots = large.then_some(row_group_slots);
        Ok(Self { dataset, range, writer, row_group_slots, row_group: 0, rows: 0 })
    }

    fn append(&mut self, slots: &[SlotRows]) -> Result<(), EncodeError> {
        for rows in slots {
            for (dataset, batch) in &rows.batches {
                if *dataset == self.dataset {
                    self.write(rows.slot, batch)?;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, slot: Slot, batch: &RecordBatch) -> Result<(), EncodeError> {
        let row_group = self.row_group_slots.map_or(0, |slots| (slot - self.range.first) / slots);
        let begins = std::mem::replace(&mut self.row_group, row_group) != row_group;
        let flushed = if begins { self.writer.flush() } else { Ok(()) };
        self.rows += batch.num_rows() as u64;
        flushed.and_then(|()| self.writer.write(batch)).map_err(|source| self.error(source))
    }

    fn finish(mut self) -> Result<EncodedFile, EncodeError> {
        self.writer.finish().map_err(|source| self.error(source))?;
        let chunks = std::mem::take(self.writer.inner_mut());
        Ok(EncodedFile { dataset: self.dataset, range: self.range, rows: self.rows, chunks: chunks.pieces })
    }

    fn error(&self, source: ParquetError) -> EncodeError {
        EncodeError::Parquet { dataset: self.dataset, source }
    }
}

/// A whole file in memory.
pub(crate) struct EncodedFile {
    /// The dataset.
    pub(crate) dataset: Dataset,
    /// The slots.
    pub(crate) range: CommitRange,
    /// Rows in it.
    pub(crate) rows: u64,
    /// Its bytes, in pieces.
    pub(crate) chunks: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Chunks {
    pieces: Vec<Vec<u8>>,
}

impl io::Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.pieces.last().map_or(0, |piece| CHUNK_BYTES.saturating_sub(piece.len()));
        if room == 0 {
            self.pieces.push(Vec::with_capacity(bytes.len().clamp(1 << 10, CHUNK_BYTES)));
        }
        let piece = self.pieces.last_mut().expect("a piece was pushed if there was none");
        let taken = bytes.len().min(CHUNK_BYTES - piece.len());
        piece.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn pieces_put_together_are_what_was_written() {
        let mut chunks = Chunks::default();
        let mut expected = Vec::new();
        for (length, byte) in [(10, 1), (CHUNK_BYTES, 2), (3 * CHUNK_BYTES + 7, 3), (0, 4), (1, 5)] {
            let bytes = vec![byte; length];
            chunks.write_all(&bytes).expect("memory");
            expected.extend(bytes);
        }
        assert!(chunks.pieces.iter().all(|piece| piece.len() <= CHUNK_BYTES));
        assert_eq!(chunks.pieces.concat(), expected);
    }
}
