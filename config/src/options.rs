//! A table of options as the struct that a kind wants, with every error at its own line.
//!
//! The second of two passes. The schema finds unknown and missing options at every depth; serde then reads the rest, and
//! whenever it stops at a value, the value is reported and taken out and it reads on, so that all errors come at once.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, ValueDeserializer};

use crate::diagnostic::{Code, Diagnostic, Span, quote};
use crate::document::{OptionTable, Replaced, noun};
use crate::schema::{Node, schema_of};
use crate::spelling::suggest;

/// More errors in one table than anyone reads.
const MOST_ERRORS: usize = 50;

/// What came of reading options.
#[derive(Debug)]
pub struct Outcome<T> {
    /// The options, with defaults in place of values that could not be used; none if one of these has no default.
    pub options: Option<T>,
    /// Everything that is wrong with them.
    pub found: Vec<Diagnostic>,
}

/// Reads the options of what messages call `title`.
pub fn read<T>(title: &str, options: &OptionTable<'_>, replaced: &[Replaced]) -> Outcome<T>
where
    T: DeserializeOwned + JsonSchema,
{
    let schema = schema_of::<T>();
    // Numbers that variables were put into are parsed anew from texts that have to live as long as the table.
    let texts = replaced_texts(&options.table, replaced);
    let mut table = options.table.clone();
    for (span, text) in &texts {
        retype(Node::root(&schema), &mut table, span, text);
    }
    let mut checker = Checker { title, replaced, root: Node::root(&schema), found: Vec::new() };
    checker.table(checker.root, &options.span, &mut table, "");
    checker.read(&options.span, table)
}

/// Where the option `path` of a table is (`filters.transactions`, `urls.0` or `urls[0]`), or the last place on the way.
pub fn locate(options: &OptionTable<'_>, path: &str) -> Span {
    let mut span = options.span.clone();
    let mut table = Some(&options.table);
    let mut list: Option<&DeArray<'_>> = None;
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        let next = match (table, list) {
            (Some(table), _) => table.get(step),
            (None, Some(list)) => step.parse::<usize>().ok().and_then(|index| list.get(index)),
            (None, None) => None,
        };
        let Some(next) = next else { break };
        span = next.span();
        table = as_table(next.get_ref());
        list = as_list(next.get_ref());
    }
    span
}

/// `message`, unless it shows what came from the environment at `span`.
pub fn without_values(message: &str, span: &Span, replaced: &[Replaced]) -> String {
    // Messages quote what they speak of, so a part of a value shows in quotes.
    let quoted = backticked(message);
    let shown = |value: &String| {
        let part = quoted.iter().any(|word| !word.is_empty() && value.contains(word));
        !value.is_empty() && (part || message.contains(value.as_str()))
    };
    let leaks = replaced.iter().any(|one| overlaps(&one.span, span) && one.values.iter().any(shown));
    if leaks {
        "the environment gives a value that is not possible here".to_owned()
    } else {
        message.to_owned()
    }
}

fn overlaps(first: &Span, second: &Span) -> bool {
    first.start < second.end && second.start < first.end
}

fn as_table<'v, 'a>(value: &'v DeValue<'a>) -> Option<&'v DeTable<'a>> {
    match value {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

fn as_list<'v, 'a>(value: &'v DeValue<'a>) -> Option<&'v DeArray<'a>> {
    match value {
        DeValue::Array(list) => Some(list),
        _ => None,
    }
}

/// The string values of `table` that variables were put into.
fn replaced_texts(table: &DeTable<'_>, replaced: &[Replaced]) -> Vec<(Span, String)> {
    let mut texts = Vec::new();
    for value in table.values() {
        collect_texts(value, replaced, &mut texts);
    }
    texts
}

fn collect_texts(value: &Spanned<DeValue<'_>>, replaced: &[Replaced], texts: &mut Vec<(Span, String)>) {
    match value.get_ref() {
        DeValue::Table(table) => table.values().for_each(|value| collect_texts(value, replaced, texts)),
        DeValue::Array(list) => list.iter().for_each(|value| collect_texts(value, replaced, texts)),
        DeValue::String(text) if replaced.iter().any(|one| one.span == value.span()) => {
            texts.push((value.span(), text.to_string()));
        }
        _ => {}
    }
}

/// Turns the string at `span` into the number or boolean that its option wants, if that is what `text` says.
fn retype<'a>(schema: Node<'_>, table: &mut DeTable<'a>, span: &Span, text: &'a str) {
    for (key, value) in table.iter_mut() {
        if let Some(option) = schema.property(key.get_ref()) {
            retype_value(option, value, span, text);
        }
    }
}

fn retype_value<'a>(schema: Node<'_>, value: &mut Spanned<DeValue<'a>>, span: &Span, text: &'a str) {
    let here = value.span() == *span;
    match value.get_mut() {
        DeValue::Table(table) => retype(schema, table, span, text),
        DeValue::Array(list) => {
            let Some(items) = schema.items() else { return };
            list.iter_mut().for_each(|element| retype_value(items, element, span, text));
        }
        string @ DeValue::String(_) if here && !schema.is("string") => {
            let wanted = ["integer", "number", "boolean"].iter().any(|word| schema.is(word));
            let parsed = DeValue::parse(text).ok().map(Spanned::into_inner);
            let scalar = |parsed: &DeValue<'_>| {
                matches!(parsed, DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_))
            };
            if let Some(parsed) = parsed.filter(|parsed| wanted && scalar(parsed)) {
                *string = parsed;
            }
        }
        _ => {}
    }
}

