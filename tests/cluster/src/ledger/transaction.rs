//! Solana's wire format of transactions, to and from the protobuf form that Yellowstone streams.
//!
//! Three message formats exist: legacy, v0 (address look-up tables) and v1 (SIMD-0385, signatures at the end). The
//! protobuf form tells v1 by its `config`, v0 by `versioned`. Layout:
//! <https://solana.com/docs/core/transactions#transaction-structure>.

use yellowstone_grpc_proto::prelude::{
    CompiledInstruction, Message, MessageAddressTableLookup, MessageHeader, Transaction, TransactionConfig,
};

/// Set in the first byte of a message that is not legacy; the other bits are the version.
const VERSION_FLAG: u8 = 0x80;
/// First byte of a whole v1 transaction.
const V1_PREFIX: u8 = VERSION_FLAG | 1;
const SIGNATURE_BYTES: usize = 64;
const KEY_BYTES: usize = 32;
/// The vote program's key, `Vote111111111111111111111111111111111111111`.
const VOTE_PROGRAM: [u8; KEY_BYTES] = [
    7, 97, 72, 29, 53, 116, 116, 187, 124, 77, 118, 36, 235, 211, 189, 179, 216, 53, 94, 115, 209, 16, 67,
    252, 13, 163, 83, 128, 0, 0, 0, 0,
];

/// Why bytes are not a transaction.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("transaction ends inside {0}")]
    Truncated(&'static str),
    /// Bytes are left over.
    #[error("{0} bytes follow the transaction")]
    Trailing(usize),
    /// A message version that is not known here.
    #[error("message version {0} is unknown")]
    Version(u8),
}

/// The version of a transaction's message: `None` is legacy.
pub fn version(message: &Message) -> Option<u8> {
    match (&message.config, message.versioned) {
        (Some(_), _) => Some(1),
        (None, true) => Some(0),
        (None, false) => None,
    }
}

/// Whether the chain counts a transaction as a vote: legacy, at most two signatures, one instruction, vote program.
pub fn is_vote(transaction: &Transaction) -> bool {
    let Some(message) = &transaction.message else { return false };
    let [instruction] = message.instructions.as_slice() else { return false };
    let program = message.account_keys.get(instruction.program_id_index as usize);
    version(message).is_none()
        && transaction.signatures.len() < 3
        && program.is_some_and(|key| key.as_slice() == VOTE_PROGRAM)
}

/// Reads a transaction from its wire bytes.
pub fn decode(bytes: &[u8]) -> Result<Transaction, WireError> {
    let mut reader = Reader { rest: bytes };
    let transaction = match bytes.first() {
        Some(&V1_PREFIX) => reader.v1_transaction()?,
        _ => reader.transaction()?,
    };
    match reader.rest.len() {
        0 => Ok(transaction),
        left => Err(WireError::Trailing(left)),
    }
}

/// Writes a transaction's wire bytes.
pub fn encode(transaction: &Transaction) -> Vec<u8> {
    let mut out = Vec::with_capacity(1232);
    let message = transaction.message.clone().unwrap_or_default();
    if let Some(config) = &message.config {
        write_v1(&mut out, &message, config);
        out.extend(transaction.signatures.iter().flatten());
        return out;
    }
    write_length(&mut out, transaction.signatures.len());
    out.extend(transaction.signatures.iter().flatten());
    write_message(&mut out, &message);
    out
}

/// The bytes that a transaction's signatures sign.
pub(crate) fn signed_bytes(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(1232);
    match &message.config {
        Some(config) => write_v1(&mut out, message, config),
        None => write_message(&mut out, message),
    }
    out
}

fn write_message(out: &mut Vec<u8>, message: &Message) {
    if message.versioned {
        out.push(VERSION_FLAG);
    }
    write_header(out, message.header.unwrap_or_default());
    write_length(out, message.account_keys.len());
    out.extend(message.account_keys.iter().flatten());
    out.extend(&message.recent_blockhash);
    write_length(out, message.instructions.len());
    for instruction in &message.instructions {
        out.push(instruction.program_id_index as u8);
        write_bytes(out, &instruction.accounts);
        write_bytes(out, &instruction.data);
    }
    if message.versioned {
        write_length(out, message.address_table_lookups.len());
        for lookup in &message.address_table_lookups {
            out.extend(&lookup.account_key);
            write_bytes(out, &lookup.writable_indexes);
            write_bytes(out, &lookup.readonly_indexes);
        }
    }
}

