//! The rules that hold if nothing else is said: each can be changed or switched off by its name. And which of them explain
//! which others, so that one thing that is wrong is told once:
//!
//! | while this fires | these are not told |
//! | --- | --- |
//! | `no_endpoint` | `endpoint_down`, `quiet_stream`, `throughput`, `lag`, `coverage`, `recovery_failing`, `trend` |
//! | `quiet_stream` | `throughput`, `lag`, `coverage`, `recovery_failing`, `trend` |
//! | `hole` | `coverage`, `recovery_failing` |
//! | `disk_full` | `disk_space` of the same path |
//! | `commit_failing` | `throughput`, `lag`, `trend` |
//!
//! What explains others goes on for [`AFTERMATH`] after it was last seen: until then the others still look back on it.

use std::time::Duration;

use super::condition::Condition;
use super::inhibition::InhibitOptions;
use super::rule::{OnNoData, RuleOptions};
use crate::alert::Severity;
use crate::matcher::Matcher;

/// How long most of them have to hold: a reconnect or a leader's slow slot is no news.
const SHORT: Duration = Duration::from_secs(10);
/// The same for what moves slowly.
const LONG: Duration = Duration::from_secs(60);

/// How long an alert that explains others goes on after its condition is gone: throughput is what left the commitment
/// stage in ten seconds, and the first slot is final some fifteen seconds after the stream is back.
const AFTERMATH: Duration = Duration::from_secs(30);

/// One default rule.
struct Default {
    name: &'static str,
    metric: &'static str,
    matchers: &'static [(&'static str, &'static str)],
    fire_when: Condition,
    clear_when: Option<Condition>,
    severity: Severity,
    hold: Duration,
    keep_firing_for: Duration,
    on_no_data: OnNoData,
    message: &'static str,
}

impl Default {
    const fn new(name: &'static str, metric: &'static str, fire_when: Condition, severity: Severity) -> Self {
        Self {
            name,
            metric,
            matchers: &[],
            fire_when,
            clear_when: None,
            severity,
            hold: SHORT,
            keep_firing_for: Duration::ZERO,
            on_no_data: OnNoData::Resolve,
            message: "",
        }
    }

    const fn of(self, matchers: &'static [(&'static str, &'static str)]) -> Self {
        Self { matchers, ..self }
    }

    const fn lasting(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }

    /// It explains others, and goes on while they look back on it.
    const fn explaining(self) -> Self {
        Self { keep_firing_for: AFTERMATH, ..self }
    }

    const fn clear(self, clear_when: Condition) -> Self {
        Self { clear_when: Some(clear_when), ..self }
    }

    const fn keeping(self) -> Self {
        Self { on_no_data: OnNoData::Keep, ..self }
    }

    const fn saying(self, message: &'static str) -> Self {
        Self { message, ..self }
    }

    fn options(&self) -> RuleOptions {
        let matcher = |(name, value): &(&str, &str)| Matcher::equal(*name, *value);
        RuleOptions {
            metric: Some(self.metric.to_owned()),
            matchers: Some(self.matchers.iter().map(matcher).collect()),
            fire_when: Some(self.fire_when),
            clear_when: self.clear_when,
            severity: Some(self.severity),
            hold: Some(self.hold),
            keep_firing_for: Some(self.keep_firing_for),
            on_no_data: Some(self.on_no_data),
            message: Some(self.message.to_owned()),
            ..RuleOptions::default()
        }
    }
}

const fn above(number: f64) -> Condition {
    Condition::above(number)
}

const fn below(number: f64) -> Condition {
    Condition::below(number)
}

