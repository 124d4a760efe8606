//! Converted answers are held to what a real validator's live stream brought for the same slots.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use serde_json::json;
use solana_message::VersionedMessage;
use solana_transaction::versioned::VersionedTransaction;
use yellowstone_grpc_proto::prelude::SubscribeUpdate;

use super::*;
use crate::frame::{BlockMeta, Kind};
use crate::transaction::{Transaction, Version, check};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/cluster/data").join(name)
}

fn open(name: &str) -> File {
    File::open(data(name)).expect("the data file is part of the project")
}

/// Live updates by slot, as they came.
fn recorded_updates() -> BTreeMap<Slot, Vec<SubscribeUpdate>> {
    let file = open("testvalidator-full-stream.subscribe_updates.bin.zst");
    let bytes = zstd::decode_all(file).expect("valid zstd");
    let mut rest = bytes.as_slice();
    let mut updates: BTreeMap<Slot, Vec<SubscribeUpdate>> = BTreeMap::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        rest = after;
        let update = SubscribeUpdate::decode(frame).expect("a recorded update");
        let slot = match &update.update_oneof {
            Some(UpdateOneof::Transaction(transaction)) => transaction.slot,
            Some(UpdateOneof::BlockMeta(meta)) => meta.slot,
            _ => continue,
        };
        updates.entry(slot).or_default().push(update);
    }
    updates
}

/// `getBlock` results by slot.
fn recorded_answers() -> BTreeMap<Slot, Value> {
    let lines = BufReader::new(GzDecoder::new(open("testvalidator-full-stream.get_blocks.jsonl.gz"))).lines();
    let mut answers = BTreeMap::new();
    for line in lines {
        let mut line: Value = serde_json::from_str(&line.expect("valid gzip")).expect("valid JSON");
        if line["encoding"] == "base64" && line["response"]["result"].is_object() {
            let slot = line["slot"].as_u64().expect("a slot");
            answers.insert(slot, line["response"]["result"].take());
        }
    }
    answers
}

fn mainnet_answer() -> Value {
    let bytes = zstd::decode_all(open("mainnet-254170887.get_block.json.zst")).expect("valid zstd");
    serde_json::from_slice(&bytes).expect("valid JSON")
}

/// The update without what a converted one can't have.
fn comparable(mut update: SubscribeUpdate) -> SubscribeUpdate {
    update.filters.clear();
    update.created_at = None;
    match &mut update.update_oneof {
        Some(UpdateOneof::Transaction(transaction)) => transaction.bank_id = 0,
        Some(UpdateOneof::BlockMeta(meta)) => {
            meta.bank_id = 0;
            meta.entries_count = 0;
        }
        _ => {}
    }
    update
}

fn place(update: &SubscribeUpdate) -> u64 {
    match &update.update_oneof {
        Some(UpdateOneof::Transaction(update)) => update.transaction.as_ref().map_or(0, |info| info.index),
        _ => u64::MAX,
    }
}

#[test]
fn every_recorded_block_is_the_same_from_rpc_and_live() {
    let live = recorded_updates();
    let (mut blocks, mut transactions) = (0, 0);
    for (slot, answer) in recorded_answers() {
        let Some(updates) = live.get(&slot) else { continue };
        let has_meta =
            |update: &SubscribeUpdate| matches!(update.update_oneof, Some(UpdateOneof::BlockMeta(_)));
        let mut live: Vec<_> = updates.iter().cloned().map(comparable).collect();
        live.sort_by_key(place);
        let converted: Vec<_> = block(slot, answer)
            .expect("a whole block")
            .iter()
            .map(|frame| comparable(SubscribeUpdate::decode(frame.bytes().clone()).expect("a valid frame")))
            .collect();
        if live.len() == converted.len() {
            assert_eq!(live, converted, "slot {slot}");
            blocks += 1;
            transactions += converted.len() - 1;
        } else {
            // The recording begins and ends in the middle of a slot.
            assert!(slot == 77 || !updates.iter().any(has_meta), "slot {slot} is not whole");
        }
    }
    assert!(blocks >= 130 && transactions >= 2_000, "{blocks} blocks, {transactions} transactions");
}

#[test]
fn a_mainnet_block_comes_out_whole() {
    let frames = block(254_170_887, mainnet_answer()).expect("a whole block");
    let (meta, transactions) = frames.split_last().expect("at least the meta");
    let meta = BlockMeta::read(meta.body()).expect("a valid meta");
    assert_eq!((meta.executed_transaction_count, meta.parent_slot), (602, 254_170_886));
    let mut read = Transaction::default();
    let (mut v0, mut failed, mut inner) = (0, 0, 0);
    for (index, frame) in transactions.iter().enumerate() {
        let mut frame = frame.clone();
        check(&mut frame, &mut read).expect("a well-formed transaction");
        read.read(frame.body()).expect("a well-formed transaction");
        assert_eq!((frame.header.kind, frame.header.index as usize), (Kind::Transaction, index));
        assert!(!frame.header.ledger_only);
        v0 += usize::from(read.version == Version::V0);
        failed += usize::from(read.err.is_some());
        inner += read.inner_instructions.len();
    }
    assert_eq!((transactions.len(), v0, failed), (602, 263, 305));
    assert!(inner > 0);
}

