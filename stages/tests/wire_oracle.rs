//! Holds the wire scan to prost: on generated updates, on real recordings, and on frames that were tampered with.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use sluice_stages::account::Account;
use sluice_stages::entry::Entry;
use sluice_stages::frame::{BlockMeta, Frame, FrameError, Kind, SlotStatus};
use sluice_stages::transaction::{Instruction, Place, TokenBalance, Transaction, Version, check};
use yellowstone_grpc_proto::geyser::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude as proto;

/// Checks that every field that `Transaction` read is what prost decodes.
fn assert_transaction(body: &[u8], read: &Transaction) {
    let decoded =
        proto::SubscribeUpdateTransaction::decode(body).expect("what the scan accepts prost accepts");
    assert_eq!(read.slot, decoded.slot);
    let info = decoded.transaction.expect("present");
    assert_eq!(read.signature.of(body), info.signature);
    assert_eq!((read.is_vote, u64::from(read.index)), (info.is_vote, info.index));
    let transaction = info.transaction.expect("present");
    assert_places(body, &read.signatures, &transaction.signatures);
    assert_message(body, read, &transaction.message.expect("present"));
    assert_meta(body, read, &info.meta.expect("present"));
}

fn assert_places(body: &[u8], places: &[Place], expected: &[Vec<u8>]) {
    let read: Vec<&[u8]> = places.iter().map(|place| place.of(body)).collect();
    assert_eq!(read, expected);
}

fn assert_instruction(body: &[u8], read: &Instruction, expected: (u32, &[u8], &[u8])) {
    assert_eq!((read.program_id_index, read.accounts.of(body), read.data.of(body)), expected);
}

fn assert_message(body: &[u8], read: &Transaction, message: &proto::Message) {
    let header = message.header.unwrap_or_default();
    assert_eq!(read.num_required_signatures, header.num_required_signatures);
    assert_eq!(read.num_readonly_signed_accounts, header.num_readonly_signed_accounts);
    assert_eq!(read.num_readonly_unsigned_accounts, header.num_readonly_unsigned_accounts);
    assert_places(body, &read.account_keys, &message.account_keys);
    assert_eq!(read.recent_blockhash.of(body), message.recent_blockhash);
    assert_eq!(read.instructions.len(), message.instructions.len());
    for (read, expected) in read.instructions.iter().zip(&message.instructions) {
        assert_instruction(body, read, (expected.program_id_index, &expected.accounts, &expected.data));
    }
    let version = match (message.versioned, message.config) {
        (_, Some(_)) => Version::V1,
        (true, None) => Version::V0,
        (false, None) => Version::Legacy,
    };
    assert_eq!(read.version, version);
    assert_eq!(read.lookups.len(), message.address_table_lookups.len());
    for (read, expected) in read.lookups.iter().zip(&message.address_table_lookups) {
        assert_eq!(read.account_key.of(body), expected.account_key);
        assert_eq!(read.writable_indexes.of(body), expected.writable_indexes);
        assert_eq!(read.readonly_indexes.of(body), expected.readonly_indexes);
    }
    let config = read.config.map(|config| {
        (
            config.priority_fee,
            config.compute_unit_limit,
            config.loaded_accounts_data_size_limit,
            config.heap_size,
        )
    });
    let expected = message.config.map(|config| {
        (
            config.priority_fee,
            config.compute_unit_limit,
            config.loaded_accounts_data_size_limit,
            config.heap_size,
        )
    });
    assert_eq!(config, expected);
}

fn assert_balance(body: &[u8], read: &TokenBalance, expected: &proto::TokenBalance) {
    let amount = expected.ui_token_amount.clone().unwrap_or_default();
    assert_eq!(read.account_index, expected.account_index);
    assert_eq!(read.mint.text(body), expected.mint);
    assert_eq!(read.owner.text(body), expected.owner);
    assert_eq!(read.program_id.text(body), expected.program_id);
    assert_eq!((read.decimals, read.amount.text(body)), (amount.decimals, amount.amount.as_str()));
}

