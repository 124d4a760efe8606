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

/// Why an alert goes on: what its series shows now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cause {
    /// A value that is wrong.
    Wrong(f64),
    /// A value that is not wrong any more, and by `clear_when` not right yet.
    Held(f64),
    /// Nothing, and silence is what the rule is about.
    Absent,
}

impl Cause {
    /// The value, if there is one.
    pub(super) fn value(self) -> Option<f64> {
        match self {
            Self::Wrong(value) | Self::Held(value) => Some(value),
            Self::Absent => None,
        }
    }
}

/// A rule, as the TOML has it. What a default rule of the same name says holds where this one says nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleOptions {
    /// Whether the rule is evaluated. Default true; false switches a default rule off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The metric that it reads, e.g. `error_rate`; one that the monitor before it measures.
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
    /// A sentence for people; `{value}`, `{threshold}`, `{metric}` and the names of labels in braces are filled in, and
    /// `{value%}` and `{threshold%}` in percent.
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
        *reading.metric == *self.metric && self.reads_series(&reading.labels)
    }

    fn reads_series(&self, series: &Labels) -> bool {
        matcher::all_fit(&self.matchers, |name| series.get(name).map(|value| &**value))
    }

    /// Whether it can make an alert with these labels for that series; none stands for an alert that no series has.
    pub(super) fn makes(&self, labels: &Labels, series: Option<&Labels>) -> bool {
        let is_of = |series: &Labels| self.reads_series(series) && self.labels_for(series) == *labels;
        let of_none = self.on_no_data == OnNoData::Fire && self.labels == *labels;
        of_none || series.is_some_and(is_of)
    }

    /// The labels of the alert for a series.
    pub(super) fn labels_for(&self, series: &Labels) -> Labels {
        let mut labels = series.clone();
        labels.extend(self.labels.iter().map(|(name, value)| (Arc::clone(name), Arc::clone(value))));
        labels
    }

    /// Why a series with this value has an alert, which fires already or does not; none if it has none.
    pub(super) fn judge(&self, value: f64, firing: bool) -> Option<Cause> {
        if self.fire_when.holds(value) {
            return Some(Cause::Wrong(value));
        }
        let is_held = self.clear_when.is_some_and(|clear_when| firing && !clear_when.holds(value));
        is_held.then_some(Cause::Held(value))
    }

    /// The sentence for people.
    pub(super) fn describe(&self, labels: &Labels, cause: Cause) -> Arc<str> {
        // A sentence of the rule's own speaks of a value that is wrong.
        let is_fitting = match cause {
            Cause::Wrong(_) => true,
            Cause::Held(_) => false,
            Cause::Absent => !self.message.contains("{value"),
        };
        if is_fitting && !self.message.is_empty() {
            return self.fill_in(labels, cause.value()).into();
        }
        let shown: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let series = if shown.is_empty() { String::new() } else { format!("{{{}}}", shown.join(", ")) };
        let (metric, fire_when) = (&self.metric, self.fire_when);
        let clear_when = self.clear_when.unwrap_or(fire_when);
        let shows = match cause {
            Cause::Wrong(value) => {
                format!("is {}, which is {fire_when}", apart(value, fire_when.number()))
            }
            Cause::Held(value) => {
                format!("is {}, which is not {clear_when} yet", apart(value, clear_when.number()))
            }
            Cause::Absent => "is not measured".to_owned(),
        };
        format!("{metric}{series} {shows}").into()
    }

    fn fill_in(&self, labels: &Labels, value: Option<f64>) -> String {
        let mut text = self.message.clone();
        for (name, value) in labels {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        let threshold = self.fire_when.number();
        if let Some(value) = value {
            text = text.replace("{value}", &apart(value, threshold));
            text = text.replace("{value%}", &percent(value, threshold));
        }
        text = text.replace("{threshold}", &threshold.to_string());
        text.replace("{threshold%}", &percent(threshold, threshold)).replace("{metric}", &self.metric)
    }

    /// Why an alert is over, for people: the value that is right again, if there is one.
    pub(super) fn describe_end(&self, value: Option<f64>) -> String {
        let (metric, number) = (&self.metric, self.clear_when.unwrap_or(self.fire_when).number());
        value.map_or_else(
            || format!("{metric} is not measured any more"),
            |value| format!("{metric} is {}", apart(value, number)),
        )
    }
}

