//! The part of DAG-CBOR that the ledger's schema uses. Pure.
//!
//! Lengths are never believed beyond the bytes that are there, and nothing recurses: the schema says what comes next.

use thiserror::Error;

use super::section::{Cid, CidError};

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
/// The major type of text.
pub(super) const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const NULL: u8 = 0xf6;
/// The tag of a link.
const LINK_TAG: u64 = 42;

/// Why bytes are not what the schema says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum CborError {
    /// They end too early.
    #[error("it ends early")]
    Truncated,
    /// They go on behind the end.
    #[error("{0} bytes follow it")]
    Trailing(usize),
    /// Something else stands there.
    #[error("{wanted} is expected, not {found:#04x}")]
    Unexpected {
        /// What the schema has there.
        wanted: &'static str,
        /// The first byte of what is there.
        found: u8,
    },
    /// A link that can't be followed.
    #[error("a link: {0}")]
    Link(#[from] CidError),
}

/// Reads values one after the other.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError::Trailing(self.rest.len())) }
    }

    /// The number of values of the list that begins here; each takes at least one byte.
    pub(super) fn list(&mut self) -> Result<usize, CborError> {
        let count = self.head(ARRAY, "a list")?;
        let count = usize::try_from(count).map_err(|_| CborError::Truncated)?;
        if count > self.rest.len() { Err(CborError::Truncated) } else { Ok(count) }
    }

    /// The number of pairs of the map that begins here.
    pub(super) fn map(&mut self) -> Result<u64, CborError> {
        self.head(MAP, "a map")
    }

    /// A number that is not negative.
    pub(super) fn number(&mut self) -> Result<u64, CborError> {
        self.head(UNSIGNED, "a number")
    }

    /// A number that may be negative.
    pub(super) fn signed(&mut self) -> Result<i64, CborError> {
        if self.peek()? >> 5 == NEGATIVE {
            let number = i64::try_from(self.head(NEGATIVE, "a number")?).unwrap_or(i64::MAX);
            return Ok(-1 - number);
        }
        Ok(i64::try_from(self.number()?).unwrap_or(i64::MAX))
    }

    /// A number or null.
    pub(super) fn optional_number(&mut self) -> Result<Option<u64>, CborError> {
        if self.null()? { Ok(None) } else { self.number().map(Some) }
    }

    /// A number or null that means nothing here.
    pub(super) fn skip_number(&mut self) -> Result<(), CborError> {
        if self.null()? { Ok(()) } else { self.signed().map(|_| ()) }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let length = self.head(BYTES, "bytes")?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a [u8], CborError> {
        let length = self.head(TEXT, "text")?;
        self.take(length)
    }

    pub(super) fn link(&mut self) -> Result<Cid, CborError> {
        match self.head(TAG, "a link")? {
            LINK_TAG => {}
            _ => return Err(CborError::Unexpected { wanted: "a link", found: TAG << 5 }),
        }
        match self.bytes()?.split_first() {
            // CIDs in DAG-CBOR have the multibase prefix of raw bytes before them.
            Some((0, cid)) => Ok(Cid::whole(cid)?),
            Some((&found, _)) => Err(CborError::Unexpected { wanted: "a CID", found }),
            None => Err(CborError::Truncated),
        }
    }

    pub(super) fn links(&mut self) -> Result<Vec<Cid>, CborError> {
        (0..self.list()?).map(|_| self.link()).collect()
    }

    /// Whether null stands here, which is skipped.
    pub(super) fn null(&mut self) -> Result<bool, CborError> {
        let is_null = self.peek()? == NULL;
        if is_null {
            self.take(1)?;
        }
        Ok(is_null)
    }

    fn peek(&self) -> Result<u8, CborError> {
        self.rest.first().copied().ok_or(CborError::Truncated)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], CborError> {
        let count = usize::try_from(count).map_err(|_| CborError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The number in the head of a value of a major type.
    fn head(&mut self, major: u8, wanted: &'static str) -> Result<u64, CborError> {
        let first = self.peek()?;
        if first >> 5 != major {
            return Err(CborError::Unexpected { wanted, found: first });
        }
        self.take(1)?;
        let wide = match first & 0x1f {
            small @ 0..24 => return Ok(u64::from(small)),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            // Lengths that are not told are no DAG-CBOR.
            _ => return Err(CborError::Unexpected { wanted, found: first }),
        };
        Ok(self.take(wide)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_of_all_widths_are_read() {
        for (bytes, number) in [
            (&[0x17][..], 23),
            (&[0x18, 0x18], 24),
            (&[0x19, 0x01, 0x00], 256),
            (&[0x1a, 0, 1, 0, 0], 65_536),
            (&[0x1b, 0, 0, 0, 1, 0, 0, 0, 0], 1 << 32),
        ] {
            assert_eq!(Reader::new(bytes).number(), Ok(number));
        }
        assert_eq!(Reader::new(&[0x20]).signed(), Ok(-1));
        assert_eq!(Reader::new(&[0xf6]).optional_number(), Ok(None));
    }

    #[test]
    fn a_length_beyond_the_bytes_is_an_error_and_allocates_nothing() {
        let huge = |major: u8| [major << 5 | 27, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Reader::new(&huge(ARRAY)).list(), Err(CborError::Truncated));
        assert_eq!(Reader::new(&huge(BYTES)).bytes(), Err(CborError::Truncated));
        assert_eq!(Reader::new(&huge(TEXT)).text(), Err(CborError::Truncated));
        assert!(Reader::new(&[0x5f]).bytes().is_err(), "a length that is not told");
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            let _ = (reader.clone().links(), reader.clone().signed(), reader.clone().map());
            let _ = (reader.clone().link(), reader.clone().text(), reader.skip_number());
        }
    }
}
