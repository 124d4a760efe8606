//! What is drawn of a plan: its nodes, and in front of a source of several endpoints these, which it merges.

use sluice_stages::component::Role;
use sluice_stages::edge::{EdgeConfig, WhenFull};
use sluice_stages::yellowstone::endpoints::{EndpointRole, ListedEndpoint, names};

use super::bounds;
use crate::plan::{Plan, PlanNode};

/// A node of a picture.
#[derive(Debug)]
pub(super) struct DrawnNode {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) role: Role,
    pub(super) inputs: Vec<DrawnEdge>,
}

/// An edge of a picture; it belongs to the node that reads.
#[derive(Debug, Clone)]
pub(super) struct DrawnEdge {
    /// The position of the node that is read.
    pub(super) from: usize,
    /// What is written on it.
    pub(super) label: String,
    /// Whether all that goes in comes out.
    pub(super) lossless: bool,
}

impl DrawnEdge {
    fn new(from: usize, config: EdgeConfig) -> Self {
        Self { from, label: bounds(config), lossless: config.when_full == WhenFull::Block }
    }
}

/// All nodes in the order of the flow.
pub(super) fn drawn(plan: &Plan) -> Vec<DrawnNode> {
    let mut nodes: Vec<DrawnNode> = Vec::new();
    let mut places = Vec::new();
    for node in &plan.nodes {
        let mut inputs: Vec<DrawnEdge> =
            node.inputs.iter().map(|edge| DrawnEdge::new(places[edge.from], edge.config)).collect();
        let (endpoints, mode) = group(node);
        let mut kind = node.kind.name.to_owned();
        if !endpoints.is_empty() {
            kind = format!("{kind}, {mode}");
        }
        for (endpoint, name) in endpoints.iter().zip(names(&endpoints)) {
            inputs.push(DrawnEdge { from: nodes.len(), label: describe(endpoint), lossless: true });
            nodes.push(DrawnNode {
                name: format!("{}/{name}", node.name),
                kind: "endpoint".to_owned(),
                role: Role::Source,
                inputs: Vec::new(),
            });
        }
        let role = if endpoints.is_empty() { node.role } else { Role::Stage };
        places.push(nodes.len());
        nodes.push(DrawnNode { name: node.name.clone(), kind, role, inputs });
    }
    nodes
}

/// The endpoints of a source that has several, and how they work together.
fn group(node: &PlanNode) -> (Vec<ListedEndpoint>, String) {
    let options = node.options.resolved();
    let listed = options.get("endpoints").cloned().unwrap_or_default();
    let mode = options.get("mode").and_then(|mode| mode.as_str()).unwrap_or_default().to_owned();
    // Only sources of this kind have such a list.
    (serde_json::from_value(listed).unwrap_or_default(), mode)
}

fn describe(endpoint: &ListedEndpoint) -> String {
    let role = match endpoint.role {
        EndpointRole::Active => "active",
        EndpointRole::Standby => "standby",
    };
    format!("{role}, priority {}", endpoint.priority)
}
