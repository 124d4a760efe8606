use super::*;
use crate::alert::Severity;

const MINUTE: u64 = 60;

fn second(second: u64) -> Timestamp {
    Timestamp(second * 1_000_000)
}

fn alert(rule: &str, endpoint: &str, fired_at: u64) -> Alert {
    Alert {
        fingerprint: Arc::from(format!("{rule}-{endpoint}")),
        rule: Arc::from(rule),
        severity: if rule == "hole" { Severity::Critical } else { Severity::Warning },
        state: AlertState::Firing,
        metric: Arc::from("m"),
        labels: Labels::from([(Arc::from("endpoint"), Arc::from(endpoint))]),
        value: 1.0,
        threshold: 0.0,
        message: Arc::from(""),
        active_at: second(fired_at),
        fired_at: Some(second(fired_at)),
        resolved_at: None,
        suppressed_by: None,
    }
}

fn over(alert: Alert, at: u64) -> Alert {
    Alert { state: AlertState::Resolved, resolved_at: Some(second(at)), ..alert }
}

fn dispatcher(group_by: &[&str], repeat: u64) -> Dispatcher {
    Dispatcher::new(Policy {
        group_by: group_by.iter().map(|name| (*name).to_owned()).collect(),
        group_wait: Duration::from_secs(30),
        group_interval: Duration::from_secs(5 * MINUTE),
        repeat_interval: Duration::from_secs(repeat),
    })
}

/// Flushes at each second from `from` to `to`; says when which alerts were told, resolved ones with a `-`.
fn run(dispatcher: &mut Dispatcher, from: u64, to: u64) -> Vec<(u64, Vec<String>)> {
    run_muted(dispatcher, from, to, |_, _| None)
}

fn run_muted(
    dispatcher: &mut Dispatcher,
    from: u64,
    to: u64,
    mute: impl Fn(&Alert, Timestamp) -> Option<Muted>,
) -> Vec<(u64, Vec<String>)> {
    let show = |alert: &Alert| match alert.state {
        AlertState::Resolved => format!("-{}", alert.fingerprint),
        _ => alert.fingerprint.to_string(),
    };
    let flush = |second_now: u64| {
        let notices = dispatcher.flush(second(second_now), &mute);
        let tell = |notice: Notice| {
            assert_eq!(notice.at, second(second_now), "told when it was due");
            (second_now, notice.alerts.iter().map(show).collect())
        };
        notices.into_iter().map(tell).collect::<Vec<_>>()
    };
    (from..=to).flat_map(flush).collect()
}

fn told(at: u64, alerts: &[&str]) -> (u64, Vec<String>) {
    (at, alerts.iter().map(|alert| (*alert).to_owned()).collect())
}

#[test]
fn a_group_waits_for_company_and_is_told_once() {
    let mut groups = dispatcher(&["rule"], 4 * 60 * MINUTE);
    groups.insert(alert("lag", "a", 0), second(0));
    groups.insert(alert("lag", "b", 20), second(20));
    groups.insert(alert("hole", "a", 20), second(20));
    let expected = [told(30, &["lag-a", "lag-b"]), told(50, &["hole-a"])];
    assert_eq!(run(&mut groups, 0, 60 * MINUTE), expected);
}

#[test]
fn news_of_a_group_is_told_at_its_next_interval() {
    let mut groups = dispatcher(&["rule"], 4 * 60 * MINUTE);
    groups.insert(alert("lag", "a", 0), second(0));
    assert_eq!(run(&mut groups, 0, 30), [told(30, &["lag-a"])]);
    groups.insert(alert("lag", "b", 31), second(31));
    assert_eq!(run(&mut groups, 31, 330), [told(330, &["lag-a", "lag-b"])]);
    groups.insert(over(alert("lag", "b", 31), 331), second(331));
    assert_eq!(run(&mut groups, 331, 630), [told(630, &["lag-a", "-lag-b"])]);
    groups.insert(over(alert("lag", "a", 0), 700), second(700));
    assert_eq!(run(&mut groups, 631, 5_000), [told(930, &["-lag-a"])]);
    assert_eq!(groups.next_due(), None);
}

#[test]
fn what_was_over_before_the_first_flush_is_never_told() {
    let mut groups = dispatcher(&["rule"], 60 * MINUTE);
    groups.insert(alert("lag", "a", 0), second(0));
    groups.insert(over(alert("lag", "a", 0), 29), second(29));
    assert_eq!(run(&mut groups, 29, 5_000), []);
}

#[test]
fn what_came_and_went_between_two_flushes_is_told_only_with_the_groups_end() {
    let mut groups = dispatcher(&["rule"], 60 * MINUTE);
    groups.insert(alert("lag", "a", 0), second(0));
    run(&mut groups, 0, 30);
    groups.insert(alert("lag", "b", 31), second(31));
    groups.insert(over(alert("lag", "a", 0), 40), second(40));
    groups.insert(over(alert("lag", "b", 31), 41), second(41));
    // Alertmanager lists both, since the group has to be told that its known alert is over.
    assert_eq!(run(&mut groups, 42, 400), [told(330, &["-lag-a", "-lag-b"])]);
}

