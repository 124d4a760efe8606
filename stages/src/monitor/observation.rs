//! One look at a pipeline: what its nodes, edges and the system show at one moment.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::system::SystemReading;
use crate::component::Role;
use crate::delivery::Delivery;
use crate::edge::EdgeSnapshot;
use crate::frame::Kind;
use crate::slot::Timestamp;
use crate::stage::{Label, Metric};
use crate::watch::Watch;

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Observation {
    /// When.
    pub(super) at: Timestamp,
    /// The nodes, each behind all that it reads.
    pub(super) nodes: Vec<NodeReading>,
    /// The edges.
    pub(super) edges: Vec<EdgeReading>,
    /// The names of the endpoints, by their ids.
    pub(super) endpoints: Vec<Arc<str>>,
    /// Bytes of frames in memory, and how many there may be.
    pub(super) budget: (usize, usize),
    /// The system.
    pub(super) system: SystemReading,
}

/// A node.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeReading {
    pub(super) name: Arc<str>,
    pub(super) kind: &'static str,
    pub(super) is_source: bool,
    /// Metrics with the value of their own label; empty if they have none.
    pub(super) metrics: Vec<(&'static str, Arc<str>, f64)>,
    /// What it has sent: blocks, and transactions in them.
    pub(super) passed: (u64, u64),
    /// Block metas and blocks that it has sent since the last look.
    pub(super) deliveries: Vec<Delivery>,
}

/// An edge.
#[derive(Debug, Clone, Default)]
pub(super) struct EdgeReading {
    pub(super) from: Arc<str>,
    pub(super) to: Arc<str>,
    pub(super) stats: EdgeSnapshot,
    pub(super) capacity_items: u64,
    pub(super) capacity_bytes: u64,
}

impl Observation {
    /// The sum of a metric over all nodes and labels; none if no node has it.
    pub(super) fn sum(&self, metric: &str) -> Option<f64> {
        let values = self.values(metric).map(|(_, _, value)| value);
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// The highest value of a metric; none if no node has it, or it is 0: slots that are not known yet are 0.
    pub(super) fn highest(&self, metric: &str) -> Option<f64> {
        self.values(metric).map(|(_, _, value)| value).filter(|value| *value > 0.0).reduce(f64::max)
    }

    /// A metric by its label.
    pub(super) fn by_label(&self, metric: &str) -> BTreeMap<Arc<str>, f64> {
        let mut values = BTreeMap::new();
        for (_, label, value) in self.values(metric) {
            *values.entry(Arc::clone(label)).or_default() += value;
        }
        values
    }

    /// A metric by node.
    pub(super) fn by_node(&self, metric: &str) -> BTreeMap<Arc<str>, f64> {
        let mut values = BTreeMap::new();
        for (node, _, value) in self.values(metric) {
            *values.entry(Arc::clone(node)).or_default() += value;
        }
        values
    }

    /// A metric by endpoint: what each shows as `own`, or a source that has none (a recording, say) as `of_source`.
    pub(super) fn by_endpoint(&self, own: &str, of_source: &str) -> BTreeMap<Arc<str>, f64> {
        let telling: BTreeSet<_> = self.values(own).map(|(node, ..)| node).collect();
        let silent = self.by_node(of_source).into_iter().filter(|(node, _)| !telling.contains(node));
        let mut values = self.by_label(own);
        values.extend(silent);
        values
    }

    /// The endpoint that a delivery of `node` came from; the node itself if that is none of the pipeline's endpoints.
    pub(super) fn endpoint_of(&self, node: &NodeReading, delivery: &Delivery) -> Arc<str> {
        Arc::clone(self.endpoints.get(usize::from(delivery.endpoint)).unwrap_or(&node.name))
    }

    /// The node behind which a slot counts as committed: the last commitment stage, or else the last node that sends
    /// whole slots.
    pub(super) fn last_stage(&self) -> Option<&NodeReading> {
        let mut commitment = self.nodes.iter().rev().filter(|node| node.kind == "commitment");
        commitment.next().or_else(|| self.nodes.iter().rev().find(|node| node.passed.0 > 0))
    }

    /// What nodes show as `metric`, pings and pongs left out: a chain at rest whose servers answer sends nothing.
    fn values(&self, metric: &str) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, f64)> {
        let by_kind = metric == "source_updates_total";
        self.nodes.iter().flat_map(move |node| {
            let metrics = node
                .metrics
                .iter()
                .filter(move |(name, label, _)| *name == metric && !(by_kind && is_keepalive(label)));
            metrics.map(|(_, label, value)| (&node.name, label, *value))
        })
    }
}

