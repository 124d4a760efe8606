//! `transactions`: one row for each transaction.

use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, BooleanBuilder, UInt32Builder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType, Field, Fields, SchemaRef};

use crate::parquet::cells::{Blobs, Cells, KeyFormat, KeyTexts, Lists, list_of};
use crate::parquet::errors::ErrorTexts;
use crate::parquet::schema::{Column, Storage};
use sluice_stages::transaction::{Config, Lookup, Transaction, Version};

/// `Vote111111111111111111111111111111111111111`.
const VOTE_PROGRAM: [u8; 32] = [
    7, 97, 72, 29, 53, 116, 116, 187, 124, 77, 118, 36, 235, 211, 189, 179, 216, 53, 94, 115, 209, 16, 67,
    252, 13, 163, 83, 128, 0, 0, 0, 0,
];

/// The columns.
pub(crate) fn columns(keys: KeyFormat) -> Vec<Column> {
    let mut columns = message_columns(keys);
    columns.extend(outcome_columns(keys));
    columns
}

fn message_columns(keys: KeyFormat) -> Vec<Column> {
    use Storage::{Repeated, Rising, Unique};
    let (key, count) = (keys.key_type(), DataType::UInt32);
    let vote = "Whether it is a simple vote: fewer than 3 signatures, a legacy message, one instruction, of the vote \
                program.";
    let more = "Signatures after the first, in order; most transactions have none.";
    vec![
        super::slot_column("The slot of the block that the transaction is part of."),
        Column::new("index", DataType::UInt32, Rising, "Position in the block."),
        Column::new("signature", keys.signature_type(), Unique, "Its first signature, which is its id."),
        Column::new("additional_signatures", list_of(keys.signature_type()), Unique, more),
        Column::new("is_vote", DataType::Boolean, Unique, vote),
        Column::new("version", DataType::Utf8, Repeated, "Version of the message: legacy, 0 or 1."),
        Column::new("num_required_signatures", count.clone(), Repeated, "Number of signers."),
        Column::new("num_readonly_signed_accounts", count.clone(), Repeated, "Number of read-only signers."),
        Column::new("num_readonly_unsigned_accounts", count, Repeated, "Number of other read-only static keys."),
        Column::new("account_keys", list_of(key.clone()), Repeated, "The message's own (static) account keys."),
        Column::new("recent_blockhash", key, Repeated, "A recent blockhash, or a durable nonce."),
        Column::new(
            "address_table_lookups",
            list_of(DataType::Struct(lookup_fields(keys))),
            Repeated,
            "Look-ups of a version 0 message: the table's key and the positions loaded from it, a byte each.",
        ),
        Column::new(
            "config",
            DataType::Struct(config_fields()),
            Repeated,
            "Inline budget of a version 1 message (lamports, compute units, bytes, bytes); null for other versions.",
        )
        .nullable(),
    ]
}

fn outcome_columns(keys: KeyFormat) -> Vec<Column> {
    use Storage::{Repeated, Unique};
    let key = keys.key_type();
    let lamports = list_of(DataType::UInt64);
    let order = "static keys, then loaded writable, then loaded read-only ones";
    let err = "The error as RPC's JSON; null if the transaction succeeded.";
    let units = "Compute units that its instructions consumed; null in old blocks.";
    let logs = "Log lines; null if the node did not record them.";
    vec![
        Column::new("err", DataType::Utf8, Repeated, err).nullable(),
        Column::new("fee", DataType::UInt64, Repeated, "Lamports paid, base and priority fee."),
        Column::new(
            "pre_balances",
            lamports.clone(),
            Repeated,
            &format!("Lamports of each account before: {order}."),
        ),
        Column::new(
            "post_balances",
            lamports,
            Repeated,
            &format!("Lamports of each account after: {order}."),
        ),
        Column::new("log_messages", list_of(DataType::Utf8), Unique, logs).nullable(),
        Column::new(
            "loaded_writable_addresses",
            list_of(key.clone()),
            Repeated,
            "Keys that the look-ups loaded as writable.",
        ),
        Column::new(
            "loaded_readonly_addresses",
            list_of(key.clone()),
            Repeated,
            "Keys that the look-ups loaded as read-only.",
        ),
        Column::new(
            "return_data_program_id",
            key,
            Repeated,
            "The program that set return data; null if none did.",
        )
        .nullable(),
        Column::new(
            "return_data",
            DataType::Binary,
            Repeated,
            "The return data; null if no program set any.",
        )
        .nullable(),
        Column::new("compute_units_consumed", DataType::UInt64, Unique, units).nullable(),
        Column::new(
            "cost_units",
            DataType::UInt64,
            Unique,
            "Cost in the block's budget; null in old blocks.",
        )
        .nullable(),
    ]
}

