//! The HTTP server of the RPC side: JSON-RPC 2.0, single calls and batches, by POST to `/`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Context, ServeError};
use crate::cluster::RpcOutcome;

/// Agave's limit of a request's body.
const MAX_BODY_BYTES: usize = 50 * 1024;
/// A call without an answer is held open for so long: longer than clients wait.
const SILENCE: Duration = Duration::from_secs(60);

/// Serves until it is cancelled.
pub(super) async fn serve(listener: TcpListener, context: Context) -> Result<(), ServeError> {
    let cancelled = context.cancel.clone().cancelled_owned();
    let router = Router::new()
        .route("/", post(answer))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(context);
    axum::serve(listener, router).with_graceful_shutdown(cancelled).await.map_err(ServeError::Rpc)
}

async fn answer(State(context): State<Context>, body: Bytes) -> Response {
    context.counters.rpc_requests.fetch_add(1, Ordering::Relaxed);
    let Ok(call) = serde_json::from_slice::<Value>(&body) else {
        let error = json!({ "code": -32_700, "message": "Parse error" });
        return json_body(&json!({ "jsonrpc": "2.0", "id": null, "error": error }));
    };
    match context.cluster.rpc().request(context.clock.now(), &call) {
        RpcOutcome::Answer(answer) => json_body(&answer),
        RpcOutcome::Http(code) => refused(code),
        RpcOutcome::Timeout => {
            tokio::select! {
                () = tokio::time::sleep(SILENCE) => {}
                () = context.cancel.cancelled() => {}
            }
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
    }
}

fn json_body(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn refused(code: u16) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    status.into_response()
}
