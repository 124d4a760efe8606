//! The options of `type = "alert_evaluator"`, and how the stage is made of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::core::AlertEvaluator;
use super::defaults;
use super::grouping::Policy;
use super::inhibition::InhibitOptions;
use super::rule::{Rule, RuleOptions};
use super::shell::Shell;
use super::{state, unmeasured};
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use crate::silence::Silences;
use crate::stage::Flow;

/// Evaluates rules on what a monitor measures, and says what is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertEvaluatorOptions {
    /// Whether the default rules hold: error_rate, latency, throughput, hole, recovery_failing, proof_failing,
    /// endpoint_down, no_endpoint, quiet_stream, lag, coverage, disk_space, disk_full, memory, commit_failing and trend.
    /// Default true.
    pub default_rules: bool,
    /// Whether default rules that explain others keep those from being told: no_endpoint, quiet_stream, hole, disk_full
    /// and commit_failing, e.g. `quiet_stream` the low `throughput` that comes of it. Without `default_rules` there is nothing to
    /// explain. Default true.
    pub default_inhibit: bool,
    /// Rules by their names. One with the name of a default rule changes only what it says, unless `default_rules` is
    /// false.
    pub rules: BTreeMap<String, RuleOptions>,
    /// Labels whose values make alerts one group, which is told of together; `"..."` for all labels. Default `["rule"]`.
    pub group_by: Vec<String>,
    /// How long a new group waits for company before it is told of. Default 30s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub group_wait: Duration,
    /// The least time between two notices of a group. Default 5m.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub group_interval: Duration,
    /// How often a group that still fires is told of again, at a multiple of `group_interval`. Default 4h.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub repeat_interval: Duration,
    /// Alerts that keep others from being told, beside those of `default_inhibit`. Default none.
    pub inhibit: Vec<InhibitOptions>,
    /// How long nothing has to be measured before rules treat it as no data. Default 10s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub stale_after: Duration,
    /// Where alerts, what was told, and silences outlive a restart. Default none: a restart tells again what still fires.
    pub state_file: Option<PathBuf>,
}

impl Default for AlertEvaluatorOptions {
    fn default() -> Self {
        Self {
            default_rules: true,
            default_inhibit: true,
            rules: BTreeMap::new(),
            group_by: vec!["rule".to_owned()],
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(300),
            repeat_interval: Duration::from_secs(4 * 3_600),
            inhibit: Vec::new(),
            stale_after: Duration::from_secs(10),
            state_file: None,
        }
    }
}

impl AlertEvaluatorOptions {
    /// All rules with their options: the defaults, changed by what is said, and the others.
    fn merged(&self) -> BTreeMap<String, RuleOptions> {
        let mut merged: BTreeMap<String, RuleOptions> = BTreeMap::new();
        if self.default_rules {
            merged.extend(defaults::rules().map(|(name, rule)| (name.to_owned(), rule)));
        }
        for (name, rule) in &self.rules {
            let default = merged.remove(name).unwrap_or_default();
            merged.insert(name.clone(), rule.clone().or(default));
        }
        merged
    }

    /// The rules that are evaluated, by name.
    pub fn rules(&self) -> Vec<Rule> {
        self.merged().into_iter().filter_map(|(name, options)| Rule::new(&name, options)).collect()
    }

    /// What its rules ask of the monitor that feeds it and no monitor measures. Series of another origin may have any name
    /// and labels, so this is no part of [`Component::problems`].
    pub fn unmeasured(&self) -> Vec<Problem> {
        let merged = self.merged();
        let rules = self.rules.iter().filter_map(|(name, own)| Some((name, own, merged.get(name)?)));
        let enabled = rules.filter(|(.., merged)| merged.enabled != Some(false));
        let problems =
            enabled.map(|(name, own, merged)| unmeasured::problems(&format!("rules.{name}"), own, merged));
        problems.flatten().collect()
    }

    /// The pure core with these options; `silences` are obeyed.
    pub fn evaluator(&self, silences: Silences) -> AlertEvaluator {
        let policy = Policy {
            group_by: self.group_by.clone(),
            group_wait: self.group_wait,
            group_interval: self.group_interval,
            repeat_interval: self.repeat_interval,
        };
        AlertEvaluator::new(self.rules(), policy, self.inhibitions(), silences, self.stale_after)
    }

    fn inhibitions(&self) -> Vec<InhibitOptions> {
        let defaults = defaults::inhibitions().filter(|_| self.default_rules && self.default_inhibit);
        self.inhibit.iter().cloned().chain(defaults).collect()
    }

    fn interval_problems(&self) -> Vec<Problem> {
        let problem = |option: &str, message: &str, help: &str| Problem {
            option: option.to_owned(),
            message: message.to_owned(),
            help: help.to_owned(),
        };
        let mut problems = Vec::new();
        if self.group_interval < Duration::from_secs(1) {
            problems.push(problem("group_interval", "this is too often", "give 1s or more"));
        }
        if self.repeat_interval < self.group_interval {
            let help = "give a multiple of `group_interval`";
            problems.push(problem("repeat_interval", "it is shorter than `group_interval`", help));
        }
        if self.stale_after < Duration::from_secs(1) {
            problems.push(problem(
                "stale_after",
                "it is shorter than the time between samples",
                "give 2s or more",
            ));
        }
        problems
    }
}

