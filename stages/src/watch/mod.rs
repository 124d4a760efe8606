//! What can be read of a running pipeline at any time, without a word to its nodes: their metrics, the edges between
//! them, the endpoints, the memory, and what they report.
//!
//! ```text
//!  nodes ── MetricBoard, EdgeStats, Budget ──→ Watch ──→ monitor, alerts, API, `sluice run`, `sluice demo`
//!    └── events ──→ event log ── Reported (4,096) ──↗
//! ```
//!
//! Reading takes no lock that a node waits for longer than a copy takes. A reader of [`Watch::reports`] that falls behind
//! is told how many it missed; the pipeline never waits for it.

mod exposition;
mod help;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::broadcast;

use crate::batch::EndpointId;
use crate::budget::Budget;
use crate::component::{Endpoint, Role};
use crate::edge::{EdgeConfig, EdgeSnapshot, EdgeStats};
use crate::node::MetricBoard;
use crate::recording::player::Guests;
use crate::recovery::fetch::RPC_ENDPOINT;
use crate::slot::Timestamp;
use crate::stage::{Event, Label, Metric};
use crate::tap::Tap;

/// Events that a slow reader may be behind. A burst of a whole slot's discards fits.
pub const REPORTS_CAPACITY: usize = 4_096;

/// An event, where it happened and when.
#[derive(Debug, Clone)]
pub struct Reported {
    /// The node's name.
    pub node: Arc<str>,
    /// What happened.
    pub event: Event,
    /// When it was read from the node.
    pub at: Timestamp,
}

/// A node, for those who watch.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// Its name in the TOML.
    pub name: String,
    /// The word after `type =`.
    pub kind: &'static str,
    /// The section that it stands in.
    pub role: Role,
    /// Where it shows its metrics.
    pub board: MetricBoard,
    /// A look at what it gives out.
    pub tap: Arc<Tap>,
}

/// An edge, for those who watch.
#[derive(Debug, Clone)]
pub struct EdgeView {
    /// The node that sends.
    pub from: String,
    /// The node that receives.
    pub to: String,
    /// How much it holds, and what it does when that is reached.
    pub config: EdgeConfig,
    /// What it has seen.
    pub stats: Arc<EdgeStats>,
}

/// What a [`Watch`] is made of.
#[derive(Debug)]
pub struct Watched {
    /// The pipeline's name.
    pub pipeline: String,
    /// The resolved configuration, secrets left out.
    pub configuration: Value,
    /// Files and folders that its nodes keep to themselves: what they write is in these.
    pub claims: Vec<PathBuf>,
    /// Its nodes, each behind all that it reads.
    pub nodes: Vec<NodeView>,
    /// Its edges.
    pub edges: Vec<EdgeView>,
    /// Its endpoints, by their ids.
    pub endpoints: Vec<Endpoint>,
    /// Those of recordings, which are known when they are played.
    pub guests: Guests,
    /// The memory that frames may take.
    pub budget: Arc<Budget>,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            pipeline: String::new(),
            configuration: Value::Null,
            claims: Vec::new(),
            nodes: Vec::new(),
            edges: Vec::new(),
            endpoints: Vec::new(),
            guests: Guests::default(),
            budget: Budget::new(usize::MAX),
        }
    }
}

/// A view of a pipeline. Clones show the same one.
#[derive(Debug, Clone)]
pub struct Watch {
    watched: Arc<Watched>,
    reports: broadcast::Sender<Reported>,
}

impl Watch {
    /// A view of these parts.
    pub fn new(watched: Watched) -> Self {
        Self { watched: Arc::new(watched), reports: broadcast::Sender::new(REPORTS_CAPACITY) }
    }

    /// The pipeline's name.
    pub fn pipeline(&self) -> &str {
        &self.watched.pipeline
    }

    /// The resolved configuration, secrets left out.
    pub fn configuration(&self) -> &Value {
        &self.watched.configuration
    }

    /// Files and folders that the nodes keep to themselves.
    pub fn claims(&self) -> &[PathBuf] {
        &self.watched.claims
    }

    /// The nodes.
    pub fn nodes(&self) -> &[NodeView] {
        &self.watched.nodes
    }

    /// The metrics of each node: its name, its kind, and what its board shows.
    pub fn metrics(&self) -> Vec<(&str, &'static str, Vec<Metric>)> {
        let show = |node: &'_ NodeView| node.board.read();
        self.watched.nodes.iter().map(|node| (node.name.as_str(), node.kind, show(node))).collect()
    }

    /// The sum of all values of a metric, whatever their labels.
    pub fn sum(&self, metric: &str) -> u64 {
        let all = self.metrics();
        let values = all.iter().flat_map(|(.., metrics)| metrics).filter(|found| found.name == metric);
        values.map(|found| found.value).sum::<f64>() as u64
    }

    /// The values of a metric by label.
    pub fn by_label(&self, metric: &str) -> BTreeMap<String, u64> {
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
        self.watched.edges.iter().map(|edge| (edge.from.as_str(), edge.to.as_str(), view(edge))).collect()
    }

    /// The edges with their bounds.
    pub fn edge_views(&self) -> &[EdgeView] {
        &self.watched.edges
    }

    /// The endpoints, by their ids.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.watched.endpoints
    }

    /// The name of an endpoint, of this pipeline or of a recording that it plays.
    pub fn endpoint(&self, id: EndpointId) -> &str {
        let own = self.watched.endpoints.get(usize::from(id)).map(|endpoint| &*endpoint.name);
        let rpc = (id == RPC_ENDPOINT).then_some("rpc");
        own.or(rpc).or_else(|| self.watched.guests.name(id)).unwrap_or("unknown")
    }

    /// The memory budget.
    pub fn budget(&self) -> &Budget {
        &self.watched.budget
    }

    /// What the nodes report from now on.
    pub fn reports(&self) -> broadcast::Receiver<Reported> {
        self.reports.subscribe()
    }

    /// Passes a report on to whoever listens.
    pub fn publish(&self, report: Reported) {
        // Nobody has to listen.
        self.reports.send(report).ok();
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new(Watched::default())
    }
}
