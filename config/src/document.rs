//! The TOML text as sections and nodes, with the place of everything.
//!
//! The first of two passes. It takes what every node has (`type`, `inputs` and the options of edges) by hand, and leaves
//! the rest of each table as it is, with spans, for the kind's own options ([`crate::options`]): serde's `tag` and
//! `flatten` would lose them.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Code, Diagnostic, Span, quote};
use crate::spelling::suggest;
use crate::substitute::{Variables, substitute};

/// The options of an edge. A node may have them for all of its inputs, an input for itself.
pub const EDGE_KEYS: [&str; 3] = ["capacity_bytes", "capacity_items", "when_full"];

/// Errors after the first few of a broken text are mostly echoes of these.
const MOST_SYNTAX_ERRORS: usize = 5;

/// What other engines call the sections.
const SECTION_SYNONYMS: [(&str, Section); 8] = [
    ("source", Section::Sources),
    ("endpoints", Section::Sources),
    ("stage", Section::Stages),
    ("transforms", Section::Stages),
    ("processors", Section::Stages),
    ("sink", Section::Sinks),
    ("outputs", Section::Sinks),
    ("destinations", Section::Sinks),
];

/// One of the three sections of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// `[sources.NAME]`.
    Sources,
    /// `[stages.NAME]`.
    Stages,
    /// `[sinks.NAME]`.
    Sinks,
}

impl Section {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sources, Self::Stages, Self::Sinks];

    /// The word in the TOML.
    pub fn key(self) -> &'static str {
        match self {
            Self::Sources => "sources",
            Self::Stages => "stages",
            Self::Sinks => "sinks",
        }
    }

    /// The word for one node of it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Sources => "source",
            Self::Stages => "stage",
            Self::Sinks => "sink",
        }
    }
}

/// A table of options with the place of its header.
#[derive(Debug, Clone)]
pub struct OptionTable<'a> {
    /// Where the table is said to begin.
    pub span: Span,
    /// Its keys and values.
    pub table: DeTable<'a>,
}

/// One of a node's inputs.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// The name of the node that it reads.
    pub from: Spanned<String>,
    /// Its own edge options, without `from`.
    pub edge: OptionTable<'a>,
}

/// The inputs of a node.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// Where the key is.
    pub span: Span,
    /// What it lists, as far as it could be understood.
    pub list: Vec<Input<'a>>,
    /// Whether all of it could.
    pub is_whole: bool,
}

/// A node as the text has it.
#[derive(Debug, Clone)]
pub struct NodeTable<'a> {
    /// Its section.
    pub section: Section,
    /// Its name.
    pub name: Spanned<String>,
    /// The word after `type =`, if there is one.
    pub kind: Option<Spanned<String>>,
    /// Its inputs, if it has the key.
    pub inputs: Option<Inputs<'a>>,
    /// Edge options for all of its inputs.
    pub edge: OptionTable<'a>,
    /// What is left: the kind's own options.
    pub options: OptionTable<'a>,
}

impl NodeTable<'_> {
    /// How messages call it, e.g. "stage `merge`".
    pub fn title(&self) -> String {
        format!("{} {}", self.section.noun(), quote(self.name.get_ref()))
    }
}

/// A string value that variables were put into.
#[derive(Debug, Clone)]
pub struct Replaced {
    /// Where it is.
    pub span: Span,
    /// What came from the environment; must not be shown.
    pub(crate) values: Vec<String>,
}

/// A pipeline's text, taken apart.
#[derive(Debug, Clone)]
pub struct Document<'a> {
    /// `[pipeline]`.
    pub settings: OptionTable<'a>,
    /// Its nodes, in the order of the text.
    pub nodes: Vec<NodeTable<'a>>,
    /// The string values that variables were put into.
    pub replaced: Vec<Replaced>,
    /// The string values whose variables have no value.
    unresolved: Vec<Span>,
}

impl Document<'_> {
    /// Whether `diagnostic` only says again, of the text `${NAME}`, that a variable has no value.
    pub fn is_echo(&self, diagnostic: &Diagnostic) -> bool {
        let Some(primary) = diagnostic.primary.as_ref().filter(|_| diagnostic.code != Code::Variable) else {
            return false;
        };
        self.unresolved.contains(&primary.span)
    }
}

/// Takes `text` apart. What is wrong goes to `found`; what is right is in the document nevertheless, so that later checks
/// find their part too. Without a document the text is not TOML.
pub fn parse<'a>(
    text: &'a str,
    variables: &dyn Variables,
    found: &mut Vec<Diagnostic>,
) -> Option<Document<'a>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        found.extend(syntax_errors(text, &errors));
        return None;
    }
    let mut root = root.into_inner();
    let mut replacer = Replacer { text, variables, replaced: Vec::new(), unresolved: Vec::new(), found };
    replacer.table(&mut root);
    let (replaced, unresolved) = (replacer.replaced, replacer.unresolved);
    let mut reader = Reader { found };
    let settings = reader.settings(&mut root);
    let mut nodes: Vec<_> =
        Section::ALL.into_iter().flat_map(|section| reader.section(&mut root, section)).collect();
    reader.unknown_sections(&root);
    nodes.sort_by_key(|node| node.name.span().start);
    reader.check_names(&nodes);
    Some(Document { settings, nodes, replaced, unresolved })
}

