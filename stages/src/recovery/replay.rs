//! Slots again from an endpoint's stream: a `from_slot` subscription beside the live one, closed as soon as it has
//! brought what is wanted.
//!
//! That a replay was accepted says nothing: servers refuse it later, in the stream, or leave something out. Two
//! questions are asked before: how far the endpoint's window reaches back, and which slot is its newest whole one. The
//! slot that is in progress at the subscribe comes without its beginning, so only slots up to that newest one are handed
//! on. Updates may come after their slot's block meta; a slot is handed on when the metas of two later slots, or the
//! end, have come. What it lacks then is for the receiver to find out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tonic::transport::Channel;

use crate::batch::{SessionId, Update};
use crate::budget::Budget;
use crate::component::Endpoint;
use crate::frame::{Frame, Kind};
use crate::node::Clock;
use crate::slot::Slot;
use crate::yellowstone::client::{self, Read, Subscription, answered};
use crate::yellowstone::{Failure, FailureKind};

/// Block metas of later slots after which a slot is taken to be all there: in 70 s of a real stream no update came later
/// than during the next slot.
const LATER_METAS: usize = 2;

/// Longest time for a whole replay: 150 slots, the plugin's default window, at a hundredth of a usual link's rate.
const MAX_DURATION: Duration = Duration::from_secs(120);

/// Session numbers of replays begin here; those of live sessions never get this far.
pub(crate) const FIRST_NUMBER: u32 = 1 << 31;

/// A slot's updates, in the order in which they came.
pub type SlotUpdates = (Slot, Vec<Update>);

/// Why a replay did not bring all that was asked for.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The endpoint refused, or the stream ended early.
    #[error(transparent)]
    Endpoint(#[from] Failure),
    /// It took too long.
    #[error("the replay was not over after {} s", .0.as_secs())]
    TooSlow(Duration),
    /// Nobody wants it any more.
    #[error("the receiver has gone")]
    Unwanted,
}

impl ReplayError {
    /// Whether the same replay may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Endpoint(failure) => failure.kind.is_retryable(),
            Self::TooSlow(_) => true,
            Self::Unwanted => false,
        }
    }

    /// The first slot that the endpoint can replay, if that is what it said; `Slot::MAX` if it said that it replays
    /// nothing.
    pub fn first_available(&self) -> Option<Slot> {
        match self {
            Self::Endpoint(Failure { kind: FailureKind::ReplayTooOld { available }, .. }) => *available,
            Self::Endpoint(Failure { kind: FailureKind::ReplayUnsupported, .. }) => Some(Slot::MAX),
            _ => None,
        }
    }
}

/// What to replay, and on whose account.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The endpoint, with the filters that its live subscription has.
    pub endpoint: Endpoint,
    /// The first slot wanted.
    pub first: Slot,
    /// The last.
    pub last: Slot,
    /// Counts the replays of this endpoint.
    pub number: u32,
}

impl Replay {
    /// The session under which its updates come.
    pub fn session(&self) -> SessionId {
        SessionId { endpoint: self.endpoint.id, number: FIRST_NUMBER | self.number }
    }

    /// Runs it and hands each slot to `slots` as soon as it is all there. Dropping the future ends the subscription.
    ///
    /// # Errors
    /// See [`ReplayError`]; what was handed on before stays valid.
    pub async fn run(
        &self,
        clock: Clock,
        budget: &Arc<Budget>,
        slots: &tokio::sync::mpsc::Sender<SlotUpdates>,
    ) -> Result<(), ReplayError> {
        match tokio::time::timeout(MAX_DURATION, self.run_unbounded(clock, budget, slots)).await {
            Ok(result) => result,
            Err(_) => Err(ReplayError::TooSlow(MAX_DURATION)),
        }
    }

    async fn run_unbounded(
        &self,
        clock: Clock,
        budget: &Arc<Budget>,
        slots: &tokio::sync::mpsc::Sender<SlotUpdates>,
    ) -> Result<(), ReplayError> {
        let options = &self.endpoint.options;
        let _in_flight = self.endpoint.health.begin_replay();
        let channel = self.endpoint.link.channel(options).await?;
        let newest = self.check(&channel).await?;
        let last = newest.min(self.last);
        let mut subscription = client::subscribe(channel, options, Some(self.first)).await?;
        let mut collector = Collector::new(self.first, last);
        let mut raw = Vec::new();
        while !collector.is_over() {
            let read = tokio::time::timeout(options.idle_timeout, subscription.read(&mut raw)).await;
            self.take_in(&mut raw, &mut collector, &subscription, clock, budget);
            hand_on(collector.ready(), slots).await?;
            match read {
                Ok(Ok(Read::More)) => {}
                Ok(Ok(Read::Over(failure))) => return Err(failure.into()),
                Ok(Err(status)) => return Err(client::failure(&status, options).into()),
                Err(_) => return Err(Failure::of(FailureKind::Idle).into()),
            }
        }
        hand_on(collector.rest(), slots).await
    }

    /// Asks whether there is any point in it; returns the endpoint's newest whole slot.
    async fn check(&self, channel: &Channel) -> Result<Slot, ReplayError> {
        let options = &self.endpoint.options;
        let available = answered(client::first_replayable_slot(channel.clone(), options).await)?.flatten();
        if available.is_some_and(|available| available > self.first) {
            return Err(Failure::of(FailureKind::ReplayTooOld { available }).into());
        }
        self.endpoint.link.turn().await;
        let newest = client::newest_slot(channel.clone(), options).await?;
        self.endpoint.link.turn().await;
        if newest < self.first {
            return Err(Failure::of(FailureKind::ReplayTooNew).into());
        }
        Ok(newest)
    }

