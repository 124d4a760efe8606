use super::super::options::AlertEvaluatorOptions;
use super::*;
use crate::sample::Reading;
use crate::silence::NewSilence;

fn second(second: u64) -> Timestamp {
    Timestamp(second * 1_000_000)
}

fn evaluator(text: &str, silences: &Silences) -> AlertEvaluator {
    let head = "default_rules = false\ngroup_wait = '10s'\ngroup_interval = '1m'\nrepeat_interval = '5m'\n";
    let rules = "[rules.lag]\nmetric = 'lag'\nthreshold = 5\n[rules.down]\nmetric = 'down'\nthreshold = 0\n";
    let options: AlertEvaluatorOptions = toml::from_str(&format!("{head}{text}\n{rules}")).expect("options");
    assert_eq!(crate::component::Component::problems(&options), []);
    options.evaluator(silences.clone())
}

/// What was said, each with its second.
type Said = Vec<(u64, String)>;

/// Feeds a sample a second, each with the metrics that are too high then; returns notices and changes with their time.
fn run(
    evaluator: &mut AlertEvaluator,
    seconds: std::ops::Range<u64>,
    wrong: impl Fn(u64) -> Vec<&'static str>,
) -> (Said, Said) {
    let (mut notices, mut changes) = (Vec::new(), Vec::new());
    for at in seconds {
        let bad = wrong(at);
        let reading = |metric: &'static str| {
            Reading::new(metric, if bad.contains(&metric) { 9.0 } else { 0.0 }).with("endpoint", "ams")
        };
        let mut out = Vec::new();
        evaluator
            .on_sample(&Sample { at: second(at), readings: ["lag", "down"].map(reading).into() }, &mut out);
        evaluator.on_tick(second(at), &mut out);
        for item in out {
            match item {
                AlertItem::Notice(notice) => {
                    let alerts =
                        notice.alerts.iter().map(|alert| format!("{}:{:?}", alert.rule, alert.state));
                    notices.push((at, alerts.collect::<Vec<_>>().join(" ")));
                }
                AlertItem::Changed(alert) => {
                    let muted = if alert.suppressed_by.is_some() { " muted" } else { "" };
                    changes.push((at, format!("{}:{:?}{muted}", alert.rule, alert.state)));
                }
                AlertItem::Measured(alert) => panic!("{alert:?} has the value that it had"),
            }
        }
    }
    (notices, changes)
}

fn expected(list: &[(u64, &str)]) -> Vec<(u64, String)> {
    list.iter().map(|(at, text)| (*at, (*text).to_owned())).collect()
}

#[test]
fn an_alert_and_its_end_are_told_once_each() {
    let mut evaluator = evaluator("", &Silences::default());
    let (notices, changes) =
        run(&mut evaluator, 0..400, |at| if (5..100).contains(&at) { vec!["lag"] } else { vec![] });
    assert_eq!(notices, expected(&[(15, "lag:Firing"), (135, "lag:Resolved")]));
    assert_eq!(changes, expected(&[(5, "lag:Firing"), (100, "lag:Resolved")]));
}

#[test]
fn what_a_silence_mutes_is_told_when_it_is_over() {
    let silences = Silences::default();
    let new = NewSilence {
        matchers: vec!["rule=lag".parse().expect("a matcher")],
        starts_at: second(1),
        ends_at: second(70),
        created_by: "ann".to_owned(),
        comment: "known".to_owned(),
    };
    silences.add(new, second(1)).expect("valid");
    let mut evaluator = evaluator("", &silences);
    let (notices, changes) = run(&mut evaluator, 5..200, |_| vec!["lag"]);
    assert_eq!(notices, expected(&[(75, "lag:Firing")]));
    assert_eq!(changes, expected(&[(5, "lag:Firing muted"), (70, "lag:Firing")]));
}

#[test]
fn an_alert_that_another_explains_is_not_told_while_that_one_fires() {
    let inhibit = "inhibit = [{ source = ['rule=down'], target = ['rule=lag'], equal = ['endpoint'] }]";
    let mut evaluator = evaluator(inhibit, &Silences::default());
    let (mut notices, _) =
        run(&mut evaluator, 0..120, |at| if at < 60 { vec!["lag", "down"] } else { vec!["lag"] });
    // Groups that are due at once have no order.
    notices.sort();
    assert_eq!(notices, expected(&[(10, "down:Firing"), (70, "down:Resolved"), (70, "lag:Firing")]));
}

