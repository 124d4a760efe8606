//! Carries out what the planner decides to fetch, and tells it what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc;

use super::plan::{Fetch, Fetched};
use super::pool::RpcPool;
use super::replay::{Replay, ReplayError};
use super::rpc::FetchError;
use crate::batch::{EndpointId, SessionId, Update};
use crate::budget::Budget;
use crate::component::Endpoint;
use crate::node::Clock;
use crate::slot::{Commitment, Slot};
use crate::stage::Metric;

/// The endpoint that updates from RPC come under; no real one has this number.
pub const RPC_ENDPOINT: EndpointId = EndpointId::MAX;

/// Slots of a replay that wait to be taken: each is megabytes, and the planner takes them as fast as it can check them.
const SLOTS_CAPACITY: usize = 2;

/// Where results go; the fetch comes with each, so that several can be under way.
pub type Results = mpsc::Sender<(Fetch, Fetched)>;

/// Fetches.
pub struct Fetcher {
    endpoints: Vec<Endpoint>,
    rpc: Option<RpcPool>,
    clock: Clock,
    budget: Arc<Budget>,
    fetches: AtomicU32,
}

impl Fetcher {
    /// A fetcher with these ways to ask. Memory is taken from `budget` where it can be had, but never waited for: recovery
    /// is what the slots that hold the memory may be waiting for.
    pub fn new(endpoints: Vec<Endpoint>, rpc: Option<RpcPool>, clock: Clock, budget: Arc<Budget>) -> Self {
        Self { endpoints, rpc, clock, budget, fetches: AtomicU32::new(0) }
    }

    /// Carries out `fetch`; the last result that it sends is [`Fetched::Slots`], [`Fetched::Done`] or [`Fetched::Failed`].
    /// It ends early when nobody takes results any more.
    pub async fn run(&self, fetch: Fetch, results: &Results) {
        let last = match fetch {
            Fetch::Tip => self.tip().await,
            Fetch::List { first, last } => self.list(first, last).await,
            Fetch::Block { slot, commitment } => self.block(fetch, slot, commitment, results).await,
            Fetch::Replay { endpoint, first, last } => {
                self.replay(fetch, endpoint, first, last, results).await
            }
        };
        if results.send((fetch, last)).await.is_err() {
            tracing::debug!(?fetch, "fetched for nobody");
        }
    }

    /// Shows what was counted of the RPC nodes.
    pub fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        if let Some(rpc) = &self.rpc {
            rpc.metrics(show);
        }
    }

    /// What a replay costs at each endpoint now, in microseconds of round trips.
    pub fn costs(&self) -> impl Iterator<Item = (EndpointId, u64)> {
        self.endpoints.iter().map(|endpoint| (endpoint.id, (endpoint.health.load() * 1_000.0) as u64))
    }

    async fn tip(&self) -> Fetched {
        let Some(rpc) = &self.rpc else { return no_rpc() };
        match rpc.slot(Commitment::Finalized).await {
            Ok(slot) => Fetched::Slots(vec![slot]),
            Err(error) => rpc_failure(&error),
        }
    }

    async fn list(&self, first: Slot, last: Slot) -> Fetched {
        let Some(rpc) = &self.rpc else { return no_rpc() };
        match rpc.blocks(first, last, Commitment::Confirmed).await {
            Ok(slots) => Fetched::Slots(slots),
            Err(error) => rpc_failure(&error),
        }
    }

    async fn block(&self, fetch: Fetch, slot: Slot, commitment: Commitment, results: &Results) -> Fetched {
        let Some(rpc) = &self.rpc else { return no_rpc() };
        let block = match rpc.block(slot, commitment).await {
            Ok(block) => block,
            Err(error) => return rpc_failure(&error),
        };
        let session = SessionId { endpoint: RPC_ENDPOINT, number: self.next_number() };
        let received_at = self.clock.now();
        let lease = self.budget.try_lease(block.frames.iter().map(|frame| frame.bytes().len()).sum());
        let update = |frame| Update { frame, session, received_at, lease: lease.clone() };
        let updates = block.frames.into_iter().map(update).collect();
        if results.send((fetch, Fetched::Updates { slot, updates })).await.is_err() {
            tracing::debug!(slot, "fetched for nobody");
        }
        Fetched::Done
    }

    async fn replay(
        &self,
        fetch: Fetch,
        endpoint: EndpointId,
        first: Slot,
        last: Slot,
        results: &Results,
    ) -> Fetched {
        let Some(endpoint) = self.endpoints.iter().find(|known| known.id == endpoint) else {
            return failed("there is no such endpoint".to_owned());
        };
        let replay = Replay { endpoint: endpoint.clone(), first, last, number: self.next_number() };
        let (slots, mut ready) = mpsc::channel(SLOTS_CAPACITY);
        let forward = async move {
            while let Some((slot, updates)) = ready.recv().await {
                if results.send((fetch, Fetched::Updates { slot, updates })).await.is_err() {
                    break;
                }
            }
        };
        let run = async move { replay.run(self.clock, &self.budget, &slots).await };
        let (outcome, ()) = tokio::join!(run, forward);
        match outcome {
            Ok(()) => Fetched::Done,
            Err(error) => replay_failure(&error),
        }
    }

    fn next_number(&self) -> u32 {
        self.fetches.fetch_add(1, Ordering::Relaxed)
    }
}

