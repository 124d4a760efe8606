//! The walk over a transaction's protobuf: every field down to the last token balance, in one pass.

use super::{
    Config, InnerInstruction, Instruction, Lookup, Place, ReturnData, TokenBalance, Transaction, Version,
};
use crate::wire::{Fault, Field, Reader, WireError};

/// Turns slices of a body into places.
///
/// Both walks judge alike, being the same code; only one that notes fills the lists.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a, const NOTE: bool> {
    body: &'a [u8],
}

impl<'a, const NOTE: bool> Walk<'a, NOTE> {
    /// A walk over `body`.
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// Reads the body of an update into `into`, which was cleared.
    pub(super) fn update(self, into: &mut Transaction) -> Result<(), WireError> {
        let body = self.body;
        let mut reader = Reader::new("SubscribeUpdateTransaction", body);
        let mut seen = false;
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => {
                    once(&mut seen, &field)?;
                    self.read_info(into, field.message("SubscribeUpdateTransactionInfo")?)?;
                }
                2 => into.slot = field.varint()?,
                3 => {
                    field.varint()?;
                }
                _ => {}
            }
        }
        if !seen {
            return Err(reader.error(1, Fault::Missing));
        }
        match into.signatures.first() {
            Some(first) if first.of(body) == into.signature.of(body) => Ok(()),
            _ => Err(WireError { message: "Transaction", field: 1, fault: Fault::Contradiction }),
        }
    }

    fn read_info(self, into: &mut Transaction, mut info: Reader<'_>) -> Result<(), WireError> {
        let (mut transaction, mut meta, mut signature) = (false, false, false);
        while let Some(field) = info.next_field()? {
            match field.number {
                1 => {
                    into.signature = self.array::<64>(&field)?;
                    signature = true;
                }
                2 => into.is_vote = field.bool()?,
                3 => {
                    once(&mut transaction, &field)?;
                    self.read_transaction(into, field.message("Transaction")?)?;
                }
                4 => {
                    once(&mut meta, &field)?;
                    self.read_meta(into, field.message("TransactionStatusMeta")?)?;
                }
                5 => into.index = field.index()?,
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

    fn read_transaction(self, into: &mut Transaction, mut reader: Reader<'_>) -> Result<(), WireError> {
        let mut message = false;
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => into.signatures.push(self.array::<64>(&field)?),
                2 => {
                    once(&mut message, &field)?;
                    self.read_message(into, field.message("Message")?)?;
                }
                _ => {}
            }
        }
        if message { Ok(()) } else { Err(reader.error(2, Fault::Missing)) }
    }

    fn read_message(self, into: &mut Transaction, mut reader: Reader<'_>) -> Result<(), WireError> {
        let (mut versioned, mut header, mut blockhash) = (false, false, false);
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => {
                    once(&mut header, &field)?;
                    read_message_header(into, field.message("MessageHeader")?)?;
                }
                2 => note::<_, NOTE>(&mut into.account_keys, self.array::<32>(&field)?),
                3 => {
                    into.recent_blockhash = self.array::<32>(&field)?;
                    blockhash = true;
                }
                4 => note::<_, NOTE>(
                    &mut into.instructions,
                    self.instruction(field.message("CompiledInstruction")?)?,
                ),
                5 => versioned = field.bool()?,
                6 => note::<_, NOTE>(
                    &mut into.lookups,
                    self.lookup(field.message("MessageAddressTableLookup")?)?,
                ),
                7 if into.config.is_some() => return Err(field.error(Fault::Repeated)),
                7 => into.config = Some(read_config(field.message("TransactionConfig")?)?),
                _ => {}
            }
        }
        if !blockhash {
            return Err(reader.error(3, Fault::Missing));
        }
        into.version = match (versioned, into.config) {
            (_, Some(_)) => Version::V1,
            (true, None) => Version::V0,
            (false, None) => Version::Legacy,
        };
        Ok(())
    }
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

    fn read_meta(self, into: &mut Transaction, mut reader: Reader<'_>) -> Result<(), WireError> {
        let mut return_data_none = false;
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 if into.err.is_some() => return Err(field.error(Fault::Repeated)),
                1 => into.err = Some(self.error(field.message("TransactionError")?)?),
                2 => into.fee = field.varint()?,
                3 => field.each_varint(|lamports| note::<_, NOTE>(&mut into.pre_balances, lamports))?,
                4 => field.each_varint(|lamports| note::<_, NOTE>(&mut into.post_balances, lamports))?,
                5 => self.read_inner_instructions(into, field.message("InnerInstructions")?)?,
                6 => note::<_, NOTE>(&mut into.log_messages, self.text(&field)?),
                7 => note::<_, NOTE>(
                    &mut into.pre_token_balances,
                    self.token_balance(field.message("TokenBalance")?)?,
                ),
                8 => note::<_, NOTE>(
                    &mut into.post_token_balances,
                    self.token_balance(field.message("TokenBalance")?)?,
                ),
                9 => check_reward(field.message("Reward")?)?,
                10 => into.inner_instructions_none = field.bool()?,
                11 => into.log_messages_none = field.bool()?,
                12 => note::<_, NOTE>(&mut into.loaded_writable_addresses, self.array::<32>(&field)?),
                13 => note::<_, NOTE>(&mut into.loaded_readonly_addresses, self.array::<32>(&field)?),
                14 if into.return_data.is_some() => return Err(field.error(Fault::Repeated)),
                14 => into.return_data = Some(self.return_data(field.message("ReturnData")?)?),
                15 => return_data_none = field.bool()?,
                16 => into.compute_units_consumed = Some(field.varint()?),
                17 => into.cost_units = Some(field.varint()?),
                _ => {}
            }
        }
        if return_data_none && into.return_data.is_some() {
            return Err(reader.error(15, Fault::Contradiction));
        }
        Ok(())
    }
    fn read_inner_instructions(
        self,
        into: &mut Transaction,
        mut reader: Reader<'_>,
    ) -> Result<(), WireError> {
        let first = into.inner_instructions.len();
        let mut outer_index = 0;
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => outer_index = field.index()?,
                2 => {
                    let instruction = self.instruction(field.message("InnerInstruction")?)?;
                    let inner_index = (into.inner_instructions.len() - first) as u32;
                    let inner = InnerInstruction { outer_index: 0, inner_index, instruction };
                    note::<_, NOTE>(&mut into.inner_instructions, inner);
                }
                _ => {}
            }
        }
        for inner in &mut into.inner_instructions[first..] {
            inner.outer_index = outer_index;
        }
        Ok(())
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

/// Puts `item` on `list`, if lists are noted.
#[inline(always)]
fn note<T, const NOTE: bool>(list: &mut Vec<T>, item: T) {
    if NOTE {
        list.push(item);
    }
}

/// Notes that a singular message is there, and refuses the second one: prost would merge the two.
fn once(seen: &mut bool, field: &Field<'_>) -> Result<(), WireError> {
    if std::mem::replace(seen, true) { Err(field.error(Fault::Repeated)) } else { Ok(()) }
}

fn read_message_header(into: &mut Transaction, mut reader: Reader<'_>) -> Result<(), WireError> {
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => into.num_required_signatures = field.index()?,
            2 => into.num_readonly_signed_accounts = field.index()?,
            3 => into.num_readonly_unsigned_accounts = field.index()?,
            _ => {}
        }
    }
    Ok(())
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
