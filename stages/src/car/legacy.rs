//! Outcomes and rewards as ledgers kept them before they turned to protobuf early in 2021: serde's bincode 1. Pure.
//!
//! Fixed-width little-endian integers, lengths of eight bytes, tags of options of one byte and of enums of four. Fields
//! were added at the end, so a value may end before any of those; elements of lists have no end of their own, so their
//! forms are tried one after the other until one takes exactly the bytes that are there. Forms: solana-storage-proto's
//! `StoredTransactionStatusMeta` and `StoredExtendedReward`, and what they were before they had that name.

use yellowstone_grpc_proto::prelude as proto;

/// The number of `TransactionError::InstructionError`.
const INSTRUCTION_ERROR: u32 = 8;
/// The number of `InstructionError::Custom`, which has a number behind it.
const CUSTOM: u32 = 25;
/// The number of `InstructionError::BorshIoError`, which had a text behind it.
const BORSH_IO_ERROR: u32 = 44;
/// What ends log messages that some archives have a separator behind, which no length counts.
const SEPARATED: &str = " compute units";
const SEPARATOR: u8 = b';';

/// What stands behind a token balance's amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tokens {
    /// Nothing.
    Plain,
    /// The owner.
    Owner,
    /// The owner and the token program.
    OwnerAndProgram,
    /// Nothing, but the amount is an optional number and has a text behind it.
    Text,
}

/// The form that a value's lists have.
#[derive(Debug, Clone, Copy)]
struct Form {
    tokens: Tokens,
    separated: bool,
    /// Fields of a reward: key and lamports, post balance, type, commission.
    reward_fields: u8,
}

const TOKENS: [Tokens; 4] = [Tokens::Plain, Tokens::Text, Tokens::Owner, Tokens::OwnerAndProgram];
const REWARD_FIELDS: [u8; 4] = [5, 4, 3, 2];

/// Whether unpacked bytes can only be an outcome of this kind: they begin with the tag of `Ok` or `Err`, and no protobuf
/// message has a field 0.
pub(super) fn is_outcome(bytes: &[u8]) -> bool {
    matches!(bytes, [0 | 1, 0, 0, 0, ..])
}

/// The outcome; `None` if the bytes have none of the forms.
pub(super) fn outcome(bytes: &[u8]) -> Option<proto::TransactionStatusMeta> {
    forms().find_map(|form| {
        let mut reader = Reader { rest: bytes, form };
        let outcome = reader.outcome()?;
        reader.rest.is_empty().then_some(outcome)
    })
}

/// The rewards of a block; `None` if the bytes have none of the forms.
pub(super) fn rewards(bytes: &[u8]) -> Option<proto::Rewards> {
    forms().filter(|form| form.tokens == Tokens::Plain && !form.separated).find_map(|form| {
        let mut reader = Reader { rest: bytes, form };
        let rewards = reader.list(Reader::reward)?;
        reader.rest.is_empty().then_some(proto::Rewards { rewards, num_partitions: None })
    })
}

fn forms() -> impl Iterator<Item = Form> {
    let forms = |separated| {
        TOKENS.into_iter().flat_map(move |tokens| {
            REWARD_FIELDS.into_iter().map(move |reward_fields| Form { tokens, separated, reward_fields })
        })
    };
    [false, true].into_iter().flat_map(forms)
}

/// Reads one form; each step is `None` where the bytes are not of it.
struct Reader<'a> {
    rest: &'a [u8],
    form: Form,
}

impl<'a> Reader<'a> {
    fn outcome(&mut self) -> Option<proto::TransactionStatusMeta> {
        let err = match self.u32()? {
            0 => None,
            1 => Some(proto::TransactionError { err: self.error()? }),
            _ => return None,
        };
        let (fee, pre_balances, post_balances) = (self.u64()?, self.list(Self::u64)?, self.list(Self::u64)?);
        let inner = self.late(|reader| reader.list(Self::inner_instructions))?;
        let logs = self.late(|reader| reader.list(Self::log))?;
        let pre_tokens = self.late(|reader| reader.list(Self::token_balance))?;
        let post_tokens = self.late(|reader| reader.list(Self::token_balance))?;
        let rewards = self.late(|reader| reader.list(Self::reward))?;
        Some(proto::TransactionStatusMeta {
            err,
            fee,
            pre_balances,
            post_balances,
            inner_instructions_none: inner.is_none(),
            inner_instructions: inner.unwrap_or_default(),
            log_messages_none: logs.is_none(),
            log_messages: logs.unwrap_or_default(),
            pre_token_balances: pre_tokens.unwrap_or_default(),
            post_token_balances: post_tokens.unwrap_or_default(),
            rewards: rewards.unwrap_or_default(),
            return_data_none: true,
            ..proto::TransactionStatusMeta::default()
        })
    }

