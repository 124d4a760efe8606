//! Answers of RPC `getBlock` turned into the very frames that a live stream would have brought. Pure.
//!
//! In: the `result` of `getBlock` with `encoding: "base64"` and rewards. Out: a transaction frame for each transaction, by
//! index, and a block meta frame, encoded as a Yellowstone server encodes them, so that everything downstream has one
//! path. Differences to a live frame are those that can't be known: no filter names but Sluice's own on the meta, no
//! `created_at`, bank id 0 and entries count 0, both "unknown" by the protocol.
//!
//! Fields that are not known are skipped and fields that are not there take their defaults, so that a newer or older
//! node's answer is read as far as it goes. A transaction error of a kind that is not known yet can't be written as
//! bincode; it is carried as JSON behind [`UNKNOWN_ERROR_TAG`] instead of failing the block.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use solana_transaction_error::TransactionError;
use thiserror::Error;
use yellowstone_grpc_proto::prelude as proto;
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;

use super::ledger_format::{self, LedgerFormatError};
use crate::frame::{Frame, FrameError};
use crate::slot::Slot;
use crate::yellowstone::request::LEDGER_FILTER;

/// Stands where bincode has the number of a `TransactionError`'s variant when the variant is not known here; the
/// error's JSON text follows. No variant will ever have this number.
pub const UNKNOWN_ERROR_TAG: [u8; 4] = [0xff; 4];

/// Token amounts with more decimals than this have no value as a floating-point number (Agave's rule).
const MAX_UI_DECIMALS: u32 = 19;

