//! Rules: which series, what is wrong with them, and what to say then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::condition::Condition;
use crate::alert::Severity;
use crate::component::Problem;
use crate::matcher::{self, Matcher};
use crate::sample::{Labels, Reading};

/// Labels that an alert has of itself; a rule can't give them.
const RESERVED_LABELS: [&str; 4] = ["rule", "alertname", "severity", "metric"];

/// What happens to a rule's alerts when their series are not measured any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnNoData {
    /// Their conditions are gone, as in Prometheus.
    #[default]
    Resolve,
    /// They stay as they are until there is data again.
    Keep,
    /// They are treated as if their conditions held: silence is what the rule is about.
    Fire,
}

/// A rule, as the TOML has it. What a default rule of the same name says holds where this one says nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleOptions {
    /// Whether the rule is evaluated. Default true; false switches a default rule off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The metric that it reads, e.g. `error_rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Which series of the metric, e.g. `['quantile="p99"', 'window="1m"']`. Default all of them; each has an alert of its
    /// own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matchers: Option<Vec<Matcher>>,
    /// When it is wrong: `"> 0.05"`, or a number that is not to be exceeded. The same as `fire_when`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Condition>,
    /// When it is wrong, e.g. `"> 90"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fire_when: Option<Condition>,
    /// When a firing alert is over, e.g. `"< 80"`, so that a value that wavers does not ring again and again. Default
    /// when `fire_when` does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_when: Option<Condition>,
    /// `info`, `warning`, `error` or `critical`. Default warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// How long it has to be wrong without a break before the alert fires. Default 0s, at once.
    #[serde(
        rename = "for",
        with = "sluice_config::units::option_duration",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>")]
    pub hold: Option<Duration>,
    /// How long a firing alert goes on after it was last wrong. Default 0s.
    #[serde(with = "sluice_config::units::option_duration", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub keep_firing_for: Option<Duration>,
    /// What happens when the series is not measured any more: `resolve` (default), `keep` or `fire`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_no_data: Option<OnNoData>,
    /// Labels for its alerts beside those of the series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// A sentence for people; `{value}`, `{threshold}`, `{metric}` and the names of labels in braces are filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl RuleOptions {
    /// These, and `defaults` where these say nothing. A condition of these stands without the default's `clear_when`.
    #[must_use]
    pub(super) fn or(self, defaults: Self) -> Self {
        let has_condition = self.threshold.is_some() || self.fire_when.is_some();
        let own = |default: Option<Condition>| default.filter(|_| !has_condition);
        Self {
            enabled: self.enabled.or(defaults.enabled),
            metric: self.metric.or(defaults.metric),
            matchers: self.matchers.or(defaults.matchers),
            threshold: self.threshold.or(own(defaults.threshold)),
            fire_when: self.fire_when.or(own(defaults.fire_when)),
            clear_when: self.clear_when.or(own(defaults.clear_when)),
            severity: self.severity.or(defaults.severity),
            hold: self.hold.or(defaults.hold),
            keep_firing_for: self.keep_firing_for.or(defaults.keep_firing_for),
            on_no_data: self.on_no_data.or(defaults.on_no_data),
            labels: self.labels.or(defaults.labels),
            message: self.message.or(defaults.message),
        }
    }

    /// What is wrong with it; `path` is where it stands.
    pub(super) fn problems(&self, path: &str) -> Vec<Problem> {
        let problem = |option: &str, message: &str, help: &str| Problem {
            option: if option.is_empty() { path.to_owned() } else { format!("{path}.{option}") },
            message: message.to_owned(),
            help: help.to_owned(),
        };
        let mut problems = Vec::new();
        if self.metric.as_ref().is_none_or(|metric| metric.trim().is_empty()) {
            let help = "give a `metric`, or the name of a default rule to change it";
            problems.push(problem("", "it reads no metric, and no default rule has this name", help));
        }
        match (self.threshold, self.fire_when) {
            (Some(_), Some(_)) => {
                problems.push(problem("threshold", "there is a `fire_when`, too", "give one of the two"));
            }
            (None, None) => problems.push(problem("", "it never fires", "give a `threshold` or `fire_when`")),
            _ => {}
        }
        for name in self.labels.iter().flat_map(BTreeMap::keys) {
            if RESERVED_LABELS.contains(&name.as_str()) {
                let message = format!("`{name}` is a label that every alert has already");
                problems.push(problem("labels", &message, "give it another name"));
            }
        }
        problems
    }
}

