//! Notices of alerts, against a real HTTP server.

use std::sync::Arc;

use serde_json::json;
use sluice_stages::alert::{AlertItem, Notice, Severity};
use sluice_stages::batch::Item;

use super::receiver::Answer;
use super::*;
use crate::delivery::harness::{RunningSink, until};
use crate::delivery::testing::{alert, notice, resolved};
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
