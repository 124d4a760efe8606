//! Evaluates rules on samples: which alerts are pending, firing or over. Pure; the sample's time is the only clock.
//!
//! The steps are those of Prometheus' `AlertingRule.Eval`: `for` counts from the first evaluation at which the condition
//! held and fires at the first one at which it has lasted long enough; a pending alert whose condition is gone was never
//! there; a firing one goes on for `keep_firing_for`, which begins anew when the condition returns. Beyond Prometheus:
//! `clear_when` (hysteresis) and `on_no_data`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rule::{OnNoData, Rule, fingerprint};
use crate::alert::{Alert, AlertState};
use crate::sample::{Labels, Sample};
use crate::slot::Timestamp;

/// Most alerts of one rule: a rule that rings for more series than this says nothing that one of them does not say.
pub const ALERTS_PER_RULE: usize = 1_000;
/// How long restored alerts whose series are not measured yet stay as they are: windows have to fill first.
const RESTORE_GRACE: Duration = Duration::from_secs(60);
/// The longest outage after which the time that an alert was pending before still counts; Prometheus' default.
const OUTAGE_TOLERANCE: Duration = Duration::from_secs(3_600);

/// An alert while it is pending or firing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Active {
    /// As it was told last.
    pub(super) alert: Alert,
    /// When its condition was gone while it fired on.
    pub(super) kept_since: Option<Timestamp>,
}

/// What one evaluation found.
#[derive(Debug, Default)]
pub(super) struct Evaluation {
    /// Alerts whose state is another one now.
    pub(super) changed: Vec<Alert>,
}

/// The alerts of one rule, by the labels of the alert.
#[derive(Debug, Default)]
struct RuleState {
    active: BTreeMap<Labels, Active>,
    /// Series that were there once; kept only where their absence matters.
    known: BTreeSet<Labels>,
}

/// The state of all rules.
#[derive(Debug)]
pub(super) struct Evaluator {
    rules: Vec<(Rule, RuleState)>,
    restored_at: Option<Timestamp>,
    failures: u64,
    beyond_limit: u64,
}

impl Evaluator {
    /// Rules without alerts.
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let rules = rules.into_iter().map(|rule| (rule, RuleState::default())).collect();
        Self { rules, restored_at: None, failures: 0, beyond_limit: 0 }
    }

    /// Evaluates all rules on a sample.
    pub(super) fn evaluate(&mut self, sample: &Sample) -> Evaluation {
        let mut evaluation = Evaluation::default();
        let grace = self.restored_at.is_some_and(|restored| sample.at.since(restored) < RESTORE_GRACE);
        for (rule, state) in &mut self.rules {
            let Some(measured) = measure(rule, sample) else {
                // Two series with the same labels: which one holds can't be said, so nothing changes.
                self.failures += 1;
                continue;
            };
            self.beyond_limit += state.evaluate(rule, sample.at, measured, grace, &mut evaluation);
        }
        evaluation
    }

    /// All alerts that are pending or firing.
    pub(super) fn active(&self) -> impl Iterator<Item = &Alert> {
        self.rules.iter().flat_map(|(_, state)| state.active.values()).map(|active| &active.alert)
    }

    /// The same, to be changed.
    pub(super) fn active_mut(&mut self) -> impl Iterator<Item = &mut Alert> {
        let states = self.rules.iter_mut().flat_map(|(_, state)| state.active.values_mut());
        states.map(|active| &mut active.alert)
    }

    /// What has to outlive a restart.
    pub(super) fn save(&self) -> Vec<Active> {
        self.rules.iter().flat_map(|(_, state)| state.active.values()).cloned().collect()
    }

    /// Takes in what was saved at `saved_at`. Alerts of rules that are gone are over: they are returned, resolved.
    pub(super) fn restore(&mut self, saved: Vec<Active>, saved_at: Timestamp, now: Timestamp) -> Vec<Alert> {
        self.restored_at = Some(now);
        let outage = now.since(saved_at);
        let mut gone = Vec::new();
        for mut active in saved {
            let rule = self.rules.iter_mut().find(|(rule, _)| rule.name == active.alert.rule);
            let is_pending = active.alert.state == AlertState::Pending;
            match rule {
                None if !is_pending => {
                    gone.push(resolved(active.alert, "there is no such rule any more", now))
                }
                None => {}
                Some(_) if is_pending && outage > OUTAGE_TOLERANCE => {}
                Some((_, state)) => {
                    if is_pending {
                        // Nobody looked meanwhile, so that time does not count.
                        active.alert.active_at = active.alert.active_at.after(outage);
                    }
                    state.active.insert(active.alert.labels.clone(), active);
                }
            }
        }
        gone
    }

    /// Evaluations of a rule that failed because two series had the same labels, and series beyond the limit of alerts.
    pub(super) fn failures(&self) -> (u64, u64) {
        (self.failures, self.beyond_limit)
    }

    /// The rules.
    pub(super) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|(rule, _)| rule)
    }
}

/// The values of the series that a rule reads, by the labels of their alerts; `None` if two have the same labels.
fn measure(rule: &Rule, sample: &Sample) -> Option<BTreeMap<Labels, f64>> {
    let mut measured = BTreeMap::new();
    for reading in sample.readings.iter().filter(|reading| rule.reads(reading)) {
        if measured.insert(rule.labels_for(&reading.labels), reading.value).is_some() {
            return None;
        }
    }
    Some(measured)
}

