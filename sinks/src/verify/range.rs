//! The checks within one range of slots: every file against its name, and all of them against the blocks.

use std::collections::{BTreeMap, HashSet};

use arrow_array::RecordBatch;
use sluice_stages::slot::Slot;

use super::VerifyOptions;
use super::folder::DataFile;
use super::read::{each_batch, keys, u32s, u64s};
use super::report::{Fault, Violation};

/// Violations kept of one range: a damaged file would otherwise have one for each row.
const MOST_VIOLATIONS: usize = 1_000;

/// A row of `blocks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockRow {
    pub(super) slot: Slot,
    pub(super) blockhash: Vec<u8>,
    pub(super) parent_slot: Slot,
    pub(super) parent_blockhash: Vec<u8>,
    executed_transaction_count: u64,
}

/// A row of `skipped_slots`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SkippedRow {
    pub(super) slot: Slot,
    pub(super) parent_slot: Slot,
    pub(super) child_slot: Slot,
}

/// What the audit of a range found.
#[derive(Debug, Default)]
pub(super) struct RangeReport {
    pub(super) first: Slot,
    pub(super) last: Slot,
    /// The name of the blocks file, for the checks across ranges.
    pub(super) blocks_file: String,
    /// The name of the skipped_slots file.
    pub(super) skipped_file: String,
    pub(super) blocks: BTreeMap<Slot, BlockRow>,
    pub(super) skipped: Vec<SkippedRow>,
    pub(super) rows: BTreeMap<&'static str, u64>,
    pub(super) violations: Vec<Violation>,
    pub(super) more_violations: u64,
    /// Indexes of the transactions of each slot.
    transactions: BTreeMap<Slot, Vec<u64>>,
}

/// Where a row is.
type Place = (Option<Slot>, Option<u64>);

/// The key of the row before, to see that rows are sorted and none is there twice.
#[derive(Default)]
struct Sorted<K>(Option<K>);

impl<K: PartialOrd> Sorted<K> {
    fn follows(&mut self, key: K) -> bool {
        let follows = self.0.as_ref().is_none_or(|before| *before < key);
        self.0 = Some(key);
        follows
    }
}

/// Audits the files of one range.
pub(super) fn verify(files: &BTreeMap<&'static str, DataFile>, options: &VerifyOptions) -> RangeReport {
    let mut report = RangeReport::default();
    if let Some(file) = files.values().next() {
        (report.first, report.last) = (file.first, file.last);
    }
    let name = |dataset: &str| files.get(dataset).map(|file| file.name.clone()).unwrap_or_default();
    (report.blocks_file, report.skipped_file) = (name("blocks"), name("skipped_slots"));
    // The others are held against these two.
    report.read(files, "blocks", RangeReport::block_rows);
    report.read(files, "transactions", RangeReport::transaction_rows(options.filtered));
    report.read(files, "skipped_slots", RangeReport::skipped_rows);
    report.read(files, "instructions", RangeReport::instruction_rows());
    report.read(files, "token_balances", RangeReport::token_balance_rows());
    report.read(files, "rewards", RangeReport::reward_rows());
    report.read(files, "accounts", RangeReport::account_rows());
    report.read_entries(files);
    if !options.filtered && files.contains_key("blocks") && files.contains_key("transactions") {
        report.check_counts(&name("transactions"));
    }
    report.check_skips();
    report
}

impl RangeReport {
    fn read(
        &mut self,
        files: &BTreeMap<&'static str, DataFile>,
        dataset: &'static str,
        mut check: impl FnMut(&mut Self, &DataFile, &RecordBatch) -> Result<(), Fault>,
    ) {
        let Some(file) = files.get(dataset) else { return };
        match each_batch(file, |batch| check(self, file, batch)) {
            Ok(rows) => {
                self.rows.insert(dataset, rows);
            }
            Err(fault) => self.violate(&file.name, (None, None), fault),
        }
    }

    fn violate(&mut self, file: &str, (slot, index): Place, fault: Fault) {
        if self.violations.len() < MOST_VIOLATIONS {
            self.violations.push(Violation { file: file.to_owned(), slot, index, fault });
        } else {
            self.more_violations += 1;
        }
    }

    fn expect(&mut self, holds: bool, file: &DataFile, place: Place, fault: Fault) {
        if !holds {
            self.violate(&file.name, place, fault);
        }
    }

    fn in_range(&mut self, file: &DataFile, slot: Slot) {
        let holds = (file.first..=file.last).contains(&slot);
        self.expect(holds, file, (Some(slot), None), Fault::OutsideRange);
    }

