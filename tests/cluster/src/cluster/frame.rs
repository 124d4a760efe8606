//! Encodes updates as they go over the wire; transactions, most of all bytes, are copied and not encoded anew.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use yellowstone_grpc_proto::prelude::SubscribeUpdate;
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prost_types::Timestamp;

/// Field numbers of `SubscribeUpdate`.
const FILTERS_FIELD: u32 = 1;
const TRANSACTION_FIELD: u32 = 4;
const CREATED_AT_FIELD: u32 = 11;
/// Field numbers of `SubscribeUpdateTransaction`.
const INFO_FIELD: u32 = 1;
const SLOT_FIELD: u32 = 2;
const BANK_FIELD: u32 = 3;
/// A field that no version of the protocol knows, for padding.
const UNKNOWN_FIELD: u32 = 1_000;
/// Room for keys and varints around a transaction.
const OVERHEAD_BYTES: usize = 64;

/// Encodes any update.
pub(crate) fn update(names: &[&str], update: UpdateOneof, created_at: Duration) -> Bytes {
    let update = SubscribeUpdate {
        filters: names.iter().map(|&name| name.to_owned()).collect(),
        update_oneof: Some(update),
        created_at: Some(timestamp(created_at)),
    };
    Bytes::from(update.encode_to_vec())
}

/// Encodes a transaction from its already encoded `SubscribeUpdateTransactionInfo`.
pub(crate) fn transaction(names: &[&str], info: &[u8], slot: u64, bank: u64, created_at: Duration) -> Bytes {
    let mut out = BytesMut::with_capacity(
        info.len() + OVERHEAD_BYTES + names.iter().map(|name| name.len() + 8).sum::<usize>(),
    );
    put_names(&mut out, names);
    let bank_bytes = if bank == 0 { 0 } else { 1 + encoded_len_varint(bank) };
    let info_bytes = 1 + encoded_len_varint(info.len() as u64) + info.len();
    let length = info_bytes + 1 + encoded_len_varint(slot) + bank_bytes;
    encode_key(TRANSACTION_FIELD, WireType::LengthDelimited, &mut out);
    encode_varint(length as u64, &mut out);
    put_bytes(&mut out, INFO_FIELD, info);
    encode_key(SLOT_FIELD, WireType::Varint, &mut out);
    encode_varint(slot, &mut out);
    if bank != 0 {
        encode_key(BANK_FIELD, WireType::Varint, &mut out);
        encode_varint(bank, &mut out);
    }
    put_bytes(&mut out, CREATED_AT_FIELD, &timestamp(created_at).encode_to_vec());
    out.freeze()
}

/// A recorded update under a subscriber's own names.
pub(crate) fn recorded(names: &[&str], body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + OVERHEAD_BYTES);
    put_names(&mut out, names);
    out.put_slice(body);
    out.freeze()
}

/// An update padded to a size with a field to be skipped.
pub(crate) fn padded(inner: UpdateOneof, created_at: Duration, padding_bytes: usize) -> Bytes {
    let mut out = BytesMut::from(update(&[], inner, created_at).as_ref());
    put_bytes(&mut out, UNKNOWN_FIELD, &vec![0; padding_bytes]);
    out.freeze()
}

fn put_names(out: &mut BytesMut, names: &[&str]) {
    for name in names {
        put_bytes(out, FILTERS_FIELD, name.as_bytes());
    }
}

fn put_bytes(out: &mut BytesMut, field: u32, bytes: &[u8]) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

fn timestamp(time: Duration) -> Timestamp {
    Timestamp { seconds: time.as_secs() as i64, nanos: time.subsec_nanos() as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yellowstone_grpc_proto::prelude::{SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo};

    #[test]
    fn a_transaction_put_together_is_the_one_that_prost_encodes() {
        for bank_id in [0, 1, 1 << 40] {
            let info =
                SubscribeUpdateTransactionInfo { signature: vec![7; 64], index: 300, ..Default::default() };
            let names = ["a", "filter with a long name"];
            let time = Duration::from_nanos(1_700_000_000_000_000_007);
            let whole =
                SubscribeUpdateTransaction { transaction: Some(info.clone()), slot: 86_400_000, bank_id };
            let expected = update(&names, UpdateOneof::Transaction(whole), time);
            assert_eq!(transaction(&names, &info.encode_to_vec(), 86_400_000, bank_id, time), expected);
        }
    }
}
