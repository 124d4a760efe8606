//! Transactions in the ledger's own format, as RPC hands them out, turned into the protobuf that geyser sends. Pure.
//!
//! Formats: legacy and v0 messages are signatures first, each list with a length of one to three bytes (compact-u16);
//! v1 messages (SIMD-0385) come before their signatures and have fixed-size counts:
//! <https://github.com/solana-foundation/solana-improvement-documents/blob/main/proposals/0385-transaction-v1.md>.
//! Any bytes end in a transaction or an error; lists are never longer than the bytes that are there.

use thiserror::Error;
use yellowstone_grpc_proto::prelude::{
    CompiledInstruction, Message, MessageAddressTableLookup, MessageHeader, Transaction, TransactionConfig,
};

/// The highest message version that this module reads; RPC is told so.
pub const MAX_VERSION: u8 = 1;

const VERSION_BIT: u8 = 0x80;
const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;

/// The simple vote rule's program.
const VOTE_PROGRAM: &str = "Vote111111111111111111111111111111111111111";

/// Simple votes have no more signatures than this.
const MAX_VOTE_SIGNATURES: usize = 2;

/// Bits of a v1 message's config mask. The priority fee has two, which are set together.
const MASK_PRIORITY_FEE: u32 = 0b11;
const MASK_COMPUTE_UNIT_LIMIT: u32 = 1 << 2;
const MASK_LOADED_DATA_SIZE: u32 = 1 << 3;
const MASK_HEAP_SIZE: u32 = 1 << 4;
const MASK_KNOWN: u32 = MASK_PRIORITY_FEE | MASK_COMPUTE_UNIT_LIMIT | MASK_LOADED_DATA_SIZE | MASK_HEAP_SIZE;

/// Why bytes are not a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LedgerFormatError {
    /// They end too early.
    #[error("the transaction ends early")]
    Truncated,
    /// They go on behind the end.
    #[error("{0} bytes follow the transaction")]
    Trailing(usize),
    /// A length that is not in its one form.
    #[error("a length is not in its shortest form or above 65,535")]
    Length,
    /// A message version from the future.
    #[error("message version {0} is not known")]
    Version(u8),
    /// A v1 config mask with bits that nobody knows.
    #[error("config mask {0:#x} is not known")]
    ConfigMask(u32),
    /// No signature at all.
    #[error("the transaction has no signature")]
    Unsigned,
}

/// Reads one transaction, which has to fill `bytes`.
///
/// # Errors
/// See [`LedgerFormatError`].
pub fn transaction(bytes: &[u8]) -> Result<Transaction, LedgerFormatError> {
    let mut cursor = Cursor { rest: bytes };
    let transaction = if bytes.first() == Some(&(VERSION_BIT | 1)) {
        v1_transaction(&mut cursor)?
    } else {
        let count = cursor.compact_u16()?;
        let signatures = cursor.chunks(count, SIGNATURE_BYTES)?;
        Transaction { signatures, message: Some(message(&mut cursor)?) }
    };
    if transaction.signatures.is_empty() {
        return Err(LedgerFormatError::Unsigned);
    }
    match cursor.rest.len() {
        0 => Ok(transaction),
        trailing => Err(LedgerFormatError::Trailing(trailing)),
    }
}

/// Whether a node calls this transaction a vote: one or two signatures, a legacy message, and one instruction, for the
/// vote program (Agave's `is_simple_vote_transaction`).
pub fn is_simple_vote(transaction: &Transaction) -> bool {
    let Some(message) = &transaction.message else { return false };
    let [instruction] = message.instructions.as_slice() else { return false };
    let mut vote_program = [0; KEY_BYTES];
    let program =
        usize::try_from(instruction.program_id_index).ok().and_then(|at| message.account_keys.get(at));
    five8::decode_32(VOTE_PROGRAM, &mut vote_program).is_ok()
        && transaction.signatures.len() <= MAX_VOTE_SIGNATURES
        && !message.versioned
        && program.is_some_and(|program| program.as_slice() == vote_program)
}