#[test]
fn the_computed_token_amounts_are_those_of_the_node() {
    let answer = mainnet_answer();
    let mut compared = 0;
    for transaction in answer["transactions"].as_array().expect("transactions") {
        for balance in transaction["meta"]["preTokenBalances"].as_array().into_iter().flatten() {
            let json = &balance["uiTokenAmount"];
            let Some(told) = json["uiAmount"].as_f64() else { continue };
            let amount = token_amount(serde_json::from_value(json.clone()).expect("an amount")).ui_amount;
            assert!((amount - told).abs() <= told * f64::EPSILON, "{json}");
            compared += 1;
        }
    }
    assert!(compared > 100);
}

/// The ledger's bytes of all transactions of the mainnet block.
fn mainnet_transactions() -> Vec<Vec<u8>> {
    let answer = mainnet_answer();
    let transactions = answer["transactions"].as_array().expect("transactions").iter();
    transactions
        .map(|json| BASE64.decode(json["transaction"][0].as_str().expect("text")).expect("base64"))
        .collect()
}

fn proto_of(transaction: &VersionedTransaction) -> proto::Transaction {
    let message = &transaction.message;
    let header = message.header();
    let instructions = message.instructions().iter().map(|instruction| proto::CompiledInstruction {
        program_id_index: instruction.program_id_index.into(),
        accounts: instruction.accounts.clone(),
        data: instruction.data.clone(),
    });
    let lookups = message.address_table_lookups().unwrap_or_default().iter();
    let config = match message {
        VersionedMessage::V1(message) => Some(proto::TransactionConfig {
            priority_fee: message.config.priority_fee,
            compute_unit_limit: message.config.compute_unit_limit,
            loaded_accounts_data_size_limit: message.config.loaded_accounts_data_size_limit,
            heap_size: message.config.heap_size,
        }),
        _ => None,
    };
    proto::Transaction {
        signatures: transaction.signatures.iter().map(|signature| signature.as_ref().to_vec()).collect(),
        message: Some(proto::Message {
            header: Some(proto::MessageHeader {
                num_required_signatures: header.num_required_signatures.into(),
                num_readonly_signed_accounts: header.num_readonly_signed_accounts.into(),
                num_readonly_unsigned_accounts: header.num_readonly_unsigned_accounts.into(),
            }),
            account_keys: message.static_account_keys().iter().map(|key| key.to_bytes().to_vec()).collect(),
            recent_blockhash: message.recent_blockhash().to_bytes().to_vec(),
            instructions: instructions.collect(),
            versioned: !matches!(message, VersionedMessage::Legacy(_)),
            address_table_lookups: lookups
                .map(|lookup| proto::MessageAddressTableLookup {
                    account_key: lookup.account_key.to_bytes().to_vec(),
                    writable_indexes: lookup.writable_indexes.clone(),
                    readonly_indexes: lookup.readonly_indexes.clone(),
                })
                .collect(),
            config,
        }),
    }
}

/// A v1 transaction of two instructions, spelled out by the format's document.
fn v1_bytes(mask: u32, config: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x81, 1, 0, 1];
    bytes.extend(mask.to_le_bytes());
    bytes.extend([9; 32]);
    bytes.extend([2, 2]);
    bytes.extend([1; 32]);
    bytes.extend([2; 32]);
    bytes.extend(config);
    bytes.extend([1, 1, 3, 0, 1, 0, 1, 0]);
    bytes.extend([0, 7, 7, 7, 8]);
    bytes.extend([5; 64]);
    bytes
}

#[test]
fn real_transactions_are_read_as_the_chain_reads_them() {
    for bytes in mainnet_transactions() {
        let oracle: VersionedTransaction = wincode::deserialize(&bytes).expect("a real transaction");
        assert_eq!(ledger_format::transaction(&bytes), Ok(proto_of(&oracle)));
    }
}

#[test]
fn v1_transactions_are_read_as_the_chain_reads_them() {
    let full =
        [&7_u64.to_le_bytes()[..], &8_u32.to_le_bytes(), &9_u32.to_le_bytes(), &32_768_u32.to_le_bytes()];
    for (mask, config) in [(0, Vec::new()), (0b11111, full.concat()), (0b100, 8_u32.to_le_bytes().to_vec())] {
        let bytes = v1_bytes(mask, &config);
        let oracle: VersionedTransaction = wincode::deserialize(&bytes).expect("a v1 transaction");
        assert_eq!(ledger_format::transaction(&bytes), Ok(proto_of(&oracle)));
    }
    let half_a_fee = v1_bytes(0b1, &[0; 4]);
    assert_eq!(ledger_format::transaction(&half_a_fee), Err(LedgerFormatError::ConfigMask(1)));
}

