//! A running Alertmanager, and what it sends to a webhook.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::program;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bodies that came, with their times.
type Bodies = Arc<Mutex<Vec<(SystemTime, Value)>>>;

/// The program, and the receiver that it tells.
pub(crate) struct Alertmanager {
    address: SocketAddr,
    bodies: Bodies,
    _child: Child,
    _tasks: JoinSet<()>,
}

impl Alertmanager {
    /// Starts it with a configuration in which `HOOK` stands for the url of the receiver; `None` if it is not there.
    pub(crate) async fn start(folder: &Path, configuration: &str) -> Option<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let hook = format!("http://{}/", listener.local_addr().expect("bound"));
        let bodies = Bodies::default();
        let router = Router::new().route("/", post(take)).with_state(Arc::clone(&bodies));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.expect("it serves till the end") });

        let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
        std::fs::write(folder.join("am.json"), configuration.replace("HOOK", &hook)).expect("writable");
        let child = Command::new(program("SLUICE_TEST_ALERTMANAGER", "prometheus-alertmanager"))
            .current_dir(folder)
            .args(["--config.file=am.json", "--storage.path=data", "--cluster.listen-address="])
            .arg(format!("--web.listen-address={free}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let started = Self { address: free, bodies, _child: child, _tasks: tasks };
        let ready = async {
            while started.ask("GET", "/-/ready", "").await.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("it starts");
        Some(started)
    }

    /// Posts JSON that it has to take.
    pub(crate) async fn post(&self, path: &str, body: &Value) {
        let answer = self.ask("POST", path, &body.to_string()).await.unwrap_or_default();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }

    /// What it has sent so far, and when.
    pub(crate) fn bodies(&self) -> Vec<(SystemTime, Value)> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}",
            self.address
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer).filter(|answer| !answer.is_empty())
    }
}

async fn take(State(bodies): State<Bodies>, body: String) {
    let body = serde_json::from_str(&body).expect("webhooks are JSON");
    bodies.lock().unwrap_or_else(PoisonError::into_inner).push((SystemTime::now(), body));
}
