//! Notices of alerts, against a real HTTP server.

use std::sync::Arc;

use serde_json::json;
use sluice_stages::alert::{AlertItem, Notice, Severity};
use sluice_stages::batch::Item;

use super::receiver::Answer;
use super::*;
use crate::delivery::harness::{RunningSink, until};
use crate::delivery::testing::{alert, notice, over, resolved};
use crate::parquet::testing::Chain;

fn start(receiver: &TestReceiver, more: Value) -> RunningSink {
    RunningSink::start::<WebhookOptions>(&hasty(receiver, more))
}

#[tokio::test]
async fn a_notice_and_its_resolution_arrive_once_each() {
    let receiver = TestReceiver::start(&[Answer::Status(500)]).await;
    let sink = start(&receiver, json!({}));
    sink.tell(notice("latency", Severity::Error)).await;
    let over =
        Notice { alerts: vec![resolved("latency", Severity::Error)], ..notice("latency", Severity::Error) };
    sink.tell(over).await;
    sink.end().await.expect("ended well");
    let taken = receiver.taken();
    let states: Vec<_> = taken.iter().map(|message| message.json()["state"].clone()).collect();
    assert_eq!(states, ["firing", "resolved"]);
    assert_ne!(taken[0].id, taken[1].id);
    let body = taken[0].json();
    for (field, value) in [
        ("severity", json!("error")),
        ("metric", json!("latency_ms")),
        ("value", json!(1250.5)),
        ("threshold", json!(1000.0)),
        ("timestamp", json!("2026-01-31T12:00:00.000000Z")),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
    assert_eq!(body["message"], "latency: \"1250.5\" is > 1000 <for long>");
}

#[tokio::test]
async fn mild_notices_are_left_out_where_that_is_asked_for() {
    let receiver = TestReceiver::start(&[]).await;
    let sink = start(&receiver, json!({"filters": {"min_severity": "error"}}));
    for severity in [Severity::Info, Severity::Warning, Severity::Error, Severity::Critical] {
        sink.tell(notice(severity.name(), severity)).await;
    }
    sink.end().await.expect("ended well");
    let told: Vec<_> = receiver.taken().iter().map(|message| message.json()["rule"].clone()).collect();
    assert_eq!(told, ["error", "critical"]);
}

#[tokio::test]
async fn the_alertmanager_format_is_the_body_of_version_4() {
    let receiver = TestReceiver::start(&[]).await;
    let sink = start(&receiver, json!({"format": "alertmanager", "external_url": "http://sluice:3002"}));
    sink.tell(notice("latency", Severity::Error)).await;
    sink.end().await.expect("ended well");
    let body = receiver.taken()[0].json();
    assert_eq!(
        (&body["version"], &body["status"], &body["receiver"]),
        (&json!("4"), &json!("firing"), &json!("ops"))
    );
    assert_eq!(body["alerts"][0]["labels"]["alertname"], "latency");
    assert_eq!(body["externalURL"], "http://sluice:3002");
}

#[tokio::test]
async fn a_template_makes_the_body() {
    let receiver = TestReceiver::start(&[]).await;
    let template = "{\"text\": {{ (severity ~ \": \" ~ message) | tojson }}}";
    let sink = start(&receiver, json!({"template": template, "content_type": "application/vnd.chat+json"}));
    sink.tell(notice("latency", Severity::Error)).await;
    sink.end().await.expect("ended well");
    let taken = receiver.taken();
    assert_eq!(taken[0].json(), json!({"text": "error: latency: \"1250.5\" is > 1000 <for long>"}));
    assert_eq!(taken[0].headers["content-type"], "application/vnd.chat+json");
}

#[tokio::test]
async fn a_storm_is_told_up_to_the_limit_and_then_summed_up() {
    let receiver = TestReceiver::start(&[]).await;
    let sink = start(&receiver, json!({"max_notices_per_minute": 5}));
    for number in 0..40 {
        sink.tell(notice(&format!("rule-{}", number % 4), Severity::Warning)).await;
    }
    sink.end().await.expect("ended well");
    let taken = receiver.taken();
    assert_eq!(taken.len(), 6);
    let summary = taken[5].json();
    assert_eq!((&summary["rule"], &summary["value"]), (&json!("notices_held_back"), &json!(35.0)));
}

#[tokio::test]
async fn a_dead_receiver_holds_up_nobody_and_is_told_how_much_it_missed() {
    let receiver = TestReceiver::start(&[]).await;
    receiver.otherwise(Answer::Hang);
    let sink = start(&receiver, json!({"max_queued_notices": 3}));
    for number in 0..200 {
        sink.tell(notice(&format!("rule-{number}"), Severity::Critical)).await;
    }
    until("all are read", || sink.edge.snapshot().received_items == 200).await;
    receiver.otherwise(Answer::Status(200));
    let has_summary = || receiver.taken().iter().any(|message| message.json()["rule"] == "notices_held_back");
    until("the summary", has_summary).await;
    sink.end().await.expect("ended well");
    let told = receiver.taken();
    let held: f64 = told
        .iter()
        .filter_map(|message| {
            let body = message.json();
            (body["rule"] == "notices_held_back").then(|| body["value"].as_f64())?
        })
        .sum();
    let plain = told.iter().filter(|message| message.json()["rule"] != "notices_held_back").count();
    assert_eq!(plain as f64 + held, 200.0, "each was told or counted");
}

#[tokio::test]
async fn records_of_a_stuck_receiver_do_not_stop_what_comes_from_another_sink() {
    let (dead, live) = (TestReceiver::start(&[]).await, TestReceiver::start(&[]).await);
    dead.otherwise(Answer::Hang);
    let (stuck, well) = (start(&dead, json!({})), start(&live, json!({})));
    let blocks: Vec<_> = Chain::generate(1, 30, 2).blocks().into_iter().map(Item::Block).collect();
    stuck.send(blocks.clone()).await;
    well.send(blocks).await;
    well.end().await.expect("ended well");
    assert!(live.block_slots().len() > 20);
    stuck.stop.cancel();
    stuck.end().await.expect("ended well");
}

#[tokio::test]
async fn the_intake_learns_of_changes_and_not_of_notices() {
    let receiver = TestReceiver::start(&[]).await;
    let sink = start(&receiver, json!({"format": "alertmanager_v2"}));
    sink.tell(notice("latency", Severity::Error)).await;
    let changed = |alert| Item::Alert(Arc::new(AlertItem::Changed(alert)));
    sink.send(vec![changed(alert("latency", Severity::Error))]).await;
    until("posted", || !receiver.taken().is_empty()).await;
    sink.send(vec![changed(resolved("latency", Severity::Error))]).await;
    sink.end().await.expect("ended well");
    let taken = receiver.taken();
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().all(|message| message.path == "/hook/api/v2/alerts"));
    let (first, second) = (taken[0].json(), taken[1].json());
    assert_eq!(first[0]["labels"], json!({"alertname": "latency", "severity": "error", "endpoint": "ams"}));
    assert!(first[0]["endsAt"].as_str() > Some("2026"), "it ends by itself");
    assert_eq!(second[0]["endsAt"], "2026-01-31T12:01:00.000000Z");
}

