//! Chains for tests: made of nothing but their numbers, so every test sees the same one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use sha2::{Digest, Sha256};
use sluice_stages::batch::{SessionId, Update};
use sluice_stages::block::{Block, Part, Way};
use sluice_stages::frame::{BlockMeta, Frame};
use sluice_stages::slot::{Slot, Timestamp};
use sluice_stages::transaction::{Transaction, check};
use yellowstone_grpc_proto::geyser::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::geyser::{
    SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateAccountInfo, SubscribeUpdateBlockMeta,
    SubscribeUpdateEntry, SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo,
};
use yellowstone_grpc_proto::solana::storage::confirmed_block as storage;

use super::cells::KeyFormat;
use super::commit::Committer;
use super::dataset::Dataset;
use super::disk::RealDisk;
use super::encode::Encoder;
use super::engine::Engine;
use super::folder::{Folder, Settings};
use super::planner::{Planner, PlannerConfig};
use super::schema::FORMAT_VERSION;

/// A chain with skipped slots.
pub(crate) struct Chain {
    blocks: BTreeMap<Slot, Arc<Block>>,
}

impl Chain {
    /// The slots `first..=last`, less those that are skipped, with as many transactions in each block.
    pub(crate) fn generate(first: Slot, last: Slot, transactions: u64) -> Self {
        Self::with_skips(first, last, transactions, |slot| slot % 7 == 3)
    }

    /// The same with skips of the caller's choice; neither end is skipped.
    pub(crate) fn with_skips(
        first: Slot,
        last: Slot,
        transactions: u64,
        is_skipped: impl Fn(Slot) -> bool,
    ) -> Self {
        let mut blocks = BTreeMap::new();
        let mut parent = first.saturating_sub(1);
        for slot in first..=last {
            if slot == first || slot == last || !is_skipped(slot) {
                blocks.insert(slot, Arc::new(block(slot, parent, transactions)));
                parent = slot;
            }
        }
        Self { blocks }
    }

    /// The slots that have a block.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.blocks.keys().copied().collect()
    }

    /// All blocks in order.
    pub(crate) fn blocks(&self) -> Vec<Arc<Block>> {
        self.blocks.values().cloned().collect()
    }
}

/// The block in `slot`.
pub(crate) fn block_of(chain: &Chain, slot: Slot) -> Arc<Block> {
    Arc::clone(&chain.blocks[&slot])
}

/// The same block without entries and accounts, as RPC has it.
pub(crate) fn without_extras(block: &Block) -> Block {
    Block { entries: Part::Missing, accounts: Part::Missing, way: Way::Rpc, ..block.clone() }
}

/// 32 bytes that depend on the words alone.
pub(crate) fn bytes32(words: &[u64]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    words.iter().for_each(|word| hasher.update(word.to_le_bytes()));
    hasher.finalize().into()
}

fn blockhash(slot: Slot) -> [u8; 32] {
    bytes32(&[slot, 1])
}

fn text(bytes: [u8; 32]) -> String {
    sluice_stages::slot::Hash(bytes).to_base58()
}

/// An update as it would come off the wire, checked.
pub(crate) fn update(update: UpdateOneof) -> Update {
    let message =
        SubscribeUpdate { filters: vec!["all".to_owned()], update_oneof: Some(update), created_at: None };
    let mut frame = Frame::try_new(message.encode_to_vec().into()).expect("prost's own bytes");
    check(&mut frame, &mut Transaction::default()).expect("prost's own bytes");
    Update { frame, session: SessionId { endpoint: 0, number: 0 }, received_at: Timestamp(0), lease: None }
}

fn block(slot: Slot, parent: Slot, transactions: u64) -> Block {
    let meta_update = update(UpdateOneof::BlockMeta(SubscribeUpdateBlockMeta {
        slot,
        blockhash: text(blockhash(slot)),
        rewards: Some(storage::Rewards { rewards: vec![reward(slot)], num_partitions: None }),
        block_time: Some(storage::UnixTimestamp { timestamp: 1_700_000_000 + slot as i64 }),
        block_height: Some(storage::BlockHeight { block_height: slot / 2 }),
        parent_slot: parent,
        parent_blockhash: text(blockhash(parent)),
        executed_transaction_count: transactions,
        entries_count: 2,
        bank_id: slot + 9,
    }));
    let meta = BlockMeta::read(meta_update.frame.body()).expect("a valid meta");
    let all: Vec<Update> = (0..transactions).map(|index| transaction(slot, index)).collect();
    Block {
        meta,
        meta_update,
        transactions: Part::Whole(all.into()),
        entries: Part::Whole(entries(slot, transactions).into()),
        accounts: Part::Whole((0..3).map(|number| account(slot, number)).collect()),
        way: Way::Live,
        witnesses: Default::default(),
        vouched: None,
    }
}

fn reward(slot: Slot) -> storage::Reward {
    storage::Reward {
        pubkey: text(bytes32(&[slot % 5])),
        lamports: 5_000,
        post_balance: 1_000_000 + slot,
        reward_type: 1,
        ..storage::Reward::default()
    }
}

fn entries(slot: Slot, transactions: u64) -> Vec<Update> {
    let entry = |index: u64, hash: [u8; 32], count: u64| {
        update(UpdateOneof::Entry(SubscribeUpdateEntry {
            slot,
            index,
            num_hashes: 12_500,
            hash: hash.to_vec(),
            executed_transaction_count: count,
            starting_transaction_index: 0,
            bank_id: 0,
        }))
    };
    vec![entry(0, bytes32(&[slot, 2]), transactions), entry(1, blockhash(slot), 0)]
}