fn syntax_errors(text: &str, errors: &[toml::de::Error]) -> Vec<Diagnostic> {
    let mut last_line = None;
    let mut first_of_its_line = |error: &&toml::de::Error| {
        let start = text.floor_char_boundary(error.span().map_or(0, |span| span.start).min(text.len()));
        let line = text[..start].matches('\n').count();
        last_line.replace(line) != Some(line)
    };
    errors
        .iter()
        .filter(|error| first_of_its_line(error))
        .take(MOST_SYNTAX_ERRORS)
        .map(|error| {
            let span = error.span().unwrap_or(0..0);
            let shown = Diagnostic::error(Code::Syntax, "this is not valid TOML").at(span, error.message());
            match error.message() {
                "duplicate key" => shown.help("a table and a key can be given only once"),
                _ => shown,
            }
        })
        .collect()
}

/// Puts variables into the string values of a tree.
struct Replacer<'t> {
    text: &'t str,
    variables: &'t dyn Variables,
    replaced: Vec<Replaced>,
    unresolved: Vec<Span>,
    found: &'t mut Vec<Diagnostic>,
}

impl Replacer<'_> {
    fn table(&mut self, table: &mut DeTable<'_>) {
        for (_, value) in table.iter_mut() {
            self.value(value);
        }
    }

    fn value(&mut self, value: &mut Spanned<DeValue<'_>>) {
        let span = value.span();
        match value.get_mut() {
            DeValue::Table(table) => self.table(table),
            DeValue::Array(array) => array.iter_mut().for_each(|element| self.value(element)),
            DeValue::String(text) => match substitute(text, self.variables) {
                Ok(None) => {}
                Ok(Some(new)) => {
                    *text = new.text.into();
                    if !new.values.is_empty() {
                        self.replaced.push(Replaced { span, values: new.values });
                    }
                }
                Err(errors) => {
                    for error in errors {
                        let place = self.locate(&span, &error.reference);
                        let unset = Diagnostic::error(Code::Variable, error.message).at(place, "");
                        self.found.push(unset.help(error.help));
                    }
                    self.unresolved.push(span);
                }
            },
            _ => {}
        }
    }

    /// Where `reference` is within the string at `span`; the whole string where escapes hide it.
    fn locate(&self, span: &Span, reference: &str) -> Span {
        let offset = self.text.get(span.clone()).and_then(|raw| raw.find(reference));
        offset.map_or(span.clone(), |offset| span.start + offset..span.start + offset + reference.len())
    }
}