#[tokio::test]
async fn what_waits_for_a_dead_receiver_is_told_by_the_next_run_under_the_same_ids() {
    for is_killed in [false, true] {
        let receiver = TestReceiver::start(&[]).await;
        receiver.otherwise(Answer::Status(503));
        let folder = tempfile::tempdir().expect("a folder");
        let state = json!({"state_path": folder.path(), "drain_timeout": "50ms"});
        let kept = || std::fs::read_to_string(folder.path().join("waiting_notices.json")).unwrap_or_default();
        let sink = start(&receiver, state.clone());
        for rule in ["first", "second", "third"] {
            sink.tell(notice(rule, Severity::Critical)).await;
        }
        until("one was tried", || !receiver.received().is_empty()).await;
        until("all are kept", || kept().matches("\"group_key\"").count() == 3).await;
        if is_killed {
            sink.kill().await;
        } else {
            sink.end().await.expect("ended well");
        }
        let tried = receiver.received()[0].id.clone();
        receiver.otherwise(Answer::Status(204));
        let sink = start(&receiver, state.clone());
        until("all arrived", || receiver.taken().len() == 3).await;
        sink.end().await.expect("ended well");
        let taken = receiver.taken();
        let rules: Vec<_> = taken.iter().map(|message| message.json()["rule"].clone()).collect();
        assert_eq!((rules, &taken[0].id), (vec![json!("first"), json!("second"), json!("third")], &tried));
        start(&receiver, state).end().await.expect("ended well");
        assert_eq!(receiver.taken().len(), 3, "nothing is left: {}", kept());
    }
}

