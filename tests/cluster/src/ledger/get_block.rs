//! Reads `getBlock` answers (encodings `json` and `base64`) back into the form that Yellowstone streams.
//!
//! Format: <https://solana.com/docs/rpc/http/getblock>. A result names no slot of its own; see [`parse`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use solana_transaction_error::TransactionError;
use yellowstone_grpc_proto::prelude as proto;

use super::block::Block;
use super::transaction::{self, WireError};

/// Why JSON is not a block.
#[derive(Debug, thiserror::Error)]
pub enum GetBlockError {
    /// It has another shape.
    #[error("not a getBlock result: {0}")]
    Json(#[from] serde_json::Error),
    /// The answer is an error of the server's.
    #[error("the answer is an error: {0}")]
    Refused(Value),
    /// A key, hash, signature or instruction is not base58.
    #[error("{0:?} is not base58")]
    Base58(String),
    /// Bytes are not base64.
    #[error("bytes are not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// A transaction's bytes are not one.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Only `json`, `base64` and `base58` hold whole transactions.
    #[error("encoding {0:?} can't be read; ask for json or base64")]
    Encoding(String),
    /// An error that can't be written as bincode.
    #[error("transaction error {0} can't be encoded")]
    Error(Value),
}

type Result<T> = std::result::Result<T, GetBlockError>;

/// Reads a bare result or a whole JSON-RPC answer. Without `slot`, it is taken to be its parent's successor.
pub fn parse(value: Value, slot: Option<u64>) -> Result<Block> {
    if let Some(error) = value.get("error") {
        return Err(GetBlockError::Refused(error.clone()));
    }
    let result = match value {
        Value::Object(mut answer) if answer.contains_key("result") => {
            answer.remove("result").unwrap_or_default()
        }
        bare => bare,
    };
    let json: JsonBlock = serde_json::from_value(result)?;
    let transactions = json.transactions.into_iter().enumerate().map(|(index, one)| one.into_info(index));
    Ok(Block {
        slot: slot.unwrap_or(json.parent_slot + 1),
        parent_slot: json.parent_slot,
        blockhash: json.blockhash,
        parent_blockhash: json.previous_blockhash,
        block_time: json.block_time,
        block_height: json.block_height,
        rewards: json.rewards.unwrap_or_default().into_iter().map(JsonReward::into_proto).collect(),
        num_partitions: json.num_reward_partitions,
        transactions: transactions.collect::<Result<_>>()?,
        ..Block::default()
    })
}

/// The chain's own bytes of an error that JSON names.
pub fn error_bytes(error: &Value) -> Result<Vec<u8>> {
    let mut normal = error.clone();
    if let Some(inner) = normal.pointer_mut("/InstructionError/1")
        && inner.get("BorshIoError").is_some()
    {
        // Servers before SDK 3 gave this one a text that the chain does not hold.
        *inner = json!("BorshIoError");
    }
    let parsed: TransactionError =
        serde_json::from_value(normal).map_err(|_| GetBlockError::Error(error.clone()))?;
    bincode::serialize(&parsed).map_err(|_| GetBlockError::Error(error.clone()))
}

fn base58(text: &str) -> Result<Vec<u8>> {
    bs58::decode(text).into_vec().map_err(|_| GetBlockError::Base58(text.to_owned()))
}

fn base58_all(texts: &[String]) -> Result<Vec<Vec<u8>>> {
    texts.iter().map(|text| base58(text)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonBlock {
    previous_blockhash: String,
    blockhash: String,
    parent_slot: u64,
    transactions: Vec<JsonTransaction>,
    rewards: Option<Vec<JsonReward>>,
    num_reward_partitions: Option<u64>,
    block_time: Option<i64>,
    block_height: Option<u64>,
}

#[derive(Deserialize)]
struct JsonTransaction {
    transaction: Body,
    meta: Option<JsonMeta>,
    version: Option<Value>,
}

impl JsonTransaction {
    fn into_info(self, index: usize) -> Result<proto::SubscribeUpdateTransactionInfo> {
        let version = self.version.as_ref().and_then(Value::as_u64);
        let transaction = match self.transaction {
            Body::Encoded(text, encoding) if encoding == "base64" => {
                transaction::decode(&STANDARD.decode(text)?)?
            }
            Body::Encoded(text, encoding) if encoding == "base58" => transaction::decode(&base58(&text)?)?,
            Body::Encoded(_, encoding) => return Err(GetBlockError::Encoding(encoding)),
            Body::Parsed(parsed) => parsed.into_proto(version)?,
        };
        Ok(proto::SubscribeUpdateTransactionInfo {
            signature: transaction.signatures.first().cloned().unwrap_or_default(),
            is_vote: transaction::is_vote(&transaction),
            transaction: Some(transaction),
            meta: self.meta.map(JsonMeta::into_proto).transpose()?,
            index: index as u64,
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Encoded(String, String),
    Parsed(JsonBody),
}

#[derive(Deserialize)]
struct JsonBody {
    signatures: Vec<String>,
    message: JsonMessage,
}

impl JsonBody {
    fn into_proto(self, version: Option<u64>) -> Result<proto::Transaction> {
        let message = self.message.into_proto(version)?;
        Ok(proto::Transaction { signatures: base58_all(&self.signatures)?, message: Some(message) })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonMessage {
    header: JsonHeader,
    account_keys: Vec<String>,
    recent_blockhash: String,
    instructions: Vec<JsonInstruction>,
    address_table_lookups: Option<Vec<JsonLookup>>,
    transaction_config: Option<JsonConfig>,
}

impl JsonMessage {
    fn into_proto(self, version: Option<u64>) -> Result<proto::Message> {
        let instructions = self.instructions.into_iter().map(|one| {
            let data = base58(&one.data)?;
            Ok(proto::CompiledInstruction {
                program_id_index: one.program_id_index,
                accounts: one.accounts,
                data,
            })
        });
        let lookups = self.address_table_lookups.unwrap_or_default().into_iter().map(JsonLookup::into_proto);
        Ok(proto::Message {
            header: Some(self.header.into_proto()),
            account_keys: base58_all(&self.account_keys)?,
            recent_blockhash: base58(&self.recent_blockhash)?,
            instructions: instructions.collect::<Result<_>>()?,
            versioned: version.is_some(),
            address_table_lookups: lookups.collect::<Result<_>>()?,
            config: (version == Some(1)).then(|| self.transaction_config.unwrap_or_default().into_proto()),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonHeader {
    num_required_signatures: u32,
    num_readonly_signed_accounts: u32,
    num_readonly_unsigned_accounts: u32,
}

impl JsonHeader {
    fn into_proto(self) -> proto::MessageHeader {
        proto::MessageHeader {
            num_required_signatures: self.num_required_signatures,
            num_readonly_signed_accounts: self.num_readonly_signed_accounts,
            num_readonly_unsigned_accounts: self.num_readonly_unsigned_accounts,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonInstruction {
    program_id_index: u32,
    accounts: Vec<u8>,
    data: String,
    stack_height: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonLookup {
    account_key: String,
    writable_indexes: Vec<u8>,
    readonly_indexes: Vec<u8>,
}

impl JsonLookup {
    fn into_proto(self) -> Result<proto::MessageAddressTableLookup> {
        Ok(proto::MessageAddressTableLookup {
            account_key: base58(&self.account_key)?,
            writable_indexes: self.writable_indexes,
            readonly_indexes: self.readonly_indexes,
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct JsonConfig {
    priority_fee: Option<u64>,
    compute_unit_limit: Option<u32>,
    loaded_accounts_data_size_limit: Option<u32>,
    heap_size: Option<u32>,
}

impl JsonConfig {
    fn into_proto(self) -> proto::TransactionConfig {
        proto::TransactionConfig {
            priority_fee: self.priority_fee,
            compute_unit_limit: self.compute_unit_limit,
            loaded_accounts_data_size_limit: self.loaded_accounts_data_size_limit,
            heap_size: self.heap_size,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonMeta {
    err: Option<Value>,
    fee: u64,
    pre_balances: Vec<u64>,
    post_balances: Vec<u64>,
    inner_instructions: Option<Vec<JsonInner>>,
    log_messages: Option<Vec<String>>,
    pre_token_balances: Option<Vec<JsonTokenBalance>>,
    post_token_balances: Option<Vec<JsonTokenBalance>>,
    rewards: Option<Vec<JsonReward>>,
    loaded_addresses: Option<JsonLoaded>,
    return_data: Option<JsonReturnData>,
    compute_units_consumed: Option<u64>,
    cost_units: Option<u64>,
}

impl JsonMeta {
    fn into_proto(self) -> Result<proto::TransactionStatusMeta> {
        let err = self.err.as_ref().map(error_bytes).transpose()?;
        let loaded = self.loaded_addresses.unwrap_or_default();
        let inner = self.inner_instructions.map(|all| all.into_iter().map(JsonInner::into_proto).collect());
        let inner: Option<Vec<_>> = inner.map_or(Ok(None), |all: Result<_>| all.map(Some))?;
        let return_data = self.return_data.map(JsonReturnData::into_proto).transpose()?;
        Ok(proto::TransactionStatusMeta {
            err: err.map(|err| proto::TransactionError { err }),
            fee: self.fee,
            pre_balances: self.pre_balances,
            post_balances: self.post_balances,
            inner_instructions_none: inner.is_none(),
            inner_instructions: inner.unwrap_or_default(),
            log_messages_none: self.log_messages.is_none(),
            log_messages: self.log_messages.unwrap_or_default(),
            pre_token_balances: token_balances(self.pre_token_balances),
            post_token_balances: token_balances(self.post_token_balances),
            rewards: self.rewards.unwrap_or_default().into_iter().map(JsonReward::into_proto).collect(),
            loaded_writable_addresses: base58_all(&loaded.writable)?,
            loaded_readonly_addresses: base58_all(&loaded.readonly)?,
            return_data_none: return_data.is_none(),
            return_data,
            compute_units_consumed: self.compute_units_consumed,
            cost_units: self.cost_units,
        })
    }
}

#[derive(Deserialize, Default)]
struct JsonLoaded {
    writable: Vec<String>,
    readonly: Vec<String>,
}

#[derive(Deserialize)]
struct JsonInner {
    index: u32,
    instructions: Vec<JsonInstruction>,
}

impl JsonInner {
    fn into_proto(self) -> Result<proto::InnerInstructions> {
        let instruction = |one: JsonInstruction| {
            Ok(proto::InnerInstruction {
                program_id_index: one.program_id_index,
                accounts: one.accounts,
                data: base58(&one.data)?,
                stack_height: one.stack_height,
            })
        };
        let instructions = self.instructions.into_iter().map(instruction).collect::<Result<_>>()?;
        Ok(proto::InnerInstructions { index: self.index, instructions })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonTokenBalance {
    account_index: u32,
    mint: String,
    ui_token_amount: JsonAmount,
    owner: Option<String>,
    program_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonAmount {
    ui_amount: Option<f64>,
    decimals: u32,
    amount: String,
    #[serde(default)]
    ui_amount_string: String,
}

impl JsonAmount {
    /// Computed as a node computes it: a decimal number may be read one bit off.
    fn exact(&self) -> f64 {
        let divisor = 10_u64.checked_pow(self.decimals);
        match (self.ui_amount, self.amount.parse::<u64>(), divisor) {
            (Some(_), Ok(amount), Some(divisor)) => amount as f64 / divisor as f64,
            (told, ..) => told.unwrap_or_default(),
        }
    }
}

fn token_balances(balances: Option<Vec<JsonTokenBalance>>) -> Vec<proto::TokenBalance> {
    let convert = |balance: JsonTokenBalance| proto::TokenBalance {
        account_index: balance.account_index,
        mint: balance.mint,
        ui_token_amount: Some(proto::UiTokenAmount {
            ui_amount: balance.ui_token_amount.exact(),
            decimals: balance.ui_token_amount.decimals,
            amount: balance.ui_token_amount.amount,
            ui_amount_string: balance.ui_token_amount.ui_amount_string,
        }),
        owner: balance.owner.unwrap_or_default(),
        program_id: balance.program_id.unwrap_or_default(),
    };
    balances.unwrap_or_default().into_iter().map(convert).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonReturnData {
    program_id: String,
    data: (String, String),
}

impl JsonReturnData {
    fn into_proto(self) -> Result<proto::ReturnData> {
        Ok(proto::ReturnData { program_id: base58(&self.program_id)?, data: STANDARD.decode(self.data.0)? })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonReward {
    pubkey: String,
    lamports: i64,
    post_balance: u64,
    reward_type: Option<String>,
    commission: Option<u8>,
    commission_bps: Option<u16>,
}

impl JsonReward {
    fn into_proto(self) -> proto::Reward {
        let kind = match self.reward_type.as_deref() {
            Some("Fee" | "fee") => proto::RewardType::Fee,
            Some("Rent" | "rent") => proto::RewardType::Rent,
            Some("Staking" | "staking") => proto::RewardType::Staking,
            Some("Voting" | "voting") => proto::RewardType::Voting,
            Some("DeactivatedStake") => proto::RewardType::DeactivatedStake,
            Some("VATDebit") => proto::RewardType::VatDebit,
            _ => proto::RewardType::Unspecified,
        };
        proto::Reward {
            pubkey: self.pubkey,
            lamports: self.lamports,
            post_balance: self.post_balance,
            reward_type: kind as i32,
            commission: self.commission.map(|one| one.to_string()).unwrap_or_default(),
            commission_bps: self.commission_bps.map(|one| one.to_string()).unwrap_or_default(),
        }
    }
}
