//! One pass over a transaction update, from the wire to places in it.
//!
//! [`Transaction`] is read into again and again: it holds ranges and numbers, never a copy of the bytes, so reading
//! allocates nothing once its lists have grown. The pass walks everything down to the last token balance, which makes
//! it the check that a frame is whole and well-formed: what it accepts, prost accepts, with the same values.
//!
//! Format: `SubscribeUpdateTransaction` of `geyser.proto`, `solana-storage.proto`.

use crate::frame::{Frame, Kind};
use crate::wire::{Fault, Field, Reader, WireError};

/// A range of bytes inside the update's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    start: u32,
    end: u32,
}

impl Place {
    /// The bytes.
    #[inline]
    pub fn of(self, body: &[u8]) -> &[u8] {
        &body[self.start as usize..self.end as usize]
    }

    /// The bytes as text; what was not UTF-8 did not pass the check.
    #[inline]
    pub fn text(self, body: &[u8]) -> &str {
        std::str::from_utf8(self.of(body)).unwrap_or_default()
    }

    /// The bytes as a key, hash or signature; what had another size did not pass the check.
    #[inline]
    pub fn array<const N: usize>(self, body: &[u8]) -> &[u8; N] {
        self.of(body).first_chunk().expect("the size was checked when the place was noted")
    }

    /// Number of bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// An instruction, outer or inner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Instruction {
    /// Position of the program in the account keys (static, then loaded writable, then loaded read-only).
    pub program_id_index: u32,
    /// Positions of its accounts, a byte each.
    pub accounts: Place,
    /// Its data.
    pub data: Place,
    /// How deep it was called, 1 for an outer one; only inner ones carry it, and not those of old blocks.
    pub stack_height: Option<u32>,
}

/// An inner instruction and the outer one that called it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerInstruction {
    /// Position of the outer instruction.
    pub outer_index: u32,
    /// Position among the inner instructions of that outer one.
    pub inner_index: u32,
    /// The instruction.
    pub instruction: Instruction,
}

/// An address table look-up of a v0 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lookup {
    /// The table's key, 32 bytes.
    pub account_key: Place,
    /// Positions in the table that are loaded writable, a byte each.
    pub writable_indexes: Place,
    /// Positions in the table that are loaded read-only, a byte each.
    pub readonly_indexes: Place,
}

/// The inline budget of a v1 message (SIMD-0385).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Config {
    /// Priority fee in lamports.
    pub priority_fee: Option<u64>,
    /// Limit of compute units.
    pub compute_unit_limit: Option<u32>,
    /// Limit of loaded account data in bytes.
    pub loaded_accounts_data_size_limit: Option<u32>,
    /// Heap in bytes.
    pub heap_size: Option<u32>,
}

/// A token balance before or after the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenBalance {
    /// Position of the token account in the account keys.
    pub account_index: u32,
    /// The mint, base58.
    pub mint: Place,
    /// The owner, base58; empty in old blocks.
    pub owner: Place,
    /// The token program, base58; empty in old blocks.
    pub program_id: Place,
    /// Decimals of the mint.
    pub decimals: u32,
    /// The raw amount, in decimal digits.
    pub amount: Place,
}

/// Return data of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReturnData {
    /// The program that set it, 32 bytes.
    pub program_id: Place,
    /// The data.
    pub data: Place,
}

/// The version of a transaction's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// Without a version prefix.
    #[default]
    Legacy,
    /// With address table look-ups.
    V0,
    /// With an inline budget (SIMD-0385).
    V1,
}

/// A transaction update, read. All places are in the update's body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// The slot.
    pub slot: u64,
    /// The first signature, as the update gives it: 64 bytes.
    pub signature: Place,
    /// Whether the node calls it a vote.
    pub is_vote: bool,
    /// Position in the block.
    pub index: u32,
    /// All signatures, 64 bytes each.
    pub signatures: Vec<Place>,
    /// Number of signers.
    pub num_required_signatures: u32,
    /// Number of signers that are read-only.
    pub num_readonly_signed_accounts: u32,
    /// Number of other accounts that are read-only.
    pub num_readonly_unsigned_accounts: u32,
    /// Static account keys, 32 bytes each.
    pub account_keys: Vec<Place>,
    /// The recent blockhash or nonce, 32 bytes.
    pub recent_blockhash: Place,
    /// Outer instructions.
    pub instructions: Vec<Instruction>,
    /// The message's version.
    pub version: Version,
    /// Address table look-ups.
    pub lookups: Vec<Lookup>,
    /// Inline budget of a v1 message.
    pub config: Option<Config>,
    /// The error, bincode of Solana's `TransactionError`; `None` if it succeeded.
    pub err: Option<Place>,
    /// The fee in lamports.
    pub fee: u64,
    /// Lamports of each account before.
    pub pre_balances: Vec<u64>,
    /// Lamports of each account after.
    pub post_balances: Vec<u64>,
    /// Inner instructions in order of execution.
    pub inner_instructions: Vec<InnerInstruction>,
    /// True if the node did not record inner instructions.
    pub inner_instructions_none: bool,
    /// Log lines.
    pub log_messages: Vec<Place>,
    /// True if the node did not record logs.
    pub log_messages_none: bool,
    /// Token balances before.
    pub pre_token_balances: Vec<TokenBalance>,
    /// Token balances after.
    pub post_token_balances: Vec<TokenBalance>,
    /// Keys loaded writable from tables, 32 bytes each.
    pub loaded_writable_addresses: Vec<Place>,
    /// Keys loaded read-only from tables, 32 bytes each.
    pub loaded_readonly_addresses: Vec<Place>,
    /// Return data.
    pub return_data: Option<ReturnData>,
    /// Compute units consumed; not there in old blocks.
    pub compute_units_consumed: Option<u64>,
    /// Cost units; not there in old blocks.
    pub cost_units: Option<u64>,
}