    fn has_block(&mut self, file: &DataFile, slot: Slot, index: Option<u64>) {
        let holds = self.blocks.contains_key(&slot);
        self.expect(holds, file, (Some(slot), index), Fault::Orphan("block"));
    }

    fn block_rows(&mut self, file: &DataFile, batch: &RecordBatch) -> Result<(), Fault> {
        let (slots, parents) = (u64s(batch, "slot")?, u64s(batch, "parent_slot")?);
        let (hashes, parent_hashes) = (keys(batch, "blockhash")?, keys(batch, "parent_blockhash")?);
        let counts = u32s(batch, "executed_transaction_count")?;
        for row in 0..batch.num_rows() {
            let block = BlockRow {
                slot: slots.get(row),
                blockhash: hashes.get(row).to_vec(),
                parent_slot: parents.get(row),
                parent_blockhash: parent_hashes.get(row).to_vec(),
                executed_transaction_count: counts.get(row),
            };
            self.in_range(file, block.slot);
            let sorted = self.blocks.last_key_value().is_none_or(|(&last, _)| last < block.slot);
            self.expect(sorted, file, (Some(block.slot), None), Fault::Order);
            self.blocks.insert(block.slot, block);
        }
        Ok(())
    }

    fn skipped_rows(&mut self, file: &DataFile, batch: &RecordBatch) -> Result<(), Fault> {
        let (slots, parents) = (u64s(batch, "slot")?, u64s(batch, "parent_slot")?);
        let children = u64s(batch, "child_slot")?;
        for row in 0..batch.num_rows() {
            let (slot, parent_slot, child_slot) = (slots.get(row), parents.get(row), children.get(row));
            self.in_range(file, slot);
            let sorted = self.skipped.last().is_none_or(|last| last.slot < slot);
            self.expect(sorted, file, (Some(slot), None), Fault::Order);
            self.skipped.push(SkippedRow { slot, parent_slot, child_slot });
        }
        Ok(())
    }

    fn transaction_rows(
        filtered: bool,
    ) -> impl FnMut(&mut Self, &DataFile, &RecordBatch) -> Result<(), Fault> {
        let mut sorted = Sorted::default();
        let mut signatures = HashSet::new();
        let mut current = None;
        move |report, file, batch| {
            let (slots, indexes) = (u64s(batch, "slot")?, u32s(batch, "index")?);
            let all = keys(batch, "signature")?;
            for row in 0..batch.num_rows() {
                let (slot, index) = (slots.get(row), indexes.get(row));
                let place = (Some(slot), Some(index));
                if current.replace(slot) != Some(slot) {
                    signatures.clear();
                    report.in_range(file, slot);
                    report.has_block(file, slot, None);
                }
                report.expect(sorted.follows((slot, index)), file, place, Fault::Order);
                let known = report.transactions.entry(slot).or_default();
                let position = known.len() as u64;
                known.push(index);
                report.expect(filtered || index == position, file, place, Fault::Index(position));
                let is_new = signatures.insert(all.get(row).to_vec());
                report.expect(is_new, file, place, Fault::DuplicateSignature(all.show(row)));
            }
            Ok(())
        }
    }

    /// Each block's own count against the rows.
    fn check_counts(&mut self, file: &str) {
        let counts: Vec<(Slot, u64, u64)> = self
            .blocks
            .values()
            .map(|block| {
                let rows = self.transactions.get(&block.slot).map_or(0, |indexes| indexes.len() as u64);
                (block.slot, block.executed_transaction_count, rows)
            })
            .filter(|(_, promised, rows)| promised != rows)
            .collect();
        for (slot, promised, rows) in counts {
            self.violate(file, (Some(slot), None), Fault::TransactionCount(promised, rows));
        }
    }

    fn instruction_rows() -> impl FnMut(&mut Self, &DataFile, &RecordBatch) -> Result<(), Fault> {
        let mut before: Option<InstructionRow> = None;
        move |report, file, batch| {
            let (slots, indexes) = (u64s(batch, "slot")?, u32s(batch, "index")?);
            let transactions = u32s(batch, "transaction_index")?;
            let (outer, inner) = (u32s(batch, "outer_index")?, u32s(batch, "inner_index")?);
            let heights = u32s(batch, "stack_height")?;
            for row in 0..batch.num_rows() {
                let now = InstructionRow {
                    transaction: (slots.get(row), transactions.get(row)),
                    index: indexes.get(row),
                    outer_index: outer.get(row),
                    inner_index: inner.option(row),
                    stack_height: heights.option(row),
                };
                report.instruction_row(file, before.as_ref(), &now);
                before = Some(now);
            }
            Ok(())
        }
    }