fn assert_meta(body: &[u8], read: &Transaction, meta: &proto::TransactionStatusMeta) {
    assert_eq!(read.err.map(|err| err.of(body)), meta.err.as_ref().map(|err| err.err.as_slice()));
    assert_eq!(read.fee, meta.fee);
    assert_eq!((&read.pre_balances, &read.post_balances), (&meta.pre_balances, &meta.post_balances));
    let inner: Vec<_> = meta
        .inner_instructions
        .iter()
        .flat_map(|group| {
            group.instructions.iter().enumerate().map(|(at, inner)| (group.index, at as u32, inner))
        })
        .collect();
    assert_eq!(read.inner_instructions.len(), inner.len());
    for (read, (outer, at, expected)) in read.inner_instructions.iter().zip(inner) {
        assert_eq!((read.outer_index, read.inner_index), (outer, at));
        let parts = (expected.program_id_index, expected.accounts.as_slice(), expected.data.as_slice());
        assert_instruction(body, &read.instruction, parts);
        assert_eq!(read.instruction.stack_height, expected.stack_height);
    }
    assert_eq!(read.inner_instructions_none, meta.inner_instructions_none);
    let logs: Vec<&str> = read.log_messages.iter().map(|line| line.text(body)).collect();
    assert_eq!(
        (logs, read.log_messages_none),
        (meta.log_messages.iter().map(String::as_str).collect(), meta.log_messages_none)
    );
    for (read, expected) in [
        (&read.pre_token_balances, &meta.pre_token_balances),
        (&read.post_token_balances, &meta.post_token_balances),
    ] {
        assert_eq!(read.len(), expected.len());
        read.iter().zip(expected).for_each(|(read, expected)| assert_balance(body, read, expected));
    }
    assert_places(body, &read.loaded_writable_addresses, &meta.loaded_writable_addresses);
    assert_places(body, &read.loaded_readonly_addresses, &meta.loaded_readonly_addresses);
    let returned =
        read.return_data.map(|data| (data.program_id.of(body).to_vec(), data.data.of(body).to_vec()));
    assert_eq!(returned, meta.return_data.clone().map(|data| (data.program_id, data.data)));
    assert_eq!(read.compute_units_consumed, meta.compute_units_consumed);
    assert_eq!(read.cost_units, meta.cost_units);
}

/// Checks a frame's header, and everything below it, against prost. False if the scan refuses it.
fn check_frame(bytes: &[u8]) -> bool {
    let Ok(frame) = Frame::try_new(Bytes::copy_from_slice(bytes)) else { return false };
    assert_check(&frame);
    // What lies below a member that the scan steps over may be garbled; prost then refuses the whole.
    let Ok(decoded) = proto::SubscribeUpdate::decode(bytes) else { return true };
    let header = frame.header;
    let member = decoded.update_oneof.expect("the scan found one");
    let expected = match &member {
        UpdateOneof::Account(update) => (Kind::Account, update.slot, update.bank_id.unwrap_or(0), 0),
        UpdateOneof::Slot(update) => (Kind::Slot, update.slot, update.bank_id.unwrap_or(0), 0),
        UpdateOneof::Transaction(update) => {
            let index = update.transaction.as_ref().map_or(0, |info| info.index);
            (Kind::Transaction, update.slot, update.bank_id, index)
        }
        UpdateOneof::TransactionStatus(update) => {
            (Kind::TransactionStatus, update.slot, update.bank_id, update.index)
        }
        UpdateOneof::Block(update) => (Kind::Block, update.slot, update.bank_id, 0),
        UpdateOneof::Ping(_) => (Kind::Ping, 0, 0, 0),
        UpdateOneof::Pong(_) => (Kind::Pong, 0, 0, 0),
        UpdateOneof::BlockMeta(update) => (Kind::BlockMeta, update.slot, update.bank_id, 0),
        UpdateOneof::Entry(update) => (Kind::Entry, update.slot, update.bank_id, update.index),
        UpdateOneof::BlockFooter(update) => (Kind::BlockFooter, update.slot, update.bank_id, 0),
        UpdateOneof::EntryUpdateParent(update) => {
            (Kind::EntryUpdateParent, update.slot, update.cleared_bank_id, 0)
        }
    };
    assert_eq!((header.kind, header.slot, header.bank_id, u64::from(header.index)), expected);
    check_member(&frame, &member);
    true
}

/// The check says what the reading says, in a scratch that holds what was read before.
fn assert_check(frame: &Frame) {
    let mut scratch = Transaction::default();
    if frame.header.kind == Kind::Transaction {
        let read = scratch.read(frame.body());
        assert_eq!(check(&mut frame.clone(), &mut scratch), read);
    }
}

