use super::super::rule::RuleOptions;
use super::*;
use crate::sample::Reading;

fn rule(text: &str) -> Rule {
    let options: RuleOptions = toml::from_str(&format!("metric = 'm'\n{text}")).expect("options");
    assert_eq!(options.problems("rules.r"), []);
    Rule::new("r", options).expect("a rule")
}

fn evaluator(text: &str) -> Evaluator {
    Evaluator::new(vec![rule(text)])
}

fn second(second: u64) -> Timestamp {
    Timestamp(second * 1_000_000)
}

fn sample(at: u64, values: &[(&str, f64)]) -> Sample {
    let reading = |(name, value): &(&str, f64)| Reading::new("m", *value).with("series", *name);
    Sample { at: second(at), readings: values.iter().map(reading).collect() }
}

/// Evaluates `values` from second 0 on, one a second (`None`: nothing is measured), and returns what changed when.
fn run(evaluator: &mut Evaluator, values: &[Option<f64>]) -> Vec<(usize, AlertState)> {
    let mut changes = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let values: Vec<_> = value.iter().map(|value| ("a", *value)).collect();
        let changed = evaluator.evaluate(&sample(at as u64, &values)).changed;
        changes.extend(changed.into_iter().map(|alert| (at, alert.state)));
    }
    changes
}

use AlertState::{Firing, Pending, Resolved};

const HIGH: Option<f64> = Some(9.0);
const LOW: Option<f64> = Some(1.0);

#[test]
fn without_for_an_alert_fires_at_the_first_evaluation() {
    assert_eq!(run(&mut evaluator("threshold = 5"), &[LOW, HIGH, LOW]), [(1, Firing), (2, Resolved)]);
}

#[test]
fn for_fires_at_the_first_evaluation_at_which_it_has_passed() {
    let changes = run(&mut evaluator("threshold = 5\nfor = '3s'"), &[HIGH, HIGH, HIGH, HIGH, HIGH, LOW]);
    assert_eq!(changes, [(0, Pending), (3, Firing), (5, Resolved)]);
}

#[test]
fn for_begins_anew_when_the_condition_was_gone() {
    let changes = run(&mut evaluator("threshold = 5\nfor = '2s'"), &[HIGH, HIGH, LOW, HIGH, HIGH, HIGH]);
    assert_eq!(changes, [(0, Pending), (2, Resolved), (3, Pending), (5, Firing)]);
}

#[test]
fn keep_firing_for_begins_anew_when_the_condition_returns() {
    let values = [HIGH, LOW, LOW, HIGH, LOW, LOW, LOW, LOW];
    let changes = run(&mut evaluator("threshold = 5\nkeep_firing_for = '3s'"), &values);
    assert_eq!(changes, [(0, Firing), (7, Resolved)]);
}

#[test]
fn a_value_that_wavers_between_the_thresholds_neither_fires_nor_clears() {
    let values = [Some(85.0), Some(95.0), Some(85.0), Some(81.0), Some(79.0), Some(85.0)];
    let mut hysteresis = evaluator("fire_when = '> 90'\nclear_when = '< 80'");
    assert_eq!(run(&mut hysteresis, &values), [(1, Firing), (4, Resolved)]);
}

#[test]
fn what_is_no_number_is_not_wrong() {
    assert_eq!(run(&mut evaluator("threshold = 5"), &[HIGH, Some(f64::NAN)]), [(0, Firing), (1, Resolved)]);
}

#[test]
fn silence_resolves_keeps_or_fires_as_the_rule_says() {
    let values = [None, HIGH, None, LOW, None];
    let with =
        |policy: &str| run(&mut evaluator(&format!("threshold = 5\non_no_data = '{policy}'")), &values);
    assert_eq!(with("resolve"), [(1, Firing), (2, Resolved)]);
    assert_eq!(with("keep"), [(1, Firing), (3, Resolved)]);
    // The alert without a series' labels is over once there are series.
    assert_eq!(with("fire"), [(0, Firing), (1, Firing), (1, Resolved), (3, Resolved), (4, Firing)]);
}

#[test]
fn each_series_has_an_alert_of_its_own() {
    let mut evaluator = evaluator("threshold = 5\nlabels = { team = 'x' }");
    let changed = evaluator.evaluate(&sample(0, &[("a", 9.0), ("b", 1.0), ("c", 9.0)])).changed;
    let series: Vec<_> = changed.iter().map(|alert| alert.label("series").unwrap_or_default()).collect();
    assert_eq!(series, ["a", "c"]);
    assert_ne!(changed[0].fingerprint, changed[1].fingerprint);
    assert_eq!(changed[0].label("team"), Some("x"));
}

