//! Durations and sizes as people write them: `400ms`, `1m30s`, `64MiB`.
//!
//! Each module is made for `#[serde(with = "…")]`; what it writes it reads back to the same value.
//!
//! ```
//! use std::time::Duration;
//!
//! #[derive(serde::Deserialize)]
//! struct Options {
//!     #[serde(with = "sluice_config::units::duration")]
//!     interval: Duration,
//!     #[serde(with = "sluice_config::units::bytes")]
//!     limit_bytes: usize,
//! }
//!
//! let options: Options = toml::from_str("interval = '1m30s'\nlimit_bytes = '64MiB'")?;
//! assert_eq!(options.interval, Duration::from_secs(90));
//! assert_eq!(options.limit_bytes, 64 << 20);
//! # Ok::<(), toml::de::Error>(())
//! ```

use std::time::Duration;

use thiserror::Error;

/// The units of a duration with their nanoseconds, largest first.
const DURATION_UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// The units of a size. Binary ones stand first, so that they are preferred when a size is written.
const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Why a text is not a quantity. The text itself is part of the message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Not a duration.
    #[error("`{0}` is not a duration, write it like \"400ms\", \"30s\", \"1m30s\" or \"2h\"")]
    Duration(String),
    /// Not a size.
    #[error("`{0}` is not a size in bytes, write it like \"64MiB\", \"1GiB\", \"500kB\" or 65536")]
    Bytes(String),
}

/// Reads a duration: numbers, each with its unit (`d`, `h`, `m`, `s`, `ms`, `us`, `ns`), larger units first.
///
/// # Errors
/// If the text is anything else, or longer than a [`Duration`] can be.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    duration_nanos(text).and_then(duration_from_nanos).ok_or_else(|| UnitError::Duration(text.to_owned()))
}

fn duration_nanos(text: &str) -> Option<u128> {
    let mut rest = text.trim();
    let mut units = DURATION_UNITS.iter();
    let mut total = None;
    while !rest.is_empty() {
        let (digits, after) = split_digits(rest);
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        // The iterator only moves on, so a unit that repeats or comes too late is not found.
        let (_, nanos) = units.find(|(name, _)| *name == unit)?;
        let part = digits.parse::<u128>().ok()?.checked_mul(*nanos)?;
        total = Some(total.unwrap_or(0u128).checked_add(part)?);
        rest = next;
    }
    total
}

fn duration_from_nanos(nanos: u128) -> Option<Duration> {
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, rest))
}

/// Writes a duration so that [`parse_duration`] reads it back.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, nanos) in DURATION_UNITS {
        if rest >= nanos {
            text.push_str(&format!("{}{unit}", rest / nanos));
            rest %= nanos;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads a size: a whole number and a unit (`B`, `kB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB`, `TiB`), or just a number.
///
/// # Errors
/// If the text is anything else, or more than 64 bits hold.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    byte_count(text).ok_or_else(|| UnitError::Bytes(text.to_owned()))
}

fn byte_count(text: &str) -> Option<u64> {
    let (digits, after) = split_digits(text.trim());
    let unit = after.trim_start();
    let scale = match unit {
        "" => 1,
        _ => BYTE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    digits.replace('_', "").parse::<u64>().ok()?.checked_mul(scale)
}

/// Writes a size so that [`parse_bytes`] reads it back: in the largest unit that divides it, binary units first.
pub fn format_bytes(bytes: u64) -> String {
    let fits = |(_, scale): &&(&str, u64)| bytes != 0 && bytes.is_multiple_of(*scale);
    let (unit, scale) = BYTE_UNITS.iter().find(fits).copied().unwrap_or(("B", 1));
    format!("{}{unit}", bytes / scale)
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len()))
}

/// A [`Duration`] as text.
pub mod duration {
    use std::fmt;
    use std::time::Duration;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    /// Writes it.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*duration))
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is not a text, or not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_str(DurationVisitor)
    }

    struct DurationVisitor;

    impl Visitor<'_> for DurationVisitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration like \"400ms\", \"30s\", \"1m30s\" or \"2h\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            super::parse_duration(text).map_err(E::custom)
        }
    }
}

/// A [`Duration`] that may be left out. Give the field `#[serde(default)]` too.
pub mod option_duration {
    use std::time::Duration;

    use serde::Deserialize;
    use serde::de::Deserializer;
    use serde::ser::Serializer;

    #[derive(Deserialize)]
    struct Wrapped(#[serde(with = "super::duration")] Duration);

    /// Writes it.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::duration::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is there and not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|Wrapped(duration)| duration))
    }
}

