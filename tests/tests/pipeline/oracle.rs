//! What the rows of a real block have to be, from the data file alone: prost reads `ConfirmedBlock`s, serde_json and
//! Solana's own types read `getBlock` answers. Nothing of the program under test is involved.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use serde_json::{Value, json};
use solana_message::VersionedMessage;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;
use yellowstone_grpc_proto::prelude::{ConfirmedBlock, ConfirmedTransaction, Message, TransactionStatusMeta};
use yellowstone_grpc_proto::solana::storage::confirmed_block::{Reward, TokenBalance};

use crate::rows::hex;

const VOTE_PROGRAM: &str = "Vote111111111111111111111111111111111111111";

/// The rows of each dataset of one block.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) blocks: Vec<Value>,
    pub(crate) transactions: Vec<Value>,
    pub(crate) instructions: Vec<Value>,
    pub(crate) token_balances: Vec<Value>,
    pub(crate) rewards: Vec<Value>,
}

/// An instruction of either kind; keys by position.
struct Instruction {
    program: usize,
    accounts: Vec<u8>,
    data: Vec<u8>,
    stack_height: Option<u64>,
}

/// A transaction as both formats tell it.
struct Transaction {
    signatures: Vec<String>,
    version: &'static str,
    header: [u64; 3],
    keys: Vec<String>,
    recent_blockhash: String,
    lookups: Vec<Value>,
    outer: Vec<Instruction>,
    /// By the outer instruction that called them.
    inner: Vec<(usize, Vec<Instruction>)>,
    /// Account index, mint, owner, program, amount, decimals.
    balances: [Vec<Balance>; 2],
    loaded: [Vec<String>; 2],
    /// Columns that are the same in name and kind.
    outcome: Value,
}

struct Balance {
    account_index: usize,
    mint: String,
    owner: Option<String>,
    program: Option<String>,
    amount: u64,
    decimals: u64,
}

/// Reads a `ConfirmedBlock` protobuf.
pub(crate) fn from_protobuf(bytes: &[u8], slot: u64) -> Rows {
    let block = ConfirmedBlock::decode(bytes).expect("a ConfirmedBlock");
    let mut rows = Rows::default();
    for (index, transaction) in block.transactions.iter().enumerate() {
        rows.add(slot, index, &protobuf_transaction(transaction));
    }
    rows.blocks.push(json!({
        "slot": slot,
        "blockhash": block.blockhash,
        "parent_slot": block.parent_slot,
        "parent_blockhash": block.previous_blockhash,
        "block_time": block.block_time.map(|time| time.timestamp),
        "block_height": block.block_height.map(|height| height.block_height),
        "executed_transaction_count": block.transactions.len(),
    }));
    let mut rewards = block.rewards.clone();
    rewards.sort_by(|one, other| one.pubkey.cmp(&other.pubkey));
    rows.rewards = rewards.iter().enumerate().map(|(index, one)| protobuf_reward(slot, index, one)).collect();
    rows
}

/// Reads the result of `getBlock` in base64.
pub(crate) fn from_json(bytes: &[u8], slot: u64) -> Rows {
    let block: Value = serde_json::from_slice(bytes).expect("JSON");
    let transactions = array(&block["transactions"]);
    let mut rows = Rows::default();
    for (index, transaction) in transactions.iter().enumerate() {
        rows.add(slot, index, &json_transaction(transaction));
    }
    rows.blocks.push(json!({
        "slot": slot,
        "blockhash": block["blockhash"],
        "parent_slot": block["parentSlot"],
        "parent_blockhash": block["previousBlockhash"],
        "block_time": block["blockTime"],
        "block_height": block["blockHeight"],
        "executed_transaction_count": transactions.len(),
    }));
    let mut rewards = array(&block["rewards"]).to_vec();
    rewards.sort_by_key(|reward| text(&reward["pubkey"]));
    let reward = |(index, one): (usize, &Value)| {
        json!({
            "slot": slot,
            "index": index,
            "pubkey": one["pubkey"],
            "lamports": one["lamports"],
            "post_balance": one["postBalance"],
            "reward_type": one["rewardType"],
            "commission": one["commission"],
        })
    };
    rows.rewards = rewards.iter().enumerate().map(reward).collect();
    rows
}

impl Rows {
    fn add(&mut self, slot: u64, index: usize, transaction: &Transaction) {
        self.transactions.push(transaction.row(slot, index));
        let keys = transaction.all_keys();
        let mut place = 0;
        for (outer, instruction) in transaction.outer.iter().enumerate() {
            let called = transaction.inner.iter().filter(|(by, _)| *by == outer).flat_map(|(_, inner)| inner);
            let called = called.enumerate().map(|(position, inner)| (Some(position), inner));
            for (inner, instruction) in std::iter::once((None, instruction)).chain(called) {
                let accounts: Vec<&String> =
                    instruction.accounts.iter().map(|&account| keys[usize::from(account)]).collect();
                self.instructions.push(json!({
                    "slot": slot,
                    "transaction_index": index,
                    "index": place,
                    "outer_index": outer,
                    "inner_index": inner,
                    "stack_height": instruction.stack_height,
                    "program_id": keys[instruction.program],
                    "accounts": accounts,
                    "data": hex(&instruction.data),
                }));
                place += 1;
            }
        }
        for (moment, balances) in ["pre", "post"].into_iter().zip(&transaction.balances) {
            self.token_balances.extend(balances.iter().map(|balance| {
                json!({
                    "slot": slot,
                    "transaction_index": index,
                    "moment": moment,
                    "account_index": balance.account_index,
                    "account": keys[balance.account_index],
                    "mint": balance.mint,
                    "owner": balance.owner,
                    "program_id": balance.program,
                    "amount": balance.amount,
                    "decimals": balance.decimals,
                })
            }));
        }
    }
}

