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
use std::path::{Component as PathPart, Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use sluice_config::diagnostic::{Code, Diagnostic, Diagnostics, Source, Sources, Span, quote};
use sluice_config::document::{self, Document, Input, NodeTable, OptionTable};
use sluice_config::graph::{Gives, Graph, GraphNode, Takes};
use sluice_config::layers::apply_flags;
use sluice_config::options::{self, locate, without_values};
use sluice_config::settings::Settings;
use sluice_config::spelling::suggest;
use sluice_config::substitute::Variables;
use sluice_stages::component::Role;
use sluice_stages::edge::{EdgeConfig, WhenFull};

use crate::kinds::{AnyOptions, KINDS, Kind, StagesOf};
use crate::layers::{self, Environment, Settled};
use crate::origins::Origins;
use crate::rules;

/// What to do about a bound of zero.
const MORE: &str = "give more, or leave it out for the default";

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
        serde_json::json!({ "pipeline": self.settings, "nodes": nodes })
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
        layers::complete(&mut document, &mut sources);
        let origins = Origins::of(&document, &sources);
        let checked = Checker { kinds, document: &document, found: &mut found }.check();
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

/// The options of an edge, as a node or an input may give them.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeOptions {
    /// Most items in flight. Default 65536: three slots of mainnet.
    pub capacity_items: Option<usize>,
    /// Most bytes in flight. Default 16MiB: five slots of mainnet's transactions. What is larger passes alone.
    #[serde(with = "sluice_config::units::option_bytes")]
    #[schemars(with = "Option<String>")]
    pub capacity_bytes: Option<usize>,
    /// What a full edge does: `block` makes the sender wait, `drop_newest` drops the batch and counts it. Default block.
    #[schemars(with = "Option<String>", extend("enum" = ["block", "drop_newest"]))]
    pub when_full: Option<WhenFull>,
}

impl EdgeOptions {
    /// These, and `others` where these say nothing.
    fn or(self, others: Self) -> Self {
        Self {
            capacity_items: self.capacity_items.or(others.capacity_items),
            capacity_bytes: self.capacity_bytes.or(others.capacity_bytes),
            when_full: self.when_full.or(others.when_full),
        }
    }

    fn config(self) -> EdgeConfig {
        let default = EdgeConfig::default();
        EdgeConfig {
            capacity_items: self.capacity_items.unwrap_or(default.capacity_items),
            capacity_bytes: self.capacity_bytes.unwrap_or(default.capacity_bytes),
            when_full: self.when_full.unwrap_or(default.when_full),
        }
    }
}

/// A node on its way to the plan: what could be read of it.
pub(crate) struct Draft {
    /// How messages call it.
    pub(crate) title: String,
    /// The graph's view of it.
    pub(crate) graph: GraphNode,
    /// Its kind, if there is such a kind.
    pub(crate) kind: Option<&'static Kind>,
    /// Its options, if they could be read.
    pub(crate) options: Option<Box<dyn AnyOptions>>,
    /// Its edges, in the order of its inputs.
    pub(crate) edges: Vec<DraftEdge>,
}

impl Draft {
    /// The word for its kind; empty if there is no such kind.
    pub(crate) fn kind_name(&self) -> &'static str {
        self.kind.map_or("", |kind| kind.name)
    }
}

/// An edge on its way to the plan.
pub(crate) struct DraftEdge {
    /// Its bounds.
    pub(crate) config: EdgeConfig,
    /// Where it is said what it does when it is full.
    pub(crate) when_full_span: Span,
}