/// A value with no more digits than people read, but with as many as tell it from the number that it is compared with.
fn apart(value: f64, number: f64) -> String {
    // What an f64 can hold.
    const MOST_DIGITS: usize = 17;
    let fewest = if value == 0.0 || value.abs() >= 100.0 { 0 } else { 3 };
    let is_told = |text: &String| {
        text.parse::<f64>().is_ok_and(|shown| shown.partial_cmp(&number) == value.partial_cmp(&number))
    };
    let texts = (fewest..=MOST_DIGITS).map(|digits| format!("{value:.digits$}"));
    let text = texts.into_iter().find(is_told).unwrap_or_else(|| value.to_string());
    let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    trimmed.to_owned()
}

/// A ratio in percent, apart from `number` as [`apart`] has it.
fn percent(ratio: f64, number: f64) -> String {
    // What the multiplication adds in the last digits is nobody's number.
    let in_percent = |ratio: f64| (ratio * 1e14).round() / 1e12;
    format!("{} %", apart(in_percent(ratio), in_percent(number)))
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
        assert_eq!(rule.judge(85.0, false), None);
        assert_eq!(rule.judge(85.0, true), Some(Cause::Held(85.0)));
        assert_eq!(rule.judge(95.0, true), Some(Cause::Wrong(95.0)));
        assert_eq!(rule.judge(79.0, true), None);
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
        let wrong = |value| Cause::Wrong(value);
        assert_eq!(&*rule.describe(&labels(&[("endpoint", "ams")]), wrong(0.2)), "ams: 0.2 > 0.05");
        let text = "metric = 'm'\nthreshold = '< 0.999'\nmessage = '{value%}, fewer than {threshold%}'";
        let ratio = Rule::new("r", options(text)).expect("a rule");
        for (value, said) in [
            (0.5, "50 %, fewer than 99.9 %"),
            (0.07, "7 %, fewer than 99.9 %"),
            (0.998_999_9, "99.89999 %, fewer than 99.9 %"),
        ] {
            assert_eq!(&*ratio.describe(&Labels::new(), wrong(value)), said);
        }
        let plain = Rule::new("r", options("metric = 'm'\nthreshold = 5")).expect("a rule");
        let described = plain.describe(&labels(&[("a", "b")]), wrong(12_345.678));
        assert_eq!(&*described, "m{a=\"b\"} is 12346, which is > 5");
    }

    #[test]
    fn a_value_that_is_held_or_absent_is_not_said_to_be_wrong() {
        let condition = "metric = 'm'\nfire_when = '> 90'\nclear_when = '< 80'\non_no_data = 'fire'";
        for (message, held, absent) in [
            ("", "m is 85, which is not < 80 yet", "m is not measured"),
            ("{value} > {threshold}", "m is 85, which is not < 80 yet", "m is not measured"),
            ("{metric} has stopped", "m is 85, which is not < 80 yet", "m has stopped"),
        ] {
            let rule =
                Rule::new("r", options(&format!("{condition}\nmessage = '{message}'"))).expect("a rule");
            assert_eq!(&*rule.describe(&labels(&[]), Cause::Held(85.0)), held);
            assert_eq!(&*rule.describe(&labels(&[]), Cause::Absent), absent);
        }
    }

    #[test]
    fn a_value_has_as_many_digits_as_tell_it_from_what_it_is_compared_with() {
        for (value, number, text) in [
            (12_345.678, 5.0, "12346"),
            (1_000.4, 1_000.0, "1000.4"),
            (1_000.0, 1_000.0, "1000"),
            (0.998_96, 0.999, "0.99896"),
            (0.000_04, 0.0, "0.00004"),
            (0.000_04, 0.05, "0"),
            (-0.5, 0.0, "-0.5"),
            (1e-30, 0.0, "0.000000000000000000000000000001"),
            (f64::NAN, 1.0, "NaN"),
            (f64::INFINITY, 1.0, "inf"),
        ] {
            assert_eq!(apart(value, number), text);
        }
    }

    #[test]
    fn a_rule_knows_which_alerts_it_can_make() {
        let text = "metric = 'm'\nthreshold = 5\nmatchers = ['window=10s']\nlabels = { team = 'x' }";
        let rule = Rule::new("r", options(text)).expect("a rule");
        let (short, long) = (labels(&[("window", "10s")]), labels(&[("window", "1m")]));
        assert!(rule.makes(&rule.labels_for(&short), Some(&short)));
        let both = rule.labels_for(&short);
        assert!(rule.makes(&both, Some(&both)), "what is known of an older state file's alerts");
        assert!(!rule.makes(&rule.labels_for(&long), Some(&long)), "the matcher does not fit");
        assert!(!rule.makes(&short, Some(&short)), "without the rule's label");
        let of_none = labels(&[("team", "x")]);
        assert!(!rule.makes(&of_none, None));
        let fires = Rule { on_no_data: OnNoData::Fire, ..rule };
        assert!(fires.makes(&of_none, None));
    }
}