fn account(slot: Slot, number: u64) -> Update {
    update(UpdateOneof::Account(SubscribeUpdateAccount {
        account: Some(SubscribeUpdateAccountInfo {
            pubkey: bytes32(&[number]).to_vec(),
            lamports: slot * 10 + number,
            owner: vec![0; 32],
            data: vec![slot as u8; 10],
            write_version: slot * 3,
            txn_signature: (number > 0).then(|| signature(slot, number)),
            ..SubscribeUpdateAccountInfo::default()
        }),
        slot,
        is_startup: false,
        bank_id: Some(slot),
    }))
}

fn signature(slot: Slot, index: u64) -> Vec<u8> {
    [bytes32(&[slot, index, 3]), bytes32(&[slot, index, 4])].concat()
}

fn transaction(slot: Slot, index: u64) -> Update {
    let info = SubscribeUpdateTransactionInfo {
        signature: signature(slot, index),
        is_vote: false,
        transaction: Some(storage::Transaction {
            signatures: vec![signature(slot, index)],
            message: Some(message(slot, index)),
        }),
        meta: Some(meta(slot, index)),
        index,
    };
    update(UpdateOneof::Transaction(SubscribeUpdateTransaction {
        transaction: Some(info),
        slot,
        bank_id: slot + 9,
    }))
}

fn message(slot: Slot, index: u64) -> storage::Message {
    let table = storage::MessageAddressTableLookup {
        account_key: bytes32(&[77]).to_vec(),
        writable_indexes: vec![1],
        readonly_indexes: vec![2, 3],
    };
    let instruction = |program: u32, data: u64| storage::CompiledInstruction {
        program_id_index: program,
        accounts: vec![0, 1, 3],
        data: data.to_le_bytes().to_vec(),
    };
    let versioned = index % 3 == 1;
    storage::Message {
        header: Some(storage::MessageHeader {
            num_required_signatures: 1,
            num_readonly_signed_accounts: 0,
            num_readonly_unsigned_accounts: 1,
        }),
        account_keys: (0..4).map(|key| bytes32(&[key * index % 50]).to_vec()).collect(),
        recent_blockhash: blockhash(slot.saturating_sub(10)).to_vec(),
        instructions: vec![instruction(2, index), instruction(3, slot)],
        versioned,
        address_table_lookups: if versioned { vec![table] } else { Vec::new() },
        config: None,
    }
}

fn meta(slot: Slot, index: u64) -> storage::TransactionStatusMeta {
    let versioned = index % 3 == 1;
    let key = |number: u64| bytes32(&[number]).to_vec();
    storage::TransactionStatusMeta {
        err: (index % 4 == 2)
            .then(|| storage::TransactionError { err: vec![8, 0, 0, 0, 1, 25, 0, 0, 0, 6, 0, 0, 0] }),
        fee: 5_000 + index,
        pre_balances: vec![slot, 1, 1_000_000, 1],
        post_balances: vec![slot - 5.min(slot), 1, 1_000_000, 1],
        inner_instructions: vec![storage::InnerInstructions {
            index: 1,
            instructions: vec![inner(), inner()],
        }],
        log_messages: vec![format!("Program log: slot {slot}"), "Program log: größer".to_owned()],
        pre_token_balances: vec![token(slot)],
        post_token_balances: vec![token(slot + 1)],
        loaded_writable_addresses: if versioned { vec![key(900)] } else { Vec::new() },
        loaded_readonly_addresses: if versioned { vec![key(901), key(902)] } else { Vec::new() },
        return_data_none: true,
        compute_units_consumed: Some(1_400 + index),
        cost_units: Some(2_000),
        ..storage::TransactionStatusMeta::default()
    }
}

fn inner() -> storage::InnerInstruction {
    storage::InnerInstruction {
        program_id_index: 3,
        accounts: vec![1, 2],
        data: vec![9, 9],
        stack_height: Some(2),
    }
}

fn token(amount: u64) -> storage::TokenBalance {
    storage::TokenBalance {
        account_index: 1,
        mint: text(bytes32(&[55])),
        ui_token_amount: Some(storage::UiTokenAmount {
            ui_amount: 1.5,
            decimals: 6,
            amount: amount.to_string(),
            ui_amount_string: "1.5".to_owned(),
        }),
        owner: text(bytes32(&[56])),
        program_id: String::new(),
    }
}

/// Writes `blocks` to `root` as the sink would.
pub(crate) fn write_folder(root: &Path, blocks: &[Arc<Block>], commit_slots: u64, keys: KeyFormat) {
    let settings = Settings {
        format_version: FORMAT_VERSION,
        commit_slots,
        keys,
        compression_level: 1,
        datasets: Dataset::ALL.to_vec(),
    };
    let folder = Folder::open(root, &settings).expect("a free folder");
    let config = PlannerConfig { commit_slots, max_waiting_bytes: usize::MAX, floor: None };
    let planner = Planner::new(config, folder.listing.committed(&[]));
    let encoder = Encoder::try_new(&Dataset::ALL, keys, 1, commit_slots).expect("valid schemas");
    let mut engine = Engine::new(planner, encoder, Committer::new(folder.root.clone(), RealDisk));
    let mut events = Vec::new();
    engine.accept(blocks.iter().map(Arc::as_ref), &mut events).expect("written");
    assert!(!engine.is_refused(), "{events:?}");
}
