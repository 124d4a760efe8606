//! What some kinds need of the path that leads to them, as a table.

use std::collections::HashSet;

use serde_json::Value;
use sluice_config::diagnostic::{Code, Diagnostic};
use sluice_config::document::{Document, NodeTable};
use sluice_config::graph::Graph;
use sluice_stages::edge::WhenFull;

use crate::draft::Draft;

/// A kind of node, and the value that one of its options must have.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    kind: &'static str,
    option: Option<(&'static str, &'static str)>,
}

impl Wanted {
    fn describe(&self) -> String {
        match self.option {
            Some((_, "true")) | None => format!("`{}`", self.kind),
            Some((option, value)) => format!("`{}` with {option} = \"{value}\"", self.kind),
        }
    }

    fn is(&self, draft: &Draft) -> bool {
        let has = |(option, value): (&str, &str)| {
            // Options that could not be read are reported already, so they are taken to be right.
            draft
                .options
                .as_ref()
                .is_none_or(|options| options.resolved().get(option).is_none_or(|is| shows(is, value)))
        };
        let is_whole = self.kind == "recovery" && WHOLE_SOURCES.contains(&draft.kind_name());
        is_whole || draft.kind_name() == self.kind && self.option.is_none_or(has)
    }
}

/// Whether a value is the one that a rule writes as text.
fn shows(value: &Value, text: &str) -> bool {
    match value.as_str() {
        Some(word) => word == text,
        None => value.to_string().as_str() == text,
    }
}
/// Sources whose slots come whole, so that there is nothing to recover behind them.
const WHOLE_SOURCES: [&str; 2] = ["rpc_blocks", "car"];

#[derive(Debug, Clone, Copy)]
enum Demand {
    /// It stands on every path from a source.
    OnEveryPath(Wanted),
    /// It stands on every path from a source, or gaps stay open: only a warning.
    Advised(Wanted),
    /// It stands on no path.
    OnNoPath(&'static str),
    /// No edge on any path drops anything.
    Lossless,
}

#[derive(Debug)]
struct Rule {
    kind: &'static str,
    demand: Demand,
    because: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        kind: "parquet",
        demand: Demand::OnEveryPath(Wanted { kind: "commitment", option: Some(("level", "finalized")) }),
        because: "its files are never changed again, so only final slots may enter them",
    },
    Rule {
        kind: "parquet",
        demand: Demand::Advised(Wanted { kind: "recovery", option: Some(("enabled", "true")) }),
        because: "without it a missing slot holds up every file after it",
    },
    Rule {
        kind: "parquet",
        demand: Demand::Lossless,
        because: "a file appears only when all of its slots are complete",
    },
    Rule {
        kind: "recovery",
        demand: Demand::OnNoPath("commitment"),
        because: "what it brings back has to be held until it is settled, too",
    },
    Rule {
        kind: "spool",
        demand: Demand::OnNoPath("dedupe"),
        because: "what repeats is let go there, and a spool has to keep who delivered what",
    },
    Rule {
        kind: "proof",
        demand: Demand::OnNoPath("commitment"),
        because: "what it holds back has to be fetched again before it is settled",
    },
];

/// The nodes of `kind` whose `option` some node behind them insists on, so that no profile may choose it.
pub(crate) fn bound(document: &Document<'_>, kind: &str, option: &str) -> HashSet<String> {
    let insists = |rule: &&Rule| match rule.demand {
        Demand::OnEveryPath(wanted) => {
            wanted.kind == kind && wanted.option.is_some_and(|(name, _)| name == option)
        }
        _ => false,
    };
    let kind_of = |node: &NodeTable<'_>| node.kind.as_ref().map(|word| word.get_ref().clone());
    let mut open: Vec<&str> = Vec::new();
    for rule in RULES.iter().filter(insists) {
        let about = document.nodes.iter().filter(|node| kind_of(node).is_some_and(|word| word == rule.kind));
        open.extend(about.map(|node| node.name.get_ref().as_str()));
    }
    let mut upstream = HashSet::new();
    while let Some(name) = open.pop() {
        let Some(node) = document.nodes.iter().find(|node| node.name.get_ref() == name) else { continue };
        if upstream.insert(name.to_owned()) {
            let inputs = node.inputs.iter().flat_map(|inputs| &inputs.list);
            open.extend(inputs.map(|input| input.from.get_ref().as_str()));
        }
    }
    upstream
}

