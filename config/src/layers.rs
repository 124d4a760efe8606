//! Values from outside the file: the profile below it, the environment and the flags above it.
//!
//! ```text
//! default < profile < file < environment < flags
//! ```
//!
//! An [`Assignment`] puts one value into the tables of a document before their options are read, so that every later
//! check sees it as if it stood in the file, but with a span in a text of its own ([`Sources`]).

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::diagnostic::{Code, Diagnostic, Layer, Source, Sources, Span, quote};
use crate::document::{Document, EDGE_KEYS, NodeTable, OptionTable, Replaced, Section};
use crate::spelling::suggest;

/// Which tables a value goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `[pipeline]`.
    Settings,
    /// Every node of a kind.
    Kind(&'static str),
    /// One node.
    Node(Section, String),
}

/// Whether a value goes over what the document says, or under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// It is taken only where the document says nothing, and never makes a table.
    Under,
    /// It replaces what the document says.
    Over,
}

/// One value for one option.
#[derive(Debug, Clone)]
pub struct Assignment<'a> {
    /// The tables.
    pub place: Place,
    /// The option in them, e.g. `rpc.requests_per_second`; where a list of tables is on the way, that of each of them.
    pub path: String,
    /// The value, with its span.
    pub value: Spanned<DeValue<'a>>,
}

impl<'a> Document<'a> {
    /// Puts `assignment` into every table that it is for and that passes `test`; how many these were.
    pub fn assign(
        &mut self,
        assignment: &Assignment<'a>,
        precedence: Precedence,
        test: &dyn Fn(&str) -> bool,
    ) -> usize {
        let path: Vec<&str> = assignment.path.split('.').collect();
        if assignment.place == Place::Settings {
            set(&mut self.settings.table, &path, &assignment.value, precedence);
            return 1;
        }
        let is_for = |node: &&mut NodeTable<'_>| match &assignment.place {
            Place::Settings => false,
            Place::Kind(kind) => node.kind.as_ref().is_some_and(|word| word.get_ref() == kind),
            Place::Node(section, name) => node.section == *section && node.name.get_ref() == name,
        };
        let mut count = 0;
        for node in self.nodes.iter_mut().filter(is_for).filter(|node| test(node.name.get_ref())) {
            let table = if EDGE_KEYS.contains(&path[0]) { &mut node.edge } else { &mut node.options };
            set(&mut table.table, &path, &assignment.value, precedence);
            count += 1;
        }
        count
    }

    /// Notes that `value` at `span` came from outside: it may be text where a number is wanted, and if it is `secret` no
    /// message shows it.
    pub fn note(&mut self, span: Span, value: &str, secret: bool) {
        let values = if secret { vec![value.to_owned()] } else { Vec::new() };
        self.replaced.push(Replaced { span, values });
    }
}

fn set<'a>(table: &mut DeTable<'a>, path: &[&str], value: &Spanned<DeValue<'a>>, precedence: Precedence) {
    let Some((first, rest)) = path.split_first() else { return };
    let key = || Spanned::new(value.span(), Cow::Owned((*first).to_owned()));
    if rest.is_empty() {
        if precedence == Precedence::Over || !table.contains_key(*first) {
            // Removed first, because an insertion would keep the old key and its place.
            table.remove(*first);
            table.insert(key(), value.clone());
        }
        return;
    }
    if !table.contains_key(*first) {
        if precedence == Precedence::Under {
            return;
        }
        table.insert(key(), Spanned::new(value.span(), DeValue::Table(DeTable::new())));
    }
    // What is no table is reported when it is read.
    match table.get_mut(*first).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => set(inner, rest, value, precedence),
        Some(DeValue::Array(list)) => {
            for element in list.iter_mut() {
                if let DeValue::Table(inner) = element.get_mut() {
                    set(inner, rest, value, precedence);
                }
            }
        }
        _ => {}
    }
}

/// A text of its own that is written value by value: `NAME=value`, one a line.
#[derive(Debug)]
pub struct LayerText {
    base: usize,
    text: String,
}

impl LayerText {
    /// A text that will be the next of `sources`.
    pub fn after(sources: &Sources) -> Self {
        Self { base: sources.next_base(), text: String::new() }
    }

    /// Writes a line, and tells where the name and where the value are in it. Line breaks and control characters in
    /// `shown` are escaped.
    pub fn line(&mut self, name: &str, shown: &str) -> (Span, Span) {
        let start = self.base + self.text.len();
        let shown = printable(shown);
        self.text.push_str(&format!("{name}={shown}\n"));
        let value = start + name.len() + 1;
        (start..start + name.len(), value..value + shown.len())
    }

    /// Adds the text to `sources`, unless there is nothing in it.
    pub fn finish(self, layer: Layer, name: &str, sources: &mut Sources) {
        if !self.text.is_empty() {
            sources.add(layer, Source { name: name.to_owned(), text: self.text });
        }
    }
}

/// Options whose values are not shown, whatever their kind.
const SECRET_WORDS: [&str; 7] = ["token", "secret", "password", "key", "headers", "url", "dsn"];

/// Whether the option at `path` is one whose value should not be shown by those who don't know its schema.
pub fn is_secret_path(path: &str) -> bool {
    path.split('.').any(|step| SECRET_WORDS.iter().any(|word| step.ends_with(word)))
}

