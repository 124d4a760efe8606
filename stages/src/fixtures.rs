//! Updates for unit tests, encoded by prost so that the scan is never its own oracle.

use bytes::Bytes;
use prost::Message as _;
use yellowstone_grpc_proto::geyser::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude::*;

use crate::batch::{Item, Scope, Session, SessionId, Update, Want};
use crate::frame::{Frame, SlotStatus};
use crate::slot::{Hash, Slot, Timestamp};

/// Everything of transactions, nothing else.
pub(crate) const TRANSACTIONS: Scope =
    Scope { transactions: Want::Everything, entries: Want::Nothing, accounts: Want::Nothing };

pub(crate) fn session(endpoint: u16) -> SessionId {
    SessionId { endpoint, number: 0 }
}

pub(crate) fn opened(endpoint: u16, scope: Scope) -> Item {
    Item::Session(Session::Opened {
        id: session(endpoint),
        endpoint: std::sync::Arc::from("endpoint"),
        scope,
        torn: crate::batch::Torn::new(),
        at: Timestamp(0),
    })
}

/// The blockhash of version `version` of `slot`.
pub(crate) fn hash(slot: Slot, version: u8) -> Hash {
    let mut bytes = [version; 32];
    bytes[..8].copy_from_slice(&slot.to_be_bytes());
    Hash(bytes)
}

pub(crate) fn encode(update: UpdateOneof) -> Bytes {
    let update =
        SubscribeUpdate { filters: vec!["all".to_owned()], update_oneof: Some(update), created_at: None };
    Bytes::from(update.encode_to_vec())
}

pub(crate) fn update_of(endpoint: u16, update: UpdateOneof) -> Update {
    let frame = Frame::try_new(encode(update)).expect("prost encodes what the scan reads");
    Update { frame, session: session(endpoint), received_at: Timestamp(0), lease: None }
}

/// Transaction `index` of version `version` of `slot`, from bank `bank` of `endpoint`.
pub(crate) fn transaction(endpoint: u16, bank: u64, slot: Slot, version: u8, index: u64) -> Update {
    transaction_of(endpoint, bank, slot, version, index, false)
}

/// The same, as a vote or not.
pub(crate) fn transaction_of(
    endpoint: u16,
    bank: u64,
    slot: Slot,
    version: u8,
    index: u64,
    is_vote: bool,
) -> Update {
    let mut signature = vec![version; 64];
    signature[..8].copy_from_slice(&slot.to_be_bytes());
    signature[8..16].copy_from_slice(&index.to_be_bytes());
    let message = Message {
        header: Some(MessageHeader { num_required_signatures: 1, ..Default::default() }),
        account_keys: vec![vec![1; 32], vec![2; 32]],
        recent_blockhash: vec![3; 32],
        instructions: vec![CompiledInstruction { program_id_index: 1, accounts: vec![0], data: vec![9] }],
        ..Default::default()
    };
    let transaction = Transaction { signatures: vec![signature.clone()], message: Some(message) };
    let info = SubscribeUpdateTransactionInfo {
        signature,
        is_vote,
        transaction: Some(transaction),
        meta: Some(TransactionStatusMeta { fee: 5_000, ..Default::default() }),
        index,
    };
    let update = SubscribeUpdateTransaction { transaction: Some(info), slot, bank_id: bank };
    update_of(endpoint, UpdateOneof::Transaction(update))
}

/// Entry `index` of `slot` with `count` transactions; the one with `hash` as its hash.
pub(crate) fn entry(endpoint: u16, slot: Slot, index: u64, hash: Hash, count: u64) -> Update {
    let entry = SubscribeUpdateEntry {
        slot,
        index,
        num_hashes: 1,
        hash: hash.0.to_vec(),
        executed_transaction_count: count,
        ..Default::default()
    };
    update_of(endpoint, UpdateOneof::Entry(entry))
}

/// A write of `lamports` to the account with key `[key; 32]`.
pub(crate) fn account(endpoint: u16, slot: Slot, key: u8, lamports: u64, write_version: u64) -> Update {
    let info = SubscribeUpdateAccountInfo {
        pubkey: vec![key; 32],
        lamports,
        owner: vec![7; 32],
        write_version,
        ..Default::default()
    };
    let account = SubscribeUpdateAccount { account: Some(info), slot, ..Default::default() };
    update_of(endpoint, UpdateOneof::Account(account))
}

/// The meta of version `version` of `slot`, on version `parent.1` of slot `parent.0`.
pub(crate) fn meta(
    endpoint: u16,
    bank: u64,
    slot: Slot,
    version: u8,
    parent: (Slot, u8),
    count: u64,
) -> Update {
    let meta = SubscribeUpdateBlockMeta {
        slot,
        blockhash: hash(slot, version).to_base58(),
        parent_slot: parent.0,
        parent_blockhash: hash(parent.0, parent.1).to_base58(),
        executed_transaction_count: count,
        bank_id: bank,
        ..Default::default()
    };
    update_of(endpoint, UpdateOneof::BlockMeta(meta))
}

/// A status of `slot`.
pub(crate) fn status(
    endpoint: u16,
    bank: Option<u64>,
    slot: Slot,
    parent: Option<Slot>,
    status: SlotStatus,
) -> Update {
    let number = [
        SlotStatus::Processed,
        SlotStatus::Confirmed,
        SlotStatus::Finalized,
        SlotStatus::FirstShredReceived,
        SlotStatus::Completed,
        SlotStatus::CreatedBank,
        SlotStatus::Dead,
    ]
    .iter()
    .position(|known| *known == status)
    .expect("all are listed");
    let slot = SubscribeUpdateSlot { slot, parent, status: number as i32, dead_error: None, bank_id: bank };
    update_of(endpoint, UpdateOneof::Slot(slot))
}

/// Updates as a batch.
pub(crate) fn batch(updates: impl IntoIterator<Item = Update>) -> Vec<Item> {
    updates.into_iter().map(Item::Update).collect()
}
