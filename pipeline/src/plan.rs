//! A pipeline that has been checked: typed options, nodes in the order of the flow, edges with their bounds.
//!
//! ```text
//! text ─ document::parse ─→ tables ─ Kind::read ─→ drafts ─ Graph::connect, rules ─→ Plan
//! ```
//!
//! Each step reports all that it finds and goes on with what is right, so that one run shows every error. A plan is pure
//! data: no file but the pipeline's own has been opened for it.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sluice_config::diagnostic::{Code, Diagnostic, Diagnostics, Source, Sources, quote};
use sluice_config::document::{self, Document};
use sluice_config::graph::Graph;
use sluice_config::layers::apply_flags;
use sluice_config::settings::Settings;
use sluice_config::substitute::Variables;
use sluice_stages::component::Role;
use sluice_stages::edge::EdgeConfig;

use crate::draft::{Checker, Draft};
use crate::kinds::{AnyOptions, KINDS, Kind, StagesOf};
use crate::layers::{self, Environment, Settled};
use crate::measured;
use crate::origins::Origins;
use crate::redact;
use crate::rules;

/// The path that means standard input.
const STDIN: &str = "-";

/// A pipeline, ready to be built.
#[derive(Debug)]
pub struct Plan {
    /// `[pipeline]`.
    pub settings: Settings,
    /// Its nodes; each stands after all that it reads.
    pub nodes: Vec<PlanNode>,
    /// What is not wrong but worth a look.
    pub warnings: Diagnostics,
    /// Where each value came from that is not a default.
    pub origins: Origins,
}

/// A node of a plan.
#[derive(Debug)]
pub struct PlanNode {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its kind.
    pub kind: &'static Kind,
    /// Its kind's own options.
    pub options: Box<dyn AnyOptions>,
    /// What it reads, in the order of the TOML.
    pub inputs: Vec<PlanEdge>,
}

/// An edge of a plan; it belongs to the node that reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanEdge {
    /// The position of the node that is read in [`Plan::nodes`].
    pub from: usize,
    /// How much the edge holds, and what it does when it is full.
    pub config: EdgeConfig,
}

impl Plan {
    /// Reads and checks the file at `path`; `-` is standard input. Variables come from the environment.
    ///
    /// # Errors
    /// Everything that is wrong with it, warnings included.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        Self::load_with(path, &Environment::process(), &[])
    }

    /// Reads and checks the file at `path`, with `variables` and with what `--set` says.
    ///
    /// # Errors
    /// Everything that is wrong with it, warnings included.
    pub fn load_with(path: &Path, variables: &dyn Variables, flags: &[String]) -> Result<Self, Diagnostics> {
        Self::check(KINDS, read_source(path)?, variables, flags)
    }

    /// Checks `text`, which messages call `name`.
    ///
    /// # Errors
    /// Everything that is wrong with it, warnings included.
    pub fn parse(name: &str, text: &str, variables: &dyn Variables) -> Result<Self, Diagnostics> {
        Self::parse_with(KINDS, name, text, variables)
    }

    /// All options of all nodes with their values, defaults included and secrets left out.
    pub fn resolved(&self) -> serde_json::Value {
        let node = |node: &PlanNode| {
            let inputs: Vec<_> = node.inputs.iter().map(|edge| self.nodes[edge.from].name.as_str()).collect();
            serde_json::json!({
                "name": node.name,
                "section": node.kind.section().key(),
                "type": node.kind.name,
                "inputs": inputs,
                "options": node.options.resolved(),
            })
        };
        let nodes: Vec<_> = self.nodes.iter().map(node).collect();
        let settings = redact::value(serde_json::json!(self.settings));
        serde_json::json!({ "pipeline": settings, "nodes": nodes })
    }

    /// Files and folders that its nodes keep to themselves.
    pub fn claims(&self) -> Vec<PathBuf> {
        self.nodes.iter().flat_map(|node| node.options.claims()).collect()
    }

    /// Checks `text` against a table of kinds of one's own.
    ///
    /// # Errors
    /// Everything that is wrong with it, warnings included.
    pub fn parse_with(
        kinds: &'static [Kind],
        name: &str,
        text: &str,
        variables: &dyn Variables,
    ) -> Result<Self, Diagnostics> {
        Self::check(kinds, Source { name: name.to_owned(), text: text.to_owned() }, variables, &[])
    }

    fn check(
        kinds: &'static [Kind],
        source: Source,
        variables: &dyn Variables,
        flags: &[String],
    ) -> Result<Self, Diagnostics> {
        let text = source.text.clone();
        let (mut sources, mut found) = (Sources::new(source), Vec::new());
        let settled = Settled::read(variables, &mut sources, &mut found);
        let Some(mut document) = document::parse(&text, variables, &mut found) else {
            return Err(Diagnostics::of(sources, found));
        };
        settled.apply(&mut document, &mut found);
        apply_flags(&mut document, flags, &mut sources, &mut found);
        settled.check_use(&document, &mut found);
        layers::complete(&mut document, &mut sources);
        let origins = Origins::of(&document, &sources);
        let checked = connected(kinds, &document, &mut found);
        found.retain(|one| !document.is_echo(one));
        let diagnostics = Diagnostics::of(sources, found);
        match checked {
            Some((settings, nodes)) if diagnostics.errors() == 0 => {
                Ok(Self { settings, nodes, warnings: diagnostics, origins })
            }
            _ => Err(diagnostics),
        }
    }
}

