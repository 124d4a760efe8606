//! The pure core: samples and time in, changes and notices out.

use std::sync::Arc;
use std::time::Duration;

use super::evaluator::{Evaluation, Evaluator};
use super::grouping::{Dispatcher, Muted, Policy};
use super::inhibition::{InhibitOptions, inhibitor};
use super::measured::Shown;
use super::rule::Rule;
use super::state::Saved;
use crate::alert::{Alert, AlertItem, AlertState, Severity};
use crate::sample::Sample;
use crate::silence::Silences;
use crate::slot::Timestamp;
use crate::stage::Metric;

/// How often rules are evaluated without data while none comes.
const STALE_INTERVAL: Duration = Duration::from_secs(1);
/// How often the state is worth writing while alerts are active: the time of an outage is counted from the last time.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// Rules, groups and what mutes them.
#[derive(Debug)]
pub struct AlertEvaluator {
    evaluator: Evaluator,
    dispatcher: Dispatcher,
    inhibit: Vec<InhibitOptions>,
    silences: Silences,
    stale_after: Duration,
    shown: Shown,
    /// When something was measured last; the first call counts.
    measured_at: Option<Timestamp>,
    evaluated_at: Timestamp,
    notices: u64,
    /// What is on disk: the number of changes and the silences' revision, and when.
    changes: u64,
    saved: (u64, u64, Timestamp),
}

impl AlertEvaluator {
    /// Rules without alerts.
    pub(super) fn new(
        rules: Vec<Rule>,
        policy: Policy,
        inhibit: Vec<InhibitOptions>,
        silences: Silences,
        stale_after: Duration,
    ) -> Self {
        Self {
            evaluator: Evaluator::new(rules),
            dispatcher: Dispatcher::new(policy),
            inhibit,
            silences,
            stale_after,
            shown: Shown::default(),
            measured_at: None,
            evaluated_at: Timestamp(0),
            notices: 0,
            changes: 0,
            saved: (0, 0, Timestamp(0)),
        }
    }

    /// Evaluates the rules on a sample, at the sample's time.
    pub fn on_sample(&mut self, sample: &Sample, out: &mut Vec<AlertItem>) {
        self.measured_at = Some(sample.at);
        self.evaluate(sample, out);
    }

    /// Time has passed: groups that are due are told of, and silence is noticed.
    pub fn on_tick(&mut self, now: Timestamp, out: &mut Vec<AlertItem>) {
        let measured_at = *self.measured_at.get_or_insert(now);
        let is_stale = now.since(measured_at) >= self.stale_after;
        if is_stale && now.since(self.evaluated_at) >= STALE_INTERVAL {
            self.evaluate(&Sample { at: now, readings: Vec::new() }, out);
        }
        let Self { evaluator, dispatcher, inhibit, silences, .. } = self;
        let active: Vec<&Alert> = evaluator.active().collect();
        let notices = dispatcher.flush(now, |alert, at| muted(alert, at, silences, inhibit, &active));
        self.notices += notices.len() as u64;
        self.changes += notices.len() as u64;
        out.extend(notices.into_iter().map(AlertItem::Notice));
    }