fn message(cursor: &mut Cursor<'_>) -> Result<Message, LedgerFormatError> {
    let versioned = match cursor.rest.first() {
        Some(first) if first & VERSION_BIT != 0 => match cursor.byte()? & !VERSION_BIT {
            0 => true,
            version => return Err(LedgerFormatError::Version(version)),
        },
        _ => false,
    };
    let header = header(cursor)?;
    let count = cursor.compact_u16()?;
    let account_keys = cursor.chunks(count, KEY_BYTES)?;
    let recent_blockhash = cursor.take(KEY_BYTES)?.to_vec();
    let instructions = cursor.list(instruction)?;
    let address_table_lookups = if versioned { cursor.list(lookup)? } else { Vec::new() };
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

fn header(cursor: &mut Cursor<'_>) -> Result<MessageHeader, LedgerFormatError> {
    Ok(MessageHeader {
        num_required_signatures: cursor.byte()?.into(),
        num_readonly_signed_accounts: cursor.byte()?.into(),
        num_readonly_unsigned_accounts: cursor.byte()?.into(),
    })
}

fn instruction(cursor: &mut Cursor<'_>) -> Result<CompiledInstruction, LedgerFormatError> {
    Ok(CompiledInstruction {
        program_id_index: cursor.byte()?.into(),
        accounts: cursor.counted_bytes()?,
        data: cursor.counted_bytes()?,
    })
}

fn lookup(cursor: &mut Cursor<'_>) -> Result<MessageAddressTableLookup, LedgerFormatError> {
    Ok(MessageAddressTableLookup {
        account_key: cursor.take(KEY_BYTES)?.to_vec(),
        writable_indexes: cursor.counted_bytes()?,
        readonly_indexes: cursor.counted_bytes()?,
    })
}

fn v1_transaction(cursor: &mut Cursor<'_>) -> Result<Transaction, LedgerFormatError> {
    cursor.byte()?;
    let header = header(cursor)?;
    let mask = u32::from_le_bytes(cursor.array()?);
    let recent_blockhash = cursor.take(KEY_BYTES)?.to_vec();
    let (instructions, addresses) = (cursor.byte()?, cursor.byte()?);
    let account_keys = cursor.chunks(addresses.into(), KEY_BYTES)?;
    let config = v1_config(cursor, mask)?;
    let instructions = v1_instructions(cursor, instructions.into())?;
    let count = usize::try_from(header.num_required_signatures).unwrap_or(usize::MAX);
    let signatures = cursor.chunks(count, SIGNATURE_BYTES)?;
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

fn v1_config(cursor: &mut Cursor<'_>, mask: u32) -> Result<TransactionConfig, LedgerFormatError> {
    let fee_bits = mask & MASK_PRIORITY_FEE;
    if mask & !MASK_KNOWN != 0 || (fee_bits != 0 && fee_bits != MASK_PRIORITY_FEE) {
        return Err(LedgerFormatError::ConfigMask(mask));
    }
    let mut config = TransactionConfig::default();
    if fee_bits != 0 {
        config.priority_fee = Some(u64::from_le_bytes(cursor.array()?));
    }
    let mut number = |bit: u32| -> Result<Option<u32>, LedgerFormatError> {
        if mask & bit == 0 { Ok(None) } else { Ok(Some(u32::from_le_bytes(cursor.array()?))) }
    };
    config.compute_unit_limit = number(MASK_COMPUTE_UNIT_LIMIT)?;
    config.loaded_accounts_data_size_limit = number(MASK_LOADED_DATA_SIZE)?;
    config.heap_size = number(MASK_HEAP_SIZE)?;
    Ok(config)
}

/// The headers of all instructions come before the first one's accounts and data.
fn v1_instructions(
    cursor: &mut Cursor<'_>,
    count: usize,
) -> Result<Vec<CompiledInstruction>, LedgerFormatError> {
    let headers = cursor.take(count * 4)?.as_chunks::<4>().0;
    let read = |&[program, accounts, low, high]: &[u8; 4]| {
        Ok(CompiledInstruction {
            program_id_index: program.into(),
            accounts: cursor.take(accounts.into())?.to_vec(),
            data: cursor.take(u16::from_le_bytes([low, high]).into())?.to_vec(),
        })
    };
    headers.iter().map(read).collect()
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], LedgerFormatError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(LedgerFormatError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LedgerFormatError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(LedgerFormatError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, LedgerFormatError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn compact_u16(&mut self) -> Result<usize, LedgerFormatError> {
        let mut number = 0_u32;
        for position in 0..3 {
            let byte = self.byte()?;
            if byte == 0 && position > 0 {
                return Err(LedgerFormatError::Length);
            }
            number |= u32::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                return u16::try_from(number).map(usize::from).map_err(|_| LedgerFormatError::Length);
            }
        }
        Err(LedgerFormatError::Length)
    }

    fn counted_bytes(&mut self) -> Result<Vec<u8>, LedgerFormatError> {
        let count = self.compact_u16()?;
        Ok(self.take(count)?.to_vec())
    }

    fn chunks(&mut self, count: usize, size: usize) -> Result<Vec<Vec<u8>>, LedgerFormatError> {
        let bytes = self.take(count.saturating_mul(size))?;
        Ok(bytes.chunks_exact(size).map(<[u8]>::to_vec).collect())
    }

    fn list<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, LedgerFormatError>,
    ) -> Result<Vec<T>, LedgerFormatError> {
        let count = self.compact_u16()?;
        // No capacity from a number that is not backed by bytes yet.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }
}
