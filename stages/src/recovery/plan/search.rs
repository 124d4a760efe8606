//! What the planner keeps for each slot: the search for it, and what of it went on.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use smallvec::SmallVec;

use super::super::RecoveryOptions;
use super::answers::Held;
use crate::batch::{EndpointId, Missing};
use crate::block::Block;
use crate::slot::{Hash, Timestamp};

/// A slot that is wanted.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) missing: Missing,
    pub(super) attempts: u32,
    pub(super) due: Timestamp,
    pub(super) in_flight: bool,
    /// When the fetch that is in flight was begun.
    pub(super) begun_at: Timestamp,
    pub(super) hole: bool,
    pub(super) replayed: SmallVec<[EndpointId; 4]>,
    /// Why the last answer was refused, until its fetch is over.
    pub(super) refusal: Option<String>,
    /// What RPC answered, while nobody else has named it.
    pub(super) held: Option<Held>,
}

impl Search {
    pub(super) fn new(missing: Missing, now: Timestamp) -> Self {
        Self {
            missing,
            attempts: 0,
            due: now,
            in_flight: false,
            begun_at: now,
            hole: false,
            replayed: SmallVec::new(),
            refusal: None,
            held: None,
        }
    }

    /// Whether something can be done for it: nothing is held for it, and nothing is under way, or what is takes so long
    /// that the next way is tried beside it.
    pub(super) fn is_due(&self, now: Timestamp, hedge_after: Duration) -> bool {
        if self.held.is_some() {
            return false;
        }
        match self.in_flight {
            true => now.since(self.begun_at) >= hedge_after,
            false => self.due <= now,
        }
    }
}

/// A range of slots of which it is not known which have a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing {
    pub(super) attempts: u32,
    pub(super) due: Timestamp,
    pub(super) in_flight: bool,
}

/// The versions of a slot that went on, each with the parts that did.
pub(super) type Versions = SmallVec<[(Hash, Parts); 1]>;

/// Parts of a version that no RPC can give.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    pub(super) entries: bool,
    pub(super) accounts: bool,
}

impl Parts {
    pub(super) fn of(block: &Block) -> Self {
        Self { entries: !block.entries.is_missing(), accounts: !block.accounts.is_missing() }
    }

    pub(super) fn are_full(self) -> bool {
        self.entries && self.accounts
    }

    /// Adds those of `other`; says whether that was any.
    pub(super) fn add(&mut self, other: Self) -> bool {
        let adds = other.entries && !self.entries || other.accounts && !self.accounts;
        self.entries |= other.entries;
        self.accounts |= other.accounts;
        adds
    }
}

/// Exponential backoff with full jitter.
pub(super) fn backoff(options: &RecoveryOptions, attempts: u32, random: &mut SmallRng) -> Duration {
    let doubled = options.min_backoff.saturating_mul(1 << attempts.min(16));
    let ceiling = doubled.min(options.max_backoff);
    // A floor of a quarter keeps unlucky draws from hammering a server that just refused.
    ceiling.mul_f64(random.random_range(0.25..=1.0))
}
