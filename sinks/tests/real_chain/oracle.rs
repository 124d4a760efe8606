//! What the rows have to be, by prost and bs58 alone, and what they are, by the Parquet reader.

use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt8Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sluice_cluster::ledger::Block;
use solana_transaction_error::TransactionError;
use yellowstone_grpc_proto::geyser::SubscribeUpdateTransactionInfo;
use yellowstone_grpc_proto::solana::storage::confirmed_block as storage;

/// A transaction's row, keys as base58.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct TransactionRow {
    index: u64,
    signatures: Vec<String>,
    is_vote: bool,
    version: String,
    header: [u64; 3],
    account_keys: Vec<String>,
    recent_blockhash: String,
    lookups: Vec<(String, Vec<u8>, Vec<u8>)>,
    err: Option<String>,
    fee: u64,
    balances: [Vec<u64>; 2],
    log_messages: Option<Vec<String>>,
    loaded: [Vec<String>; 2],
    return_data: Option<(String, Vec<u8>)>,
    units: [Option<u64>; 2],
}

/// An instruction's row.
#[derive(Debug, PartialEq)]
pub(crate) struct InstructionRow {
    at: [u64; 3],
    inner_index: Option<u64>,
    stack_height: Option<u64>,
    program_id: String,
    accounts: Vec<String>,
    data: Vec<u8>,
}

/// A token balance's row.
#[derive(Debug, PartialEq)]
pub(crate) struct TokenBalanceRow {
    transaction_index: u64,
    moment: String,
    account_index: u64,
    keys: [Option<String>; 4],
    amount: Option<u64>,
    decimals: u64,
}

/// A reward's row.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RewardRow {
    pubkey: Option<String>,
    reward_type: Option<String>,
    lamports: i64,
    post_balance: u64,
    commission: Option<u64>,
}

/// The rows of a block.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// By index.
    pub(crate) transactions: Vec<TransactionRow>,
    /// In order of execution.
    pub(crate) instructions: Vec<InstructionRow>,
    /// Before, then after.
    pub(crate) token_balances: Vec<TokenBalanceRow>,
    /// Sorted.
    pub(crate) rewards: Vec<RewardRow>,
}

fn base58(bytes: &[u8]) -> String {
    bs58::encode(bytes).into_string()
}

fn all_base58(keys: &[Vec<u8>]) -> Vec<String> {
    keys.iter().map(|key| base58(key)).collect()
}

/// What prost reads from the block.
pub(crate) fn expected(block: &Block) -> Rows {
    let mut rows = Rows::default();
    for info in &block.transactions {
        rows.transactions.push(transaction(info));
        instructions(info, &mut rows.instructions);
        token_balances(info, &mut rows.token_balances);
    }
    rows.rewards = block.rewards.iter().map(reward).collect();
    rows.rewards.sort();
    rows
}

fn parts(
    info: &SubscribeUpdateTransactionInfo,
) -> (&storage::Transaction, &storage::Message, &storage::TransactionStatusMeta) {
    let transaction = info.transaction.as_ref().expect("there");
    (transaction, transaction.message.as_ref().expect("there"), info.meta.as_ref().expect("there"))
}

fn keys_of(info: &SubscribeUpdateTransactionInfo) -> Vec<String> {
    let (_, message, meta) = parts(info);
    let all = message
        .account_keys
        .iter()
        .chain(&meta.loaded_writable_addresses)
        .chain(&meta.loaded_readonly_addresses);
    all.map(|key| base58(key)).collect()
}

fn transaction(info: &SubscribeUpdateTransactionInfo) -> TransactionRow {
    let (transaction, message, meta) = parts(info);
    let header = message.header.expect("there");
    let lookups = &message.address_table_lookups;
    TransactionRow {
        index: info.index,
        signatures: all_base58(&transaction.signatures),
        is_vote: info.is_vote,
        version: if message.versioned { "0" } else { "legacy" }.to_owned(),
        header: [
            header.num_required_signatures,
            header.num_readonly_signed_accounts,
            header.num_readonly_unsigned_accounts,
        ]
        .map(u64::from),
        account_keys: all_base58(&message.account_keys),
        recent_blockhash: base58(&message.recent_blockhash),
        lookups: lookups
            .iter()
            .map(|table| {
                (base58(&table.account_key), table.writable_indexes.clone(), table.readonly_indexes.clone())
            })
            .collect(),
        err: meta.err.as_ref().map(|error| {
            let error: TransactionError = bincode::deserialize(&error.err).expect("a known error");
            serde_json::to_string(&error).expect("JSON")
        }),
        fee: meta.fee,
        balances: [meta.pre_balances.clone(), meta.post_balances.clone()],
        log_messages: (!meta.log_messages_none).then(|| meta.log_messages.clone()),
        loaded: [all_base58(&meta.loaded_writable_addresses), all_base58(&meta.loaded_readonly_addresses)],
        return_data: meta.return_data.as_ref().map(|data| (base58(&data.program_id), data.data.clone())),
        units: [meta.compute_units_consumed, meta.cost_units],
    }
}