/// A rule, ready to be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: Arc<str>,
    /// The metric that it reads.
    pub metric: Arc<str>,
    /// Which series of the metric.
    pub matchers: Vec<Matcher>,
    /// When it is wrong.
    pub fire_when: Condition,
    /// When a firing alert is over; when `fire_when` does not hold if there is none.
    pub clear_when: Option<Condition>,
    /// How bad it is.
    pub severity: Severity,
    /// How long it has to be wrong.
    pub hold: Duration,
    /// How long a firing alert goes on after it was last wrong.
    pub keep_firing_for: Duration,
    /// What happens without data.
    pub on_no_data: OnNoData,
    /// Labels of its own.
    pub labels: Labels,
    /// The sentence for people, before anything is filled in.
    pub message: String,
}

impl Rule {
    /// The rule of these options; `None` if it is switched off or has [problems](RuleOptions::problems).
    pub(super) fn new(name: &str, options: RuleOptions) -> Option<Self> {
        if options.enabled == Some(false) {
            return None;
        }
        let label = |(name, value): (String, String)| (Arc::from(name), Arc::from(value));
        Some(Self {
            name: Arc::from(name),
            metric: Arc::from(options.metric?),
            matchers: options.matchers.unwrap_or_default(),
            fire_when: options.threshold.or(options.fire_when)?,
            clear_when: options.clear_when,
            severity: options.severity.unwrap_or_default(),
            hold: options.hold.unwrap_or_default(),
            keep_firing_for: options.keep_firing_for.unwrap_or_default(),
            on_no_data: options.on_no_data.unwrap_or_default(),
            labels: options.labels.unwrap_or_default().into_iter().map(label).collect(),
            message: options.message.unwrap_or_default(),
        })
    }

    /// Whether a reading is of a series that it reads.
    pub(super) fn reads(&self, reading: &Reading) -> bool {
        *reading.metric == *self.metric
            && matcher::all_fit(&self.matchers, |name| reading.labels.get(name).map(|value| &**value))
    }

    /// The labels of the alert for a series.
    pub(super) fn labels_for(&self, series: &Labels) -> Labels {
        let mut labels = series.clone();
        labels.extend(self.labels.iter().map(|(name, value)| (Arc::clone(name), Arc::clone(value))));
        labels
    }

    /// Whether a series with this value is wrong, seen from an alert that fires or does not.
    pub(super) fn is_wrong(&self, value: f64, firing: bool) -> bool {
        let still = |clear_when: &Condition| firing && !clear_when.holds(value);
        self.fire_when.holds(value) || self.clear_when.as_ref().is_some_and(still)
    }

