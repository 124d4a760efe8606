//! The lane of records: one message after the other to the receiver, and the cursor behind them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_stages::slot::Slot;
use tokio::sync::mpsc;

use crate::delivery::batches::RecordMessage;
use crate::delivery::counters::{Counters, add};
use crate::delivery::courier::{Courier, Message, Outcome};
use crate::delivery::cursor::{Cursor, CursorFile};

/// The lane of records: one message after the other, and the cursor behind them.
pub(super) struct RecordLane {
    pub(super) queue: mpsc::Receiver<RecordMessage>,
    pub(super) courier: Courier,
    pub(super) cursor: Arc<Mutex<Cursor>>,
    pub(super) file: Option<CursorFile>,
    pub(super) counters: Arc<Counters>,
}

impl RecordLane {
    /// Delivers until the queue's other end is gone.
    pub(super) async fn run(mut self) {
        let mut stored = lock(&self.cursor).next_slot();
        while let Some(message) = self.queue.recv().await {
            let RecordMessage { id, body, records, marks } = message;
            if !body.is_empty() {
                let message = Message { id, content_type: "application/json".to_owned(), body };
                match self.courier.deliver(&message).await {
                    Outcome::Delivered => add(&self.counters.records, records as u64),
                    Outcome::DeadLettered => {}
                    // The time is up for what follows, too; the cursor stays in front of it.
                    Outcome::Abandoned => continue,
                }
            }
            let next_slot = {
                let mut cursor = lock(&self.cursor);
                marks.iter().for_each(|mark| cursor.on_delivered(mark.parent_slot, mark.slot));
                cursor.next_slot()
            };
            if next_slot != stored {
                self.store(next_slot).await;
                stored = next_slot;
            }
        }
    }

    /// A cursor that can't be written is older than what was delivered: more is delivered twice, nothing is lost.
    async fn store(&self, next_slot: Option<Slot>) {
        let Some(next_slot) = next_slot else { return };
        self.counters.next_slot.store(next_slot, Ordering::Relaxed);
        let Some(file) = self.file.clone() else { return };
        let path = file.path().display().to_string();
        let stored = tokio::task::spawn_blocking(move || file.store(next_slot)).await;
        match stored {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(path, %error, "the cursor was not stored"),
            Err(error) => tracing::warn!(path, %error, "the writer of the cursor panicked"),
        }
    }
}

/// The cursor, which both ends of the lane look at.
pub(super) fn lock(cursor: &Mutex<Cursor>) -> MutexGuard<'_, Cursor> {
    cursor.lock().unwrap_or_else(PoisonError::into_inner)
}
