//! Which path leads where, and what every request passes on its way.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};

use super::problem::Problem;
use super::routes::{
    alerts, commitment, config, datasets, endpoints, events, graph, health, history, metrics, recovery,
    silences, slots, stream, tap, transactions,
};
use super::shared::Api;
use super::{assets, conditional, guard, openapi};

/// All routes, behind the guard.
pub(super) fn router(api: &Arc<Api>) -> Router {
    // Lines of a tap are to be seen when they come, not when a compressor has enough of them.
    let whole = DefaultPredicate::new().and(NotForContentType::const_new("application/x-ndjson"));
    Router::new()
        .merge(assets::router())
        .merge(resources())
        .route("/metrics", get(metrics::exposition))
        .route("/openapi.json", get(openapi::serve))
        .route("/api/v1/stream", get(stream::stream))
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
