//! `sluice config`: a pipeline with every value that it runs with, and where each came from.
//!
//! The text is TOML that reads back to the same pipeline, but for secrets, which are left out.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::overrides::Overrides;
use crate::plan::{Plan, PlanNode};
use crate::redact;
use crate::report::{self, EXIT_CONFIG};

/// Comments stand in one column, as long as the values before them are not wider than this.
const MOST_COLUMNS: usize = 56;

/// The origin of a value that nobody set.
const DEFAULT: &str = "default";

/// Arguments of `sluice config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The pipeline's file; `-` is standard input.
    #[arg(value_name = "PIPELINE.toml")]
    pub pipeline: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    pub format: ConfigFormat,
    /// Values over those of the file.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// How `sluice config` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ConfigFormat {
    /// TOML, with a comment behind each value.
    #[default]
    Toml,
    /// For tools: each value with its origin.
    Json,
}

/// Prints the pipeline. The exit code is 78 if it has errors.
pub fn run(args: &ConfigArgs) -> ExitCode {
    match args.overrides.load(&args.pipeline) {
        Ok(plan) => {
            report::show(&plan.warnings);
            report::print(&match args.format {
                ConfigFormat::Toml => toml_text(&plan),
                ConfigFormat::Json => format!("{:#}\n", record(&plan)),
            });
            ExitCode::SUCCESS
        }
        Err(diagnostics) => {
            report::show(&diagnostics);
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn settings(plan: &Plan) -> Value {
    // Settings are what TOML can hold, and JSON can hold all of that.
    redact::value(serde_json::to_value(&plan.settings).unwrap_or_default())
}

/// Where an option of a node came from; of `[pipeline]`, if there is no node.
fn origin<'p>(plan: &'p Plan, node: Option<&str>, path: &str) -> &'p str {
    let known = match node {
        Some(node) => plan.origins.option(node, path),
        None => plan.origins.setting(path),
    };
    known.map_or(DEFAULT, |origin| origin.place.as_str())
}

fn toml_text(plan: &Plan) -> String {
    let mut text = String::new();
    let of_settings = |path: &str| origin(plan, None, path);
    write_table(&mut text, &Place::named("pipeline"), Vec::new(), &settings(plan), &of_settings);
    for node in &plan.nodes {
        let of_node = |path: &str| origin(plan, Some(&node.name), path);
        let mut first =
            vec![(format!("type = {}", literal(&json!(node.kind.name))), of_node("type").to_owned())];
        if !node.inputs.is_empty() {
            first.push((inputs_line(plan, node), of_node("inputs").to_owned()));
        }
        let place = Place::named(format!("{}.{}", node.kind.section().key(), node.name));
        write_table(&mut text, &place, first, &node.options.resolved(), &of_node);
    }
    text
}

fn inputs_line(plan: &Plan, node: &PlanNode) -> String {
    let inputs: Vec<Value> = edges(plan, node)
        .map(|(from, edge)| {
            let mut edge = edge;
            edge.insert("from".to_owned(), json!(from));
            Value::Object(edge)
        })
        .collect();
    format!("inputs = {}", literal(&Value::Array(inputs)))
}

fn edges<'p>(plan: &'p Plan, node: &'p PlanNode) -> impl Iterator<Item = (&'p str, Map<String, Value>)> {
    node.inputs.iter().map(|edge| {
        let bytes = u64::try_from(edge.config.capacity_bytes).unwrap_or(u64::MAX);
        let values = [
            ("capacity_bytes", json!(sluice_config::units::format_bytes(bytes))),
            ("capacity_items", json!(edge.config.capacity_items)),
            ("when_full", json!(edge.config.when_full)),
        ];
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        (plan.nodes[edge.from].name.as_str(), values)
    })
}

/// Where a table stands in the text.
struct Place {
    /// Its name, e.g. `stages.whole.rpc`.
    name: String,
    /// What goes before its options in the paths of origins, e.g. `rpc.1.`.
    prefix: String,
    /// Whether it is one of a list.
    is_element: bool,
}

