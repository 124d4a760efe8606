//! `rewards`: one row for each reward of a block.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::{Int64Builder, UInt8Builder, UInt32Builder, UInt64Builder};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::parquet::cells::{Blobs, Cells, KeyFormat, KeyTexts};
use crate::parquet::meta::{Reward, reward_type_name};
use crate::parquet::schema::{Column, Storage};
use sluice_stages::slot::Slot;

/// The columns.
pub(crate) fn columns(keys: KeyFormat) -> Vec<Column> {
    use Storage::{Repeated, Rising, Unique};
    vec![
        super::slot_column("The slot of the block that pays the reward."),
        Column::new(
            "index",
            DataType::UInt32,
            Rising,
            "Position among the block's rewards, sorted by pubkey.",
        ),
        Column::new("pubkey", keys.key_type(), Repeated, "The account that is credited or debited.")
            .nullable(),
        Column::new("lamports", DataType::Int64, Unique, "Lamports credited; negative if debited."),
        Column::new("post_balance", DataType::UInt64, Unique, "The account's lamports afterwards."),
        Column::new(
            "reward_type",
            DataType::Utf8,
            Repeated,
            "Fee, Rent, Staking, Voting, DeactivatedStake or VATDebit; null where the chain does not say.",
        )
        .nullable(),
        Column::new(
            "commission",
            DataType::UInt8,
            Repeated,
            "The vote account's commission in per cent; null for rewards other than staking and voting ones.",
        )
        .nullable(),
    ]
}

/// The rows of one block.
pub(crate) fn batch(
    schema: SchemaRef,
    keys: KeyFormat,
    slot: Slot,
    rewards: &[Reward<'_>],
    texts: &mut KeyTexts,
) -> Result<RecordBatch, ArrowError> {
    let mut slots = UInt64Builder::with_capacity(rewards.len());
    let mut index = UInt32Builder::with_capacity(rewards.len());
    let mut pubkey = Cells::keys(keys);
    let mut lamports = Int64Builder::with_capacity(rewards.len());
    let mut post_balance = UInt64Builder::with_capacity(rewards.len());
    let mut reward_type = Blobs::new();
    let mut commission = UInt8Builder::with_capacity(rewards.len());
    for (position, reward) in rewards.iter().enumerate() {
        slots.append_value(slot);
        index.append_value(position as u32);
        pubkey.push_key_text(reward.pubkey.as_bytes(), texts);
        lamports.append_value(reward.lamports);
        post_balance.append_value(reward.post_balance);
        reward_type.push_option(reward_type_name(reward.reward_type).map(str::as_bytes));
        commission.append_option(reward.commission);
    }
    RecordBatch::try_new(
        schema,
        vec![
            Arc::new(slots.finish()),
            Arc::new(index.finish()),
            pubkey.finish()?,
            Arc::new(lamports.finish()),
            Arc::new(post_balance.finish()),
            reward_type.finish_text()?,
            Arc::new(commission.finish()),
        ],
    )
}
