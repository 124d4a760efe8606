//! The units that everything else counts in: slots, blockhashes, commitment levels and time.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Number of slots in an epoch of mainnet, testnet and devnet (Solana `DEFAULT_SLOTS_PER_EPOCH`).
pub const SLOTS_PER_EPOCH: u64 = 432_000;

/// A Solana slot number.
///
/// Slots are skipped all the time, so a jump in numbers says nothing; only a parent link does.
pub type Slot = u64;

/// A 32-byte blockhash, shown in base58 as everywhere on Solana.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Reads the base58 text that block metas and RPC answers carry; `None` unless it is exactly 32 bytes.
    pub fn from_base58(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        five8::decode_32(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The base58 text of this hash.
    pub fn to_base58(self) -> String {
        let mut text = [0; 44];
        let length = five8::encode_32(&self.0, &mut text);
        String::from_utf8_lossy(&text[..usize::from(length)]).into_owned()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base58())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How settled a slot is, in rising order; the names are Solana's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Commitment {
    /// Executed by the node that reports it; may still end on a dead fork.
    Processed,
    /// Voted for by two thirds of the stake; has never been rolled back on mainnet, but can be.
    Confirmed,
    /// Rooted, 31 or more confirmed slots on top: final.
    Finalized,
}

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Processed => "processed",
            Self::Confirmed => "confirmed",
            Self::Finalized => "finalized",
        })
    }
}

/// A point in time, in microseconds since the unix epoch.
///
/// Stages have no clock: the runner hands this in, and a test hands in whatever it likes. The runner's values never
/// go backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Whole milliseconds since the unix epoch.
    pub fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// The time that has passed since `earlier`, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// This time plus `duration`, saturating.
    pub fn after(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base58_of_a_hash_reads_back() {
        let hash = Hash([7; 32]);
        assert_eq!(Hash::from_base58(&hash.to_base58()), Some(hash));
        assert_eq!(Hash::from_base58("too short"), None);
    }

    #[test]
    fn time_never_underflows() {
        assert_eq!(Timestamp(1).since(Timestamp(2)), Duration::ZERO);
        assert_eq!(Timestamp(u64::MAX).after(Duration::from_secs(1)), Timestamp(u64::MAX));
    }
}
