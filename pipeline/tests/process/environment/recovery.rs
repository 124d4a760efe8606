//! `SLOT_RECOVERY_ENABLED`, `SLOT_RECOVERY_BATCH_SIZE`, `SLOT_RECOVERY_MAX_RETRIES`.

use std::time::Duration;

use serde_json::{Value, json};

use super::stand_in::StandIn;
use super::{FIRST_SLOT, Text, calm, serve, tip, until_slots};
use crate::support::{committed, until};

const SLOT_TIME: Duration = Duration::from_millis(30);
/// Slots that are missed before a pipeline starts: fewer than endpoints replay.
const MISSED: u64 = 50;
/// Slots of a file.
const COMMIT_SLOTS: u64 = 40;

/// A node that has no block.
fn without_blocks(body: &str) -> String {
    let call: Value = serde_json::from_str(body).unwrap_or_default();
    let id = &call["id"];
    if call["method"] == "getBlocks" {
        return json!({ "jsonrpc": "2.0", "id": id, "result": [] }).to_string();
    }
    let error = json!({ "code": -32_004, "message": "Block not available for slot" });
    json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()
}

/// The slots whose blocks were asked for, as often as they were.
fn asked(rpc: &StandIn) -> Vec<u64> {
    let calls = rpc.bodies().into_iter().filter_map(|body| serde_json::from_str::<Value>(&body).ok());
    calls.filter(|call| call["method"] == "getBlock").filter_map(|call| call["params"][0].as_u64()).collect()
}

/// The slot of the first hole that a log tells of.
fn hole(log: &str) -> Option<u64> {
    let line = log.lines().find(|line| line.contains("ERROR") && line.contains(" hole "))?;
    line.split("slot=").nth(1)?.split_whitespace().next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn slot_recovery_enabled_says_whether_anything_is_fetched() {
    let served = serve(calm(1, SLOT_TIME)).await;
    until_slots(&served, MISSED);
    for (value, is_fetched) in [("false", false), ("true", true)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (rpc, out) = (StandIn::start(without_blocks), folder.path().join("out"));
        let mut text = Text::new(&served);
        text.rpc_url.clone_from(&rpc.url);
        text.recovery = format!("enabled = {}\nreplay = false\n", !is_fetched);
        text.add_files(&out, COMMIT_SLOTS);
        let run = text.run(folder.path(), &[("SLOT_RECOVERY_ENABLED", value)]);
        run.process.wait_for("gap found");
        if is_fetched {
            until("RPC to be asked", || !asked(&rpc).is_empty());
        } else {
            let first = run.next_slot();
            until("slots to go by", || run.next_slot() > first + 40);
            assert_eq!(rpc.bodies(), Vec::<String>::new());
        }
        run.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slot_recovery_batch_size_is_the_most_slots_of_a_replay() {
    let served = serve(calm(3, SLOT_TIME)).await;
    for (value, is_one_by_one) in [("1", true), ("100", false)] {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let mut text = Text::new(&served);
        text.recovery =
            format!("batch_size = {}\nmax_replay_slots = 10000\n", if is_one_by_one { 50 } else { 1 });
        text.add_files(&out, COMMIT_SLOTS);
        let first = text.run(folder.path(), &[]);
        until("a file", || !committed(&out).is_empty());
        first.stop();
        // What is missed while nothing runs is one gap, and known as such at once.
        let stopped = tip(&served);
        until_slots(&served, stopped - FIRST_SLOT + MISSED);
        let before = served.progress().replays;
        let run = text.run(folder.path(), &[("SLOT_RECOVERY_BATCH_SIZE", value)]);
        let range = stopped / COMMIT_SLOTS * COMMIT_SLOTS;
        until("the slots that were missed", || committed(&out).contains(&range));
        let replays = (served.progress().replays - before) as f64;
        let recovered = run.metric("sluice_recovered_slots_total", "way=\"replay\"").await;
        assert!(replays > 0.0, "nothing was replayed");
        let log = run.stop();
        assert_eq!(
            recovered <= replays,
            is_one_by_one,
            "{value}: {replays} replays, {recovered} slots\n{log}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slot_recovery_max_retries_is_how_often_rpc_is_asked_again_before_a_hole() {
    let served = serve(calm(1, SLOT_TIME)).await;
    until_slots(&served, MISSED);
    for (value, tries) in [("0", 1), ("2", 3)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (rpc, out) = (StandIn::start(without_blocks), folder.path().join("out"));
        let mut text = Text::new(&served);
        text.rpc_url.clone_from(&rpc.url);
        text.recovery = "replay = false\nmax_retries = 7\n".to_owned();
        text.add_files(&out, COMMIT_SLOTS);
        let run = text.run(folder.path(), &[("SLOT_RECOVERY_MAX_RETRIES", value)]);
        until("a hole", || hole(&run.process.log()).is_some());
        let slot = hole(&run.process.log()).expect("it was waited for");
        let asked = asked(&rpc).into_iter().filter(|other| *other == slot).count();
        assert_eq!(asked, tries, "{value}");
        run.stop();
    }
}