/// A size in bytes (`usize`, `u64`, …), as text with a unit or as a plain number.
pub mod bytes {
    use std::fmt;
    use std::marker::PhantomData;

    use serde::de::{Deserializer, Error, Unexpected, Visitor};
    use serde::ser::Serializer;

    /// Writes it.
    ///
    /// # Errors
    /// If the size is more than 64 bits hold, or the serializer's own.
    pub fn serialize<T, S>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + TryInto<u64>,
        S: Serializer,
    {
        let bytes =
            (*bytes).try_into().map_err(|_| serde::ser::Error::custom("a size of more than 64 bits"))?;
        serializer.serialize_str(&super::format_bytes(bytes))
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is neither a number nor a text with a unit, or does not fit into the type.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: TryFrom<u64>,
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(BytesVisitor(PhantomData))
    }

    struct BytesVisitor<T>(PhantomData<T>);

    impl<T: TryFrom<u64>> Visitor<'_> for BytesVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size in bytes like \"64MiB\", \"1GiB\", \"500kB\" or 65536")
        }

        fn visit_u64<E: Error>(self, bytes: u64) -> Result<T, E> {
            T::try_from(bytes).map_err(|_| E::custom("a size that this machine can't address"))
        }

        fn visit_i64<E: Error>(self, bytes: i64) -> Result<T, E> {
            let bytes =
                u64::try_from(bytes).map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))?;
            self.visit_u64(bytes)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            self.visit_u64(super::parse_bytes(text).map_err(E::custom)?)
        }
    }
}

/// A size in bytes that may be left out. Give the field `#[serde(default)]` too.
pub mod option_bytes {
    use serde::Deserialize;
    use serde::de::Deserializer;
    use serde::ser::Serializer;

    #[derive(Deserialize)]
    #[serde(bound = "T: TryFrom<u64>")]
    struct Wrapped<T>(#[serde(with = "super::bytes")] T);

    /// Writes it.
    ///
    /// # Errors
    /// If the size is more than 64 bits hold, or the serializer's own.
    pub fn serialize<T, S>(bytes: &Option<T>, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + TryInto<u64>,
        S: Serializer,
    {
        match bytes {
            Some(bytes) => super::bytes::serialize(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is there and not a size.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: TryFrom<u64>,
        D: Deserializer<'de>,
    {
        Ok(Option::<Wrapped<T>>::deserialize(deserializer)?.map(|Wrapped(bytes)| bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("400ms", 400),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_duration_without_unit_or_with_units_out_of_order_is_refused() {
        for text in
            ["", "5", "s", "ten", "1s1m", "1s1s", "-1s", "1.5s", "1 s", "99999999999999999999999d", "1é"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1 GiB", 1 << 30),
            ("500kB", 500_000),
            ("65_536", 65_536),
            ("7B", 7),
            ("0", 0),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_size_with_an_unknown_unit_or_too_large_is_refused() {
        for text in ["", "MiB", "64mib", "1.5GiB", "-1", "99999999TiB", "_", "1é"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Optional {
        #[serde(default, with = "option_duration", skip_serializing_if = "Option::is_none")]
        after: Option<Duration>,
        #[serde(default, with = "option_bytes", skip_serializing_if = "Option::is_none")]
        most_bytes: Option<usize>,
    }

    #[test]
    fn optional_quantities_may_be_left_out_and_round_trip() {
        let none: Optional = toml::from_str("").expect("nothing is required");
        assert_eq!(none, Optional { after: None, most_bytes: None });
        let some: Optional = toml::from_str("after = '2h'\nmost_bytes = 1024").expect("both are valid");
        assert_eq!(some, Optional { after: Some(Duration::from_secs(7_200)), most_bytes: Some(1_024) });
        assert_eq!(toml::to_string(&some).expect("serializable"), "after = \"2h\"\nmost_bytes = \"1KiB\"\n");
    }

    #[test]
    fn a_negative_size_says_what_is_expected() {
        let error = toml::from_str::<Optional>("most_bytes = -1").expect_err("negative");
        assert!(error.message().contains("a size in bytes like \"64MiB\""), "{}", error.message());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in 0..=u64::MAX, nanos in 0..1_000_000_000u32, bytes: u64) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_a_quantity_or_an_error(text: String) {
            prop_assert_eq!(parse_duration(&text).is_ok(), duration_nanos(&text).and_then(duration_from_nanos).is_some());
            prop_assert_eq!(parse_bytes(&text).is_ok(), byte_count(&text).is_some());
        }
    }
}