#[test]
fn an_alert_that_returns_within_an_interval_is_the_same_one() {
    let mut groups = dispatcher(&["rule"], 60 * MINUTE);
    groups.insert(alert("lag", "a", 0), second(0));
    run(&mut groups, 0, 30);
    groups.insert(over(alert("lag", "a", 0), 40), second(40));
    groups.insert(alert("lag", "a", 50), second(50));
    assert_eq!(run(&mut groups, 50, 1_000), []);
}

#[test]
fn a_repeat_comes_as_often_as_it_says() {
    let mut groups = dispatcher(&["rule"], 5 * MINUTE);
    groups.insert(alert("lag", "a", 0), second(0));
    let at: Vec<_> = run(&mut groups, 0, 1_000).into_iter().map(|(at, _)| at).collect();
    assert_eq!(at, [30, 330, 630, 930]);
}

#[test]
fn a_repeat_between_two_intervals_is_told_at_the_next_one() {
    let mut groups = dispatcher(&["rule"], 7 * MINUTE);
    groups.insert(alert("lag", "a", 0), second(0));
    let at: Vec<_> = run(&mut groups, 0, 1_300).into_iter().map(|(at, _)| at).collect();
    assert_eq!(at, [30, 630, 1_230]);
}

#[test]
fn muted_alerts_are_not_told_and_are_told_when_they_are_heard_again() {
    let mut groups = dispatcher(&["rule"], 60 * MINUTE);
    groups.insert(alert("lag", "a", 0), second(0));
    groups.insert(alert("lag", "b", 0), second(0));
    let mute = |alert: &Alert, at: Timestamp| {
        (alert.label("endpoint") == Some("a") && at < second(400)).then(|| Muted::Silence(Arc::from("s")))
    };
    let expected = [told(30, &["lag-b"]), told(630, &["lag-a", "lag-b"])];
    assert_eq!(run_muted(&mut groups, 0, 1_000, mute), expected);
}

#[test]
fn the_end_of_what_was_told_is_told_even_while_another_alert_explains_it_but_not_while_it_is_silenced() {
    let told_after = |mute: fn(Arc<str>) -> Muted| {
        let mut groups = dispatcher(&["rule"], 60 * MINUTE);
        groups.insert(alert("lag", "a", 0), second(0));
        run(&mut groups, 0, 30);
        groups.insert(alert("lag", "b", 40), second(40));
        groups.insert(over(alert("lag", "a", 0), 50), second(50));
        groups.insert(over(alert("lag", "b", 40), 50), second(50));
        run_muted(&mut groups, 50, 1_000, |_, _| Some(mute(Arc::from("x"))))
    };
    // Nobody was told of the other one.
    assert_eq!(told_after(Muted::Explained), [told(330, &["-lag-a"])]);
    assert_eq!(told_after(Muted::Silence), []);
}

#[test]
fn the_worst_comes_first_and_what_is_over_last() {
    let mut groups = dispatcher(&[], 60 * MINUTE);
    groups.insert(alert("lag", "a", 0), second(0));
    groups.insert(alert("hole", "a", 5), second(5));
    run(&mut groups, 0, 30);
    groups.insert(over(alert("hole", "a", 5), 40), second(40));
    groups.insert(alert("lag", "b", 41), second(41));
    groups.insert(alert("hole", "b", 42), second(42));
    assert_eq!(run(&mut groups, 42, 330), [told(330, &["hole-b", "lag-a", "lag-b", "-hole-a"])]);
}

#[test]
fn three_dots_make_each_alert_a_group_of_its_own() {
    let mut groups = dispatcher(&["..."], 60 * MINUTE);
    groups.insert(alert("lag", "a", 0), second(0));
    groups.insert(alert("lag", "b", 0), second(0));
    assert_eq!(run(&mut groups, 0, 30).len(), 2);
}

#[test]
fn a_restart_does_not_tell_again_what_was_told() {
    let mut before = dispatcher(&["rule"], 60 * MINUTE);
    before.insert(alert("lag", "a", 0), second(0));
    run(&mut before, 0, 30);
    let saved = serde_json::to_string(before.book()).expect("JSON");
    let mut after = dispatcher(&["rule"], 60 * MINUTE);
    after.restore(serde_json::from_str(&saved).expect("what was saved"), second(100), |_| None);
    assert_eq!(run(&mut after, 100, 1_000), []);
    after.insert(over(alert("lag", "a", 0), 1_001), second(1_001));
    assert_eq!(run(&mut after, 1_001, 1_300).len(), 1);
}

#[test]
fn a_late_tick_tells_what_was_due_with_the_time_at_which_it_was() {
    let mut groups = dispatcher(&["rule"], 5 * MINUTE);
    groups.insert(alert("lag", "a", 0), second(0));
    let notices = groups.flush(second(2_000), |_, _| None);
    assert_eq!((notices.len(), notices[0].at), (1, second(30)));
    assert_eq!(groups.next_due(), Some(second(2_130)));
}
