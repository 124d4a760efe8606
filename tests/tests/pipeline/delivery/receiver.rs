//! A receiver of webhooks on a real socket, which answers as it is told and checks each signature by a computation of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The signing secret, `whsec_` and base64 of 24 bytes.
pub(super) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Bytes of SHA-256's blocks.
const BLOCK_BYTES: usize = 64;

/// What the receiver answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Status(u16),
    RetryAfter(u16, &'static str),
}

/// A message that came in.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: Bytes,
    pub(super) at: Instant,
    /// Whether it was answered with 2xx.
    pub(super) taken: bool,
}

impl Message {
    pub(super) fn records(&self) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&self.body).expect("JSON");
        body["records"].as_array().expect("a list").clone()
    }
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    /// How long an answer takes, so that there is time to die before it.
    delay: Duration,
    received: Vec<Message>,
}

/// Listens until it is dropped.
pub(super) struct Receiver {
    pub(super) url: String,
    script: Arc<Mutex<Script>>,
    _tasks: JoinSet<()>,
}

impl Receiver {
    /// Answers as `answers` say, one after the other, and 204 from then on.
    pub(super) async fn start(answers: &[Answer]) -> Self {
        Self::slow(answers, Duration::ZERO).await
    }

    /// The same, but each answer takes its time.
    pub(super) async fn slow(answers: &[Answer], delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let url = format!("http://{}/hook", listener.local_addr().expect("it listens"));
        let answers = answers.iter().copied().collect();
        let script = Arc::new(Mutex::new(Script { answers, delay, received: Vec::new() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            axum::serve(listener, router).await.ok();
        });
        Self { url, script, _tasks: tasks }
    }

    /// All that came in.
    pub(super) fn received(&self) -> Vec<Message> {
        lock(&self.script).received.clone()
    }

    /// What came in and was taken.
    pub(super) fn taken(&self) -> Vec<Message> {
        self.received().into_iter().filter(|message| message.taken).collect()
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, headers: HeaderMap, body: Bytes) -> Response {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (id, timestamp) = (text("webhook-id"), text("webhook-timestamp"));
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body].concat();
    assert_eq!(text("webhook-signature"), format!("v1,{}", STANDARD.encode(hmac(&signed))), "of {id}");
    let (answer, delay) = {
        let mut script = lock(&script);
        let answer = script.answers.pop_front().unwrap_or(Answer::Status(204));
        let taken = matches!(answer, Answer::Status(200..=299));
        script.received.push(Message { id, body, at: Instant::now(), taken });
        (answer, script.delay)
    };
    tokio::time::sleep(delay).await;
    let status = |code: u16| StatusCode::from_u16(code).expect("a status");
    match answer {
        Answer::Status(code) => status(code).into_response(),
        Answer::RetryAfter(code, text) => (status(code), [(header::RETRY_AFTER, text)]).into_response(),
    }
}

/// HMAC-SHA256 (RFC 2104) with the secret.
fn hmac(message: &[u8]) -> Vec<u8> {
    let mut key = STANDARD.decode(&SECRET["whsec_".len()..]).expect("base64");
    key.resize(BLOCK_BYTES, 0);
    let padded = |pad: u8| key.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>();
    let inner = Sha256::digest([&padded(0x36)[..], message].concat());
    Sha256::digest([&padded(0x5c)[..], &inner].concat()).to_vec()
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}
