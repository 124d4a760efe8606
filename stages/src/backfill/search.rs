//! What the planner keeps of a slot that it wants.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::block::Block;
use crate::slot::Timestamp;

/// The first wait between two tries, which is quadrupled each time. Most failures are over at once, and all later blocks
/// wait for this one; those that are not need the long waits, of which five tries have some ten seconds.
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// How far a search has come.
#[derive(Debug)]
pub(super) enum State {
    /// To be asked for at this time or later.
    Due(Timestamp),
    /// Asked for.
    InFlight {
        /// When.
        since: Timestamp,
    },
    /// There, and waits for its parent.
    Arrived(Arc<Block>),
}

/// A slot that is wanted.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) state: State,
    /// Tries that failed for a reason that lies with the slot.
    pub(super) attempts: u32,
}

impl Search {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { state: State::Due(now), attempts: 0 }
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Due(at) if at <= now)
    }

    pub(super) fn block(&self) -> Option<&Arc<Block>> {
        match &self.state {
            State::Arrived(block) => Some(block),
            State::Due(_) | State::InFlight { .. } => None,
        }
    }
}

/// Exponential backoff with jitter; at least a quarter of the full wait, so that no node is hammered by unlucky draws.
pub(super) fn backoff(attempts: u32, random: &mut SmallRng) -> Duration {
    let full = MIN_BACKOFF.saturating_mul(1 << (2 * attempts.saturating_sub(1).min(8))).min(MAX_BACKOFF);
    full.mul_f64(random.random_range(0.25..=1.0))
}