/// What the TOML value `text` says, or `text` itself as a string, all of it with one span.
pub fn value_at<'a>(text: &'a str, span: &Span) -> Spanned<DeValue<'a>> {
    let parsed = DeValue::parse(text).map(Spanned::into_inner);
    respan(parsed.unwrap_or(DeValue::String(Cow::Borrowed(text))), span)
}

fn respan<'a>(value: DeValue<'a>, span: &Span) -> Spanned<DeValue<'a>> {
    let value = match value {
        DeValue::Table(table) => {
            let entry = |(key, value): (Spanned<Cow<'a, str>>, Spanned<DeValue<'a>>)| {
                (Spanned::new(span.clone(), key.into_inner()), respan(value.into_inner(), span))
            };
            DeValue::Table(table.into_iter().map(entry).collect())
        }
        DeValue::Array(list) => {
            let mut moved = DeArray::new();
            list.into_iter().for_each(|element| moved.push(respan(element.into_inner(), span)));
            DeValue::Array(moved)
        }
        other => other,
    };
    Spanned::new(span.clone(), value)
}

fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { printable.extend(c.escape_debug()) } else { printable.push(c) }
    }
    printable
}

/// Puts what `--set` says over the document: each flag is `SECTION.NAME.OPTION=VALUE` or `pipeline.OPTION=VALUE`.
pub fn apply_flags<'a>(
    document: &mut Document<'a>,
    flags: &'a [String],
    sources: &mut Sources,
    found: &mut Vec<Diagnostic>,
) {
    let mut text = LayerText::after(sources);
    for flag in flags {
        let (target, value) = flag.split_once('=').map_or((flag.as_str(), None), |(t, v)| (t, Some(v)));
        let is_secret = is_secret_path(target);
        let shown = if is_secret { "[redacted]" } else { value.unwrap_or_default() };
        let (name, span) = text.line(&format!("--set {target}"), shown);
        match (place_of(document, target), value) {
            (Ok((place, path)), Some(value)) => {
                document.note(span.clone(), value, is_secret);
                let assignment = Assignment { place, path, value: flag_value(value, &span) };
                document.assign(&assignment, Precedence::Over, &|_| true);
            }
            (Err((message, help)), _) => {
                found.push(Diagnostic::error(Code::InvalidFlag, message).at(name, "").help(help));
            }
            (Ok(_), None) => {
                let bare = Diagnostic::error(Code::InvalidFlag, format!("{} has no value", quote(target)));
                found.push(bare.at(name, "").help(format!("write `--set {target}=VALUE`")));
            }
        }
    }
    text.finish(Layer::Flag, "command line", sources);
}

/// Lists, tables and quoted strings as TOML says; anything else as text, which is read as what its option wants.
fn flag_value<'a>(value: &'a str, span: &Span) -> Spanned<DeValue<'a>> {
    let parsed = value_at(value, span);
    match parsed.get_ref() {
        DeValue::Array(_) | DeValue::Table(_) | DeValue::String(_) => parsed,
        _ => Spanned::new(span.clone(), DeValue::String(Cow::Borrowed(value))),
    }
}

/// The tables and the option that `target` names, or what is wrong with it and what to do.
fn place_of(document: &Document<'_>, target: &str) -> Result<(Place, String), (String, String)> {
    let written = "write `--set stages.NAME.OPTION=VALUE` or `--set pipeline.OPTION=VALUE`".to_owned();
    let unknown = || (format!("{} is not the place of an option", quote(target)), written.clone());
    let (section, rest) = target.split_once('.').ok_or_else(unknown)?;
    if section == "pipeline" && !rest.is_empty() {
        return Ok((Place::Settings, rest.to_owned()));
    }
    let section = Section::ALL.into_iter().find(|known| known.key() == section).ok_or_else(unknown)?;
    let (name, path) = rest.split_once('.').filter(|(_, path)| !path.is_empty()).ok_or_else(unknown)?;
    let names =
        || document.nodes.iter().filter(|node| node.section == section).map(|node| node.name.get_ref());
    if !names().any(|known| known == name) {
        let meant = suggest(name, names().map(String::as_str));
        let all = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let help =
            meant.map_or(format!("{} are {all}", section.key()), |meant| format!("did you mean `{meant}`?"));
        return Err((format!("there is no {} {}", section.noun(), quote(name)), help));
    }
    if matches!(path, "type" | "inputs") {
        let help = "a flag changes options only; edit the file to change the graph".to_owned();
        return Err((format!("{} can't be set by a flag", quote(path)), help));
    }
    Ok((Place::Node(section, name.to_owned()), path.to_owned()))
}

/// Every value of a table with its path and its place, those of tables and of lists in it included: `rpc.1.url`.
pub fn places(table: &OptionTable<'_>) -> Vec<(String, Span)> {
    let mut found = Vec::new();
    collect_places(&table.table, "", &mut found);
    found
}

fn collect_places(table: &DeTable<'_>, prefix: &str, found: &mut Vec<(String, Span)>) {
    for (key, value) in table {
        collect_place(value, format!("{prefix}{}", key.get_ref()), found);
    }
}

fn collect_place(value: &Spanned<DeValue<'_>>, path: String, found: &mut Vec<(String, Span)>) {
    match value.get_ref() {
        DeValue::Table(inner) => collect_places(inner, &format!("{path}."), found),
        DeValue::Array(list) => {
            for (index, element) in list.iter().enumerate() {
                collect_place(element, format!("{path}.{index}"), found);
            }
        }
        _ => {}
    }
    found.push((path, value.span()));
}

#[cfg(test)]
mod tests;
