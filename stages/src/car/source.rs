//! The task around the reader: feeds it, sends its blocks on, and asks RPC for the two that prove the archive's ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::accumulator::{Accumulator, CarError, RawBlock};
use super::convert;
use super::feed::Feed;
use super::root::CarRoot;
use super::section::Sections;
use crate::backfill::{BlockMaker, SlotRange};
use crate::batch::Item;
use crate::block::Block;
use crate::budget::Budget;
use crate::edge::{Closed, Outbox};
use crate::node::{Clock, NodeContext, NodeError, Source};
use crate::recovery::pool::{RpcList, RpcPool};
use crate::recovery::rpc::FetchError;
use crate::slot::{Commitment, Hash, Slot};
use crate::stage::{Event, Metric};

/// Slots behind the archive's last one in which a block is looked for.
const BEYOND_SLOTS: u64 = 1_000;
/// Tries of a block at an end of the archive.
const MAX_TRIES: u32 = 10;
/// The wait between two of them.
const TRY_INTERVAL: Duration = Duration::from_secs(1);

/// The source.
pub(super) struct Car {
    feed: Feed,
    root: Option<CarRoot>,
    rpc: Option<RpcList>,
    ranges: Vec<SlotRange>,
    maker: BlockMaker,
}

impl Car {
    pub(super) fn new(
        feed: Feed,
        root: Option<CarRoot>,
        rpc: Option<RpcList>,
        ranges: Vec<SlotRange>,
        maker: BlockMaker,
    ) -> Self {
        Self { feed, root, rpc, ranges, maker }
    }
}

impl Source for Car {
    fn run(
        self: Box<Self>,
        outbox: Outbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move {
            let stop = context.stop.clone();
            let run = Run::try_new(*self, outbox, context)?;
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                result = run.run() => result,
            }
        })
    }
}

/// What comes of a chunk.
enum Found {
    Block(Arc<Block>),
    /// The first block, which does not say what it follows.
    First(Slot),
    /// A block of which something is missing or can't be read.
    Unreadable(Slot, String),
}

/// The part that works beside the async threads.
struct Reader {
    sections: Sections,
    /// The published root, until the file's was held against it.
    wanted_root: Option<CarRoot>,
    accumulator: Accumulator,
    maker: BlockMaker,
    ranges: Vec<SlotRange>,
    budget: Arc<Budget>,
    clock: Clock,
    tail: Option<(Slot, Hash)>,
}

impl Reader {
    fn take(&mut self, chunk: &[u8]) -> Result<Vec<Found>, CarError> {
        self.sections.push(chunk);
        let mut found = Vec::new();
        while let Some(section) = self.sections.next()? {
            self.check_root()?;
            if let Some(raw) = self.accumulator.accept(section)? {
                found.extend(self.found(&raw)?);
            }
        }
        Ok(found)
    }

    fn check_root(&mut self) -> Result<(), CarError> {
        let found = self.sections.root().map(CarRoot::of);
        match (self.wanted_root.take(), found) {
            (Some(wanted), Some(found)) if wanted != found => Err(CarError::Root { found, wanted }),
            _ => Ok(()),
        }
    }

    fn found(&mut self, raw: &RawBlock) -> Result<Option<Found>, CarError> {
        let (slot, parent) = (raw.node.slot, raw.node.parent_slot);
        self.tail = Some((slot, raw.blockhash));
        if !is_wanted(&self.ranges, slot, parent) {
            return Ok(None);
        }
        let Some(parent_blockhash) = raw.parent_blockhash else { return Ok(Some(Found::First(slot))) };
        let frames = convert::frames(raw, parent_blockhash);
        let block = frames.and_then(|frames| self.maker.make(slot, frames, self.clock.now(), &self.budget));
        Ok(Some(match block {
            Ok(block) => Found::Block(Arc::new(block)),
            Err(what) => Found::Unreadable(slot, what),
        }))
    }