#[tokio::test]
async fn the_limit_keeps_no_resolution_back_for_good() {
    let receiver = TestReceiver::start(&[]).await;
    let sink = start(&receiver, json!({"format": "alertmanager", "max_notices_per_minute": 1}));
    sink.tell(notice("crit", Severity::Critical)).await;
    sink.tell(over("crit", Severity::Critical)).await;
    sink.end().await.expect("ended well");
    let told: Vec<_> = receiver
        .taken()
        .iter()
        .map(|message| {
            (message.json()["commonLabels"]["alertname"].clone(), message.json()["status"].clone())
        })
        .collect();
    assert_eq!(told, [(json!("crit"), json!("firing")), (json!("crit"), json!("resolved"))]);
}

#[tokio::test]
async fn the_end_of_a_bad_alert_arrives_whatever_else_is_in_its_group() {
    let receiver = TestReceiver::start(&[]).await;
    let sink = start(&receiver, json!({"filters": {"min_severity": "critical"}}));
    let mut group = notice("crit", Severity::Critical);
    group.alerts.push(alert("mild", Severity::Info));
    sink.tell(group.clone()).await;
    group.alerts = vec![alert("mild", Severity::Info), resolved("crit", Severity::Critical)];
    sink.tell(group.clone()).await;
    group.alerts = vec![resolved("mild", Severity::Info)];
    sink.tell(group).await;
    sink.end().await.expect("ended well");
    let told: Vec<_> = receiver
        .taken()
        .iter()
        .map(|message| {
            let body = message.json();
            let alerts = body["alerts"].as_array().map(Vec::len);
            (body["rule"].clone(), body["state"].clone(), body["severity"].clone(), alerts)
        })
        .collect();
    let word = |state: &str| (json!("crit"), json!(state), json!("critical"), Some(1));
    assert_eq!(told, [word("firing"), word("resolved")]);
}

#[tokio::test]
async fn an_end_that_came_while_alertmanager_was_away_is_posted_with_times_of_now() {
    let receiver = TestReceiver::start(&[]).await;
    let sink = start(&receiver, json!({"format": "alertmanager_v2", "max_queued_notices": 1}));
    let changed = |alert| Item::Alert(Arc::new(AlertItem::Changed(alert)));
    sink.send(vec![changed(alert("crit", Severity::Critical))]).await;
    until("posted", || receiver.taken().len() == 1).await;
    receiver.otherwise(Answer::Status(503));
    for number in 0..50 {
        sink.send(vec![changed(alert(&format!("other-{number}"), Severity::Error))]).await;
    }
    sink.send(vec![changed(resolved("crit", Severity::Critical))]).await;
    until("all are read", || sink.edge.snapshot().received_items == 52).await;
    let tries = receiver.received().len();
    until("tried again", || receiver.received().len() > tries + 2).await;
    receiver.otherwise(Answer::Status(200));
    let ends = || {
        let bodies = receiver.taken();
        let alerts = bodies.iter().flat_map(|message| message.json().as_array().cloned().unwrap_or_default());
        alerts.filter(|alert| alert["endsAt"] == "2026-01-31T12:01:00.000000Z").count()
    };
    until("its end", || ends() == 1).await;
    sink.end().await.expect("ended well");
    let ids: std::collections::BTreeSet<_> = receiver.received().iter().map(|post| post.id.clone()).collect();
    assert!(ids.len() > 3, "each try is of its own time");
}
