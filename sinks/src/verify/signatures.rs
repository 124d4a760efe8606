//! Whether each signature signs its transaction's message, put together from `transactions` and `instructions`.
//!
//! Both files are sorted by slot and transaction, so they are read side by side, a batch of each at a time. Signatures
//! are checked in batches, by [`super::ed25519`].

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch, StructArray};
use rayon::prelude::*;
use sluice_stages::slot::Slot;
use sluice_stages::transaction::message::{Config, Instruction, Lookup, Message, Version};

use super::ed25519::{Claim, refused};
use super::folder::DataFile;
use super::poh::{Progress, RangeFiles, note, readable};
use super::read::{Batches, KEY_64, Keys, batches, key_lists, keys, u32s, u64s};
use super::report::{Fault, Report};
use super::undone::Obstacle;

/// Signatures that are checked together; beyond, the gain for each more is small.
const BATCH_SIGNATURES: usize = 128;
/// Signatures that are gathered before they are checked, with their messages some 4 MB.
const GATHERED_SIGNATURES: usize = 8_192;

const TRANSACTION_COLUMNS: [&str; 13] = [
    "slot",
    "index",
    "signature",
    "additional_signatures",
    "version",
    "num_required_signatures",
    "num_readonly_signed_accounts",
    "num_readonly_unsigned_accounts",
    "account_keys",
    "recent_blockhash",
    "address_table_lookups",
    "config",
    "loaded_writable_addresses",
];
const LOADED_READONLY: &str = "loaded_readonly_addresses";
const INSTRUCTION_COLUMNS: [&str; 6] =
    ["slot", "transaction_index", "inner_index", "program_id", "accounts", "data"];

/// A transaction with all that its check needs.
struct Signed {
    slot: Slot,
    index: u64,
    message: Vec<u8>,
    /// Signatures, each with the key that has to have made it.
    signatures: Vec<([u8; 64], [u8; 32])>,
}

/// What went wrong in a file, and in which.
type FileFault<'a> = (&'a DataFile, Fault);

/// Checks the signatures of all transactions in `slots`; adds to `checked` how many there are.
///
/// # Errors
/// If a file is not there or can't be read to its end, which is noted: then not all have been checked.
pub(super) fn check(
    files: &RangeFiles,
    slots: &BTreeSet<Slot>,
    progress: &Progress,
    report: &mut Report,
    checked: &mut u64,
) -> Result<(), Obstacle> {
    let transactions = readable(files, "transactions", report)?;
    let instructions = readable(files, "instructions", report)?;
    let mut check = |gathered: &mut Vec<Signed>, report: &mut Report| {
        let number: u64 = gathered.iter().map(|signed| signed.signatures.len() as u64).sum();
        for (slot, index, fault) in check_all(gathered) {
            note(report, &transactions.name, Some(slot), Some(index), fault);
        }
        gathered.clear();
        *checked += number;
        progress.signatures.fetch_add(number, Ordering::Relaxed);
    };
    let mut gathered = Vec::new();
    let result = each_transaction(transactions, instructions, slots, |slot, index, signed| match signed {
        Ok(signed) => {
            gathered.push(signed);
            if gathered.len() >= GATHERED_SIGNATURES {
                check(&mut gathered, report);
            }
        }
        Err(fault) => note(report, &transactions.name, Some(slot), Some(index), fault),
    });
    check(&mut gathered, report);
    result.map_err(|(file, fault)| {
        note(report, &file.name, None, None, fault);
        Obstacle::Unreadable(file.dataset)
    })
}

fn each_transaction<'a>(
    transactions: &'a DataFile,
    instructions: &'a DataFile,
    slots: &BTreeSet<Slot>,
    mut each: impl FnMut(Slot, u64, Result<Signed, Fault>),
) -> Result<(), FileFault<'a>> {
    let in_file = |fault| (transactions, fault);
    let columns: Vec<&'static str> = TRANSACTION_COLUMNS.into_iter().chain([LOADED_READONLY]).collect();
    let mut calls = Calls::open(instructions).map_err(|fault| (instructions, fault))?;
    for batch in batches(transactions, &columns).map_err(in_file)? {
        let batch = batch.map_err(in_file)?;
        let rows = Rows::of(&batch).map_err(in_file)?;
        for row in 0..batch.num_rows() {
            let (slot, index) = (rows.slot(row).map_err(in_file)?, rows.index(row).map_err(in_file)?);
            if !slots.contains(&slot) {
                continue;
            }
            let known: Vec<&[u8]> = rows.known_keys(row).map_err(in_file)?;
            let outer = calls.take(slot, index, &known).map_err(|fault| (instructions, fault))?;
            let message = outer.and_then(|outer| rows.message(row, outer)).map_err(Fault::Message);
            each(slot, index, message.and_then(|message| rows.signed(row, slot, index, &message)));
        }
    }
    Ok(())
}

