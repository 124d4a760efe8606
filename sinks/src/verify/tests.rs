use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, PrimitiveArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use super::*;
use crate::parquet::KeyFormat;
use crate::parquet::testing::{Chain, write_folder};

const TRANSACTIONS: u64 = 5;

fn chain() -> Chain {
    Chain::with_skips(20, 63, TRANSACTIONS, |slot| slot % 7 == 3 || (27..=42).contains(&slot))
}

fn folder(keys: KeyFormat) -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    write_folder(root.path(), &chain().blocks(), 10, keys);
    root
}

fn audit(root: &TempDir) -> Report {
    verify(root.path(), VerifyOptions::default()).expect("readable")
}

fn path(root: &TempDir, dataset: &str, first: u64) -> PathBuf {
    root.path().join(format!("{dataset}/epoch=0/{first:012}-{:012}.parquet", first + 9))
}

/// Replaces a file by one whose rows went through `change`.
fn rewrite(path: &Path, change: impl FnOnce(RecordBatch) -> RecordBatch) {
    let file = File::open(path).expect("there");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let mut reader = builder.with_batch_size(1 << 20).build().expect("readable");
    let batch = change(reader.next().expect("has rows").expect("decodes"));
    let file = File::create(path).expect("writable");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a schema");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
}

fn with_column(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let position = batch.schema().index_of(name).expect("a column");
    let mut columns = batch.columns().to_vec();
    columns[position] = column;
    RecordBatch::try_new(batch.schema(), columns).expect("the same type")
}

fn map_u64(batch: &RecordBatch, name: &str, map: impl Fn(usize, u64) -> u64) -> RecordBatch {
    let column: &PrimitiveArray<UInt64Type> = batch.column_by_name(name).expect("there").as_primitive();
    let values = column.values().iter().enumerate().map(|(row, &value)| map(row, value));
    with_column(batch, name, Arc::new(UInt64Array::from_iter_values(values)))
}

fn map_u32(batch: &RecordBatch, name: &str, map: impl Fn(usize, u32) -> u32) -> RecordBatch {
    let column: &PrimitiveArray<UInt32Type> = batch.column_by_name(name).expect("there").as_primitive();
    let values = column.values().iter().enumerate().map(|(row, &value)| map(row, value));
    with_column(batch, name, Arc::new(UInt32Array::from_iter_values(values)))
}

fn map_text(batch: &RecordBatch, name: &str, map: impl Fn(usize, &str) -> String) -> RecordBatch {
    let column = batch.column_by_name(name).expect("there").as_string::<i32>();
    let values = (0..column.len()).map(|row| map(row, column.value(row)));
    with_column(batch, name, Arc::new(StringArray::from_iter_values(values)))
}

use arrow_array::Array;

mod undone;

#[test]
fn what_the_sink_writes_keeps_every_promise() {
    for keys in [KeyFormat::Base58, KeyFormat::Bytes] {
        let report = audit(&folder(keys));
        assert_eq!(report.violations, [], "{report}");
        assert_eq!(report.notes, [] as [String; 0]);
        assert_eq!((report.files, report.slots, report.range), (32, 40, Some((20, 59))));
        let blocks = chain().slots().iter().filter(|slot| **slot < 60).count() as u64;
        assert_eq!((report.blocks, report.skipped), (blocks, 40 - blocks));
        let rows = BTreeMap::from(
            [
                ("accounts", 3),
                ("blocks", 1),
                ("entries", 2),
                ("instructions", 4 * TRANSACTIONS),
                ("rewards", 1),
                ("token_balances", 2 * TRANSACTIONS),
                ("transactions", TRANSACTIONS),
            ]
            .map(|(dataset, rows)| (dataset.to_owned(), rows * blocks)),
        );
        let without_skipped = report.rows.iter().filter(|(dataset, _)| *dataset != "skipped_slots");
        assert_eq!(
            without_skipped.map(|(dataset, rows)| (dataset.clone(), *rows)).collect::<BTreeMap<_, _>>(),
            rows
        );
        assert!(report.to_string().contains("no violations"));
    }
}

#[test]
fn two_folders_of_the_same_chain_have_one_digest() {
    let (first, second) = (audit(&folder(KeyFormat::Base58)), audit(&folder(KeyFormat::Base58)));
    assert_eq!(first.digest, second.digest);
    assert_ne!(first.digest, audit(&folder(KeyFormat::Bytes)).digest);
}

/// Damages a folder, and returns what the audit says, without the files' names.
fn faults(damage: impl FnOnce(&TempDir)) -> Vec<(Option<u64>, Option<u64>, Fault)> {
    let root = folder(KeyFormat::Base58);
    damage(&root);
    let violations = audit(&root).violations.into_iter();
    violations.map(|violation| (violation.slot, violation.index, violation.fault)).collect()
}

