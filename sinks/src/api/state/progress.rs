//! How far the chain's tip has come, and since when it stands still.

use std::time::Duration;

use sluice_stages::slot::{Slot, Timestamp};

/// The tip.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::api) struct Progress {
    tip: Slot,
    since: Option<Timestamp>,
}

impl Progress {
    /// The tip is `tip` now.
    pub(in crate::api) fn observe(&mut self, now: Timestamp, tip: Slot) {
        if self.since.is_none() || tip > self.tip {
            (self.tip, self.since) = (tip, Some(now));
        }
    }

    /// The tip, and how long it has been there.
    pub(in crate::api) fn still_for(&self, now: Timestamp) -> (Slot, Duration) {
        (self.tip, self.since.map_or(Duration::ZERO, |since| now.since(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tip_that_moves_does_not_stand_still() {
        let mut progress = Progress::default();
        progress.observe(Timestamp(1_000_000), 10);
        progress.observe(Timestamp(2_000_000), 10);
        assert_eq!(progress.still_for(Timestamp(4_000_000)), (10, Duration::from_secs(3)));
        progress.observe(Timestamp(4_000_000), 11);
        assert_eq!(progress.still_for(Timestamp(4_000_000)), (11, Duration::ZERO));
    }
}