    fn end(&self) -> Result<(), CarError> {
        self.sections.end()?;
        self.accumulator.end(self.sections.root())
    }
}

/// Whether a block belongs to a range, or proves its end or slots in it to be skipped.
fn is_wanted(ranges: &[SlotRange], slot: Slot, parent: Slot) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.first <= slot && parent <= range.last)
}

#[derive(Debug, Default)]
struct Counters {
    bytes: u64,
    blocks: u64,
    slots: u64,
    holes: u64,
}

struct Run {
    feed: Feed,
    rpc: Option<RpcPool>,
    /// Away only while a blocking thread has it.
    reader: Option<Box<Reader>>,
    outbox: Outbox,
    context: NodeContext,
    counters: Counters,
    last_slot: Option<Slot>,
    begin: Option<Slot>,
}

impl Run {
    fn try_new(car: Car, outbox: Outbox, context: NodeContext) -> Result<Self, NodeError> {
        let Car { feed, root, rpc, ranges, maker } = car;
        let rpc = rpc.map(|options| RpcPool::try_new(&options, context.clock));
        let rpc = rpc.transpose().map_err(|error| NodeError::Fatal(error.to_string()))?;
        let begin = ranges.first().map(|range| range.first);
        let reader = Reader {
            sections: Sections::default(),
            wanted_root: root,
            accumulator: Accumulator::default(),
            maker,
            ranges,
            budget: Arc::clone(&context.budget),
            clock: context.clock,
            tail: None,
        };
        let (reader, counters) = (Some(Box::new(reader)), Counters::default());
        Ok(Self { feed, rpc, reader, outbox, context, counters, last_slot: None, begin })
    }

    async fn run(mut self) -> Result<(), NodeError> {
        while let Some(chunk) = self.feed.next().await.map_err(fatal)? {
            self.counters.bytes += chunk.len() as u64;
            for found in self.read(chunk).await? {
                match found {
                    Found::Block(block) => self.send(block).await?,
                    Found::First(slot) => self.on_first(slot).await?,
                    Found::Unreadable(slot, what) => self.hole(slot, format!("in the archive: {what}")),
                }
            }
            self.show_metrics();
        }
        let reader = self.reader.take().ok_or_else(panicked)?;
        reader.end().map_err(fatal)?;
        if let Some((slot, blockhash)) = reader.tail
            && is_wanted(&reader.ranges, slot + 1, slot)
        {
            self.on_last(&reader, slot, blockhash).await?;
        }
        self.show_metrics();
        Ok(())
    }

    async fn read(&mut self, chunk: Bytes) -> Result<Vec<Found>, NodeError> {
        let mut reader = self.reader.take().ok_or_else(panicked)?;
        let read = tokio::task::spawn_blocking(move || {
            let found = reader.take(&chunk);
            (reader, found)
        });
        let (reader, found) = read.await.map_err(|_| panicked())?;
        self.reader = Some(reader);
        found.map_err(fatal)
    }

    async fn send(&mut self, block: Arc<Block>) -> Result<(), Closed> {
        let slot = block.slot();
        if self.last_slot.is_none() {
            self.outbox.send(vec![Item::Begin(self.begin.unwrap_or(slot))]).await?;
        }
        let before = self.last_slot.replace(slot).unwrap_or(slot.saturating_sub(1));
        self.counters.blocks += 1;
        self.counters.slots += slot.saturating_sub(before);
        self.outbox.send(vec![Item::Block(block)]).await
    }

    /// The archive does not hold the blockhash of its first block's parent.
    async fn on_first(&mut self, slot: Slot) -> Result<(), NodeError> {
        let maker = self.maker()?;
        match self.fetch(&maker, slot).await {
            Ok(block) => Ok(self.send(Arc::new(block)).await?),
            Err(reason) => {
                self.hole(slot, format!("the archive does not hold its parent's blockhash, and {reason}"));
                Ok(())
            }
        }
    }