/// Collects what is wrong with one table of options.
struct Checker<'c> {
    title: &'c str,
    replaced: &'c [Replaced],
    root: Node<'c>,
    found: Vec<Diagnostic>,
}

impl Checker<'_> {
    /// Takes out and reports unknown options, and reports missing ones, at every depth.
    fn table(&mut self, schema: Node<'_>, span: &Span, table: &mut DeTable<'_>, path: &str) {
        if schema.is_closed() {
            let is_known = |name: &str| schema.property(name).is_some();
            for key in table.keys().filter(|key| !is_known(key.get_ref())) {
                let names = schema.properties().map(|(name, _)| name);
                self.unknown(key.get_ref(), key.span(), names.collect(), path);
            }
            *table = std::mem::take(table).into_iter().filter(|(key, _)| is_known(key.get_ref())).collect();
            for name in schema.required().filter(|name| !table.contains_key(*name)) {
                self.missing(name, span.clone(), schema.property(name), path);
            }
        }
        for (key, value) in table.iter_mut() {
            if let Some(option) = schema.property(key.get_ref()) {
                self.value(option, value, &join(path, key.get_ref()));
            }
        }
    }

    fn value(&mut self, schema: Node<'_>, value: &mut Spanned<DeValue<'_>>, path: &str) {
        let span = value.span();
        match (value.get_mut(), schema.items()) {
            (DeValue::Table(table), _) => self.table(schema, &span, table, path),
            (DeValue::Array(list), Some(items)) => {
                for (index, element) in list.iter_mut().enumerate() {
                    self.value(items, element, &join(path, &index.to_string()));
                }
            }
            _ => {}
        }
    }

    /// Lets serde read, again and again without what it could not read.
    fn read<T: DeserializeOwned>(mut self, span: &Span, mut table: DeTable<'_>) -> Outcome<T> {
        let mut incomplete = self.found.iter().any(|one| one.code == Code::MissingOption);
        while self.found.len() < MOST_ERRORS {
            let value = Spanned::new(span.clone(), DeValue::Table(table.clone()));
            let error = match T::deserialize(ValueDeserializer::from(value)) {
                Ok(options) => return Outcome { options: Some(options), found: self.found },
                Err(error) => error,
            };
            let at = error.span().unwrap_or_else(|| span.clone());
            if !(incomplete && error.message().starts_with("missing field")) {
                self.refused(error.message(), &at, &table);
            }
            incomplete = true;
            if !remove(&mut table, &at) {
                break;
            }
        }
        Outcome { options: None, found: self.found }
    }

    fn unknown(&mut self, name: &str, span: Span, mut known: Vec<&str>, path: &str) {
        known.sort_unstable();
        let path = join(path, name);
        let help = match suggest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if known.is_empty() => "it has no options".to_owned(),
            None => format!("its options are {}", list_of(&known)),
        };
        let title = format!("{} has no option {}", self.title, quote(&path));
        self.found.push(Diagnostic::error(Code::UnknownOption, title).at(span, "unknown option").help(help));
    }

    fn missing(&mut self, name: &str, span: Span, schema: Option<Node<'_>>, path: &str) {
        let path = join(path, name);
        let title = format!("{} needs the option {}", self.title, quote(&path));
        let help = schema.map(|option| {
            let description = option.description().map_or_else(String::new, |text| format!(": {text}"));
            format!("add `{name} = …` ({}){description}", option.type_name())
        });
        let missing = Diagnostic::error(Code::MissingOption, title).at(span, format!("`{name}` is missing"));
        self.found.push(missing.maybe_help(help));
    }

    /// Reports what serde says about the value at `span`.
    fn refused(&mut self, message: &str, span: &Span, table: &DeTable<'_>) {
        let names = backticked(message);
        match (message.split_once(" `"), names.split_first()) {
            (Some(("unknown field", _)), Some((name, known))) => {
                return self.unknown(name, span.clone(), known.to_vec(), "");
            }
            (Some(("missing field", _)), Some((name, _))) => {
                return self.missing(name, span.clone(), self.root.property(name), "");
            }
            _ => {}
        }
        let (path, found) = find(table, span).unwrap_or_default();
        let option = schema_at(self.root, &path);
        let label = without_values(&reworded(message, found), span, self.replaced);
        let title = match path.as_str() {
            "" => format!("the options of {} can't be used", self.title),
            path => format!("the value of {} of {} can't be used", quote(path), self.title),
        };
        let code = if message.starts_with("invalid type") { Code::WrongType } else { Code::InvalidValue };
        let meant = match (message.starts_with("unknown variant"), names.split_first()) {
            (true, Some((word, known))) => suggest(word, known.iter().copied()),
            _ => None,
        };
        let description = option.and_then(Node::description).map(|text| format!("{}: {text}", quote(&path)));
        self.found.push(
            Diagnostic::error(code, title)
                .at(span.clone(), label)
                .maybe_help(meant.map(|meant| format!("did you mean `{meant}`?")))
                .maybe_help(description),
        );
    }
}

