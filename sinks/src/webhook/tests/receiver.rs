//! A receiver of webhooks, on a real socket, that answers as it is told and checks every signature.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use sluice_config::Secret;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::delivery::signing::Signer;

pub(super) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What the receiver answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Status(u16),
    RetryAfter(u16, &'static str),
    Redirect,
    Hang,
}

/// A message that came in.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) id: String,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) at: Instant,
    /// Whether it was answered with 2xx.
    pub(super) taken: bool,
}

impl Received {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    /// What follows the script.
    otherwise: Option<Answer>,
    received: Vec<Received>,
}

/// The receiver; gone when it is dropped.
pub(super) struct TestReceiver {
    pub(super) url: String,
    script: Arc<Mutex<Script>>,
    server: JoinHandle<()>,
}

impl Drop for TestReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl TestReceiver {
    /// Answers as `answers` say, one after the other, and 204 from then on.
    pub(super) async fn start(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook?token=hunter2", listener.local_addr().expect("bound"));
        let script = Script { answers: answers.iter().copied().collect(), ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { url, script, server }
    }

    /// Answers so from now on, when the script is at its end.
    pub(super) fn otherwise(&self, answer: Answer) {
        lock(&self.script).otherwise = Some(answer);
    }

    /// All that came in.
    pub(super) fn received(&self) -> Vec<Received> {
        lock(&self.script).received.clone()
    }

    /// What came in and was taken.
    pub(super) fn taken(&self) -> Vec<Received> {
        self.received().into_iter().filter(|message| message.taken).collect()
    }

    /// Slots of the block records that were taken, in order.
    pub(super) fn block_slots(&self) -> Vec<u64> {
        let records = |message: Received| message.json()["records"].as_array().cloned().unwrap_or_default();
        let all = self.taken().into_iter().flat_map(records);
        all.filter(|record| record["type"] == "block").filter_map(|record| record["slot"].as_u64()).collect()
    }
}

async fn answer(
    State(script): State<Arc<Mutex<Script>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (id, timestamp) = (text("webhook-id"), text("webhook-timestamp"));
    if headers.contains_key("webhook-signature") {
        let signer = Signer::try_new(&[Secret::new(SECRET)]).expect("a secret");
        let seconds = timestamp.parse().expect("a time");
        assert_eq!(signer.sign(&id, seconds, &body), Some(text("webhook-signature")));
    }
    let answer = {
        let mut script = lock(&script);
        let next = script.answers.pop_front().or(script.otherwise).unwrap_or(Answer::Status(204));
        let taken = matches!(next, Answer::Status(status) if (200..300).contains(&status));
        let path = uri.path().to_owned();
        script.received.push(Received { id, path, headers, body, at: Instant::now(), taken });
        next
    };
    let status = |status: u16| StatusCode::from_u16(status).expect("a status");
    match answer {
        Answer::Status(code) => status(code).into_response(),
        Answer::RetryAfter(code, text) => (status(code), [(header::RETRY_AFTER, text)]).into_response(),
        Answer::Redirect => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response()
        }
        Answer::Hang => {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            StatusCode::OK.into_response()
        }
    }
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}
