//! Columns under construction that Arrow's own builders do not have: fixed-size keys as base58 or as raw bytes, texts
//! that are checked once for the whole column, and lists over any of them.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, LargeBinaryArray, ListArray, StringArray};
use arrow_buffer::{Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How keys, signatures and hashes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyFormat {
    /// As base58 text, the form that people and explorers use.
    #[default]
    Base58,
    /// As raw bytes of fixed size: a third smaller, faster to compare, and hard to read.
    Bytes,
}

impl KeyFormat {
    /// The Arrow type of a key or hash.
    pub(crate) fn key_type(self) -> DataType {
        self.fixed(32)
    }

    /// The Arrow type of a signature.
    pub(crate) fn signature_type(self) -> DataType {
        self.fixed(64)
    }

    fn fixed(self, width: i32) -> DataType {
        match self {
            Self::Base58 => DataType::Utf8,
            Self::Bytes => DataType::FixedSizeBinary(width),
        }
    }
}

/// The longest base58 text of 32 bytes.
const KEY_TEXT_BYTES: usize = 44;
/// The longest base58 text of 64 bytes.
const SIGNATURE_TEXT_BYTES: usize = 88;
/// Places of the cache of texts: 16,384 hold the keys of some dozen slots of mainnet in 1.3 MiB.
const CACHED_KEYS: usize = 1 << 14;
/// Places of the cache of texts that came as such: mints, owners and token programs of a few slots, in 184 KiB.
const CACHED_TEXTS: usize = 1 << 12;
/// Spreads the last bytes of a text over the places: the golden ratio in 32 bits.
const MIX: u32 = 0x9e37_79b9;

#[derive(Clone, Copy)]
struct CachedKey {
    key: [u8; 32],
    text: [u8; KEY_TEXT_BYTES],
    length: u8,
}

/// A text that was found to be a key's.
#[derive(Clone, Copy)]
struct KnownText {
    text: [u8; KEY_TEXT_BYTES],
    length: u8,
}

/// The base58 texts of keys seen lately.
///
/// Most keys of a transaction were in one before. A key has one place, by its last bytes; whoever mines keys that
/// share a place only makes this as slow as encoding is.
pub(crate) struct KeyTexts {
    places: Vec<CachedKey>,
    /// Texts that came as such, by their last bytes.
    known: Vec<KnownText>,
}

impl Default for KeyTexts {
    fn default() -> Self {
        let nothing = CachedKey { key: [0; 32], text: [0; KEY_TEXT_BYTES], length: 0 };
        let unknown = KnownText { text: [0; KEY_TEXT_BYTES], length: 0 };
        Self { places: vec![nothing; CACHED_KEYS], known: vec![unknown; CACHED_TEXTS] }
    }
}

impl KeyTexts {
    /// The base58 text of `key`.
    #[inline]
    pub(crate) fn text(&mut self, key: &[u8; 32]) -> &[u8] {
        let place = usize::from(u16::from_le_bytes([key[30], key[31]])) % CACHED_KEYS;
        let cached = &mut self.places[place];
        if cached.length == 0 || cached.key != *key {
            cached.key = *key;
            cached.length = five8::encode_32(key, &mut cached.text);
        }
        &cached.text[..usize::from(cached.length)]
    }

    /// Whether `text` is the base58 text of a key; there is just one for each key.
    #[inline]
    fn is_key(&mut self, text: &[u8]) -> bool {
        let Some((shorter, &ending)) = text.split_last_chunk::<4>() else { return false };
        if shorter.len() + ending.len() > KEY_TEXT_BYTES {
            return false;
        }
        let place =
            (u32::from_le_bytes(ending).wrapping_mul(MIX) >> (u32::BITS - CACHED_TEXTS.ilog2())) as usize;
        let known = &mut self.known[place];
        if known.text.get(..usize::from(known.length)) == Some(text) {
            return true;
        }
        if five8::decode_32(text, &mut [0; 32]).is_err() {
            return false;
        }
        known.length = text.len() as u8;
        known.text[..text.len()].copy_from_slice(text);
        true
    }
}

/// A column of keys, hashes or signatures.
pub(crate) struct Cells {
    format: KeyFormat,
    width: usize,
    bytes: Vec<u8>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Cells {
    /// A column of 32-byte keys or hashes.
    pub(crate) fn keys(format: KeyFormat) -> Self {
        Self::new(format, 32)
    }

    /// A column of 64-byte signatures.
    pub(crate) fn signatures(format: KeyFormat) -> Self {
        Self::new(format, 64)
    }

    fn new(format: KeyFormat, width: usize) -> Self {
        Self { format, width, bytes: Vec::new(), offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }

    /// Cells so far.
    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Adds a key.
    #[inline]
    pub(crate) fn push_key(&mut self, key: &[u8; 32], texts: &mut KeyTexts) {
        match self.format {
            KeyFormat::Base58 => self.bytes.extend_from_slice(texts.text(key)),
            KeyFormat::Bytes => self.bytes.extend_from_slice(key),
        }
        self.end_cell();
    }

    /// Adds a hash or another key that is hardly ever there twice.
    #[inline]
    pub(crate) fn push_unique(&mut self, key: &[u8; 32]) {
        match self.format {
            KeyFormat::Base58 => {
                let mut text = [0; KEY_TEXT_BYTES];
                let length = five8::encode_32(key, &mut text);
                self.bytes.extend_from_slice(&text[..usize::from(length)]);
            }
            KeyFormat::Bytes => self.bytes.extend_from_slice(key),
        }
        self.end_cell();
    }

    /// Adds a signature.
    #[inline]
    pub(crate) fn push_signature(&mut self, signature: &[u8; 64]) {
        match self.format {
            KeyFormat::Base58 => {
                let mut text = [0; SIGNATURE_TEXT_BYTES];
                let length = five8::encode_64(signature, &mut text);
                self.bytes.extend_from_slice(&text[..usize::from(length)]);
            }
            KeyFormat::Bytes => self.bytes.extend_from_slice(signature),
        }
        self.end_cell();
    }

    /// Adds a key that came as base58 text; what is not one becomes null, as an absent one does.
    pub(crate) fn push_key_text(&mut self, text: &[u8], texts: &mut KeyTexts) {
        let mut key = [0; 32];
        match self.format {
            KeyFormat::Base58 if texts.is_key(text) => {
                self.bytes.extend_from_slice(text);
                self.end_cell();
            }
            KeyFormat::Bytes if five8::decode_32(text, &mut key).is_ok() => self.push_key(&key, texts),
            KeyFormat::Base58 | KeyFormat::Bytes => self.push_null(),
        }
    }

    /// Adds a null.
    pub(crate) fn push_null(&mut self) {
        if self.format == KeyFormat::Bytes {
            self.bytes.resize(self.bytes.len() + self.width, 0);
        }
        self.offsets.push(offset(self.bytes.len()));
        self.nulls.append_null();
    }

    /// The column; what is added next begins another one of about the same size.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.finish();
        let bytes = Buffer::from_vec(take_with_room(&mut self.bytes));
        let offsets = take_offsets(&mut self.offsets);
        Ok(match self.format {
            KeyFormat::Base58 => Arc::new(StringArray::try_new(offsets?, bytes, nulls)?),
            KeyFormat::Bytes => Arc::new(FixedSizeBinaryArray::try_new(self.width as i32, bytes, nulls)?),
        })
    }

    #[inline]
    fn end_cell(&mut self) {
        self.offsets.push(offset(self.bytes.len()));
        self.nulls.append_non_null();
    }
}

/// A column of texts or byte strings.
pub(crate) struct Blobs {
    bytes: Vec<u8>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Blobs {
    /// An empty column.
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }

    /// Cells so far.
    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Adds a cell.
    #[inline]
    pub(crate) fn push(&mut self, cell: &[u8]) {
        self.bytes.extend_from_slice(cell);
        self.offsets.push(offset(self.bytes.len()));
        self.nulls.append_non_null();
    }

    /// Adds a null.
    #[inline]
    pub(crate) fn push_null(&mut self) {
        self.offsets.push(offset(self.bytes.len()));
        self.nulls.append_null();
    }

    /// Adds a cell or a null.
    pub(crate) fn push_option(&mut self, cell: Option<&[u8]>) {
        match cell {
            Some(cell) => self.push(cell),
            None => self.push_null(),
        }
    }

    /// The column as texts; what is added next begins another one of about the same size.
    pub(crate) fn finish_text(&mut self) -> Result<ArrayRef, ArrowError> {
        let (offsets, bytes, nulls) = self.take()?;
        Ok(Arc::new(StringArray::try_new(offsets, bytes, nulls)?))
    }

    /// The column as byte strings; what is added next begins another one of about the same size.
    pub(crate) fn finish_binary(&mut self) -> Result<ArrayRef, ArrowError> {
        let (offsets, bytes, nulls) = self.take()?;
        Ok(Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?))
    }

    fn take(&mut self) -> Result<(OffsetBuffer<i32>, Buffer, Option<NullBuffer>), ArrowError> {
        let nulls = self.nulls.finish();
        let bytes = Buffer::from_vec(take_with_room(&mut self.bytes));
        Ok((take_offsets(&mut self.offsets)?, bytes, nulls))
    }
}

/// A column of byte strings that together may be more than 2 GiB in one slot: account data.
pub(crate) struct LargeBlobs {
    bytes: Vec<u8>,
    offsets: Vec<i64>,
}

impl LargeBlobs {
    /// An empty column.
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0] }
    }

    /// Adds a cell.
    pub(crate) fn push(&mut self, cell: &[u8]) {
        self.bytes.extend_from_slice(cell);
        self.offsets.push(i64::try_from(self.bytes.len()).unwrap_or(i64::MAX));
    }

    /// The column.
    pub(crate) fn finish(self) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok(Arc::new(LargeBinaryArray::try_new(offsets, Buffer::from_vec(self.bytes), None)?))
    }
}