/// Checks the whole of a transaction frame, using `scratch` to read into; other kinds pass.
///
/// # Errors
/// If any field is malformed, or the update's signature is not the transaction's first.
pub fn check(frame: &mut Frame, scratch: &mut Transaction) -> Result<(), WireError> {
    if frame.header.kind == Kind::Transaction && !frame.header.checked {
        scratch.read(frame.body())?;
    }
    frame.header.checked = true;
    Ok(())
}

impl Transaction {
    /// Reads the body of a [`Kind::Transaction`] frame, replacing what was there.
    ///
    /// # Errors
    /// If any field is malformed, or the update's signature is not the transaction's first.
    pub fn read(&mut self, body: &[u8]) -> Result<(), WireError> {
        self.clear();
        let pass = Pass { body };
        let mut reader = Reader::new("SubscribeUpdateTransaction", body);
        let mut seen = false;
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => {
                    once(&mut seen, &field)?;
                    self.read_info(pass, field.message("SubscribeUpdateTransactionInfo")?)?;
                }
                2 => self.slot = field.varint()?,
                3 => {
                    field.varint()?;
                }
                _ => {}
            }
        }
        if !seen {
            return Err(reader.error(1, Fault::Missing));
        }
        match self.signatures.first() {
            Some(first) if first.of(body) == self.signature.of(body) => Ok(()),
            _ => Err(WireError { message: "Transaction", field: 1, fault: Fault::Contradiction }),
        }
    }

    /// All account keys that instructions can name: static, loaded writable, loaded read-only.
    pub fn all_account_keys(&self) -> impl Iterator<Item = Place> + '_ {
        let loaded = self.loaded_writable_addresses.iter().chain(&self.loaded_readonly_addresses);
        self.account_keys.iter().chain(loaded).copied()
    }

    /// The key at `index` of [`Self::all_account_keys`].
    #[inline]
    pub fn account_key(&self, index: u32) -> Option<Place> {
        let index = index as usize;
        let statics = self.account_keys.len();
        let writable = self.loaded_writable_addresses.len();
        if index < statics {
            return Some(self.account_keys[index]);
        }
        if index < statics + writable {
            return Some(self.loaded_writable_addresses[index - statics]);
        }
        self.loaded_readonly_addresses.get(index - statics - writable).copied()
    }

    fn clear(&mut self) {
        let empty = Self {
            signatures: std::mem::take(&mut self.signatures),
            account_keys: std::mem::take(&mut self.account_keys),
            instructions: std::mem::take(&mut self.instructions),
            lookups: std::mem::take(&mut self.lookups),
            pre_balances: std::mem::take(&mut self.pre_balances),
            post_balances: std::mem::take(&mut self.post_balances),
            inner_instructions: std::mem::take(&mut self.inner_instructions),
            log_messages: std::mem::take(&mut self.log_messages),
            pre_token_balances: std::mem::take(&mut self.pre_token_balances),
            post_token_balances: std::mem::take(&mut self.post_token_balances),
            loaded_writable_addresses: std::mem::take(&mut self.loaded_writable_addresses),
            loaded_readonly_addresses: std::mem::take(&mut self.loaded_readonly_addresses),
            ..Self::default()
        };
        *self = empty;
        self.signatures.clear();
        self.account_keys.clear();
        self.instructions.clear();
        self.lookups.clear();
        self.pre_balances.clear();
        self.post_balances.clear();
        self.inner_instructions.clear();
        self.log_messages.clear();
        self.pre_token_balances.clear();
        self.post_token_balances.clear();
        self.loaded_writable_addresses.clear();
        self.loaded_readonly_addresses.clear();
    }

    fn read_info(&mut self, pass: Pass<'_>, mut info: Reader<'_>) -> Result<(), WireError> {
        let (mut transaction, mut meta, mut signature) = (false, false, false);
        while let Some(field) = info.next_field()? {
            match field.number {
                1 => {
                    self.signature = pass.array::<64>(&field)?;
                    signature = true;
                }
                2 => self.is_vote = field.bool()?,
                3 => {
                    once(&mut transaction, &field)?;
                    self.read_transaction(pass, field.message("Transaction")?)?;
                }
                4 => {
                    once(&mut meta, &field)?;
                    self.read_meta(pass, field.message("TransactionStatusMeta")?)?;
                }
                5 => self.index = field.index()?,
                _ => {}
            }
        }
        for (number, present) in [(1, signature), (3, transaction), (4, meta)] {
            if !present {
                return Err(info.error(number, Fault::Missing));
            }
        }
        Ok(())
    }

    fn read_transaction(&mut self, pass: Pass<'_>, mut reader: Reader<'_>) -> Result<(), WireError> {
        let mut message = false;
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => self.signatures.push(pass.array::<64>(&field)?),
                2 => {
                    once(&mut message, &field)?;
                    self.read_message(pass, field.message("Message")?)?;
                }
                _ => {}
            }
        }
        if message { Ok(()) } else { Err(reader.error(2, Fault::Missing)) }
    }

    fn read_message(&mut self, pass: Pass<'_>, mut reader: Reader<'_>) -> Result<(), WireError> {
        let (mut versioned, mut header, mut blockhash) = (false, false, false);
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => {
                    once(&mut header, &field)?;
                    self.read_message_header(field.message("MessageHeader")?)?;
                }
                2 => self.account_keys.push(pass.array::<32>(&field)?),
                3 => {
                    self.recent_blockhash = pass.array::<32>(&field)?;
                    blockhash = true;
                }
                4 => self.instructions.push(pass.instruction(field.message("CompiledInstruction")?)?),
                5 => versioned = field.bool()?,
                6 => self.lookups.push(pass.lookup(field.message("MessageAddressTableLookup")?)?),
                7 if self.config.is_some() => return Err(field.error(Fault::Repeated)),
                7 => self.config = Some(read_config(field.message("TransactionConfig")?)?),
                _ => {}
            }
        }
        if !blockhash {
            return Err(reader.error(3, Fault::Missing));
        }
        self.version = match (versioned, self.config) {
            (_, Some(_)) => Version::V1,
            (true, None) => Version::V0,
            (false, None) => Version::Legacy,
        };
        Ok(())
    }

    fn read_message_header(&mut self, mut reader: Reader<'_>) -> Result<(), WireError> {
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => self.num_required_signatures = field.index()?,
                2 => self.num_readonly_signed_accounts = field.index()?,
                3 => self.num_readonly_unsigned_accounts = field.index()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_meta(&mut self, pass: Pass<'_>, mut reader: Reader<'_>) -> Result<(), WireError> {
        let mut return_data_none = false;
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 if self.err.is_some() => return Err(field.error(Fault::Repeated)),
                1 => self.err = Some(pass.error(field.message("TransactionError")?)?),
                2 => self.fee = field.varint()?,
                3 => field.each_varint(|lamports| self.pre_balances.push(lamports))?,
                4 => field.each_varint(|lamports| self.post_balances.push(lamports))?,
                5 => self.read_inner_instructions(pass, field.message("InnerInstructions")?)?,
                6 => self.log_messages.push(pass.text(&field)?),
                7 => self.pre_token_balances.push(pass.token_balance(field.message("TokenBalance")?)?),
                8 => self.post_token_balances.push(pass.token_balance(field.message("TokenBalance")?)?),
                9 => check_reward(field.message("Reward")?)?,
                10 => self.inner_instructions_none = field.bool()?,
                11 => self.log_messages_none = field.bool()?,
                12 => self.loaded_writable_addresses.push(pass.array::<32>(&field)?),
                13 => self.loaded_readonly_addresses.push(pass.array::<32>(&field)?),
                14 if self.return_data.is_some() => return Err(field.error(Fault::Repeated)),
                14 => self.return_data = Some(pass.return_data(field.message("ReturnData")?)?),
                15 => return_data_none = field.bool()?,
                16 => self.compute_units_consumed = Some(field.varint()?),
                17 => self.cost_units = Some(field.varint()?),
                _ => {}
            }
        }
        if return_data_none && self.return_data.is_some() {
            return Err(reader.error(15, Fault::Contradiction));
        }
        Ok(())
    }

    fn read_inner_instructions(&mut self, pass: Pass<'_>, mut reader: Reader<'_>) -> Result<(), WireError> {
        let first = self.inner_instructions.len();
        let mut outer_index = 0;
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => outer_index = field.index()?,
                2 => {
                    let instruction = pass.instruction(field.message("InnerInstruction")?)?;
                    let inner_index = (self.inner_instructions.len() - first) as u32;
                    self.inner_instructions.push(InnerInstruction {
                        outer_index: 0,
                        inner_index,
                        instruction,
                    });
                }
                _ => {}
            }
        }
        for inner in &mut self.inner_instructions[first..] {
            inner.outer_index = outer_index;
        }
        Ok(())
    }
}

