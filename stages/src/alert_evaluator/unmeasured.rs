//! What rules ask of a monitor that no monitor measures: they would never fire, and nobody would know why.

use sluice_config::spelling::suggest;

use super::rule::RuleOptions;
use crate::component::Problem;
use crate::monitor::{SERIES, Series};

/// What is wrong with a rule that stands at `path`; `merged` is the rule with what its default says.
pub(super) fn problems(path: &str, own: &RuleOptions, merged: &RuleOptions) -> Vec<Problem> {
    let Some(metric) = merged.metric.as_deref().map(str::trim).filter(|metric| !metric.is_empty()) else {
        return Vec::new();
    };
    let Some(series) = SERIES.iter().find(|series| series.metric == metric) else {
        let metrics = SERIES.iter().map(|series| series.metric);
        return vec![Problem {
            option: format!("{path}.metric"),
            message: format!("no monitor measures `{metric}`"),
            help: help(metric, metrics, "monitors measure"),
        }];
    };
    let matchers = own.matchers.iter().flatten().enumerate();
    let unknown = matchers.filter(|(_, matcher)| !series.labels.contains(&matcher.name()));
    unknown.map(|(at, matcher)| no_label(&format!("{path}.matchers.{at}"), series, matcher.name())).collect()
}

fn no_label(option: &str, series: &Series, label: &str) -> Problem {
    let help = if series.labels.is_empty() {
        "it has no labels, leave the matcher out".to_owned()
    } else {
        help(label, series.labels.iter().copied(), "its labels are")
    };
    let message = format!("`{label}` is no label of `{}`", series.metric);
    Problem { option: option.to_owned(), message, help }
}

fn help<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone, they_are: &str) -> String {
    suggest(word, known.clone()).map_or_else(
        || format!("{they_are} {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
        |meant| format!("did you mean `{meant}`?"),
    )
}
