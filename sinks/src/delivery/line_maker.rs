//! Turns items into lines, for the sinks that write them: blocks and samples into records, notices into theirs.

use std::borrow::Cow;

use sluice_stages::alert::{AlertItem, Notice};
use sluice_stages::batch::Item;
use sluice_stages::node::NodeError;

use super::FilterOptions;
use super::alert_record::{NoticeRecord, Teller};
use super::encoding::Encoding;
use super::filters::Filters;
use super::record::{Lines, RecordKind, Recorder};

/// Makes lines of the kinds that are asked for.
pub(crate) struct LineMaker {
    encoding: Encoding,
    filters: Filters,
    alerts: bool,
    teller: Teller,
}

impl LineMaker {
    /// A maker of these kinds, cut down by `filters`.
    pub(crate) fn new(kinds: &[RecordKind], filters: &FilterOptions, teller: Teller) -> Self {
        let filters = Filters::new(filters);
        let alerts = kinds.contains(&RecordKind::Alerts);
        Self { encoding: Encoding::new(Recorder::new(kinds, filters.clone())), filters, alerts, teller }
    }

    /// Whether blocks give any lines.
    pub(crate) fn takes_blocks(&self) -> bool {
        self.encoding.recorder().is_some_and(Recorder::makes_any_of_blocks)
    }

    /// What is wanted of the notice that `item` is, if it is one.
    pub(crate) fn notice<'a>(&self, item: &'a Item) -> Option<Cow<'a, Notice>> {
        let Item::Alert(alert) = item else { return None };
        let AlertItem::Notice(notice) = &**alert else { return None };
        self.filters.narrow(notice).filter(|_| self.alerts)
    }

    /// The lines of `item`.
    ///
    /// # Errors
    /// If the recorder panicked.
    pub(crate) async fn lines(&mut self, item: &Item) -> Result<Lines, NodeError> {
        let mut lines = Lines::default();
        match item {
            Item::Block(block) if self.takes_blocks() => return self.encoding.record(block.clone()).await,
            Item::Sample(sample) => {
                if let Some(recorder) = self.encoding.recorder() {
                    recorder.record_sample(sample, &mut lines);
                }
            }
            Item::Alert(_) => {
                let notice = self.notice(item);
                let record = notice.as_deref().and_then(|notice| NoticeRecord::new(notice, &self.teller));
                if let Some(record) = record {
                    lines.push(&record);
                }
            }
            _ => {}
        }
        Ok(lines)
    }
}