fn write_v1(out: &mut Vec<u8>, message: &Message, config: &TransactionConfig) {
    out.push(V1_PREFIX);
    write_header(out, message.header.unwrap_or_default());
    out.extend(config_mask(config).to_le_bytes());
    out.extend(&message.recent_blockhash);
    out.extend([message.instructions.len() as u8, message.account_keys.len() as u8]);
    out.extend(message.account_keys.iter().flatten());
    out.extend(config.priority_fee.iter().flat_map(|fee| fee.to_le_bytes()));
    let limits = [config.compute_unit_limit, config.loaded_accounts_data_size_limit, config.heap_size];
    out.extend(limits.iter().flatten().flat_map(|limit| limit.to_le_bytes()));
    for instruction in &message.instructions {
        out.extend([instruction.program_id_index as u8, instruction.accounts.len() as u8]);
        out.extend((instruction.data.len() as u16).to_le_bytes());
    }
    for instruction in &message.instructions {
        out.extend(&instruction.accounts);
        out.extend(&instruction.data);
    }
}

/// Bits 0 and 1 stand for the two words of the priority fee, then one bit for each limit.
fn config_mask(config: &TransactionConfig) -> u32 {
    let fee = if config.priority_fee.is_some() { 0b11 } else { 0 };
    fee | u32::from(config.compute_unit_limit.is_some()) << 2
        | u32::from(config.loaded_accounts_data_size_limit.is_some()) << 3
        | u32::from(config.heap_size.is_some()) << 4
}

fn write_header(out: &mut Vec<u8>, header: MessageHeader) {
    out.extend([
        header.num_required_signatures as u8,
        header.num_readonly_signed_accounts as u8,
        header.num_readonly_unsigned_accounts as u8,
    ]);
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_length(out, bytes.len());
    out.extend(bytes);
}

