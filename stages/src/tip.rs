//! The tip of the chain, as far as it can be believed.
//!
//! What is far behind the tip is forgotten, so a single garbled slot number must not move it. A slot far ahead counts only
//! once several updates in a row agree; that is what the first seconds after a long outage look like.

use crate::slot::Slot;

/// Slots ahead of the tip that are believed at once: a minute of mainnet, and more than any fork is long.
pub const PLAUSIBLE_JUMP_SLOTS: u64 = 150;
/// Updates in a row that have to agree on a larger jump. One slot has hundreds.
const WITNESSES: u32 = 16;

/// The highest slot that is believed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tip {
    slot: Option<Slot>,
    suspect: Slot,
    witnesses: u32,
}

impl Tip {
    /// The highest slot that is believed, 0 before the first.
    pub fn slot(&self) -> Slot {
        self.slot.unwrap_or(0)
    }

    /// Takes note of an update for `slot`; says whether it is in the believable range. Before the tip is known all is.
    #[inline]
    pub fn observe(&mut self, slot: Slot) -> bool {
        match self.slot {
            Some(tip) if slot <= tip => true,
            Some(tip) if slot - tip <= PLAUSIBLE_JUMP_SLOTS => {
                self.slot = Some(slot);
                true
            }
            _ => self.observe_jump(slot),
        }
    }

    #[cold]
    fn observe_jump(&mut self, slot: Slot) -> bool {
        if slot.abs_diff(self.suspect) <= PLAUSIBLE_JUMP_SLOTS {
            self.witnesses += 1;
        } else {
            (self.suspect, self.witnesses) = (slot, 1);
        }
        // The very first slot has nothing to contradict it but the next ones, so it needs fewer.
        let believed = self.witnesses >= if self.slot.is_some() { WITNESSES } else { 2 };
        let first = self.slot.is_none();
        if believed {
            self.slot = Some(slot.max(self.suspect));
        }
        believed || first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_garbled_slot_does_not_move_the_tip() {
        let mut tip = Tip::default();
        tip.observe(100);
        tip.observe(101);
        assert!(!tip.observe(u64::MAX));
        assert!(tip.observe(102));
        assert_eq!(tip.slot(), 102);
    }

    #[test]
    fn the_tip_follows_after_an_outage() {
        let mut tip = Tip::default();
        tip.observe(100);
        tip.observe(101);
        for _ in 0..WITNESSES {
            tip.observe(50_000);
        }
        assert_eq!(tip.slot(), 50_000);
    }
}