impl Transaction {
    fn all_keys(&self) -> Vec<&String> {
        self.keys.iter().chain(&self.loaded[0]).chain(&self.loaded[1]).collect()
    }

    /// Agave's rule for simple votes.
    fn is_vote(&self) -> bool {
        let is_vote_program = |instruction: &Instruction| self.keys[instruction.program] == VOTE_PROGRAM;
        self.signatures.len() < 3
            && self.version == "legacy"
            && matches!(self.outer.as_slice(), [only] if is_vote_program(only))
    }

    fn row(&self, slot: u64, index: usize) -> Value {
        let mut row = self.outcome.clone();
        let columns = json!({
            "slot": slot,
            "index": index,
            "signature": self.signatures[0],
            "additional_signatures": self.signatures[1..],
            "is_vote": self.is_vote(),
            "version": self.version,
            "num_required_signatures": self.header[0],
            "num_readonly_signed_accounts": self.header[1],
            "num_readonly_unsigned_accounts": self.header[2],
            "account_keys": self.keys,
            "recent_blockhash": self.recent_blockhash,
            "address_table_lookups": self.lookups,
            "config": null,
            "loaded_writable_addresses": self.loaded[0],
            "loaded_readonly_addresses": self.loaded[1],
        });
        let (row_columns, columns) = (row.as_object_mut().expect("an object"), columns.as_object());
        row_columns.extend(columns.expect("an object").clone());
        row
    }
}

fn base58(bytes: &[u8]) -> String {
    bs58::encode(bytes).into_string()
}

fn all_base58(keys: &[Vec<u8>]) -> Vec<String> {
    keys.iter().map(|key| base58(key)).collect()
}

fn lookup(key: String, writable: &[u8], readonly: &[u8]) -> Value {
    json!({ "account_key": key, "writable_indexes": hex(writable), "readonly_indexes": hex(readonly) })
}

fn protobuf_transaction(confirmed: &ConfirmedTransaction) -> Transaction {
    let transaction = confirmed.transaction.as_ref().expect("a transaction");
    let message: &Message = transaction.message.as_ref().expect("a message");
    let meta = confirmed.meta.as_ref().expect("its outcome");
    let header = message.header.as_ref().expect("a header");
    let counts = [
        header.num_required_signatures,
        header.num_readonly_signed_accounts,
        header.num_readonly_unsigned_accounts,
    ];
    let outer = message.instructions.iter().map(|one| Instruction {
        program: one.program_id_index as usize,
        accounts: one.accounts.clone(),
        data: one.data.clone(),
        stack_height: Some(1),
    });
    let tables = message.address_table_lookups.iter();
    Transaction {
        signatures: all_base58(&transaction.signatures),
        version: if message.versioned { "0" } else { "legacy" },
        header: counts.map(u64::from),
        keys: all_base58(&message.account_keys),
        recent_blockhash: base58(&message.recent_blockhash),
        lookups: tables
            .map(|table| lookup(base58(&table.account_key), &table.writable_indexes, &table.readonly_indexes))
            .collect(),
        outer: outer.collect(),
        inner: protobuf_inner(meta),
        balances: [&meta.pre_token_balances, &meta.post_token_balances]
            .map(|balances| balances.iter().map(protobuf_balance).collect()),
        loaded: [all_base58(&meta.loaded_writable_addresses), all_base58(&meta.loaded_readonly_addresses)],
        outcome: protobuf_outcome(meta),
    }
}

fn protobuf_inner(meta: &TransactionStatusMeta) -> Vec<(usize, Vec<Instruction>)> {
    let called = |one: &yellowstone_grpc_proto::prelude::InnerInstruction| Instruction {
        program: one.program_id_index as usize,
        accounts: one.accounts.clone(),
        data: one.data.clone(),
        stack_height: one.stack_height.map(u64::from),
    };
    let sets = meta.inner_instructions.iter();
    sets.map(|set| (set.index as usize, set.instructions.iter().map(called).collect())).collect()
}

fn protobuf_balance(balance: &TokenBalance) -> Balance {
    let amount = balance.ui_token_amount.as_ref().expect("an amount");
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    Balance {
        account_index: balance.account_index as usize,
        mint: balance.mint.clone(),
        owner: some(&balance.owner),
        program: some(&balance.program_id),
        amount: amount.amount.parse().expect("a number"),
        decimals: amount.decimals.into(),
    }
}

