//! `sluice list`: the kinds of sources, stages and sinks, and their options.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use sluice_config::document::Section;
use sluice_config::graph::{Gives, Takes};
use sluice_config::schema::{Node as Schema, schema_of};
use sluice_config::spelling::suggest;

use crate::draft::EdgeOptions;
use crate::kinds::{KINDS, Kind};
use crate::report;

/// clap's own exit code for arguments that make no sense.
const EXIT_USAGE: u8 = 2;

/// Text is broken here: terminals are at least this wide, and longer lines are hard to read.
const LINE_CHARS: usize = 100;

/// Tables within tables are shown this deep; none of the kinds goes deeper.
const MOST_DEPTH: usize = 4;

/// Arguments of `sluice list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show all about this kind; without it, all kinds.
    pub kind: Option<String>,
    /// How to show it.
    #[arg(long, value_enum, default_value_t)]
    pub format: ListFormat,
}

/// How `sluice list` shows kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ListFormat {
    /// For people.
    #[default]
    Text,
    /// For tools: JSON, with each kind's JSON schema.
    Json,
}

/// Shows the kinds.
pub fn run(args: &ListArgs) -> ExitCode {
    let shown = match (&args.kind, args.format) {
        (None, ListFormat::Text) => overview(KINDS),
        (None, ListFormat::Json) => {
            format!("{:#}\n", Value::from(KINDS.iter().map(record).collect::<Vec<_>>()))
        }
        (Some(name), format) => {
            let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
                report::print_error(&unknown(KINDS, name));
                return ExitCode::from(EXIT_USAGE);
            };
            match format {
                ListFormat::Text => details(kind),
                ListFormat::Json => format!("{:#}\n", record(kind)),
            }
        }
    };
    report::print(&shown);
    ExitCode::SUCCESS
}

fn unknown(kinds: &[Kind], name: &str) -> String {
    let names = || kinds.iter().map(|kind| kind.name);
    let help = match suggest(name, names()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
    };
    format!("error: there is no kind `{}`; {help}\n", name.escape_debug())
}

/// An option as the listings show it.
struct OptionRow {
    name: String,
    type_name: String,
    /// "required", "default X" or "optional".
    presence: String,
    description: String,
}

/// The options of a table, those that can't be left out first.
fn rows(table: Schema<'_>) -> Vec<OptionRow> {
    let required: Vec<_> = table.required().collect();
    let row = |(name, option): (&str, Schema<'_>)| OptionRow {
        name: name.to_owned(),
        type_name: option.type_name(),
        presence: match option.default() {
            _ if required.contains(&name) => "required".to_owned(),
            Some(default) => format!("default {}", toml_text(default)),
            None => "optional".to_owned(),
        },
        description: option.description().unwrap_or_default(),
    };
    let mut rows: Vec<_> = table.properties().map(row).collect();
    rows.sort_by_key(|row| row.presence != "required");
    rows
}

/// The same with the options of tables within, at most `depth` deep.
fn deep_rows(table: Schema<'_>, depth: usize) -> Vec<OptionRow> {
    let deeper = |row: OptionRow| {
        let option = table.property(&row.name).filter(|_| depth > 0);
        let (inner, step) = match option {
            Some(option) if option.items().is_some() => (option.items(), "[]"),
            Some(option) if option.values().is_some() => (option.values(), ".NAME"),
            option => (option, ""),
        };
        let prefix = format!("{}{step}.", row.name);
        let within = inner.into_iter().flat_map(|inner| deep_rows(inner, depth - 1));
        let within: Vec<_> =
            within.map(|row| OptionRow { name: format!("{prefix}{}", row.name), ..row }).collect();
        std::iter::once(row).chain(within)
    };
    rows(table).into_iter().flat_map(deeper).collect()
}

/// A JSON value as TOML writes it on one line.
fn toml_text(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let pairs: Vec<_> = fields.map(|(key, value)| format!("{key} = {}", toml_text(value))).collect();
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
        }
        Value::Array(list) => format!("[{}]", list.iter().map(toml_text).collect::<Vec<_>>().join(", ")),
        scalar => scalar.to_string(),
    }
}