fn lookup_fields(keys: KeyFormat) -> Fields {
    Fields::from(vec![
        Field::new("account_key", keys.key_type(), false),
        Field::new("writable_indexes", DataType::Binary, false),
        Field::new("readonly_indexes", DataType::Binary, false),
    ])
}

fn config_fields() -> Fields {
    Fields::from(vec![
        Field::new("priority_fee", DataType::UInt64, true),
        Field::new("compute_unit_limit", DataType::UInt32, true),
        Field::new("loaded_accounts_data_size_limit", DataType::UInt32, true),
        Field::new("heap_size", DataType::UInt32, true),
    ])
}

/// Whether a transaction is a simple vote, by Agave's rule: from the content, as nodes need not agree in their flags.
pub(crate) fn is_simple_vote(transaction: &Transaction, body: &[u8]) -> bool {
    let [instruction] = transaction.instructions.as_slice() else { return false };
    let program = transaction.account_key(instruction.program_id_index);
    transaction.signatures.len() < 3
        && transaction.version == Version::Legacy
        && program.is_some_and(|program| program.of(body) == VOTE_PROGRAM)
}

fn version_text(version: Version) -> &'static [u8] {
    match version {
        Version::Legacy => b"legacy",
        Version::V0 => b"0",
        Version::V1 => b"1",
    }
}

/// The columns under construction.
pub(crate) struct TransactionRows {
    message: MessageRows,
    outcome: OutcomeRows,
}

impl TransactionRows {
    /// No rows yet.
    pub(crate) fn new(keys: KeyFormat) -> Self {
        Self { message: MessageRows::new(keys), outcome: OutcomeRows::new(keys) }
    }

    /// Adds a transaction.
    pub(crate) fn push(
        &mut self,
        transaction: &Transaction,
        body: &[u8],
        texts: &mut KeyTexts,
        errors: &mut ErrorTexts,
    ) {
        self.message.push(transaction, body, texts);
        self.outcome.push(transaction, body, texts, errors);
    }

    /// The rows; what is added next begins another batch.
    pub(crate) fn finish(&mut self, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
        let mut columns = self.message.finish()?;
        columns.extend(self.outcome.finish()?);
        RecordBatch::try_new(schema, columns)
    }
}

/// What was signed.
struct MessageRows {
    slot: UInt64Builder,
    index: UInt32Builder,
    signature: Cells,
    additional_signatures: Lists,
    more_signatures: Cells,
    is_vote: BooleanBuilder,
    version: Blobs,
    header: [UInt32Builder; 3],
    account_keys: Lists,
    keys: Cells,
    recent_blockhash: Cells,
    lookups: LookupRows,
    config: ConfigRows,
}

impl MessageRows {
    fn new(keys: KeyFormat) -> Self {
        Self {
            slot: UInt64Builder::new(),
            index: UInt32Builder::new(),
            signature: Cells::signatures(keys),
            additional_signatures: Lists::new(),
            more_signatures: Cells::signatures(keys),
            is_vote: BooleanBuilder::new(),
            version: Blobs::new(),
            header: [UInt32Builder::new(), UInt32Builder::new(), UInt32Builder::new()],
            account_keys: Lists::new(),
            keys: Cells::keys(keys),
            recent_blockhash: Cells::keys(keys),
            lookups: LookupRows::new(keys),
            config: ConfigRows::default(),
        }
    }

