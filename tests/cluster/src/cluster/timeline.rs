//! When what happens: slots follow each other at a fixed distance, commitment follows at a distance in slots.

use std::time::Duration;

use yellowstone_grpc_proto::prelude::{CommitmentLevel, SlotStatus};

use super::Config;

/// The shortest distance of slots: a ledger with an end may be played as fast as it is read.
const MIN_SLOT_TIME: Duration = Duration::from_micros(1);
/// The same for a ledger without end, whose tip has to stay within what a machine can make up.
const MIN_ENDLESS_SLOT_TIME: Duration = Duration::from_millis(1);
/// When in its slot's time a block is processed, in hundredths.
const PROCESSED_PERCENT: u32 = 80;

/// A commitment level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Executed by the server's node.
    Processed,
    /// Voted for by a supermajority.
    Confirmed,
    /// Can't be rolled back any more.
    Finalized,
}

impl Level {
    pub(crate) const ALL: [Self; 3] = [Self::Processed, Self::Confirmed, Self::Finalized];

    pub(crate) fn status(self) -> SlotStatus {
        match self {
            Self::Processed => SlotStatus::SlotProcessed,
            Self::Confirmed => SlotStatus::SlotConfirmed,
            Self::Finalized => SlotStatus::SlotFinalized,
        }
    }

    pub(crate) fn of(commitment: CommitmentLevel) -> Self {
        match commitment {
            CommitmentLevel::Processed => Self::Processed,
            CommitmentLevel::Confirmed => Self::Confirmed,
            CommitmentLevel::Finalized => Self::Finalized,
        }
    }
}

/// Maps time to positions of the ledger.
#[derive(Debug)]
pub(crate) struct Timeline {
    slot_time: Duration,
    length: Option<u64>,
    confirmed_after: u64,
    finalized_after: u64,
}

impl Timeline {
    pub(crate) fn new(config: &Config, length: Option<u64>) -> Self {
        let least = if length.is_some() { MIN_SLOT_TIME } else { MIN_ENDLESS_SLOT_TIME };
        Self {
            slot_time: config.slot_time.max(least),
            length,
            confirmed_after: config.confirmed_after,
            finalized_after: config.finalized_after.max(config.confirmed_after),
        }
    }

    pub(crate) fn slot_time(&self) -> Duration {
        self.slot_time
    }

    /// When a slot begins.
    pub(crate) fn start(&self, position: u64) -> Duration {
        let nanos = self.slot_time.as_nanos() * u128::from(position);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The position whose time is now; runs past the ledger's end.
    pub(crate) fn position(&self, now: Duration) -> u64 {
        (now.as_nanos() / self.slot_time.as_nanos()) as u64
    }

    /// How many slots behind processed a level is.
    pub(crate) fn distance(&self, level: Level) -> u64 {
        match level {
            Level::Processed => 0,
            Level::Confirmed => self.confirmed_after,
            Level::Finalized => self.finalized_after,
        }
    }

    /// Positions that are played, with those behind the ledger's end in which its last slots become final.
    pub(crate) fn is_played(&self, position: u64) -> bool {
        self.length.is_none_or(|length| position < length + self.finalized_after)
    }

    /// The newest position at a level.
    pub(crate) fn reached(&self, now: Duration, level: Level) -> Option<u64> {
        let lead = self.slot_time * PROCESSED_PERCENT / 100;
        let processed = self.position(now.checked_sub(lead)?);
        let reached = processed.checked_sub(self.distance(level))?;
        match self.length {
            Some(length) => Some(reached.min(length.checked_sub(1)?)),
            None => Some(reached),
        }
    }

    /// When the last slot is finalized.
    pub(crate) fn end(&self) -> Option<Duration> {
        self.length.map(|length| self.start(length + self.finalized_after))
    }
}
