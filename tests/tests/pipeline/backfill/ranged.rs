//! A server of one file in ranges, which fails now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

struct File {
    bytes: Vec<u8>,
    requests: AtomicU64,
    errors: u64,
}

/// Served until it is dropped.
pub(super) struct Ranged {
    pub(super) url: String,
    _tasks: JoinSet<()>,
}

/// Serves `bytes`; the first of every `errors` requests fails.
pub(super) async fn start(bytes: Vec<u8>, errors: u64) -> Ranged {
    let file = Arc::new(File { bytes, requests: AtomicU64::new(0), errors });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let url = format!("http://{}/epoch.car", listener.local_addr().expect("it listens"));
    let router = Router::new().route("/epoch.car", get(answer)).with_state(file);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        axum::serve(listener, router).await.ok();
    });
    Ranged { url, _tasks: tasks }
}

async fn answer(State(file): State<Arc<File>>, headers: HeaderMap) -> Response {
    if file.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(file.errors) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok()).expect("a range");
    let (first, last) =
        range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).expect("a range");
    let first: usize = first.parse().expect("a number");
    let last = last.parse::<usize>().expect("a number").min(file.bytes.len() - 1);
    let content_range = format!("bytes {first}-{last}/{}", file.bytes.len());
    let part = file.bytes[first..=last].to_vec();
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, content_range)], part).into_response()
}
