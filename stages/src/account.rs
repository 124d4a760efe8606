//! One pass over an account update.

use crate::wire::{Fault, Reader, WireError};

/// A write to an account, borrowed from the frame's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account<'a> {
    /// The account's key.
    pub pubkey: &'a [u8; 32],
    /// Lamports after the write.
    pub lamports: u64,
    /// The owner program.
    pub owner: &'a [u8; 32],
    /// Whether it is a program.
    pub executable: bool,
    /// The rent epoch.
    pub rent_epoch: u64,
    /// The data, or the slices of it that were asked for.
    pub data: &'a [u8],
    /// Orders the writes of one node; means nothing across nodes.
    pub write_version: u64,
    /// The transaction that wrote it; the runtime's own writes have none.
    pub txn_signature: Option<&'a [u8; 64]>,
}

impl<'a> Account<'a> {
    /// Reads the body of a [`crate::frame::Kind::Account`] frame.
    ///
    /// # Errors
    /// If it is malformed, or the key or owner is missing.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new("SubscribeUpdateAccount", body);
        let mut account = None;
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 if account.is_some() => return Err(field.error(Fault::Repeated)),
                1 => account = Some(Self::read_info(field.message("SubscribeUpdateAccountInfo")?)?),
                _ => {}
            }
        }
        account.ok_or_else(|| reader.error(1, Fault::Missing))
    }

    /// Whether both leave the account in the same state, written by the same transaction.
    pub fn same_write(&self, other: &Self) -> bool {
        Self { write_version: 0, ..*self } == Self { write_version: 0, ..*other }
    }

    fn read_info(mut reader: Reader<'a>) -> Result<Self, WireError> {
        let (mut pubkey, mut owner) = (None, None);
        const EMPTY: &[u8; 32] = &[0; 32];
        let mut account = Self {
            pubkey: EMPTY,
            lamports: 0,
            owner: EMPTY,
            executable: false,
            rent_epoch: 0,
            data: &[],
            write_version: 0,
            txn_signature: None,
        };
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => pubkey = Some(field.array()?),
                2 => account.lamports = field.varint()?,
                3 => owner = Some(field.array()?),
                4 => account.executable = field.bool()?,
                5 => account.rent_epoch = field.varint()?,
                6 => account.data = field.bytes()?,
                7 => account.write_version = field.varint()?,
                8 => account.txn_signature = Some(field.array()?),
                _ => {}
            }
        }
        account.pubkey = pubkey.ok_or_else(|| reader.error(1, Fault::Missing))?;
        account.owner = owner.ok_or_else(|| reader.error(3, Fault::Missing))?;
        Ok(account)
    }
}
