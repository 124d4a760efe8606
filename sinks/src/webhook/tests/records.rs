//! Records of blocks, against a real HTTP server.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_stages::batch::Item;

use super::receiver::Answer;
use super::*;
use crate::delivery::harness::{RunningSink, until};
use crate::parquet::testing::Chain;

fn start(receiver: &TestReceiver, more: Value) -> RunningSink {
    RunningSink::start::<WebhookOptions>(&hasty(receiver, more))
}

fn items(chain: &Chain) -> Vec<Item> {
    chain.blocks().into_iter().map(Item::Block).collect()
}

fn cursor(folder: &Path) -> Option<u64> {
    CursorFile::new(folder.join(cursor::FILE_NAME))
        .load()
        .expect("readable")
        .map(|position| position.next_slot)
}

fn dead_letters(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("dead_letters.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn every_record_arrives_once_signed_and_in_order() {
    let receiver = TestReceiver::start(&[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let chain = Chain::generate(100, 130, 5);
    let sink = start(&receiver, json!({"state_path": folder.path(), "batch_items": 7}));
    sink.send(vec![Item::Begin(100)]).await;
    sink.send(items(&chain)).await;
    // Blocks may come again; they are told once.
    sink.send(items(&chain)).await;
    sink.end().await.expect("ended well");
    assert_eq!(receiver.block_slots(), chain.slots());
    let messages = receiver.taken();
    let ids: BTreeSet<_> = messages.iter().map(|message| message.id.clone()).collect();
    assert_eq!(ids.len(), messages.len());
    let records: usize =
        messages.iter().map(|message| message.json()["records"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(
        records,
        chain.slots().len() * 6 + (31 - chain.slots().len()),
        "blocks, transactions, skipped slots"
    );
    assert!(messages.iter().all(|message| message.headers.contains_key("webhook-signature")));
    assert_eq!(cursor(folder.path()), Some(131));
}

#[tokio::test]
async fn a_message_that_fails_is_tried_again_with_the_same_id() {
    let failures =
        [Answer::Status(500), Answer::Status(503), Answer::Hang, Answer::Status(429), Answer::Status(408)];
    let receiver = TestReceiver::start(&failures).await;
    let sink = start(&receiver, json!({}));
    sink.send(items(&Chain::generate(5, 5, 2))).await;
    until("delivered", || !receiver.taken().is_empty()).await;
    let received = receiver.received();
    assert_eq!(received.len(), 6);
    assert!(received.iter().all(|message| message.id == received[0].id && message.body == received[0].body));
    sink.end().await.expect("ended well");
}

#[tokio::test]
async fn a_retry_after_is_waited_for() {
    let receiver = TestReceiver::start(&[Answer::RetryAfter(429, "1"), Answer::RetryAfter(503, "1")]).await;
    let sink = start(&receiver, json!({}));
    sink.send(items(&Chain::generate(5, 5, 1))).await;
    until("delivered", || !receiver.taken().is_empty()).await;
    let received = receiver.received();
    for pair in received.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_secs(1));
    }
    until("shown", || sink.metric("delivery_throttled_total") == Some(2.0)).await;
    sink.end().await.expect("ended well");
}

#[tokio::test]
async fn what_is_refused_becomes_a_dead_letter_and_the_rest_goes_on() {
    let receiver = TestReceiver::start(&[Answer::Status(422), Answer::Redirect]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let sink =
        start(&receiver, json!({"state_path": folder.path(), "batch_items": 1, "records": ["blocks"]}));
    sink.send(items(&Chain::with_skips(10, 14, 1, |_| false))).await;
    sink.end().await.expect("ended well");
    let letters = dead_letters(folder.path());
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0]["reason"], "HTTP 422 Unprocessable Entity");
    assert!(letters[1]["reason"].as_str().expect("a reason").contains("redirects are not followed"));
    assert!(letters[0]["body"].as_str().expect("a body").contains("\"slot\":10"));
    assert_eq!(receiver.received().iter().filter(|message| message.path == "/elsewhere").count(), 0);
    assert_eq!((receiver.block_slots(), cursor(folder.path())), (vec![12, 13, 14], Some(15)));
    let written = std::fs::read_to_string(folder.path().join("dead_letters.jsonl")).expect("there");
    assert!(!written.contains("hunter2"), "the url holds a token");
}

#[tokio::test]
async fn full_dead_letters_hold_the_message_back_instead_of_losing_it() {
    let receiver = TestReceiver::start(&[]).await;
    receiver.otherwise(Answer::Status(400));
    let folder = tempfile::tempdir().expect("a folder");
    let more = json!({"state_path": folder.path(), "batch_items": 1, "records": ["blocks"], "dead_letter_max_bytes": 10});
    let sink = start(&receiver, more);
    sink.send(items(&Chain::with_skips(10, 12, 1, |_| false))).await;
    until("tried again", || receiver.received().len() > 3).await;
    receiver.otherwise(Answer::Status(200));
    until("delivered", || receiver.block_slots() == [10, 11, 12]).await;
    sink.end().await.expect("ended well");
    assert_eq!(dead_letters(folder.path()).len(), 0);
}

#[tokio::test]
async fn a_dead_receiver_is_left_alone_by_the_breaker() {
    let receiver = TestReceiver::start(&[]).await;
    receiver.otherwise(Answer::Status(500));
    let retry = json!({"retry": {"timeout": "300ms", "min_backoff": "1ms", "max_backoff": "1ms", "error_threshold": 3, "reset_timeout": "400ms"}});
    let sink = start(&receiver, retry);
    sink.send(items(&Chain::generate(5, 5, 1))).await;
    until("open", || sink.metric("delivery_breaker_open") == Some(1.0)).await;
    until("half open, twice", || receiver.received().len() >= 5).await;
    let received = receiver.received();
    assert!(received[3].at - received[2].at >= Duration::from_millis(350));
    assert!(received[4].at - received[3].at >= Duration::from_millis(350));
    receiver.otherwise(Answer::Status(200));
    until("closed", || sink.metric("delivery_breaker_open") == Some(0.0)).await;
    sink.end().await.expect("ended well");
}

#[tokio::test]
async fn after_a_kill_it_goes_on_behind_what_was_delivered() {
    let receiver = TestReceiver::start(&[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let more = json!({"state_path": folder.path(), "batch_items": 1, "records": ["blocks"]});
    let chain = Chain::generate(100, 160, 2);
    let first = start(&receiver, more.clone());
    first.send(vec![Item::Begin(100)]).await;
    first.send(items(&chain).into_iter().take(20).collect()).await;
    until("half of it", || receiver.block_slots().len() >= 12).await;
    first.kill().await;
    let told = receiver.block_slots();

    let mut build = BuildContext::new();
    let second = RunningSink::start_with(options::<WebhookOptions>(&hasty(&receiver, more)), &mut build);
    let Start::At(begin) = build.start else { panic!("{:?}", build.start) };
    assert!(begin <= told[told.len() - 1] + 1 && begin > told[told.len() - 3], "{begin} after {told:?}");
    // Another output may want the pipeline to begin earlier.
    second.send(vec![Item::Begin(100)]).await;
    second.send(items(&chain)).await;
    second.end().await.expect("ended well");
    let all = receiver.block_slots();
    let distinct: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!(distinct.into_iter().collect::<Vec<_>>(), chain.slots(), "nothing is missing");
    assert!(all.len() <= chain.slots().len() + 2, "at most what was in flight comes twice: {all:?}");
    assert_eq!(cursor(folder.path()), Some(161));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_dead_receiver_and_the_next_run_delivers() {
    let receiver = TestReceiver::start(&[]).await;
    receiver.otherwise(Answer::Hang);
    let folder = tempfile::tempdir().expect("a folder");
    let more = json!({"state_path": folder.path(), "batch_items": 1});
    let chain = Chain::generate(100, 120, 3);
    let first = start(&receiver, more.clone());
    first.send(vec![Item::Begin(100)]).await;
    first.send(items(&chain)).await;
    until("asked", || !receiver.received().is_empty()).await;
    let began = Instant::now();
    first.stop.cancel();
    first.end().await.expect("ended well");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(receiver.block_slots(), Vec::<u64>::new());

    receiver.otherwise(Answer::Status(200));
    let second = start(&receiver, more);
    second.send(vec![Item::Begin(100)]).await;
    second.send(items(&chain)).await;
    second.end().await.expect("ended well");
    assert_eq!(receiver.block_slots(), chain.slots());
}

#[tokio::test]
async fn a_receiver_that_is_stuck_makes_the_edge_full_and_nothing_is_lost() {
    let receiver = TestReceiver::start(&[]).await;
    receiver.otherwise(Answer::Status(503));
    let sink = start(&receiver, json!({"batch_items": 1, "records": ["blocks"]}));
    let chain = Chain::with_skips(1, 40, 0, |_| false);
    for item in items(&chain) {
        sink.send(vec![item]).await;
    }
    until("tried", || receiver.received().len() > 2).await;
    let read = sink.edge.snapshot().received_items;
    assert!(read < 40, "it stops reading while {read} wait");
    receiver.otherwise(Answer::Status(200));
    until("delivered", || receiver.block_slots().len() == 40).await;
    sink.end().await.expect("ended well");
    assert_eq!(receiver.block_slots(), chain.slots());
}

#[tokio::test]
async fn filtered_blocks_bring_the_cursor_on_without_a_message() {
    let receiver = TestReceiver::start(&[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let more = json!({"state_path": folder.path(), "records": ["transactions"], "filters": {"vote": true}});
    let sink = start(&receiver, more);
    sink.send(items(&Chain::generate(100, 120, 3))).await;
    sink.end().await.expect("ended well");
    assert_eq!((receiver.received().len(), cursor(folder.path())), (0, Some(121)));
}
