//! A bounds-checked reader of the protobuf wire format.
//!
//! In comes a byte slice, out come its fields one by one as borrowed slices and numbers; nothing is copied or
//! allocated. It is as strict as prost where prost is strict (truncation, overlong varints, reserved wire types, field
//! number 0) and stricter in one place: groups, which no Solana message uses, are refused. Each error names the field
//! it happened in. Format: <https://protobuf.dev/programming-guides/encoding/>.

use thiserror::Error;

/// Bits of a tag that hold the wire type; the field's number is above.
const TYPE_BITS: u32 = 3;
/// The tag of field 1 with wire type 0.
const SMALLEST_TAG: u8 = 1 << TYPE_BITS;
/// The bits that say of a tag's first byte that it is the last, and the wire type.
const SHORT_TAG_AND_TYPE: u8 = 0x87;
/// Wire type 0, in a tag of one byte.
const TYPE_VARINT: u8 = 0;
/// Wire type 2, in a tag of one byte.
const TYPE_BYTES: u8 = 2;

/// What is wrong with a message, and in which field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{message}.{field}: {fault}")]
pub struct WireError {
    /// The protobuf message that was being read, e.g. `SubscribeUpdateTransaction`.
    pub message: &'static str,
    /// The number of the field, 0 if the field's own tag could not be read.
    pub field: u32,
    /// What is wrong with it.
    pub fault: Fault,
}

/// The ways in which a message can be malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// The message ends inside a field.
    #[error("the message ends inside this field")]
    Truncated,
    /// A varint of more than ten bytes, or one that does not fit 64 bits.
    #[error("the varint is longer than 64 bits")]
    Overlong,
    /// A tag with field number 0 or above 2^29 - 1.
    #[error("the field number is not valid")]
    FieldNumber,
    /// A wire type that the field can't have, a group, or a reserved one.
    #[error("wire type {0} is not the one of this field")]
    WireType(u8),
    /// A field that may be there once is there twice.
    #[error("the field is there twice")]
    Repeated,
    /// A field that has to be there is not.
    #[error("the field is missing")]
    Missing,
    /// Text that is not UTF-8.
    #[error("the text is not UTF-8")]
    Utf8,
    /// A fixed-size key, hash or signature of another size.
    #[error("{0} bytes where the chain has a fixed size")]
    Length(usize),
    /// A number beyond what the chain allows (an index above 2^31, say).
    #[error("the number {0} is out of range")]
    Range(u64),
    /// A value that contradicts another field of the same message.
    #[error("the value contradicts another field")]
    Contradiction,
}

/// The value of a field, by wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0: all integers, enums and booleans.
    Varint(u64),
    /// Wire type 1: `fixed64`, `double`.
    Fixed64(u64),
    /// Wire type 2: bytes, strings, messages, packed numbers.
    Bytes(&'a [u8]),
    /// Wire type 5: `fixed32`, `float`.
    Fixed32(u32),
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// Its number.
    pub number: u32,
    /// Its value.
    pub value: Value<'a>,
    message: &'static str,
}

impl<'a> Field<'a> {
    /// The value as an integer.
    #[inline]
    pub fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(self.wrong_type()),
        }
    }

    /// The value as an integer of at most 2^31 - 1, the bound of every index and count on the chain.
    #[inline]
    pub fn index(&self) -> Result<u32, WireError> {
        let number = self.varint()?;
        match u32::try_from(number) {
            Ok(index) if index <= i32::MAX as u32 => Ok(index),
            _ => Err(self.error(Fault::Range(number))),
        }
    }

    /// The value as a boolean: anything but 0 is true, as in prost.
    #[inline]
    pub fn bool(&self) -> Result<bool, WireError> {
        Ok(self.varint()? != 0)
    }

    /// The value as bytes.
    #[inline]
    pub fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong_type()),
        }
    }

    /// The value as text.
    #[inline]
    pub fn text(&self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.error(Fault::Utf8))
    }

    /// The bytes of a text that was checked to be one; most are ASCII, which is seen at once.
    #[inline]
    pub fn text_bytes(&self) -> Result<&'a [u8], WireError> {
        let bytes = self.bytes()?;
        if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() {
            return Ok(bytes);
        }
        Err(self.error(Fault::Utf8))
    }

    /// The value as a key, hash or signature of `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&self) -> Result<&'a [u8; N], WireError> {
        let bytes = self.bytes()?;
        bytes.try_into().map_err(|_| self.error(Fault::Length(bytes.len())))
    }

    /// The value as a `double`.
    #[inline]
    pub fn double(&self) -> Result<f64, WireError> {
        match self.value {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(self.wrong_type()),
        }
    }

    /// A reader of the embedded message, which is called `message` in errors.
    #[inline]
    pub fn message(&self, message: &'static str) -> Result<Reader<'a>, WireError> {
        Ok(Reader::new(message, self.bytes()?))
    }

    /// Calls `each` for every number of a repeated integer field, packed or not.
    #[inline]
    pub fn each_varint(&self, mut each: impl FnMut(u64)) -> Result<(), WireError> {
        match self.value {
            Value::Varint(number) => each(number),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    each(take_varint(&mut packed).map_err(|fault| self.error(fault))?);
                }
            }
            _ => return Err(self.wrong_type()),
        }
        Ok(())
    }

    /// An error in this field.
    pub fn error(&self, fault: Fault) -> WireError {
        WireError { message: self.message, field: self.number, fault }
    }

    #[cold]
    fn wrong_type(&self) -> WireError {
        self.error(Fault::WireType(match self.value {
            Value::Varint(_) => 0,
            Value::Fixed64(_) => 1,
            Value::Bytes(_) => 2,
            Value::Fixed32(_) => 5,
        }))
    }
}

