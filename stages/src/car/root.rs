//! The root of an archive as it is published: a CID as text.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::{Cid, CidError};

/// The alphabet of base32 in lower case (RFC 4648, without padding), whose multibase prefix is `b`.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const BITS: u32 = 5;

/// The CID of an epoch, as `bafyrei…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct CarRoot(Cid);

impl CarRoot {
    /// The root that a file's header names.
    pub(super) fn of(cid: Cid) -> Self {
        Self(cid)
    }
}

impl FromStr for CarRoot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` is no root of an archive: {why}; it looks like bafyrei…");
        let digits = text.strip_prefix('b').ok_or_else(|| wrong("it does not begin with b"))?;
        let bytes = decode(digits).ok_or_else(|| wrong("it is not base32"))?;
        match Cid::whole(&bytes) {
            Ok(cid @ Cid::Node(_)) => Ok(Self(cid)),
            Ok(Cid::Nothing) => Err(wrong("it names nothing")),
            Err(CidError::Truncated) => Err(wrong("it is too short")),
            Err(error) => Err(wrong(&error.to_string())),
        }
    }
}

impl TryFrom<String> for CarRoot {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CarRoot> for String {
    fn from(root: CarRoot) -> Self {
        root.to_string()
    }
}

impl fmt::Display for CarRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", encode(&self.0.bytes()))
    }
}

fn decode(digits: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|&known| known == digit)?;
        bits = bits << BITS | u32::try_from(value).ok()?;
        count += BITS;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // What is left is padding.
    (count < BITS && bits == 0).then_some(bytes)
}

fn encode(bytes: &[u8]) -> String {
    let (mut bits, mut count, mut text) = (0_u32, 0, String::new());
    for &byte in bytes {
        bits = bits << 8 | u32::from(byte);
        count += 8;
        while count >= BITS {
            count -= BITS;
            text.push(char::from(ALPHABET[(bits >> count) as usize & 31]));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        text.push(char::from(ALPHABET[(bits << (BITS - count)) as usize & 31]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The CID that IPLD's documentation gives for an empty map, `{}`, in DAG-CBOR.
    const KNOWN: &str = "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua";

    #[test]
    fn a_published_root_is_read_and_written_back() {
        use sha2::{Digest as _, Sha256};
        let root: CarRoot = KNOWN.parse().expect("a root");
        assert_eq!(root, CarRoot(Cid::Node(Sha256::digest([0xa0]).into())));
        assert_eq!(root.to_string(), KNOWN);
    }

    #[test]
    fn what_is_no_root_is_told() {
        for wrong in [
            "",
            "b",
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
            "bafyrei",
            &KNOWN.to_uppercase(),
            &KNOWN[..40],
        ] {
            let error = wrong.parse::<CarRoot>().expect_err("no root");
            assert!(error.contains("bafyrei"), "{error}");
        }
    }
}