fn check_member(frame: &Frame, member: &UpdateOneof) {
    match member {
        UpdateOneof::Transaction(_) => {
            let mut transaction = Transaction::default();
            if transaction.read(frame.body()).is_ok() {
                assert_transaction(frame.body(), &transaction);
            }
        }
        UpdateOneof::TransactionStatus(update) => assert_eq!(frame.key(), update.signature),
        UpdateOneof::Account(update) => check_account(frame, update.account.as_ref().expect("present")),
        UpdateOneof::Entry(update) => {
            let entry = Entry::read(frame.body()).expect("as prost");
            assert_eq!(
                (entry.num_hashes, entry.hash.as_slice()),
                (update.num_hashes, update.hash.as_slice())
            );
            assert_eq!(u64::from(entry.executed_transaction_count), update.executed_transaction_count);
        }
        UpdateOneof::Slot(update) => {
            let status = SlotStatus::from_number(u64::try_from(update.status).expect("not negative"));
            assert_eq!((frame.header.status(), frame.header.parent()), (status, update.parent));
        }
        UpdateOneof::BlockMeta(update) => {
            if let Ok(meta) = BlockMeta::read(frame.body()) {
                assert_eq!((meta.slot, meta.parent_slot), (update.slot, update.parent_slot));
                assert_eq!(u64::from(meta.executed_transaction_count), update.executed_transaction_count);
                assert_eq!(meta.blockhash.to_base58(), update.blockhash);
                assert_eq!(meta.parent_blockhash.to_base58(), update.parent_blockhash);
            }
        }
        _ => {}
    }
}

fn check_account(frame: &Frame, expected: &proto::SubscribeUpdateAccountInfo) {
    let Ok(account) = Account::read(frame.body()) else { return };
    assert_eq!(account.pubkey.as_slice(), expected.pubkey);
    assert_eq!((account.lamports, account.rent_epoch), (expected.lamports, expected.rent_epoch));
    assert_eq!(
        (account.owner.as_slice(), account.data),
        (expected.owner.as_slice(), expected.data.as_slice())
    );
    assert_eq!((account.executable, account.write_version), (expected.executable, expected.write_version));
    assert_eq!(account.txn_signature.map(<[u8; 64]>::as_slice), expected.txn_signature.as_deref());
}

fn recording(name: &str) -> Option<Vec<Vec<u8>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cluster/data").join(name);
    let mut bytes = Vec::new();
    zstd::Decoder::new(std::fs::File::open(path).ok()?).ok()?.read_to_end(&mut bytes).ok()?;
    let mut rest = bytes.as_slice();
    let mut frames = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (frame, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(frame.to_vec());
        rest = tail;
    }
    Some(frames)
}

const RECORDING: &str = "testvalidator-full-stream.subscribe_updates.bin.zst";

#[test]
fn every_update_of_a_real_validator_reads_as_prost_reads_it() {
    let frames = recording(RECORDING).expect("the recording is part of the repository");
    assert_eq!(frames.len(), 18_426);
    for frame in &frames {
        assert!(check_frame(frame));
        let frame = Frame::try_new(Bytes::copy_from_slice(frame)).expect("checked");
        if frame.header.kind == Kind::Transaction {
            Transaction::default().read(frame.body()).expect("a real transaction is whole");
        }
    }
}

#[test]
fn tampered_frames_of_a_real_validator_are_refused_or_read_as_prost_reads_them() {
    let frames = recording(RECORDING).expect("the recording is part of the repository");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for frame in frames.iter().filter(|frame| frame.len() < 4_096) {
        let mut tampered = frame.clone();
        let at = random() as usize % tampered.len();
        match random() % 3 {
            0 => tampered[at] ^= 1 << (random() % 8),
            1 => tampered.truncate(at),
            _ => tampered.insert(at, random() as u8),
        }
        check_frame(&tampered);
    }
}

#[test]
fn a_newer_servers_kind_is_told_apart_from_garbage() {
    let unknown = Frame::try_new(Bytes::from_static(&[0xf2, 0x01, 0x00]));
    assert_eq!(unknown.expect_err("field 30").to_string(), FrameError::UnknownKind(30).to_string());
    assert!(matches!(Frame::try_new(Bytes::new()), Err(FrameError::Empty)));
}

prop_compose! {
    fn balances()(account_index in 0..64_u32, mint in "[1-9A-H]{0,44}", owner in "[1-9A-H]{0,44}", amount in "[0-9]{0,20}", decimals in 0..20_u32)
        -> proto::TokenBalance
    {
        let amount = proto::UiTokenAmount { ui_amount: 1.5, decimals, amount, ui_amount_string: "1.5".to_owned() };
        proto::TokenBalance { account_index, mint, ui_token_amount: Some(amount), owner, program_id: String::new() }
    }
}