/// The bounds of the rows of a list column; the values are built beside it.
pub(crate) struct Lists {
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Lists {
    /// An empty column.
    pub(crate) fn new() -> Self {
        Self { offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }

    /// Ends a row: its values are those up to `values` of the column of values.
    #[inline]
    pub(crate) fn end_row(&mut self, values: usize) {
        self.offsets.push(offset(values));
        self.nulls.append_non_null();
    }

    /// Adds a null row.
    pub(crate) fn push_null(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
        self.nulls.append_null();
    }

    /// The column over `values`; what is added next begins another one.
    pub(crate) fn finish(&mut self, values: ArrayRef) -> Result<ArrayRef, ArrowError> {
        let item = item_field(values.data_type().clone());
        let offsets = take_offsets(&mut self.offsets);
        Ok(Arc::new(ListArray::try_new(item, offsets?, values, self.nulls.finish())?))
    }
}

/// The type of a list of `values`, none of which is null.
pub(crate) fn list_of(values: DataType) -> DataType {
    DataType::List(item_field(values))
}

fn item_field(values: DataType) -> FieldRef {
    Arc::new(Field::new("element", values, false))
}

/// An end beyond what 31 bits hold is stuck at the largest one, which [`offsets`] refuses.
#[inline]
fn offset(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

/// Takes a column's content and leaves room for the next one, an eighth more: slots of one chain are alike, and a column
/// that grows is copied at each doubling.
fn take_with_room<T>(column: &mut Vec<T>) -> Vec<T> {
    let next = Vec::with_capacity(column.len() + column.len() / 8);
    std::mem::replace(column, next)
}

/// Takes a column's offsets and leaves those of an empty one.
fn take_offsets(ends: &mut Vec<i32>) -> Result<OffsetBuffer<i32>, ArrowError> {
    let taken = take_with_room(ends);
    ends.push(0);
    offsets(taken)
}

fn offsets(ends: Vec<i32>) -> Result<OffsetBuffer<i32>, ArrowError> {
    match ends.last() {
        Some(&i32::MAX) => Err(ArrowError::OffsetOverflowError(i32::MAX as usize)),
        _ => Ok(OffsetBuffer::new(ScalarBuffer::from(ends))),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;

    use super::*;

    #[test]
    fn both_formats_hold_the_same_keys() {
        let mut texts = KeyTexts::default();
        let (mut text, mut raw) = (Cells::keys(KeyFormat::Base58), Cells::keys(KeyFormat::Bytes));
        for cells in [&mut text, &mut raw] {
            cells.push_key(&[7; 32], &mut texts);
            cells.push_null();
            cells.push_unique(&[7; 32]);
            cells.push_key_text(b"us517G5965aydkZ46HS38QLi7UQiSojurfbQfKCELFx", &mut texts);
            cells.push_key_text(b"", &mut texts);
        }
        let (text, raw) = (text.finish().expect("valid"), raw.finish().expect("valid"));
        let expected = five8::encode_32(&[7; 32], &mut [0; 44]);
        assert_eq!(text.as_string::<i32>().value(0).len(), usize::from(expected));
        assert_eq!(text.as_string::<i32>().value(0), text.as_string::<i32>().value(2));
        assert_eq!(raw.as_fixed_size_binary().value(0), [7; 32]);
        for position in 0..5 {
            assert_eq!(text.is_null(position), raw.is_null(position));
        }
        assert!(text.is_null(1) && text.is_null(4) && text.is_valid(3));
    }

    #[test]
    fn the_cache_of_texts_survives_keys_that_share_a_place() {
        let mut texts = KeyTexts::default();
        let (first, mut second) = ([9; 32], [9; 32]);
        second[0] = 1;
        let expected = |key: &[u8; 32]| sluice_stages::slot::Hash(*key).to_base58();
        for key in [&first, &second, &first, &[0; 32]] {
            assert_eq!(texts.text(key), expected(key).as_bytes());
        }
    }

    #[test]
    fn a_text_is_a_key_if_it_is_the_one_that_encoding_gives() {
        let mut texts = KeyTexts::default();
        let hashes = (0..=255).map(|byte| sluice_stages::slot::Hash([byte; 32]).to_base58());
        let valid: Vec<String> = hashes.collect();
        for _ in 0..2 {
            for text in &valid {
                assert!(texts.is_key(text.as_bytes()), "{text}");
                for wrong in
                    [format!("1{text}"), format!("{text}1"), text[1..].to_owned(), text.replace('1', "0")]
                {
                    let decodes = five8::decode_32(wrong.as_bytes(), &mut [0; 32]).is_ok();
                    assert_eq!(texts.is_key(wrong.as_bytes()), decodes, "{wrong}");
                }
            }
        }
        assert!(!texts.is_key(&[b'1'; 300]) && !texts.is_key(b"") && !texts.is_key(&[0; 44]));
    }

    #[test]
    fn a_column_of_more_than_31_bits_is_refused() {
        assert!(offsets(vec![0, offset(usize::MAX)]).is_err());
    }
}
