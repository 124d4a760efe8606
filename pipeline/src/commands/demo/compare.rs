//! Compares an output folder with what the cluster knows to be true, row by row, through an independent reader.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use sluice_cluster::ledger::Block;
use sluice_cluster::truth::{Truth, TruthSlot};

/// Differences that are listed; more are counted.
const LISTED: usize = 20;

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Slots compared.
    pub(super) slots: u64,
    /// Transactions compared.
    pub(super) transactions: u64,
    /// The first differences found.
    pub(super) differences: Vec<String>,
    /// All differences found.
    pub(super) count: u64,
}

impl Comparison {
    fn differ(&mut self, what: String) {
        self.count += 1;
        if self.differences.len() < LISTED {
            self.differences.push(what);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct BlockRow {
    blockhash: String,
    parent_slot: u64,
    parent_blockhash: String,
    executed_transaction_count: u64,
}

/// Compares the slots of `range`.
pub(super) fn compare(folder: &Path, truth: &Truth, range: Range<u64>) -> anyhow::Result<Comparison> {
    let blocks = read_blocks(folder)?;
    let transactions = read_signatures(folder)?;
    let skipped = read_skipped(folder)?;
    let mut comparison = Comparison::default();
    for slot in range {
        comparison.slots += 1;
        match truth.slot(slot) {
            Some(TruthSlot::Block(version)) => {
                compare_block(&mut comparison, &version.block, blocks.get(&slot), transactions.get(&slot));
            }
            Some(TruthSlot::Skipped) | None => {
                if !skipped.contains(&slot) || blocks.contains_key(&slot) || transactions.contains_key(&slot)
                {
                    comparison.differ(format!("slot {slot} was skipped, the output has it"));
                }
            }
        }
    }
    Ok(comparison)
}

fn compare_block(
    comparison: &mut Comparison,
    block: &Block,
    row: Option<&BlockRow>,
    signatures: Option<&Vec<String>>,
) {
    let expected = BlockRow {
        blockhash: block.blockhash.clone(),
        parent_slot: block.parent_slot,
        parent_blockhash: block.parent_blockhash.clone(),
        executed_transaction_count: block.transactions.len() as u64,
    };
    if row != Some(&expected) {
        comparison.differ(format!("slot {}: the chain has {expected:?}, the output {row:?}", block.slot));
    }
    let none = Vec::new();
    let signatures = signatures.unwrap_or(&none);
    comparison.transactions += signatures.len() as u64;
    let expected: Vec<String> = block.transactions.iter().map(|info| base58(&info.signature)).collect();
    if &expected != signatures {
        let at = expected.iter().zip(signatures).position(|(chain, output)| chain != output);
        let at = at.unwrap_or(expected.len().min(signatures.len()));
        comparison.differ(format!("slot {}: transactions differ from index {at} on", block.slot));
    }
}

fn base58(signature: &[u8]) -> String {
    let Some(signature) = signature.first_chunk::<64>() else { return String::new() };
    let mut text = [0; 88];
    let length = five8::encode_64(signature, &mut text);
    String::from_utf8_lossy(&text[..usize::from(length)]).into_owned()
}

fn read_blocks(folder: &Path) -> anyhow::Result<BTreeMap<u64, BlockRow>> {
    let mut blocks = BTreeMap::new();
    for_each_row(&folder.join("blocks"), |row| {
        let block = BlockRow {
            blockhash: text(row, "blockhash")?,
            parent_slot: number(row, "parent_slot")?,
            parent_blockhash: text(row, "parent_blockhash")?,
            executed_transaction_count: number(row, "executed_transaction_count")?,
        };
        blocks.insert(number(row, "slot")?, block);
        Ok(())
    })?;
    Ok(blocks)
}

fn read_signatures(folder: &Path) -> anyhow::Result<BTreeMap<u64, Vec<String>>> {
    let mut signatures: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for_each_row(&folder.join("transactions"), |row| {
        signatures.entry(number(row, "slot")?).or_default().push(text(row, "signature")?);
        Ok(())
    })?;
    Ok(signatures)
}

fn read_skipped(folder: &Path) -> anyhow::Result<Vec<u64>> {
    let mut skipped = Vec::new();
    for_each_row(&folder.join("skipped_slots"), |row| {
        skipped.push(number(row, "slot")?);
        Ok(())
    })?;
    Ok(skipped)
}

fn for_each_row(dataset: &Path, mut each: impl FnMut(&Row) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for path in files(dataset)? {
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let reader = SerializedFileReader::new(file).with_context(|| path.display().to_string())?;
        for row in reader.get_row_iter(None)? {
            each(&row?)?;
        }
    }
    Ok(())
}

/// The dataset's files in the order of their slots.
fn files(dataset: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for epoch in std::fs::read_dir(dataset).with_context(|| dataset.display().to_string())? {
        for file in std::fs::read_dir(epoch?.path())? {
            files.push(file?.path());
        }
    }
    files.sort();
    Ok(files)
}

fn field<'r>(row: &'r Row, name: &str) -> anyhow::Result<&'r Field> {
    let found = row.get_column_iter().find(|(column, _)| column.as_str() == name);
    found.map(|(_, value)| value).with_context(|| format!("there is no column {name}"))
}

fn text(row: &Row, name: &str) -> anyhow::Result<String> {
    match field(row, name)? {
        Field::Str(text) => Ok(text.clone()),
        other => anyhow::bail!("column {name} holds {other}, not text"),
    }
}

fn number(row: &Row, name: &str) -> anyhow::Result<u64> {
    match field(row, name)? {
        Field::ULong(number) => Ok(*number),
        Field::UInt(number) => Ok(u64::from(*number)),
        Field::Long(number) => Ok(u64::try_from(*number)?),
        other => anyhow::bail!("column {name} holds {other}, not a number"),
    }
}
