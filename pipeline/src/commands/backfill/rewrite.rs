//! A live pipeline made into one that fills its files from elsewhere.
//!
//! ```text
//!   ams ─┐                                               ┌─ files        live
//!   us  ─┴─ first ─ once ─ slots ─ whole ─ final ─ tap ──┴─ webhook
//!                    backfill ──────────── final ─ tap ──── files        rewritten
//! ```
//!
//! What stands behind the recovery stays, with its options and the bounds of its edges. All that handles single updates
//! goes, and so do recovery and proof, which ask endpoints for what they miss. Of the sinks those stay that take nothing
//! but blocks: nobody wants an alert for, or a webhook of, what happened last month.

use std::collections::BTreeMap;

use sluice_sinks::parquet::{ParquetOptions, StartSlot};
use sluice_stages::component::{Accepts, Component, Emits, Role};
use sluice_stages::recovery::RecoveryOptions;
use sluice_stages::recovery::pool::RpcList;
use sluice_stages::recovery::rpc::RpcOptions;
use sluice_stages::slot::Slot;
use sluice_stages::stage::Flow;
use sluice_stages::yellowstone::YellowstoneOptions;
use sluice_stages::yellowstone::filters::{Selection, TransactionFilterOptions};
use thiserror::Error;

use crate::kinds::{KINDS, erase};
use crate::plan::{Plan, PlanEdge, PlanNode};

/// Stages of blocks that have no place behind a backfill.
const LIVE_ONLY: [&str; 2] = ["recovery", "proof"];

/// Why a pipeline can't be filled.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RewriteError {
    /// There are no files to fill.
    #[error("no parquet sink stands behind the pipeline's blocks, so there are no files to fill")]
    NoFiles,
    /// There is nobody to ask.
    #[error(
        "no recovery stage has an rpc node to ask; add `rpc = {{ url = \"https://…\" }}` to the recovery stage"
    )]
    NoRpc,
}

/// The options of the pipeline's nodes of one kind.
pub(crate) fn options_of<C: Component + 'static>(plan: &Plan) -> impl Iterator<Item = (&str, &C)> {
    plan.nodes
        .iter()
        .filter_map(|node| Some((node.name.as_str(), node.options.as_any().downcast_ref::<C>()?)))
}

/// The RPC nodes that the pipeline's recoveries ask, each once.
pub(crate) fn rpc(plan: &Plan) -> Result<RpcList, RewriteError> {
    let lists = options_of::<RecoveryOptions>(plan).filter_map(|(_, options)| options.rpc.as_ref());
    let mut nodes: Vec<RpcOptions> = Vec::new();
    for node in lists.flat_map(RpcList::nodes) {
        if nodes.iter().all(|known| known.url != node.url) {
            nodes.push(node.clone());
        }
    }
    if nodes.is_empty() { Err(RewriteError::NoRpc) } else { Ok(nodes.into()) }
}

/// The transactions that the pipeline's sources subscribe to, taken together.
pub(crate) fn transactions(plan: &Plan) -> Selection<TransactionFilterOptions> {
    let mut sources = options_of::<YellowstoneOptions>(plan).peekable();
    if sources.peek().is_none() {
        return Selection::Everything;
    }
    let mut named = BTreeMap::new();
    for (name, options) in sources {
        match options.selected_transactions() {
            Selection::Everything => return Selection::Everything,
            selected => named.extend(
                selected.named().map(|(filter, options)| (format!("{name}.{filter}"), options.clone())),
            ),
        }
    }
    if named.is_empty() { Selection::Nothing } else { Selection::Named(named) }
}

/// The pipeline with another source.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// The plan.
    pub(crate) plan: Plan,
    /// Sinks that it has no place for.
    pub(crate) left_out: Vec<String>,
}

