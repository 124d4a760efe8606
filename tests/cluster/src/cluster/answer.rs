//! Renders blocks as `getBlock` results, as Agave does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use solana_transaction_error::TransactionError;
use yellowstone_grpc_proto::prelude as proto;

use crate::ledger::{Block, encode_transaction, message_version};

/// How a transaction's body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Base64,
    Base58,
}

/// How much of the transactions is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Details {
    Full,
    Signatures,
    None,
}

/// What the caller asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockOptions {
    pub(crate) encoding: Encoding,
    pub(crate) details: Details,
    pub(crate) rewards: bool,
    pub(crate) max_version: Option<u8>,
}

/// A transaction's version that the caller did not ask for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnsupportedVersion(pub(crate) u8);

/// A block as a `getBlock` result.
pub(crate) fn block(block: &Block, options: BlockOptions) -> Result<Value, UnsupportedVersion> {
    let mut out = json!({
        "blockhash": block.blockhash,
        "previousBlockhash": block.parent_blockhash,
        "parentSlot": block.parent_slot,
        "blockTime": block.block_time,
        "blockHeight": block.block_height,
    });
    match options.details {
        Details::Full => {
            let all = block.transactions.iter().map(|info| transaction(info, options));
            out["transactions"] = all.collect::<Result<Vec<_>, _>>()?.into();
        }
        Details::Signatures => {
            let all = block.transactions.iter().map(|info| base58(&info.signature));
            out["signatures"] = all.collect::<Vec<_>>().into();
        }
        Details::None => {}
    }
    if options.rewards {
        out["rewards"] = rewards(&block.rewards);
        if let Some(partitions) = block.num_partitions {
            out["numRewardPartitions"] = partitions.into();
        }
    }
    Ok(out)
}

fn transaction(
    info: &proto::SubscribeUpdateTransactionInfo,
    options: BlockOptions,
) -> Result<Value, UnsupportedVersion> {
    let body = info.transaction.clone().unwrap_or_default();
    let version = body.message.as_ref().and_then(message_version);
    if let Some(number) = version
        && options.max_version.is_none_or(|most| number > most)
    {
        return Err(UnsupportedVersion(number));
    }
    let mut out = json!({
        "transaction": match options.encoding {
            Encoding::Json => parsed(&body, version),
            Encoding::Base64 => json!([STANDARD.encode(encode_transaction(&body)), "base64"]),
            Encoding::Base58 => json!([base58(&encode_transaction(&body)), "base58"]),
        },
        "meta": info.meta.as_ref().map(|one| meta(one, options.rewards)),
    });
    if options.max_version.is_some() {
        out["version"] = version.map_or(json!("legacy"), Value::from);
    }
    Ok(out)
}

fn parsed(body: &proto::Transaction, version: Option<u8>) -> Value {
    let message = body.message.clone().unwrap_or_default();
    let header = message.header.unwrap_or_default();
    let outer = message
        .instructions
        .iter()
        .map(|one| instruction(one.program_id_index, &one.accounts, &one.data, Some(1)));
    let mut out = json!({
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": base58_all(&message.account_keys),
        "recentBlockhash": base58(&message.recent_blockhash),
        "instructions": outer.collect::<Vec<_>>(),
    });
    if version == Some(0) {
        let lookup = |one: &proto::MessageAddressTableLookup| {
            json!({
                "accountKey": base58(&one.account_key),
                "writableIndexes": one.writable_indexes,
                "readonlyIndexes": one.readonly_indexes,
            })
        };
        out["addressTableLookups"] = message.address_table_lookups.iter().map(lookup).collect();
    }
    if let Some(config) = message.config {
        out["transactionConfig"] = json!({
            "priorityFee": config.priority_fee,
            "computeUnitLimit": config.compute_unit_limit,
            "loadedAccountsDataSizeLimit": config.loaded_accounts_data_size_limit,
            "heapSize": config.heap_size,
        });
    }
    json!({ "signatures": base58_all(&body.signatures), "message": out })
}

fn instruction(program: u32, accounts: &[u8], data: &[u8], stack_height: Option<u32>) -> Value {
    json!({
        "programIdIndex": program,
        "accounts": accounts,
        "data": base58(data),
        "stackHeight": stack_height,
    })
}