#[test]
fn a_lost_row_is_found() {
    let found =
        faults(|root| rewrite(&path(root, "transactions", 50), |batch| batch.slice(0, batch.num_rows() - 1)));
    assert!(found.contains(&(Some(58), None, Fault::TransactionCount(5, 4))), "{found:?}");
    assert!(found.contains(&(Some(58), Some(4), Fault::Orphan("transaction"))), "{found:?}");
}

#[test]
fn a_row_that_is_there_twice_is_found() {
    let again = |row: usize| if row == 3 { 2 } else { row as u32 };
    let found = faults(|root| {
        rewrite(&path(root, "transactions", 50), |batch| {
            let signatures = batch.column_by_name("signature").expect("there").as_string::<i32>().clone();
            let batch =
                map_text(&batch, "signature", |row, _| signatures.value(again(row) as usize).to_owned());
            map_u32(&batch, "index", |row, index| if row == 3 { 2 } else { index })
        });
    });
    assert!(found.contains(&(Some(50), Some(2), Fault::Order)), "{found:?}");
    assert!(found.contains(&(Some(50), Some(2), Fault::Index(3))), "{found:?}");
    assert!(found.iter().any(|(_, _, fault)| matches!(fault, Fault::DuplicateSignature(_))), "{found:?}");
}

#[test]
fn a_signature_in_two_slots_is_found_with_any_bound_of_memory() {
    let root = folder(KeyFormat::Base58);
    rewrite(&path(&root, "transactions", 50), |batch| {
        let signatures = batch.column_by_name("signature").expect("there").as_string::<i32>().clone();
        map_text(
            &batch,
            "signature",
            |row, own| if row == 12 { signatures.value(1).to_owned() } else { own.to_owned() },
        )
    });
    for max_hash_bytes in [1, 100, 1 << 20] {
        let options = VerifyOptions { max_hash_bytes, ..VerifyOptions::default() };
        let report = verify(root.path(), options).expect("readable");
        assert_eq!(report.violations.len(), 1, "{report}");
        assert!(matches!(report.violations[0].fault, Fault::DuplicateSignature(_)));
        assert_eq!(report.violations[0].index, Some(2));
    }
}

#[test]
fn a_broken_chain_is_found_within_and_across_files() {
    let hash =
        |root: &TempDir, first: u64, at: usize| {
            rewrite(&path(root, "blocks", first), |batch| {
                map_text(&batch, "parent_blockhash", |row, own| {
                    if row == at { "other".to_owned() } else { own.to_owned() }
                })
            });
        };
    assert_eq!(faults(|root| hash(root, 50, 2)), [(Some(53), None, Fault::ParentHash(51))]);
    assert_eq!(faults(|root| hash(root, 50, 0)), [(Some(50), None, Fault::ParentHash(49))]);
    let found = faults(|root| {
        rewrite(&path(root, "blocks", 50), |batch| {
            map_u64(&batch, "parent_slot", |row, own| own - u64::from(row == 4))
        });
    });
    assert_eq!(found[0], (Some(55), None, Fault::Fork(53, 54)), "{found:?}");
}

#[test]
fn skips_have_to_be_proven() {
    let found = faults(|root| {
        rewrite(&path(root, "skipped_slots", 50), |batch| batch.slice(1, batch.num_rows() - 1))
    });
    assert_eq!(found, [(Some(52), None, Fault::Unaccounted)]);
    let found = faults(|root| {
        rewrite(&path(root, "skipped_slots", 50), |batch| {
            map_u64(&batch, "slot", |row, own| own + u64::from(row == 0))
        });
    });
    assert!(found.contains(&(Some(53), None, Fault::SkippedAndThere)), "{found:?}");
    let found = faults(|root| {
        rewrite(&path(root, "skipped_slots", 30), |batch| map_u64(&batch, "child_slot", |_, _| 44));
    });
    assert!(matches!(found[..], [.., (_, None, Fault::UnprovenSkip(_))]), "{found:?}");
}

#[test]
fn rows_that_belong_to_nothing_are_found() {
    for dataset in ["instructions", "token_balances"] {
        let found = faults(|root| {
            rewrite(&path(root, dataset, 50), |batch| {
                let last = batch.num_rows() - 1;
                map_u32(&batch, "transaction_index", |row, own| if row == last { 99 } else { own })
            });
        });
        assert!(found.contains(&(Some(58), Some(99), Fault::Orphan("transaction"))), "{dataset}: {found:?}");
    }
    let found = faults(|root| {
        rewrite(&path(root, "rewards", 50), |batch| {
            map_u64(&batch, "slot", |row, own| own + u64::from(row == 1))
        });
    });
    assert!(found.contains(&(Some(52), None, Fault::Orphan("block"))), "{found:?}");
}

