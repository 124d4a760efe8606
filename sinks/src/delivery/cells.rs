//! Values of the chain as JSON has them: keys, hashes and signatures in base58, other bytes in base64.

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use sluice_stages::transaction::{Place, Transaction};

/// A key or hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a>(pub(crate) &'a [u8; 32]);

impl Serialize for Key<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 44];
        let length = five8::encode_32(self.0, &mut text);
        serializer.serialize_str(ascii(&text[..usize::from(length)]))
    }
}

/// A signature.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signature<'a>(pub(crate) &'a [u8; 64]);

impl Serialize for Signature<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 88];
        let length = five8::encode_64(self.0, &mut text);
        serializer.serialize_str(ascii(&text[..usize::from(length)]))
    }
}

/// Bytes without a meaning of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binary<'a>(pub(crate) &'a [u8]);

impl Serialize for Binary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// Keys at places of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys<'a> {
    pub(crate) places: &'a [Place],
    pub(crate) body: &'a [u8],
}

impl Serialize for Keys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.places.iter().map(|place| Key(place.array::<32>(self.body))))
    }
}

/// Signatures at places of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signatures<'a> {
    pub(crate) places: &'a [Place],
    pub(crate) body: &'a [u8],
}

impl Serialize for Signatures<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.places.iter().map(|place| Signature(place.array::<64>(self.body))))
    }
}

/// Texts at places of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Texts<'a> {
    pub(crate) places: &'a [Place],
    pub(crate) body: &'a [u8],
}

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.places.iter().map(|place| place.text(self.body)))
    }
}

/// Accounts by their positions in a transaction's keys, a byte each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accounts<'a> {
    pub(crate) positions: &'a [u8],
    pub(crate) transaction: &'a Transaction,
    pub(crate) body: &'a [u8],
}

impl Serialize for Accounts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keys = serializer.serialize_seq(Some(self.positions.len()))?;
        for &position in self.positions {
            // The chain lets no instruction name an account that the message lacks; null would stand for one.
            let place = self.transaction.account_key(u32::from(position));
            keys.serialize_element(&place.map(|place| Key(place.array::<32>(self.body))))?;
        }
        keys.end()
    }
}

fn ascii(text: &[u8]) -> &str {
    std::str::from_utf8(text).unwrap_or_default()
}
