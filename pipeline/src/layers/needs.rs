//! What a node must have for an option to change anything in it.

use sluice_config::document::{Document, NodeTable};
use toml::de::DeTable;

/// An option that most nodes of its kind have no use for.
struct Need {
    kind: &'static str,
    option: &'static str,
    /// Whether a node with these options has a use for it.
    is_met: fn(&DeTable<'_>) -> bool,
    /// Which nodes that are.
    words: &'static str,
}

const NEEDS: [Need; 3] = [
    Need {
        kind: "yellowstone",
        option: "mode",
        is_met: has_several_endpoints,
        words: "sources with two `endpoints` or more",
    },
    Need {
        kind: "commitment",
        option: "thresholds.max_latency",
        is_met: is_adaptive,
        words: "`strategy = \"adaptive\"`",
    },
    Need {
        kind: "commitment",
        option: "thresholds.max_throughput",
        is_met: is_adaptive,
        words: "`strategy = \"adaptive\"`",
    },
];

fn has_several_endpoints(options: &DeTable<'_>) -> bool {
    options.get("endpoints").and_then(|list| list.get_ref().as_array()).is_some_and(|list| list.len() > 1)
}

fn is_adaptive(options: &DeTable<'_>) -> bool {
    options.get("strategy").and_then(|word| word.get_ref().as_str()) == Some("adaptive")
}

/// Why `option` changes nothing in any of the nodes of `kind`, if that is so although there are some.
pub(super) fn lacking(kind: &str, option: &str, document: &Document<'_>) -> Option<String> {
    let need = NEEDS.iter().find(|need| need.kind == kind && need.option == option)?;
    let is_of_kind = |node: &&NodeTable<'_>| node.kind.as_ref().is_some_and(|word| word.get_ref() == kind);
    let mut nodes = document.nodes.iter().filter(is_of_kind).peekable();
    nodes.peek()?;
    let is_used = nodes.any(|node| (need.is_met)(&node.options.table));
    (!is_used).then(|| format!("it is for {}, and there are none", need.words))
}
