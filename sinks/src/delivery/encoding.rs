//! Makes records off the async threads, one block at a time so that no more than one block's text is alive.

use std::sync::Arc;

use sluice_stages::block::Block;
use sluice_stages::node::NodeError;
use tokio::sync::oneshot;

use super::record::{Lines, Recorder};

/// A recorder that is lent to rayon for each block.
pub(crate) struct Encoding {
    /// Away only while rayon has it.
    recorder: Option<Box<Recorder>>,
}

impl Encoding {
    /// Lends `recorder`.
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self { recorder: Some(Box::new(recorder)) }
    }

    /// The recorder, while nobody has it.
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_deref()
    }

    /// The records of `block`.
    ///
    /// # Errors
    /// If the recorder panicked.
    pub(crate) async fn record(&mut self, block: Arc<Block>) -> Result<Lines, NodeError> {
        let lost = || NodeError::Fatal("the recorder panicked".to_owned());
        let mut recorder = self.recorder.take().ok_or_else(lost)?;
        let (sender, receiver) = oneshot::channel();
        rayon::spawn(move || {
            let mut lines = Lines::default();
            recorder.record_block(&block, &mut lines);
            // Without a receiver the task has been aborted, and nobody wants the recorder back.
            sender.send((recorder, lines)).ok();
        });
        let (recorder, lines) = receiver.await.map_err(|_| lost())?;
        self.recorder = Some(recorder);
        Ok(lines)
    }
}