static DEFAULTS: [Default; 16] = [
    // All operations together; what can fail without drowning in the number of updates has rules of its own.
    Default::new("error_rate", "error_rate", above(0.05), Severity::Warning)
        .of(&[("window", "1m"), ("cause", "")])
        .saying("{value%} of all operations failed in the last minute, more than {threshold%}"),
    // Not the way to the final block, which takes 32 slots however fast everything is. A short window and a long time: one
    // stall is no news, and is out of the window before it could ring.
    Default::new("latency", "latency_ms", above(1_000.0), Severity::Error)
        .of(&[("path", "server_to_arrival"), ("quantile", "p99"), ("window", "10s")])
        .lasting(Duration::from_secs(30))
        .saying("one update in a hundred takes {value} ms from {endpoint} to here, more than {threshold} ms"),
    Default::new("throughput", "throughput_tx_per_second", below(10.0), Severity::Critical)
        .of(&[("window", "10s")])
        .keeping()
        .saying("{value} transactions a second come through, fewer than {threshold}"),
    Default::new("hole", "holes", above(0.0), Severity::Critical)
        .lasting(Duration::ZERO)
        .explaining()
        .saying("{value} slots can't be had from any endpoint or RPC; they are tried again, and nothing is committed around them"),
    Default::new("recovery_failing", "error_rate", above(0.5), Severity::Warning)
        .of(&[("window", "10s"), ("cause", "recovery")])
        .lasting(LONG)
        .saying("{value%} of the tries to fetch missing slots fail"),
    Default::new("proof_failing", "error_rate", above(0.05), Severity::Error)
        .of(&[("window", "1m"), ("cause", "proof")])
        .saying("the proof of history of {value%} of the last minute's slots does not hold; they are fetched again"),
    Default::new("endpoint_down", "endpoint_up", below(1.0), Severity::Error)
        .saying("endpoint {endpoint} is not connected"),
    Default::new("no_endpoint", "endpoints_up", below(1.0), Severity::Critical)
        .explaining()
        .saying("no endpoint is connected"),
    Default::new("quiet_stream", "updates_per_second", below(1.0), Severity::Critical)
        .of(&[("window", "10s"), ("kind", ""), ("endpoint", "")])
        .keeping()
        .explaining()
        .saying("{value} updates a second come in from all endpoints together"),
    // Final blocks are 32 slots behind the tip at best.
    Default::new("lag", "lag_slots", above(150.0), Severity::Error)
        .clear(below(100.0))
        .lasting(Duration::from_secs(30))
        .saying("the pipeline is {value} slots behind the chain"),
    Default::new("coverage", "slot_coverage", below(0.999), Severity::Warning)
        .of(&[("window", "5m")])
        .lasting(LONG)
        .saying("of the last five minutes' slots {value%} are whole, fewer than {threshold%}"),
    Default::new("disk_space", "disk_free_ratio", below(0.10), Severity::Warning)
        .clear(above(0.12))
        .lasting(LONG)
        .saying("{value%} of the disk under {path} is free"),
    Default::new("disk_full", "disk_free_ratio", below(0.03), Severity::Critical)
        .clear(above(0.04))
        .saying("only {value%} of the disk under {path} is free; the pipeline stops when it is full"),
    Default::new("memory", "memory_budget_ratio", above(0.95), Severity::Warning)
        .clear(below(0.85))
        .lasting(LONG)
        .saying("{value%} of the memory for frames is taken; the sources wait when it is spent"),
    Default::new("commit_failing", "error_rate", above(0.0), Severity::Critical)
        .of(&[("window", "1m"), ("cause", "commit")])
        .saying("files can't be made durable: {value%} of all commits of the last minute failed"),
    Default::new("trend", "trend_degradation", above(0.95), Severity::Warning)
        .clear(below(0.8))
        .lasting(LONG)
        .saying("{of} is getting worse, with a confidence of {value%}"),
];

/// Which default rule explains which others, and the labels that both have to share.
const EXPLAINED: [(&str, &[&str], &[&str]); 5] = [
    (
        "no_endpoint",
        &["endpoint_down", "quiet_stream", "throughput", "lag", "coverage", "recovery_failing", "trend"],
        &[],
    ),
    ("quiet_stream", &["throughput", "lag", "coverage", "recovery_failing", "trend"], &[]),
    // It holds up the files of its range, not what comes behind it.
    ("hole", &["coverage", "recovery_failing"], &[]),
    ("disk_full", &["disk_space"], &["path"]),
    ("commit_failing", &["throughput", "lag", "trend"], &[]),
];

/// The inhibitions between default rules.
pub(super) fn inhibitions() -> impl Iterator<Item = InhibitOptions> {
    EXPLAINED.iter().flat_map(|(source, targets, equal)| {
        targets.iter().map(move |target| InhibitOptions {
            source: vec![Matcher::equal("rule", *source)],
            target: vec![Matcher::equal("rule", *target)],
            equal: equal.iter().map(|label| (*label).to_owned()).collect(),
        })
    })
}

/// All default rules with their names.
pub(super) fn rules() -> impl Iterator<Item = (&'static str, RuleOptions)> {
    DEFAULTS.iter().map(|rule| (rule.name, rule.options()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::rule::Rule;
    use super::*;

    #[test]
    fn each_default_is_a_rule_with_a_name_of_its_own() {
        let names: BTreeSet<_> = rules().map(|(name, _)| name).collect();
        assert_eq!(names.len(), DEFAULTS.len());
        for (name, options) in rules() {
            assert_eq!(options.problems(name), []);
            assert!(Rule::new(name, options).is_some(), "{name}");
        }
    }

    #[test]
    fn what_explains_and_what_is_explained_are_rules_and_no_two_explain_each_other() {
        let names: BTreeSet<_> = rules().map(|(name, _)| name).collect();
        let pairs: BTreeSet<_> = EXPLAINED
            .iter()
            .flat_map(|(source, targets, _)| targets.iter().map(move |target| (*source, *target)))
            .collect();
        for (source, target) in &pairs {
            assert!(names.contains(source) && names.contains(target), "{source} {target}");
            assert!(!pairs.contains(&(*target, *source)), "{source} and {target} would both be kept back");
        }
        assert_eq!(inhibitions().count(), pairs.len());
    }

    #[test]
    fn the_table_of_the_three_golden_rules_holds() {
        let rule = |name: &str| {
            let (_, options) = rules().find(|(default, _)| *default == name).expect("a default");
            let condition = options.fire_when.expect("a condition").to_string();
            (options.metric.expect("a metric"), condition, options.severity.expect("a severity"))
        };
        let expected =
            |metric: &str, condition: &str, severity| (metric.to_owned(), condition.to_owned(), severity);
        assert_eq!(rule("error_rate"), expected("error_rate", "> 0.05", Severity::Warning));
        assert_eq!(rule("latency"), expected("latency_ms", "> 1000", Severity::Error));
        assert_eq!(rule("throughput"), expected("throughput_tx_per_second", "< 10", Severity::Critical));
    }
}