    fn take_in(
        &self,
        raw: &mut Vec<Bytes>,
        collector: &mut Collector,
        subscription: &Subscription,
        clock: Clock,
        budget: &Arc<Budget>,
    ) {
        let received_at = clock.now();
        // Recovery never waits for memory: it is what slots that hold the memory may be waiting for.
        let lease = budget.try_lease(raw.iter().map(Bytes::len).sum());
        for bytes in raw.drain(..) {
            // A frame that can't be read is missed by whoever counts the slot.
            let Ok(frame) = Frame::try_new(bytes) else { continue };
            match frame.header.kind {
                Kind::Ping if !subscription.ping(1) => {
                    tracing::debug!(endpoint = %self.endpoint.name, "ping of a replay left unanswered");
                }
                Kind::Ping | Kind::Pong => {}
                _ => collector.take(Update {
                    frame,
                    session: self.session(),
                    received_at,
                    lease: lease.clone(),
                }),
            }
        }
    }
}

async fn hand_on(
    ready: Vec<SlotUpdates>,
    slots: &tokio::sync::mpsc::Sender<SlotUpdates>,
) -> Result<(), ReplayError> {
    for slot in ready {
        slots.send(slot).await.map_err(|_| ReplayError::Unwanted)?;
    }
    Ok(())
}

/// Sorts a replay's updates by slot, and knows when a slot is over. Pure.
#[derive(Debug)]
pub struct Collector {
    first: Slot,
    last: Slot,
    open: BTreeMap<Slot, Vec<Update>>,
    /// Slots whose block meta has come; those behind `last` included.
    metas: Vec<Slot>,
}

impl Collector {
    /// A collector of the slots from `first` to `last`.
    pub fn new(first: Slot, last: Slot) -> Self {
        Self { first, last, open: BTreeMap::new(), metas: Vec::new() }
    }

    /// Takes an update in.
    pub fn take(&mut self, update: Update) {
        let header = &update.frame.header;
        let slot = header.slot;
        if header.kind == Kind::BlockMeta && slot >= self.first && !self.metas.contains(&slot) {
            self.metas.push(slot);
        }
        if (self.first..=self.last).contains(&slot) {
            self.open.entry(slot).or_default().push(update);
        }
    }

    /// The slots that are over, lowest first.
    pub fn ready(&mut self) -> Vec<SlotUpdates> {
        let over = |slot: &Slot| {
            self.metas.contains(slot)
                && self.metas.iter().filter(|&later| later > slot).count() >= LATER_METAS
        };
        let slots: Vec<Slot> = self.open.keys().copied().filter(over).collect();
        slots.into_iter().filter_map(|slot| self.open.remove_entry(&slot)).collect()
    }

    /// Whether nothing that is wanted will come any more.
    pub fn is_over(&self) -> bool {
        self.metas.iter().filter(|&&slot| slot > self.last).count() >= LATER_METAS
    }

    /// What has a block meta and was not handed out.
    pub fn rest(&mut self) -> Vec<SlotUpdates> {
        let open = std::mem::take(&mut self.open);
        open.into_iter().filter(|(slot, _)| self.metas.contains(slot)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Timestamp;
    use prost::Message;
    use yellowstone_grpc_proto::prelude::{
        SubscribeUpdate, SubscribeUpdateBlockMeta, SubscribeUpdateEntry, subscribe_update::UpdateOneof,
    };

    fn update(update: UpdateOneof) -> Update {
        let update = SubscribeUpdate { filters: Vec::new(), update_oneof: Some(update), created_at: None };
        Update {
            frame: Frame::try_new(Bytes::from(update.encode_to_vec())).expect("a valid update"),
            session: SessionId { endpoint: 0, number: 1 },
            received_at: Timestamp(0),
            lease: None,
        }
    }

    fn entry(slot: Slot) -> Update {
        update(UpdateOneof::Entry(SubscribeUpdateEntry { slot, hash: vec![0; 32], ..Default::default() }))
    }

    fn meta(slot: Slot) -> Update {
        update(UpdateOneof::BlockMeta(SubscribeUpdateBlockMeta { slot, ..Default::default() }))
    }

    fn sizes(slots: Vec<SlotUpdates>) -> Vec<(Slot, usize)> {
        slots.into_iter().map(|(slot, updates)| (slot, updates.len())).collect()
    }

    #[test]
    fn an_update_after_its_block_meta_is_still_taken() {
        let mut collector = Collector::new(10, 12);
        for update in [entry(10), meta(10), entry(10), entry(11), meta(11)] {
            collector.take(update);
        }
        assert!(collector.ready().is_empty());
        collector.take(meta(12));
        assert_eq!(sizes(collector.ready()), [(10, 3)]);
    }

    #[test]
    fn it_ends_when_the_stream_is_well_past_the_last_slot() {
        let mut collector = Collector::new(10, 11);
        for slot in [10, 11, 14] {
            collector.take(meta(slot));
        }
        assert!(!collector.is_over());
        collector.take(meta(15));
        assert!(collector.is_over());
        assert_eq!(sizes(collector.rest()), [(10, 1), (11, 1)]);
    }

    #[test]
    fn what_is_not_wanted_and_what_has_no_meta_is_let_go() {
        let mut collector = Collector::new(10, 11);
        for update in [entry(9), meta(9), entry(10), entry(12), meta(12), meta(13)] {
            collector.take(update);
        }
        assert!(collector.ready().is_empty());
        assert!(collector.is_over());
        assert!(collector.rest().is_empty());
    }
}
