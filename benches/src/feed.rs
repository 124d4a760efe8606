//! What endpoints send: frames of a generated ledger, encoded once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use sluice_cluster::ledger::FIRST_SLOT;
use sluice_cluster::{Cluster, Config, Emission, Endpoint, GeneratedLedger, Ledger, Profile};
use sluice_stages::frame::{Kind, scan};
use sluice_stages::slot::Slot;
use sluice_stages::yellowstone::{YellowstoneOptions, request};

use crate::tally::Tally;

/// Transactions of a slot, votes included: mainnet's mean in February 2026.
pub const TRANSACTIONS_PER_SLOT: usize = 1_228;
/// Slots of a commit range of the files, and of a row group in them: with the default of 432 slots row groups have 54,
/// too, so that rows cost the same and a short feed fills several files.
pub const COMMIT_SLOTS: u64 = 54;
/// Updates taken from a subscription at once while frames are collected.
const POLL_UPDATES: usize = 4_096;

/// The frames of a few endpoints that play one ledger, and the truth about it.
#[derive(Debug)]
pub struct Feed {
    /// Of each endpoint, in order.
    pub endpoints: Vec<Vec<Bytes>>,
    /// What each slot holds.
    slots: BTreeMap<Slot, Tally>,
}

impl Feed {
    /// Plays a ledger of `slots` slots on `endpoints` endpoints that have no faults.
    ///
    /// # Errors
    /// If an endpoint refuses, or ends its stream early.
    pub fn generate(slots: u64, endpoints: usize) -> Result<Self> {
        let ledger = Ledger::generated(GeneratedLedger {
            slots: Some(slots),
            transactions_per_slot: TRANSACTIONS_PER_SLOT..=TRANSACTIONS_PER_SLOT,
            mainnet_blocks: false,
            forks: false,
            ..GeneratedLedger::default()
        });
        let config = Config { endpoints, faults: Profile::None, mixed_servers: false, ..Config::default() };
        let cluster = Cluster::new(ledger, config);
        let end = cluster.end().context("the ledger has an end")?;
        let frames = cluster.endpoints().iter().map(|endpoint| frames(endpoint, end));
        let endpoints = frames.collect::<Result<_>>()?;
        let truth = cluster.truth();
        let slots = truth.slots().map(|(slot, truth)| {
            let mut tally = Tally::default();
            tally.blocks = u64::from(truth.block().is_some());
            (0..).zip(truth.signatures()).for_each(|(index, one)| tally.add_transaction(slot, index, one));
            (slot, tally)
        });
        let slots = slots.collect();
        Ok(Self { endpoints, slots })
    }

    /// Updates of one endpoint.
    pub fn updates(&self) -> u64 {
        self.endpoints.first().map_or(0, Vec::len) as u64
    }

    /// Bytes of one endpoint's updates.
    pub fn bytes(&self) -> u64 {
        self.endpoints.first().map_or(0, |frames| frames.iter().map(Bytes::len).sum::<usize>()) as u64
    }

    /// The first slot.
    pub fn first_slot() -> Slot {
        FIRST_SLOT
    }

    /// What is in all slots.
    pub fn whole(&self) -> Tally {
        sum(self.slots.values())
    }

    /// What is in the slots of ranges that can be proven to be whole: those that a block lies beyond.
    pub fn in_files(&self) -> Tally {
        let last = self.slots.last_key_value().map_or(0, |(&slot, _)| slot);
        sum(self.slots.range(..last - last % COMMIT_SLOTS).map(|(_, tally)| tally))
    }
}

fn sum<'a>(tallies: impl Iterator<Item = &'a Tally>) -> Tally {
    tallies.fold(Tally::default(), |mut sum, one| {
        sum.add(*one);
        sum
    })
}

/// All that an endpoint sends to a subscriber who is there from the start, without its pings.
fn frames(endpoint: &std::sync::Arc<Endpoint>, end: Duration) -> Result<Vec<Bytes>> {
    let request = request::subscribe(&YellowstoneOptions::new("http://127.0.0.1"), None);
    let opened = endpoint.subscribe(Duration::ZERO, &request, None);
    let mut subscription = opened.map_err(|refusal| anyhow::anyhow!("refused: {refusal:?}"))?;
    let mut frames = Vec::new();
    loop {
        let emissions = subscription.poll(end, POLL_UPDATES);
        if emissions.is_empty() {
            return Ok(frames);
        }
        for emission in emissions {
            let Emission::Frame(frame) = emission else { bail!("a stream without faults has an end") };
            if scan(&frame).context("the cluster's own frame")?.kind != Kind::Ping {
                frames.push(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_sends_every_transaction_once() {
        let feed = Feed::generate(2, 2).expect("a perfect cluster");
        for frames in &feed.endpoints {
            let mut seen = Tally::default();
            for frame in frames {
                let header = scan(frame).expect("valid");
                match header.kind {
                    Kind::Transaction => {
                        let signature = header.key.slice(frame);
                        seen.add_transaction(header.slot, u64::from(header.index), signature);
                    }
                    Kind::BlockMeta => seen.add_block(),
                    _ => {}
                }
            }
            assert_eq!(seen, feed.whole());
        }
        assert_eq!(feed.in_files(), Tally::default());
    }

    #[test]
    fn the_last_slot_only_proves_the_range_before_it() {
        let feed = Feed::generate(COMMIT_SLOTS + 1, 1).expect("a perfect cluster");
        assert_eq!(feed.in_files().blocks, COMMIT_SLOTS);
        assert_eq!(feed.whole().blocks, COMMIT_SLOTS + 1);
    }
}
