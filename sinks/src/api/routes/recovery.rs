//! Gaps and what becomes of them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::commitment::{self, CommitmentView};
use super::health::{self, HealthView};
use crate::api::query::{Nothing, Params};
use crate::api::shared::{Api, Shared};
use crate::api::state::{EventView, SlotState, SlotView};

/// Slots and events in an answer.
const MOST_SHOWN: usize = 100;

/// How recovery does.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RecoveryView {
    /// Slots that it began to look for.
    found_total: u64,
    /// Slots that were settled, by the way they came: `live`, `replay`, `rpc`, `skip_proven`.
    recovered_total: BTreeMap<String, u64>,
    /// Fetches that failed.
    failures_total: u64,
    /// Missing slots that are looked for now.
    searching: u64,
    /// Fetches under way.
    in_flight: u64,
    /// Slots that can't be had for now.
    holes: u64,
    /// Slots that are known to be missing, the highest first; at most 100.
    missing_slots: Vec<SlotView>,
    /// Slots that can't be had for now, the highest first; at most 100.
    hole_slots: Vec<SlotView>,
    /// What happened last, the newest first.
    events: Vec<EventView>,
}

/// What the dashboard shows of the ledger.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Overview {
    recovery: RecoveryView,
    commitment: CommitmentView,
    slots: BTreeMap<SlotState, u64>,
    health: HealthView,
}

/// Recovery now.
pub(in crate::api) fn view(api: &Api) -> RecoveryView {
    let watch = &api.watch;
    let live = api.live();
    let kinds = ["gap_found", "gap_filled", "hole_opened", "given_up"];
    RecoveryView {
        found_total: watch.sum("recovery_found_slots_total"),
        recovered_total: watch.by_label("recovered_slots_total"),
        failures_total: watch.sum("recovery_failures_total"),
        searching: watch.sum("recovery_searches"),
        in_flight: watch.sum("recovery_in_flight"),
        holes: watch.sum("holes"),
        missing_slots: live.slots.list(None, &[SlotState::Missing], MOST_SHOWN),
        hole_slots: live.slots.list(None, &[SlotState::Hole], MOST_SHOWN),
        events: live.events.list(0, &kinds, MOST_SHOWN),
    }
}

/// Recovery, commitment, the counts of the slot map, and health.
pub(in crate::api) fn overview(api: &Api) -> Overview {
    let mut recovery = view(api);
    // The stream tells events by themselves.
    recovery.events.clear();
    let slots = api.live().slots.counts();
    Overview { recovery, commitment: commitment::view(api), slots, health: health::view(api) }
}

/// What was missing, what was brought back and how, and what can't be had.
#[utoipa::path(
    get, path = "/api/v1/recovery", tag = "slots",
    responses((status = 200, description = "Recovery", body = RecoveryView))
)]
pub(in crate::api) async fn recovery(
    State(api): Shared,
    Params(Nothing {}): Params<Nothing>,
) -> Json<RecoveryView> {
    Json(view(&api))
}