/// Checks every rule on every node that it is about.
pub(crate) fn check(drafts: &[Draft], graph: &Graph<'_>, found: &mut Vec<Diagnostic>) {
    for rule in RULES {
        let about = (0..drafts.len()).filter(|node| drafts[*node].kind_name() == rule.kind);
        for node in about {
            match rule.demand {
                Demand::OnEveryPath(wanted) => {
                    let missing = missing(rule, wanted, node, drafts, graph);
                    found.extend(missing.map(|parts| parts.into_diagnostic(Diagnostic::error)));
                }
                Demand::Advised(wanted) => {
                    let missing = missing(rule, wanted, node, drafts, graph);
                    found.extend(missing.map(|parts| parts.into_diagnostic(Diagnostic::warning)));
                }
                Demand::OnNoPath(kind) => found.extend(misplaced(rule, kind, node, drafts, graph)),
                Demand::Lossless => found.extend(lossy(rule, node, drafts, graph)),
            }
        }
    }
}

/// A diagnostic whose severity is still open.
struct Missing {
    title: String,
    span: std::ops::Range<usize>,
    label: String,
    help: String,
}

impl Missing {
    fn into_diagnostic(self, new: fn(Code, String) -> Diagnostic) -> Diagnostic {
        new(Code::MissingUpstream, self.title).at(self.span, self.label).help(self.help)
    }
}

fn missing(rule: &Rule, wanted: Wanted, node: usize, drafts: &[Draft], graph: &Graph<'_>) -> Option<Missing> {
    let path = graph.path_without(node, &|other| wanted.is(&drafts[other]))?;
    let names: Vec<_> = path.iter().map(|node| drafts[*node].graph.name.as_str()).collect();
    Some(Missing {
        title: format!("{} needs a {} before it", drafts[node].title, wanted.describe()),
        span: drafts[node].graph.span.clone(),
        label: format!("reached through {}", names.join(" → ")),
        help: format!("put a stage of type {} on that path: {}", wanted.describe(), rule.because),
    })
}

fn misplaced(
    rule: &Rule,
    kind: &str,
    node: usize,
    drafts: &[Draft],
    graph: &Graph<'_>,
) -> Option<Diagnostic> {
    let other = graph.find_upstream(node, &|other| drafts[other].kind_name() == kind)?;
    let title = format!("{} can't stand behind {}", drafts[node].title, drafts[other].title);
    Some(
        Diagnostic::error(Code::MisplacedStage, title)
            .at(drafts[node].graph.span.clone(), format!("a `{}`", rule.kind))
            .context(drafts[other].graph.span.clone(), format!("a `{kind}`"))
            .help(format!("swap them: {}", rule.because)),
    )
}

/// Every place that makes an edge on a path to `node` drop what it has no room for.
fn lossy(rule: &Rule, node: usize, drafts: &[Draft], graph: &Graph<'_>) -> Vec<Diagnostic> {
    let mut seen = vec![false; drafts.len()];
    let mut open = vec![node];
    let mut found = Vec::new();
    while let Some(next) = open.pop() {
        if std::mem::replace(&mut seen[next], true) {
            continue;
        }
        open.extend(graph.upstream(next));
        let edges = drafts[next].edges.iter().filter(|edge| edge.config.when_full == WhenFull::DropNewest);
        // Inputs that share the node's setting share its place.
        let mut places: Vec<_> = edges.map(|edge| edge.when_full_span.clone()).collect();
        places.dedup();
        let title = format!("{} may lose items before {}", drafts[next].title, drafts[node].title);
        found.extend(places.into_iter().map(|place| {
            Diagnostic::error(Code::InvalidValue, title.as_str())
                .at(place, "drops what it has no room for")
                .help(format!("use `when_full = \"block\"`: {}", rule.because))
        }));
    }
    found
}
