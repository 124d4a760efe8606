//! Measures what passes the stage: [`Conditions`] out of blocks, parent links and arrivals.
//!
//! Bounded: each window holds as many slots as the thresholds say, and one name for each endpoint.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::adaptive::Conditions;
use crate::batch::{Arrival, Update};
use crate::block::{Block, Way};
use crate::slot::{Slot, Timestamp};
use crate::wire::Reader;

/// Fewer slots than these say nothing.
const FEWEST_SLOTS: usize = 16;

/// Of a hundred latencies, how many are at most the one that is taken.
const LATENCY_PERCENT: usize = 90;

/// The message that a transaction's content is, for errors that nobody sees.
const TRANSACTION: &str = "SubscribeUpdateTransactionInfo";

/// The field of it that says whether it is a vote.
const IS_VOTE: u32 = 2;

/// A slot that came live.
#[derive(Debug, Clone, Copy)]
struct Seen {
    slot: Slot,
    at: Timestamp,
    latency: Duration,
    transactions: u64,
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Canonical,
    /// Seen, and passed over.
    Forked,
    /// Passed over, and never seen.
    Skipped,
}

/// The windows.
#[derive(Debug)]
pub(super) struct Observer {
    window: usize,
    seen: VecDeque<Seen>,
    outcomes: BTreeMap<Slot, Outcome>,
    /// Of each slot, the endpoints that delivered it whole.
    arrivals: VecDeque<Vec<Arc<str>>>,
    endpoints: BTreeSet<Arc<str>>,
}

impl Observer {
    /// Nothing seen yet. `window` slots are measured together.
    pub(super) fn new(window: usize) -> Self {
        Self {
            window,
            seen: VecDeque::new(),
            outcomes: BTreeMap::new(),
            arrivals: VecDeque::new(),
            endpoints: BTreeSet::new(),
        }
    }

    /// A block came. Those that were fetched tell nothing about now.
    pub(super) fn on_block(&mut self, now: Timestamp, block: &Block) {
        let is_newer = self.seen.back().is_none_or(|last| last.slot < block.slot());
        if block.way != Way::Live || !is_newer {
            return;
        }
        self.seen.push_back(Seen {
            slot: block.slot(),
            at: now,
            latency: now.since(block.meta_update.received_at),
            transactions: transactions(block),
        });
        trim(&mut self.seen, self.window);
    }

    /// It became known what came of a slot.
    pub(super) fn on_outcome(&mut self, slot: Slot, outcome: Outcome) {
        self.outcomes.insert(slot, outcome);
        while self.outcomes.len() > self.window {
            self.outcomes.pop_first();
        }
    }

    /// It became known which endpoints delivered a slot.
    pub(super) fn on_arrivals(&mut self, arrivals: &[Arrival]) {
        let whole = arrivals.iter().filter(|arrival| arrival.completed_at.is_some());
        let mut endpoints: Vec<Arc<str>> = whole.map(|arrival| Arc::clone(&arrival.endpoint)).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        self.endpoints.extend(arrivals.iter().map(|arrival| Arc::clone(&arrival.endpoint)));
        self.arrivals.push_back(endpoints);
        trim(&mut self.arrivals, self.window);
    }

    /// What is known now.
    pub(super) fn conditions(&self, now: Timestamp) -> Conditions {
        let live = self.live(now);
        Conditions {
            latency: live.map(|_| self.latency()),
            throughput: live.map(|(_, elapsed)| {
                let counted = self.seen.iter().skip(1).map(|seen| seen.transactions).sum::<u64>();
                counted as f64 / elapsed.as_secs_f64()
            }),
            fork_rate: self.rate(Outcome::Forked),
            skip_rate: self.rate(Outcome::Skipped),
            slot_time: live.map(|(slots, elapsed)| elapsed / slots),
            healthy_endpoints: self.healthy_endpoints(),
        }
    }

    /// The slots since the first of the window, skipped ones included, and the time since.
    fn live(&self, now: Timestamp) -> Option<(u32, Duration)> {
        let (first, last) = (self.seen.front()?, self.seen.back()?);
        let elapsed = now.since(first.at);
        let slots = u32::try_from(last.slot - first.slot).ok()?;
        (self.seen.len() >= FEWEST_SLOTS && slots > 0 && !elapsed.is_zero()).then_some((slots, elapsed))
    }

    fn latency(&self) -> Duration {
        let mut latencies: Vec<Duration> = self.seen.iter().map(|seen| seen.latency).collect();
        latencies.sort_unstable();
        let rank = (latencies.len() * LATENCY_PERCENT).div_ceil(100);
        latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn rate(&self, outcome: Outcome) -> Option<f64> {
        let count = self.outcomes.values().filter(|one| **one == outcome).count();
        (self.outcomes.len() >= FEWEST_SLOTS).then(|| count as f64 / self.outcomes.len() as f64)
    }

    /// The share of all endpoints ever seen that delivered half of the latest slots.
    fn healthy_endpoints(&self) -> Option<f64> {
        let latest: Vec<&Vec<Arc<str>>> = self.arrivals.iter().rev().take(FEWEST_SLOTS).collect();
        if latest.len() < FEWEST_SLOTS || self.endpoints.is_empty() {
            return None;
        }
        let delivers = |endpoint: &&Arc<str>| {
            latest.iter().filter(|whole| whole.binary_search(endpoint).is_ok()).count() * 2 >= latest.len()
        };
        Some(self.endpoints.iter().filter(delivers).count() as f64 / self.endpoints.len() as f64)
    }
}

fn trim<T>(window: &mut VecDeque<T>, most: usize) {
    while window.len() > most {
        window.pop_front();
    }
}

/// The transactions of a block, votes aside; all that were executed if they were not subscribed to.
fn transactions(block: &Block) -> u64 {
    match block.transactions.updates() {
        Some(updates) => updates.iter().filter(|update| !is_vote(update)).count() as u64,
        None => u64::from(block.meta.executed_transaction_count),
    }
}

/// The field stands second of a transaction's, so this reads no further than its signature.
fn is_vote(update: &Update) -> bool {
    let mut fields = Reader::new(TRANSACTION, update.frame.content());
    while let Ok(Some(field)) = fields.next_field() {
        if field.number == IS_VOTE {
            return field.bool().unwrap_or(false);
        }
        if field.number > IS_VOTE {
            break;
        }
    }
    false
}

#[cfg(test)]
mod tests;
