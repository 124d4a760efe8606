//! Makes the nodes of a plan and draws its edges. Everything is made before anything is started, so that a plan that
//! can't be built leaves nothing running.

use std::collections::BTreeSet;

use sluice_stages::component::{BuildContext, BuildError, Endpoint, Node, Role};
use sluice_stages::edge::{Inbox, Outbox, connect};
use sluice_stages::recording::player::Guests;
use sluice_stages::watch::EdgeView;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::plan::{Plan, PlanNode};

/// Requests for slots that a recovery node has not taken yet; a sink that finds it full asks again.
const REQUESTS_CAPACITY: usize = 64;

/// A node could not be made.
#[derive(Debug, Error)]
#[error("can't make {role} `{name}`: {source}")]
pub struct BuildFailure {
    /// `source`, `stage` or `sink`.
    pub role: &'static str,
    /// Its name.
    pub name: String,
    /// Why not.
    #[source]
    pub source: BuildError,
}

/// A node with its edges, ready to be started.
pub(crate) struct BuiltNode {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) role: Role,
    pub(crate) node: Node,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    /// Slots that others ask for come in here, if it is a recovery.
    pub(crate) requests: Option<mpsc::Receiver<Vec<u64>>>,
    /// Recovery nodes upstream.
    pub(crate) targets: Vec<mpsc::Sender<Vec<u64>>>,
}

/// A plan whose nodes are made.
pub(crate) struct Built {
    pub(crate) nodes: Vec<BuiltNode>,
    pub(crate) edges: Vec<EdgeView>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) guests: Guests,
}

/// Makes all nodes: sinks first, since they say where to begin; then sources, which say what there is to read; then
/// stages.
pub(crate) fn build(plan: Plan) -> Result<Built, BuildFailure> {
    let inputs: Vec<_> = plan.nodes.iter().map(|node| node.inputs.clone()).collect();
    let mut context = BuildContext::new();
    let mut waiting: Vec<Option<PlanNode>> = plan.nodes.into_iter().map(Some).collect();
    let mut nodes: Vec<Option<BuiltNode>> = (0..waiting.len()).map(|_| None).collect();
    for role in [Role::Sink, Role::Source, Role::Stage] {
        for (place, node) in waiting.iter_mut().zip(&mut nodes).map(|(plan, built)| (built, plan)) {
            if node.as_ref().is_some_and(|node| node.role == role)
                && let Some(planned) = node.take()
            {
                *place = Some(make(planned, &mut context)?);
            }
        }
    }
    let mut nodes: Vec<BuiltNode> = nodes.into_iter().flatten().collect();
    let edges = draw_edges(&mut nodes, &inputs);
    wire_requests(&mut nodes, &inputs);
    let guests = Guests::of(&mut context);
    Ok(Built { nodes, edges, endpoints: context.endpoints, guests })
}

fn make(planned: PlanNode, context: &mut BuildContext) -> Result<BuiltNode, BuildFailure> {
    context.node.clone_from(&planned.name);
    let role = match planned.role {
        Role::Source => "source",
        Role::Stage => "stage",
        Role::Sink => "sink",
    };
    let node = planned.options.build(context);
    let node = node.map_err(|source| BuildFailure { role, name: planned.name.clone(), source })?;
    Ok(BuiltNode {
        name: planned.name,
        kind: planned.kind.name,
        role: planned.role,
        node,
        inbox: Inbox::default(),
        outbox: Outbox::default(),
        requests: None,
        targets: Vec::new(),
    })
}

fn draw_edges(nodes: &mut [BuiltNode], inputs: &[Vec<crate::plan::PlanEdge>]) -> Vec<EdgeView> {
    let mut edges = Vec::new();
    for (to, inputs) in inputs.iter().enumerate() {
        for edge in inputs {
            // Nodes stand after all that they read.
            let (before, rest) = nodes.split_at_mut(to);
            let (sender, receiver) = (&mut before[edge.from], &mut rest[0]);
            let stats = connect(&mut sender.outbox, &mut receiver.inbox, edge.config);
            edges.push(EdgeView {
                from: sender.name.clone(),
                to: receiver.name.clone(),
                config: edge.config,
                stats,
            });
        }
    }
    edges
}

/// Gives each node a way to ask the recovery nodes upstream of it for slots.
fn wire_requests(nodes: &mut [BuiltNode], inputs: &[Vec<crate::plan::PlanEdge>]) {
    let mut senders: Vec<Option<mpsc::Sender<Vec<u64>>>> = vec![None; nodes.len()];
    let mut upstream: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); nodes.len()];
    for at in 0..nodes.len() {
        for edge in &inputs[at] {
            let mut above = upstream[edge.from].clone();
            above.insert(edge.from);
            upstream[at].extend(above);
        }
        if matches!(nodes[at].node, Node::Transform(_)) {
            let (sender, receiver) = mpsc::channel(REQUESTS_CAPACITY);
            senders[at] = Some(sender);
            nodes[at].requests = Some(receiver);
        }
        nodes[at].targets = upstream[at].iter().filter_map(|&above| senders[above].clone()).collect();
    }
}
