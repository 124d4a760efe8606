//! The configuration, as it is used.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use crate::api::query::{Nothing, Params};
use crate::api::shared::Shared;

/// The pipeline's configuration: every option of every node, defaults included, secrets left out.
#[utoipa::path(
    get, path = "/api/v1/config", tag = "pipeline",
    responses((status = 200, description = "The configuration", body = Object))
)]
pub(in crate::api) async fn config(State(api): Shared, Params(Nothing {}): Params<Nothing>) -> Json<Value> {
    Json(api.watch.configuration().clone())
}