/// Nodes that can be read, connected, and checked by what their kinds need of each other.
fn connected(
    kinds: &'static [Kind],
    document: &Document<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<(Settings, Vec<PlanNode>)> {
    let (settings, drafts) = Checker { kinds, document, found }.read_all();
    let graph_nodes: Vec<_> = drafts.iter().map(|draft| draft.graph.clone()).collect();
    let graph = Graph::connect(&graph_nodes, &StagesOf(kinds), found);
    rules::check(&drafts, &graph, found);
    measured::check(&drafts, document, &graph, found);
    Some((settings?, assemble(drafts, &graph)?))
}

fn read_source(path: &Path) -> Result<Source, Diagnostics> {
    let is_stdin = path == Path::new(STDIN);
    let name = if is_stdin { "<stdin>".to_owned() } else { path.display().to_string() };
    let fail =
        |text: String, diagnostic| Diagnostics::new(Source { name: name.clone(), text }, vec![diagnostic]);
    let bytes = if is_stdin { read_stdin() } else { fs::read(path) };
    let bytes = bytes.map_err(|error| {
        let message = format!("can't read {}: {error}", quote(&name));
        fail(String::new(), Diagnostic::error(Code::Unreadable, message))
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let wrong = Diagnostic::error(Code::Unreadable, "this is not UTF-8 text");
        fail(
            String::from_utf8_lossy(error.as_bytes()).into_owned(),
            wrong.at(valid..valid + 1, "from here on"),
        )
    })?;
    Ok(Source { name, text })
}

fn read_stdin() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Nodes in the order of the flow; `None` if one is not whole.
fn assemble(drafts: Vec<Draft>, graph: &Graph<'_>) -> Option<Vec<PlanNode>> {
    let mut new_position = vec![None; drafts.len()];
    for (position, node) in graph.order().iter().enumerate() {
        new_position[*node] = Some(position);
    }
    let mut nodes: Vec<Option<PlanNode>> = (0..drafts.len()).map(|_| None).collect();
    for (old, draft) in drafts.into_iter().enumerate() {
        let upstream = graph.upstream(old).iter().map(|from| new_position[*from]);
        let edges = upstream
            .zip(&draft.edges)
            .map(|(from, edge)| Some(PlanEdge { from: from?, config: edge.config }));
        let inputs = edges.collect::<Option<Vec<_>>>()?;
        let kind = draft.kind?;
        let node =
            PlanNode { name: draft.graph.name, role: kind.role, kind, options: draft.options?, inputs };
        nodes[new_position[old]?] = Some(node);
    }
    nodes.into_iter().collect()
}

#[cfg(test)]
mod tests;
