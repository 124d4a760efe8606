//! The pipeline's graph with what moves in it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sluice_stages::component::Role;
use sluice_stages::edge::WhenFull;
use sluice_stages::stage::{Label, Metric};
use sluice_stages::watch::Watch;
use utoipa::ToSchema;

use crate::api::query::{Nothing, Params};
use crate::api::shared::{Api, Shared};
use crate::api::state::EdgeRates;

/// An edge whose sender waits for more than this share of the time holds the pipeline up.
const BLOCKING_SHARE: f64 = 0.05;

/// Nodes and edges.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct GraphView {
    /// The pipeline's name.
    pipeline: String,
    /// When this API started, unix milliseconds.
    started_ms: u64,
    /// Now, unix milliseconds.
    now_ms: u64,
    /// Whether the pipeline was asked to stop.
    draining: bool,
    /// Bytes of frames in flight.
    memory_used_bytes: u64,
    /// The most bytes of frames that may be in flight.
    memory_limit_bytes: u64,
    /// The nodes, each behind all that it reads.
    nodes: Vec<NodeView>,
    /// The edges.
    edges: Vec<EdgeView>,
    /// The position among the edges of the one that holds the pipeline up, if one does.
    bottleneck: Option<usize>,
}

/// A node.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct NodeView {
    /// Its name in the TOML.
    name: String,
    /// The word after `type =`.
    kind: &'static str,
    /// `source`, `stage` or `sink`.
    role: &'static str,
    /// Items a second that come in, over the last seconds.
    in_per_second: f64,
    /// Items a second that go out along one edge, the busiest.
    out_per_second: f64,
    /// What it shows of itself; empty on the stream.
    metrics: Vec<MetricView>,
}

/// A metric of a node.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct MetricView {
    /// Its name.
    name: &'static str,
    /// Its label, e.g. `{"kind": "transaction"}`.
    labels: BTreeMap<&'static str, String>,
    /// Its value.
    value: f64,
}

/// An edge.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct EdgeView {
    /// The node that sends.
    from: String,
    /// The node that receives.
    to: String,
    /// Items that came out of it.
    items_total: u64,
    /// Items dropped because it was full.
    dropped_total: u64,
    /// Items a second.
    items_per_second: f64,
    /// Bytes a second.
    bytes_per_second: f64,
    /// Items dropped a second.
    dropped_per_second: f64,
    /// Items in flight.
    in_flight_items: u64,
    /// Bytes in flight.
    in_flight_bytes: u64,
    /// Most items in flight.
    capacity_items: u64,
    /// Most bytes in flight.
    capacity_bytes: u64,
    /// How full it is, by items or by bytes, whichever is more: 0 to 1.
    fill: f64,
    /// The share of the time that its sender waited for room: 0 to 1.
    blocked: f64,
    /// The share of the time that its receiver waited for a batch: 0 to 1.
    starved: f64,
    /// What happens when it is full: `block` or `drop_newest`.
    when_full: &'static str,
}

/// The graph now.
pub(in crate::api) fn view(api: &Api, with_metrics: bool) -> GraphView {
    let watch = &api.watch;
    let edges = edges(api);
    let node = |node: &sluice_stages::watch::NodeView| {
        let rate = |edge: &&EdgeView| edge.items_per_second;
        let metrics = if with_metrics { node.board.read() } else { Vec::new() };
        NodeView {
            name: node.name.clone(),
            kind: node.kind,
            role: role(node.role),
            in_per_second: edges
                .iter()
                .filter(|edge| edge.to == node.name)
                .map(|edge| rate(&edge))
                .fold(0.0, |sum, rate| sum + rate),
            out_per_second: edges
                .iter()
                .filter(|edge| edge.from == node.name)
                .map(|edge| rate(&edge))
                .fold(0.0, f64::max),
            metrics: metrics.iter().map(|metric| metric_view(metric, watch)).collect(),
        }
    };
    GraphView {
        pipeline: watch.pipeline().to_owned(),
        started_ms: api.started.as_millis(),
        now_ms: api.now().as_millis(),
        draining: api.draining.is_cancelled(),
        memory_used_bytes: watch.budget().used_bytes() as u64,
        memory_limit_bytes: watch.budget().limit_bytes() as u64,
        nodes: watch.nodes().iter().map(node).collect(),
        bottleneck: bottleneck(&edges),
        edges,
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Stage => "stage",
        Role::Sink => "sink",
    }
}

fn metric_view(metric: &Metric, watch: &Watch) -> MetricView {
    let label = metric.label.map(|(key, label)| match label {
        Label::Word(word) => (key, word.to_owned()),
        Label::Endpoint(id) => (key, watch.endpoint(id).to_owned()),
    });
    MetricView { name: metric.name, labels: label.into_iter().collect(), value: metric.value }
}

fn edges(api: &Api) -> Vec<EdgeView> {
    let live = api.live();
    let views = api.watch.edge_views().iter().enumerate();
    views.map(|(position, edge)| edge_view(edge, live.rates.edge(position))).collect()
}

fn edge_view(edge: &sluice_stages::watch::EdgeView, rates: EdgeRates) -> EdgeView {
    let seen = edge.stats.snapshot();
    let in_flight_items = seen.sent_items.saturating_sub(seen.received_items);
    let in_flight_bytes = seen.sent_bytes.saturating_sub(seen.received_bytes);
    let fill = |held: u64, capacity: usize| held as f64 / capacity.max(1) as f64;
    let items = fill(in_flight_items, edge.config.capacity_items);
    let bytes = fill(in_flight_bytes, edge.config.capacity_bytes);
    EdgeView {
        from: edge.from.clone(),
        to: edge.to.clone(),
        items_total: seen.received_items,
        dropped_total: seen.dropped_items,
        items_per_second: rates.items,
        bytes_per_second: rates.bytes,
        dropped_per_second: rates.dropped,
        in_flight_items,
        in_flight_bytes,
        capacity_items: edge.config.capacity_items as u64,
        capacity_bytes: edge.config.capacity_bytes as u64,
        // A batch that is larger than the edge passes alone.
        fill: items.max(bytes).min(1.0),
        blocked: rates.blocked,
        starved: rates.starved,
        when_full: match edge.config.when_full {
            WhenFull::Block => "block",
            WhenFull::DropNewest => "drop_newest",
        },
    }
}

/// Of edges that block, the one furthest down: those above it block because it does.
fn bottleneck(edges: &[EdgeView]) -> Option<usize> {
    edges.iter().rposition(|edge| edge.blocked > BLOCKING_SHARE)
}

/// The pipeline's graph: nodes with their metrics, edges with live rates, fill and waits.
#[utoipa::path(
    get, path = "/api/v1/graph", tag = "pipeline",
    responses((status = 200, description = "The graph", body = GraphView))
)]
pub(in crate::api) async fn graph(
    State(api): Shared,
    Params(Nothing {}): Params<Nothing>,
) -> Json<GraphView> {
    Json(view(&api, true))
}