/// A batch of `transactions`.
struct Rows<'a> {
    batch: &'a RecordBatch,
}

impl<'a> Rows<'a> {
    /// The batch, if its columns are of the right types.
    fn of(batch: &'a RecordBatch) -> Result<Self, Fault> {
        let versions = batch.column_by_name("version").and_then(|column| column.as_string_opt::<i32>());
        versions.ok_or(Fault::Column("version"))?;
        for lists in ["account_keys", "loaded_writable_addresses", LOADED_READONLY] {
            key_lists(batch, lists)?;
        }
        for numbers in &TRANSACTION_COLUMNS[5..8] {
            u32s(batch, numbers)?;
        }
        Ok(Self { batch })
    }

    fn slot(&self, row: usize) -> Result<Slot, Fault> {
        Ok(u64s(self.batch, "slot")?.get(row))
    }

    fn index(&self, row: usize) -> Result<u64, Fault> {
        Ok(u32s(self.batch, "index")?.get(row))
    }

    /// All keys that instructions can name, in the order in which they are numbered, as they are stored.
    fn known_keys(&self, row: usize) -> Result<Vec<&'a [u8]>, Fault> {
        let mut known = Vec::new();
        for lists in ["account_keys", "loaded_writable_addresses", LOADED_READONLY] {
            known.extend(key_lists(self.batch, lists)?.into_keys(row));
        }
        Ok(known)
    }

    fn message(&self, row: usize, instructions: Vec<Instruction>) -> Result<Message, &'static str> {
        let batch = self.batch;
        let header =
            ["num_required_signatures", "num_readonly_signed_accounts", "num_readonly_unsigned_accounts"];
        let header = header.map(|name| u32s(batch, name).map_or(u64::MAX, |column| column.get(row)));
        let [Ok(signers), Ok(readonly_signers), Ok(readonly)] = header.map(u8::try_from) else {
            return Err("a number of its header is larger than a byte");
        };
        let account_keys = key_lists(batch, "account_keys").map_err(|_| "account_keys")?;
        let account_keys: Option<Vec<_>> = account_keys.keys_32(row).collect();
        let recent_blockhash = keys(batch, "recent_blockhash").map_err(|_| "recent_blockhash")?;
        Ok(Message {
            version: self.version(row)?,
            header: [signers, readonly_signers, readonly],
            account_keys: account_keys.ok_or("an account key is not one")?,
            recent_blockhash: recent_blockhash.key_32(row).ok_or("recent_blockhash is not one")?,
            instructions,
        })
    }

    fn version(&self, row: usize) -> Result<Version, &'static str> {
        let versions = self.batch.column_by_name("version").and_then(|column| column.as_string_opt::<i32>());
        match versions.map(|versions| versions.value(row)) {
            Some("legacy") => Ok(Version::Legacy),
            Some("0") => self.lookups(row).map(Version::V0).ok_or("address_table_lookups"),
            Some("1") => self.config(row).map(Version::V1).ok_or("config"),
            _ => Err("the version is unknown"),
        }
    }

    fn lookups(&self, row: usize) -> Option<Vec<Lookup>> {
        let lists = self.batch.column_by_name("address_table_lookups")?.as_list_opt::<i32>()?;
        let lookups: &StructArray = lists.values().as_struct_opt()?;
        let keys = Keys::of(lookups.column_by_name("account_key")?, "account_key").ok()?;
        let bytes = |name: &str| lookups.column_by_name(name)?.as_binary_opt::<i32>();
        let (writable, readonly) = (bytes("writable_indexes")?, bytes("readonly_indexes")?);
        let places = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
        let lookup = |place: usize| {
            Some(Lookup {
                account_key: keys.key_32(place)?,
                writable_indexes: writable.value(place).to_vec(),
                readonly_indexes: readonly.value(place).to_vec(),
            })
        };
        places.map(lookup).collect()
    }

    fn config(&self, row: usize) -> Option<Config> {
        let configs: &StructArray = self.batch.column_by_name("config")?.as_struct_opt()?;
        let fees = configs.column_by_name("priority_fee")?.as_primitive_opt::<UInt64Type>()?;
        let mut limits = [None; 3];
        let names = ["compute_unit_limit", "loaded_accounts_data_size_limit", "heap_size"];
        for (limit, name) in limits.iter_mut().zip(names) {
            let column = configs.column_by_name(name)?.as_primitive_opt::<UInt32Type>()?;
            *limit = column.is_valid(row).then(|| column.value(row));
        }
        Some(Config { priority_fee: fees.is_valid(row).then(|| fees.value(row)), limits })
    }

    fn signed(&self, row: usize, slot: Slot, index: u64, message: &Message) -> Result<Signed, Fault> {
        let firsts = keys(self.batch, "signature")?;
        let others = key_lists(self.batch, "additional_signatures")?;
        let all = std::iter::once(firsts.key_64(row).ok_or_else(|| firsts.wrong("signature", row, KEY_64)));
        let all = all.chain(others.keys_64(row));
        let all: Vec<[u8; 64]> = all.collect::<Result<_, _>>()?;
        if all.len() != usize::from(message.header[0]) || all.len() > message.account_keys.len() {
            return Err(Fault::Message("the number of signatures is not that of the signers"));
        }
        let signatures = all.into_iter().zip(message.account_keys.iter().copied()).collect();
        Ok(Signed { slot, index, message: message.to_bytes(), signatures })
    }
}

