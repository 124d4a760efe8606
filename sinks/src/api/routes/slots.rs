//! The slot map.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::problem::Problem;
use crate::api::query::{DEFAULT_PAGE, MAX_INTEGER, MAX_PAGE, Nothing, Params, Segment, within};
use crate::api::shared::Shared;
use crate::api::state::{SlotState, SlotView};

/// Which slots are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct SlotsParams {
    /// Only slots of which this became.
    #[param(inline)]
    state: Option<SlotState>,
    /// Only slots below this one: the lowest slot of the page before.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    before: Option<u64>,
    /// Slots in the answer. Default 100.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u64>,
}

/// A page of slots.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SlotsView {
    /// How many of the slots that are remembered are in each state.
    counts: BTreeMap<SlotState, u64>,
    /// The slots, the highest first.
    slots: Vec<SlotView>,
    /// What to give as `before` for the next page; none on the last one.
    next: Option<u64>,
}

/// Recent slots and what became of them, the highest first.
#[utoipa::path(
    get, path = "/api/v1/slots", tag = "slots", params(SlotsParams),
    responses((status = 200, description = "A page of slots", body = SlotsView))
)]
pub(in crate::api) async fn slots(
    State(api): Shared,
    Params(params): Params<SlotsParams>,
) -> Result<Json<SlotsView>, Problem> {
    let before = params.before.map(|before| within("before", before, 0..=MAX_INTEGER)).transpose()?;
    let limit = within("limit", params.limit.unwrap_or(DEFAULT_PAGE), 1..=MAX_PAGE)? as usize;
    let states: Vec<SlotState> = params.state.into_iter().collect();
    let live = api.live();
    let slots = live.slots.list(before, &states, limit);
    let next = slots.last().map(|last| last.slot).filter(|_| slots.len() == limit);
    Ok(Json(SlotsView { counts: live.slots.counts(), slots, next }))
}

/// One slot.
#[utoipa::path(
    get, path = "/api/v1/slots/{slot}", tag = "slots",
    params(("slot" = u64, Path, description = "The slot's number", maximum = 9_007_199_254_740_991_u64)),
    responses((status = 200, description = "The slot", body = SlotView))
)]
pub(in crate::api) async fn slot(
    State(api): Shared,
    Segment(slot): Segment<u64>,
    Params(Nothing {}): Params<Nothing>,
) -> Result<Json<SlotView>, Problem> {
    let slot = within("slot", slot, 0..=MAX_INTEGER)?;
    let found = api.live().slots.get(slot);
    let unknown = || Problem::not_found(format!("slot {slot} is not among the recent ones"));
    found.map(Json).ok_or_else(unknown)
}