/// Takes sections and nodes out of the root table.
struct Reader<'t> {
    found: &'t mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn settings<'a>(&mut self, root: &mut DeTable<'a>) -> OptionTable<'a> {
        let empty = || OptionTable { span: 0..0, table: DeTable::new() };
        root.remove("pipeline").and_then(|value| self.table("`pipeline`", value)).unwrap_or_else(empty)
    }

    fn section<'a>(&mut self, root: &mut DeTable<'a>, section: Section) -> Vec<NodeTable<'a>> {
        let what = format!("`{}`", section.key());
        let Some(all) = root.remove(section.key()).and_then(|value| self.table(&what, value)) else {
            return Vec::new();
        };
        all.table.into_iter().filter_map(|(name, value)| self.node(section, name, value)).collect()
    }

    fn node<'a>(
        &mut self,
        section: Section,
        name: Spanned<toml::de::DeString<'a>>,
        value: Spanned<DeValue<'a>>,
    ) -> Option<NodeTable<'a>> {
        let name = Spanned::new(name.span(), name.into_inner().into_owned());
        let what = format!("{} {}", section.noun(), quote(name.get_ref()));
        let mut options = self.table(&what, value)?;
        let kind = self.kind(&what, &name, &mut options.table);
        let inputs = self.inputs(&what, &mut options.table);
        let mut edge = OptionTable { span: options.span.clone(), table: DeTable::new() };
        for key in EDGE_KEYS {
            edge.table.extend(options.table.remove_entry(key));
        }
        Some(NodeTable { section, name, kind, inputs, edge, options })
    }

    fn kind(
        &mut self,
        what: &str,
        name: &Spanned<String>,
        table: &mut DeTable<'_>,
    ) -> Option<Spanned<String>> {
        let Some(value) = table.remove("type") else {
            let missing = Diagnostic::error(Code::MissingKind, format!("{what} has no `type`"));
            let help = "add `type = \"…\"`; `sluice list` shows the kinds that there are";
            self.found.push(missing.at(name.span(), "").help(help));
            return None;
        };
        self.string(&format!("the `type` of {what}"), value)
    }

    fn inputs<'a>(&mut self, what: &str, table: &mut DeTable<'a>) -> Option<Inputs<'a>> {
        let (key, value) = table.remove_entry("inputs")?;
        let span = value.span();
        let (list, is_whole) = match value.into_inner() {
            DeValue::Array(array) => {
                let read = |element: &Spanned<DeValue<'a>>| self.input(what, element.clone());
                let list: Vec<_> = array.iter().filter_map(read).collect();
                let is_whole = list.len() == array.len();
                (list, is_whole)
            }
            other => {
                let help = match &other {
                    DeValue::String(text) => format!("write `inputs = [{text:?}]`"),
                    _ => "write `inputs = [\"name\"]`".to_owned(),
                };
                self.wrong_type(&format!("`inputs` of {what}"), span, "a list of names", &other, Some(help));
                (Vec::new(), false)
            }
        };
        Some(Inputs { span: key.span(), list, is_whole })
    }

    fn input<'a>(&mut self, what: &str, value: Spanned<DeValue<'a>>) -> Option<Input<'a>> {
        let span = value.span();
        let what = format!("an input of {what}");
        match value.into_inner() {
            DeValue::String(from) => Some(Input {
                from: Spanned::new(span.clone(), from.into_owned()),
                edge: OptionTable { span, table: DeTable::new() },
            }),
            DeValue::Table(mut table) => {
                let Some(from) = table.remove("from") else {
                    let missing = Diagnostic::error(Code::MissingOption, format!("{what} has no `from`"));
                    self.found.push(missing.at(span, "").help("write `{ from = \"name\" }`"));
                    return None;
                };
                let from = self.string(&format!("`from` of {what}"), from)?;
                Some(Input { from, edge: OptionTable { span, table } })
            }
            other => {
                self.wrong_type(&what, span, "a name or a table with `from`", &other, None);
                None
            }
        }
    }

    fn table<'a>(&mut self, what: &str, value: Spanned<DeValue<'a>>) -> Option<OptionTable<'a>> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some(OptionTable { span, table }),
            other => {
                self.wrong_type(what, span, "a table", &other, None);
                None
            }
        }
    }

    fn string(&mut self, what: &str, value: Spanned<DeValue<'_>>) -> Option<Spanned<String>> {
        let span = value.span();
        match value.into_inner() {
            DeValue::String(text) => Some(Spanned::new(span, text.into_owned())),
            other => {
                self.wrong_type(what, span, "a string", &other, None);
                None
            }
        }
    }

    fn wrong_type(
        &mut self,
        what: &str,
        span: Span,
        expected: &str,
        value: &DeValue<'_>,
        help: Option<String>,
    ) {
        let title = format!("{what} must be {expected}");
        let label = format!("expected {expected}, found {}", noun(value));
        self.found.push(Diagnostic::error(Code::WrongType, title).at(span, label).maybe_help(help));
    }

    fn unknown_sections(&mut self, root: &DeTable<'_>) {
        for key in root.keys() {
            let name = key.get_ref();
            let known = || Section::ALL.map(Section::key).into_iter().chain(["pipeline"]);
            let synonym = SECTION_SYNONYMS.iter().find(|(word, _)| word == name);
            let meant = synonym.map(|(_, section)| section.key()).or_else(|| suggest(name, known()));
            let help = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "a pipeline has `pipeline`, `sources`, `stages` and `sinks`".to_owned(),
            };
            let unknown = Diagnostic::error(Code::UnknownSection, format!("unknown section {}", quote(name)));
            self.found.push(unknown.at(key.span(), "").help(help));
        }
    }

    fn check_names(&mut self, nodes: &[NodeTable<'_>]) {
        for (position, node) in nodes.iter().enumerate() {
            let name = node.name.get_ref();
            if !is_name(name) {
                let title = format!("{} is not a valid name", quote(name));
                let help = "a name begins with a letter and has only a-z, 0-9 and _";
                let invalid = Diagnostic::error(Code::InvalidName, title).at(node.name.span(), "");
                self.found.push(invalid.help(format!("{help}{}", proposed_name(name))));
            }
            if let Some(first) = nodes[..position].iter().find(|other| other.name == node.name) {
                let title = format!("two nodes are called {}", quote(name));
                let duplicate = Diagnostic::error(Code::DuplicateName, title)
                    .at(node.name.span(), format!("a {} here", node.section.noun()))
                    .context(first.name.span(), format!("a {} here", first.section.noun()));
                self.found.push(duplicate.help("names are shared by all sections; rename one of them"));
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn proposed_name(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let proposed: String = name.chars().map(letter).collect();
    if is_name(&proposed) { format!(": `{proposed}`") } else { String::new() }
}

/// How messages call a value's type.
pub(crate) fn noun(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests;