    fn instruction_row(&mut self, file: &DataFile, before: Option<&InstructionRow>, now: &InstructionRow) {
        let (slot, transaction) = now.transaction;
        let place = (Some(slot), Some(transaction));
        let same = before.filter(|before| before.transaction == now.transaction);
        let sorted = before.is_none_or(|before| before.transaction <= now.transaction);
        self.expect(sorted, file, place, Fault::Order);
        let index = same.map_or(0, |before| before.index + 1);
        self.expect(now.index == index, file, place, Fault::Index(index));
        self.expect(now.fits_after(same), file, place, Fault::InstructionTree);
        if same.is_none() {
            self.in_range(file, slot);
            self.has_transaction(file, place);
        }
    }

    fn has_transaction(&mut self, file: &DataFile, place: Place) {
        // Without a transactions file that is its own violation, and once is enough.
        if let (Some(slot), Some(index)) = place
            && self.rows.contains_key("transactions")
        {
            let indexes = self.transactions.get(&slot);
            let holds = indexes.is_some_and(|indexes| indexes.binary_search(&index).is_ok());
            self.expect(holds, file, place, Fault::Orphan("transaction"));
        }
    }

    fn token_balance_rows() -> impl FnMut(&mut Self, &DataFile, &RecordBatch) -> Result<(), Fault> {
        let mut before = None;
        move |report, file, batch| {
            let (slots, transactions) = (u64s(batch, "slot")?, u32s(batch, "transaction_index")?);
            for row in 0..batch.num_rows() {
                let now = (slots.get(row), transactions.get(row));
                let place = (Some(now.0), Some(now.1));
                if before != Some(now) {
                    report.in_range(file, now.0);
                    report.has_transaction(file, place);
                    report.expect(before.is_none_or(|before| before < now), file, place, Fault::Order);
                }
                before = Some(now);
            }
            Ok(())
        }
    }

    fn reward_rows() -> impl FnMut(&mut Self, &DataFile, &RecordBatch) -> Result<(), Fault> {
        let mut before: Option<(Slot, u64)> = None;
        move |report, file, batch| {
            let (slots, indexes) = (u64s(batch, "slot")?, u32s(batch, "index")?);
            for row in 0..batch.num_rows() {
                let (slot, index) = (slots.get(row), indexes.get(row));
                let place = (Some(slot), Some(index));
                let same = before.filter(|before| before.0 == slot);
                let expected = same.map_or(0, |(_, index)| index + 1);
                report.expect(index == expected, file, place, Fault::Index(expected));
                let sorted = before.is_none_or(|before| before < (slot, index));
                report.expect(sorted, file, place, Fault::Order);
                if same.is_none() {
                    report.in_range(file, slot);
                    report.has_block(file, slot, None);
                }
                before = Some((slot, index));
            }
            Ok(())
        }
    }

    fn account_rows() -> impl FnMut(&mut Self, &DataFile, &RecordBatch) -> Result<(), Fault> {
        let mut sorted = Sorted::default();
        let mut current = None;
        let mut position = 0;
        move |report, file, batch| {
            let (slots, pubkeys) = (u64s(batch, "slot")?, keys(batch, "pubkey")?);
            for row in 0..batch.num_rows() {
                let slot = slots.get(row);
                if current.replace(slot) != Some(slot) {
                    position = 0;
                    report.in_range(file, slot);
                    report.has_block(file, slot, None);
                }
                let place = (Some(slot), Some(position));
                position += 1;
                let follows = sorted.follows((slot, pubkeys.get(row).to_vec()));
                report.expect(follows, file, place, Fault::Order);
            }
            Ok(())
        }
    }

    fn read_entries(&mut self, files: &BTreeMap<&'static str, DataFile>) {
        let Some(file) = files.get("entries") else { return };
        let mut tiles: BTreeMap<Slot, Tiling> = BTreeMap::new();
        self.read(files, "entries", |report, file, batch| {
            let (slots, indexes) = (u64s(batch, "slot")?, u32s(batch, "index")?);
            let (counts, starts) =
                (u32s(batch, "executed_transaction_count")?, u32s(batch, "starting_transaction_index")?);
            let hashes = keys(batch, "hash")?;
            for row in 0..batch.num_rows() {
                let slot = slots.get(row);
                if !tiles.contains_key(&slot) {
                    let sorted = tiles.last_key_value().is_none_or(|(&last, _)| last < slot);
                    report.expect(sorted, file, (Some(slot), None), Fault::Order);
                    report.in_range(file, slot);
                    report.has_block(file, slot, None);
                }
                let tiling = tiles.entry(slot).or_default();
                let place = (Some(slot), Some(indexes.get(row)));
                let (entries, transactions) = (tiling.entries, tiling.transactions);
                report.expect(indexes.get(row) == entries, file, place, Fault::Index(entries));
                let start = starts.get(row);
                let fault = Fault::EntryStart(transactions, start);
                report.expect(start == transactions, file, place, fault);
                tiling.entries += 1;
                tiling.transactions += counts.get(row);
                tiling.last_hash = hashes.get(row).to_vec();
            }
            Ok(())
        });
        if self.rows.contains_key("entries") {
            self.check_entries(file, &tiles);
        }
    }

