//! How many notices a channel tells in a minute.

use std::collections::VecDeque;
use std::time::Duration;

use sluice_stages::slot::Timestamp;

/// What the limit counts over.
const WINDOW: Duration = Duration::from_secs(60);

/// Lets so many notices through in any minute.
#[derive(Debug)]
pub(crate) struct Rate {
    /// `None`: no limit.
    max_per_minute: Option<usize>,
    /// When the latest notices were told, at most as many as the limit.
    told: VecDeque<Timestamp>,
}

impl Rate {
    /// A limit; `None` for none.
    pub(crate) fn new(max_per_minute: Option<u32>) -> Self {
        Self { max_per_minute: max_per_minute.map(|most| most as usize), told: VecDeque::new() }
    }

    /// Notices that it lets through in a minute; 0 for any number.
    pub(crate) fn max_per_minute(&self) -> usize {
        self.max_per_minute.unwrap_or_default()
    }

    /// Whether a notice may be told now.
    pub(crate) fn has_room(&mut self, now: Timestamp) -> bool {
        let Some(most) = self.max_per_minute else { return true };
        while self.told.front().is_some_and(|told| told.after(WINDOW) <= now) {
            self.told.pop_front();
        }
        self.told.len() < most
    }

    /// When there is room for the next one, if there is none now.
    pub(crate) fn room_at(&self) -> Option<Timestamp> {
        self.told.front().map(|told| told.after(WINDOW))
    }

    /// A notice is told now.
    pub(crate) fn count(&mut self, now: Timestamp) {
        if self.max_per_minute.is_some() {
            self.told.push_back(now);
        }
    }
}

/// 16 hexadecimal digits that tell one text from another.
pub(crate) fn fingerprint(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_everything_is_told_and_nothing_is_kept() {
        let mut rate = Rate::new(None);
        for second in 0..1_000 {
            assert!(rate.has_room(Timestamp(second)));
            rate.count(Timestamp(second));
        }
        assert!(rate.told.is_empty());
    }
}
