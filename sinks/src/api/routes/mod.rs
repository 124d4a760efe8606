//! The routes: one file for each resource.

pub(super) mod alerts;
pub(super) mod commitment;
pub(super) mod config;
pub(super) mod datasets;
pub(super) mod endpoints;
pub(super) mod events;
pub(super) mod graph;
pub(super) mod health;
pub(super) mod history;
pub(super) mod metrics;
pub(super) mod recovery;
pub(super) mod silences;
pub(super) mod slots;
pub(super) mod tap;
pub(super) mod transactions;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use utoipa::IntoParams;

use super::problem::Problem;
use super::query::Params;
use super::sink::Api;
use super::stream::{self, Topic};
use super::{assets, conditional, guard, openapi};

/// What handlers are given.
type Shared = State<Arc<Api>>;

/// All routes, behind the guard.
pub(super) fn router(api: &Arc<Api>) -> Router {
    // Lines of a tap are to be seen when they come, not when a compressor has enough of them.
    let whole = DefaultPredicate::new().and(NotForContentType::const_new("application/x-ndjson"));
    Router::new()
        .merge(assets::router())
        .merge(resources())
        .route("/metrics", get(metrics::exposition))
        .route("/openapi.json", get(openapi::serve))
        .route("/api/v1/stream", get(stream_events))
        .route("/api/v1/nodes/{node}/tap", get(tap::tap))
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(api.options.max_body_bytes))
        .layer(from_fn(conditional::conditional))
        .layer(CompressionLayer::new().compress_when(whole))
        .layer(from_fn_with_state(Arc::clone(api), guard::guard))
        .with_state(Arc::clone(api))
}

fn resources() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/v1/performance/metrics", get(metrics::metrics))
        .route("/api/v1/performance/history", get(history::history))
        .route("/api/v1/history", get(history::history))
        .route("/api/v1/alerts", get(alerts::alerts))
        .route("/api/v1/alerts/history", get(alerts::changes))
        .route("/api/v1/silences", get(silences::list).post(silences::add))
        .route("/api/v1/silences/{id}", get(silences::one).delete(silences::expire))
        .route("/api/v1/health", get(health::health))
        .route("/api/v1/health/live", get(health::live))
        .route("/api/v1/health/ready", get(health::ready))
        .route("/api/v1/endpoints", get(endpoints::endpoints))
        .route("/api/v1/slots", get(slots::slots))
        .route("/api/v1/slots/{slot}", get(slots::slot))
        .route("/api/v1/recovery", get(recovery::recovery))
        .route("/api/v1/commitment", get(commitment::commitment))
        .route("/api/v1/graph", get(graph::graph))
        .route("/api/v1/datasets", get(datasets::datasets))
        .route("/api/v1/datasets/{dataset}/files", get(datasets::files))
        .route("/api/v1/transactions/{signature}", get(transactions::transaction))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/config", get(config::config))
}

async fn unknown(uri: Uri) -> Problem {
    Problem::not_found(format!("there is no `{}`; /openapi.json lists what there is", uri.path()))
}

async fn not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("`{}` does not know {method}; `Allow` lists what it knows", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// What the stream is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// Topics, with commas between them. Default: all.
    #[param(
        example = "metrics,slots",
        pattern = "^(metrics|graph|endpoints|slots|alerts|recovery|events)(,(metrics|graph|endpoints|slots|alerts|recovery|events))*$"
    )]
    topics: Option<String>,
}

impl StreamParams {
    fn topics(&self) -> Result<Vec<Topic>, Problem> {
        let Some(words) = &self.topics else { return Ok(Topic::ALL.to_vec()) };
        let topic = |word: &str| {
            let unknown = |_| Problem::parameter("topics", format!("there is no topic `{word}`"));
            serde_json::from_value(word.into()).map_err(unknown)
        };
        words.split(',').map(topic).collect()
    }
}

/// The pipeline live: server-sent events.
///
/// One event for each topic, at once in full and then each second; of `slots` and `events` only what changed. The data
/// of each is what the resource of the same name answers. A client that is too slow misses frames and then gets
/// everything anew.
#[utoipa::path(
    get, path = "/api/v1/stream", tag = "stream", params(StreamParams),
    responses((status = 200, description = "Events for as long as the client reads", content_type = "text/event-stream", body = String))
)]
pub(super) async fn stream_events(
    State(api): Shared,
    Params(params): Params<StreamParams>,
) -> Result<Response, Problem> {
    stream::begin(api, params.topics()?)
}

/// Where a page begins and how long it may be.
pub(super) const MAX_PAGE: u64 = 1_000;
/// A page, if nothing is said.
pub(super) const DEFAULT_PAGE: u64 = 100;
/// The highest number that JSON clients read exactly.
pub(super) const MAX_INTEGER: u64 = (1 << 53) - 1;