impl RuleState {
    /// Evaluates the rule; returns how many alerts were left out because there are too many.
    fn evaluate(
        &mut self,
        rule: &Rule,
        at: Timestamp,
        measured: BTreeMap<Labels, f64>,
        grace: bool,
        evaluation: &mut Evaluation,
    ) -> u64 {
        let mut left_out = 0;
        for (labels, value) in self.wrong(rule, &measured) {
            if let Some(active) = self.active.get_mut(&labels) {
                active.alert.value = value;
                active.alert.message = rule.describe(&labels, value);
                active.kept_since = None;
            } else if self.active.len() < ALERTS_PER_RULE {
                let active = Active { alert: pending(rule, &labels, value, at), kept_since: None };
                self.active.insert(labels.clone(), active);
            } else {
                left_out += 1;
                continue;
            }
            if let Some(active) = self.active.get_mut(&labels) {
                active.hold(rule, at, evaluation);
            }
        }
        self.let_go(rule, at, &measured, grace, evaluation);
        if rule.on_no_data == OnNoData::Fire {
            let room = ALERTS_PER_RULE.saturating_sub(self.known.len());
            let new: Vec<_> =
                measured.into_keys().filter(|labels| !self.known.contains(labels)).take(room).collect();
            self.known.extend(new);
        }
        left_out
    }

    /// The labels for which the condition holds now, with the value.
    fn wrong(&self, rule: &Rule, measured: &BTreeMap<Labels, f64>) -> Vec<(Labels, f64)> {
        let firing = |labels: &Labels| {
            self.active.get(labels).is_some_and(|active| active.alert.state == AlertState::Firing)
        };
        let is_wrong = |(labels, value): &(&Labels, &f64)| rule.is_wrong(**value, firing(labels));
        let mut wrong: Vec<_> =
            measured.iter().filter(is_wrong).map(|(labels, value)| (labels.clone(), *value)).collect();
        if rule.on_no_data == OnNoData::Fire {
            let last = |labels: &Labels| self.active.get(labels).map_or(0.0, |active| active.alert.value);
            let absent = self.known.iter().filter(|labels| !measured.contains_key(*labels));
            wrong.extend(absent.map(|labels| (labels.clone(), last(labels))));
            if self.known.is_empty() && measured.is_empty() {
                wrong.push((rule.labels.clone(), 0.0));
            }
        }
        wrong
    }

    /// Ends what is no longer wrong, or keeps it firing for a while.
    fn let_go(
        &mut self,
        rule: &Rule,
        at: Timestamp,
        measured: &BTreeMap<Labels, f64>,
        grace: bool,
        evaluation: &mut Evaluation,
    ) {
        let wrong: BTreeSet<Labels> =
            self.wrong(rule, measured).into_iter().map(|(labels, _)| labels).collect();
        self.active.retain(|labels, active| {
            if wrong.contains(labels) {
                return true;
            }
            let is_absent = !measured.contains_key(labels);
            if is_absent && (grace || rule.on_no_data == OnNoData::Keep) {
                return true;
            }
            if let Some(value) = measured.get(labels) {
                active.alert.value = *value;
            }
            let keeps = active.alert.state == AlertState::Firing
                && at.since(*active.kept_since.get_or_insert(at)) < rule.keep_firing_for;
            if !keeps {
                let why = rule.describe_end(measured.get(labels).copied());
                evaluation.changed.push(resolved(active.alert.clone(), &why, at));
            }
            keeps
        });
    }
}

impl Active {
    /// The condition holds: fires if it has for long enough.
    fn hold(&mut self, rule: &Rule, at: Timestamp, evaluation: &mut Evaluation) {
        let alert = &mut self.alert;
        let is_new = alert.active_at == at && alert.state == AlertState::Pending;
        if alert.state == AlertState::Pending && at.since(alert.active_at) >= rule.hold {
            alert.state = AlertState::Firing;
            alert.fired_at = Some(at);
            evaluation.changed.push(alert.clone());
        } else if is_new {
            evaluation.changed.push(alert.clone());
        }
    }
}

fn pending(rule: &Rule, labels: &Labels, value: f64, at: Timestamp) -> Alert {
    Alert {
        fingerprint: fingerprint(&rule.name, labels),
        rule: Arc::clone(&rule.name),
        severity: rule.severity,
        state: AlertState::Pending,
        metric: Arc::clone(&rule.metric),
        labels: labels.clone(),
        value,
        threshold: rule.fire_when.number(),
        message: rule.describe(labels, value),
        active_at: at,
        fired_at: None,
        resolved_at: None,
        suppressed_by: None,
    }
}

/// The alert once it is over: people are told what is now, and what was.
fn resolved(alert: Alert, why: &str, at: Timestamp) -> Alert {
    let message = format!("over: {why}; it was: {}", alert.message).into();
    Alert { state: AlertState::Resolved, message, resolved_at: Some(at), ..alert }
}

#[cfg(test)]
#[path = "evaluator_tests.rs"]
mod tests;