#[test]
fn a_restart_goes_on_where_the_run_before_ended() {
    let silences = Silences::default();
    let mut before = evaluator("", &silences);
    run(&mut before, 0..30, |_| vec!["lag"]);
    let saved = before.unsaved(second(30)).expect("alerts have changed");
    assert_eq!(before.unsaved(second(31)), None);
    let text = serde_json::to_string(&saved).expect("JSON");
    let mut after = evaluator("", &Silences::default());
    let mut out = Vec::new();
    after.restore(serde_json::from_str(&text).expect("what was saved"), second(40), &mut out);
    assert_eq!(out.len(), 1, "whoever watches learns what is active");
    let (notices, _) = run(&mut after, 41..400, |at| if at < 200 { vec!["lag"] } else { vec![] });
    let at: Vec<_> = notices.iter().map(|(at, text)| (*at, text.as_str())).collect();
    assert_eq!(at.len(), 1, "{at:?}");
    assert_eq!(at[0].1, "lag:Resolved");
}

#[test]
fn when_nothing_is_measured_any_more_rules_learn_it() {
    let mut evaluator = evaluator("", &Silences::default());
    run(&mut evaluator, 0..20, |_| vec!["lag"]);
    let mut out = Vec::new();
    for at in 20..40 {
        evaluator.on_tick(second(at), &mut out);
    }
    let resolved = out.iter().find_map(|item| match item {
        AlertItem::Changed(alert) => alert.resolved_at,
        AlertItem::Measured(_) | AlertItem::Notice(_) => None,
    });
    assert_eq!(resolved, Some(second(29)), "ten seconds after the last sample");
}

/// What is given out of alerts of the rule `lag` while it has these values, one each `millis`: with the sample's number.
fn shown(values: &[f64], millis: u64) -> Vec<(usize, &'static str, f64)> {
    let mut evaluator = evaluator("", &Silences::default());
    let mut shown = Vec::new();
    for (number, value) in values.iter().enumerate() {
        let mut out = Vec::new();
        let at = Timestamp(number as u64 * millis * 1_000);
        evaluator.on_sample(&Sample { at, readings: vec![Reading::new("lag", *value)] }, &mut out);
        shown.extend(out.into_iter().map(|item| match item {
            AlertItem::Changed(alert) => (number, "changed", alert.value),
            AlertItem::Measured(alert) => (number, "measured", alert.value),
            AlertItem::Notice(notice) => panic!("{notice:?} at a sample"),
        }));
    }
    shown
}

#[test]
fn a_firing_alert_is_given_out_again_when_it_has_another_value() {
    let expected = [(1, "changed", 6.0), (3, "measured", 50.0), (5, "measured", 7.0), (6, "changed", 1.0)];
    assert_eq!(shown(&[1.0, 6.0, 6.0, 50.0, 50.0, 7.0, 1.0, 2.0], 1_000), expected);
}

#[test]
fn an_alert_is_given_out_again_at_most_once_a_second() {
    let values: Vec<f64> = (10..20).map(f64::from).collect();
    let measured = [(0, "changed", 10.0), (4, "measured", 14.0), (8, "measured", 18.0)];
    assert_eq!(shown(&values, 250), measured);
}

#[test]
fn what_people_are_told_after_a_restart_is_as_bad_as_the_rule_says_now() {
    let mut before = evaluator("", &Silences::default());
    run(&mut before, 0..5, |_| vec!["lag"]);
    let saved = before.unsaved(second(5)).expect("alerts have changed");
    let rules = "default_rules = false\ngroup_by = ['severity']\n[rules.lag]\nmetric = 'lag'\nthreshold = 5\nseverity = 'critical'";
    let options: AlertEvaluatorOptions = toml::from_str(rules).expect("options");
    let mut after = options.evaluator(Silences::default());
    let mut out = Vec::new();
    after.restore(saved, second(6), &mut out);
    // Nothing is measured yet.
    after.on_tick(second(60), &mut out);
    let told: Vec<_> = out
        .iter()
        .filter_map(|item| match item {
            AlertItem::Notice(notice) => Some((notice.alerts.len(), notice.severity())),
            AlertItem::Changed(_) | AlertItem::Measured(_) => None,
        })
        .collect();
    assert_eq!(told, [(1, Severity::Critical)]);
}

#[test]
fn the_end_of_an_alert_that_its_rule_makes_no_more_is_told() {
    let mut before = evaluator("", &Silences::default());
    run(&mut before, 0..30, |_| vec!["lag"]);
    let saved = before.unsaved(second(30)).expect("alerts have changed");
    let rules = "default_rules = false\n[rules.lag]\nmetric = 'lag'\nthreshold = 5\non_no_data = 'keep'\nlabels = { team = 'b' }";
    let options: AlertEvaluatorOptions = toml::from_str(rules).expect("options");
    let mut after = options.evaluator(Silences::default());
    let mut out = Vec::new();
    after.restore(saved, second(31), &mut out);
    let over = |item: &AlertItem| match item {
        AlertItem::Changed(alert) => alert.state == AlertState::Resolved,
        AlertItem::Measured(_) | AlertItem::Notice(_) => false,
    };
    assert!(out.len() == 1 && over(&out[0]), "{out:?}");
    let (notices, _) = run(&mut after, 32..400, |_| vec![]);
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].1, "lag:Resolved");
}

