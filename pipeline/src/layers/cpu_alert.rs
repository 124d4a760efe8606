//! `max_cpu_percent` as an alert: whoever bounds the processors wants to know when the bound does not hold.

use std::borrow::Cow;

use sluice_config::diagnostic::Span;
use sluice_config::document::Document;
use sluice_config::layers::{Assignment, Place, Precedence};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The rule that is added, unless the file has one of the name.
const RULE: &str = "cpu";

/// How long the pipeline has to take more than its share: as long as the mean that is looked at.
const HOLD: &str = "1m";

/// Adds the rule to every alert evaluator, if the bound is set to something that it may be. `cores` are the machine's.
pub(super) fn apply(document: &mut Document<'_>, cores: usize) {
    let Some(bound) = document.settings.table.get("max_cpu_percent") else { return };
    let (span, text) = (bound.span(), text_of(bound.get_ref()));
    let Some(percent) = text.parse::<u8>().ok().filter(|percent| (1..=100).contains(percent)) else { return };
    let has_own = |name: &str| {
        let node = document.nodes.iter().find(|node| node.name.get_ref() == name);
        let rules = node.and_then(|node| node.options.table.get("rules"));
        matches!(rules.map(Spanned::get_ref), Some(DeValue::Table(rules)) if rules.contains_key(RULE))
    };
    let own: Vec<String> =
        document.nodes.iter().map(|node| node.name.get_ref().clone()).filter(|name| has_own(name)).collect();
    let assignment = Assignment {
        place: Place::Kind("alert_evaluator"),
        path: format!("rules.{RULE}"),
        value: Spanned::new(span.clone(), DeValue::Table(rule(percent, cores, &span))),
    };
    document.assign(&assignment, Precedence::Over, &|name| !own.iter().any(|own| own == name));
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
