//! `max_cpu_percent` as an alert: whoever bounds the processors wants to know when the bound does not hold.

use std::borrow::Cow;

use sluice_config::diagnostic::Span;
use sluice_config::document::{Document, NodeTable};
use sluice_config::layers::{Assignment, Place, Precedence};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The rule that is added. As with default rules, what the file says of it goes over what is added; a rule of this name
/// that says when it fires is left as it is.
const RULE: &str = "cpu";

/// Options that say when a rule fires.
const CONDITIONS: [&str; 2] = ["threshold", "fire_when"];

/// How long the pipeline has to take more than its share: as long as the mean that is looked at.
const HOLD: &str = "1m";

/// Adds the rule to every alert evaluator, if the bound is set to something that it may be. `cores` are the machine's.
pub(super) fn apply(document: &mut Document<'_>, cores: usize) {
    let Some(bound) = document.settings.table.get("max_cpu_percent") else { return };
    let (span, text) = (bound.span(), text_of(bound.get_ref()));
    let Some(percent) = text.parse::<u8>().ok().filter(|percent| (1..=100).contains(percent)) else { return };
    let rule = rule(percent, cores, &span);
    let (mut changed, mut own) = (Vec::new(), Vec::new());
    for node in &document.nodes {
        let name = node.name.get_ref().clone();
        match told(node) {
            Some(table) if CONDITIONS.iter().any(|option| table.contains_key(*option)) => own.push(name),
            Some(_) => changed.push(name),
            None => {}
        }
    }
    let assignment = |path: String, value: Spanned<DeValue<'static>>| Assignment {
        place: Place::Kind("alert_evaluator"),
        path,
        value,
    };
    for (option, value) in &rule {
        let part = assignment(format!("rules.{RULE}.{}", option.get_ref()), value.clone());
        document.assign(&part, Precedence::Under, &|name| changed.iter().any(|other| other == name));
    }
    let whole = assignment(format!("rules.{RULE}"), Spanned::new(span, DeValue::Table(rule)));
    document.assign(&whole, Precedence::Over, &|name| !changed.iter().chain(&own).any(|other| other == name));
}

/// What the file says of the rule.
fn told<'d>(node: &'d NodeTable<'_>) -> Option<&'d DeTable<'d>> {
    let table = |value: &'d Spanned<DeValue<'_>>| value.get_ref().as_table();
    table(table(node.options.table.get("rules")?)?.get(RULE)?)
}

/// Numbers from the file are numbers, those from outside may still be text.
fn text_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => number.to_string(),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

fn rule(percent: u8, cores: usize, span: &Span) -> DeTable<'static> {
    let limit = cores as f64 * f64::from(percent) / 100.0;
    let message = format!("{{value}} processors busy, over {percent} percent of {cores}");
    let fields = [
        ("metric", "cpu_cores".to_owned()),
        ("fire_when", format!("> {limit}")),
        ("for", HOLD.to_owned()),
        ("message", message),
    ];
    let field = |(key, text): (&'static str, String)| {
        let value = DeValue::String(Cow::Owned(text));
        (Spanned::new(span.clone(), Cow::Borrowed(key)), Spanned::new(span.clone(), value))
    };
    fields.into_iter().map(field).collect()
}