prop_compose! {
    fn metas()(
        err in proptest::option::of(vec(any::<u8>(), 0..12)),
        fee: u64,
        pre_balances in vec(any::<u64>(), 0..5),
        groups in vec((0..8_u32, vec((0..40_u32, vec(any::<u8>(), 0..9), proptest::option::of(1..5_u32)), 0..4)), 0..3),
        log_messages in vec(".{0,20}", 0..4),
        pre_token_balances in vec(balances(), 0..3),
        loaded in vec(vec(any::<u8>(), 32..=32), 0..3),
        return_data in proptest::option::of(vec(any::<u8>(), 0..9)),
        units in proptest::option::of(any::<u64>()),
        none: bool,
    ) -> proto::TransactionStatusMeta {
        let inner = |(program_id_index, data, stack_height): (u32, Vec<u8>, Option<u32>)| {
            proto::InnerInstruction { program_id_index, accounts: data.clone(), data, stack_height }
        };
        proto::TransactionStatusMeta {
            err: err.map(|err| proto::TransactionError { err }),
            fee,
            post_balances: pre_balances.clone(),
            pre_balances,
            inner_instructions: groups.into_iter().map(|(index, group)| proto::InnerInstructions {
                index,
                instructions: group.into_iter().map(inner).collect(),
            }).collect(),
            inner_instructions_none: none,
            log_messages,
            post_token_balances: pre_token_balances.clone(),
            pre_token_balances,
            loaded_readonly_addresses: loaded.clone(),
            loaded_writable_addresses: loaded,
            return_data_none: return_data.is_none(),
            return_data: return_data.map(|data| proto::ReturnData { program_id: vec![4; 32], data }),
            compute_units_consumed: units,
            cost_units: units,
            ..Default::default()
        }
    }
}

prop_compose! {
    fn transactions()(
        signatures in vec(vec(any::<u8>(), 64..=64), 1..3),
        keys in vec(vec(any::<u8>(), 32..=32), 0..6),
        instructions in vec((0..300_u32, vec(any::<u8>(), 0..9)), 0..4),
        versioned: bool,
        lookups in vec(vec(any::<u8>(), 0..5), 0..3),
        config in proptest::option::of(proptest::option::of(any::<u64>())),
        meta in metas(),
        index in 0..=i32::MAX as u64,
        slot: u64,
        bank_id: u64,
    ) -> proto::SubscribeUpdate {
        let message = proto::Message {
            header: Some(proto::MessageHeader { num_required_signatures: 1, num_readonly_signed_accounts: 0, num_readonly_unsigned_accounts: 2 }),
            account_keys: keys,
            recent_blockhash: vec![5; 32],
            instructions: instructions.into_iter().map(|(program_id_index, data)| proto::CompiledInstruction {
                program_id_index, accounts: data.clone(), data,
            }).collect(),
            versioned,
            address_table_lookups: lookups.into_iter().map(|indexes| proto::MessageAddressTableLookup {
                account_key: vec![6; 32], writable_indexes: indexes.clone(), readonly_indexes: indexes,
            }).collect(),
            config: config.map(|priority_fee| proto::TransactionConfig { priority_fee, compute_unit_limit: Some(9), ..Default::default() }),
        };
        let info = proto::SubscribeUpdateTransactionInfo {
            signature: signatures[0].clone(),
            is_vote: versioned,
            transaction: Some(proto::Transaction { signatures, message: Some(message) }),
            meta: Some(meta),
            index,
        };
        let update = proto::SubscribeUpdateTransaction { transaction: Some(info), slot, bank_id };
        proto::SubscribeUpdate {
            filters: vec!["all".to_owned()],
            update_oneof: Some(UpdateOneof::Transaction(update)),
            created_at: None,
        }
    }
}

proptest! {
    #[test]
    fn generated_transactions_read_as_prost_reads_them(update in transactions()) {
        let bytes = update.encode_to_vec();
        prop_assert!(check_frame(&bytes));
        let frame = Frame::try_new(Bytes::from(bytes)).expect("checked");
        let mut transaction = Transaction::default();
        transaction.read(frame.body()).expect("whole");
        assert_transaction(frame.body(), &transaction);
    }

    #[test]
    fn tampered_transactions_are_refused_or_read_as_prost_reads_them(
        update in transactions(),
        at: prop::sample::Index,
        byte: u8,
        cut: bool,
    ) {
        let mut bytes = update.encode_to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        check_frame(&bytes);
    }

    #[test]
    fn any_bytes_end_in_a_header_or_an_error(bytes: Vec<u8>) {
        check_frame(&bytes);
        let _ = Transaction::default().read(&bytes);
        let _ = Account::read(&bytes);
        let _ = Entry::read(&bytes);
        let _ = BlockMeta::read(&bytes);
    }
}
