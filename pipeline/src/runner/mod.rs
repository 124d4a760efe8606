//! The runner: everything concurrent about a pipeline.
//!
//! ```text
//!             stop token                       each node is one named task; edges are bounded (items, bytes)
//!                 │
//!  source ─→ [edge] ─→ stage ─→ [edge] ─→ … ─→ sink
//!     │                  │                      │
//!     └── events (4,096) ┴──────────────────────┴──→ event log task
//! ```
//!
//! Stop: the token asks sources to end; their edges close, and the end travels down the graph, each node passing on what
//! it holds before it ends itself. The first error of any node stops the sources the same way and is what
//! [`Running::join`] returns. After the deadline the rest is aborted.

mod build;
mod events;
mod stage_task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_stages::budget::Budget;
use sluice_stages::component::{Endpoint, Node};
use sluice_stages::node::{Clock, EventSink, MetricBoard, NodeContext, NodeError, RequestSender};
use sluice_stages::stage::Event;
pub use sluice_stages::watch::Watch;
use sluice_stages::watch::{NodeView, Watched};
use sluice_stages::yellowstone::windows;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::plan::Plan;
pub use build::BuildFailure;
use build::{Built, BuiltNode};

/// Events that the log has not shown yet. A burst of a whole slot's discards fits.
const EVENTS_CAPACITY: usize = 4_096;

/// Why a pipeline ended before its time.
#[derive(Debug, Error)]
pub enum RunError {
    /// A node failed.
    #[error("`{node}` failed: {source}")]
    Node {
        /// Its name.
        node: String,
        /// Why.
        #[source]
        source: NodeError,
    },
    /// A node panicked: a bug of Sluice's.
    #[error("`{node}` panicked, which is a bug in Sluice; please report it with the lines above")]
    Panicked {
        /// Its name.
        node: String,
    },
    /// Nodes were still running at the deadline.
    #[error("not drained after {deadline:?}, ended by force: {}; raise `shutdown_deadline` if they need longer", nodes.join(", "))]
    Deadline {
        /// The deadline.
        deadline: Duration,
        /// Their names.
        nodes: Vec<String>,
    },
}

/// A pipeline that runs.
pub struct Running {
    tasks: JoinSet<Result<(), NodeError>>,
    names: BTreeMap<Id, String>,
    stop: CancellationToken,
    watch: Watch,
    log: JoinHandle<()>,
}

/// Makes all nodes of `plan` and starts them.
///
/// # Errors
/// If a node can't be made; nothing has been started then.
pub fn start(plan: Plan) -> Result<Running, BuildFailure> {
    let limit_bytes = plan.settings.memory_limit;
    let (pipeline, configuration, claims) = (plan.settings.name.clone(), plan.resolved(), plan.claims());
    let Built { nodes, edges, endpoints, guests } = build::build(plan)?;
    let budget = Budget::new(limit_bytes - bound_windows(&endpoints, limit_bytes));
    let view = |node: &BuiltNode| NodeView {
        name: node.name.clone(),
        kind: node.kind,
        role: node.role,
        board: MetricBoard::default(),
        tap: Arc::clone(node.outbox.tap()),
    };
    let watched = Watched {
        pipeline,
        configuration,
        claims,
        nodes: nodes.iter().map(view).collect(),
        edges,
        endpoints,
        guests,
        budget: Arc::clone(&budget),
    };
    let (watch, clock) = (Watch::new(watched), Clock::start());
    let (events, log) = events::spawn_log(EVENTS_CAPACITY, watch.clone(), clock);
    let mut running =
        Running { tasks: JoinSet::new(), names: BTreeMap::new(), stop: CancellationToken::new(), watch, log };
    for (position, node) in nodes.into_iter().enumerate() {
        let context = NodeContext {
            name: node.name.clone(),
            stop: running.stop.clone(),
            clock,
            budget: Arc::clone(&budget),
            events: EventSink::new(&node.name, events.clone()),
            requests: RequestSender::new(node.targets.clone()),
            metrics: running.watch.nodes()[position].board.clone(),
            watch: running.watch.clone(),
        };
        running.spawn(node, context);
    }
    Ok(running)
}