    /// The bytes of an error as it is written today.
    fn error(&mut self) -> Option<Vec<u8>> {
        let whole = self.rest;
        let (mut length, mut text) = (4, 0);
        let number = self.u32()?;
        if number == INSTRUCTION_ERROR {
            self.u8()?;
            length += 5;
            match self.u32()? {
                CUSTOM => {
                    self.u32()?;
                    length += 4;
                }
                BORSH_IO_ERROR => text = self.text()?.len(),
                _ => {}
            }
        }
        // The text is the program's own message, which the chain never had.
        debug_assert!(whole.len() - self.rest.len() >= length + text, "what was read is what is copied");
        whole.get(..length).map(<[u8]>::to_vec)
    }

    fn inner_instructions(&mut self) -> Option<proto::InnerInstructions> {
        let index = u32::from(self.u8()?);
        Some(proto::InnerInstructions { index, instructions: self.list(Self::instruction)? })
    }

    fn instruction(&mut self) -> Option<proto::InnerInstruction> {
        let program_id_index = u32::from(self.u8()?);
        let (accounts, data) = (self.short_bytes()?.to_vec(), self.short_bytes()?.to_vec());
        Some(proto::InnerInstruction { program_id_index, accounts, data, stack_height: None })
    }

    fn log(&mut self) -> Option<String> {
        let text = self.text()?;
        if self.form.separated && text.ends_with(SEPARATED) && self.u8()? != SEPARATOR {
            return None;
        }
        Some(text)
    }

    fn token_balance(&mut self) -> Option<proto::TokenBalance> {
        let tokens = self.form.tokens;
        let (account_index, mint) = (u32::from(self.u8()?), self.text()?);
        let is_told = tokens != Tokens::Text || self.flag()?;
        let ui_amount = if is_told { f64::from_bits(self.u64()?) } else { 0.0 };
        let (decimals, amount) = (u32::from(self.u8()?), self.text()?);
        amount.parse::<u64>().ok()?;
        let mut token = |wanted: bool| if wanted { self.text() } else { Some(String::new()) };
        let ui_amount_string = token(tokens == Tokens::Text)?;
        Some(proto::TokenBalance {
            account_index,
            mint,
            ui_token_amount: Some(proto::UiTokenAmount { ui_amount, decimals, amount, ui_amount_string }),
            owner: token(matches!(tokens, Tokens::Owner | Tokens::OwnerAndProgram))?,
            program_id: token(tokens == Tokens::OwnerAndProgram)?,
        })
    }

    fn reward(&mut self) -> Option<proto::Reward> {
        let fields = self.form.reward_fields;
        let (pubkey, lamports) = (self.text()?, self.u64()?.cast_signed());
        let post_balance = if fields > 2 { self.u64()? } else { 0 };
        // Protobuf has "unspecified" before the types.
        let reward_type = match fields > 3 && self.flag()? {
            true => self.u32().filter(|&number| number < 4)? + 1,
            false => 0,
        };
        let commission = if fields > 4 && self.flag()? { self.u8()?.to_string() } else { String::new() };
        let reward_type = i32::try_from(reward_type).ok()?;
        Some(proto::Reward {
            pubkey,
            lamports,
            post_balance,
            reward_type,
            commission,
            ..proto::Reward::default()
        })
    }

    /// A field that was added later: absent, null or there.
    fn late<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.rest.is_empty() || !self.flag()? {
            return Some(None);
        }
        read(self).map(Some)
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.u64()?).ok()?;
        // Each takes at least a byte, so no length is believed beyond the bytes that are there.
        let mut all = Vec::with_capacity(count.min(self.rest.len()).min(1_024));
        for _ in 0..count {
            all.push(one(self)?);
        }
        Some(all)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u64()?;
        String::from_utf8(self.take(usize::try_from(length).ok()?)?.to_vec()).ok()
    }

    /// Bytes behind a length of seven bits a byte.
    fn short_bytes(&mut self) -> Option<&'a [u8]> {
        let mut length = 0;
        for position in 0..3 {
            let byte = self.u8()?;
            length |= usize::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                return self.take(length);
            }
        }
        None
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
#[path = "legacy_tests.rs"]
mod tests;