fn no_rpc() -> Fetched {
    failed("no rpc is configured".to_owned())
}

fn failed(reason: String) -> Fetched {
    Fetched::Failed { reason, retry_after: None, first_available: None }
}

fn rpc_failure(error: &FetchError) -> Fetched {
    Fetched::Failed { reason: error.to_string(), retry_after: error.retry_after(), first_available: None }
}

fn replay_failure(error: &ReplayError) -> Fetched {
    Fetched::Failed { reason: error.to_string(), retry_after: None, first_available: error.first_available() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::rpc::RpcOptions;

    async fn results_of(fetcher: &Fetcher, fetch: Fetch) -> Vec<Fetched> {
        let (sender, mut receiver) = mpsc::channel(8);
        fetcher.run(fetch, &sender).await;
        drop(sender);
        let mut results = Vec::new();
        while let Some((of, fetched)) = receiver.recv().await {
            assert_eq!(of, fetch);
            results.push(fetched);
        }
        results
    }

    #[tokio::test]
    async fn what_can_not_be_asked_for_is_a_failure_not_silence() {
        let fetcher = Fetcher::new(Vec::new(), None, Clock::start(), Budget::new(1));
        let fetches = [
            Fetch::List { first: 1, last: 2 },
            Fetch::Block { slot: 1, commitment: Commitment::Confirmed },
            Fetch::Replay { endpoint: 0, first: 1, last: 2 },
        ];
        for fetch in fetches {
            let results = results_of(&fetcher, fetch).await;
            assert!(matches!(results.as_slice(), [Fetched::Failed { .. }]), "{fetch:?}");
        }
    }

    #[tokio::test]
    async fn a_node_that_is_down_says_when_to_come_back() {
        let options = RpcOptions::new("http://127.0.0.1:1");
        let rpc = RpcPool::try_new(&options.into(), Clock::start()).expect("valid options");
        let fetcher = Fetcher::new(Vec::new(), Some(rpc), Clock::start(), Budget::new(1));
        let fetch = Fetch::Block { slot: 1, commitment: Commitment::Confirmed };
        for _ in 0..5 {
            assert!(matches!(
                results_of(&fetcher, fetch).await.as_slice(),
                [Fetched::Failed { retry_after: None, .. }]
            ));
        }
        let results = results_of(&fetcher, fetch).await;
        assert!(matches!(results.as_slice(), [Fetched::Failed { retry_after: Some(_), .. }]));
    }
}
