//! How far the files behind a spool are durable: what was committed of each sink, and up to where without a hole. Pure.
//!
//! Ranges may be committed in any order; the watermark of a sink is the end of those that follow its beginning without a
//! break, and that of the pipeline is the lowest of all sinks. A sink counts by its `blocks`: entries and accounts of a
//! range are durable before its blocks are, or are given up.

use std::collections::BTreeMap;

use crate::component::Start;
use crate::slot::Slot;
use crate::stage::Event;

/// The dataset whose files say that a range is durable.
const DATASET: &str = "blocks";

/// What was committed.
#[derive(Debug)]
pub(crate) struct Commits {
    start: Start,
    floor: Option<Slot>,
    /// For each sink that commits: where what it committed ends, and ranges beyond that, by their first slot.
    sinks: BTreeMap<String, Sink>,
}

#[derive(Debug, Default)]
struct Sink {
    below: Option<Slot>,
    beyond: BTreeMap<Slot, Slot>,
}

impl Commits {
    /// Nothing yet, of these sinks, which have everything before `start`.
    pub(crate) fn new(start: Start, sinks: impl IntoIterator<Item = String>) -> Self {
        let floor = match start {
            Start::At(slot) => Some(slot),
            Start::TipRoundedDown(_) | Start::Tip => None,
        };
        let sinks = sinks.into_iter().map(|name| (name, Sink::default())).collect();
        Self { start, floor, sinks }
    }

    /// The first block that comes decides where the pipeline begins, if that was open.
    pub(crate) fn on_first_block(&mut self, slot: Slot) {
        self.floor.get_or_insert(self.start.floor(slot));
    }

    /// Takes note of what a node reports.
    pub(crate) fn on_event(&mut self, node: &str, event: &Event) {
        let Event::Committed { dataset: DATASET, first, last, .. } = event else { return };
        let (Some(floor), Some(sink)) = (self.floor, self.sinks.get_mut(node)) else { return };
        sink.beyond.insert(*first, *last);
        let mut below = sink.below.unwrap_or(floor);
        while let Some(entry) = sink.beyond.first_entry().filter(|entry| *entry.key() <= below) {
            below = below.max(entry.remove().saturating_add(1));
        }
        sink.below = Some(below);
    }

    /// Everything below this slot is durable in every sink; `None` if that can't be said.
    pub(crate) fn watermark(&self) -> Option<Slot> {
        let floor = self.floor?;
        self.sinks.values().map(|sink| sink.below.unwrap_or(floor)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(first: Slot, last: Slot) -> Event {
        Event::Committed { dataset: "blocks", first, last, rows: 1 }
    }

    fn commits(start: Start, sinks: &[&str]) -> Commits {
        Commits::new(start, sinks.iter().map(|&name| name.to_owned()))
    }

    #[test]
    fn a_hole_holds_the_watermark_until_it_is_filled() {
        let mut commits = commits(Start::At(100), &["files"]);
        assert_eq!(commits.watermark(), Some(100));
        commits.on_event("files", &committed(110, 119));
        commits.on_event("files", &committed(120, 129));
        assert_eq!(commits.watermark(), Some(100));
        commits.on_event("files", &committed(100, 109));
        assert_eq!(commits.watermark(), Some(130));
    }

    #[test]
    fn the_slowest_sink_decides() {
        let mut commits = commits(Start::At(100), &["one", "other"]);
        commits.on_event("one", &committed(100, 109));
        assert_eq!(commits.watermark(), Some(100));
        commits.on_event("other", &committed(100, 104));
        assert_eq!(commits.watermark(), Some(105));
    }

    #[test]
    fn other_datasets_and_other_nodes_say_nothing() {
        let mut commits = commits(Start::At(100), &["files"]);
        commits.on_event("files", &Event::Committed { dataset: "entries", first: 100, last: 109, rows: 1 });
        commits.on_event("webhook", &committed(100, 109));
        assert_eq!(commits.watermark(), Some(100));
    }

    #[test]
    fn a_pipeline_that_begins_at_the_tip_begins_where_the_ledger_does() {
        let mut commits = commits(Start::TipRoundedDown(10), &["files"]);
        assert_eq!(commits.watermark(), None);
        commits.on_first_block(105);
        commits.on_first_block(117);
        assert_eq!(commits.watermark(), Some(100));
    }

    #[test]
    fn without_a_sink_that_commits_nothing_is_durable() {
        assert_eq!(commits(Start::At(100), &[]).watermark(), None);
    }
}
