//! The task around the planner: asks what it wants asked, sends on what it lets out.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::maker::BlockMaker;
use super::options::SlotRange;
use super::plan::{Answer, Ask, Bounds, Failure, FailureKind, Planner, Room};
use crate::batch::Item;
use crate::edge::{Closed, Outbox};
use crate::node::{NodeContext, NodeError, Source};
use crate::recovery::pool::{RpcList, RpcPool};
use crate::recovery::rpc::FetchError;
use crate::slot::{Commitment, Slot};

/// How often the planner looks for what has become due.
const TICK: Duration = Duration::from_millis(50);

/// The source.
pub(super) struct RpcBlocks {
    rpc: RpcList,
    ranges: Vec<SlotRange>,
    bounds: Bounds,
    maker: BlockMaker,
}

impl RpcBlocks {
    pub(super) fn new(rpc: RpcList, ranges: Vec<SlotRange>, bounds: Bounds, maker: BlockMaker) -> Self {
        Self { rpc, ranges, bounds, maker }
    }
}

impl Source for RpcBlocks {
    fn run(
        self: Box<Self>,
        outbox: Outbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move { Loop::try_new(*self, outbox, context)?.run().await })
    }
}

/// What all questions share.
struct Asker {
    rpc: RpcPool,
    maker: Arc<BlockMaker>,
    budget: Arc<crate::budget::Budget>,
    clock: crate::node::Clock,
}

struct Loop {
    planner: Planner,
    asker: Arc<Asker>,
    asks: JoinSet<(Ask, Answer)>,
    outbox: Arc<Outbox>,
    /// The batch on its way out. While it waits for room, answers go on coming in.
    sending: Option<BoxFuture<'static, Result<(), Closed>>>,
    context: NodeContext,
}

impl Loop {
    fn try_new(source: RpcBlocks, outbox: Outbox, context: NodeContext) -> Result<Self, NodeError> {
        let RpcBlocks { rpc, ranges, bounds, maker } = source;
        let rpc =
            RpcPool::try_new(&rpc, context.clock).map_err(|error| NodeError::Fatal(error.to_string()))?;
        let first = ranges.first().map_or(0, |range| range.first);
        let now = context.clock.now();
        let planner = Planner::new(bounds, ranges, now, SmallRng::seed_from_u64(now.0));
        let (budget, clock) = (Arc::clone(&context.budget), context.clock);
        let asker = Arc::new(Asker { rpc, maker: Arc::new(maker), budget, clock });
        let mut this =
            Self { planner, asker, asks: JoinSet::new(), outbox: Arc::new(outbox), sending: None, context };
        this.send(Item::Begin(first));
        Ok(this)
    }

    async fn run(mut self) -> Result<(), NodeError> {
        let stop = self.context.stop.clone();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.planner.is_done() || self.sending.is_some() {
            self.start_asks();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = self.asks.join_next() => {
                    let (ask, answer) =
                        ended.map_err(|error| NodeError::Fatal(format!("a fetch panicked: {error}")))?;
                    self.planner.on_answer(self.context.clock.now(), ask, answer);
                }
                sent = sent(&mut self.sending) => {
                    self.sending = None;
                    sent?;
                }
                _ = ticks.tick() => self.show_metrics(),
            }
            for event in self.planner.take_events() {
                self.context.events.report(event);
            }
            self.send_next();
            if let Some(reason) = self.planner.fatal()
                && self.sending.is_none()
            {
                return Err(NodeError::Fatal(reason.to_owned()));
            }
        }
        self.asks.shutdown().await;
        self.show_metrics();
        Ok(())
    }

    fn send_next(&mut self) {
        if self.sending.is_none()
            && let Some(block) = self.planner.next_block()
        {
            self.send(Item::Block(block));
        }
    }

    fn send(&mut self, item: Item) {
        let outbox = Arc::clone(&self.outbox);
        self.sending = Some(Box::pin(async move { outbox.send(vec![item]).await }));
    }

    fn start_asks(&mut self) {
        let budget = &self.context.budget;
        let memory = budget.used_bytes() < budget.limit_bytes();
        let room = Room { questions: self.asker.rpc.concurrency_limit(), memory };
        while let Some(ask) = self.planner.next_ask(self.context.clock.now(), room) {
            let asker = Arc::clone(&self.asker);
            self.asks.spawn(async move { (ask, asker.ask(ask).await) });
        }
    }

    fn show_metrics(&self) {
        self.context.metrics.show(|show| {
            self.planner.metrics(show);
            self.asker.rpc.metrics(show);
        });
    }
}

/// What became of the batch on its way, as soon as there is one and that is known.
async fn sent(sending: &mut Option<BoxFuture<'static, Result<(), Closed>>>) -> Result<(), Closed> {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

impl Asker {
    async fn ask(&self, ask: Ask) -> Answer {
        let answer = match ask {
            Ask::Tip => self.rpc.slot(Commitment::Finalized).await.map(Answer::Tip),
            Ask::List { first, last } => {
                self.rpc.blocks(first, last, Commitment::Finalized).await.map(Answer::Slots)
            }
            Ask::FirstAvailable => self.rpc.first_available().await.map(Answer::FirstAvailable),
            Ask::Block(slot) => self.block(slot).await,
        };
        answer.unwrap_or_else(|error| Answer::Failed(failure(&error)))
    }

    async fn block(&self, slot: Slot) -> Result<Answer, FetchError> {
        let frames = self.rpc.block(slot, Commitment::Finalized).await?.frames;
        let (maker, budget, now) = (Arc::clone(&self.maker), Arc::clone(&self.budget), self.clock.now());
        // Each transaction is read once to check it: milliseconds a block.
        let made = tokio::task::spawn_blocking(move || maker.make(slot, frames, now, &budget)).await;
        let malformed = |what: String| FetchError::Malformed { slot, what };
        let block = made.map_err(|error| malformed(error.to_string()))?.map_err(malformed)?;
        Ok(Answer::Block(Arc::new(block)))
    }
}

fn failure(error: &FetchError) -> Failure {
    let kind = match error {
        FetchError::RateLimited { .. }
        | FetchError::Unavailable { .. }
        | FetchError::Paused { .. }
        | FetchError::Resting { .. } => FailureKind::Pushback,
        FetchError::Transport(_) => FailureKind::Silence,
        FetchError::ClaimedSkipped { .. } => FailureKind::ClaimedSkipped,
        FetchError::NotAvailableYet { .. } | FetchError::Malformed { .. } => FailureKind::Slot,
        FetchError::CleanedUp { .. } => FailureKind::Gone,
        FetchError::Refused { .. } => FailureKind::Refused,
    };
    Failure { kind, reason: error.to_string(), retry_after: error.retry_after() }
}
