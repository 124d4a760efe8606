//! An HTTP server that takes webhooks.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The server; gone when it is dropped.
pub(super) struct Hook {
    /// Where it takes them.
    pub(super) url: String,
    bodies: Bodies,
    _tasks: JoinSet<()>,
}

type Bodies = Arc<Mutex<Vec<String>>>;

impl Hook {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let url = format!("http://{}/hook", listener.local_addr().expect("it listens"));
        let bodies = Bodies::default();
        let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&bodies));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.expect("it serves till the end") });
        Self { url, bodies, _tasks: tasks }
    }

    /// All bodies so far.
    pub(super) fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn take(State(bodies): State<Bodies>, body: String) -> StatusCode {
    bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    StatusCode::NO_CONTENT
}
