//! From tables to drafts: what could be read of each node, before it is known whether they fit together.

use std::path::{Component as PathPart, Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use sluice_config::diagnostic::{Code, Diagnostic, Span, quote};
use sluice_config::document::{Document, Input, NodeTable, OptionTable, Replaced};
use sluice_config::graph::{Gives, GraphNode, Takes};
use sluice_config::options::{self, locate, without_values};
use sluice_config::settings::Settings;
use sluice_config::spelling::suggest;
use sluice_stages::component::Problem;
use sluice_stages::edge::{EdgeConfig, WhenFull};

use crate::kinds::{AnyOptions, Kind};

/// What to do about a bound of zero.
const MORE: &str = "give more, or leave it out for the default";

/// The options of an edge, as a node or an input may give them.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EdgeOptions {
    /// Most items in flight. Default 65536: three slots of mainnet.
    pub(crate) capacity_items: Option<usize>,
    /// Most bytes in flight. Default 16MiB: five slots of mainnet's transactions. What is larger passes alone.
    #[serde(with = "sluice_config::units::option_bytes")]
    #[schemars(with = "Option<String>")]
    pub(crate) capacity_bytes: Option<usize>,
    /// What a full edge does: `block` makes the sender wait, `drop_newest` drops the batch and counts it. Default block.
    #[schemars(with = "Option<String>", extend("enum" = ["block", "drop_newest"]))]
    pub(crate) when_full: Option<WhenFull>,
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

/// Reads the tables of a document; what is wrong goes to `found`, and it goes on with what is right.
pub(crate) struct Checker<'c> {
    pub(crate) kinds: &'static [Kind],
    pub(crate) document: &'c Document<'c>,
    pub(crate) found: &'c mut Vec<Diagnostic>,
}

impl Checker<'_> {
    /// The settings and a draft of each node, as far as they can be read.
    pub(crate) fn read_all(&mut self) -> (Option<Settings>, Vec<Draft>) {
        let settings = self.settings();
        let document = self.document;
        let drafts: Vec<_> = document.nodes.iter().map(|table| self.draft(table)).collect();
        self.claims(&drafts);
        (settings, drafts)
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
            self.found.push(invalid_value(&title, table, &problem, &self.document.replaced));
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

/// What is wrong with a value of the node that messages call `title`.
pub(crate) fn invalid_value(
    title: &str,
    table: &NodeTable<'_>,
    problem: &Problem,
    replaced: &[Replaced],
) -> Diagnostic {
    let span = locate(&table.options, &problem.option);
    let message = format!("the value of {} of {title} can't be used", quote(&problem.option));
    let label = without_values(&problem.message, &span, replaced);
    let help = without_values(&problem.help, &span, replaced);
    Diagnostic::error(Code::InvalidValue, message).at(span, label).help(help)
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