impl Component for AlertEvaluatorOptions {
    const KIND: &'static str = "alert_evaluator";
    const ROLE: Role = Role::Stage;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Samples);
    const EMITS: Emits = Emits::Only(Flow::Alerts);
    const SUMMARY: &'static str = "Evaluates rules on what is measured, and says once what is wrong.";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.interval_problems();
        let merged = self.merged();
        for name in self.rules.keys() {
            let rule = merged.get(name).cloned().unwrap_or_default();
            if rule.enabled != Some(false) || rule.metric.is_none() {
                problems.extend(rule.problems(&format!("rules.{name}")));
            }
        }
        for (at, inhibit) in self.inhibit.iter().enumerate() {
            for (side, matchers) in [("source", &inhibit.source), ("target", &inhibit.target)] {
                if matchers.is_empty() {
                    problems.push(Problem {
                        option: format!("inhibit.{at}"),
                        message: format!("`{side}` would fit every alert"),
                        help: "give it at least one matcher, e.g. `rule=\"no_endpoint\"`".to_owned(),
                    });
                }
            }
        }
        problems
    }

    fn claims(&self) -> Vec<PathBuf> {
        self.state_file.iter().cloned().collect()
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        let silences = Silences::shared(context);
        let saved = self.state_file.as_deref().map(state::read).transpose()?.flatten();
        let evaluator = self.evaluator(silences);
        Ok(Node::Transform(Box::new(Shell::new(evaluator, self.state_file, saved))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> AlertEvaluatorOptions {
        toml::from_str(text).expect("options")
    }

    fn names(options: &AlertEvaluatorOptions) -> Vec<String> {
        options.rules().iter().map(|rule| rule.name.to_string()).collect()
    }

    #[test]
    fn default_rules_are_changed_and_switched_off_by_name() {
        let all = names(&AlertEvaluatorOptions::default()).len();
        let changed = options("[rules.latency]\nthreshold = '> 2000'\n[rules.trend]\nenabled = false");
        assert_eq!(changed.problems(), []);
        assert_eq!(names(&changed).len(), all - 1);
        let rules = changed.rules();
        let latency = rules.iter().find(|rule| &*rule.name == "latency").expect("there");
        assert_eq!((latency.fire_when.number(), &*latency.metric), (2_000.0, "latency_ms"));
        let own = options("default_rules = false\n[rules.mine]\nmetric = 'm'\nthreshold = 1");
        assert_eq!(names(&own), ["mine"]);
    }

    #[test]
    fn what_no_monitor_measures_is_named_with_what_may_be_meant() {
        let rules = "[rules.slow]\nmetric = 'latencyms'\nthreshold = 1\n\
            [rules.odd]\nmetric = 'xyz'\nthreshold = 1\n\
            [rules.latency]\nmatchers = ['quantil=\"p50\"', 'window=\"1m\"']\n\
            [rules.hole]\nmatchers = ['node=whole']\n\
            [rules.off]\nenabled = false\nmetric = 'nothing'\nthreshold = 1\n\
            [rules.behind]\nmetric = 'lag_slots'\nthreshold = 1";
        let found = options(rules).unmeasured();
        let said: Vec<_> = found
            .iter()
            .map(|problem| (problem.option.as_str(), problem.message.as_str(), problem.help.as_str()))
            .collect();
        let (known, odd) = ("did you mean `latency_ms`?", said[2]);
        assert_eq!(said.len(), 4);
        assert_eq!(
            said[0],
            (
                "rules.hole.matchers.0",
                "`node` is no label of `holes`",
                "it has no labels, leave the matcher out"
            )
        );
        assert_eq!(
            said[1],
            ("rules.latency.matchers.0", "`quantil` is no label of `latency_ms`", "did you mean `quantile`?")
        );
        assert_eq!((odd.0, odd.1), ("rules.odd.metric", "no monitor measures `xyz`"));
        assert!(odd.2.starts_with("monitors measure `bytes_per_second`, "), "{}", odd.2);
        assert_eq!(said[3], ("rules.slow.metric", "no monitor measures `latencyms`", known));
        assert_eq!(options(rules).problems(), [], "series of another origin may have any name");
    }

    #[test]
    fn what_default_rules_read_is_measured() {
        let rules = defaults::rules().map(|(name, rule)| (name.to_owned(), rule)).collect();
        let all = AlertEvaluatorOptions { rules, ..AlertEvaluatorOptions::default() };
        assert_eq!(all.unmeasured(), []);
    }

    #[test]
    fn what_can_not_work_is_named() {
        let text = "group_interval = '0s'\nrepeat_interval = '0s'\n[[inhibit]]\nsource = ['rule=a']\n[rules.latencies]\nenabled = false";
        let named: Vec<_> = options(text).problems().into_iter().map(|problem| problem.option).collect();
        assert_eq!(named, ["group_interval", "rules.latencies", "rules.latencies", "inhibit.0"]);
    }
}