#[test]
fn two_series_with_the_same_labels_leave_the_rule_as_it_was() {
    let mut evaluator = evaluator("threshold = 5\nlabels = { series = 'same' }");
    assert_eq!(evaluator.evaluate(&sample(0, &[("a", 9.0)])).changed.len(), 1);
    assert_eq!(evaluator.evaluate(&sample(1, &[("a", 1.0), ("b", 1.0)])).changed, []);
    assert_eq!((evaluator.active().count(), evaluator.failures()), (1, (1, 0)));
}

#[test]
fn a_rule_has_no_more_alerts_than_its_bound() {
    let mut evaluator = evaluator("threshold = 5");
    let names: Vec<_> = (0..ALERTS_PER_RULE + 3).map(|number| number.to_string()).collect();
    let values: Vec<_> = names.iter().map(|name| (name.as_str(), 9.0)).collect();
    assert_eq!(evaluator.evaluate(&sample(0, &values)).changed.len(), ALERTS_PER_RULE);
    assert_eq!(evaluator.failures(), (0, 3));
}

#[test]
fn a_restart_neither_repeats_nor_forgets_an_alert() {
    let mut before = evaluator("threshold = 5\nfor = '10s'");
    run(&mut before, &[HIGH; 11]);
    let saved: Vec<Active> =
        serde_json::from_str(&serde_json::to_string(&before.save()).expect("JSON")).expect("what was saved");
    let mut after = evaluator("threshold = 5\nfor = '10s'");
    assert_eq!(after.restore(saved, second(10), second(20)), []);
    assert_eq!(after.evaluate(&sample(21, &[])).changed, [], "windows are still empty");
    assert_eq!(after.evaluate(&sample(22, &[("a", 9.0)])).changed, []);
    let changed = after.evaluate(&sample(23, &[("a", 1.0)])).changed;
    assert_eq!((changed[0].state, changed[0].fired_at), (Resolved, Some(second(10))));
}

#[test]
fn the_time_of_an_outage_does_not_count_for_a_pending_alert() {
    let mut before = evaluator("threshold = 5\nfor = '10s'");
    run(&mut before, &[HIGH; 8]);
    let mut after = evaluator("threshold = 5\nfor = '10s'");
    after.restore(before.save(), second(7), second(107));
    assert_eq!(after.evaluate(&sample(109, &[("a", 9.0)])).changed, []);
    assert_eq!(after.evaluate(&sample(110, &[("a", 9.0)])).changed.len(), 1);
    let mut late = evaluator("threshold = 5\nfor = '10s'");
    late.restore(before.save(), second(7), second(8 + 3_600));
    assert_eq!(late.active().count(), 0);
}

#[test]
fn alerts_of_a_rule_that_is_gone_are_over() {
    let mut before = evaluator("threshold = 5");
    run(&mut before, &[HIGH]);
    let mut after = Evaluator::new(Vec::new());
    let gone = after.restore(before.save(), second(0), second(9));
    assert_eq!((gone[0].state, gone[0].resolved_at), (Resolved, Some(second(9))));
    let told = "over: there is no such rule any more; it was: m{series=\"a\"} is 9, which is > 5";
    assert_eq!(&*gone[0].message, told);
}

#[test]
fn what_is_over_says_what_is_now_and_what_was() {
    let mut evaluator = evaluator("threshold = 5\nmessage = '{series} has {value}'");
    let mut last = |at, values: &[(&str, f64)]| {
        let mut changed = evaluator.evaluate(&sample(at, values)).changed;
        changed.pop().expect("a change").message
    };
    assert_eq!(&*last(0, &[("a", 9.0)]), "a has 9");
    assert_eq!(&*last(1, &[("a", 1.5)]), "over: m is 1.5; it was: a has 9");
    assert_eq!(&*last(2, &[("a", 7.0)]), "a has 7");
    assert_eq!(&*last(3, &[]), "over: m is not measured any more; it was: a has 7");
}

/// What is active once a run with `before` has gone over into one with `after`, and what is over by that.
fn restarted(before: &mut Evaluator, after: &str) -> (Evaluator, Vec<Alert>) {
    let mut restarted = evaluator(after);
    let saved = serde_json::from_str(&serde_json::to_string(&before.save()).expect("JSON")).expect("alerts");
    let gone = restarted.restore(saved, second(9), second(10));
    (restarted, gone)
}

#[test]
fn a_restored_alert_is_as_bad_as_its_rule_says_now() {
    let mut before = evaluator("threshold = 5\nseverity = 'info'\non_no_data = 'keep'");
    run(&mut before, &[HIGH]);
    let (after, gone) = restarted(&mut before, "threshold = 7\nseverity = 'critical'\non_no_data = 'keep'");
    assert_eq!(gone, []);
    let alert = after.active().next().expect("it goes on");
    assert_eq!((alert.severity, alert.threshold), (crate::alert::Severity::Critical, 7.0));
    assert_eq!((alert.state, alert.fired_at), (Firing, Some(second(0))));
}

