//! `token_balances`: one row for each token balance before or after a transaction.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::{UInt8Builder, UInt32Builder, UInt64Builder};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::parquet::cells::{Blobs, Cells, KeyFormat, KeyTexts};
use crate::parquet::schema::{Column, Storage};
use sluice_stages::transaction::{TokenBalance, Transaction};

/// The columns.
pub(crate) fn columns(keys: KeyFormat) -> Vec<Column> {
    use Storage::{Repeated, Unique};
    let key = keys.key_type();
    vec![
        super::slot_column("The slot of the block that the transaction is part of."),
        super::transaction_index_column(),
        Column::new(
            "moment",
            DataType::Utf8,
            Repeated,
            "pre for the balance before the transaction, post after.",
        ),
        Column::new(
            "account_index",
            DataType::UInt32,
            Repeated,
            "Position of account in the transaction's keys.",
        ),
        Column::new("account", key.clone(), Repeated, "The token account.").nullable(),
        Column::new("mint", key.clone(), Repeated, "The mint of the token.").nullable(),
        Column::new("owner", key.clone(), Repeated, "The account's owner; null in old blocks.").nullable(),
        Column::new("program_id", key, Repeated, "The token program; null in old blocks.").nullable(),
        Column::new("amount", DataType::UInt64, Unique, "The raw amount, in units of 10^-decimals.")
            .nullable(),
        Column::new("decimals", DataType::UInt8, Repeated, "Decimals of the mint."),
    ]
}

/// The columns under construction.
pub(crate) struct TokenBalanceRows {
    slot: UInt64Builder,
    transaction_index: UInt32Builder,
    moment: Blobs,
    account_index: UInt32Builder,
    account: Cells,
    mint: Cells,
    owner: Cells,
    program_id: Cells,
    amount: UInt64Builder,
    decimals: UInt8Builder,
}

impl TokenBalanceRows {
    /// No rows yet.
    pub(crate) fn new(keys: KeyFormat) -> Self {
        Self {
            slot: UInt64Builder::new(),
            transaction_index: UInt32Builder::new(),
            moment: Blobs::new(),
            account_index: UInt32Builder::new(),
            account: Cells::keys(keys),
            mint: Cells::keys(keys),
            owner: Cells::keys(keys),
            program_id: Cells::keys(keys),
            amount: UInt64Builder::new(),
            decimals: UInt8Builder::new(),
        }
    }

    /// Adds the token balances of a transaction.
    pub(crate) fn push(&mut self, transaction: &Transaction, body: &[u8], texts: &mut KeyTexts) {
        let moments = [("pre", &transaction.pre_token_balances), ("post", &transaction.post_token_balances)];
        for (moment, balances) in moments {
            for balance in balances {
                self.slot.append_value(transaction.slot);
                self.transaction_index.append_value(transaction.index);
                self.moment.push(moment.as_bytes());
                match transaction.account_key(balance.account_index) {
                    Some(place) => self.account.push_key(place.array::<32>(body), texts),
                    None => self.account.push_null(),
                }
                self.push_balance(balance, body, texts);
            }
        }
    }

    fn push_balance(&mut self, balance: &TokenBalance, body: &[u8], texts: &mut KeyTexts) {
        self.account_index.append_value(balance.account_index);
        self.mint.push_key_text(balance.mint.of(body), texts);
        self.owner.push_key_text(balance.owner.of(body), texts);
        self.program_id.push_key_text(balance.program_id.of(body), texts);
        self.amount.append_option(balance.amount.text(body).parse().ok());
        // A mint's decimals are a byte on the chain.
        self.decimals.append_value(u8::try_from(balance.decimals).unwrap_or(u8::MAX));
    }

    /// The rows; what is added next begins another batch.
    pub(crate) fn finish(&mut self, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(
            schema,
            vec![
                Arc::new(self.slot.finish()),
                Arc::new(self.transaction_index.finish()),
                self.moment.finish_text()?,
                Arc::new(self.account_index.finish()),
                self.account.finish()?,
                self.mint.finish()?,
                self.owner.finish()?,
                self.program_id.finish()?,
                Arc::new(self.amount.finish()),
                Arc::new(self.decimals.finish()),
            ],
        )
    }
}