/// A rule, and the metric, the labels and the value that are wrong by it, and how bad that is.
type Wrong = (&'static str, &'static str, &'static [(&'static str, &'static str)], f64, Severity);

/// What each default rule is told of.
const WRONG: [Wrong; 16] = [
    ("error_rate", "error_rate", &[("window", "1m")], 0.06, Severity::Warning),
    (
        "latency",
        "latency_ms",
        &[("path", "server_to_arrival"), ("quantile", "p99"), ("window", "10s")],
        1_001.0,
        Severity::Error,
    ),
    ("throughput", "throughput_tx_per_second", &[("window", "10s")], 9.0, Severity::Critical),
    ("hole", "holes", &[], 1.0, Severity::Critical),
    ("recovery_failing", "error_rate", &[("cause", "recovery"), ("window", "10s")], 0.6, Severity::Warning),
    ("proof_failing", "error_rate", &[("cause", "proof"), ("window", "1m")], 0.06, Severity::Error),
    ("endpoint_down", "endpoint_up", &[("endpoint", "ams")], 0.0, Severity::Error),
    ("no_endpoint", "endpoints_up", &[], 0.0, Severity::Critical),
    ("quiet_stream", "updates_per_second", &[("window", "10s")], 0.0, Severity::Critical),
    ("lag", "lag_slots", &[], 151.0, Severity::Error),
    ("coverage", "slot_coverage", &[("window", "5m")], 0.99, Severity::Warning),
    ("disk_space", "disk_free_ratio", &[("path", "/data")], 0.09, Severity::Warning),
    ("disk_full", "disk_free_ratio", &[("path", "/data")], 0.02, Severity::Critical),
    ("memory", "memory_budget_ratio", &[], 0.96, Severity::Warning),
    ("commit_failing", "error_rate", &[("cause", "commit"), ("window", "1m")], 0.01, Severity::Critical),
    ("trend", "trend_degradation", &[("of", "lag_slots")], 0.96, Severity::Warning),
];

/// The rules that are told when these are wrong for two minutes, with the severity of the notice.
fn told_of(wrong: &[&str]) -> Vec<(String, Severity)> {
    let options: AlertEvaluatorOptions = toml::from_str("group_wait = '30s'").expect("options");
    let mut evaluator = options.evaluator(Silences::default());
    let readings: Vec<Reading> = WRONG
        .iter()
        .filter(|(rule, ..)| wrong.contains(rule))
        .map(|(_, metric, labels, value, _)| {
            labels
                .iter()
                .fold(Reading::new(*metric, *value), |reading, (name, label)| reading.with(*name, *label))
        })
        .collect();
    let mut out = Vec::new();
    for at in 0..120 {
        evaluator.on_sample(&Sample { at: second(at), readings: readings.clone() }, &mut out);
        evaluator.on_tick(second(at), &mut out);
    }
    let notice = |item: AlertItem| match item {
        AlertItem::Notice(notice) => Some((notice.alerts[0].rule.to_string(), notice.severity())),
        AlertItem::Changed(_) | AlertItem::Measured(_) => None,
    };
    let mut told: Vec<_> = out.into_iter().filter_map(notice).collect();
    told.sort();
    told
}

#[test]
fn each_default_rule_is_told_of_what_it_watches_with_its_severity() {
    for (rule, .., severity) in WRONG {
        assert_eq!(told_of(&[rule]), [(rule.to_owned(), severity)]);
    }
    assert_eq!(AlertEvaluatorOptions::default().rules().len(), WRONG.len(), "every default rule is here");
}

#[test]
fn of_several_alerts_with_one_cause_the_cause_is_told() {
    let told = |wrong: &[&str]| told_of(wrong).into_iter().map(|(rule, _)| rule).collect::<Vec<_>>();
    assert_eq!(told(&["hole", "coverage", "recovery_failing"]), ["hole"]);
    assert_eq!(told(&["no_endpoint", "endpoint_down", "quiet_stream", "throughput"]), ["no_endpoint"]);
    assert_eq!(told(&["quiet_stream", "throughput", "lag"]), ["quiet_stream"]);
    // What it does not explain is told beside it.
    assert_eq!(told(&["hole", "endpoint_down", "lag"]), ["endpoint_down", "hole", "lag"]);
    assert_eq!(told(&["throughput", "lag"]), ["lag", "throughput"]);
}
