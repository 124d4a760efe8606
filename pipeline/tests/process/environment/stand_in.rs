//! An HTTP server that keeps what it was sent.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Serves until the test's process ends.
pub(super) struct StandIn {
    /// Where it listens.
    pub(super) url: String,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    /// A server that answers each body with what `answer` makes of it.
    pub(super) fn start(answer: fn(&str) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bodies);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                thread::spawn(move || while serve_one(&stream, answer, &kept).is_some() {});
            }
        });
        Self { url, bodies }
    }

    /// The bodies that it was sent.
    pub(super) fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers one request; `None` at the end of the connection. A client that waits for its answer sends nothing ahead, so
/// that the reader of each request begins where that of the last ended.
fn serve_one(stream: &TcpStream, answer: fn(&str) -> String, kept: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut lines = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        lines += 1;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    assert!(lines > 1, "a request has headers");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let answer = answer(&body);
    kept.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    let (mut stream, length) = (stream, answer.len());
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}"
    )
    .ok()
}
