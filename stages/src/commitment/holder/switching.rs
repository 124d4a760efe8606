//! What an adaptive level does beside holding: it is told what passes, looks at the conditions, and changes the level.

use std::time::Duration;

use super::{Commitment, Fate};
use crate::batch::Arrival;
use crate::block::Block;
use crate::commitment::CommitmentOptions;
use crate::commitment::adaptive::{Measure, Switch, Switcher, Thresholds};
use crate::commitment::observer::{Observer, Outcome};
use crate::commitment::tiers::Learnt;
use crate::slot::{Slot, Timestamp};
use crate::stage::{Event, Metric, Output};

/// How often conditions are looked at: a slot takes twice as long.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What an adaptive level needs.
#[derive(Debug)]
pub(super) struct Adaptive {
    observer: Observer,
    switcher: Switcher,
    looked_at: Timestamp,
    /// Switches to a safer level.
    safer: u64,
    /// Switches to a faster one.
    faster: u64,
}

impl Adaptive {
    /// Nothing seen yet.
    pub(super) fn new(options: &CommitmentOptions) -> Self {
        Self {
            observer: Observer::new(options.thresholds.window_slots),
            switcher: Switcher::new(options.level),
            looked_at: Timestamp(0),
            safer: 0,
            faster: 0,
        }
    }

    /// A block came.
    pub(super) fn on_block(&mut self, now: Timestamp, block: &Block) {
        self.observer.on_block(now, block);
    }

    /// It became known which endpoints delivered a slot.
    pub(super) fn on_arrivals(&mut self, arrivals: &[Arrival]) {
        self.observer.on_arrivals(arrivals);
    }

    /// Shows how often the level changed, and how strained each measure is.
    pub(super) fn metrics(&self, thresholds: &Thresholds, show: &mut dyn FnMut(Metric)) {
        show(Metric::new("commitment_switches_total", self.safer).with("direction", "safer"));
        show(Metric::new("commitment_switches_total", self.faster).with("direction", "faster"));
        let conditions = self.observer.conditions(self.looked_at);
        for measure in Measure::ALL {
            if let Some(strain) = measure.strain(&conditions, thresholds) {
                let shown = Metric::new("commitment_strain", 0).with("measure", measure.name());
                show(Metric { value: strain, ..shown });
            }
        }
    }
}

impl Commitment {
    /// Tells the observer what became of slots, as the chain that learns first knows it.
    pub(super) fn observe(&mut self, learnt: &Learnt) {
        let Some(adaptive) = &mut self.adaptive else { return };
        let chain = self.tiers.lowest();
        for &slot in &learnt.lowest.canonical {
            adaptive.observer.on_outcome(slot, Outcome::Canonical);
        }
        for range in &learnt.lowest.passed_over {
            // A link over more slots than are measured is a begin in the middle, or a lie.
            let latest = range.end.saturating_sub(self.options.thresholds.window_slots as u64);
            for slot in range.start.max(latest)..range.end {
                let outcome = if chain.has_link(slot) { Outcome::Forked } else { Outcome::Skipped };
                adaptive.observer.on_outcome(slot, outcome);
            }
        }
    }

    /// Looks at the conditions, and goes to the level that suits them.
    pub(super) fn adapt(&mut self, now: Timestamp, out: &mut Output) {
        let Some(adaptive) = &mut self.adaptive else { return };
        if now.since(adaptive.looked_at) < LOOK_INTERVAL {
            return;
        }
        adaptive.looked_at = now;
        let conditions = adaptive.observer.conditions(now);
        let Some(switch) = adaptive.switcher.step(now, &conditions, &self.options.thresholds) else { return };
        match switch.to > switch.from {
            true => adaptive.safer += 1,
            false => adaptive.faster += 1,
        }
        self.switch(switch, out);
    }

    /// Changes the level: what is held is looked at again with the chain of the new one.
    fn switch(&mut self, switch: Switch, out: &mut Output) {
        self.level = switch.to;
        let reason = switch.reason.to_string();
        out.report(Event::CommitmentSwitched { from: switch.from, level: switch.to, reason });
        let waiting = self.slots.iter().filter(|(_, held)| !held.blocks.is_empty());
        let waiting: Vec<Slot> = waiting.map(|(&slot, _)| slot).collect();
        for slot in waiting {
            if self.chain().canonical(slot).is_some() {
                self.keep_canonical(slot, out);
            } else if self.chain().is_passed_over(slot) {
                let held = self.slots.remove(&slot).unwrap_or_default();
                held.blocks.iter().for_each(|_| self.discard(slot, Fate::Orphaned, out));
            }
            self.ready.insert(slot);
        }
        self.emit(out);
    }
}