/// What is wrong with an answer.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// It is not a block.
    #[error("not a block: {0}")]
    Shape(#[from] serde_json::Error),
    /// A transaction that can't be read.
    #[error("transaction {index}: {fault}")]
    Transaction {
        /// Its position in the block.
        index: usize,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A frame that our own scan refuses: a key of the wrong size, say.
    #[error("converted frame: {0}")]
    Frame(#[from] FrameError),
}

/// What is wrong with one transaction of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// Text that is not base64.
    #[error("{0} is not base64")]
    Base64(&'static str),
    /// Text that is not base58, or not of 32 bytes where a key stands.
    #[error("{0} is not base58 of the right length")]
    Base58(&'static str),
    /// An encoding that was not asked for.
    #[error("the encoding is `{0}`")]
    Encoding(String),
    /// The ledger's bytes.
    #[error(transparent)]
    Ledger(#[from] LedgerFormatError),
    /// The node has lost the outcome.
    #[error("the metadata is missing")]
    NoMeta,
}

/// The frames of a block: its transactions by index, then its meta.
///
/// # Errors
/// If the answer is not a block in base64 encoding, or any transaction in it can't be read.
pub fn block(slot: Slot, answer: Value) -> Result<Vec<Frame>, ConvertError> {
    let mut block: JsonBlock = serde_json::from_value(answer)?;
    let transactions = std::mem::take(&mut block.transactions);
    let count = transactions.len() as u64;
    let mut frames = Vec::with_capacity(transactions.len() + 1);
    for (index, transaction) in transactions.into_iter().enumerate() {
        let info = transaction_info(index, transaction)
            .map_err(|fault| ConvertError::Transaction { index, fault })?;
        let update = proto::SubscribeUpdateTransaction { transaction: Some(info), slot, bank_id: 0 };
        frames.push(frame(Vec::new(), UpdateOneof::Transaction(update))?);
    }
    let meta = UpdateOneof::BlockMeta(block_meta(slot, count, block));
    frames.push(frame(vec![LEDGER_FILTER.to_owned()], meta)?);
    Ok(frames)
}

/// The frame of an update, as a server encodes it.
pub(crate) fn frame(filters: Vec<String>, update: UpdateOneof) -> Result<Frame, FrameError> {
    let update = proto::SubscribeUpdate { filters, update_oneof: Some(update), created_at: None };
    Frame::try_new(Bytes::from(update.encode_to_vec()))
}

fn block_meta(
    slot: Slot,
    executed_transaction_count: u64,
    block: JsonBlock,
) -> proto::SubscribeUpdateBlockMeta {
    let rewards = block.rewards.unwrap_or_default().into_iter().map(reward).collect();
    let num_partitions =
        block.num_reward_partitions.map(|num_partitions| proto::NumPartitions { num_partitions });
    proto::SubscribeUpdateBlockMeta {
        slot,
        blockhash: block.blockhash,
        rewards: Some(proto::Rewards { rewards, num_partitions }),
        block_time: block.block_time.map(|timestamp| proto::UnixTimestamp { timestamp }),
        block_height: block.block_height.map(|block_height| proto::BlockHeight { block_height }),
        parent_slot: block.parent_slot,
        parent_blockhash: block.previous_blockhash,
        executed_transaction_count,
        entries_count: 0,
        bank_id: 0,
    }
}

fn reward(reward: JsonReward) -> proto::Reward {
    let kind = match reward.reward_type.as_deref() {
        Some("Fee") => proto::RewardType::Fee,
        Some("Rent") => proto::RewardType::Rent,
        Some("Staking") => proto::RewardType::Staking,
        Some("Voting") => proto::RewardType::Voting,
        Some("DeactivatedStake") => proto::RewardType::DeactivatedStake,
        Some("VATDebit") => proto::RewardType::VatDebit,
        _ => proto::RewardType::Unspecified,
    };
    proto::Reward {
        pubkey: reward.pubkey,
        lamports: reward.lamports,
        post_balance: reward.post_balance,
        reward_type: kind as i32,
        commission: text_of(reward.commission),
        commission_bps: text_of(reward.commission_bps),
    }
}

fn text_of(number: Option<u64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn transaction_info(
    index: usize,
    json: JsonTransaction,
) -> Result<proto::SubscribeUpdateTransactionInfo, Fault> {
    let (text, encoding) = json.transaction;
    if encoding != "base64" {
        return Err(Fault::Encoding(encoding));
    }
    let bytes = BASE64.decode(text).map_err(|_| Fault::Base64("transaction"))?;
    let transaction = ledger_format::transaction(&bytes)?;
    let signature = transaction.signatures.first().cloned().unwrap_or_default();
    Ok(proto::SubscribeUpdateTransactionInfo {
        signature,
        is_vote: ledger_format::is_simple_vote(&transaction),
        transaction: Some(transaction),
        meta: Some(meta(json.meta.ok_or(Fault::NoMeta)?)?),
        index: index as u64,
    })
}

fn meta(json: JsonMeta) -> Result<proto::TransactionStatusMeta, Fault> {
    let err = json.err.map(|err| proto::TransactionError { err: error_bytes(&err) });
    let loaded = json.loaded_addresses.unwrap_or_default();
    let inner_instructions_none = json.inner_instructions.is_none();
    let log_messages_none = json.log_messages.is_none();
    let return_data = json.return_data.map(return_data).transpose()?;
    Ok(proto::TransactionStatusMeta {
        err,
        fee: json.fee,
        pre_balances: json.pre_balances,
        post_balances: json.post_balances,
        inner_instructions: all(json.inner_instructions, inner_instructions)?,
        inner_instructions_none,
        log_messages: json.log_messages.unwrap_or_default(),
        log_messages_none,
        pre_token_balances: token_balances(json.pre_token_balances),
        post_token_balances: token_balances(json.post_token_balances),
        rewards: json.rewards.unwrap_or_default().into_iter().map(reward).collect(),
        loaded_writable_addresses: all(Some(loaded.writable), |key| self::key("loaded address", &key))?,
        loaded_readonly_addresses: all(Some(loaded.readonly), |key| self::key("loaded address", &key))?,
        return_data_none: return_data.is_none(),
        return_data,
        compute_units_consumed: json.compute_units_consumed,
        cost_units: json.cost_units,
    })
}

fn all<T, U>(items: Option<Vec<T>>, convert: impl FnMut(T) -> Result<U, Fault>) -> Result<Vec<U>, Fault> {
    items.unwrap_or_default().into_iter().map(convert).collect()
}

fn key(what: &'static str, text: &str) -> Result<Vec<u8>, Fault> {
    let mut key = [0; 32];
    five8::decode_32(text, &mut key).map_err(|_| Fault::Base58(what))?;
    Ok(key.to_vec())
}

fn inner_instructions(json: JsonInnerInstructions) -> Result<proto::InnerInstructions, Fault> {
    let instruction = |json: JsonInnerInstruction| {
        Ok(proto::InnerInstruction {
            program_id_index: json.program_id_index,
            accounts: json.accounts,
            data: bs58::decode(&json.data).into_vec().map_err(|_| Fault::Base58("inner instruction"))?,
            stack_height: json.stack_height,
        })
    };
    Ok(proto::InnerInstructions {
        index: json.index,
        instructions: all(Some(json.instructions), instruction)?,
    })
}

fn return_data(json: JsonReturnData) -> Result<proto::ReturnData, Fault> {
    Ok(proto::ReturnData {
        program_id: key("return data's program", &json.program_id)?,
        data: BASE64.decode(&json.data.0).map_err(|_| Fault::Base64("return data"))?,
    })
}

fn token_balances(json: Option<Vec<JsonTokenBalance>>) -> Vec<proto::TokenBalance> {
    let balance = |json: JsonTokenBalance| proto::TokenBalance {
        account_index: json.account_index,
        mint: json.mint,
        ui_token_amount: Some(token_amount(json.ui_token_amount)),
        owner: json.owner.unwrap_or_default(),
        program_id: json.program_id.unwrap_or_default(),
    };
    json.unwrap_or_default().into_iter().map(balance).collect()
}

/// The floating-point amount is computed as a node computes it: JSON's decimal text may be read back one bit off.
fn token_amount(json: JsonTokenAmount) -> proto::UiTokenAmount {
    let exact = json.amount.parse::<u64>().ok().filter(|_| json.decimals <= MAX_UI_DECIMALS);
    let ui_amount = match (json.ui_amount, exact) {
        (Some(_), Some(amount)) => amount as f64 / 10_u64.pow(json.decimals) as f64,
        (told, _) => told.unwrap_or_default(),
    };
    proto::UiTokenAmount {
        ui_amount,
        decimals: json.decimals,
        amount: json.amount,
        ui_amount_string: json.ui_amount_string.unwrap_or_default(),
    }
}

/// bincode of the error, which is what geyser sends.
fn error_bytes(json: &Value) -> Vec<u8> {
    let known =
        TransactionError::deserialize(json).or_else(|_| TransactionError::deserialize(without_text(json)));
    if let Ok(error) = known
        && let Ok(bytes) = bincode::serialize(&error)
    {
        return bytes;
    }
    let mut bytes = UNKNOWN_ERROR_TAG.to_vec();
    bytes.extend(json.to_string().into_bytes());
    bytes
}

/// Nodes before Agave 2.3 gave `BorshIoError` a text, which the chain never had.
fn without_text(json: &Value) -> Value {
    match json {
        Value::Object(members) if members.len() == 1 && members.contains_key("BorshIoError") => {
            Value::String("BorshIoError".to_owned())
        }
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), without_text(value))).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(without_text).collect()),
        other => other.clone(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonBlock {
    blockhash: String,
    previous_blockhash: String,
    parent_slot: u64,
    transactions: Vec<JsonTransaction>,
    rewards: Option<Vec<JsonReward>>,
    num_reward_partitions: Option<u64>,
    block_time: Option<i64>,
    block_height: Option<u64>,
}

#[derive(Deserialize)]
struct JsonTransaction {
    transaction: (String, String),
    meta: Option<JsonMeta>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonMeta {
    err: Option<Value>,
    fee: u64,
    pre_balances: Vec<u64>,
    post_balances: Vec<u64>,
    inner_instructions: Option<Vec<JsonInnerInstructions>>,
    log_messages: Option<Vec<String>>,
    pre_token_balances: Option<Vec<JsonTokenBalance>>,
    post_token_balances: Option<Vec<JsonTokenBalance>>,
    rewards: Option<Vec<JsonReward>>,
    loaded_addresses: Option<JsonLoadedAddresses>,
    return_data: Option<JsonReturnData>,
    compute_units_consumed: Option<u64>,
    cost_units: Option<u64>,
}

#[derive(Deserialize)]
struct JsonInnerInstructions {
    index: u32,
    instructions: Vec<JsonInnerInstruction>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonInnerInstruction {
    program_id_index: u32,
    accounts: Vec<u8>,
    data: String,
    stack_height: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonTokenBalance {
    account_index: u32,
    mint: String,
    ui_token_amount: JsonTokenAmount,
    owner: Option<String>,
    program_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonTokenAmount {
    ui_amount: Option<f64>,
    decimals: u32,
    amount: String,
    ui_amount_string: Option<String>,
}

#[derive(Deserialize, Default)]
struct JsonLoadedAddresses {
    writable: Vec<String>,
    readonly: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonReturnData {
    program_id: String,
    data: (String, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonReward {
    pubkey: String,
    lamports: i64,
    post_balance: u64,
    reward_type: Option<String>,
    commission: Option<u64>,
    commission_bps: Option<u64>,
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