/// What serde says, in the words of someone who writes TOML.
fn reworded(message: &str, found: &str) -> String {
    let expected = || message.rsplit_once(", expected ").map(|(_, expected)| plain(expected));
    let text = match message.split_once([':', ' ']).map(|(first, _)| first) {
        Some("invalid") if message.starts_with("invalid type") => {
            expected().map(|expected| format!("expected {expected}, found {found}"))
        }
        Some("invalid") if message.starts_with("invalid value") => {
            expected().map(|expected| format!("expected {expected}"))
        }
        Some("unknown") if message.starts_with("unknown variant") => {
            expected().map(|expected| format!("expected {expected}"))
        }
        _ => None,
    };
    text.unwrap_or_else(|| message.to_owned())
}

fn plain(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "nonzero u16" | "nonzero u32" | "nonzero u64" => {
            format!("a whole number ({expected})")
        }
        "i8" | "i16" | "i32" | "i64" | "isize" => format!("a whole number ({expected})"),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        text if text.starts_with("struct ") => "a table".to_owned(),
        text => text.to_owned(),
    }
}

/// The words in backticks of a message.
fn backticked(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

fn list_of(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn schema_at<'a>(root: Node<'a>, path: &str) -> Option<Node<'a>> {
    let mut steps = path.split('.').filter(|step| !step.is_empty());
    steps.try_fold(root, |node, step| node.property(step).or_else(|| node.items()))
}

/// The path and the type of the deepest value or key at `span`.
fn find(table: &DeTable<'_>, span: &Span) -> Option<(String, &'static str)> {
    table.iter().find_map(|(key, value)| {
        let inner = find_value(value, span);
        let here = key.span() == *span;
        let found = inner.or_else(|| here.then(|| (String::new(), noun(value.get_ref()))))?;
        Some((join_path(key.get_ref(), &found.0), found.1))
    })
}

fn find_value(value: &Spanned<DeValue<'_>>, span: &Span) -> Option<(String, &'static str)> {
    let inner = match value.get_ref() {
        DeValue::Table(table) => find(table, span),
        DeValue::Array(list) => list.iter().enumerate().find_map(|(index, element)| {
            let (path, noun) = find_value(element, span)?;
            Some((join_path(&index.to_string(), &path), noun))
        }),
        _ => None,
    };
    inner.or_else(|| (value.span() == *span).then(|| (String::new(), noun(value.get_ref()))))
}

fn join_path(first: &str, rest: &str) -> String {
    if rest.is_empty() { first.to_owned() } else { format!("{first}.{rest}") }
}

/// Takes the deepest value or key at `span` out; false if there is none.
fn remove(table: &mut DeTable<'_>, span: &Span) -> bool {
    for (_, value) in table.iter_mut() {
        let done = match value.get_mut() {
            DeValue::Table(inner) => remove(inner, span),
            DeValue::Array(list) => remove_element(list, span),
            _ => false,
        };
        if done {
            return true;
        }
    }
    let before = table.len();
    let elsewhere = |key: &Span, value: &Span| key != span && value != span;
    let all = std::mem::take(table).into_iter();
    *table = all.filter(|(key, value)| elsewhere(&key.span(), &value.span())).collect();
    table.len() < before
}

fn remove_element(list: &mut DeArray<'_>, span: &Span) -> bool {
    for element in list.iter_mut() {
        let done = match element.get_mut() {
            DeValue::Table(inner) => remove(inner, span),
            DeValue::Array(inner) => remove_element(inner, span),
            _ => false,
        };
        if done {
            return true;
        }
    }
    let before = list.len();
    let mut kept = DeArray::new();
    list.iter().filter(|element| element.span() != *span).for_each(|element| kept.push(element.clone()));
    *list = kept;
    list.len() < before
}

#[cfg(test)]
mod tests;