/// Shares a part of the memory out among the endpoints' receive windows; returns how much of it they may take.
fn bound_windows(endpoints: &[Endpoint], limit_bytes: usize) -> usize {
    let share = windows::share(limit_bytes, endpoints.len());
    let all = endpoints.iter().map(|endpoint| {
        endpoint.link.bound_window(share);
        windows::of_connection(endpoint.options.window_bytes.unwrap_or(share)) as usize
    });
    // Windows that were asked for may be larger than all of it; frames keep half.
    all.sum::<usize>().min(limit_bytes / 2)
}

impl Running {
    /// Asks the sources to stop; the rest ends when it has passed everything on.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// A token that asks the sources to stop, as [`Self::stop`] does, for use while [`Self::join`] waits.
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// A view of it that outlives it.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Waits until all nodes have ended. `deadline` counts from the stop, whoever asks for it.
    ///
    /// # Errors
    /// The first error of a node, or the nodes that were still running at the deadline.
    pub async fn join(mut self, deadline: Duration) -> Result<(), RunError> {
        let mut first_error = None;
        loop {
            let overdue = async {
                self.stop.cancelled().await;
                tokio::time::sleep(deadline).await;
            };
            let ended = tokio::select! {
                ended = self.tasks.join_next_with_id() => ended,
                () = overdue => return Err(self.abort(deadline).await),
            };
            let Some(ended) = ended else { break };
            if let Err(error) = self.on_ended(ended) {
                tracing::error!(%error, "stopping");
                self.stop.cancel();
                first_error.get_or_insert(error);
            }
        }
        // All senders of events are gone with the nodes, so the log ends by itself.
        if self.log.await.is_err() {
            tracing::error!("the event log panicked");
        }
        first_error.map_or(Ok(()), Err)
    }

    fn spawn(&mut self, node: BuiltNode, context: NodeContext) {
        let BuiltNode { name, node, inbox, outbox, requests, .. } = node;
        let handle = match node {
            Node::Source(source) => self.tasks.spawn(source.run(outbox, context)),
            Node::Stage(stage) => self.tasks.spawn(stage_task::run(stage, inbox, outbox, context)),
            Node::Transform(transform) => {
                let requests = requests.unwrap_or_else(|| mpsc::channel(1).1);
                self.tasks.spawn(transform.run(inbox, outbox, requests, context))
            }
            Node::Sink(sink) => self.tasks.spawn(sink.run(inbox, context)),
        };
        self.names.insert(handle.id(), name);
    }

    fn on_ended(&mut self, ended: Result<(Id, Result<(), NodeError>), JoinError>) -> Result<(), RunError> {
        match ended {
            Ok((id, Ok(()))) => {
                self.names.remove(&id);
                Ok(())
            }
            // The node downstream that ended first has an error of its own.
            Ok((id, Err(NodeError::Downstream(_)))) => {
                self.names.remove(&id);
                self.stop.cancel();
                Ok(())
            }
            Ok((id, Err(source))) => {
                let node = self.names.remove(&id).unwrap_or_default();
                Err(RunError::Node { node, source })
            }
            Err(error) => {
                let node = self.names.remove(&error.id()).unwrap_or_default();
                Err(RunError::Panicked { node })
            }
        }
    }

    async fn abort(mut self, deadline: Duration) -> RunError {
        let nodes = self.names.values().cloned().collect();
        self.tasks.shutdown().await;
        self.log.abort();
        RunError::Deadline { deadline, nodes }
    }
}

/// Whether an event is one that an operator has to act on.
pub(crate) fn is_grave(event: &Event) -> bool {
    matches!(
        event,
        Event::HoleOpened { .. }
            | Event::CommitFailed { .. }
            | Event::SpoolFailed { .. }
            | Event::Contradiction { .. }
            | Event::ProvenWrong { .. }
            | Event::ProofFailed { .. }
    )
}
