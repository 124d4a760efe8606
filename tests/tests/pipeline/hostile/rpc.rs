//! An RPC node that answers each question with rubbish a few times before it tells the truth.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::routing::post;
use futures::stream;
use serde_json::{Value, json};
use sluice_cluster::cluster::RpcOutcome;
use sluice_cluster::server::Running as Served;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Kinds of rubbish.
pub(super) const KINDS: usize = 12;
/// How often a question gets rubbish.
const RUBBISH_PER_QUESTION: usize = 2;
/// Pieces of an answer that does not end: more than any client should take.
const ENDLESS_PIECES: usize = 300;
/// Length of such a piece.
const PIECE_BYTES: usize = 1 << 20;

/// Served until it is dropped.
pub(super) struct Hostile {
    /// Where it listens.
    pub(super) url: String,
    node: Arc<Node>,
    _tasks: JoinSet<()>,
}

impl Hostile {
    /// Rubbish sent so far.
    pub(super) fn rubbish(&self) -> u64 {
        self.node.sent.load(Ordering::Relaxed)
    }
}

struct Node {
    served: Arc<Served>,
    asked: Mutex<HashMap<String, usize>>,
    sent: AtomicU64,
}

/// Starts it, with the truth from `served`.
pub(super) async fn start(served: Arc<Served>) -> Hostile {
    let node = Arc::new(Node { served, asked: Mutex::default(), sent: AtomicU64::new(0) });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let url = format!("http://{}", listener.local_addr().expect("it listens"));
    let router = Router::new().route("/", post(answer)).with_state(Arc::clone(&node));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        axum::serve(listener, router).await.ok();
    });
    Hostile { url, node, _tasks: tasks }
}

impl Node {
    /// The answer to another question: the block of the slot before.
    fn other_block(&self, call: &Value) -> Value {
        let mut other = call.clone();
        let slot = call["params"][0].as_u64().unwrap_or_default();
        other["params"][0] = json!(slot.saturating_sub(1));
        self.truth(&other)
    }

    fn truth(&self, call: &Value) -> Value {
        match self.served.cluster().rpc().request(self.served.now(), call) {
            RpcOutcome::Answer(truth) => truth,
            RpcOutcome::Http(_) | RpcOutcome::Timeout => Value::Null,
        }
    }

    /// Every third slot's rubbish is a block that is true, but another slot's.
    fn asks_for_a_mix_up(&self, call: &Value) -> bool {
        call["params"][0].as_u64().is_some_and(|slot| slot % 3 == 0)
    }

    /// Whether a question gets rubbish now, and which.
    fn rubbish(&self, call: &Value) -> Option<usize> {
        let question = format!("{} {}", call["method"], call["params"][0]);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asked.entry(question).or_default();
        *count += 1;
        (*count <= RUBBISH_PER_QUESTION).then(|| self.sent.fetch_add(1, Ordering::Relaxed) as usize)
    }
}

async fn answer(State(node): State<Arc<Node>>, body: Bytes) -> Response<Body> {
    let call: Value = serde_json::from_slice(&body).expect("a client sends JSON");
    let truth = node.truth(&call);
    match node.rubbish(&call) {
        Some(_) if call["method"] == "getBlock" && node.asks_for_a_mix_up(&call) => {
            respond(200, Body::from(node.other_block(&call).to_string()))
        }
        // An answer without an end is sent once: it is long.
        Some(number) if number == KINDS - 1 => respond(200, endless()),
        Some(number) => rubbish(number % (KINDS - 1), &call, &truth),
        None => respond(200, Body::from(truth.to_string())),
    }
}

fn respond(status: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

fn rubbish(kind: usize, call: &Value, truth: &Value) -> Response<Body> {
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }).to_string();
    let error = |code: i64, message: &str| {
        let error = json!({ "code": code, "message": message });
        json!({ "jsonrpc": "2.0", "id": call["id"], "error": error }).to_string()
    };
    let text = match kind {
        0 => "<html><body>please log in</body></html>".to_owned(),
        1 => return respond(502, Body::from("<html>bad gateway</html>")),
        2 => String::new(),
        3 => result(json!("a text")),
        4 => result(json!({ "transactions": 5, "blockhash": [], "parentSlot": "x" })),
        5 => {
            let whole = truth.to_string();
            whole.chars().take(whole.chars().count() / 2).collect()
        }
        6 => "[".repeat(100_000),
        7 => result(json!([u64::MAX, -1, 3.5])),
        8 => error(i64::MIN, "?"),
        9 => error(-32_007, "Slot was skipped, or missing due to ledger jump to recent snapshot"),
        _ => return respond(200, Body::from(vec![0xff, 0xfe, 0x00, 0x80])),
    };
    respond(200, Body::from(text))
}

fn endless() -> Body {
    let piece = Bytes::from(vec![b' '; PIECE_BYTES]);
    Body::from_stream(stream::iter((0..ENDLESS_PIECES).map(move |_| Ok::<_, std::io::Error>(piece.clone()))))
}
