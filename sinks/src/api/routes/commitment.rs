//! The commitment stages: their level, and when it changed.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::query::{Nothing, Params};
use crate::api::shared::{Api, Shared};
use crate::api::state::EventView;

/// Switches in an answer.
const MOST_SWITCHES: usize = 100;

/// A commitment stage.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct CommitmentStageView {
    /// The node's name.
    node: String,
    /// The level that it works at now: `processed`, `confirmed` or `finalized`.
    level: String,
    /// What the TOML asks for: a level, or `adaptive`.
    configured: String,
    /// The highest slot that has the level.
    watermark_slot: u64,
    /// Slots that wait for it.
    held_blocks: u64,
    /// Slots that it let out.
    emitted_total: u64,
    /// Versions of slots on dead forks that it let go.
    dead_total: u64,
    /// Versions of slots on orphaned forks that it let go.
    orphaned_total: u64,
}

/// All commitment stages.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct CommitmentView {
    /// The stages.
    stages: Vec<CommitmentStageView>,
    /// The last switches of their levels, the newest first.
    switches: Vec<EventView>,
}

/// The commitment stages now.
pub(in crate::api) fn view(api: &Api) -> CommitmentView {
    let switches = api.live().events.list(0, &["commitment_switched"], MOST_SWITCHES);
    let nodes = api.watch.nodes().iter().filter(|node| node.kind == "commitment");
    let stages = nodes.map(|node| {
        let metrics = node.board.read();
        let value = |name: &str, word: Option<&'static str>| {
            let labelled = metrics.iter().filter(|metric| metric.name == name);
            let wanted = labelled.filter(|metric| {
                word.is_none() || metric.label.map(|(_, label)| label) == word.map(Into::into)
            });
            wanted.map(|metric| metric.value as u64).sum()
        };
        let configured = configured(api, &node.name);
        let shown = metrics.iter().find(|metric| metric.name == "commitment_level");
        CommitmentStageView {
            node: node.name.clone(),
            level: shown.map_or_else(|| configured.clone(), |level| word(level.value).to_owned()),
            configured,
            watermark_slot: value("watermark_slot", None),
            held_blocks: value("held_blocks", None),
            emitted_total: value("committed_blocks_total", None),
            dead_total: value("discarded_blocks_total", Some("dead")),
            orphaned_total: value("discarded_blocks_total", Some("orphaned")),
        }
    });
    let stages = stages.collect();
    CommitmentView { stages, switches }
}

/// The level behind its number.
fn word(level: f64) -> &'static str {
    match level as u64 {
        0 => "processed",
        1 => "confirmed",
        _ => "finalized",
    }
}

fn configured(api: &Api, node: &str) -> String {
    let nodes = api.watch.configuration()["nodes"].as_array();
    let options = nodes.into_iter().flatten().find(|one| one["name"] == node).map(|one| &one["options"]);
    let strategy = options.and_then(|options| options.get("strategy")).and_then(Value::as_str);
    if strategy == Some("adaptive") {
        return "adaptive".to_owned();
    }
    options.and_then(|options| options.get("level")).and_then(Value::as_str).unwrap_or("finalized").to_owned()
}

/// At which commitment slots are let out, and when that changed.
#[utoipa::path(
    get, path = "/api/v1/commitment", tag = "slots",
    responses((status = 200, description = "The commitment stages", body = CommitmentView))
)]
pub(in crate::api) async fn commitment(
    State(api): Shared,
    Params(Nothing {}): Params<Nothing>,
) -> Json<CommitmentView> {
    Json(view(&api))
}