    /// The sentence for people.
    pub(super) fn describe(&self, labels: &Labels, value: f64) -> Arc<str> {
        if self.message.is_empty() {
            let shown: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            let series = if shown.is_empty() { String::new() } else { format!("{{{}}}", shown.join(", ")) };
            let (metric, condition) = (&self.metric, self.fire_when);
            return format!("{metric}{series} is {}, which is {condition}", short(value)).into();
        }
        let mut text = self.message.clone();
        for (name, value) in labels {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        let threshold = short(self.fire_when.number());
        let text = text.replace("{value}", &short(value)).replace("{threshold}", &threshold);
        text.replace("{metric}", &self.metric).into()
    }

    /// Why an alert is over, for people: the value that is right again, if there is one.
    pub(super) fn describe_end(&self, value: Option<f64>) -> String {
        let metric = &self.metric;
        value.map_or_else(
            || format!("{metric} is not measured any more"),
            |value| format!("{metric} is {}", short(value)),
        )
    }
}

/// A number with no more digits than people read.
fn short(value: f64) -> String {
    let digits = if value == 0.0 || value.abs() >= 100.0 { 0 } else { 3 };
    let text = format!("{value:.digits$}");
    let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    trimmed.to_owned()
}

/// Tells an alert apart from all others, in every run: 16 hexadecimal digits of a SHA-256 of the rule and the labels.
pub(super) fn fingerprint(rule: &str, labels: &Labels) -> Arc<str> {
    let mut hasher = Sha256::new();
    let pairs = labels.iter().flat_map(|(name, value)| [&**name, &**value]);
    for text in std::iter::once(rule).chain(pairs) {
        hasher.update(text);
        // A byte that no text has, so that texts can't run into each other.
        hasher.update([0xff]);
    }
    let digits = hasher.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Arc::from(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect()
    }

    fn options(text: &str) -> RuleOptions {
        toml::from_str(text).expect("options")
    }

    #[test]
    fn a_rule_says_what_is_wrong_with_it() {
        let named = |text: &str| -> Vec<_> {
            options(text).problems("rules.x").into_iter().map(|problem| problem.option).collect()
        };
        assert_eq!(named(""), ["rules.x", "rules.x"]);
        assert_eq!(named("metric = 'm'\nthreshold = 1\nfire_when = '> 1'"), ["rules.x.threshold"]);
        assert_eq!(named("metric = 'm'\nthreshold = 1\nlabels = { severity = 'x' }"), ["rules.x.labels"]);
        assert!(named("metric = 'm'\nthreshold = 1").is_empty());
    }

    #[test]
    fn a_condition_replaces_the_defaults_and_the_rest_stays() {
        let default = options("metric = 'm'\nfire_when = '> 9'\nclear_when = '< 5'\nfor = '1m'");
        let merged = options("threshold = '> 20'").or(default.clone());
        let expected = options("metric = 'm'\nthreshold = '> 20'\nfor = '1m'");
        assert_eq!(merged, expected);
        assert_eq!(RuleOptions::default().or(default.clone()), default);
    }

    #[test]
    fn a_firing_alert_is_over_only_when_it_is_clear() {
        let text = "metric = 'm'\nfire_when = '> 90'\nclear_when = '< 80'";
        let rule = Rule::new("r", options(text)).expect("a rule");
        assert!(!rule.is_wrong(85.0, false));
        assert!(rule.is_wrong(85.0, true));
        assert!(!rule.is_wrong(79.0, true));
    }

    #[test]
    fn fingerprints_tell_labels_apart() {
        let plain = fingerprint("r", &labels(&[("a", "bc")]));
        assert_eq!(plain.len(), 16);
        assert_eq!(plain, fingerprint("r", &labels(&[("a", "bc")])));
        assert_ne!(plain, fingerprint("r", &labels(&[("ab", "c")])));
        assert_ne!(plain, fingerprint("r2", &labels(&[("a", "bc")])));
    }

    #[test]
    fn messages_are_filled_in() {
        let text = "metric = 'm'\nthreshold = 0.05\nmessage = '{endpoint}: {value} > {threshold}'";
        let rule = Rule::new("r", options(text)).expect("a rule");
        assert_eq!(&*rule.describe(&labels(&[("endpoint", "ams")]), 0.2), "ams: 0.2 > 0.05");
        let plain = Rule::new("r", options("metric = 'm'\nthreshold = 5")).expect("a rule");
        let described = plain.describe(&labels(&[("a", "b")]), 12_345.678);
        assert_eq!(&*described, "m{a=\"b\"} is 12346, which is > 5");
    }
}