/// What replaces the live sources.
pub(crate) fn rewrite<C>(plan: Plan, source: C, start: Slot) -> Result<Rewritten, RewriteError>
where
    C: Component + Send + 'static,
{
    let flows = flows(&plan);
    let with_transactions = transactions(&plan) != Selection::Nothing;
    let kept: Vec<bool> = plan.nodes.iter().zip(&flows).map(|(node, flow)| is_kept(node, *flow)).collect();
    let left_out = plan.nodes.iter().zip(&kept).filter(|(node, kept)| node.role == Role::Sink && !**kept);
    let left_out: Vec<String> = left_out.map(|(node, _)| node.name.clone()).collect();
    let name = free_name(&plan);
    let mut nodes = vec![source_node(name, source).ok_or(RewriteError::NoFiles)?];
    let mut places: Vec<Option<usize>> = Vec::new();
    for (node, kept) in plan.nodes.into_iter().zip(kept) {
        places.push(kept.then_some(nodes.len()));
        if kept {
            nodes.push(moved(node, &places, start, with_transactions));
        }
    }
    prune(&mut nodes);
    let is_file = |node: &PlanNode| node.kind.name == ParquetOptions::KIND;
    if !nodes.iter().any(is_file) {
        return Err(RewriteError::NoFiles);
    }
    Ok(Rewritten { plan: Plan { nodes, ..plan }, left_out })
}

/// What comes out of each node.
fn flows(plan: &Plan) -> Vec<Option<Flow>> {
    let mut flows: Vec<Option<Flow>> = Vec::new();
    for node in &plan.nodes {
        let input = node.inputs.first().and_then(|edge| flows[edge.from]);
        flows.push(match node.kind.emits {
            Emits::Only(flow) => Some(flow),
            // Of a sink, what comes in.
            Emits::Same | Emits::Nothing => input,
        });
    }
    flows
}

fn is_kept(node: &PlanNode, flow: Option<Flow>) -> bool {
    let takes_blocks = match node.kind.accepts {
        Accepts::Only(accepts) => accepts == Flow::Blocks,
        Accepts::Any => node.role == Role::Stage || node.kind.name == "discard",
        Accepts::AnyOf(_) | Accepts::Nothing => false,
    };
    takes_blocks && flow == Some(Flow::Blocks) && !LIVE_ONLY.contains(&node.kind.name)
}

fn free_name(plan: &Plan) -> String {
    let mut name = "backfill".to_owned();
    while plan.nodes.iter().any(|node| node.name == name) {
        name.push('_');
    }
    name
}

fn source_node<C: Component + Send + 'static>(name: String, options: C) -> Option<PlanNode> {
    let kind = KINDS.iter().find(|kind| kind.name == C::KIND)?;
    Some(PlanNode { name, role: Role::Source, kind, options: erase(options), inputs: Vec::new() })
}

/// A node in its new place; what it read and is not there any more comes from the new source, which stands first.
fn moved(mut node: PlanNode, places: &[Option<usize>], start: Slot, with_transactions: bool) -> PlanNode {
    let mut inputs: Vec<PlanEdge> = Vec::new();
    for edge in node.inputs {
        let from = places[edge.from].unwrap_or(0);
        if inputs.iter().all(|other| other.from != from) {
            inputs.push(PlanEdge { from, config: edge.config });
        }
    }
    node.inputs = inputs;
    if let Some(files) = node.options.as_any().downcast_ref::<ParquetOptions>() {
        let required = files.fillable(with_transactions);
        node.options = erase(ParquetOptions { start_slot: StartSlot::At(start), required, ..files.clone() });
    }
    node
}

/// Takes out stages that nobody reads any more: an edge without a reader would be an error.
fn prune(nodes: &mut Vec<PlanNode>) {
    loop {
        let is_read = |at: usize| nodes.iter().any(|node| node.inputs.iter().any(|edge| edge.from == at));
        let unread = (1..nodes.len()).find(|&at| nodes[at].role == Role::Stage && !is_read(at));
        let Some(unread) = unread else { return };
        take_out(nodes, unread);
    }
}

/// Takes out a node that nobody reads.
pub(crate) fn take_out(nodes: &mut Vec<PlanNode>, at: usize) {
    nodes.remove(at);
    let inputs = nodes.iter_mut().flat_map(|node| &mut node.inputs);
    inputs.filter(|edge| edge.from > at).for_each(|edge| edge.from -= 1);
}

#[cfg(test)]
mod tests {
    use sluice_stages::backfill::{RpcBlocksOptions, SlotRange};

    use super::*;