    fn push(&mut self, transaction: &Transaction, body: &[u8], texts: &mut KeyTexts) {
        self.slot.append_value(transaction.slot);
        self.index.append_value(transaction.index);
        self.signature.push_signature(transaction.signature.array::<64>(body));
        for signature in transaction.signatures.iter().skip(1) {
            self.more_signatures.push_signature(signature.array::<64>(body));
        }
        self.additional_signatures.end_row(self.more_signatures.len());
        self.is_vote.append_value(is_simple_vote(transaction, body));
        self.version.push(version_text(transaction.version));
        self.header[0].append_value(transaction.num_required_signatures);
        self.header[1].append_value(transaction.num_readonly_signed_accounts);
        self.header[2].append_value(transaction.num_readonly_unsigned_accounts);
        for key in &transaction.account_keys {
            self.keys.push_key(key.array::<32>(body), texts);
        }
        self.account_keys.end_row(self.keys.len());
        self.recent_blockhash.push_key(transaction.recent_blockhash.array::<32>(body), texts);
        self.lookups.push(&transaction.lookups, body, texts);
        self.config.push(transaction.config);
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        let [signers, readonly_signers, readonly] = &mut self.header;
        Ok(vec![
            Arc::new(self.slot.finish()),
            Arc::new(self.index.finish()),
            self.signature.finish()?,
            self.additional_signatures.finish(self.more_signatures.finish()?)?,
            Arc::new(self.is_vote.finish()),
            self.version.finish_text()?,
            Arc::new(signers.finish()),
            Arc::new(readonly_signers.finish()),
            Arc::new(readonly.finish()),
            self.account_keys.finish(self.keys.finish()?)?,
            self.recent_blockhash.finish()?,
            self.lookups.finish()?,
            self.config.finish()?,
        ])
    }
}

struct LookupRows {
    lists: Lists,
    keys: KeyFormat,
    account_key: Cells,
    writable_indexes: Blobs,
    readonly_indexes: Blobs,
}

impl LookupRows {
    fn new(keys: KeyFormat) -> Self {
        Self {
            lists: Lists::new(),
            keys,
            account_key: Cells::keys(keys),
            writable_indexes: Blobs::new(),
            readonly_indexes: Blobs::new(),
        }
    }

    fn push(&mut self, lookups: &[Lookup], body: &[u8], texts: &mut KeyTexts) {
        for lookup in lookups {
            self.account_key.push_key(lookup.account_key.array::<32>(body), texts);
            self.writable_indexes.push(lookup.writable_indexes.of(body));
            self.readonly_indexes.push(lookup.readonly_indexes.of(body));
        }
        self.lists.end_row(self.account_key.len());
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let columns = vec![
            self.account_key.finish()?,
            self.writable_indexes.finish_binary()?,
            self.readonly_indexes.finish_binary()?,
        ];
        self.lists.finish(Arc::new(StructArray::try_new(lookup_fields(self.keys), columns, None)?))
    }
}

#[derive(Default)]
struct ConfigRows {
    present: Vec<bool>,
    priority_fee: UInt64Builder,
    limits: [UInt32Builder; 3],
}

impl ConfigRows {
    fn push(&mut self, config: Option<Config>) {
        self.present.push(config.is_some());
        let config = config.unwrap_or_default();
        self.priority_fee.append_option(config.priority_fee);
        let limits = [config.compute_unit_limit, config.loaded_accounts_data_size_limit, config.heap_size];
        for (column, limit) in self.limits.iter_mut().zip(limits) {
            column.append_option(limit);
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.priority_fee.finish())];
        columns.extend(self.limits.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        let nulls = NullBuffer::from(std::mem::take(&mut self.present));
        Ok(Arc::new(StructArray::try_new(config_fields(), columns, Some(nulls))?))
    }
}