fn protobuf_outcome(meta: &TransactionStatusMeta) -> Value {
    let err = meta.err.as_ref().map(|error| {
        let error: TransactionError = bincode::deserialize(&error.err).expect("a known error");
        serde_json::to_string(&error).expect("JSON")
    });
    json!({
        "err": err,
        "fee": meta.fee,
        "pre_balances": meta.pre_balances,
        "post_balances": meta.post_balances,
        "log_messages": (!meta.log_messages_none).then_some(&meta.log_messages),
        "return_data_program_id": meta.return_data.as_ref().map(|data| base58(&data.program_id)),
        "return_data": meta.return_data.as_ref().map(|data| hex(&data.data)),
        "compute_units_consumed": meta.compute_units_consumed,
        "cost_units": meta.cost_units,
    })
}

fn protobuf_reward(slot: u64, index: usize, reward: &Reward) -> Value {
    let kinds = [Value::Null, json!("Fee"), json!("Rent"), json!("Staking"), json!("Voting")];
    json!({
        "slot": slot,
        "index": index,
        "pubkey": reward.pubkey,
        "lamports": reward.lamports,
        "post_balance": reward.post_balance,
        "reward_type": kinds[reward.reward_type as usize],
        "commission": reward.commission.parse::<u8>().ok(),
    })
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn from_base64(value: &Value) -> Vec<u8> {
    STANDARD.decode(value[0].as_str().expect("text")).expect("base64")
}

fn json_transaction(confirmed: &Value) -> Transaction {
    let bytes = from_base64(&confirmed["transaction"]);
    let transaction: VersionedTransaction = wincode::deserialize(&bytes).expect("a transaction");
    let (message, meta) = (&transaction.message, &confirmed["meta"]);
    let header = message.header();
    let counts = [
        header.num_required_signatures,
        header.num_readonly_signed_accounts,
        header.num_readonly_unsigned_accounts,
    ];
    let outer = message.instructions().iter().map(|one| Instruction {
        program: usize::from(one.program_id_index),
        accounts: one.accounts.clone(),
        data: one.data.clone(),
        stack_height: Some(1),
    });
    let tables = message.address_table_lookups().unwrap_or_default().iter();
    let loaded = &meta["loadedAddresses"];
    Transaction {
        signatures: transaction.signatures.iter().map(ToString::to_string).collect(),
        version: match message {
            VersionedMessage::Legacy(_) => "legacy",
            VersionedMessage::V0(_) => "0",
            VersionedMessage::V1(_) => "1",
        },
        header: counts.map(u64::from),
        keys: message.static_account_keys().iter().map(ToString::to_string).collect(),
        recent_blockhash: message.recent_blockhash().to_string(),
        lookups: tables
            .map(|table| {
                lookup(table.account_key.to_string(), &table.writable_indexes, &table.readonly_indexes)
            })
            .collect(),
        outer: outer.collect(),
        inner: array(&meta["innerInstructions"]).iter().map(json_inner).collect(),
        balances: ["preTokenBalances", "postTokenBalances"]
            .map(|name| array(&meta[name]).iter().map(json_balance).collect()),
        loaded: ["writable", "readonly"].map(|name| array(&loaded[name]).iter().map(text).collect()),
        outcome: json_outcome(meta),
    }
}

fn json_inner(set: &Value) -> (usize, Vec<Instruction>) {
    let called = |one: &Value| Instruction {
        program: number(&one["programIdIndex"]) as usize,
        accounts: array(&one["accounts"]).iter().map(|account| number(account) as u8).collect(),
        data: bs58::decode(text(&one["data"])).into_vec().expect("base58"),
        stack_height: one["stackHeight"].as_u64(),
    };
    (number(&set["index"]) as usize, array(&set["instructions"]).iter().map(called).collect())
}

fn json_balance(balance: &Value) -> Balance {
    let amount = &balance["uiTokenAmount"];
    Balance {
        account_index: number(&balance["accountIndex"]) as usize,
        mint: text(&balance["mint"]),
        owner: balance["owner"].as_str().map(str::to_owned),
        program: balance["programId"].as_str().map(str::to_owned),
        amount: text(&amount["amount"]).parse().expect("a number"),
        decimals: number(&amount["decimals"]),
    }
}

fn json_outcome(meta: &Value) -> Value {
    let data = meta.get("returnData").filter(|data| !data.is_null());
    json!({
        "err": meta.get("err").filter(|error| !error.is_null()).map(Value::to_string),
        "fee": meta["fee"],
        "pre_balances": meta["preBalances"],
        "post_balances": meta["postBalances"],
        "log_messages": meta["logMessages"],
        "return_data_program_id": data.map(|data| &data["programId"]),
        "return_data": data.map(|data| hex(&from_base64(&data["data"]))),
        "compute_units_consumed": meta["computeUnitsConsumed"],
        "cost_units": meta["costUnits"],
    })
}