/// The rows of `instructions`, from front to back.
struct Calls {
    reader: Batches,
    batch: Option<RecordBatch>,
    row: usize,
}

/// The outer instructions of a transaction, or why they can't be told.
type Outer = Result<Vec<Instruction>, &'static str>;

impl Calls {
    fn open(file: &DataFile) -> Result<Self, Fault> {
        Ok(Self { reader: batches(file, &INSTRUCTION_COLUMNS)?, batch: None, row: 0 })
    }

    /// The outer instructions of a transaction, which comes after those taken before; `known` are the keys that they can
    /// name.
    fn take(&mut self, slot: Slot, transaction: u64, known: &[&[u8]]) -> Result<Outer, Fault> {
        let mut outer = Ok(Vec::new());
        while let Some((batch, row)) = self.peek()? {
            let at = (u64s(batch, "slot")?.get(row), u32s(batch, "transaction_index")?.get(row));
            if at > (slot, transaction) {
                break;
            }
            let inner = u32s(batch, "inner_index")?.option(row).is_some();
            if at == (slot, transaction)
                && !inner
                && let Ok(instructions) = &mut outer
            {
                match instruction(batch, row, known)? {
                    Some(instruction) => instructions.push(instruction),
                    None => outer = Err("an instruction names an account that the transaction has not"),
                }
            }
            self.row += 1;
        }
        Ok(outer)
    }

    fn peek(&mut self) -> Result<Option<(&RecordBatch, usize)>, Fault> {
        while self.batch.as_ref().is_none_or(|batch| self.row >= batch.num_rows()) {
            let Some(next) = self.reader.next() else { return Ok(None) };
            self.batch = Some(next?);
            self.row = 0;
        }
        Ok(self.batch.as_ref().map(|batch| (batch, self.row)))
    }
}

fn instruction(batch: &RecordBatch, row: usize, known: &[&[u8]]) -> Result<Option<Instruction>, Fault> {
    let number = |key: &[u8]| known.iter().position(|other| *other == key).map(|number| number as u8);
    let programs = keys(batch, "program_id")?;
    let accounts: Option<Vec<u8>> = key_lists(batch, "accounts")?.into_keys(row).map(number).collect();
    let data = batch.column_by_name("data").and_then(|column| column.as_binary_opt::<i32>());
    let data = data.ok_or(Fault::Column("data"))?.value(row).to_vec();
    let program = number(programs.get(row));
    Ok(program.zip(accounts).map(|(program_id_index, accounts)| Instruction {
        program_id_index,
        accounts,
        data,
    }))
}

/// Checks all; says what fails.
fn check_all(gathered: &[Signed]) -> Vec<(Slot, u64, Fault)> {
    let all: Vec<(&Signed, usize)> =
        gathered.iter().flat_map(|signed| (0..signed.signatures.len()).map(move |at| (signed, at))).collect();
    let faults = all.par_chunks(BATCH_SIGNATURES).flat_map_iter(|batch| {
        let claim = |(signed, at): &(&'_ Signed, usize)| signed.signatures[*at];
        let pairs: Vec<([u8; 64], [u8; 32])> = batch.iter().map(claim).collect();
        let claims = batch.iter().zip(&pairs).map(|((signed, _), (signature, key))| Claim {
            message: &signed.message,
            signature,
            key,
        });
        refused(&claims.collect::<Vec<_>>()).into_iter().map(|position| {
            let (signed, at) = batch[position];
            (signed.slot, signed.index, Fault::Signature(at as u32))
        })
    });
    faults.collect()
}
