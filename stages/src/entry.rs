//! One pass over an entry update.

use crate::wire::{Fault, Reader, WireError};

/// An entry of the proof-of-history chain, borrowed from the frame's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Position in the slot.
    pub index: u32,
    /// Hashes since the entry before.
    pub num_hashes: u64,
    /// The chain's state behind this entry.
    pub hash: &'a [u8; 32],
    /// Transactions in it; 0 for a tick.
    pub executed_transaction_count: u32,
}

impl<'a> Entry<'a> {
    /// Reads the body of a [`crate::frame::Kind::Entry`] frame.
    ///
    /// # Errors
    /// If it is malformed or has no hash.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        const EMPTY: &[u8; 32] = &[0; 32];
        let mut reader = Reader::new("SubscribeUpdateEntry", body);
        let mut hash = None;
        let mut entry = Self { index: 0, num_hashes: 0, hash: EMPTY, executed_transaction_count: 0 };
        while let Some(field) = reader.next_field()? {
            match field.number {
                2 => entry.index = field.index()?,
                3 => entry.num_hashes = field.varint()?,
                4 => hash = Some(field.array()?),
                5 => entry.executed_transaction_count = field.index()?,
                _ => {}
            }
        }
        entry.hash = hash.ok_or_else(|| reader.error(4, Fault::Missing))?;
        Ok(entry)
    }
}
