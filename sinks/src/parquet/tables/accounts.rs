//! `accounts`: one row for each account written in a slot, as it was at the slot's end.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::{BooleanBuilder, UInt64Builder};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::parquet::cells::{Cells, KeyFormat, KeyTexts, LargeBlobs};
use crate::parquet::schema::{Column, RowError, Storage};
use sluice_stages::account::Account;
use sluice_stages::batch::Update;
use sluice_stages::slot::Slot;

/// The columns.
pub(crate) fn columns(keys: KeyFormat) -> Vec<Column> {
    use Storage::{Repeated, Unique};
    vec![
        super::slot_column("The slot in which the account was written."),
        Column::new("pubkey", keys.key_type(), Repeated, "The account's key."),
        Column::new("lamports", DataType::UInt64, Unique, "Its lamports at the end of the slot."),
        Column::new("owner", keys.key_type(), Repeated, "The program that owns it."),
        Column::new("executable", DataType::Boolean, Unique, "Whether it is a program."),
        Column::new("rent_epoch", DataType::UInt64, Repeated, "The epoch at which it will next owe rent."),
        Column::new(
            "data",
            DataType::LargeBinary,
            Unique,
            "Its data, or the slices that were subscribed to.",
        ),
        Column::new(
            "txn_signature",
            keys.signature_type(),
            Unique,
            "First signature of the transaction that wrote it last; null for writes of the runtime itself.",
        )
        .nullable(),
    ]
}

/// The rows of one block, sorted by key as it is written.
pub(crate) fn batch(
    schema: SchemaRef,
    keys: KeyFormat,
    slot: Slot,
    updates: &[Update],
    texts: &mut KeyTexts,
) -> Result<RecordBatch, RowError> {
    let mut accounts = Vec::with_capacity(updates.len());
    for update in updates {
        accounts.push(Account::read(update.frame.body())?);
    }
    match keys {
        KeyFormat::Bytes => accounts.sort_unstable_by_key(|account| *account.pubkey),
        KeyFormat::Base58 => accounts.sort_by_cached_key(|account| texts.text(account.pubkey).to_vec()),
    }
    Ok(rows(schema, keys, slot, &accounts, texts)?)
}

fn rows(
    schema: SchemaRef,
    keys: KeyFormat,
    slot: Slot,
    accounts: &[Account<'_>],
    texts: &mut KeyTexts,
) -> Result<RecordBatch, ArrowError> {
    let mut slots = UInt64Builder::with_capacity(accounts.len());
    let mut pubkey = Cells::keys(keys);
    let mut lamports = UInt64Builder::with_capacity(accounts.len());
    let mut owner = Cells::keys(keys);
    let mut executable = BooleanBuilder::with_capacity(accounts.len());
    let mut rent_epoch = UInt64Builder::with_capacity(accounts.len());
    let mut data = LargeBlobs::new();
    let mut signature = Cells::signatures(keys);
    for account in accounts {
        slots.append_value(slot);
        pubkey.push_key(account.pubkey, texts);
        lamports.append_value(account.lamports);
        owner.push_key(account.owner, texts);
        executable.append_value(account.executable);
        rent_epoch.append_value(account.rent_epoch);
        data.push(account.data);
        match account.txn_signature {
            Some(bytes) => signature.push_signature(bytes),
            None => signature.push_null(),
        }
    }
    RecordBatch::try_new(
        schema,
        vec![
            Arc::new(slots.finish()),
            pubkey.finish()?,
            Arc::new(lamports.finish()),
            owner.finish()?,
            Arc::new(executable.finish()),
            Arc::new(rent_epoch.finish()),
            data.finish()?,
            signature.finish()?,
        ],
    )
}