/// Reads the fields of one message in the order in which they stand.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`, called `message` in errors.
    #[inline]
    pub fn new(message: &'static str, bytes: &'a [u8]) -> Self {
        Self { message, rest: bytes }
    }

    /// What has not been read.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field, `None` at the end of the message.
    ///
    /// Nearly all fields have a tag of one byte and a length of one or two; those are read here, where the compiler can
    /// see what the caller wants of them.
    #[inline(always)]
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if let [tag, first, tail @ ..] = self.rest
            && *tag >= SMALLEST_TAG
        {
            let number = u32::from(*tag >> TYPE_BITS);
            let short = match (*tag & SHORT_TAG_AND_TYPE, tail) {
                (TYPE_VARINT, tail) if *first < 0x80 => Some((Value::Varint(u64::from(*first)), tail)),
                (TYPE_BYTES, tail) if *first < 0x80 => split_value(tail, usize::from(*first)),
                (TYPE_BYTES, [second, tail @ ..]) if *second < 0x80 => {
                    split_value(tail, usize::from(*first & 0x7f) | usize::from(*second) << 7)
                }
                _ => None,
            };
            if let Some((value, rest)) = short {
                self.rest = rest;
                return Ok(Some(Field { number, value, message: self.message }));
            }
        }
        if self.rest.is_empty() { Ok(None) } else { self.next_long_field() }
    }

    #[inline(never)]
    fn next_long_field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        let tag = take_varint(&mut self.rest).map_err(|fault| self.error(0, fault))?;
        let number = match u32::try_from(tag >> TYPE_BITS) {
            Ok(number) if number != 0 && tag <= u64::from(u32::MAX) => number,
            _ => return Err(self.error(0, Fault::FieldNumber)),
        };
        let value = self.value((tag & 7) as u8).map_err(|fault| self.error(number, fault))?;
        Ok(Some(Field { number, value, message: self.message }))
    }

    /// An error in field `field` of this message.
    pub fn error(&self, field: u32, fault: Fault) -> WireError {
        WireError { message: self.message, field, fault }
    }

    #[inline]
    fn value(&mut self, wire_type: u8) -> Result<Value<'a>, Fault> {
        Ok(match wire_type {
            0 => Value::Varint(take_varint(&mut self.rest)?),
            1 => Value::Fixed64(u64::from_le_bytes(*self.take_array()?)),
            2 => {
                let length = take_varint(&mut self.rest)?;
                let length = usize::try_from(length).map_err(|_| Fault::Truncated)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Fault::Truncated)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(*self.take_array()?)),
            other => return Err(Fault::WireType(other)),
        })
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Result<&'a [u8; N], Fault> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// The value of `length` bytes, and what is behind it.
#[inline(always)]
fn split_value(tail: &[u8], length: usize) -> Option<(Value<'_>, &[u8])> {
    let (bytes, rest) = tail.split_at_checked(length)?;
    Some((Value::Bytes(bytes), rest))
}

#[inline]
fn take_varint(rest: &mut &[u8]) -> Result<u64, Fault> {
    if let [first, tail @ ..] = *rest
        && *first < 0x80
    {
        *rest = tail;
        return Ok(u64::from(*first));
    }
    take_long_varint(rest)
}