/// What came of it.
struct OutcomeRows {
    err: Blobs,
    fee: UInt64Builder,
    balances: [BalanceRows; 2],
    log_messages: Lists,
    log_lines: Blobs,
    loaded: [(Lists, Cells); 2],
    return_data_program_id: Cells,
    return_data: Blobs,
    compute_units_consumed: UInt64Builder,
    cost_units: UInt64Builder,
}

impl OutcomeRows {
    fn new(keys: KeyFormat) -> Self {
        Self {
            err: Blobs::new(),
            fee: UInt64Builder::new(),
            balances: [BalanceRows::new(), BalanceRows::new()],
            log_messages: Lists::new(),
            log_lines: Blobs::new(),
            loaded: [(Lists::new(), Cells::keys(keys)), (Lists::new(), Cells::keys(keys))],
            return_data_program_id: Cells::keys(keys),
            return_data: Blobs::new(),
            compute_units_consumed: UInt64Builder::new(),
            cost_units: UInt64Builder::new(),
        }
    }

    fn push(
        &mut self,
        transaction: &Transaction,
        body: &[u8],
        texts: &mut KeyTexts,
        errors: &mut ErrorTexts,
    ) {
        self.err.push_option(transaction.err.map(|err| errors.text(err.of(body)).as_bytes()));
        self.fee.append_value(transaction.fee);
        self.balances[0].push(&transaction.pre_balances);
        self.balances[1].push(&transaction.post_balances);
        self.push_logs(transaction, body);
        let loaded = [&transaction.loaded_writable_addresses, &transaction.loaded_readonly_addresses];
        for ((lists, keys), addresses) in self.loaded.iter_mut().zip(loaded) {
            for key in addresses {
                keys.push_key(key.array::<32>(body), texts);
            }
            lists.end_row(keys.len());
        }
        self.push_return_data(transaction, body, texts);
        self.compute_units_consumed.append_option(transaction.compute_units_consumed);
        self.cost_units.append_option(transaction.cost_units);
    }

    fn push_logs(&mut self, transaction: &Transaction, body: &[u8]) {
        if transaction.log_messages_none {
            self.log_messages.push_null();
            return;
        }
        for line in &transaction.log_messages {
            self.log_lines.push(line.of(body));
        }
        self.log_messages.end_row(self.log_lines.len());
    }

    fn push_return_data(&mut self, transaction: &Transaction, body: &[u8], texts: &mut KeyTexts) {
        match &transaction.return_data {
            Some(returned) => {
                self.return_data_program_id.push_key(returned.program_id.array::<32>(body), texts);
                self.return_data.push(returned.data.of(body));
            }
            None => {
                self.return_data_program_id.push_null();
                self.return_data.push_null();
            }
        }
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        let [pre_balances, post_balances] = &mut self.balances;
        let [(writable, writable_keys), (readonly, readonly_keys)] = &mut self.loaded;
        Ok(vec![
            self.err.finish_text()?,
            Arc::new(self.fee.finish()),
            pre_balances.finish()?,
            post_balances.finish()?,
            self.log_messages.finish(self.log_lines.finish_text()?)?,
            writable.finish(writable_keys.finish()?)?,
            readonly.finish(readonly_keys.finish()?)?,
            self.return_data_program_id.finish()?,
            self.return_data.finish_binary()?,
            Arc::new(self.compute_units_consumed.finish()),
            Arc::new(self.cost_units.finish()),
        ])
    }
}

struct BalanceRows {
    lists: Lists,
    lamports: UInt64Builder,
}

impl BalanceRows {
    fn new() -> Self {
        Self { lists: Lists::new(), lamports: UInt64Builder::new() }
    }

    fn push(&mut self, lamports: &[u64]) {
        self.lamports.append_slice(lamports);
        self.lists.end_row(self.lamports.len());
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        self.lists.finish(Arc::new(self.lamports.finish()))
    }
}
