//! Runs rules over samples in virtual time, and compares what happens with what is expected.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_config::units::format_duration;
use sluice_stages::alert::{Alert, AlertItem, AlertState, Notice};
use sluice_stages::alert_evaluator::{AlertEvaluator, AlertEvaluatorOptions};
use sluice_stages::sample::Sample;
use sluice_stages::silence::Silences;
use sluice_stages::slot::Timestamp;

use super::series::{ExpectedAlert, ExpectedNotice, ExpectedState, SeriesFile};

/// Most lines of the timeline; the rest is counted.
const MAX_LINES: usize = 10_000;

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// One line for each change and notice.
    pub(super) timeline: Vec<String>,
    /// How much was expected.
    pub(super) expectations: usize,
    /// What of it did not happen.
    pub(super) failures: Vec<String>,
}

/// Runs the rules over the samples; times count from the first.
pub(super) fn replay(options: &AlertEvaluatorOptions, samples: &[Sample], file: &SeriesFile) -> Replay {
    let mut evaluator = options.evaluator(Silences::default());
    let mut replayed = Replay { expectations: file.alerts.len() + file.notices.len(), ..Replay::default() };
    let begin = samples.first().map_or(Timestamp(0), |sample| sample.at);
    let mut expected: Vec<&ExpectedAlert> = file.alerts.iter().collect();
    expected.sort_by_key(|alert| alert.at);
    let mut expected = expected.into_iter().peekable();
    let (mut told, mut left_out) = (BTreeMap::new(), 0);
    for (position, sample) in samples.iter().enumerate() {
        let mut out = Vec::new();
        evaluator.on_sample(sample, &mut out);
        evaluator.on_tick(sample.at, &mut out);
        for item in out {
            let Some(line) = line(begin, sample.at, &item) else { continue };
            if let AlertItem::Notice(notice) = item {
                told.entry(notice.at.since(begin)).or_insert_with(Vec::new).push(notice);
            }
            if replayed.timeline.len() < MAX_LINES { replayed.timeline.push(line) } else { left_out += 1 }
        }
        // What holds after a sample holds until the next one.
        let until = samples.get(position + 1).map(|next| next.at.since(begin));
        while let Some(alert) = expected.next_if(|alert| until.is_none_or(|until| alert.at < until)) {
            replayed.failures.extend(missed_alert(&evaluator, alert));
        }
    }
    replayed.failures.extend(expected.filter_map(|alert| missed_alert(&evaluator, alert)));
    replayed.failures.extend(file.notices.iter().filter_map(|notice| missed_notice(&told, notice)));
    if left_out > 0 {
        replayed.timeline.push(format!("… and {left_out} more"));
    }
    replayed
}

/// The line of a change or a notice.
fn line(begin: Timestamp, at: Timestamp, item: &AlertItem) -> Option<String> {
    match item {
        AlertItem::Changed(alert) => {
            let time = format_duration(at.since(begin));
            let muted = if alert.suppressed_by.is_some() { " (muted)" } else { "" };
            Some(format!("{time:>10}  {:<8}  {}{muted}: {}", state(alert), alert.rule, alert.message))
        }
        AlertItem::Measured(_) => None,
        AlertItem::Notice(notice) => {
            let time = format_duration(notice.at.since(begin));
            let alerts: Vec<_> =
                notice.alerts.iter().map(|alert| format!("{} {}", alert.rule, state(alert))).collect();
            Some(format!("{time:>10}  told of   {}", alerts.join(", ")))
        }
    }
}

fn state(alert: &Alert) -> &'static str {
    match alert.state {
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
    }
}

fn missed_alert(evaluator: &AlertEvaluator, expected: &ExpectedAlert) -> Option<String> {
    let fits = |alert: &&Alert| {
        let has = |(name, value): (&String, &String)| alert.label(name) == Some(value);
        *alert.rule == *expected.rule && expected.labels.iter().all(has)
    };
    let found: Vec<_> = evaluator
        .active()
        .filter(fits)
        .map(|alert| match alert.state {
            AlertState::Firing => ExpectedState::Firing,
            _ => ExpectedState::Pending,
        })
        .collect();
    let is_met = match expected.state {
        ExpectedState::Inactive => found.is_empty(),
        state => found.contains(&state),
    };
    let is = found.first().copied().unwrap_or(ExpectedState::Inactive).name();
    let (at, rule, wanted) = (format_duration(expected.at), &expected.rule, expected.state.name());
    (!is_met).then(|| format!("at {at}: `{rule}` is {is}, not {wanted}"))
}

fn missed_notice(told: &BTreeMap<Duration, Vec<Notice>>, expected: &ExpectedNotice) -> Option<String> {
    let alerts: Vec<&Alert> =
        told.get(&expected.at).into_iter().flatten().flat_map(|notice| &notice.alerts).collect();
    let of = |wanted: AlertState| {
        let mut rules: Vec<String> =
            alerts.iter().filter(|alert| alert.state == wanted).map(|alert| alert.rule.to_string()).collect();
        rules.sort();
        rules
    };
    let sorted = |rules: &[String]| {
        let mut rules = rules.to_vec();
        rules.sort();
        rules
    };
    let is = (of(AlertState::Firing), of(AlertState::Resolved));
    let wanted = (sorted(&expected.firing), sorted(&expected.resolved));
    let at = format_duration(expected.at);
    (is != wanted).then(|| format!("at {at}: told of {}, not of {}", show(&is), show(&wanted)))
}

fn show((firing, resolved): &(Vec<String>, Vec<String>)) -> String {
    let part =
        |name: &str, rules: &[String]| (!rules.is_empty()).then(|| format!("{name} [{}]", rules.join(", ")));
    let parts: Vec<_> = [part("firing", firing), part("resolved", resolved)].into_iter().flatten().collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" and ") }
}
