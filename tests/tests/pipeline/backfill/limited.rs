//! An RPC node that measures how fast it is asked, refuses what is over its limit, and fails now and then.

use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;
use sluice_cluster::cluster::RpcOutcome;
use sluice_cluster::server::Running as Served;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What a node allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Requests each second.
    pub(super) requests_per_second: u32,
    /// Requests at once beyond that.
    pub(super) burst: u32,
    /// Every so many requests one fails.
    pub(super) errors: u64,
}

impl Limit {
    /// One that nobody reaches.
    pub(super) fn generous() -> Self {
        Self { requests_per_second: 10_000, burst: 10_000, errors: 40 }
    }
}

/// What a node saw.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Requests of any kind.
    pub(super) requests: u64,
    /// Those for a block.
    pub(super) blocks: usize,
    /// Those that were answered with "too many requests".
    pub(super) over_the_limit: u64,
    /// Those that failed for another reason.
    pub(super) errors: u64,
}

struct Bucket {
    tokens: f64,
    filled_at: Instant,
    seen: Seen,
    /// The slots whose blocks were asked for, in order.
    asked: Vec<u64>,
}

struct Node {
    served: Arc<Served>,
    limit: Limit,
    bucket: Mutex<Bucket>,
}

/// Served until it is dropped.
pub(super) struct Limited {
    pub(super) url: String,
    node: Arc<Node>,
    _tasks: JoinSet<()>,
}

impl Limited {
    pub(super) fn seen(&self) -> Seen {
        self.node.bucket().seen
    }

    /// The slots whose blocks were asked for since this was called last.
    pub(super) fn take_asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.node.bucket().asked)
    }
}

/// Starts it in front of `served`.
pub(super) async fn start(served: Arc<Served>, limit: Limit) -> Limited {
    let tokens = f64::from(limit.burst);
    let bucket = Bucket { tokens, filled_at: Instant::now(), seen: Seen::default(), asked: Vec::new() };
    let node = Arc::new(Node { served, limit, bucket: Mutex::new(bucket) });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let url = format!("http://{}", listener.local_addr().expect("it listens"));
    let router = Router::new().route("/", post(answer)).with_state(Arc::clone(&node));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        axum::serve(listener, router).await.ok();
    });
    Limited { url, node, _tasks: tasks }
}

impl Node {
    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is refused, if this request is.
    fn refusal(&self, call: &Value) -> Option<StatusCode> {
        let mut bucket = self.bucket();
        let rate = f64::from(self.limit.requests_per_second);
        let earned = bucket.filled_at.elapsed().as_secs_f64() * rate;
        bucket.filled_at = Instant::now();
        bucket.tokens = (bucket.tokens + earned).min(f64::from(self.limit.burst));
        bucket.seen.requests += 1;
        if call["method"] == "getBlock" {
            bucket.seen.blocks += 1;
            bucket.asked.extend(call["params"][0].as_u64());
        }
        if bucket.tokens < 1.0 {
            bucket.seen.over_the_limit += 1;
            return Some(StatusCode::TOO_MANY_REQUESTS);
        }
        bucket.tokens -= 1.0;
        let fails = bucket.seen.requests.is_multiple_of(self.limit.errors);
        bucket.seen.errors += u64::from(fails);
        fails.then_some(StatusCode::SERVICE_UNAVAILABLE)
    }
}

async fn answer(State(node): State<Arc<Node>>, body: Bytes) -> Response {
    let call: Value = serde_json::from_slice(&body).expect("a client sends JSON");
    match node.refusal(&call) {
        Some(StatusCode::TOO_MANY_REQUESTS) => {
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response();
        }
        Some(status) => return status.into_response(),
        None => {}
    }
    match node.served.cluster().rpc().request(node.served.now(), &call) {
        RpcOutcome::Answer(answer) => answer.to_string().into_response(),
        RpcOutcome::Http(code) => StatusCode::from_u16(code).expect("a status").into_response(),
        RpcOutcome::Timeout => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}