    /// The block behind the last one proves that nothing lies between.
    async fn on_last(&mut self, reader: &Reader, slot: Slot, blockhash: Hash) -> Result<(), NodeError> {
        match self.successor(&reader.maker, slot, blockhash).await {
            Ok(block) => Ok(self.send(Arc::new(block)).await?),
            Err(reason) => {
                self.hole(slot, format!("what follows the archive's last block is not in it, and {reason}"));
                Ok(())
            }
        }
    }

    async fn successor(&self, maker: &BlockMaker, slot: Slot, blockhash: Hash) -> Result<Block, String> {
        let rpc = self.rpc.as_ref().ok_or("no rpc is configured")?;
        let (first, last) = (slot + 1, slot.saturating_add(BEYOND_SLOTS));
        let mut tries = Tries::default();
        let slots = loop {
            match rpc.blocks(first, last, Commitment::Finalized).await {
                Ok(slots) => break slots,
                Err(error) => tries.after(error).await?,
            }
        };
        let mut next = *slots.first().ok_or("RPC has no final block behind it")?;
        // Lists may leave slots out; parents can't.
        for _ in first..=last {
            let block = self.fetch(maker, next).await?;
            let meta = &block.meta;
            match meta.parent_slot {
                parent if parent == slot && meta.parent_blockhash == blockhash => return Ok(block),
                parent if (first..next).contains(&parent) => next = parent,
                parent => return Err(format!("RPC's slot {next} follows slot {parent} of another chain")),
            }
        }
        Err("RPC leads nowhere".to_owned())
    }

    async fn fetch(&self, maker: &BlockMaker, slot: Slot) -> Result<Block, String> {
        let rpc = self.rpc.as_ref().ok_or("no rpc is configured")?;
        let mut tries = Tries::default();
        let fetched = loop {
            match rpc.block(slot, Commitment::Finalized).await {
                Ok(fetched) => break fetched,
                Err(error) => tries.after(error).await?,
            }
        };
        maker.make(slot, fetched.frames, self.context.clock.now(), &self.context.budget)
    }

    fn maker(&self) -> Result<BlockMaker, NodeError> {
        self.reader.as_ref().map(|reader| reader.maker.clone()).ok_or_else(panicked)
    }

    fn hole(&mut self, slot: Slot, reason: String) {
        self.counters.holes += 1;
        self.context.events.report(Event::HoleOpened { slot, reason });
    }

    fn show_metrics(&self) {
        let Counters { bytes, blocks, slots, holes } = self.counters;
        self.context.metrics.show(|show| {
            show(Metric::new("car_read_bytes_total", bytes));
            show(Metric::new("backfill_blocks_total", blocks));
            show(Metric::new("backfill_slots_total", slots));
            show(Metric::new("holes", holes));
        });
    }
}

/// Counts tries of one question.
#[derive(Debug, Default)]
struct Tries(u32);

impl Tries {
    /// Waits for the next try, if there is to be one.
    async fn after(&mut self, error: FetchError) -> Result<(), String> {
        self.0 += 1;
        if self.0 >= MAX_TRIES || !error.is_retryable() {
            return Err(error.to_string());
        }
        tokio::time::sleep(error.retry_after().unwrap_or(TRY_INTERVAL)).await;
        Ok(())
    }
}

fn fatal(error: impl std::fmt::Display) -> NodeError {
    NodeError::Fatal(error.to_string())
}

fn panicked() -> NodeError {
    NodeError::Fatal("the reader of the archive panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_wanted_in_a_range_and_as_the_proof_of_its_end() {
        let ranges = [SlotRange { first: 10, last: 19 }];
        for (slot, parent, wanted) in [
            (9, 8, false),
            (10, 9, true),
            (19, 18, true),
            (22, 18, true),
            (25, 5, true),
            (23, 22, false),
            (21, 19, true),
        ] {
            assert_eq!(is_wanted(&ranges, slot, parent), wanted, "{slot} on {parent}");
        }
        assert!(is_wanted(&[], 1, 0));
    }
}