fn instructions(info: &SubscribeUpdateTransactionInfo, rows: &mut Vec<InstructionRow>) {
    let ((_, message, meta), keys) = (parts(info), keys_of(info));
    let mut index = 0;
    let mut push = |outer: usize, inner: Option<u64>, height, program: u32, accounts: &[u8], data: &[u8]| {
        rows.push(InstructionRow {
            at: [info.index, index, outer as u64],
            inner_index: inner,
            stack_height: height,
            program_id: keys[program as usize].clone(),
            accounts: accounts.iter().map(|&account| keys[usize::from(account)].clone()).collect(),
            data: data.to_vec(),
        });
        index += 1;
    };
    for (outer_index, outer) in message.instructions.iter().enumerate() {
        push(outer_index, None, Some(1), outer.program_id_index, &outer.accounts, &outer.data);
        let called = meta.inner_instructions.iter().filter(|inner| inner.index as usize == outer_index);
        for (inner_index, inner) in (0..).zip(called.flat_map(|inner| &inner.instructions)) {
            let height = inner.stack_height.map(u64::from);
            push(
                outer_index,
                Some(inner_index),
                height,
                inner.program_id_index,
                &inner.accounts,
                &inner.data,
            );
        }
    }
}

fn token_balances(info: &SubscribeUpdateTransactionInfo, rows: &mut Vec<TokenBalanceRow>) {
    let ((_, _, meta), keys) = (parts(info), keys_of(info));
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    for (moment, balances) in [("pre", &meta.pre_token_balances), ("post", &meta.post_token_balances)] {
        rows.extend(balances.iter().map(|balance| {
            let amount = balance.ui_token_amount.as_ref().expect("there");
            TokenBalanceRow {
                transaction_index: info.index,
                moment: moment.to_owned(),
                account_index: balance.account_index.into(),
                keys: [
                    Some(keys[balance.account_index as usize].clone()),
                    some(&balance.mint),
                    some(&balance.owner),
                    some(&balance.program_id),
                ],
                amount: amount.amount.parse().ok(),
                decimals: amount.decimals.into(),
            }
        }));
    }
}

fn reward(reward: &storage::Reward) -> RewardRow {
    let kinds = ["", "Fee", "Rent", "Staking", "Voting", "DeactivatedStake"];
    RewardRow {
        pubkey: Some(reward.pubkey.clone()),
        reward_type: Some(kinds[reward.reward_type as usize].to_owned()).filter(|kind| !kind.is_empty()),
        lamports: reward.lamports,
        post_balance: reward.post_balance,
        commission: reward.commission.parse().ok(),
    }
}

/// What the files of the one slot hold.
pub(crate) fn read(root: &Path, slot: u64) -> Rows {
    let each = |dataset: &str, push: &mut dyn FnMut(&RecordBatch, usize)| {
        let name = format!("{dataset}/epoch={}/{slot:012}-{slot:012}.parquet", slot / 432_000);
        let file = File::open(root.join(name)).expect("committed");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
        for batch in reader.expect("a Parquet file") {
            let batch = batch.expect("decodes");
            for row in 0..batch.num_rows() {
                assert_eq!(number(&batch, "slot", row), Some(slot));
                push(&batch, row);
            }
        }
    };
    let mut rows = Rows::default();
    each("transactions", &mut |batch, row| rows.transactions.push(transaction_row(batch, row)));
    each("instructions", &mut |batch, row| rows.instructions.push(instruction_row(batch, row)));
    each("token_balances", &mut |batch, row| rows.token_balances.push(token_balance_row(batch, row)));
    each("rewards", &mut |batch, row| rows.rewards.push(reward_row(batch, row)));
    rows.rewards.sort();
    rows
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"))
}

fn number(batch: &RecordBatch, name: &str, row: usize) -> Option<u64> {
    number_in(column(batch, name), row)
}

fn number_in(array: &ArrayRef, row: usize) -> Option<u64> {
    let (bytes, words) = (array.as_primitive_opt::<UInt8Type>(), array.as_primitive_opt::<UInt32Type>());
    array.is_valid(row).then(|| match (bytes, words) {
        (Some(bytes), _) => bytes.value(row).into(),
        (_, Some(words)) => words.value(row).into(),
        _ => array.as_primitive::<UInt64Type>().value(row),
    })
}

fn key_in(array: &ArrayRef, row: usize) -> Option<String> {
    array.is_valid(row).then(|| match array.as_string_opt::<i32>() {
        Some(text) => text.value(row).to_owned(),
        None => base58(array.as_fixed_size_binary().value(row)),
    })
}

