//! The lane of records: one message after the other to the receiver, and the cursor behind them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::delivery::counters::{Counters, add};
use crate::delivery::courier::{Courier, Message, Outcome};
use crate::delivery::cursor::{Cursor, CursorFile, Position};
use crate::delivery::record_message::{Begun, RecordMessage};

/// The lane of records: one message after the other, and the cursor behind them.
pub(super) struct RecordLane {
    /// The sink's name, for the log.
    pub(super) node: Arc<str>,
    pub(super) queue: mpsc::Receiver<RecordMessage>,
    pub(super) courier: Courier,
    pub(super) cursor: Arc<Mutex<Cursor>>,
    pub(super) file: Option<CursorFile>,
    /// What the cursor's file says.
    pub(super) stored: Option<Position>,
    /// Blocks of which only the first records were delivered.
    pub(super) begun: Vec<Begun>,
    pub(super) counters: Arc<Counters>,
}

impl RecordLane {
    /// Delivers until the queue's other end is gone; first what was on its way when the process before this one ended.
    pub(super) async fn run(mut self) {
        let mut next = self.stored.as_ref().and_then(|position| position.message.clone());
        if next.is_none() {
            next = self.queue.recv().await;
        }
        while let Some(message) = next {
            // The time is up for what follows, too; the cursor stays in front of it.
            if !self.bring(message).await {
                return self.give_up().await;
            }
            next = self.queue.recv().await;
        }
    }

    /// Brings a message to its end; false if there is no more time.
    async fn bring(&mut self, message: RecordMessage) -> bool {
        // Before the first try: a restart has to send the message as it is.
        if message.is_of_chain {
            self.store(Some(message.clone())).await;
        }
        let RecordMessage { id, body, records, marks, begun, .. } = message;
        if !body.is_empty() {
            let message = Message { id, content_type: "application/json".to_owned(), body };
            match self.courier.deliver(&message).await {
                Outcome::Delivered => add(&self.counters.records, records as u64),
                Outcome::DeadLettered => {}
                Outcome::Abandoned => return false,
            }
        }
        marks.iter().for_each(|mark| lock(&self.cursor).on_delivered(mark.parent_slot, mark.slot));
        self.begun = begun;
        self.store(None).await;
        true
    }

    /// Counts what is not even tried. The courier has counted the message that was on its way.
    async fn give_up(&mut self) {
        let mut messages = 1;
        while let Some(message) = self.queue.recv().await {
            let is_one = u64::from(message.records > 0);
            add(&self.counters.abandoned, is_one);
            messages += is_one;
        }
        let kept = self.file.is_some();
        tracing::warn!(node = %self.node, messages, kept, "ended with messages of records that were not delivered");
    }

    /// A cursor that can't be written is older than what was delivered: more is delivered twice, nothing is lost.
    async fn store(&mut self, message: Option<RecordMessage>) {
        let position = lock(&self.cursor).position(message, self.begun.clone());
        if position == self.stored {
            return;
        }
        self.stored.clone_from(&position);
        let Some(position) = position else { return };
        self.counters.next_slot.store(position.next_slot, Ordering::Relaxed);
        let Some(file) = self.file.clone() else { return };
        let path = file.path().display().to_string();
        let stored = tokio::task::spawn_blocking(move || file.store(&position)).await;
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
