//! One pass over a transaction update, from the wire to places in it.
//!
//! [`Transaction`] is read into again and again: it holds ranges and numbers, never a copy of the bytes, so reading
//! allocates nothing once its lists have grown. The pass walks everything down to the last token balance, which makes
//! it the check that a frame is whole and well-formed: what it accepts, prost accepts, with the same values.
//!
//! Format: `SubscribeUpdateTransaction` of `geyser.proto`, `solana-storage.proto`.

pub mod message;
mod walk;

use nonmax::NonMaxU32;

use self::walk::Walk;
use crate::frame::{Frame, Kind, Outcome};
use crate::wire::WireError;

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

/// Checks the whole of a transaction frame; other kinds pass. What `scratch` holds then means nothing.
///
/// This is the walk of [`Transaction::read`] without its notes, as most that is checked here is read elsewhere, much
/// later or never.
///
/// # Errors
/// If any field is malformed, or the update's signature is not the transaction's first.
pub fn check(frame: &mut Frame, scratch: &mut Transaction) -> Result<(), WireError> {
    if frame.header.kind == Kind::Transaction && !frame.header.checked {
        scratch.clear_singles();
        Walk::<false>::new(frame.body()).update(scratch)?;
        frame.header.detail = scratch.outcome().into();
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
        Walk::<true>::new(body).update(self)
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

    /// What became of it.
    pub fn outcome(&self) -> Outcome {
        let fitting =
            |units: u64| u32::try_from(units).ok().and_then(NonMaxU32::new).unwrap_or(NonMaxU32::MAX);
        Outcome {
            is_vote: self.is_vote,
            failed: self.err.is_some(),
            compute_units: self.compute_units_consumed.map(fitting),
            fee: self.fee,
        }
    }

    /// Forgets what a check looks at: the signatures, members that may be there only once, and those that may be missing.
    fn clear_singles(&mut self) {
        self.signatures.clear();
        self.config = None;
        self.err = None;
        self.return_data = None;
        self.compute_units_consumed = None;
        (self.is_vote, self.fee) = (false, 0);
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
}
