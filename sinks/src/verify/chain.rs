//! The checks across ranges: the chain of parents and blockhashes, and skips at the edges.

use super::range::{BlockRow, RangeReport};
use super::report::{Fault, Violation};
use sluice_stages::slot::Slot;

/// Follows the chain through ranges that come in order.
#[derive(Default)]
pub(super) struct ChainCheck {
    last_block: Option<BlockRow>,
    /// The skip that ended the range before: its parent and the child that a later range has to have.
    tail: Option<(Slot, Slot)>,
    /// The last slot of the range before.
    covered: Option<Slot>,
    /// What it found.
    pub(super) violations: Vec<Violation>,
}

impl ChainCheck {
    /// Takes the next range.
    pub(super) fn follow(&mut self, range: &RangeReport) {
        if let Some(covered) = self.covered
            && covered + 1 < range.first
        {
            let fault = Fault::MissingSlots(covered + 1, range.first - 1);
            self.violate(&range.blocks_file, None, fault);
            (self.last_block, self.tail) = (None, None);
        }
        self.check_tail(range);
        for block in range.blocks.values() {
            self.check_block(range, block);
            self.last_block = Some(block.clone());
        }
        self.covered = Some(range.last);
        self.tail = range
            .skipped
            .last()
            .filter(|row| row.slot == range.last)
            .map(|row| (row.parent_slot, row.child_slot));
    }

    /// A skip that reaches past the end of a range is proven by the first block after it.
    fn check_tail(&mut self, range: &RangeReport) {
        let Some((parent, child)) = self.tail else { return };
        let first_block = range.blocks.values().next();
        let first_skip = range.skipped.first().filter(|row| row.slot == range.first);
        let holds = match (first_block, first_skip) {
            (_, Some(skip)) => (skip.parent_slot, skip.child_slot) == (parent, child),
            (Some(block), None) => (block.parent_slot, block.slot) == (parent, child),
            (None, None) => false,
        };
        if !holds {
            let reason = format!("no block in {child} names {parent}");
            self.violate(&range.skipped_file, Some(range.first), Fault::UnprovenSkip(reason));
        }
    }

    fn check_block(&mut self, range: &RangeReport, block: &BlockRow) {
        let Some(before) = &self.last_block else { return };
        let fault = if block.parent_slot > before.slot {
            Fault::MissingParent(block.parent_slot)
        } else if block.parent_slot < before.slot {
            Fault::Fork(block.parent_slot, before.slot)
        } else if block.parent_blockhash != before.blockhash {
            Fault::ParentHash(before.slot)
        } else {
            return;
        };
        self.violate(&range.blocks_file, Some(block.slot), fault);
    }

    fn violate(&mut self, file: &str, slot: Option<Slot>, fault: Fault) {
        self.violations.push(Violation { file: file.to_owned(), slot, index: None, fault });
    }
}