    const LIVE: &str = r#"
[sources.ams]
type = "yellowstone"
url = "http://a"
[sources.us]
type = "yellowstone"
url = "http://b"
[stages.early]
type = "metrics_tap"
inputs = ["ams"]
[stages.first]
type = "merge"
inputs = ["early", "us"]
[stages.slots]
type = "gap_detector"
inputs = ["first"]
[stages.whole]
type = "recovery"
inputs = ["slots"]
rpc = { url = "http://rpc/?key=secret", requests_per_second = 7 }
[stages.final]
type = "commitment"
inputs = ["whole"]
[stages.tap]
type = "metrics_tap"
inputs = ["final"]
capacity_items = 5
[stages.unread]
type = "metrics_tap"
inputs = ["final"]
[sinks.none]
type = "discard"
inputs = ["first", "unread"]
[sinks.files]
type = "parquet"
inputs = ["tap"]
path = "out"
"#;

    fn plan(text: &str) -> Plan {
        Plan::parse("test.toml", text, &|_: &str| None)
            .unwrap_or_else(|wrong| panic!("{}", wrong.render(false)))
    }

    fn source(plan: &Plan) -> RpcBlocksOptions {
        RpcBlocksOptions::new(rpc(plan).expect("there is one"), vec![SlotRange { first: 432, last: 863 }])
    }

    #[test]
    fn what_stands_behind_recovery_stays_and_reads_the_new_source() {
        let text = LIVE.replace("inputs = [\"first\", \"unread\"]", "inputs = [\"first\"]");
        let plan = plan(&text.replace("[stages.unread]\ntype = \"metrics_tap\"\ninputs = [\"final\"]\n", ""));
        let options = source(&plan);
        assert_eq!(options.rpc.nodes()[0].requests_per_second, 7);
        let rewritten = rewrite(plan, options, 432).expect("there are files");
        let resolved = rewritten.plan.resolved();
        let drawn: Vec<String> = resolved["nodes"]
            .as_array()
            .expect("nodes")
            .iter()
            .map(|node| format!("{} <- {}", node["name"].as_str().unwrap_or(""), node["inputs"]))
            .collect();
        assert_eq!(
            drawn,
            [r#"backfill <- []"#, r#"final <- ["backfill"]"#, r#"tap <- ["final"]"#, r#"files <- ["tap"]"#]
        );
        assert_eq!(rewritten.left_out, ["none"]);
        assert_eq!(rewritten.plan.nodes[2].inputs[0].config.capacity_items, 5);
        let (_, files) = options_of::<ParquetOptions>(&rewritten.plan).next().expect("it stays");
        assert_eq!(files.start_slot, StartSlot::At(432));
        assert!(!format!("{resolved}{:?}", rewritten.plan).contains("secret"));
    }

    #[test]
    fn filters_of_all_sources_are_taken_together() {
        assert_eq!(transactions(&plan(LIVE)), Selection::Everything);
        let filtered = |text: &str, name: &str| {
            text.replace(
                &format!("url = \"http://{name}\""),
                &format!("url = \"http://{name}\"\ntransactions = {{ quiet = {{ vote = false }} }}"),
            )
        };
        let one = filtered(LIVE, "a");
        assert_eq!(transactions(&plan(&one)), Selection::Everything, "the other one takes all");
        let Selection::Named(named) = transactions(&plan(&filtered(&one, "b"))) else { panic!("filters") };
        assert_eq!(named.keys().collect::<Vec<_>>(), ["ams.quiet", "us.quiet"]);
    }

    #[test]
    fn without_files_or_an_rpc_node_there_is_nothing_to_do() {
        let (without, _) = LIVE.split_once("[sinks.files]").expect("it is there");
        let without = plan(&without.replace("\"unread\"]", "\"unread\", \"tap\"]"));
        let options = source(&without);
        assert_eq!(rewrite(without, options, 0).err(), Some(RewriteError::NoFiles));
        let (before, after) = LIVE.split_once("rpc = ").expect("it is there");
        let (_, after) = after.split_once('\n').expect("lines");
        assert_eq!(rpc(&plan(&format!("{before}{after}"))).err(), Some(RewriteError::NoRpc));
    }
}
