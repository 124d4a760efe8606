//! What recovery fetched from streams, on its way into a spool's log, and back from it after a crash.
//!
//! ```text
//!  recovery ── [FETCHED_CAPACITY] ──→ spool's log      as it is fetched
//!  recovery ←── [PLAYED_CAPACITY] ─── spool's segments when the pipeline starts again
//! ```
//!
//! In the log a fetched slot is a session of its own, which no ledger would take for whole: a ledger judges by what a
//! session shows around a slot. So it goes back to whom it came from, who has it checked as any replay's. What RPC brought
//! is not kept: it has neither entries nor accounts, and can be asked for again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::batch::{Scope, SessionId, Update};
use crate::slot::Slot;

/// Fetched slots that the log has not taken: each is megabytes, but they are shared with what goes on.
const FETCHED_CAPACITY: usize = 8;
/// Played slots that recovery has not taken.
const PLAYED_CAPACITY: usize = 2;
/// How long recovery waits for the log, as a spool does for its disk; beyond, the slot goes on without.
const PATIENCE: Duration = Duration::from_secs(2);

/// A slot that came by a replay.
#[derive(Debug, Clone)]
pub struct FetchedSlot {
    /// The slot.
    pub slot: Slot,
    /// The endpoint that replayed it.
    pub endpoint: Arc<str>,
    /// What it was asked for.
    pub scope: Scope,
    /// All that came for it.
    pub updates: Vec<Update>,
}

impl FetchedSlot {
    /// The session under which its updates came.
    pub fn session(&self) -> Option<SessionId> {
        self.updates.first().map(|update| update.session)
    }
}

/// The ends of the two channels that recovery has.
#[derive(Debug)]
pub struct RecoveryEnds {
    fetched: mpsc::Sender<FetchedSlot>,
    /// Slots that an earlier run fetched.
    pub played: mpsc::Receiver<FetchedSlot>,
}

impl RecoveryEnds {
    /// Gives a slot to the log; says whether it took it.
    pub async fn keep(&self, slot: FetchedSlot) -> bool {
        matches!(tokio::time::timeout(PATIENCE, self.fetched.send(slot)).await, Ok(Ok(())))
    }
}

/// The ends that the spool has.
#[derive(Debug)]
pub(crate) struct SpoolEnds {
    pub(crate) fetched: mpsc::Receiver<FetchedSlot>,
    pub(crate) played: mpsc::Sender<FetchedSlot>,
}

/// What a spool leaves for the recovery behind it, while the pipeline is made.
#[derive(Debug, Clone, Default)]
pub struct Handover(Arc<Mutex<Option<RecoveryEnds>>>);

impl Handover {
    /// Leaves new ends, and returns the others.
    pub(crate) fn leave(&self) -> SpoolEnds {
        let (fetched_in, fetched) = mpsc::channel(FETCHED_CAPACITY);
        let (played, played_out) = mpsc::channel(PLAYED_CAPACITY);
        let ends = RecoveryEnds { fetched: fetched_in, played: played_out };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ends);
        SpoolEnds { fetched, played }
    }

    /// Takes what was left; the first recovery behind a spool gets it.
    pub fn take(&self) -> Option<RecoveryEnds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
