//! How long the machine left this process without a turn, so that a test of speed measures the program, not its neighbours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The beat. What a beat comes late is time that others had.
const BEAT: Duration = Duration::from_millis(10);

/// Counts late beats until it is ended.
pub(super) struct Metronome {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Metronome {
    pub(super) fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let beat = move || {
            let mut late = Duration::ZERO;
            while !until.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(BEAT);
                // Timers are some tenths of a millisecond late by themselves.
                late += began.elapsed().saturating_sub(BEAT + BEAT / 10);
            }
            late
        };
        Self { ended, thread: thread::spawn(beat) }
    }

    /// How late the beats were, taken together.
    pub(super) fn end(self) -> Duration {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only sleeps")
    }
}