struct Checker<'c> {
    kinds: &'static [Kind],
    document: &'c Document<'c>,
    found: &'c mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn check(mut self) -> Option<(Settings, Vec<PlanNode>)> {
        let settings = self.settings();
        let document = self.document;
        let drafts: Vec<_> = document.nodes.iter().map(|table| self.draft(table)).collect();
        self.claims(&drafts);
        let graph_nodes: Vec<_> = drafts.iter().map(|draft| draft.graph.clone()).collect();
        let graph = Graph::connect(&graph_nodes, &StagesOf(self.kinds), self.found);
        rules::check(&drafts, &graph, self.found);
        Some((settings?, assemble(drafts, &graph)?))
    }

    fn settings(&mut self) -> Option<Settings> {
        let document = self.document;
        let settings: Settings = self.read("`pipeline`", &document.settings)?;
        if settings.memory_limit == 0 {
            self.invalid(
                "memory_limit",
                "`pipeline`",
                &document.settings,
                "nothing fits into no memory",
                MORE,
            );
        }
        if !(1..=100).contains(&settings.max_cpu_percent) {
            self.invalid(
                "max_cpu_percent",
                "`pipeline`",
                &document.settings,
                "this is no share of a whole",
                "give 1 to 100",
            );
        }
        Some(settings)
    }

    fn read<T>(&mut self, title: &str, table: &OptionTable<'_>) -> Option<T>
    where
        T: serde::de::DeserializeOwned + JsonSchema,
    {
        let read = options::read(title, table, &self.document.replaced);
        self.found.extend(read.found);
        read.options
    }

    fn invalid(&mut self, option: &str, title: &str, table: &OptionTable<'_>, label: &str, help: &str) {
        let message = format!("the value of {} of {title} can't be used", quote(option));
        let invalid = Diagnostic::error(Code::InvalidValue, message).at(locate(table, option), label);
        self.found.push(invalid.help(help));
    }

    fn draft(&mut self, table: &NodeTable<'_>) -> Draft {
        let kind = self.kind(table);
        let title = table.title();
        let options = kind.and_then(|kind| {
            let read = kind.read(&title, &table.options, &self.document.replaced);
            self.found.extend(read.found);
            read.options
        });
        for problem in options.iter().flat_map(|options| options.problems()) {
            self.problem(&title, table, &problem);
        }
        let (takes, gives) = kind.map_or((Takes::Any, Gives::Unknown), |kind| (kind.takes(), kind.gives()));
        let graph = GraphNode::new(table, takes, gives);
        Draft { edges: self.edges(&title, table), title, graph, kind, options }
    }

    fn kind(&mut self, table: &NodeTable<'_>) -> Option<&'static Kind> {
        let word = table.kind.as_ref()?;
        let section = table.section;
        let known = self.kinds.iter().find(|kind| kind.name == word.get_ref());
        let Some(kind) = known else {
            let names = || self.kinds.iter().filter(|kind| kind.section() == section).map(|kind| kind.name);
            let everywhere = self.kinds.iter().map(|kind| kind.name);
            let help = match suggest(word.get_ref(), names()).or_else(|| suggest(word.get_ref(), everywhere))
            {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("kinds of {} are {}", section.key(), list_of(names())),
            };
            let title = format!("there is no kind {}", quote(word.get_ref()));
            let unknown = Diagnostic::error(Code::UnknownKind, title).at(word.span(), "unknown kind");
            self.found.push(unknown.help(help));
            return None;
        };
        if kind.section() != section {
            let title = format!("`{}` is a {}, not a {}", kind.name, kind.section().noun(), section.noun());
            let misplaced = Diagnostic::error(Code::MisplacedKind, title)
                .at(word.span(), "")
                .context(table.name.span(), format!("stands in `{}`", section.key()));
            let name = table.name.get_ref();
            self.found.push(misplaced.help(format!("call the table `[{}.{name}]`", kind.section().key())));
            return None;
        }
        Some(kind)
    }

    fn problem(&mut self, title: &str, table: &NodeTable<'_>, problem: &sluice_stages::component::Problem) {
        let span = locate(&table.options, &problem.option);
        let message = format!("the value of {} of {title} can't be used", quote(&problem.option));
        let label = without_values(&problem.message, &span, &self.document.replaced);
        let help = without_values(&problem.help, &span, &self.document.replaced);
        self.found.push(Diagnostic::error(Code::InvalidValue, message).at(span, label).help(help));
    }

    fn edges(&mut self, title: &str, table: &NodeTable<'_>) -> Vec<DraftEdge> {
        let of_node = self.edge_options(title, &table.edge);
        let inputs = table.inputs.iter().flat_map(|inputs| &inputs.list);
        inputs.map(|input| self.edge(title, table, input, of_node)).collect()
    }

    fn edge(
        &mut self,
        title: &str,
        node: &NodeTable<'_>,
        input: &Input<'_>,
        of_node: EdgeOptions,
    ) -> DraftEdge {
        let name = format!("input {} of {title}", quote(input.from.get_ref()));
        let own = self.edge_options(&name, &input.edge);
        let table = if own.when_full.is_some() { &input.edge } else { &node.edge };
        DraftEdge { config: own.or(of_node).config(), when_full_span: locate(table, "when_full") }
    }

    fn edge_options(&mut self, title: &str, table: &OptionTable<'_>) -> EdgeOptions {
        let read: EdgeOptions = self.read(title, table).unwrap_or_default();
        let zeros = [("capacity_items", read.capacity_items), ("capacity_bytes", read.capacity_bytes)];
        for (option, _) in zeros.into_iter().filter(|(_, capacity)| *capacity == Some(0)) {
            self.invalid(option, title, table, "an edge has to hold something", MORE);
        }
        read
    }

    /// Reports each file or folder that two nodes want for themselves.
    fn claims(&mut self, drafts: &[Draft]) {
        let mut claimed: Vec<(PathBuf, Span, &Draft)> = Vec::new();
        for (draft, table) in drafts.iter().zip(&self.document.nodes) {
            for claim in draft.options.iter().flat_map(|options| options.claims()) {
                let span = locate_path(table, &claim);
                let path = plain_path(&claim);
                let shared = |other: &&(PathBuf, Span, &Draft)| {
                    other.0.starts_with(&path) || path.starts_with(&other.0)
                };
                if let Some((_, first, other)) = claimed.iter().find(shared) {
                    let title = format!("{} and {} write to one place", other.title, draft.title);
                    let conflict = Diagnostic::error(Code::SharedClaim, title)
                        .at(span.clone(), "claimed here too")
                        .context(first.clone(), "first claimed here");
                    self.found
                        .push(conflict.help("give each of them a folder that is not within the other's"));
                }
                claimed.push((path, span, draft));
            }
        }
    }
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

fn list_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Where `path` stands among the options of a node; its name if it is not written out.
fn locate_path(table: &NodeTable<'_>, path: &Path) -> Span {
    let is_it = |value: &toml::de::DeValue<'_>| value.as_str().is_some_and(|text| Path::new(text) == path);
    let found = table.options.table.values().find(|value| is_it(value.get_ref()));
    found.map_or_else(|| table.name.span(), |value| value.span())
}

/// `path` without `.`, and without what `..` takes back.
fn plain_path(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            PathPart::CurDir => {}
            PathPart::ParentDir if matches!(plain.components().next_back(), Some(PathPart::Normal(_))) => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests;