impl Place {
    fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), prefix: String::new(), is_element: false }
    }

    fn table(&self, key: &str) -> Self {
        let name = format!("{}.{}", self.name, quoted_key(key));
        Self { name, prefix: format!("{}{key}.", self.prefix), is_element: false }
    }

    fn element(&self, key: &str, index: usize) -> Self {
        let list = self.table(key);
        Self { prefix: format!("{}{index}.", list.prefix), is_element: true, ..list }
    }

    fn header(&self) -> String {
        if self.is_element { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }
}

fn is_table(value: &Value) -> bool {
    value.as_object().is_some_and(|inner| !inner.is_empty())
}

/// Whether each element has values, and so origins, of its own.
fn is_list_of_tables(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(is_table)
}

/// Writes a table: `first`, its values, then the tables in it.
fn write_table<'o>(
    text: &mut String,
    place: &Place,
    first: Vec<(String, String)>,
    table: &Value,
    origin: &dyn Fn(&str) -> &'o str,
) {
    let entries = table.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let (tables, values): (Vec<_>, Vec<_>) = entries.partition(|(_, value)| {
        is_table(value) || value.as_array().is_some_and(|list| is_list_of_tables(list))
    });
    let mut lines = first;
    for (key, value) in values {
        let line = format!("{} = {}", quoted_key(key), literal(value));
        lines.push((line, origin(&format!("{}{key}", place.prefix)).to_owned()));
    }
    if !lines.is_empty() || tables.is_empty() || place.is_element {
        write_lines(text, &place.header(), &lines);
    }
    for (key, value) in tables {
        let Value::Array(list) = value else {
            write_table(text, &place.table(key), Vec::new(), value, origin);
            continue;
        };
        for (index, element) in list.iter().enumerate() {
            write_table(text, &place.element(key, index), Vec::new(), element, origin);
        }
    }
}

fn write_lines(text: &mut String, header: &str, lines: &[(String, String)]) {
    let separator = if text.is_empty() { "" } else { "\n" };
    text.push_str(&format!("{separator}{header}\n"));
    let widths = lines.iter().map(|(line, _)| line.chars().count());
    let width = widths.filter(|width| *width <= MOST_COLUMNS).max().unwrap_or(0);
    for (line, origin) in lines {
        text.push_str(&format!("{line:<width$}  # {origin}\n"));
    }
}

fn quoted_key(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { literal(&json!(key)) }
}

/// A value as TOML writes it on one line. A dollar sign is doubled, so that it is not read as a variable.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => toml::Value::String(text.replace('$', "$$")).to_string(),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => {
            let present = table.iter().filter(|(_, value)| !value.is_null());
            let entries = present.map(|(key, value)| format!("{} = {}", quoted_key(key), literal(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn record(plan: &Plan) -> Value {
    let nodes: Vec<_> = plan
        .nodes
        .iter()
        .map(|node| {
            let of_node = |path: &str| origin(plan, Some(&node.name), path);
            let inputs: Vec<_> = edges(plan, node)
                .map(|(from, edge)| {
                    let mut edge = edge;
                    edge.insert("from".to_owned(), json!(from));
                    edge
                })
                .collect();
            json!({
                "name": node.name,
                "section": node.kind.section().key(),
                "type": node.kind.name,
                "inputs": inputs,
                "options": with_origins(node.options.resolved(), "", &of_node),
            })
        })
        .collect();
    let settings = with_origins(settings(plan), "", &|path| origin(plan, None, path));
    json!({ "pipeline": settings, "nodes": nodes })
}

/// Each value of a table as `{ value, origin }`; tables and lists of them stay what they are.
fn with_origins<'o>(value: Value, prefix: &str, origin: &dyn Fn(&str) -> &'o str) -> Value {
    let Value::Object(table) = value else { return value };
    let entry = |(key, value): (String, Value)| {
        let path = format!("{prefix}{key}");
        let shown = match value {
            Value::Object(inner) if !inner.is_empty() => {
                with_origins(Value::Object(inner), &format!("{path}."), origin)
            }
            Value::Array(list) if is_list_of_tables(&list) => {
                let element = |(index, element): (usize, Value)| {
                    with_origins(element, &format!("{path}.{index}."), origin)
                };
                Value::Array(list.into_iter().enumerate().map(element).collect())
            }
            value => json!({ "value": value, "origin": origin(&path) }),
        };
        (key, shown)
    };
    Value::Object(table.into_iter().map(entry).collect())
}

#[cfg(test)]
mod tests;