#[test]
fn a_restored_alert_that_its_rule_makes_no_more_is_over() {
    let before = "threshold = 5\non_no_data = 'keep'\n";
    let with_label = "labels = { team = 'a' }";
    for (before_more, after_more) in [
        (with_label, "labels = { team = 'b' }"),
        (with_label, ""),
        ("", with_label),
        ("", "matchers = ['series=other']"),
    ] {
        let mut evaluator = evaluator(&format!("{before}{before_more}"));
        run(&mut evaluator, &[HIGH]);
        let (after, gone) = restarted(&mut evaluator, &format!("{before}{after_more}"));
        let why = "over: its rule makes no alert with these labels any more; it was: m{series=\"a\"";
        assert!(gone[0].state == Resolved && gone[0].message.starts_with(why), "{:?}", gone[0]);
        assert_eq!(after.active().count(), 0);
    }
}

#[test]
fn a_restored_alert_of_another_metric_is_over() {
    let mut before = evaluator("threshold = 5\non_no_data = 'keep'");
    run(&mut before, &[HIGH]);
    let options: RuleOptions =
        toml::from_str("metric = 'n'\nthreshold = 5\non_no_data = 'keep'").expect("options");
    let mut after = Evaluator::new(vec![Rule::new("r", options).expect("a rule")]);
    assert_eq!(after.restore(before.save(), second(1), second(2)).len(), 1);
    assert_eq!(after.active().count(), 0);
}

#[test]
fn a_series_that_is_absent_since_before_a_restart_is_not_over_when_its_grace_is() {
    let rule = "threshold = 5\non_no_data = 'fire'\nlabels = { team = 'x' }";
    let mut before = evaluator(rule);
    run(&mut before, &[LOW, None]);
    let (mut after, gone) = restarted(&mut before, rule);
    assert_eq!(gone, []);
    for at in 11..200 {
        assert_eq!(after.evaluate(&sample(at, &[])).changed, [], "at {at}");
    }
    let over = after.evaluate(&sample(200, &[("a", 1.0)])).changed;
    assert_eq!((over.len(), over[0].label("series"), over[0].state), (1, Some("a"), Resolved));
}

#[test]
fn that_nothing_at_all_is_measured_outlives_a_restart_and_ends_with_the_first_series() {
    let rule = "threshold = 5\non_no_data = 'fire'\nlabels = { team = 'x' }\nmatchers = ['series=a']";
    let mut before = evaluator(rule);
    run(&mut before, &[None]);
    let (mut after, gone) = restarted(&mut before, rule);
    assert_eq!((gone.len(), after.active().count()), (0, 1));
    assert_eq!(after.evaluate(&sample(11, &[])).changed, []);
    let over = after.evaluate(&sample(100, &[("a", 1.0)])).changed;
    assert_eq!((over.len(), over[0].state), (1, Resolved));
}

#[test]
fn alerts_of_a_state_file_without_their_series_are_taken_in() {
    let rule = "threshold = 5\non_no_data = 'fire'\nlabels = { team = 'x' }";
    let mut before = evaluator(rule);
    run(&mut before, &[HIGH]);
    let mut saved = serde_json::to_value(before.save()).expect("JSON");
    let active = saved[0].as_object_mut().expect("an alert");
    assert!(active.remove("series").is_some() && active.remove("was").is_some());
    let mut after = evaluator(rule);
    assert_eq!(after.restore(serde_json::from_value(saved).expect("alerts"), second(1), second(2)), []);
    assert_eq!(after.evaluate(&sample(100, &[])).changed, []);
    let over = after.evaluate(&sample(101, &[("a", 1.0)])).changed;
    assert_eq!(&*over[0].message, "over: m is 1; it was: m{series=\"a\", team=\"x\"} is not measured");
}

#[test]
fn a_sentence_says_whether_a_value_is_wrong_held_absent_or_gone() {
    let rule = "fire_when = '> 90'\nclear_when = '< 80'\nkeep_firing_for = '5s'\non_no_data = 'fire'";
    let mut evaluator = evaluator(rule);
    let mut says = |at, values: &[(&str, f64)]| {
        evaluator.evaluate(&sample(at, values));
        evaluator.active().next().expect("it fires").message.to_string()
    };
    assert_eq!(says(0, &[("a", 95.0)]), "m{series=\"a\"} is 95, which is > 90");
    assert_eq!(says(1, &[("a", 85.0)]), "m{series=\"a\"} is 85, which is not < 80 yet");
    assert_eq!(says(2, &[]), "m{series=\"a\"} is not measured");
    assert_eq!(says(3, &[("a", 95.0)]), "m{series=\"a\"} is 95, which is > 90");
    let kept = "no longer: m is 70; it was: m{series=\"a\"} is 95, which is > 90";
    assert_eq!(says(4, &[("a", 70.0)]), kept);
    let over = evaluator.evaluate(&sample(9, &[("a", 71.0)])).changed;
    assert_eq!(&*over[0].message, "over: m is 71; it was: m{series=\"a\"} is 95, which is > 90");
}
