//! Evaluates rules on samples: which alerts are pending, firing or over. Pure; the sample's time is the only clock.
//!
//! The steps are those of Prometheus' `AlertingRule.Eval`: `for` counts from the first evaluation at which the condition
//! held and fires at the first one at which it has lasted long enough; a pending alert whose condition is gone was never
//! there; a firing one goes on for `keep_firing_for`, which begins anew when the condition returns. Beyond Prometheus:
//! `clear_when` (hysteresis) and `on_no_data`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rule::{Cause, OnNoData, Rule, fingerprint};
use crate::alert::{Alert, AlertState};
use crate::sample::{Labels, Reading, Sample};
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
    /// As it is now.
    pub(super) alert: Alert,
    /// When its condition was gone while it fired on.
    pub(super) kept_since: Option<Timestamp>,
    /// The labels of its series; none if it is about there being no series at all.
    #[serde(default)]
    series: Option<Labels>,
    /// The sentence of the last time at which it was wrong.
    #[serde(default)]
    was: Arc<str>,
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
    /// Series that were there once, by the labels of their alerts; kept only where their absence matters.
    known: BTreeMap<Labels, Labels>,
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
            self.beyond_limit += state.evaluate(rule, sample.at, &measured, grace, &mut evaluation);
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

    /// Takes in what was saved at `saved_at`. Alerts that no rule can make any more are over: they are returned, resolved.
    pub(super) fn restore(&mut self, saved: Vec<Active>, saved_at: Timestamp, now: Timestamp) -> Vec<Alert> {
        self.restored_at = Some(now);
        let outage = now.since(saved_at);
        let mut gone = Vec::new();
        for mut active in saved {
            if active.was.is_empty() {
                active.was = Arc::clone(&active.alert.message);
            }
            let rule = self.rules.iter_mut().find(|(rule, _)| rule.name == active.alert.rule);
            let ended = match rule {
                None => Some((active, "there is no such rule any more")),
                Some((rule, state)) => state.restore(rule, active, outage),
            };
            let ended = ended.filter(|(active, _)| active.alert.state == AlertState::Firing);
            gone.extend(ended.map(|(active, why)| active.resolved(why, now)));
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

/// The series that a rule reads, by the labels of their alerts; `None` if two have the same labels.
fn measure<'s>(rule: &Rule, sample: &'s Sample) -> Option<BTreeMap<Labels, &'s Reading>> {
    let mut measured = BTreeMap::new();
    for reading in sample.readings.iter().filter(|reading| rule.reads(reading)) {
        if measured.insert(rule.labels_for(&reading.labels), reading).is_some() {
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
        measured: &BTreeMap<Labels, &Reading>,
        grace: bool,
        evaluation: &mut Evaluation,
    ) -> u64 {
        let mut left_out = 0;
        let causes = self.causes(rule, measured);
        for (labels, cause) in &causes {
            if !self.active.contains_key(labels) && self.active.len() >= ALERTS_PER_RULE {
                left_out += 1;
                continue;
            }
            let series =
                measured.get(labels).map(|reading| &reading.labels).or_else(|| self.known.get(labels));
            let new = || Active::new(rule, labels, series.cloned(), at);
            let active = self.active.entry(labels.clone()).or_insert_with(new);
            active.show(rule, *cause);
            active.hold(rule, at, evaluation);
        }
        self.let_go(rule, at, measured, &causes, grace, evaluation);
        if rule.on_no_data == OnNoData::Fire {
            for (labels, reading) in measured {
                self.learn(labels, &reading.labels);
            }
        }
        left_out
    }

    fn learn(&mut self, labels: &Labels, series: &Labels) {
        if self.known.len() < ALERTS_PER_RULE && !self.known.contains_key(labels) {
            self.known.insert(labels.clone(), series.clone());
        }
    }

    /// Why which alerts go on or begin now, by their labels.
    fn causes(&self, rule: &Rule, measured: &BTreeMap<Labels, &Reading>) -> BTreeMap<Labels, Cause> {
        let firing = |labels: &Labels| {
            self.active.get(labels).is_some_and(|active| active.alert.state == AlertState::Firing)
        };
        let cause = |(labels, reading): (&Labels, &&Reading)| {
            Some((labels.clone(), rule.judge(reading.value, firing(labels))?))
        };
        let mut causes: BTreeMap<_, _> = measured.iter().filter_map(cause).collect();
        if rule.on_no_data == OnNoData::Fire {
            let absent = self.known.keys().filter(|labels| !measured.contains_key(*labels));
            causes.extend(absent.map(|labels| (labels.clone(), Cause::Absent)));
            if self.known.is_empty() && measured.is_empty() {
                causes.insert(rule.labels.clone(), Cause::Absent);
            }
        }
        causes
    }

    /// Ends what has no cause any more, or keeps it firing for a while.
    fn let_go(
        &mut self,
        rule: &Rule,
        at: Timestamp,
        measured: &BTreeMap<Labels, &Reading>,
        causes: &BTreeMap<Labels, Cause>,
        grace: bool,
        evaluation: &mut Evaluation,
    ) {
        self.active.retain(|labels, active| {
            if causes.contains_key(labels) {
                return true;
            }
            let value = measured.get(labels).map(|reading| reading.value);
            if value.is_none() && (grace || rule.on_no_data == OnNoData::Keep) {
                return true;
            }
            active.alert.value = value.unwrap_or(active.alert.value);
            let why = rule.describe_end(value);
            let keeps = active.alert.state == AlertState::Firing
                && at.since(*active.kept_since.get_or_insert(at)) < rule.keep_firing_for;
            if keeps {
                active.alert.message = format!("no longer: {why}; it was: {}", active.was).into();
            } else {
                evaluation.changed.push(active.clone().resolved(&why, at));
            }
            keeps
        });
    }

    /// Takes in an alert of a run that ended `outage` ago, as the rule has it now. Returns it, and why, if it is over.
    fn restore(
        &mut self,
        rule: &Rule,
        mut active: Active,
        outage: Duration,
    ) -> Option<(Active, &'static str)> {
        let alert = &mut active.alert;
        let is_pending = alert.state == AlertState::Pending;
        if is_pending && outage > OUTAGE_TOLERANCE {
            return None;
        }
        if alert.metric != rule.metric {
            return Some((active, "its rule reads another metric now"));
        }
        if active.series.is_none() && alert.labels != rule.labels {
            // An older state file does not tell which of the labels are the series'.
            active.series = Some(alert.labels.clone());
        }
        if !rule.makes(&alert.labels, active.series.as_ref()) {
            return Some((active, "its rule makes no alert with these labels any more"));
        }
        if is_pending {
            // Nobody looked meanwhile, so that time does not count.
            alert.active_at = alert.active_at.after(outage);
        }
        alert.severity = rule.severity;
        alert.threshold = rule.fire_when.number();
        if let Some(series) = active.series.as_ref().filter(|_| rule.on_no_data == OnNoData::Fire) {
            self.learn(&alert.labels, series);
        }
        self.active.insert(alert.labels.clone(), active);
        None
    }
}

impl Active {
    /// An alert that begins; [`Self::show`] says why.
    fn new(rule: &Rule, labels: &Labels, series: Option<Labels>, at: Timestamp) -> Self {
        let alert = Alert {
            fingerprint: fingerprint(&rule.name, labels),
            rule: Arc::clone(&rule.name),
            severity: rule.severity,
            state: AlertState::Pending,
            metric: Arc::clone(&rule.metric),
            labels: labels.clone(),
            value: 0.0,
            threshold: rule.fire_when.number(),
            message: Arc::default(),
            active_at: at,
            fired_at: None,
            resolved_at: None,
            suppressed_by: None,
        };
        Self { alert, kept_since: None, series, was: Arc::default() }
    }

    /// Shows what is the matter now.
    fn show(&mut self, rule: &Rule, cause: Cause) {
        let alert = &mut self.alert;
        alert.value = cause.value().unwrap_or(alert.value);
        alert.message = rule.describe(&alert.labels, cause);
        if !matches!(cause, Cause::Held(_)) {
            self.was = Arc::clone(&alert.message);
        }
        self.kept_since = None;
    }

    /// It goes on: fires if it has for long enough.
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

    /// The alert once it is over: people are told what is now, and what was.
    fn resolved(self, why: &str, at: Timestamp) -> Alert {
        let message = format!("over: {why}; it was: {}", self.was).into();
        Alert { state: AlertState::Resolved, message, resolved_at: Some(at), ..self.alert }
    }
}

#[cfg(test)]
#[path = "evaluator_tests.rs"]
mod tests;