/// Notes that a singular message is there, and refuses the second one: prost would merge the two.
fn once(seen: &mut bool, field: &Field<'_>) -> Result<(), WireError> {
    if std::mem::replace(seen, true) { Err(field.error(Fault::Repeated)) } else { Ok(()) }
}

/// Turns slices of the body into places.
#[derive(Clone, Copy)]
struct Pass<'a> {
    body: &'a [u8],
}

impl Pass<'_> {
    #[inline]
    fn place(self, part: &[u8]) -> Place {
        let start = part.as_ptr() as usize - self.body.as_ptr() as usize;
        // A frame is bounded by the receive limit, which is a u32.
        Place { start: start as u32, end: (start + part.len()) as u32 }
    }

    #[inline]
    fn bytes(self, field: &Field<'_>) -> Result<Place, WireError> {
        Ok(self.place(field.bytes()?))
    }

    #[inline]
    fn array<const N: usize>(self, field: &Field<'_>) -> Result<Place, WireError> {
        Ok(self.place(field.array::<N>()?))
    }

    #[inline]
    fn text(self, field: &Field<'_>) -> Result<Place, WireError> {
        Ok(self.place(field.text_bytes()?))
    }

    fn instruction(self, mut reader: Reader<'_>) -> Result<Instruction, WireError> {
        let mut instruction = Instruction::default();
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => instruction.program_id_index = field.index()?,
                2 => instruction.accounts = self.bytes(&field)?,
                3 => instruction.data = self.bytes(&field)?,
                4 => instruction.stack_height = Some(field.index()?),
                _ => {}
            }
        }
        Ok(instruction)
    }

    fn lookup(self, mut reader: Reader<'_>) -> Result<Lookup, WireError> {
        let mut lookup = Lookup::default();
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => lookup.account_key = self.array::<32>(&field)?,
                2 => lookup.writable_indexes = self.bytes(&field)?,
                3 => lookup.readonly_indexes = self.bytes(&field)?,
                _ => {}
            }
        }
        if lookup.account_key.is_empty() { Err(reader.error(1, Fault::Missing)) } else { Ok(lookup) }
    }

    fn error(self, mut reader: Reader<'_>) -> Result<Place, WireError> {
        let mut err = Place::default();
        while let Some(field) = reader.next_field()? {
            if field.number == 1 {
                err = self.bytes(&field)?;
            }
        }
        Ok(err)
    }

    fn token_balance(self, mut reader: Reader<'_>) -> Result<TokenBalance, WireError> {
        let mut balance = TokenBalance::default();
        let mut amount = false;
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => balance.account_index = field.index()?,
                2 => balance.mint = self.text(&field)?,
                3 => {
                    once(&mut amount, &field)?;
                    self.token_amount(&mut balance, field.message("UiTokenAmount")?)?;
                }
                4 => balance.owner = self.text(&field)?,
                5 => balance.program_id = self.text(&field)?,
                _ => {}
            }
        }
        Ok(balance)
    }

    fn token_amount(self, balance: &mut TokenBalance, mut reader: Reader<'_>) -> Result<(), WireError> {
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => {
                    field.double()?;
                }
                2 => balance.decimals = field.index()?,
                3 => balance.amount = self.text(&field)?,
                4 => {
                    field.text_bytes()?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn return_data(self, mut reader: Reader<'_>) -> Result<ReturnData, WireError> {
        let mut data = ReturnData::default();
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => data.program_id = self.array::<32>(&field)?,
                2 => data.data = self.bytes(&field)?,
                _ => {}
            }
        }
        if data.program_id.is_empty() { Err(reader.error(1, Fault::Missing)) } else { Ok(data) }
    }
}

fn read_config(mut reader: Reader<'_>) -> Result<Config, WireError> {
    let mut config = Config::default();
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => config.priority_fee = Some(field.varint()?),
            2 => config.compute_unit_limit = Some(field.index()?),
            3 => config.loaded_accounts_data_size_limit = Some(field.index()?),
            4 => config.heap_size = Some(field.index()?),
            _ => {}
        }
    }
    Ok(config)
}

/// Rewards inside a transaction's meta are always empty on the chain and not written; only their form is checked.
fn check_reward(mut reader: Reader<'_>) -> Result<(), WireError> {
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 | 5 | 6 => {
                field.text()?;
            }
            2..=4 => {
                field.varint()?;
            }
            _ => {}
        }
    }
    Ok(())
}
