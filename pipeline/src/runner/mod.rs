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
mod exposition;
mod stage_task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_stages::budget::Budget;
use sluice_stages::component::Node;
use sluice_stages::edge::EdgeSnapshot;
use sluice_stages::node::{Clock, EventSink, MetricBoard, NodeContext, NodeError, RequestSender};
use sluice_stages::stage::{Event, Metric};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::plan::Plan;
pub use build::{BuildFailure, EdgeView};
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

/// What can be read of a running pipeline at any time.
#[derive(Clone)]
pub struct Watch {
    boards: Arc<Vec<(String, &'static str, MetricBoard)>>,
    edges: Arc<Vec<EdgeView>>,
    endpoints: Arc<Vec<Arc<str>>>,
    budget: Arc<Budget>,
}

impl Watch {
    /// The metrics of each node: its name, its kind, and what its board shows.
    pub fn metrics(&self) -> Vec<(&str, &'static str, Vec<Metric>)> {
        self.boards.iter().map(|(name, kind, board)| (name.as_str(), *kind, board.read())).collect()
    }

    /// The sum of all values of a metric, whatever their labels.
    pub fn sum(&self, metric: &str) -> u64 {
        let all = self.metrics();
        let values = all.iter().flat_map(|(.., metrics)| metrics).filter(|found| found.name == metric);
        values.map(|found| found.value).sum::<f64>() as u64
    }

    /// The values of a metric by label.
    pub fn by_label(&self, metric: &str) -> BTreeMap<String, u64> {
        use sluice_stages::stage::Label;
        let mut values = BTreeMap::new();
        for found in self.metrics().iter().flat_map(|(.., metrics)| metrics) {
            if found.name != metric {
                continue;
            }
            let label = match found.label {
                Some((_, Label::Word(word))) => word.to_owned(),
                Some((_, Label::Endpoint(endpoint))) => self.endpoint(endpoint).to_owned(),
                None => String::new(),
            };
            *values.entry(label).or_default() += found.value as u64;
        }
        values
    }

    /// The edges and what they have seen.
    pub fn edges(&self) -> Vec<(&str, &str, EdgeSnapshot)> {
        let view = |edge: &EdgeView| edge.stats.snapshot();
        self.edges.iter().map(|edge| (edge.from.as_str(), edge.to.as_str(), view(edge))).collect()
    }

    /// The name of an endpoint.
    pub fn endpoint(&self, id: u16) -> &str {
        self.endpoints.get(usize::from(id)).map_or("rpc", |name| name)
    }

    /// The memory budget.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
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
    let budget = Budget::new(plan.settings.memory_limit);
    let Built { nodes, edges, endpoints } = build::build(plan)?;
    let boards: Vec<_> =
        nodes.iter().map(|node| (node.name.clone(), node.kind, MetricBoard::default())).collect();
    let watch = Watch {
        boards: Arc::new(boards),
        edges: Arc::new(edges),
        endpoints: Arc::new(endpoints),
        budget: Arc::clone(&budget),
    };
    let (events, log) = events::spawn_log(EVENTS_CAPACITY, watch.clone());
    let mut running =
        Running { tasks: JoinSet::new(), names: BTreeMap::new(), stop: CancellationToken::new(), watch, log };
    let clock = Clock::start();
    for (position, node) in nodes.into_iter().enumerate() {
        let context = NodeContext {
            name: node.name.clone(),
            stop: running.stop.clone(),
            clock,
            budget: Arc::clone(&budget),
            events: EventSink::new(&node.name, events.clone()),
            requests: RequestSender::new(node.targets.clone()),
            metrics: running.watch.boards[position].2.clone(),
        };
        running.spawn(node, context);
    }
    Ok(running)
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
            | Event::Contradiction { .. }
            | Event::ProofFailed { .. }
    )
}