/// Eight bytes at once: a varint's end is its first byte without the highest bit.
#[inline]
fn take_long_varint(rest: &mut &[u8]) -> Result<u64, Fault> {
    const HIGHEST_BITS: u64 = 0x8080_8080_8080_8080;
    if let Some(word) = rest.first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let ends = !word & HIGHEST_BITS;
        if ends != 0 {
            let bits = ends.trailing_zeros() + 1;
            *rest = &rest[(bits / 8) as usize..];
            return Ok(join_sevens(word & (u64::MAX >> (u64::BITS - bits))));
        }
    }
    take_varint_by_byte(rest)
}

/// Puts the lower seven bits of each byte together.
#[inline]
fn join_sevens(bytes: u64) -> u64 {
    let pairs = (bytes & 0x007f_007f_007f_007f) | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    (fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4
}

#[inline(never)]
fn take_varint_by_byte(rest: &mut &[u8]) -> Result<u64, Fault> {
    let mut number = 0_u64;
    for (position, &byte) in rest.iter().enumerate().take(10) {
        // The tenth byte holds the 64th bit alone.
        if position == 9 && byte > 1 {
            return Err(Fault::Overlong);
        }
        number |= u64::from(byte & 0x7f) << (7 * position);
        if byte < 0x80 {
            *rest = &rest[position + 1..];
            return Ok(number);
        }
    }
    Err(if rest.len() < 10 { Fault::Truncated } else { Fault::Overlong })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first(bytes: &[u8]) -> Result<Option<Field<'_>>, WireError> {
        Reader::new("M", bytes).next_field()
    }

    #[test]
    fn truncation_names_the_field() {
        let error = first(&[0x12, 5, 1]).expect_err("five bytes promised, one there");
        assert_eq!(error.to_string(), "M.2: the message ends inside this field");
    }

    #[test]
    fn a_varint_of_eleven_bytes_is_overlong() {
        let mut bytes = vec![0x08];
        bytes.extend([0xff; 11]);
        assert_eq!(first(&bytes).expect_err("overlong").fault, Fault::Overlong);
    }

    #[test]
    fn lengths_of_one_two_and_three_bytes_are_read_alike() {
        for length in [0, 1, 127, 128, 129, 16_383, 16_384, 20_000] {
            let mut bytes = vec![0x12];
            prost::encoding::encode_varint(length, &mut bytes);
            let start = bytes.len();
            bytes.resize(start + length as usize, 7);
            let field = first(&bytes).expect("valid").expect("one field");
            assert_eq!((field.number, field.bytes()), (2, Ok(&bytes[start..])));
            if length > 0 {
                assert_eq!(first(&bytes[..bytes.len() - 1]).expect_err("cut").fault, Fault::Truncated);
            }
        }
    }

    #[test]
    fn groups_and_field_zero_are_refused() {
        assert_eq!(first(&[0x0b]).expect_err("group").fault, Fault::WireType(3));
        assert_eq!(first(&[0x00, 1]).expect_err("field 0").fault, Fault::FieldNumber);
    }

    #[test]
    fn a_length_beyond_memory_is_truncation_not_allocation() {
        let bytes = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(first(&bytes).expect_err("too long").fault, Fault::Truncated);
    }

    proptest! {
        #[test]
        fn varints_agree_with_prost(number: u64) {
            let mut bytes = vec![0x08];
            prost::encoding::encode_varint(number, &mut bytes);
            let field = first(&bytes).expect("valid").expect("one field");
            prop_assert_eq!(field.varint(), Ok(number));
        }

        #[test]
        fn packed_varints_agree_with_prost(numbers: Vec<u64>, shifts in proptest::collection::vec(0..64_u32, 100)) {
            let numbers: Vec<u64> = numbers.iter().zip(shifts).map(|(number, shift)| number >> shift).collect();
            let mut packed = Vec::new();
            numbers.iter().for_each(|&number| prost::encoding::encode_varint(number, &mut packed));
            let field = Field { number: 1, value: Value::Bytes(&packed), message: "M" };
            let mut read = Vec::new();
            field.each_varint(|number| read.push(number)).expect("valid");
            prop_assert_eq!(read, numbers);
        }

        #[test]
        fn any_bytes_end_in_fields_or_an_error(bytes: Vec<u8>) {
            let mut reader = Reader::new("M", &bytes);
            let mut fields = 0;
            while let Ok(Some(_)) = reader.next_field() {
                fields += 1;
                prop_assert!(fields <= bytes.len());
            }
        }
    }
}
