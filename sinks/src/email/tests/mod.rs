mod aiosmtpd;
mod scripted;

use serde_json::json;
use sluice_stages::alert::Notice;

use super::*;
use crate::delivery::harness::{RunningSink, options, until};
use crate::delivery::testing::{alert, notice, resolved};
use scripted::ScriptedServer;

fn start(server: &ScriptedServer, more: serde_json::Value) -> RunningSink {
    let mut text = json!({
        "server": "127.0.0.1", "port": server.port, "tls": "none",
        "from": "Sluice <sluice@example.org>", "to": ["ops@example.com", "Boss <boss@example.com>"],
        "retry": {"timeout": "500ms", "min_backoff": "10ms", "max_backoff": "50ms", "reset_timeout": "50ms"},
        "drain_timeout": "2s",
    });
    text.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
    RunningSink::start::<EmailOptions>(&text.to_string())
}

fn message_ids(server: &ScriptedServer) -> Vec<String> {
    let id = |mail: &String| mail.lines().find(|line| line.starts_with("Message-ID: ")).map(str::to_owned);
    server.mails().iter().filter_map(id).collect()
}

#[tokio::test]
async fn a_notice_and_its_resolution_are_a_mail_each() {
    let server = ScriptedServer::start(&[]).await;
    let sink = start(&server, json!({}));
    sink.tell(notice("latency", Severity::Error)).await;
    let over =
        Notice { alerts: vec![resolved("latency", Severity::Error)], ..notice("latency", Severity::Error) };
    sink.tell(over).await;
    sink.end().await.expect("ended well");
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    assert!(mails[0].contains("From: Sluice <sluice@example.org>\r\n"), "{}", mails[0]);
    assert!(mails.iter().all(|mail| mail.contains("multipart/alternative")));
    let recipients = ["ops@example.com", "boss@example.com"];
    assert_eq!(server.recipients(), [recipients, recipients].concat());
}

#[tokio::test]
async fn a_mail_that_is_put_off_is_tried_again_with_the_same_id() {
    let server = ScriptedServer::start(&["451 later", "421 closing", "452 full"]).await;
    let sink = start(&server, json!({}));
    sink.tell(notice("latency", Severity::Error)).await;
    sink.end().await.expect("ended well");
    let ids = message_ids(&server);
    assert_eq!(ids.len(), 4, "{ids:?}");
    assert!(ids.iter().all(|id| *id == ids[0]));
}

