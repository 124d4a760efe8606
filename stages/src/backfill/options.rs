//! The options of `rpc_blocks`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::maker::BlockMaker;
use super::plan::Bounds;
use super::source::RpcBlocks;
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use crate::recovery::pool::RpcList;
use crate::slot::{SLOTS_PER_EPOCH, Slot};
use crate::stage::Flow;
use crate::yellowstone::filters::{Selection, TransactionFilterOptions};
use crate::yellowstone::options::union;

/// Slots of a file of the Parquet sink, unless it says otherwise.
const DEFAULT_COMMIT_SLOTS: u64 = 432;

/// Slots from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotRange {
    /// The first slot.
    pub first: Slot,
    /// The last slot.
    pub last: Slot,
}

impl SlotRange {
    /// Number of slots in it.
    pub fn slots(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

/// Ranges of slots from RPC nodes, whole and final, in order; the source ends behind the last one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RpcBlocksOptions {
    /// The RPC node or nodes, as in `recovery`. Their `requests_per_second` bound how fast this goes.
    pub rpc: RpcList,
    /// The slots, as `[{ first = 100, last = 199 }]`: rising, without overlap.
    pub ranges: Vec<SlotRange>,
    /// The transactions that sinks get: all, or those that match filters, as in `yellowstone`. Default all.
    #[serde(default = "everything")]
    pub transactions: Selection<TransactionFilterOptions>,
    /// Slots that stand and fall together: when one can't be had, the rest of its range is not fetched. Default 432, the
    /// Parquet sink's.
    #[serde(default = "default_commit_slots")]
    pub commit_slots: u64,
    /// Requests under way at a time, at all nodes together. Default: as many as their own `max_in_flight` allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<usize>,
    /// Tries before a slot is called a hole. Default 5: some ten seconds.
    #[serde(default = "default_max_retries")]
    pub max_retries: u32,
    /// Holes after which the source gives up. Default 100: a node that lacks so many is the wrong one, and each holds an
    /// unfinished file in memory.
    #[serde(default = "default_max_holes")]
    pub max_holes: u64,
}

fn everything() -> Selection<TransactionFilterOptions> {
    Selection::Everything
}

fn default_commit_slots() -> u64 {
    DEFAULT_COMMIT_SLOTS
}

fn default_max_retries() -> u32 {
    5
}

fn default_max_holes() -> u64 {
    100
}

impl RpcBlocksOptions {
    /// The defaults, for these ranges from these nodes.
    pub fn new(rpc: impl Into<RpcList>, ranges: Vec<SlotRange>) -> Self {
        Self {
            rpc: rpc.into(),
            ranges,
            max_in_flight: None,
            transactions: everything(),
            commit_slots: default_commit_slots(),
            max_retries: default_max_retries(),
            max_holes: default_max_holes(),
        }
    }

    fn bounds(&self) -> Bounds {
        let all = self.rpc.nodes().iter().map(|node| node.max_in_flight).sum();
        Bounds {
            commit_slots: self.commit_slots,
            max_in_flight: self.max_in_flight.unwrap_or(all),
            max_retries: self.max_retries,
            max_holes: self.max_holes,
        }
    }
}

/// What is wrong with a list of ranges.
pub(crate) fn range_problems(ranges: &[SlotRange]) -> Option<Problem> {
    let problem = |message: &str, help: &str| Problem {
        option: "ranges".to_owned(),
        message: message.to_owned(),
        help: help.to_owned(),
    };
    if ranges.is_empty() {
        return Some(problem("there is nothing to fetch", "write it like [{ first = 100, last = 199 }]"));
    }
    if ranges.iter().any(|range| range.first > range.last) {
        return Some(problem("a range ends before it begins", "swap its ends"));
    }
    let rising = ranges.windows(2).all(|pair| pair[0].last < pair[1].first);
    (!rising).then(|| problem("the ranges overlap or are not in order", "sort and join them"))
}

impl Component for RpcBlocksOptions {
    const KIND: &'static str = "rpc_blocks";
    const ROLE: Role = Role::Source;
    const ACCEPTS: Accepts = Accepts::Nothing;
    const EMITS: Emits = Emits::Only(Flow::Blocks);
    const SUMMARY: &'static str =
        "fetches ranges of final slots from RPC nodes, and ends; `sluice backfill` uses it";

    fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = range_problems(&self.ranges).into_iter().collect();
        problems.extend(self.rpc.problems());
        if self.max_in_flight == Some(0) {
            problems.push(Problem {
                option: "max_in_flight".to_owned(),
                message: "must be more than zero".to_owned(),
                help: "leave it out for what the nodes allow".to_owned(),
            });
        }
        if self.commit_slots == 0 || !SLOTS_PER_EPOCH.is_multiple_of(self.commit_slots) {
            problems.push(Problem {
                option: "commit_slots".to_owned(),
                message: format!(
                    "{} does not divide the {SLOTS_PER_EPOCH} slots of an epoch",
                    self.commit_slots
                ),
                help: "use the sink's, or leave it out for 432".to_owned(),
            });
        }
        problems
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        let maker = BlockMaker::try_new(&self.transactions)?;
        context.scope = union(context.scope, maker.scope());
        let bounds = self.bounds();
        Ok(Node::Source(Box::new(RpcBlocks::new(self.rpc, self.ranges, bounds, maker))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::rpc::RpcOptions;

    fn options(ranges: &[(Slot, Slot)]) -> RpcBlocksOptions {
        let ranges = ranges.iter().map(|&(first, last)| SlotRange { first, last }).collect();
        RpcBlocksOptions::new(RpcOptions::new("http://localhost"), ranges)
    }

    #[test]
    fn ranges_have_to_rise() {
        assert_eq!(options(&[(0, 9), (20, 29)]).problems(), []);
        for wrong in [&[][..], &[(9, 0)], &[(0, 9), (9, 20)], &[(20, 29), (0, 9)]] {
            let problems = options(wrong).problems();
            assert_eq!(problems.first().map(|problem| problem.option.as_str()), Some("ranges"), "{wrong:?}");
        }
    }

    #[test]
    fn the_nodes_options_are_checked_in_their_place() {
        let mut options = options(&[(0, 9)]);
        options.rpc = RpcOptions::new("ftp://host").into();
        options.max_in_flight = Some(0);
        options.commit_slots = 7;
        let problems: Vec<String> = options.problems().into_iter().map(|problem| problem.option).collect();
        assert_eq!(problems, ["rpc.url", "max_in_flight", "commit_slots"]);
    }
}