fn overview(kinds: &[Kind]) -> String {
    let mut text = String::new();
    for section in Section::ALL {
        text.push_str(&format!("{}\n", section.key()));
        for kind in kinds.iter().filter(|kind| kind.section() == section) {
            text.push_str(&format!("  {:<14} {}\n", kind.name, kind.summary));
            let schema = kind.schema();
            let rows = rows(Schema::root(&schema));
            let name_chars = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
            for row in &rows {
                let facts = format!("{}, {}", row.type_name, row.presence);
                text.push_str(&format!("    {:<name_chars$}  {facts}\n", row.name));
                let sentence =
                    row.description.split_once(". ").map_or(row.description.as_str(), |(one, _)| one);
                text.push_str(&wrapped(sentence, 6 + name_chars));
            }
        }
        text.push('\n');
    }
    text.push_str("`sluice list KIND` shows all about one kind, with an example.\n");
    text
}

fn details(kind: &Kind) -> String {
    let schema = kind.schema();
    let rows = deep_rows(Schema::root(&schema), MOST_DEPTH);
    let mut text = format!("{}: a {}{}\n", kind.name, kind.section().noun(), flow(kind));
    text.push_str(&wrapped(kind.summary, 2));
    let about = Schema::root(&schema).description();
    // Where there is no more to say, the description only repeats the name.
    if let Some(about) = about.filter(|about| !about.starts_with("Options of ")) {
        text.push_str(&wrapped(&about, 2));
    }
    text.push_str(if rows.is_empty() { "\nIt has no options of its own.\n" } else { "\nOptions\n" });
    text.push_str(&full_rows(&rows));
    if kind.section() != Section::Sources {
        text.push_str("\nOptions of its input edges, here or beside `from` in an input\n");
        text.push_str(&full_rows(&self::rows(Schema::root(&schema_of::<EdgeOptions>()))));
    }
    text.push_str(&format!("\nExample\n{}", indented(&example(kind))));
    text
}

fn full_rows(rows: &[OptionRow]) -> String {
    let row = |row: &OptionRow| {
        let head = format!("{} ({}, {})", row.name, row.type_name, row.presence);
        // The first line hangs out to the left of the others.
        let head = wrapped(&head, 6).split_off(4);
        head + &wrapped(&row.description, 6)
    };
    rows.iter().map(row).collect()
}

/// ": takes updates, gives blocks".
fn flow(kind: &Kind) -> String {
    let takes = match kind.takes() {
        Takes::Nothing => None,
        Takes::Only(flow) => Some(format!("takes {flow}")),
        Takes::AnyOf(flows) => Some(format!("takes {}", flows.join(" or "))),
        Takes::Any => Some("takes anything".to_owned()),
    };
    let gives = match kind.gives() {
        Gives::Only(flow) => Some(format!("gives {flow}")),
        Gives::Same => Some("gives what it takes".to_owned()),
        Gives::Nothing | Gives::Unknown => None,
    };
    let words: Vec<_> = takes.into_iter().chain(gives).collect();
    format!(" that {}", words.join(" and "))
}

/// A table with every option that is required, and the defaults of the others that have one.
fn example(kind: &Kind) -> String {
    let schema = kind.schema();
    let section = kind.section();
    let mut text = format!("[{}.my_{}]\ntype = \"{}\"\n", section.key(), kind.name, kind.name);
    if section != Section::Sources {
        text.push_str("inputs = [\"name_of_a_source_or_stage\"]\n");
    }
    for row in rows(Schema::root(&schema)) {
        match row.presence.strip_prefix("default ") {
            Some(default) => text.push_str(&format!("# {} = {default}\n", row.name)),
            // A url or a list of endpoints is required, which a schema can't say.
            None if row.presence == "required" || (section == Section::Sources && row.name == "url") => {
                text.push_str(&format!("{} = {}\n", row.name, placeholder(&row.name, &row.type_name)));
            }
            None => {}
        }
    }
    text
}

