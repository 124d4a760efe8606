//! A live look at what a node gives out.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::json;
use sluice_stages::batch::EndpointId;
use sluice_stages::component::Role;
use sluice_stages::tap::{ITEMS_A_SECOND, TapFilter, TapReader};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use crate::api::problem::Problem;
use crate::api::query::{MAX_INTEGER, Params, Segment, short, within};
use crate::api::shared::{Api, Shared};

/// Lines that a reader may ask for.
const MAX_LINES: u64 = 1_000_000;
/// Lines a second that a reader may ask for.
const MAX_RATE: u64 = 100_000;

/// What is wanted of the node.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct TapParams {
    /// Only items of this kind: `transaction`, `account`, `block`, `status`, …
    #[param(max_length = 100)]
    kind: Option<String>,
    /// Only items of this slot.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    slot: Option<u64>,
    /// Only items from this endpoint.
    #[param(max_length = 200)]
    endpoint: Option<String>,
    /// Lines after which the answer ends. Default: none, it goes on for as long as the client reads.
    #[param(minimum = 1, maximum = 1_000_000)]
    limit: Option<u64>,
    /// Lines a second, at most. Default: 1000.
    #[param(minimum = 1, maximum = 100_000)]
    rate: Option<u64>,
}

impl TapParams {
    fn filter(&self, api: &Api) -> Result<TapFilter, Problem> {
        let slot = self.slot.map(|slot| within("slot", slot, 0..=MAX_INTEGER)).transpose()?;
        let endpoint = short("endpoint", self.endpoint.clone(), 200)?;
        let endpoint = endpoint.map(|name| endpoint_id(api, &name)).transpose()?;
        Ok(TapFilter { kind: short("kind", self.kind.clone(), 100)?, slot, endpoint })
    }
}

fn endpoint_id(api: &Api, name: &str) -> Result<EndpointId, Problem> {
    let found = api.watch.endpoints().iter().find(|endpoint| *endpoint.name == *name);
    found.map(|endpoint| endpoint.id).ok_or_else(|| Problem::not_found("there is no such endpoint"))
}

/// Items that a node gives out, live, one JSON object a line.
///
/// A sample: of each batch the first items that fit, no more than `rate` a second, and none for which the client has no room;
/// a line `{"missed": n}` says how many were left out for that. It can't hold the pipeline up.
#[utoipa::path(
    get, path = "/api/v1/nodes/{node}/tap", tag = "stream",
    params(("node" = String, Path, description = "The node's name"), TapParams),
    responses((status = 200, description = "JSON lines for as long as the client reads", content_type = "application/x-ndjson", body = String))
)]
pub(in crate::api) async fn tap(
    State(api): Shared,
    Segment(node): Segment<String>,
    Params(params): Params<TapParams>,
) -> Result<Response, Problem> {
    let filter = params.filter(&api)?;
    let left = within("limit", params.limit.unwrap_or(MAX_LINES), 1..=MAX_LINES)?;
    let rate = within("rate", params.rate.unwrap_or(ITEMS_A_SECOND), 1..=MAX_RATE)?;
    let node = api.watch.nodes().iter().find(|known| known.name == node);
    let node = node.ok_or_else(|| Problem::not_found("there is no such node; /api/v1/graph lists them"))?;
    if node.role == Role::Sink {
        return Err(Problem::not_found("a sink gives nothing out; tap the node that it reads"));
    }
    let busy = |error: sluice_stages::tap::TooManyReaders| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_after(5)
    };
    let reader = node.tap.read(filter, rate).map_err(busy)?;
    let closing = api.closing.clone();
    let lines = stream::unfold(Lines { api, reader, closing, left }, async |mut lines| {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(line), lines))
    })
    .fuse();
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

struct Lines {
    api: Arc<Api>,
    reader: TapReader,
    closing: CancellationToken,
    left: u64,
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        self.left = self.left.checked_sub(1)?;
        let item = tokio::select! {
            item = self.reader.recv() => item?,
            () = self.closing.cancelled() => return None,
        };
        let mut text = String::new();
        let missed = self.reader.take_missed();
        if missed > 0 {
            text = format!("{}\n", json!({ "missed": missed }));
        }
        let value = item.to_json(|id| self.api.watch.endpoint(id).to_owned());
        text.push_str(&format!("{value}\n"));
        Some(text.into())
    }
}
