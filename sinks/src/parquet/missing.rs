//! What a folder lacks of a span: stretches rather than ranges, since a span may be far longer than anything that is there.

use std::collections::BTreeSet;

use sluice_stages::backfill::SlotRange;
use sluice_stages::slot::Slot;

use super::range::CommitRange;

/// The ranges of a span that are not there; those that touch are one stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    commit_slots: u64,
    /// The span, rounded up to whole ranges.
    span: SlotRange,
    /// Rising; each begins and ends with a range.
    stretches: Vec<SlotRange>,
}

impl Missing {
    /// What lies between `first` and `last`, their own ranges included, and is not among the `committed` ranges.
    pub(super) fn between(first: Slot, last: Slot, commit_slots: u64, committed: &BTreeSet<Slot>) -> Self {
        let range = |slot| CommitRange::containing(slot, commit_slots);
        let span = SlotRange { first: range(first).first, last: range(last).last };
        let mut stretches = Vec::new();
        let mut next = Some(span.first);
        for there in committed.range(span.first..=span.last).map(|&slot| range(slot)) {
            if let Some(first) = next.filter(|&next| next < there.first) {
                stretches.push(SlotRange { first, last: there.first - 1 });
            }
            next = there.last.checked_add(1);
        }
        if let Some(first) = next.filter(|&next| next <= span.last) {
            stretches.push(SlotRange { first, last: span.last });
        }
        Self { commit_slots, span, stretches }
    }

    /// The stretches, rising.
    pub fn stretches(&self) -> &[SlotRange] {
        &self.stretches
    }

    /// Whether all of the span is there.
    pub fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Number of ranges that are not there.
    pub fn ranges(&self) -> u64 {
        self.stretches.iter().map(|stretch| self.ranges_of(*stretch)).sum()
    }

    /// Number of ranges of the span that are there.
    pub fn there(&self) -> u64 {
        self.ranges_of(self.span).saturating_sub(self.ranges())
    }

    /// The range of `slot`.
    pub fn range_of(&self, slot: Slot) -> CommitRange {
        CommitRange::containing(slot, self.commit_slots)
    }

    fn ranges_of(&self, stretch: SlotRange) -> u64 {
        stretch.slots().div_ceil(self.commit_slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(first: Slot, last: Slot, committed: &[Slot]) -> Missing {
        Missing::between(first, last, 10, &committed.iter().copied().collect())
    }

    fn ends(missing: &Missing) -> Vec<(Slot, Slot)> {
        missing.stretches().iter().map(|stretch| (stretch.first, stretch.last)).collect()
    }

    #[test]
    fn ranges_that_touch_are_one_stretch_and_are_counted() {
        let some = missing(15, 75, &[0, 30, 40, 70, 90]);
        assert_eq!(ends(&some), [(10, 29), (50, 69)]);
        assert_eq!((some.ranges(), some.there()), (4, 3));
        assert!(missing(30, 49, &[30, 40]).is_empty());
        assert_eq!(ends(&missing(5, 5, &[])), [(0, 9)]);
    }

    #[test]
    fn a_span_of_all_slots_there_are_is_one_stretch() {
        let all = missing(0, u64::MAX, &[]);
        assert_eq!(ends(&all), [(0, u64::MAX)]);
        assert_eq!(all.there(), 0);
        let end = missing(u64::MAX, u64::MAX, &[u64::MAX - u64::MAX % 10]);
        assert!(end.is_empty(), "{end:?}");
    }
}
