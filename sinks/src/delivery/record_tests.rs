use std::collections::BTreeSet;

use serde_json::Value;
use sluice_stages::block::Way;

use super::*;
use crate::delivery::filters::FilterOptions;
use crate::parquet::testing::{Chain, block_of, without_extras};
use crate::parquet::{Dataset, KeyFormat, schema};

fn records(kinds: &[RecordKind], options: &FilterOptions, block: &Block) -> Vec<Value> {
    let mut lines = Lines::default();
    Recorder::new(kinds, Filters::new(options)).record_block(block, &mut lines);
    lines.iter().map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

fn names_of(record: &Value) -> BTreeSet<String> {
    record.as_object().expect("an object").keys().cloned().collect()
}

fn columns_of(dataset: Dataset) -> BTreeSet<String> {
    schema(dataset, KeyFormat::Base58).fields().iter().map(|field| field.name().clone()).collect()
}

#[test]
fn records_have_the_names_of_the_columns() {
    // Slot 10 is skipped.
    let chain = Chain::generate(8, 14, 3);
    let all = records(&RecordKind::ALL, &FilterOptions::default(), &block_of(&chain, 11));
    let words: Vec<_> = all.iter().map(|record| record["type"].as_str().expect("a type")).collect();
    assert_eq!(words, ["skipped_slot", "block", "transaction", "transaction", "transaction"]);
    let named = |record: &Value, extra: &[&str]| {
        let mut names = names_of(record);
        assert!(extra.iter().all(|name| names.remove(*name)), "{names:?}");
        names
    };
    assert_eq!(named(&all[0], &["type"]), columns_of(Dataset::SkippedSlots));
    assert_eq!(named(&all[1], &["type"]), columns_of(Dataset::Blocks));
    let transaction = named(&all[2], &["type", "instructions", "token_balances"]);
    assert_eq!(transaction, columns_of(Dataset::Transactions));
    for (list, dataset) in
        [("instructions", Dataset::Instructions), ("token_balances", Dataset::TokenBalances)]
    {
        let mut columns = columns_of(dataset);
        assert!(columns.remove("slot") && columns.remove("transaction_index"));
        assert_eq!(names_of(&all[2][list][0]), columns, "{list}");
    }
}

#[test]
fn values_are_those_of_the_chain() {
    let chain = Chain::generate(8, 14, 3);
    let all = records(&RecordKind::ALL, &FilterOptions::default(), &block_of(&chain, 11));
    assert_eq!(
        all[0],
        serde_json::json!({"type": "skipped_slot", "slot": 10, "parent_slot": 9, "child_slot": 11})
    );
    assert_eq!(all[1]["block_time"], 1_700_000_011);
    let failed = &all[4];
    assert_eq!(failed["err"], serde_json::json!({"InstructionError": [1, {"Custom": 6}]}));
    assert_eq!(all[2]["err"], Value::Null);
    let signature = failed["signature"].as_str().expect("a text");
    assert_eq!(bs58::decode(signature).into_vec().expect("base58").len(), 64);
    let order: Vec<_> = failed["instructions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["index"].as_u64(), one["outer_index"].as_u64(), one["inner_index"].as_u64()))
        .collect();
    let expected = [(0, 0, None), (1, 1, None), (2, 1, Some(0)), (3, 1, Some(1))];
    assert_eq!(order, expected.map(|(index, outer, inner)| (Some(index), Some(outer), inner)));
    assert_eq!(failed["token_balances"][1]["moment"], "post");
    assert_eq!(failed["token_balances"][1]["amount"], 12);
}

#[test]
fn the_same_slot_gives_the_same_bytes_whichever_way_it_came() {
    let block = block_of(&Chain::generate(8, 14, 3), 11);
    let bytes = |block: &Block| {
        let mut lines = Lines::default();
        Recorder::new(&RecordKind::ALL, Filters::default()).record_block(block, &mut lines);
        lines
    };
    let again = Block { way: Way::Replay, ..without_extras(&block) };
    assert_eq!(bytes(&block), bytes(&again));
}

#[test]
fn only_what_was_asked_for_is_recorded() {
    let block = block_of(&Chain::generate(8, 14, 12), 11);
    let count = |kinds: &[RecordKind], options: &FilterOptions| records(kinds, options, &block).len();
    let failed = FilterOptions { failed: Some(true), ..FilterOptions::default() };
    assert_eq!(count(&[RecordKind::Transactions], &FilterOptions::default()), 12);
    assert_eq!(count(&[RecordKind::Transactions], &failed), 3);
    assert_eq!(count(&[RecordKind::Blocks], &failed), 1);
    assert_eq!(count(&[RecordKind::Alerts], &FilterOptions::default()), 0);
}
