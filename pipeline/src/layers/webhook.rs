//! `ALERT_WEBHOOK_URL`: alerts to a url, whatever the file says about alerts.
//!
//! The webhooks behind alert evaluators get the url. If there are none, one is added behind all evaluators; if there are
//! none of these either, one with the default rules is added, and a monitor for it to read.

use sluice_config::diagnostic::Span;
use sluice_config::document::{Document, Input, Inputs, NodeTable, OptionTable, Section};
use sluice_config::layers::{Assignment, Place, Precedence, value_at};
use toml::Spanned;
use toml::de::DeTable;

const WEBHOOK: &str = "webhook";
const EVALUATOR: &str = "alert_evaluator";
const MONITOR: &str = "monitor";

/// Sends alerts to the url that is `toml`.
pub(super) fn apply<'a>(toml: &'a str, span: &Span, document: &mut Document<'a>) {
    let mut webhooks = alert_webhooks(document);
    if webhooks.is_empty() {
        let evaluators = evaluators(document, span);
        webhooks.push(add(document, Section::Sinks, "alert_webhook", WEBHOOK, evaluators, span));
    }
    for name in webhooks {
        let place = Place::Node(Section::Sinks, name);
        let assignment = Assignment { place, path: "url".to_owned(), value: value_at(toml, span) };
        document.assign(&assignment, Precedence::Over, &|_| true);
    }
}

fn of_kind(document: &Document<'_>, kind: &str) -> Vec<String> {
    let is = |node: &&NodeTable<'_>| node.kind.as_ref().is_some_and(|word| word.get_ref() == kind);
    document.nodes.iter().filter(is).map(|node| node.name.get_ref().clone()).collect()
}

/// Webhooks that read an evaluator.
fn alert_webhooks(document: &Document<'_>) -> Vec<String> {
    let (evaluators, webhooks) = (of_kind(document, EVALUATOR), of_kind(document, WEBHOOK));
    let reads = |node: &&NodeTable<'_>| {
        let mut inputs = node.inputs.iter().flat_map(|inputs| &inputs.list);
        webhooks.contains(node.name.get_ref())
            && inputs.any(|input| evaluators.contains(input.from.get_ref()))
    };
    document.nodes.iter().filter(reads).map(|node| node.name.get_ref().clone()).collect()
}

fn evaluators(document: &mut Document<'_>, span: &Span) -> Vec<String> {
    let evaluators = of_kind(document, EVALUATOR);
    if !evaluators.is_empty() {
        return evaluators;
    }
    let mut monitors = of_kind(document, MONITOR);
    if monitors.is_empty() {
        monitors.push(add(document, Section::Sources, "alert_monitor", MONITOR, Vec::new(), span));
    }
    vec![add(document, Section::Stages, "alert_rules", EVALUATOR, monitors, span)]
}

/// Adds a node of its own name, which is `wanted` if nobody has it.
fn add(
    document: &mut Document<'_>,
    section: Section,
    wanted: &str,
    kind: &str,
    inputs: Vec<String>,
    span: &Span,
) -> String {
    let is_taken = |name: &String| document.nodes.iter().any(|node| node.name.get_ref() == name);
    let numbered = (2..).map(|number| format!("{wanted}_{number}"));
    let name =
        std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default();
    let empty = || OptionTable { span: span.clone(), table: DeTable::new() };
    let input = |from: String| Input { from: Spanned::new(span.clone(), from), edge: empty() };
    let list: Vec<_> = inputs.into_iter().map(input).collect();
    let inputs = (section != Section::Sources).then(|| Inputs { span: span.clone(), list, is_whole: true });
    document.nodes.push(NodeTable {
        section,
        name: Spanned::new(span.clone(), name.clone()),
        kind: Some(Spanned::new(span.clone(), kind.to_owned())),
        inputs,
        edge: empty(),
        options: empty(),
    });
    name
}
