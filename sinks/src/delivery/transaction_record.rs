//! The record of a transaction: the columns of `transactions`, with the rows of `instructions` and `token_balances`
//! that belong to it as lists.

use serde::Serialize;
use serde_json::value::RawValue;
use sluice_stages::transaction::{Config, Instruction, TokenBalance, Transaction, Version};

use super::cells::{Accounts, Binary, Key, Keys, Signature, Signatures, Texts};

/// A transaction as JSON. Field names are those of the Parquet columns.
#[derive(Serialize)]
pub(crate) struct TransactionRecord<'a> {
    r#type: &'static str,
    slot: u64,
    index: u32,
    signature: Signature<'a>,
    additional_signatures: Signatures<'a>,
    is_vote: bool,
    version: &'static str,
    num_required_signatures: u32,
    num_readonly_signed_accounts: u32,
    num_readonly_unsigned_accounts: u32,
    account_keys: Keys<'a>,
    recent_blockhash: Key<'a>,
    address_table_lookups: Vec<LookupRecord<'a>>,
    config: Option<ConfigRecord>,
    err: Option<&'a RawValue>,
    fee: u64,
    pre_balances: &'a [u64],
    post_balances: &'a [u64],
    log_messages: Option<Texts<'a>>,
    loaded_writable_addresses: Keys<'a>,
    loaded_readonly_addresses: Keys<'a>,
    return_data_program_id: Option<Key<'a>>,
    return_data: Option<Binary<'a>>,
    compute_units_consumed: Option<u64>,
    cost_units: Option<u64>,
    instructions: Vec<InstructionRecord<'a>>,
    token_balances: Vec<TokenBalanceRecord<'a>>,
}

#[derive(Serialize)]
struct LookupRecord<'a> {
    account_key: Key<'a>,
    writable_indexes: Binary<'a>,
    readonly_indexes: Binary<'a>,
}

#[derive(Serialize)]
struct ConfigRecord {
    priority_fee: Option<u64>,
    compute_unit_limit: Option<u32>,
    loaded_accounts_data_size_limit: Option<u32>,
    heap_size: Option<u32>,
}

#[derive(Serialize)]
struct InstructionRecord<'a> {
    index: u32,
    outer_index: u32,
    inner_index: Option<u32>,
    stack_height: Option<u32>,
    program_id: Option<Key<'a>>,
    accounts: Accounts<'a>,
    data: Binary<'a>,
}

#[derive(Serialize)]
struct TokenBalanceRecord<'a> {
    moment: &'static str,
    account_index: u32,
    account: Option<Key<'a>>,
    mint: Option<&'a str>,
    owner: Option<&'a str>,
    program_id: Option<&'a str>,
    amount: Option<u64>,
    decimals: u32,
}

impl<'a> TransactionRecord<'a> {
    /// The record of `transaction`, which was read from `body`. `err` is its error's JSON.
    pub(crate) fn new(
        transaction: &'a Transaction,
        body: &'a [u8],
        is_vote: bool,
        err: Option<&'a RawValue>,
    ) -> Self {
        let keys = |places| Keys { places, body };
        let returned = transaction.return_data.as_ref();
        Self {
            r#type: "transaction",
            slot: transaction.slot,
            index: transaction.index,
            signature: Signature(transaction.signature.array(body)),
            additional_signatures: Signatures {
                places: transaction.signatures.get(1..).unwrap_or_default(),
                body,
            },
            is_vote,
            version: version(transaction.version),
            num_required_signatures: transaction.num_required_signatures,
            num_readonly_signed_accounts: transaction.num_readonly_signed_accounts,
            num_readonly_unsigned_accounts: transaction.num_readonly_unsigned_accounts,
            account_keys: keys(&transaction.account_keys),
            recent_blockhash: Key(transaction.recent_blockhash.array(body)),
            address_table_lookups: lookups(transaction, body),
            config: transaction.config.map(ConfigRecord::from),
            err,
            fee: transaction.fee,
            pre_balances: &transaction.pre_balances,
            post_balances: &transaction.post_balances,
            log_messages: (!transaction.log_messages_none)
                .then_some(Texts { places: &transaction.log_messages, body }),
            loaded_writable_addresses: keys(&transaction.loaded_writable_addresses),
            loaded_readonly_addresses: keys(&transaction.loaded_readonly_addresses),
            return_data_program_id: returned.map(|returned| Key(returned.program_id.array(body))),
            return_data: returned.map(|returned| Binary(returned.data.of(body))),
            compute_units_consumed: transaction.compute_units_consumed,
            cost_units: transaction.cost_units,
            instructions: instructions(transaction, body),
            token_balances: token_balances(transaction, body),
        }
    }
}

impl From<Config> for ConfigRecord {
    fn from(config: Config) -> Self {
        Self {
            priority_fee: config.priority_fee,
            compute_unit_limit: config.compute_unit_limit,
            loaded_accounts_data_size_limit: config.loaded_accounts_data_size_limit,
            heap_size: config.heap_size,
        }
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Legacy => "legacy",
        Version::V0 => "0",
        Version::V1 => "1",
    }
}

fn lookups<'a>(transaction: &'a Transaction, body: &'a [u8]) -> Vec<LookupRecord<'a>> {
    let record = |lookup: &'a sluice_stages::transaction::Lookup| LookupRecord {
        account_key: Key(lookup.account_key.array(body)),
        writable_indexes: Binary(lookup.writable_indexes.of(body)),
        readonly_indexes: Binary(lookup.readonly_indexes.of(body)),
    };
    transaction.lookups.iter().map(record).collect()
}

/// Outer and inner ones in order of execution, as in the dataset.
fn instructions<'a>(transaction: &'a Transaction, body: &'a [u8]) -> Vec<InstructionRecord<'a>> {
    let record = |outer_index, inner_index, stack_height, instruction: &'a Instruction| InstructionRecord {
        index: 0,
        outer_index,
        inner_index,
        stack_height,
        program_id: transaction.account_key(instruction.program_id_index).map(|place| Key(place.array(body))),
        accounts: Accounts { positions: instruction.accounts.of(body), transaction, body },
        data: Binary(instruction.data.of(body)),
    };
    let outer = (0..).zip(&transaction.instructions);
    let mut records: Vec<_> = outer.map(|(index, outer)| record(index, None, Some(1), outer)).collect();
    records.extend(transaction.inner_instructions.iter().map(|inner| {
        let height = inner.instruction.stack_height;
        record(inner.outer_index, Some(inner.inner_index), height, &inner.instruction)
    }));
    // Stable: each outer one, which was put in first, stands before those that it called.
    records.sort_by_key(|record| record.outer_index);
    for (index, record) in (0..).zip(&mut records) {
        record.index = index;
    }
    records
}

fn token_balances<'a>(transaction: &'a Transaction, body: &'a [u8]) -> Vec<TokenBalanceRecord<'a>> {
    let record = |moment, balance: &'a TokenBalance| TokenBalanceRecord {
        moment,
        account_index: balance.account_index,
        account: transaction.account_key(balance.account_index).map(|place| Key(place.array(body))),
        mint: known(balance.mint.text(body)),
        owner: known(balance.owner.text(body)),
        program_id: known(balance.program_id.text(body)),
        amount: balance.amount.text(body).parse().ok(),
        decimals: balance.decimals,
    };
    let before = transaction.pre_token_balances.iter().map(|balance| record("pre", balance));
    let after = transaction.post_token_balances.iter().map(|balance| record("post", balance));
    before.chain(after).collect()
}

fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