/// Solana's "compact-u16": seven bits a byte, low first.
fn write_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn transaction(&mut self) -> Result<Transaction, WireError> {
        let count = self.length("signatures")?;
        let signatures = self.chunks(count, SIGNATURE_BYTES, "signatures")?;
        Ok(Transaction { signatures, message: Some(self.message()?) })
    }

    fn message(&mut self) -> Result<Message, WireError> {
        let versioned = self.rest.first().is_some_and(|byte| byte & VERSION_FLAG != 0);
        if versioned {
            let version = self.byte("version")? & !VERSION_FLAG;
            if version != 0 {
                return Err(WireError::Version(version));
            }
        }
        let header = self.header()?;
        let keys = self.length("account keys")?;
        let account_keys = self.chunks(keys, KEY_BYTES, "account keys")?;
        let recent_blockhash = self.take(KEY_BYTES, "recent blockhash")?.to_vec();
        let count = self.length("instructions")?;
        let instructions = (0..count).map(|_| self.instruction()).collect::<Result<_, _>>()?;
        let address_table_lookups = if versioned { self.lookups()? } else { Vec::new() };
        Ok(Message {
            header: Some(header),
            account_keys,
            recent_blockhash,
            instructions,
            versioned,
            address_table_lookups,
            config: None,
        })
    }

    fn v1_transaction(&mut self) -> Result<Transaction, WireError> {
        self.byte("version")?;
        let header = self.header()?;
        let mask = self.word("config mask")?;
        let recent_blockhash = self.take(KEY_BYTES, "lifetime specifier")?.to_vec();
        let instruction_count = self.byte("instruction count")?;
        let key_count = self.byte("address count")?;
        let account_keys = self.chunks(usize::from(key_count), KEY_BYTES, "addresses")?;
        let config = self.config(mask)?;
        let instructions = self.v1_instructions(instruction_count)?;
        let signatures =
            self.chunks(header.num_required_signatures as usize, SIGNATURE_BYTES, "signatures")?;
        let message = Message {
            header: Some(header),
            account_keys,
            recent_blockhash,
            instructions,
            versioned: true,
            address_table_lookups: Vec::new(),
            config: Some(config),
        };
        Ok(Transaction { signatures, message: Some(message) })
    }

    fn config(&mut self, mask: u32) -> Result<TransactionConfig, WireError> {
        let mut word = |bit: u32| (mask & (1 << bit) != 0).then(|| self.word("config values")).transpose();
        let fee = (word(0)?, word(1)?);
        let priority_fee = fee.0.zip(fee.1).map(|(low, high)| u64::from(high) << 32 | u64::from(low));
        Ok(TransactionConfig {
            priority_fee,
            compute_unit_limit: word(2)?,
            loaded_accounts_data_size_limit: word(3)?,
            heap_size: word(4)?,
        })
    }

    fn v1_instructions(&mut self, count: u8) -> Result<Vec<CompiledInstruction>, WireError> {
        let headers: Vec<&[u8]> =
            (0..count).map(|_| self.take(4, "instruction headers")).collect::<Result<_, _>>()?;
        let payload = |header: &&[u8]| {
            let data_bytes = u16::from_le_bytes([header[2], header[3]]);
            Ok(CompiledInstruction {
                program_id_index: u32::from(header[0]),
                accounts: self.take(usize::from(header[1]), "instruction accounts")?.to_vec(),
                data: self.take(usize::from(data_bytes), "instruction data")?.to_vec(),
            })
        };
        headers.iter().map(payload).collect()
    }

    fn instruction(&mut self) -> Result<CompiledInstruction, WireError> {
        Ok(CompiledInstruction {
            program_id_index: u32::from(self.byte("program index")?),
            accounts: self.bytes("instruction accounts")?,
            data: self.bytes("instruction data")?,
        })
    }

    fn lookups(&mut self) -> Result<Vec<MessageAddressTableLookup>, WireError> {
        let count = self.length("address look-ups")?;
        let lookup = |_| {
            Ok(MessageAddressTableLookup {
                account_key: self.take(KEY_BYTES, "look-up table key")?.to_vec(),
                writable_indexes: self.bytes("writable indexes")?,
                readonly_indexes: self.bytes("readonly indexes")?,
            })
        };
        (0..count).map(lookup).collect()
    }

    fn header(&mut self) -> Result<MessageHeader, WireError> {
        let bytes = self.take(3, "message header")?;
        Ok(MessageHeader {
            num_required_signatures: u32::from(bytes[0]),
            num_readonly_signed_accounts: u32::from(bytes[1]),
            num_readonly_unsigned_accounts: u32::from(bytes[2]),
        })
    }

    fn chunks(&mut self, count: usize, bytes: usize, field: &'static str) -> Result<Vec<Vec<u8>>, WireError> {
        let all = self.take(count * bytes, field)?;
        Ok(all.chunks_exact(bytes).map(<[u8]>::to_vec).collect())
    }

    fn bytes(&mut self, field: &'static str) -> Result<Vec<u8>, WireError> {
        let length = self.length(field)?;
        Ok(self.take(length, field)?.to_vec())
    }

    fn length(&mut self, field: &'static str) -> Result<usize, WireError> {
        let mut value = 0;
        for shift in [0, 7, 14] {
            let byte = self.byte(field)?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }

    fn word(&mut self, field: &'static str) -> Result<u32, WireError> {
        let bytes = self.take(4, field)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn byte(&mut self, field: &'static str) -> Result<u8, WireError> {
        Ok(self.take(1, field)?[0])
    }

    fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated(field))?;
        self.rest = rest;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1() -> Transaction {
        let instruction = CompiledInstruction { program_id_index: 1, accounts: vec![0], data: vec![9; 300] };
        let message = Message {
            header: Some(MessageHeader { num_required_signatures: 1, ..MessageHeader::default() }),
            account_keys: vec![vec![1; 32], vec![2; 32]],
            recent_blockhash: vec![3; 32],
            instructions: vec![instruction],
            versioned: true,
            address_table_lookups: Vec::new(),
            config: Some(TransactionConfig {
                priority_fee: Some(1 << 40),
                heap_size: Some(7),
                ..Default::default()
            }),
        };
        Transaction { signatures: vec![vec![5; 64]], message: Some(message) }
    }

    #[test]
    fn a_v1_transaction_survives_the_wire() {
        let transaction = v1();
        assert_eq!(decode(&encode(&transaction)), Ok(transaction));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = encode(&v1());
        assert!((0..bytes.len()).all(|end| decode(&bytes[..end]).is_err()));
    }

    #[test]
    fn left_over_bytes_are_an_error() {
        let mut bytes = encode(&v1());
        bytes.push(0);
        assert_eq!(decode(&bytes), Err(WireError::Trailing(1)));
    }

    #[test]
    fn the_vote_program_has_its_well_known_name() {
        assert_eq!(bs58::encode(VOTE_PROGRAM).into_string(), "Vote111111111111111111111111111111111111111");
    }
}