#[tokio::test]
async fn a_mail_that_is_refused_becomes_a_dead_letter_and_the_next_goes_on() {
    let server = ScriptedServer::start(&["554 looks like spam"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let sink = start(&server, json!({"state_path": folder.path()}));
    sink.tell(notice("latency", Severity::Error)).await;
    sink.tell(notice("holes", Severity::Critical)).await;
    sink.end().await.expect("ended well");
    let text = std::fs::read_to_string(folder.path().join("dead_letters.jsonl")).expect("there");
    let letter: serde_json::Value = serde_json::from_str(text.trim()).expect("one JSON line");
    assert!(letter["reason"].as_str().expect("a reason").starts_with("SMTP 554"), "{letter}");
    assert_eq!((&letter["content_type"], server.mails().len()), (&json!("message/rfc822"), 2));
}

#[tokio::test]
async fn a_dead_server_holds_up_nobody_and_the_end_does_not_wait_for_it() {
    let server = ScriptedServer::start(&["hang"; 1_000]).await;
    let sink = start(&server, json!({"max_queued_notices": 2, "drain_timeout": "100ms"}));
    for number in 0..100 {
        sink.tell(notice(&format!("rule-{number}"), Severity::Error)).await;
    }
    until("all are read", || sink.edge.snapshot().received_items == 100).await;
    until("held back", || sink.metric("delivery_held_back_notices_total") >= Some(90.0)).await;
    sink.end().await.expect("ended well");
}

#[tokio::test]
async fn more_than_the_limit_is_one_summary() {
    let server = ScriptedServer::start(&[]).await;
    let sink = start(&server, json!({"max_notices_per_minute": 2, "min_severity": "warning"}));
    for number in 0..9 {
        sink.tell(notice(&format!("rule-{number}"), Severity::Error)).await;
        sink.tell(notice(&format!("mild-{number}"), Severity::Info)).await;
    }
    sink.end().await.expect("ended well");
    let mails = server.mails();
    assert_eq!(mails.len(), 3);
    assert!(mails[2].contains("notices_held_back"), "{}", mails[2]);
}

#[test]
fn every_problem_is_named_at_once_and_the_password_never() {
    let text = json!({
        "server": "smtp://x", "from": "nobody", "to": ["ops@example.com", "x y"], "tls": "none",
        "username": "u", "password": "hunter2", "max_queued_notices": 0, "max_notices_per_minute": 0,
    });
    let options: EmailOptions = serde_json::from_value(text).expect("the types are right");
    let named: Vec<_> = options.problems().into_iter().map(|problem| problem.option).collect();
    assert_eq!(named, ["server", "from", "to", "tls", "max_queued_notices", "max_notices_per_minute"]);
    let shown = format!("{options:?}{}", serde_json::to_string(&options).expect("JSON"));
    assert!(!shown.contains("hunter2"), "{shown}");
    let text = json!({"server": "x", "from": "a@b.c", "to": [], "username": "u"});
    let options: EmailOptions = serde_json::from_value(text).expect("the types are right");
    let named: Vec<_> = options.problems().into_iter().map(|problem| problem.option).collect();
    assert_eq!((named, options.port()), (vec!["to".to_owned(), "password".to_owned()], 587));
}

#[test]
fn the_defaults_are_fine() {
    let options: EmailOptions =
        options(r#"{"server": "smtp.example.com", "from": "a@b.c", "to": ["d@e.f"], "tls": "tls"}"#);
    assert_eq!((options.port(), options.max_notices_per_minute), (465, 10));
}

#[tokio::test]
async fn mails_that_wait_are_sent_by_the_next_run() {
    let dead = ScriptedServer::start(&["hang"; 1_000]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let state = json!({"state_path": folder.path(), "drain_timeout": "50ms"});
    let sink = start(&dead, state.clone());
    sink.tell(notice("latency", Severity::Error)).await;
    sink.tell(notice("holes", Severity::Critical)).await;
    until("one was tried", || !dead.mails().is_empty()).await;
    sink.end().await.expect("ended well");
    let live = ScriptedServer::start(&[]).await;
    let sink = start(&live, state);
    until("both arrived", || live.mails().len() == 2).await;
    sink.end().await.expect("ended well");
    assert_eq!(message_ids(&live)[0], message_ids(&dead)[0]);
}

#[tokio::test]
async fn milder_alerts_are_left_out_of_a_mail() {
    let server = ScriptedServer::start(&[]).await;
    let sink = start(&server, json!({"min_severity": "critical"}));
    let alerts = vec![alert("mild", Severity::Info), resolved("crit", Severity::Critical)];
    sink.tell(Notice { alerts, ..notice("group", Severity::Info) }).await;
    sink.end().await.expect("ended well");
    assert!(server.mails()[0].contains("RESOLVED critical: crit"), "{}", server.mails()[0]);
    assert!(!server.mails()[0].contains("mild"), "{}", server.mails()[0]);
}

#[tokio::test]
async fn a_recipient_that_is_refused_keeps_the_mail_from_nobody_else() {
    let server = ScriptedServer::start(&[]).await;
    server.answer_recipient("ops@example.com", &["550 no such user"; 9]);
    let sink = start(&server, json!({}));
    sink.tell(notice("latency", Severity::Error)).await;
    until("it arrived", || sink.metric("delivery_messages_total") == Some(1.0)).await;
    assert_eq!(server.delivered(), [["boss@example.com"]]);
    assert_eq!(sink.metric("delivery_refused_recipients_total"), Some(1.0));
    assert_eq!(sink.metric("delivery_dead_letters_total"), Some(0.0));
    server.answer_recipient("boss@example.com", &["553 no such user"]);
    sink.tell(notice("holes", Severity::Error)).await;
    until("nobody is left", || sink.metric("delivery_dead_letters_total") == Some(1.0)).await;
    sink.end().await.expect("ended well");
}

#[tokio::test]
async fn a_recipient_that_is_put_off_gets_it_later_and_the_others_get_it_once() {
    let server = ScriptedServer::start(&[]).await;
    server.answer_recipient("ops@example.com", &["450 greylisted", "452 full", "450 greylisted"]);
    let sink = start(&server, json!({"max_notices_per_minute": 100}));
    sink.tell(notice("latency", Severity::Error)).await;
    sink.tell(notice("holes", Severity::Error)).await;
    until("all arrived", || server.delivered().len() == 4 || server.delivered().concat().len() == 4).await;
    sink.end().await.expect("ended well");
    let mut by_mail: std::collections::BTreeMap<String, Vec<String>> = Default::default();
    for (id, to) in message_ids(&server).into_iter().zip(server.delivered()) {
        by_mail.entry(id).or_default().extend(to);
    }
    assert_eq!(by_mail.len(), 2);
    for (id, mut to) in by_mail {
        to.sort();
        assert_eq!(to, ["boss@example.com", "ops@example.com"], "{id}");
    }
}