fn key(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    key_in(column(batch, name), row)
}

fn list(batch: &RecordBatch, name: &str, row: usize) -> Option<ArrayRef> {
    let list = column(batch, name).as_list::<i32>();
    list.is_valid(row).then(|| list.value(row))
}

fn keys(batch: &RecordBatch, name: &str, row: usize) -> Vec<String> {
    let list = list(batch, name, row).expect("never null");
    (0..list.len()).map(|at| key_in(&list, at).expect("never null")).collect()
}

fn numbers(batch: &RecordBatch, name: &str, row: usize) -> Vec<u64> {
    let list = list(batch, name, row).expect("never null");
    (0..list.len()).map(|at| number_in(&list, at).expect("never null")).collect()
}

fn blob(batch: &RecordBatch, name: &str, row: usize) -> Option<Vec<u8>> {
    let blobs = column(batch, name).as_binary::<i32>();
    blobs.is_valid(row).then(|| blobs.value(row).to_vec())
}

fn transaction_row(batch: &RecordBatch, row: usize) -> TransactionRow {
    let text = |name: &str| {
        let texts = column(batch, name).as_string::<i32>();
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    };
    let mut signatures = vec![key(batch, "signature", row).expect("never null")];
    signatures.extend(keys(batch, "additional_signatures", row));
    let count = |name: &str| number(batch, name, row).expect("never null");
    let log_messages = list(batch, "log_messages", row).map(|list| {
        let lines = list.as_string::<i32>();
        (0..lines.len()).map(|at| lines.value(at).to_owned()).collect()
    });
    TransactionRow {
        index: count("index"),
        signatures,
        is_vote: column(batch, "is_vote").as_boolean().value(row),
        version: text("version").expect("never null"),
        header: ["num_required_signatures", "num_readonly_signed_accounts", "num_readonly_unsigned_accounts"]
            .map(count),
        account_keys: keys(batch, "account_keys", row),
        recent_blockhash: key(batch, "recent_blockhash", row).expect("never null"),
        lookups: lookups(batch, row),
        err: text("err"),
        fee: count("fee"),
        balances: ["pre_balances", "post_balances"].map(|name| numbers(batch, name, row)),
        log_messages,
        loaded: ["loaded_writable_addresses", "loaded_readonly_addresses"].map(|name| keys(batch, name, row)),
        return_data: key(batch, "return_data_program_id", row).zip(blob(batch, "return_data", row)),
        units: ["compute_units_consumed", "cost_units"].map(|name| number(batch, name, row)),
    }
}

fn lookups(batch: &RecordBatch, row: usize) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let list = list(batch, "address_table_lookups", row).expect("never null");
    let tables = list.as_struct();
    let indexes = |name: &str, at: usize| {
        tables.column_by_name(name).expect("there").as_binary::<i32>().value(at).to_vec()
    };
    let table = tables.column_by_name("account_key").expect("there");
    (0..tables.len())
        .map(|at| {
            let key = key_in(table, at).expect("never null");
            (key, indexes("writable_indexes", at), indexes("readonly_indexes", at))
        })
        .collect()
}

fn instruction_row(batch: &RecordBatch, row: usize) -> InstructionRow {
    InstructionRow {
        at: ["transaction_index", "index", "outer_index"]
            .map(|name| number(batch, name, row).expect("never null")),
        inner_index: number(batch, "inner_index", row),
        stack_height: number(batch, "stack_height", row),
        program_id: key(batch, "program_id", row).expect("there"),
        accounts: keys(batch, "accounts", row),
        data: blob(batch, "data", row).expect("never null"),
    }
}

fn token_balance_row(batch: &RecordBatch, row: usize) -> TokenBalanceRow {
    TokenBalanceRow {
        transaction_index: number(batch, "transaction_index", row).expect("never null"),
        moment: column(batch, "moment").as_string::<i32>().value(row).to_owned(),
        account_index: number(batch, "account_index", row).expect("never null"),
        keys: ["account", "mint", "owner", "program_id"].map(|name| key(batch, name, row)),
        amount: number(batch, "amount", row),
        decimals: number(batch, "decimals", row).expect("never null"),
    }
}

fn reward_row(batch: &RecordBatch, row: usize) -> RewardRow {
    let kinds = column(batch, "reward_type").as_string::<i32>();
    RewardRow {
        pubkey: key(batch, "pubkey", row),
        reward_type: kinds.is_valid(row).then(|| kinds.value(row).to_owned()),
        lamports: column(batch, "lamports").as_primitive::<Int64Type>().value(row),
        post_balance: number(batch, "post_balance", row).expect("never null"),
        commission: number(batch, "commission", row),
    }
}