/// Whether a value of the label `kind` names messages with which nothing comes in.
fn is_keepalive(kind: &str) -> bool {
    Kind::ALL.iter().any(|known| known.is_keepalive() && known.name() == kind)
}

/// Looks at a pipeline again and again.
#[derive(Debug, Default)]
pub(super) struct Observer {
    /// By position of the edge: the number of the next delivery.
    seen: Vec<u64>,
}

impl Observer {
    /// Looks now.
    pub(super) fn look(&mut self, watch: &Watch, at: Timestamp, system: SystemReading) -> Observation {
        let mut nodes: Vec<_> = watch.metrics().into_iter().map(|node| node_reading(watch, node)).collect();
        for (reading, view) in nodes.iter_mut().zip(watch.nodes()) {
            reading.is_source = view.role == Role::Source;
        }
        self.seen.resize(watch.edge_views().len(), 0);
        let mut told = HashSet::new();
        for (edge, seen) in watch.edge_views().iter().zip(&mut self.seen) {
            let (next, deliveries) = edge.stats.deliveries().since(*seen);
            *seen = next;
            // All edges of a node carry the same.
            let node = nodes.iter_mut().find(|node| *node.name == *edge.from);
            if let Some(node) = node.filter(|_| told.insert(edge.from.as_str())) {
                node.passed = edge.stats.deliveries().totals();
                node.deliveries = deliveries;
            }
        }
        let budget = (watch.budget().used_bytes(), watch.budget().limit_bytes());
        let endpoints = watch.endpoints().iter().map(|endpoint| Arc::clone(&endpoint.name)).collect();
        Observation { at, nodes, edges: edges(watch), endpoints, budget, system }
    }
}

fn node_reading(watch: &Watch, (name, kind, metrics): (&str, &'static str, Vec<Metric>)) -> NodeReading {
    let label = |metric: &Metric| match metric.label {
        Some((_, Label::Word(word))) => Arc::from(word),
        Some((_, Label::Endpoint(endpoint))) => Arc::from(watch.endpoint(endpoint)),
        None => Arc::from(""),
    };
    let metrics = metrics.iter().map(|metric| (metric.name, label(metric), metric.value)).collect();
    NodeReading { name: Arc::from(name), kind, metrics, ..NodeReading::default() }
}

fn edges(watch: &Watch) -> Vec<EdgeReading> {
    let reading = |edge: &crate::watch::EdgeView| {
        let (capacity_items, capacity_bytes) = edge.stats.capacity();
        EdgeReading {
            from: Arc::from(edge.from.as_str()),
            to: Arc::from(edge.to.as_str()),
            stats: edge.stats.snapshot(),
            capacity_items,
            capacity_bytes,
        }
    };
    watch.edge_views().iter().map(reading).collect()
}

/// The files and folders that nodes write to, each once: output, spool, recordings, history, and what outlives a restart.
pub(super) fn places(watch: &Watch) -> Vec<PathBuf> {
    let mut places = watch.claims().to_vec();
    places.sort();
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Watched;

    #[test]
    fn the_disk_under_each_place_that_a_node_writes_to_is_looked_at_once() {
        let claims = ["spool", "out", "state/alerts.json", "out"].map(PathBuf::from).to_vec();
        let watch = Watch::new(Watched { claims, ..Watched::default() });
        let expected = ["out", "spool", "state/alerts.json"].map(PathBuf::from);
        assert_eq!(places(&watch), expected);
    }
}
