//! What happened.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::problem::Problem;
use crate::api::query::{DEFAULT_PAGE, MAX_INTEGER, MAX_PAGE, Params, short, within};
use crate::api::shared::Shared;
use crate::api::state::EventView;

/// Which events are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct EventsParams {
    /// Only events of this kind, e.g. `hole_opened`.
    #[param(max_length = 100)]
    kind: Option<String>,
    /// Only events behind the one with this number.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    after: Option<u64>,
    /// Events in the answer. Default 100.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u64>,
}

/// Events.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct EventsView {
    /// The number of the newest event.
    newest: u64,
    /// The events, the newest first.
    events: Vec<EventView>,
}

/// What happened lately: connections, gaps, holes, commits, discards, switches of the commitment.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "pipeline", params(EventsParams),
    responses((status = 200, description = "The events", body = EventsView))
)]
pub(in crate::api) async fn events(
    State(api): Shared,
    Params(params): Params<EventsParams>,
) -> Result<Json<EventsView>, Problem> {
    let after = within("after", params.after.unwrap_or(0), 0..=MAX_INTEGER)?;
    let limit = within("limit", params.limit.unwrap_or(DEFAULT_PAGE), 1..=MAX_PAGE)?;
    let kind = short("kind", params.kind, 100)?;
    let kinds: Vec<&str> = kind.as_deref().into_iter().collect();
    let live = api.live();
    let events = live.events.list(after, &kinds, limit as usize);
    Ok(Json(EventsView { newest: live.events.newest(), events }))
}
