//! Ledger files, told apart by content: `ConfirmedBlock` protobuf, `getBlock` JSON, recorded frames; each as it is or
//! compressed with gzip or zstd.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use serde_json::Value;
use yellowstone_grpc_proto::prelude::SubscribeUpdate;

use super::block::Block;
use super::get_block::{self, GetBlockError};
use super::recording::{self, RecordedFrame};
use super::{confirmed_block, poh};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A recorded answer to `getBlock`.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The slot asked for.
    pub slot: u64,
    /// The encoding asked for.
    pub encoding: String,
    /// The whole JSON-RPC answer.
    pub response: Value,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Blocks, in the file's order.
    pub blocks: Vec<Block>,
    /// Recorded updates, in the order they came.
    pub frames: Vec<RecordedFrame>,
    /// Recorded RPC answers.
    pub answers: Vec<Answer>,
}

/// Why a file is not a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It can't be read or unpacked.
    #[error("can't read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// It looks like JSON and is not.
    #[error("{name} is not JSON")]
    Json {
        /// The file's name.
        name: String,
        /// What went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A `getBlock` answer in it is not a whole block.
    #[error("{name} holds a getBlock answer that can't be played")]
    GetBlock {
        /// The file's name.
        name: String,
        /// What went wrong.
        #[source]
        source: GetBlockError,
    },
    /// It is neither JSON, nor recorded frames, nor a `ConfirmedBlock`.
    #[error("{name} is neither getBlock JSON, nor recorded frames, nor a ConfirmedBlock")]
    Unknown {
        /// The file's name.
        name: String,
        /// Why it is not the last of them.
        #[source]
        source: prost::DecodeError,
    },
    /// There is no block in any file.
    #[error("the ledger holds no block")]
    Empty,
    /// The blocks are not in the order of their slots.
    #[error("slot {slot} comes after slot {before}; give the files in the order of their slots")]
    Order {
        /// The slot out of order.
        slot: u64,
        /// The one that it follows.
        before: u64,
    },
    /// A hash is not 32 bytes of base58.
    #[error("blockhash {0:?} is not a hash")]
    Hash(String),
}

/// Reads a file. `slot` numbers a block that carries no number of its own.
pub fn load(path: &Path, slot: Option<u64>) -> Result<Loaded, LedgerError> {
    let io = |source| LedgerError::Io { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(io)?;
    let name = path.display().to_string();
    parse(&name, unpack(bytes).map_err(io)?, slot)
}

/// Reads a file's bytes; `name` is for messages.
pub fn load_bytes(name: &str, bytes: &[u8], slot: Option<u64>) -> Result<Loaded, LedgerError> {
    let io = |source| LedgerError::Io { path: PathBuf::from(name), source };
    parse(name, unpack(bytes.to_vec()).map_err(io)?, slot)
}

fn unpack(bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    if bytes.starts_with(&GZIP_MAGIC) {
        let mut out = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut out)?;
        return unpack(out);
    }
    if bytes.starts_with(&ZSTD_MAGIC) {
        return unpack(zstd::decode_all(bytes.as_slice())?);
    }
    Ok(bytes)
}

fn parse(name: &str, bytes: Vec<u8>, slot: Option<u64>) -> Result<Loaded, LedgerError> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if matches!(first, Some(b'{' | b'[')) {
        return parse_json(name, &bytes, slot);
    }
    let bytes = Bytes::from(bytes);
    let unknown = |source| LedgerError::Unknown { name: name.to_owned(), source };
    if let Some(frames) = recording::split(&bytes).filter(|frames| is_update(frames.first())) {
        let frames = recording::parse(frames).map_err(unknown)?;
        return Ok(Loaded { frames, ..Loaded::default() });
    }
    let block = confirmed_block::parse(&bytes, slot).map_err(unknown)?;
    if poh::hash(&block.blockhash).is_none() {
        return Err(LedgerError::Hash(block.blockhash));
    }
    Ok(Loaded { blocks: vec![block], ..Loaded::default() })
}

fn is_update(frame: Option<&Bytes>) -> bool {
    frame.is_some_and(|frame| {
        SubscribeUpdate::decode(frame.clone()).is_ok_and(|update| update.update_oneof.is_some())
    })
}

fn parse_json(name: &str, bytes: &[u8], slot: Option<u64>) -> Result<Loaded, LedgerError> {
    let mut loaded = Loaded::default();
    let values =
        serde_json::Deserializer::from_slice(bytes).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
    let values = values.map_err(|source| LedgerError::Json { name: name.to_owned(), source })?;
    for value in values.into_iter().flat_map(batch) {
        match recorded_answer(&value) {
            Some(answer) => loaded.answers.push(answer),
            None => {
                let block = get_block::parse(value, slot);
                let refused = |source| LedgerError::GetBlock { name: name.to_owned(), source };
                loaded.blocks.push(block.map_err(refused)?);
            }
        }
    }
    Ok(loaded)
}

/// The answers to a batch of calls come as one array.
fn batch(value: Value) -> Vec<Value> {
    match value {
        Value::Array(answers) => answers,
        single => vec![single],
    }
}

fn recorded_answer(value: &Value) -> Option<Answer> {
    let encoding = value.get("encoding").and_then(Value::as_str).unwrap_or("base64");
    Some(Answer {
        slot: value.get("slot")?.as_u64()?,
        encoding: encoding.to_owned(),
        response: value.get("response")?.clone(),
    })
}