fn meta(meta: &proto::TransactionStatusMeta, with_rewards: bool) -> Value {
    let err = meta.err.as_ref().map(|err| error(&err.err));
    let mut out = json!({
        "status": err.as_ref().map_or(json!({ "Ok": null }), |err| json!({ "Err": err })),
        "err": err,
        "fee": meta.fee,
        "preBalances": meta.pre_balances,
        "postBalances": meta.post_balances,
        "innerInstructions": (!meta.inner_instructions_none).then(|| inner(&meta.inner_instructions)),
        "logMessages": (!meta.log_messages_none).then_some(&meta.log_messages),
        "preTokenBalances": token_balances(&meta.pre_token_balances),
        "postTokenBalances": token_balances(&meta.post_token_balances),
        "loadedAddresses": {
            "writable": base58_all(&meta.loaded_writable_addresses),
            "readonly": base58_all(&meta.loaded_readonly_addresses),
        },
    });
    if with_rewards {
        out["rewards"] = rewards(&meta.rewards);
    }
    if let Some(data) = &meta.return_data {
        let bytes = json!([STANDARD.encode(&data.data), "base64"]);
        out["returnData"] = json!({ "programId": base58(&data.program_id), "data": bytes });
    }
    if let Some(units) = meta.compute_units_consumed {
        out["computeUnitsConsumed"] = units.into();
    }
    if let Some(units) = meta.cost_units {
        out["costUnits"] = units.into();
    }
    out
}

/// An error's JSON. Bytes that no SDK knows are told as they are, rather than left out.
fn error(bytes: &[u8]) -> Value {
    let parsed: Option<TransactionError> = bincode::deserialize(bytes).ok();
    let json = parsed.and_then(|error| serde_json::to_value(error).ok());
    json.unwrap_or_else(|| json!({ "Unknown": STANDARD.encode(bytes) }))
}

fn inner(all: &[proto::InnerInstructions]) -> Value {
    let one = |group: &proto::InnerInstructions| {
        let instructions = group
            .instructions
            .iter()
            .map(|one| instruction(one.program_id_index, &one.accounts, &one.data, one.stack_height));
        json!({ "index": group.index, "instructions": instructions.collect::<Vec<_>>() })
    };
    all.iter().map(one).collect()
}

fn token_balances(all: &[proto::TokenBalance]) -> Value {
    let one = |balance: &proto::TokenBalance| {
        let amount = balance.ui_token_amount.clone().unwrap_or_default();
        let mut out = Map::new();
        out.insert("accountIndex".to_owned(), balance.account_index.into());
        out.insert("mint".to_owned(), balance.mint.clone().into());
        // The archive can't tell an amount of zero from none, and says none.
        let ui_amount = (amount.ui_amount != 0.0).then_some(amount.ui_amount);
        let amount = json!({
            "uiAmount": ui_amount,
            "decimals": amount.decimals,
            "amount": amount.amount,
            "uiAmountString": amount.ui_amount_string,
        });
        out.insert("uiTokenAmount".to_owned(), amount);
        for (key, text) in [("owner", &balance.owner), ("programId", &balance.program_id)] {
            if !text.is_empty() {
                out.insert(key.to_owned(), text.clone().into());
            }
        }
        Value::Object(out)
    };
    all.iter().map(one).collect()
}

fn rewards(all: &[proto::Reward]) -> Value {
    let one = |reward: &proto::Reward| {
        let mut out = json!({
            "pubkey": reward.pubkey,
            "lamports": reward.lamports,
            "postBalance": reward.post_balance,
            "rewardType": reward_type(reward.reward_type()),
            "commission": reward.commission.parse::<u8>().ok(),
        });
        if let Ok(bps) = reward.commission_bps.parse::<u16>() {
            out["commissionBps"] = bps.into();
        }
        out
    };
    all.iter().map(one).collect()
}

fn reward_type(kind: proto::RewardType) -> Option<&'static str> {
    match kind {
        proto::RewardType::Unspecified => None,
        proto::RewardType::Fee => Some("Fee"),
        proto::RewardType::Rent => Some("Rent"),
        proto::RewardType::Staking => Some("Staking"),
        proto::RewardType::Voting => Some("Voting"),
        proto::RewardType::DeactivatedStake => Some("DeactivatedStake"),
        proto::RewardType::VatDebit => Some("VATDebit"),
    }
}

fn base58(bytes: &[u8]) -> String {
    bs58::encode(bytes).into_string()
}

fn base58_all(all: &[Vec<u8>]) -> Vec<String> {
    all.iter().map(|bytes| base58(bytes)).collect()
}
