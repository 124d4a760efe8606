//! Notices against a running Alertmanager: both are given the same alerts at the same times and have the same groups,
//! intervals, inhibitions and silences, and tell the same alerts in the same state at the same times.
//!
//! Alerts change at odd seconds and groups are looked at at even ones, so that a machine that is late by less than a second
//! changes nothing. Three things that Alertmanager does otherwise are not in here, each for a reason that
//! `alert_evaluator/grouping.rs` gives or this file does: it keeps an empty group for up to half a minute, so that an alert
//! that returns in that time waits for its `group_interval` instead of `group_wait`; it tells repeats of exactly
//! `group_interval` every other time only; and it never tells the end of an alert that another explains by then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use sluice_stages::alert::{Alert, AlertItem, AlertState, Notice};
use sluice_stages::alert_evaluator::{AlertEvaluator, AlertEvaluatorOptions};
use sluice_stages::sample::{Reading, Sample};
use sluice_stages::silence::{NewSilence, Silences};
use sluice_stages::slot::Timestamp;

use crate::alertmanager::Alertmanager;
use crate::seed;

const GROUP_WAIT: Duration = Duration::from_secs(3);
const GROUP_INTERVAL: Duration = Duration::from_secs(4);
/// Not a multiple of the interval: both round it up.
const REPEAT_INTERVAL: Duration = Duration::from_secs(6);
/// When the last alert is over, in seconds from the beginning.
const LAST_CHANGE: u64 = 35;
/// The end of the run: every group has told of its end.
const END: u64 = 41;
/// How late a machine may be.
const TOLERANCE: Duration = Duration::from_millis(1_500);
const TICK: Duration = Duration::from_millis(100);

/// One alert and the seconds in which it is wrong, each from and to.
struct Series {
    rule: String,
    instance: String,
    wrong: Vec<(u64, u64)>,
}

impl Series {
    fn new(rule: &str, instance: &str, wrong: &[(u64, u64)]) -> Self {
        Self { rule: rule.to_owned(), instance: instance.to_owned(), wrong: wrong.to_vec() }
    }

    fn is_wrong(&self, second: u64) -> bool {
        self.wrong.iter().any(|(from, to)| (*from..*to).contains(&second))
    }
}

fn odd(random: &mut StdRng, from: u64, to: u64) -> u64 {
    2 * random.random_range(from / 2..=(to - 1) / 2) + 1
}

/// Groups that hold for the whole run, in which other alerts come and go; and some that are there for one thing each.
fn series() -> Vec<Series> {
    let mut random = StdRng::seed_from_u64(seed());
    let mut all = vec![
        Series::new("once", "a", &[(5, 15)]),
        // Over before the group is looked at: never told.
        Series::new("blip", "a", &[(9, 11)]),
        // `down` explains `slow` on the same instance alone.
        Series::new("down", "x", &[(7, 23)]),
        Series::new("slow", "x", &[(9, 35)]),
        Series::new("slow", "y", &[(9, 35)]),
        // Silenced until second 17.
        Series::new("silenced", "z", &[(3, 33)]),
    ];
    for group in 0..4 {
        let rule = format!("flapping_{group}");
        let begin = odd(&mut random, 1, 7);
        all.push(Series::new(&rule, "steady", &[(begin, LAST_CHANGE)]));
        for instance in ["one", "two", "three"] {
            let (mut at, mut wrong) = (begin, Vec::new());
            while at + 4 < LAST_CHANGE {
                let from = odd(&mut random, at, at + 10);
                let to = odd(&mut random, from + 2, from + 12).min(LAST_CHANGE);
                wrong.push((from, to));
                at = to + 1;
            }
            all.push(Series::new(&rule, instance, &wrong));
        }
    }
    all
}

/// What was told of a group: when, and each alert with its state.
type Told = (Duration, BTreeMap<String, String>);

fn evaluator(series: &[Series], silences: &Silences) -> AlertEvaluator {
    let rule = |series: &Series| {
        (series.rule.clone(), json!({ "metric": series.rule, "threshold": 0, "severity": "warning" }))
    };
    let rules: serde_json::Map<_, _> = series.iter().map(rule).collect();
    let text = |duration: Duration| format!("{}s", duration.as_secs());
    let options: AlertEvaluatorOptions = serde_json::from_value(json!({
        "default_rules": false, "rules": rules, "group_by": ["alertname"],
        "group_wait": text(GROUP_WAIT), "group_interval": text(GROUP_INTERVAL),
        "repeat_interval": text(REPEAT_INTERVAL),
        "inhibit": [{ "source": ["alertname=down"], "target": ["alertname=slow"], "equal": ["instance"] }],
    }))
    .expect("options");
    options.evaluator(silences.clone())
}

fn configuration() -> String {
    let text = |duration: Duration| format!("{}s", duration.as_secs());
    json!({
        "route": {
            "receiver": "hook", "group_by": ["alertname"], "group_wait": text(GROUP_WAIT),
            "group_interval": text(GROUP_INTERVAL), "repeat_interval": text(REPEAT_INTERVAL),
        },
        "receivers": [{ "name": "hook", "webhook_configs": [{ "url": "HOOK", "send_resolved": true }] }],
        "inhibit_rules": [{
            "source_matchers": ["alertname=down"], "target_matchers": ["alertname=slow"], "equal": ["instance"],
        }],
    })
    .to_string()
}

