//! The Yellowstone source: one task for each endpoint, and the group that gives them orders.
//!
//! ```text
//!                      ┌── orders (watch) ──→ subscriber (endpoint 1) ──┐
//!   group (a lock) ────┤                                                ├──→ Outbox (blocks when full)
//!        ↑             └── orders (watch) ──→ subscriber (endpoint 2) ──┘
//!        └── sessions, slots, checks, proven lies
//! ```
//!
//! Out: for each session of each active endpoint a [`crate::batch::Session::Opened`], its updates in the order in which
//! they came, and a [`crate::batch::Session::Closed`], again and again until asked to stop.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::crew::Crew;
use super::group::{GroupPolicy, MemberPolicy};
use super::subscriber::Subscriber;
use super::{check, group};
use crate::batch::Scope;
use crate::component::Endpoint;
use crate::edge::Outbox;
use crate::node::{NodeContext, NodeError, Source};
use crate::stage::Event;
use crate::watch::Reported;

/// How often the group looks at the time: a tenth of what promotion may take at most.
const TICK: Duration = Duration::from_millis(50);

/// The source of one endpoint or a group.
pub struct YellowstoneSource {
    members: Vec<(Endpoint, MemberPolicy)>,
    policy: GroupPolicy,
    scope: Scope,
}

impl YellowstoneSource {
    /// A source of `members`, whose filters amount to `scope`.
    pub fn new(members: Vec<(Endpoint, MemberPolicy)>, policy: GroupPolicy, scope: Scope) -> Self {
        Self { members, policy, scope }
    }
}

impl Source for YellowstoneSource {
    fn run(
        self: Box<Self>,
        outbox: Outbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move {
            let crew = Arc::new(Crew::new(self.members, self.policy, self.scope, outbox, context));
            run(&crew).await
        })
    }
}

async fn run(crew: &Arc<Crew>) -> Result<(), NodeError> {
    let mut subscribers = JoinSet::new();
    let mut checks = JoinSet::new();
    for place in 0..crew.endpoints.len() {
        let subscriber = Subscriber::new(Arc::clone(crew), place);
        subscribers.spawn(subscriber.run());
        let crew = Arc::clone(crew);
        checks.spawn(async move { check::run(&crew, place).await });
    }
    let mut reports = crew.context.watch.reports();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = subscribers.join_next() => match ended {
                None => break,
                Some(ended) => ended.map_err(|error| NodeError::Fatal(format!("a subscriber ended: {error}")))??,
            },
            Some(ended) = checks.join_next() => {
                ended.map_err(|error| NodeError::Fatal(format!("a health check ended: {error}")))?;
            }
            report = reports.recv() => on_report(crew, report),
            _ = ticks.tick() => crew.tell(group::Group::on_tick),
        }
    }
    checks.shutdown().await;
    Ok(())
}

/// Holds against an endpoint what was proven wrong of it.
fn on_report(crew: &Crew, report: Result<Reported, broadcast::error::RecvError>) {
    let endpoint = match report {
        // Without an index its entries did not come, which is a loss and not a lie.
        Ok(Reported { event: Event::ProofFailed { endpoint, index: Some(_), .. }, .. })
        | Ok(Reported { event: Event::ProvenWrong { endpoint, .. }, .. }) => endpoint,
        _ => return,
    };
    if let Some(place) = crew.place(endpoint) {
        crew.tell(|group, now| group.on_offence(now, place));
    }
}