#[test]
fn a_version_from_the_future_is_named() {
    let mut bytes = vec![1];
    bytes.extend([0; 64]);
    bytes.extend([0x82, 1, 0, 0]);
    assert_eq!(ledger_format::transaction(&bytes), Err(LedgerFormatError::Version(2)));
}

#[test]
fn errors_are_the_bincode_that_geyser_sends() {
    let cases = [
        json!("AccountInUse"),
        json!({ "InstructionError": [3, { "Custom": 6001 }] }),
        json!({ "InstructionError": [0, "ComputationalBudgetExceeded"] }),
        json!({ "DuplicateInstruction": 4 }),
        json!({ "InsufficientFundsForRent": { "account_index": 2 } }),
    ];
    for case in cases {
        let bytes = error_bytes(&case);
        let error: TransactionError = bincode::deserialize(&bytes).expect("a known error");
        assert_eq!(serde_json::to_value(error).expect("serializable"), case);
    }
    let old = error_bytes(&json!({ "InstructionError": [1, { "BorshIoError": "Unknown" }] }));
    assert_eq!(old, error_bytes(&json!({ "InstructionError": [1, "BorshIoError"] })));
}

#[test]
fn an_error_from_the_future_does_not_fail_the_block() {
    let mut answer = mainnet_answer();
    let future = json!({ "QuantumDecoherence": [1, 2] });
    answer["transactions"][0]["meta"]["err"] = future.clone();
    answer["transactions"][0]["meta"]["somethingNew"] = json!({ "a": 1 });
    let frames = block(1, answer).expect("the rest is as before");
    let mut read = Transaction::default();
    read.read(frames[0].body()).expect("well-formed");
    let err = read.err.expect("failed").of(frames[0].body()).to_vec();
    let (tag, text) = err.split_at(4);
    assert_eq!(tag, UNKNOWN_ERROR_TAG);
    assert_eq!(serde_json::from_slice::<Value>(text).expect("JSON"), future);
}

#[test]
fn what_was_not_recorded_is_told_from_what_was_empty() {
    let mut answer = mainnet_answer();
    answer["transactions"][0]["meta"]["logMessages"] = Value::Null;
    answer["transactions"][0]["meta"]["innerInstructions"] = Value::Null;
    let frames = block(1, answer).expect("a block");
    let mut read = Transaction::default();
    read.read(frames[0].body()).expect("well-formed");
    assert!(read.log_messages_none && read.inner_instructions_none);
}

#[test]
fn a_transaction_without_metadata_or_in_another_encoding_is_refused() {
    let mut answer = mainnet_answer();
    answer["transactions"][5]["meta"] = Value::Null;
    assert!(matches!(block(1, answer), Err(ConvertError::Transaction { index: 5, fault: Fault::NoMeta })));
    let mut answer = mainnet_answer();
    answer["transactions"][2]["transaction"][1] = json!("base58");
    assert!(matches!(
        block(1, answer),
        Err(ConvertError::Transaction { index: 2, fault: Fault::Encoding(_) })
    ));
    assert!(matches!(block(1, json!({ "blockhash": 1 })), Err(ConvertError::Shape(_))));
}

proptest! {
    #[test]
    fn any_bytes_end_in_a_transaction_or_an_error(bytes: Vec<u8>) {
        if let Ok(transaction) = ledger_format::transaction(&bytes) {
            prop_assert!(!transaction.signatures.is_empty());
        }
    }

    #[test]
    fn a_cut_or_longer_transaction_is_never_taken_for_a_whole_one(cut in 1_usize..200, extra in 1_usize..9) {
        let mut bytes = v1_bytes(0, &[]);
        prop_assume!(cut < bytes.len());
        prop_assert!(ledger_format::transaction(&bytes[..bytes.len() - cut]).is_err());
        bytes.extend(vec![0; extra]);
        prop_assert_eq!(ledger_format::transaction(&bytes), Err(LedgerFormatError::Trailing(extra)));
    }

    #[test]
    fn a_changed_byte_changes_the_transaction_or_is_refused(at in 0_usize..214, flip in 1_u8..) {
        let bytes = v1_bytes(0, &[]);
        let mut changed = bytes.clone();
        let at = at % bytes.len();
        changed[at] ^= flip;
        prop_assert_ne!(ledger_format::transaction(&bytes), ledger_format::transaction(&changed));
    }
}

#[test]
fn every_prefix_of_a_real_transaction_is_refused() {
    let bytes = mainnet_transactions().swap_remove(7);
    for length in 0..bytes.len() {
        assert!(ledger_format::transaction(&bytes[..length]).is_err());
    }
}

#[test]
fn votes_are_told_from_other_transactions_as_the_validator_did() {
    let mut seen = [0, 0];
    for update in recorded_updates().into_values().flatten() {
        let Some(UpdateOneof::Transaction(update)) = update.update_oneof else { continue };
        let info = update.transaction.expect("a transaction");
        let transaction = info.transaction.expect("its content");
        assert_eq!(ledger_format::is_simple_vote(&transaction), info.is_vote);
        seen[usize::from(info.is_vote)] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0);
}
