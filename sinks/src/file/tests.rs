use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use sluice_stages::alert::Severity;
use sluice_stages::batch::Item;

use super::*;
use crate::delivery::harness::{RunningSink, options, until};
use crate::delivery::testing::notice;
use crate::parquet::testing::Chain;

fn start(path: &Path, more: Value) -> RunningSink {
    RunningSink::start::<FileOptions>(&text(path, more))
}

fn text(path: &Path, more: Value) -> String {
    let mut options = json!({"path": path, "sync_interval": "20ms"});
    options.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
    options.to_string()
}

fn items(chain: &Chain) -> Vec<Item> {
    chain.blocks().into_iter().map(Item::Block).collect()
}

/// All records of a file and its older ones, in the order in which they were written.
fn records(path: &Path) -> Vec<Value> {
    let mut files: Vec<_> = (1..100).map(|number| rotation::numbered(path, number)).rev().collect();
    files.push(path.to_owned());
    let texts = files.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    let lines: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn block_slots(path: &Path) -> Vec<u64> {
    let records = records(path);
    let blocks = records.iter().filter(|record| record["type"] == "block");
    blocks.filter_map(|record| record["slot"].as_u64()).collect()
}

#[tokio::test]
async fn records_and_notices_are_lines_over_rotations() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("all.jsonl");
    let sink = start(&path, json!({"rotate_bytes": "20kB", "keep": 99}));
    let chain = Chain::generate(100, 140, 4);
    sink.send(items(&chain)).await;
    sink.tell(notice("latency", Severity::Error)).await;
    sink.end().await.expect("ended well");
    assert!(rotation::numbered(&path, 2).exists());
    assert_eq!(block_slots(&path), chain.slots());
    let last = records(&path).pop().expect("records");
    assert_eq!(
        (&last["type"], &last["channel"], &last["severity"]),
        (&json!("alert"), &json!("ops"), &json!("error"))
    );
}

#[tokio::test]
async fn after_a_kill_nothing_is_missing_and_no_line_is_torn() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blocks.jsonl");
    let more = json!({"records": ["blocks"]});
    let chain = Chain::generate(100, 160, 2);
    let first = start(&path, more.clone());
    first.send(vec![Item::Begin(100)]).await;
    first.send(items(&chain).into_iter().take(20).collect()).await;
    until("a cursor", || first.metric("delivery_next_slot").is_some()).await;
    first.kill().await;
    // What a crash may leave behind.
    let mut torn = std::fs::read_to_string(&path).expect("there");
    torn.push_str("{\"type\":\"bl");
    std::fs::write(&path, torn).expect("written");

    let mut build = BuildContext::new();
    let second = RunningSink::start_with(options::<FileOptions>(&text(&path, more)), &mut build);
    assert!(matches!(build.start, Start::At(slot) if slot > 100), "{:?}", build.start);
    second.send(vec![Item::Begin(100)]).await;
    second.send(items(&chain)).await;
    second.end().await.expect("ended well");
    let distinct: BTreeSet<_> = block_slots(&path).into_iter().collect();
    assert_eq!(distinct.into_iter().collect::<Vec<_>>(), chain.slots());
}

#[tokio::test]
async fn a_disk_that_refuses_is_tried_again_until_it_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.jsonl");
    let sink = start(&path, json!({"rotate_bytes": "1B", "keep": 1, "records": ["blocks"]}));
    // A folder in the way of the rotation, with something in it.
    let obstacle = rotation::numbered(&path, 1);
    std::fs::create_dir_all(obstacle.join("full")).expect("made");
    let chain = Chain::with_skips(1, 3, 0, |_| false);
    sink.send(items(&chain)).await;
    until("refused", || sink.metric("delivery_retries_total") > Some(0.0)).await;
    std::fs::remove_dir_all(&obstacle).expect("removed");
    sink.end().await.expect("ended well");
    assert_eq!(records(&path).len(), 2, "of three, the first was let go by the rotation");
}

#[test]
fn every_problem_is_named_at_once() {
    let text =
        r#"{"path": "..", "rotate_bytes": 0, "rotate_age": "0s", "keep": 100000, "sync_interval": "0s"}"#;
    let options: FileOptions = serde_json::from_str(text).expect("the types are right");
    let named: Vec<_> = options.problems().into_iter().map(|problem| problem.option).collect();
    assert_eq!(named, ["path", "rotate_bytes", "rotate_age", "sync_interval", "keep"]);
}

#[tokio::test]
async fn a_file_that_is_removed_is_begun_anew_and_no_other_process_may_write_to_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blocks.jsonl");
    let chain = Chain::generate(100, 140, 1);
    let sink = start(&path, json!({"records": ["blocks"]}));
    let other = options::<FileOptions>(&text(&path, json!({}))).build(&mut BuildContext::new());
    let refused = other.err().expect("in use").to_string();
    assert!(refused.contains("in use by another process") && refused.contains("blocks.jsonl"), "{refused}");
    sink.send(vec![Item::Begin(100)]).await;
    let slots = chain.slots();
    let (first, rest) = slots.split_at(20);
    sink.send(items(&chain).into_iter().take(20).collect()).await;
    until("what was written", || block_slots(&path) == first).await;
    until("a cursor", || sink.metric("delivery_next_slot") == Some((first[19] + 1) as f64)).await;
    std::fs::remove_file(&path).expect("removed");
    sink.send(items(&chain).into_iter().skip(20).collect()).await;
    sink.end().await.expect("ended well");
    assert_eq!(block_slots(&path), rest, "what was durable went with the file, the rest is in the next");
}