/// An alert as Alertmanager takes it.
fn posted(alert: &Alert) -> Value {
    let firing_until = alert.active_at.after(Duration::from_secs(600));
    json!({
        "labels": { "alertname": &*alert.rule, "instance": alert.label("instance"), "severity": alert.severity.name() },
        "startsAt": rfc3339(alert.active_at),
        "endsAt": rfc3339(alert.resolved_at.unwrap_or(firing_until)),
    })
}

/// Days to dates by Hinnant's algorithm (<https://howardhinnant.github.io/date_algorithms.html>).
fn rfc3339(at: Timestamp) -> String {
    let (seconds, micros) = (at.0 / 1_000_000, at.0 % 1_000_000);
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * shifted + 2) / 5 + 1, (shifted + 2) % 12 + 1);
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

fn now() -> Timestamp {
    Timestamp(0).after(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970"))
}

fn word(state: AlertState) -> &'static str {
    if state == AlertState::Firing { "firing" } else { "resolved" }
}

/// Plays the series to both; returns our notices.
async fn play(series: &[Series], alertmanager: &Alertmanager, begin: Timestamp) -> Vec<Notice> {
    let silences = Silences::default();
    let ends_at = begin.after(Duration::from_secs(17));
    let silence = NewSilence {
        matchers: vec!["alertname=silenced".parse().expect("a matcher")],
        starts_at: begin,
        ends_at,
        created_by: "test".to_owned(),
        comment: "test".to_owned(),
    };
    silences.add(silence, begin).expect("valid");
    let matcher = json!({ "name": "alertname", "value": "silenced", "isRegex": false, "isEqual": true });
    let silence = json!({
        "matchers": [matcher], "startsAt": rfc3339(begin), "endsAt": rfc3339(ends_at),
        "createdBy": "test", "comment": "test",
    });
    alertmanager.post("/api/v2/silences", &silence).await;

    let mut evaluator = evaluator(series, &silences);
    let (started, mut notices, mut next) = (Instant::now(), Vec::new(), 0);
    let mut ticks = tokio::time::interval(TICK);
    while started.elapsed() < Duration::from_secs(END) {
        ticks.tick().await;
        let mut out = Vec::new();
        while next <= started.elapsed().as_secs() {
            let reading = |series: &Series| {
                let value = f64::from(u8::from(series.is_wrong(next)));
                Reading::new(series.rule.as_str(), value).with("instance", series.instance.as_str())
            };
            let readings = series.iter().map(reading).collect();
            evaluator.on_sample(&Sample { at: now(), readings }, &mut out);
            next += 1;
        }
        evaluator.on_tick(now(), &mut out);
        let mut changed = Vec::new();
        for item in out {
            match item {
                AlertItem::Changed(alert) => changed.push(posted(&alert)),
                AlertItem::Measured(_) => {}
                AlertItem::Notice(notice) => notices.push(notice),
            }
        }
        if !changed.is_empty() {
            alertmanager.post("/api/v2/alerts", &Value::from(changed)).await;
        }
    }
    notices
}

fn ours(notices: &[Notice], begin: Timestamp) -> BTreeMap<String, Vec<Told>> {
    let mut groups: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for notice in notices {
        let alert = |alert: &Alert| {
            (alert.label("instance").expect("each has one").to_owned(), word(alert.state).to_owned())
        };
        let told = (notice.at.since(begin), notice.alerts.iter().map(alert).collect());
        groups.entry(notice.alerts[0].rule.to_string()).or_default().push(told);
    }
    groups
}

fn theirs(bodies: &[(SystemTime, Value)], begin: Timestamp) -> BTreeMap<String, Vec<Told>> {
    let mut groups: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    for (at, body) in bodies {
        let alert = |alert: &Value| (text(&alert["labels"]["instance"]), text(&alert["status"]));
        let alerts: BTreeMap<_, _> = body["alerts"].as_array().expect("alerts").iter().map(alert).collect();
        let firing = alerts.values().any(|state| state == "firing");
        assert_eq!(body["status"], if firing { "firing" } else { "resolved" });
        let at = Timestamp(0).after(at.duration_since(UNIX_EPOCH).expect("after 1970"));
        groups.entry(text(&body["groupLabels"]["alertname"])).or_default().push((at.since(begin), alerts));
    }
    groups
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_told_of_the_same_alerts_at_the_same_times_as_by_alertmanager() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(alertmanager) = Alertmanager::start(folder.path(), &configuration()).await else {
        eprintln!("skipped: install prometheus-alertmanager, or set SLUICE_TEST_ALERTMANAGER to it");
        return;
    };
    let (series, begin) = (series(), now());
    let notices = play(&series, &alertmanager, begin).await;
    let (ours, theirs) = (ours(&notices, begin), theirs(&alertmanager.bodies(), begin));
    let groups = |groups: &BTreeMap<String, Vec<Told>>| groups.keys().cloned().collect::<Vec<_>>();
    assert_eq!(groups(&ours), groups(&theirs));
    assert!(!ours.contains_key("blip") && ours["once"].len() == 2, "{ours:#?}");
    for (group, ours) in &ours {
        let theirs = &theirs[group];
        let alerts = |told: &[Told]| told.iter().map(|(_, alerts)| alerts.clone()).collect::<Vec<_>>();
        assert_eq!(alerts(ours), alerts(theirs), "{group}, seed {}: {ours:#?} {theirs:#?}", seed());
        for ((ours, _), (theirs, _)) in ours.iter().zip(theirs) {
            assert!(ours.abs_diff(*theirs) < TOLERANCE, "{group}: {ours:?} {theirs:?}");
        }
    }
    println!("{} notices of {} groups, as by Alertmanager", notices.len(), ours.len());
}
