//! What endpoints send: frames of a generated ledger, encoded once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use sluice_cluster::ledger::{FIRST_SLOT, Shape};
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

/// The frames of one endpoint, and the truth about the ledger that it plays.
#[derive(Debug)]
pub struct Feed {
    /// In the order in which they are sent. Every endpoint of a comparison sends these very frames: real ones differ in
    /// their bank ids, which mean nothing between endpoints.
    pub frames: Arc<[Bytes]>,
    /// What each slot holds.
    slots: BTreeMap<Slot, Tally>,
}

impl Feed {
    /// Plays a ledger of `slots` slots on an endpoint that has no faults.
    ///
    /// # Errors
    /// If the endpoint refuses, or ends its stream early.
    pub fn generate(slots: u64) -> Result<Self> {
        let options = YellowstoneOptions::new("http://127.0.0.1");
        Self::play(slots, Shape::default(), &options)
    }

    /// The same with a chain of hashes of this shape, and with what `options` subscribe to.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn play(slots: u64, shape: Shape, options: &YellowstoneOptions) -> Result<Self> {
        let ledger = Ledger::generated(GeneratedLedger {
            slots: Some(slots),
            transactions_per_slot: TRANSACTIONS_PER_SLOT..=TRANSACTIONS_PER_SLOT,
            mainnet_blocks: false,
            forks: false,
            shape,
            ..GeneratedLedger::default()
        });
        let config =
            Config { endpoints: 1, faults: Profile::None, mixed_servers: false, ..Config::default() };
        let cluster = Cluster::new(ledger, config);
        let end = cluster.end().context("the ledger has an end")?;
        let endpoint = cluster.endpoints().first().context("the cluster has an endpoint")?;
        let frames = Arc::from(frames(endpoint, options, end)?);
        let truth = cluster.truth();
        let slots = truth.slots().map(|(slot, truth)| {
            let mut tally = Tally { blocks: u64::from(truth.block().is_some()), ..Tally::default() };
            (0..).zip(truth.signatures()).for_each(|(index, one)| tally.add_transaction(slot, index, one));
            (slot, tally)
        });
        Ok(Self { frames, slots: slots.collect() })
    }

    /// When each frame is sent by a cluster whose slots take `slot_time`: those of a slot evenly within it, and what is
    /// about an older slot when it came.
    pub fn due(&self, slot_time: Duration) -> Arc<[Duration]> {
        let mut tip = 0;
        let slot_of = |frame: &Bytes| {
            tip = scan(frame).map_or(tip, |header| header.slot).max(tip);
            tip
        };
        let tips: Vec<Slot> = self.frames.iter().map(slot_of).collect();
        let first = tips.first().copied().unwrap_or_default();
        let of_one_slot = tips.chunk_by(|one, other| one == other);
        let due = of_one_slot.flat_map(|frames| {
            let begin = slot_time * (frames[0] - first) as u32;
            (0..frames.len()).map(move |at| begin + slot_time.mul_f64(at as f64 / frames.len() as f64))
        });
        due.collect()
    }

    /// Number of updates.
    pub fn updates(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Bytes of the updates.
    pub fn bytes(&self) -> u64 {
        self.frames.iter().map(|frame| frame.len() as u64).sum()
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
fn frames(endpoint: &Arc<Endpoint>, options: &YellowstoneOptions, end: Duration) -> Result<Vec<Bytes>> {
    let request = request::subscribe(options, None);
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
    fn every_transaction_is_sent_once() {
        let feed = Feed::generate(2).expect("a perfect cluster");
        let mut sent = Tally::default();
        for frame in feed.frames.iter() {
            let header = scan(frame).expect("valid");
            match header.kind {
                Kind::Transaction => {
                    sent.add_transaction(header.slot, u64::from(header.index), header.key.slice(frame));
                }
                Kind::BlockMeta => sent.add_block(),
                _ => {}
            }
        }
        assert_eq!(sent, feed.whole());
        assert_eq!(feed.in_files(), Tally::default());
    }

    #[test]
    fn a_paced_feed_takes_a_slots_time_for_each_slot_and_keeps_its_order() {
        let feed = Feed::generate(3).expect("a perfect cluster");
        let due = feed.due(Duration::from_millis(400));
        assert_eq!(due.len() as u64, feed.updates());
        assert!(due.is_sorted());
        assert!(
            due[due.len() - 1] < Duration::from_millis(1_200)
                && due[due.len() - 1] > Duration::from_millis(800)
        );
    }

    #[test]
    fn the_last_slot_only_proves_the_range_before_it() {
        let feed = Feed::generate(COMMIT_SLOTS + 1).expect("a perfect cluster");
        assert_eq!(feed.in_files().blocks, COMMIT_SLOTS);
        assert_eq!(feed.whole().blocks, COMMIT_SLOTS + 1);
    }
}
