//! What a transaction's signatures sign: its message as bytes, put together again from an update or from columns.
//!
//! Formats: legacy and version 0 (<https://solana.com/docs/core/transactions>), version 1 (SIMD-0385).

use super::{Place, Transaction};

/// The first byte of a message with a version: this bit, and the number.
const VERSION_BIT: u8 = 0x80;
/// Bits of a version 1 message's mask; the fee is two words long and has two.
const MASK_PRIORITY_FEE: u32 = 0b11;
const MASK_LIMITS: [u32; 3] = [0b100, 0b1_000, 0b1_0000];

/// An instruction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instruction {
    /// Position of the program in the account keys.
    pub program_id_index: u8,
    /// Positions of its accounts.
    pub accounts: Vec<u8>,
    /// Its data.
    pub data: Vec<u8>,
}

/// An address table look-up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookup {
    /// The table.
    pub account_key: [u8; 32],
    /// Positions in it that are loaded writable.
    pub writable_indexes: Vec<u8>,
    /// Positions in it that are loaded read-only.
    pub readonly_indexes: Vec<u8>,
}

/// The inline budget of a version 1 message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Config {
    /// Lamports.
    pub priority_fee: Option<u64>,
    /// Compute units, account bytes, heap bytes.
    pub limits: [Option<u32>; 3],
}

/// The version, with what only it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// Without a version prefix.
    Legacy,
    /// With address table look-ups.
    V0(Vec<Lookup>),
    /// With an inline budget.
    V1(Config),
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The version, with what only it has.
    pub version: Version,
    /// Signers, read-only signers, other read-only keys.
    pub header: [u8; 3],
    /// Static account keys, those of the signers first.
    pub account_keys: Vec<[u8; 32]>,
    /// The recent blockhash or nonce.
    pub recent_blockhash: [u8; 32],
    /// Outer instructions.
    pub instructions: Vec<Instruction>,
}

impl Message {
    /// The message of a transaction that was read from `body`; `None` if one of its numbers does not fit the format, so
    /// that nobody can have signed it.
    pub fn of(transaction: &Transaction, body: &[u8]) -> Option<Self> {
        let header = [
            transaction.num_required_signatures,
            transaction.num_readonly_signed_accounts,
            transaction.num_readonly_unsigned_accounts,
        ];
        let [Ok(signers), Ok(readonly_signers), Ok(readonly)] = header.map(u8::try_from) else { return None };
        let bytes = |place: Place| place.of(body).to_vec();
        let instruction = |instruction: &super::Instruction| {
            Some(Instruction {
                program_id_index: u8::try_from(instruction.program_id_index).ok()?,
                accounts: bytes(instruction.accounts),
                data: bytes(instruction.data),
            })
        };
        Some(Self {
            version: Version::of(transaction, body),
            header: [signers, readonly_signers, readonly],
            account_keys: transaction.account_keys.iter().map(|key| *key.array(body)).collect(),
            recent_blockhash: *transaction.recent_blockhash.array(body),
            instructions: transaction.instructions.iter().map(instruction).collect::<Option<_>>()?,
        })
    }

    /// The bytes that were signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_232);
        match &self.version {
            Version::Legacy => self.write_body(&mut out),
            Version::V0(lookups) => {
                out.push(VERSION_BIT);
                self.write_body(&mut out);
                write_lookups(lookups, &mut out);
            }
            Version::V1(config) => self.write_v1(config, &mut out),
        }
        out
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        out.extend(self.header);
        write_length(self.account_keys.len(), out);
        out.extend(self.account_keys.as_flattened());
        out.extend(self.recent_blockhash);
        write_length(self.instructions.len(), out);
        for instruction in &self.instructions {
            out.push(instruction.program_id_index);
            write_bytes(&instruction.accounts, out);
            write_bytes(&instruction.data, out);
        }
    }

    fn write_v1(&self, config: &Config, out: &mut Vec<u8>) {
        out.push(VERSION_BIT | 1);
        out.extend(self.header);
        out.extend(config.mask().to_le_bytes());
        out.extend(self.recent_blockhash);
        // The format has a byte for each; what does not fit was never signed, and fails as such.
        out.push(self.instructions.len() as u8);
        out.push(self.account_keys.len() as u8);
        out.extend(self.account_keys.as_flattened());
        out.extend(config.priority_fee.into_iter().flat_map(u64::to_le_bytes));
        out.extend(config.limits.into_iter().flatten().flat_map(u32::to_le_bytes));
        for instruction in &self.instructions {
            out.push(instruction.program_id_index);
            out.push(instruction.accounts.len() as u8);
            out.extend((instruction.data.len() as u16).to_le_bytes());
        }
        for instruction in &self.instructions {
            out.extend(&instruction.accounts);
            out.extend(&instruction.data);
        }
    }
}