    /// The alerts that are pending or firing.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.evaluator.active()
    }

    /// The rules.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.evaluator.rules()
    }

    /// Shows the current value of each metric.
    pub(super) fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        for severity in [Severity::Info, Severity::Warning, Severity::Error, Severity::Critical] {
            let firing = |alert: &&Alert| alert.severity == severity && alert.state == AlertState::Firing;
            let count = self.evaluator.active().filter(firing).count() as u64;
            show(Metric::new("alerts_firing", count).with("severity", severity.name()));
        }
        let pending =
            self.evaluator.active().filter(|alert| alert.state == AlertState::Pending).count() as u64;
        let (failures, beyond) = self.evaluator.failures();
        show(Metric::new("alerts_pending", pending));
        show(Metric::new("alert_notices_total", self.notices));
        show(Metric::new("alert_rule_failures_total", failures));
        show(Metric::new("alert_series_beyond_limit_total", beyond));
    }

    /// What has to outlive a restart, if it has changed since it was taken last.
    pub(super) fn unsaved(&mut self, now: Timestamp) -> Option<Saved> {
        let revision = self.silences.revision();
        let (changes, silences, at) = self.saved;
        let is_aged = self.evaluator.active().next().is_some() && now.since(at) >= SAVE_INTERVAL;
        if (changes, silences) == (self.changes, revision) && !is_aged {
            return None;
        }
        self.saved = (self.changes, revision, now);
        let silences = self.silences.list().into_iter().rev().collect();
        Some(Saved::new(now, self.evaluator.save(), self.dispatcher.book().clone(), silences))
    }

    /// Goes on with what was saved.
    pub(super) fn restore(&mut self, saved: Saved, now: Timestamp, out: &mut Vec<AlertItem>) {
        self.silences.restore(saved.silences, now);
        let all_gone = self.evaluator.restore(saved.active, saved.saved_at, now);
        let active: Vec<&Alert> = self.evaluator.active().collect();
        let current = |alert: &Alert| active.iter().copied().find(|one| one.fingerprint == alert.fingerprint);
        self.dispatcher.restore(saved.book, now, current);
        for gone in all_gone {
            self.dispatcher.insert(gone.clone(), now);
            out.push(AlertItem::Changed(gone));
        }
        let active: Vec<Alert> = self.evaluator.active().cloned().collect();
        // They are given out here, so none of them is due.
        self.shown.due(now, active.iter(), &active);
        out.extend(active.into_iter().map(AlertItem::Changed));
    }

    fn evaluate(&mut self, sample: &Sample, out: &mut Vec<AlertItem>) {
        self.evaluated_at = sample.at;
        let Evaluation { mut changed } = self.evaluator.evaluate(sample);
        self.suppress(sample.at, &mut changed);
        for alert in self.evaluator.active().filter(|alert| alert.state == AlertState::Firing) {
            self.dispatcher.insert(alert.clone(), sample.at);
        }
        for alert in changed.iter().filter(|alert| alert.state == AlertState::Resolved) {
            self.dispatcher.insert(alert.clone(), sample.at);
        }
        self.changes += changed.len() as u64;
        let firing = self.evaluator.active().filter(|alert| alert.state == AlertState::Firing);
        let measured = self.shown.due(sample.at, firing, &changed);
        out.extend(changed.into_iter().map(AlertItem::Changed));
        out.extend(measured.into_iter().map(AlertItem::Measured));
    }

    /// Notes at each firing alert what keeps it from being told; one for which that is new has changed.
    fn suppress(&mut self, at: Timestamp, changed: &mut Vec<Alert>) {
        let Self { evaluator, inhibit, silences, .. } = self;
        let active: Vec<&Alert> = evaluator.active().collect();
        let firing = active.iter().filter(|alert| alert.state == AlertState::Firing);
        let by = |alert: &&Alert| muted(alert, at, silences, inhibit, &active).map(Muted::by);
        let found: Vec<Option<Arc<str>>> = firing.map(by).collect();
        let firing = evaluator.active_mut().filter(|alert| alert.state == AlertState::Firing);
        for (alert, suppressed_by) in firing.zip(found) {
            if alert.suppressed_by == suppressed_by {
                continue;
            }
            alert.suppressed_by = suppressed_by;
            match changed.iter_mut().find(|other| other.fingerprint == alert.fingerprint) {
                Some(other) => other.suppressed_by.clone_from(&alert.suppressed_by),
                None => changed.push(alert.clone()),
            }
        }
    }
}

/// What keeps an alert from being told at a time: a silence, or another alert.
fn muted(
    alert: &Alert,
    at: Timestamp,
    silences: &Silences,
    inhibit: &[InhibitOptions],
    active: &[&Alert],
) -> Option<Muted> {
    let silence = silences.silencing(at, |name| alert.label(name)).map(Muted::Silence);
    silence.or_else(|| inhibitor(inhibit, active.iter().copied(), alert).map(Muted::Explained))
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