    fn check_entries(&mut self, file: &DataFile, tiles: &BTreeMap<Slot, Tiling>) {
        for block in self.blocks.clone().into_values() {
            let place = (Some(block.slot), None);
            let Some(tiling) = tiles.get(&block.slot) else {
                self.violate(&file.name, place, Fault::NoEntries);
                continue;
            };
            let (entries, count) = (tiling.transactions, block.executed_transaction_count);
            self.expect(entries == count, file, place, Fault::EntryCount(entries, count));
            self.expect(tiling.last_hash == block.blockhash, file, place, Fault::EntryHash);
        }
    }

    /// Each slot has a block or a proof that it has none, and the proof is a link between two blocks.
    fn check_skips(&mut self) {
        if !self.rows.contains_key("blocks") || !self.rows.contains_key("skipped_slots") {
            return;
        }
        let (skipped_file, blocks_file) = (self.skipped_file.clone(), self.blocks_file.clone());
        let skipped: BTreeMap<Slot, SkippedRow> = self.skipped.iter().map(|row| (row.slot, *row)).collect();
        for slot in self.first..=self.last {
            let fault = match (self.blocks.contains_key(&slot), skipped.get(&slot)) {
                (true, None) => continue,
                (true, Some(_)) => Fault::SkippedAndThere,
                (false, None) => {
                    self.violate(&blocks_file, (Some(slot), None), Fault::Unaccounted);
                    continue;
                }
                (false, Some(row)) => match self.refute(row) {
                    Some(reason) => Fault::UnprovenSkip(reason),
                    None => continue,
                },
            };
            self.violate(&skipped_file, (Some(slot), None), fault);
        }
    }

    /// What speaks against a skip; what the neighbouring ranges have to say comes later.
    fn refute(&self, row: &SkippedRow) -> Option<String> {
        if !(row.parent_slot < row.slot && row.slot < row.child_slot) {
            return Some(format!("it is not between {} and {}", row.parent_slot, row.child_slot));
        }
        let parent = self.blocks.range(..row.slot).next_back().map(|(&slot, _)| slot);
        let child = self.blocks.range(row.slot..).next().map(|(_, block)| block);
        match (parent, child) {
            (Some(parent), _) if parent != row.parent_slot => {
                Some(format!("the block before is in {parent}"))
            }
            (None, _) if row.parent_slot >= self.first => Some(format!("{} has no block", row.parent_slot)),
            (_, Some(child)) if (child.parent_slot, child.slot) != (row.parent_slot, row.child_slot) => {
                Some(format!("the block after is in {} and names {}", child.slot, child.parent_slot))
            }
            (_, None) if row.child_slot <= self.last => Some(format!("{} has no block", row.child_slot)),
            _ => None,
        }
    }
}

/// Where an instruction stands.
struct InstructionRow {
    transaction: (Slot, u64),
    index: u64,
    outer_index: u64,
    inner_index: Option<u64>,
    stack_height: Option<u64>,
}

impl InstructionRow {
    /// Whether it can be the one after `before` of the same transaction, `None` for the first.
    fn fits_after(&self, before: Option<&Self>) -> bool {
        match (self.inner_index, before) {
            (None, None) => self.outer_index == 0 && self.stack_height == Some(1),
            (None, Some(before)) => {
                self.outer_index == before.outer_index + 1 && self.stack_height == Some(1)
            }
            (Some(_), None) => false,
            (Some(inner), Some(before)) => {
                let expected = before.inner_index.map_or(0, |inner| inner + 1);
                let height = before.stack_height.unwrap_or(u64::MAX).saturating_add(1);
                self.outer_index == before.outer_index
                    && inner == expected
                    && self.stack_height.is_none_or(|own| (2..=height).contains(&own))
            }
        }
    }
}

/// How far the entries of a slot tile its transactions.
#[derive(Default)]
struct Tiling {
    entries: u64,
    transactions: u64,
    last_hash: Vec<u8>,
}
