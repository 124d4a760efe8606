//! One `from_slot` replay for recovery: the program's own collector over a simulated stream.

use std::time::Duration;

use sluice_cluster::{Emission, Level, Subscription};
use sluice_stages::batch::{EndpointId, SessionId, Update};
use sluice_stages::frame::{Frame, Kind};
use sluice_stages::recovery::plan::{Fetch, Fetched};
use sluice_stages::recovery::replay::{Collector, ReplayError};
use sluice_stages::slot::Slot;
use sluice_stages::yellowstone::{Failure, FailureKind, YellowstoneOptions, request};

use super::link::refusal_kind;
use super::timestamp;
use super::world::World;

/// The longest that a replay may take, as the program has it.
const MAX_DURATION: Duration = Duration::from_secs(120);
/// Session numbers of replays, as the program has them.
const FIRST_NUMBER: u32 = 1 << 31;
/// Updates read at a time.
const READ_UPDATES: usize = 256;

/// What is asked of which endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) endpoint: EndpointId,
    pub(super) first: Slot,
    pub(super) last: Slot,
    /// Counts replays.
    pub(super) number: u32,
}

pub(super) struct Replay {
    pub(super) fetch: Fetch,
    session: SessionId,
    subscription: Subscription,
    collector: Collector,
    latency: Duration,
    idle_timeout: Duration,
    begun_at: Duration,
    heard_at: Duration,
    is_calm: bool,
}

impl Replay {
    /// Asks whether there is any point in it, and subscribes.
    pub(super) fn begin(
        now: Duration,
        world: &World,
        options: &YellowstoneOptions,
        asked: Asked,
        latency: Duration,
    ) -> Result<Self, Fetched> {
        let endpoint = world.endpoint(now, usize::from(asked.endpoint));
        endpoint.check(now, None).map_err(|refusal| failed(refusal_kind(&refusal)))?;
        let available = endpoint.first_available(now);
        if available.is_some_and(|available| available > asked.first) {
            return Err(failed(FailureKind::ReplayTooOld { available }));
        }
        let newest = endpoint.newest(now, Level::Processed).map(|version| version.block.slot);
        let newest = newest.filter(|&newest| newest >= asked.first);
        let newest = newest.ok_or_else(|| failed(FailureKind::ReplayTooNew))?;
        let request = request::subscribe(options, Some(asked.first));
        let subscription = endpoint.subscribe(now, &request, None);
        let subscription = subscription.map_err(|refusal| failed(refusal_kind(&refusal)))?;
        let Asked { endpoint, first, last, number } = asked;
        Ok(Self {
            fetch: Fetch::Replay { endpoint, first, last },
            session: SessionId { endpoint, number: FIRST_NUMBER | number },
            subscription,
            collector: Collector::new(first, newest.min(last)),
            latency,
            idle_timeout: options.idle_timeout,
            begun_at: now,
            heard_at: now,
            is_calm: world.is_calm(now),
        })
    }

    /// Reads on; the last of the results is [`Fetched::Done`] or [`Fetched::Failed`] once it is over.
    pub(super) fn step(&mut self, now: Duration, world: &World) -> Vec<Fetched> {
        let mut results = Vec::new();
        let mut end = None;
        let sent = now.saturating_sub(self.latency);
        while end.is_none() && !self.collector.is_over() {
            let emissions = self.subscription.poll(sent, READ_UPDATES);
            if emissions.is_empty() {
                break;
            }
            self.heard_at = now;
            end = emissions.into_iter().find_map(|emission| self.take(now, emission));
            hand_on(self.collector.ready(), &mut results);
        }
        if self.collector.is_over() {
            hand_on(self.collector.rest(), &mut results);
            results.push(Fetched::Done);
        } else if let Some(kind) = end.or_else(|| self.timeout(now, world)) {
            results.push(failed(kind));
        }
        results
    }

    fn timeout(&self, now: Duration, world: &World) -> Option<FailureKind> {
        let cut = self.is_calm != world.is_calm(now);
        let late = now - self.heard_at >= self.idle_timeout || now - self.begun_at >= MAX_DURATION;
        (cut || late).then_some(FailureKind::Idle)
    }

    fn take(&mut self, now: Duration, emission: Emission) -> Option<FailureKind> {
        match emission {
            Emission::Frame(bytes) => {
                let frame = Frame::try_new(bytes).ok()?;
                if !matches!(frame.header.kind, Kind::Ping | Kind::Pong) {
                    let received_at = timestamp(now);
                    self.collector.take(Update { frame, session: self.session, received_at, lease: None });
                }
                None
            }
            Emission::End(status) => Some(Failure::from_status(&status).kind),
            Emission::Close => Some(FailureKind::Ended),
            Emission::Hang => None,
        }
    }
}

fn hand_on(slots: Vec<(Slot, Vec<Update>)>, results: &mut Vec<Fetched>) {
    results.extend(slots.into_iter().map(|(slot, updates)| Fetched::Updates { slot, updates }));
}

fn failed(kind: FailureKind) -> Fetched {
    let error = ReplayError::from(Failure::of(kind));
    let first_available = error.first_available();
    Fetched::Failed { reason: error.to_string(), retry_after: None, first_available }
}