#[test]
fn entries_have_to_tile_the_transactions_and_end_in_the_blockhash() {
    let entries = |change: fn(&RecordBatch) -> RecordBatch| {
        faults(|root| rewrite(&path(root, "entries", 50), |batch| change(&batch)))
    };
    let found =
        entries(|batch| map_u32(batch, "executed_transaction_count", |row, own| own + u32::from(row == 0)));
    assert_eq!(
        found,
        [(Some(50), None, Fault::EntryCount(6, 5)), (Some(50), Some(1), Fault::EntryStart(6, 5))]
    );
    let found = entries(|batch| {
        map_text(batch, "hash", |row, own| if row == 1 { "x".to_owned() } else { own.to_owned() })
    });
    assert_eq!(found, [(Some(50), None, Fault::EntryHash)]);
    let found = entries(|batch| batch.slice(2, batch.num_rows() - 2));
    assert_eq!(found, [(Some(50), None, Fault::NoEntries)]);
}

#[test]
fn files_that_are_missing_misnamed_or_foreign_are_found() {
    let remove =
        |root: &TempDir, dataset: &str, first| fs::remove_file(path(root, dataset, first)).expect("there");
    let found = faults(|root| remove(root, "rewards", 30));
    assert_eq!(found, [(None, None, Fault::MissingRange("accounts"))]);
    assert_eq!(faults(|root| remove(root, "entries", 30)), [], "a hole of its own");
    let found = faults(|root| folder::DATASETS.iter().for_each(|dataset| remove(root, dataset, 40)));
    assert!(found.contains(&(None, None, Fault::MissingSlots(40, 49))), "{found:?}");
    let found = faults(|root| {
        fs::rename(path(root, "blocks", 50), root.path().join("blocks/epoch=0/x.parquet")).expect("renamed");
    });
    assert!(found.contains(&(None, None, Fault::Name)), "{found:?}");
    let found = faults(|root| {
        fs::copy(path(root, "transactions", 20), path(root, "transactions", 50)).map(drop).expect("copied");
    });
    assert!(found.contains(&(Some(20), None, Fault::OutsideRange)), "{found:?}");
}

#[test]
fn leftovers_of_a_crash_are_notes_and_not_violations() {
    let root = folder(KeyFormat::Base58);
    let digest = audit(&root).digest;
    fs::write(root.path().join("_staging/blocks.tmp"), "half").expect("written");
    let report = audit(&root);
    assert!(report.is_clean() && report.notes.len() == 1, "{report}");
    assert_eq!(report.digest, digest);
}

#[test]
fn a_file_cut_anywhere_is_unreadable_and_any_flipped_bit_changes_the_digest() {
    let root = folder(KeyFormat::Base58);
    let digest = audit(&root).digest;
    let path = path(&root, "blocks", 50);
    let whole = fs::read(&path).expect("there");
    for length in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..length]).expect("written");
        let report = audit(&root);
        let unreadable = |violation: &Violation| matches!(violation.fault, Fault::Unreadable(_));
        assert!(report.violations.iter().any(unreadable), "cut at {length}");
    }
    for position in (0..whole.len()).step_by(53) {
        let mut flipped = whole.clone();
        flipped[position] ^= 0x10;
        fs::write(&path, flipped).expect("written");
        assert_ne!(audit(&root).digest, digest, "flipped at {position}");
    }
}

#[test]
fn a_filtered_subscription_is_audited_without_counts() {
    let root = folder(KeyFormat::Base58);
    for dataset in ["transactions", "instructions", "token_balances"] {
        rewrite(&path(&root, dataset, 50), |batch| {
            let name = if dataset == "transactions" { "index" } else { "transaction_index" };
            let column: &PrimitiveArray<UInt32Type> =
                batch.column_by_name(name).expect("there").as_primitive();
            let rows = column.values().iter().take_while(|&&index| index < 3).count();
            batch.slice(0, rows)
        });
    }
    let filtered = VerifyOptions { filtered: true, ..VerifyOptions::default() };
    assert!(!audit(&root).is_clean());
    let violations = verify(root.path(), filtered).expect("readable").violations;
    let about = |violation: &&Violation| !violation.file.starts_with("entries");
    assert_eq!(violations.iter().filter(about).count(), 0, "{violations:?}");
}

#[test]
fn a_dataset_that_is_gone_as_a_whole_is_missed() {
    for dataset in ["transactions", "instructions", "token_balances", "rewards", "skipped_slots"] {
        let root = folder(KeyFormat::Base58);
        let settings = r#"{"datasets": ["blocks", "transactions", "instructions", "token_balances", "rewards", "skipped_slots"]}"#;
        std::fs::write(root.path().join("sluice.json"), settings).expect("written");
        std::fs::remove_dir_all(root.path().join(dataset)).expect("it was there");
        let report = verify(root.path(), VerifyOptions::default()).expect("readable");
        let missed = |violation: &Violation| {
            violation.file.starts_with(dataset) && matches!(violation.fault, Fault::MissingRange(_))
        };
        assert!(report.violations.iter().any(missed), "{dataset}: {report}");
    }
}