impl Version {
    fn of(transaction: &Transaction, body: &[u8]) -> Self {
        let lookup = |lookup: &super::Lookup| Lookup {
            account_key: *lookup.account_key.array(body),
            writable_indexes: lookup.writable_indexes.of(body).to_vec(),
            readonly_indexes: lookup.readonly_indexes.of(body).to_vec(),
        };
        match transaction.version {
            super::Version::Legacy => Self::Legacy,
            super::Version::V0 => Self::V0(transaction.lookups.iter().map(lookup).collect()),
            super::Version::V1 => Self::V1(transaction.config.map(Config::from).unwrap_or_default()),
        }
    }
}

impl From<super::Config> for Config {
    fn from(config: super::Config) -> Self {
        Self {
            priority_fee: config.priority_fee,
            limits: [config.compute_unit_limit, config.loaded_accounts_data_size_limit, config.heap_size],
        }
    }
}

impl Config {
    fn mask(&self) -> u32 {
        let fee = if self.priority_fee.is_some() { MASK_PRIORITY_FEE } else { 0 };
        let limits = MASK_LIMITS.iter().zip(self.limits).filter(|(_, limit)| limit.is_some());
        limits.fold(fee, |mask, (bit, _)| mask | bit)
    }
}

fn write_lookups(lookups: &[Lookup], out: &mut Vec<u8>) {
    write_length(lookups.len(), out);
    for lookup in lookups {
        out.extend(lookup.account_key);
        write_bytes(&lookup.writable_indexes, out);
        write_bytes(&lookup.readonly_indexes, out);
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_length(bytes.len(), out);
    out.extend(bytes);
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn write_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_one_to_three_bytes() {
        let written = |length| {
            let mut out = Vec::new();
            write_length(length, &mut out);
            out
        };
        assert_eq!(written(0), [0]);
        assert_eq!(written(0x7f), [0x7f]);
        assert_eq!(written(0x80), [0x80, 1]);
        assert_eq!(written(0x4000), [0x80, 0x80, 1]);
    }

    #[test]
    fn version_1_is_written_as_solana_writes_it() {
        use solana_message::compiled_instruction::CompiledInstruction;
        use solana_message::{MessageHeader, v1};

        let fees = [None, Some(u64::MAX)];
        let limits = [None, Some(7)];
        for (priority_fee, units, bytes, heap) in fees.into_iter().flat_map(|fee| {
            (0..8).map(move |bits| (fee, limits[bits & 1], limits[bits >> 1 & 1], limits[bits >> 2]))
        }) {
            let message = Message {
                version: Version::V1(Config { priority_fee, limits: [units, bytes, heap] }),
                header: [2, 1, 1],
                account_keys: vec![[1; 32], [2; 32], [3; 32], [4; 32]],
                recent_blockhash: [9; 32],
                instructions: vec![
                    Instruction { program_id_index: 3, accounts: vec![0, 1, 2], data: vec![5; 300] },
                    Instruction { program_id_index: 3, accounts: vec![], data: vec![] },
                ],
            };
            let header = MessageHeader {
                num_required_signatures: 2,
                num_readonly_signed_accounts: 1,
                num_readonly_unsigned_accounts: 1,
            };
            let config = v1::TransactionConfig {
                priority_fee,
                compute_unit_limit: units,
                loaded_accounts_data_size_limit: bytes,
                heap_size: heap,
            };
            let compiled = |instruction: &Instruction| CompiledInstruction {
                program_id_index: instruction.program_id_index,
                accounts: instruction.accounts.clone(),
                data: instruction.data.clone(),
            };
            let keys = message.account_keys.iter().map(|&key| key.into()).collect();
            let instructions = message.instructions.iter().map(compiled).collect();
            let solana = v1::Message::new(header, config, [9; 32].into(), keys, instructions);
            assert_eq!(message.to_bytes(), solana.serialize());
        }
    }
}