/// A value of the type, for an example.
fn placeholder(name: &str, type_name: &str) -> String {
    match (name, type_name) {
        ("url", _) => "\"https://example.org:443\"".to_owned(),
        ("path", _) => "\"out\"".to_owned(),
        ("rpc", _) => "{ url = \"https://example.org\" }".to_owned(),
        ("ranges", _) => "[{ first = 432, last = 863 }]".to_owned(),
        ("from", _) => "\"sluice@example.org\"".to_owned(),
        ("to", _) => "[\"you@example.org\"]".to_owned(),
        (_, "integer" | "number") => "1".to_owned(),
        (_, "boolean") => "true".to_owned(),
        (_, "string") => "\"text\"".to_owned(),
        (_, list) if list.starts_with("list") => "[]".to_owned(),
        (_, words) if words.starts_with('"') => words.split(" | ").next().unwrap_or_default().to_owned(),
        _ => "{}".to_owned(),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// `text` in lines of at most [`LINE_CHARS`], each indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if indent + line.chars().count() + 1 + word.chars().count() <= LINE_CHARS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

fn record(kind: &Kind) -> Value {
    let schema = kind.schema();
    let root = Schema::root(&schema);
    let required: Vec<_> = root.required().collect();
    let option = |(name, option): (&str, Schema<'_>)| {
        json!({
            "name": name,
            "type": option.type_name(),
            "required": required.contains(&name),
            "default": option.default(),
            "description": option.description(),
        })
    };
    let options: Vec<_> = root.properties().map(option).collect();
    let takes = match kind.takes() {
        Takes::Nothing => None,
        Takes::Only(flow) => Some(vec![flow]),
        Takes::AnyOf(flows) => Some(flows),
        Takes::Any => Some(vec!["any"]),
    };
    let gives = match kind.gives() {
        Gives::Nothing | Gives::Unknown => None,
        Gives::Only(flow) => Some(flow),
        Gives::Same => Some("same"),
    };
    json!({
        "name": kind.name,
        "role": kind.section().noun(),
        "summary": kind.summary,
        "takes": takes,
        "gives": gives,
        "options": options,
        "schema": schema,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn named(name: &str) -> &'static Kind {
        KINDS.iter().find(|kind| kind.name == name).expect("it is registered")
    }

    #[test]
    fn the_overview_has_every_kind_with_every_option() {
        let text = overview(KINDS);
        for kind in KINDS {
            assert!(text.contains(&format!("  {} ", kind.name)), "{}", kind.name);
            for row in rows(Schema::root(&kind.schema())) {
                assert!(text.contains(&format!("    {} ", row.name)), "{}.{}", kind.name, row.name);
            }
        }
    }

    #[test]
    fn details_tell_flow_type_default_and_description() {
        let text = details(named("merge"));
        assert!(text.starts_with("merge: a stage that takes updates and gives updates\n"), "{text}");
        assert!(text.contains("  max_lag_slots (integer, default 512)\n      How many slots"), "{text}");
        assert!(text.contains("  [stages.my_merge]\n  type = \"merge\"\n"), "{text}");
        assert!(text.contains("  when_full (\"block\" | \"drop_newest\", optional)"), "{text}");
    }

    #[test]
    fn details_show_the_options_of_tables_within() {
        assert!(details(named("recovery")).contains("  rpc.url (string, required)\n"));
        let text = details(named("yellowstone"));
        assert!(text.contains("  transactions.NAME.account_include (list of string"), "{text}");
        assert!(text.contains("  accounts_data_slice[].offset (integer"), "{text}");
    }

    #[test]
    fn lines_are_not_longer_than_a_terminal() {
        for kind in KINDS {
            let text = details(kind);
            let (prose, _) = text.split_once("\nExample\n").expect("it has an example");
            for line in prose.lines() {
                assert!(line.chars().count() <= LINE_CHARS, "{line}");
            }
        }
    }

    #[test]
    fn the_examples_have_no_wrong_option() {
        for kind in KINDS {
            let text = example(kind).replace("\n# ", "\n");
            let Err(diagnostics) = Plan::parse("example", &text, &|_: &str| None) else { continue };
            for one in diagnostics.found() {
                use sluice_config::diagnostic::Phase;
                assert!(one.code.phase() == Phase::Graph, "{}\n{text}\n{diagnostics}", kind.name);
            }
        }
    }

    #[test]
    fn a_misspelled_kind_is_corrected() {
        assert_eq!(unknown(KINDS, "dedup"), "error: there is no kind `dedup`; did you mean `dedupe`?\n");
    }

    #[test]
    fn records_hold_the_schema() {
        let record = record(named("batcher"));
        assert_eq!((&record["takes"], &record["gives"]), (&json!(["any"]), &json!("same")));
        assert_eq!(record["options"][0]["name"], "batch_interval");
        assert_eq!(record["options"][0]["default"], "100ms");
        assert!(record["schema"]["properties"]["batch_size"].is_object());
    }
}
