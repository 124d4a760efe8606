//! A node made of canned answers, for tests.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server of canned answers.
pub(crate) struct FakeNode {
    /// Where it listens, with a key that nobody may show.
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeNode {
    /// Answers the first request with the first answer, and so on; the last one stands for all further requests.
    pub(crate) async fn start(answers: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/key/s3cret", listener.local_addr().expect("bound"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(listener, answers, Arc::clone(&seen)));
        Self { url, seen, task }
    }

    /// What it was asked so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let parse = |text: &String| serde_json::from_str(text).expect("a JSON request");
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().map(parse).collect()
    }
}

async fn serve(listener: TcpListener, answers: Vec<(&'static str, String)>, seen: Arc<Mutex<Vec<String>>>) {
    loop {
        let Ok((mut socket, _)) = listener.accept().await else { return };
        let Some(body) = read_request(&mut socket).await else { continue };
        let position = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(body);
            (seen.len() - 1).min(answers.len() - 1)
        };
        let (head, body) = &answers[position];
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        if socket.write_all(answer.as_bytes()).await.is_err() {
            continue;
        }
    }
}

async fn read_request(socket: &mut tokio::net::TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = socket.read(&mut part).await.ok().filter(|&count| count > 0)?;
        bytes.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(body.to_owned());
        }
    }
}

/// An answer with this result.
pub(crate) fn result(result: Value) -> (&'static str, String) {
    ("200 OK", json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string())
}
