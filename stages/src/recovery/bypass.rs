//! A recovery that is switched off: everything passes, nothing is fetched, and nobody can ask it for a slot.

use crate::batch::Batch;
use crate::slot::Timestamp;
use crate::stage::{Output, Stage};

/// The stage. It holds nothing.
#[derive(Debug)]
pub(super) struct Bypass;

impl Stage for Bypass {
    fn on_batch(&mut self, _: Timestamp, _: usize, batch: Batch, out: &mut Output) {
        out.items.extend(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Gap, Item, Missing};
    use crate::component::{BuildContext, Component, Node};
    use crate::recovery::RecoveryOptions;

    #[test]
    fn a_recovery_that_is_switched_off_passes_everything_and_asks_for_nothing() {
        let options = RecoveryOptions { enabled: false, ..RecoveryOptions::default() };
        let Ok(Node::Stage(mut stage)) = options.build(&mut BuildContext::new()) else {
            panic!("a stage without I/O")
        };
        let mut out = Output::default();
        let gap = Gap { first: 5, last: 9, missing: Missing::Content };
        stage.on_batch(Timestamp(0), 0, vec![Item::Begin(1), Item::Gap(gap)], &mut out);
        stage.on_tick(Timestamp(60_000_000), &mut out);
        assert!(matches!(out.items[..], [Item::Begin(1), Item::Gap(passed)] if passed == gap));
        assert!(out.requests.is_empty() && out.events.is_empty());
    }
}
