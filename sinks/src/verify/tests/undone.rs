//! What a proof can't do is said, and not taken for what holds, nor for what is broken.

use super::*;

const ALL: ProveOptions = ProveOptions { hashes: true, signatures: true, sample: None };

fn proven(root: &TempDir, options: ProveOptions) -> Report {
    let mut report = audit(root);
    prove(root.path(), options, &Progress::default(), &mut report).expect("listed");
    report
}

fn undone(report: &Report) -> Vec<(Check, Obstacle, u64)> {
    let undone = report.proven.iter().flat_map(|proven| &proven.undone);
    undone.map(|undone| (undone.check, undone.obstacle, undone.blocks)).collect()
}

/// A folder without some datasets.
fn without(datasets: &[&str]) -> TempDir {
    let root = folder(KeyFormat::Base58);
    for dataset in datasets {
        fs::remove_dir_all(root.path().join(dataset)).expect("it was there");
    }
    root
}

fn is_proof(violation: &Violation) -> bool {
    matches!(violation.fault, Fault::Proof(_) | Fault::Signature(_) | Fault::Message(_))
}

#[test]
fn a_folder_of_which_nothing_can_be_proven_is_no_success() {
    let report = proven(&without(&["entries"]), ProveOptions { signatures: false, ..ALL });
    assert!(report.is_clean() && !report.is_done(), "{report}");
    assert_eq!(undone(&report), [(Check::Hashes, Obstacle::NoEntries, report.blocks)]);
    assert!(report.to_string().contains("no violations, but not all that was asked for"), "{report}");
    let root = tempfile::tempdir().expect("a folder");
    let nothing = [Check::Hashes, Check::Signatures].map(|check| (check, Obstacle::NoBlocks, 0));
    assert_eq!(undone(&proven(&root, ALL)), nothing);
    let sample = ProveOptions { sample: Some(0), ..ALL };
    assert_eq!(undone(&proven(&folder(KeyFormat::Base58), sample)), nothing);
}

#[test]
fn a_hole_in_the_entries_is_counted_and_not_left_undone() {
    let root = folder(KeyFormat::Base58);
    fs::remove_file(path(&root, "entries", 50)).expect("there");
    let report = proven(&root, ProveOptions { signatures: false, ..ALL });
    assert!(report.is_done(), "{report}");
    assert!(report.proven.is_some_and(|proven| proven.counted > 0));
}

#[test]
fn a_dataset_that_a_proof_needs_is_missed_and_no_block_is_called_broken_for_it() {
    let root = without(&["instructions"]);
    fs::write(root.path().join("sluice.json"), r#"{"datasets": ["blocks"]}"#).expect("written");
    let report = proven(&root, ProveOptions { hashes: false, ..ALL });
    let missing = Obstacle::Missing("instructions");
    assert_eq!(undone(&report), [(Check::Signatures, missing, report.blocks)]);
    assert!(report.is_clean(), "{report}");
    let report = proven(&without(&["transactions", "instructions", "token_balances"]), ALL);
    let missing = Obstacle::Missing("transactions");
    let expected = [Check::Signatures, Check::Hashes].map(|check| (check, missing, report.blocks));
    assert_eq!(undone(&report), expected);
    assert!(!report.violations.iter().any(is_proof), "{report}");
    assert_eq!(report.proven.map(|proven| proven.blocks), Some(0));
}

#[test]
fn a_file_that_cannot_be_read_leaves_its_range_undone_and_is_told_once() {
    for dataset in ["transactions", "entries"] {
        let root = folder(KeyFormat::Base58);
        fs::write(path(&root, dataset, 50), "no Parquet").expect("written");
        let report = proven(&root, ProveOptions { signatures: false, ..ALL });
        let blocks = chain().slots().iter().filter(|slot| (50..60).contains(*slot)).count() as u64;
        assert_eq!(undone(&report), [(Check::Hashes, Obstacle::Unreadable(dataset), blocks)]);
        let of_range = |violation: &&Violation| violation.slot.is_some_and(|slot| slot >= 50);
        assert!(!report.violations.iter().filter(of_range).any(is_proof), "{report}");
        let of_file = report.violations.iter().filter(|violation| violation.fault.is_of_file());
        assert_eq!(of_file.count(), 1, "{report}");
    }
}

#[test]
fn a_damaged_file_never_ends_a_proof() {
    let root = folder(KeyFormat::Base58);
    let path = path(&root, "blocks", 50);
    let contents = folder::scan(root.path()).expect("listed");
    let file = contents.files.get(&50).and_then(|files| files.get("blocks")).expect("there");
    let whole = fs::read(&path).expect("there");
    for (position, bits) in (0..whole.len()).flat_map(|position| [(position, 1), (position, 0xff)]) {
        let mut flipped = whole.clone();
        flipped[position] ^= bits;
        fs::write(&path, flipped).expect("written");
        if let Ok(batches) = read::batches(file, &["slot", "blockhash"]) {
            let faults = batches.filter(Result::is_err).count();
            assert!(faults <= 1, "nothing comes after what can't be decoded");
        }
    }
}

#[test]
fn a_value_that_is_none_is_named_with_its_place() {
    for (dataset, column, value, index) in [
        ("entries", "hash", "zz", Some(0)),
        ("transactions", "signature", "0OIl", Some(0)),
        ("blocks", "blockhash", "", None),
    ] {
        let root = folder(KeyFormat::Base58);
        rewrite(&path(&root, dataset, 50), |batch| {
            map_text(&batch, column, |row, own| if row == 0 { value.to_owned() } else { own.to_owned() })
        });
        let report = proven(&root, ALL);
        let fault = Fault::Value(column, value.to_owned(), if column == "signature" { 64 } else { 32 });
        let told: Vec<_> = report.violations.iter().filter(|violation| violation.fault == fault).collect();
        assert_eq!(told.len(), 1, "{report}");
        assert_eq!((told[0].slot, told[0].index), (Some(50), index), "{report}");
        assert!(report.is_done(), "the others are looked at");
        let of_columns = |violation: &Violation| matches!(violation.fault, Fault::Column(_));
        assert!(!report.violations.iter().any(of_columns), "{report}");
    }
}

#[test]
fn entries_that_were_chosen_and_are_nowhere_are_noted() {
    let root = without(&["entries"]);
    fs::write(root.path().join("sluice.json"), r#"{"datasets": ["blocks", "entries"]}"#).expect("written");
    let report = audit(&root);
    assert!(report.notes.iter().any(|note| note.starts_with("entries: chosen in sluice.json")), "{report}");
}
