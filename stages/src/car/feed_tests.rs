//! A server that behaves as it is told stands in for those of the network.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// An answer; the connection breaks off behind its body.
#[derive(Debug, Clone)]
struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// What the answer promises.
    length: usize,
}

struct Server {
    url: Secret,
    /// The ranges that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Gives the answers one after the other; the last one stands for all further requests.
    async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = Secret::new(format!("http://{}/s3cret/1.car", listener.local_addr().expect("bound")));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            for position in 0.. {
                let Ok((mut socket, _)) = listener.accept().await else { return };
                let mut request = vec![0; 4_096];
                let length = socket.read(&mut request).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&request[..length]).to_lowercase();
                let range = text.lines().find_map(|line| line.strip_prefix("range: ")).unwrap_or_default();
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(range.to_owned());
                let Answer { status, headers, body, length } = &answers[position.min(answers.len() - 1)];
                let headers: String =
                    headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
                );
                if socket.write_all(head.as_bytes()).await.is_ok() {
                    socket.write_all(body).await.ok();
                }
            }
        });
        Self { url, asked, task }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Bytes `from..to` of a file of ten bytes, of which all up to its end are promised.
fn part(from: usize, to: usize, version: &str) -> Answer {
    let body = (from..to).map(|byte| byte as u8).collect();
    let headers = vec![("content-range", format!("bytes {from}-9/10")), ("etag", format!("\"{version}\""))];
    Answer { status: "206 Partial Content", headers, body, length: 10 - from }
}

fn refusal(status: &'static str) -> Answer {
    Answer { status, headers: Vec::new(), body: Vec::new(), length: 0 }
}

/// All bytes that come of these answers, and the ranges that were asked for.
async fn read(answers: Vec<Answer>) -> (Result<Vec<u8>, FeedError>, Vec<String>) {
    let server = Server::start(answers).await;
    let mut feed = Feed::http(server.url.clone()).expect("a client");
    let mut bytes = Vec::new();
    loop {
        match feed.next().await {
            Ok(Some(part)) => bytes.extend_from_slice(&part),
            Ok(None) => return (Ok(bytes), server.asked()),
            Err(error) => return (Err(error), server.asked()),
        }
    }
}

async fn error(answers: Vec<Answer>) -> String {
    let error = read(answers).await.0.expect_err("it fails").to_string();
    assert!(!error.contains("s3cret"), "{error}");
    error
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_gone_on_with_behind_what_came() {
    let (bytes, asked) =
        read(vec![part(0, 4, "a"), refusal("503 Service Unavailable"), part(4, 7, "a"), part(7, 10, "a")])
            .await;
    assert_eq!(bytes.expect("all of it"), Vec::from_iter(0..10));
    let firsts: Vec<&str> = asked.iter().filter_map(|range| range.split('-').next()).collect();
    assert_eq!(firsts, ["bytes=0", "bytes=4", "bytes=4", "bytes=7"]);
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_not_mixed_with_itself() {
    assert!(error(vec![part(0, 4, "a"), part(4, 10, "b")]).await.contains("changed while it was read"));
    let mut longer = part(4, 10, "a");
    longer.headers[0].1 = "bytes 4-9/11".to_owned();
    assert!(error(vec![part(0, 4, "a"), longer]).await.contains("changed while it was read"));
    let gone = error(vec![part(0, 4, "a"), refusal("416 Range Not Satisfiable")]).await;
    assert!(gone.contains("changed while it was read"), "{gone}");
}

#[tokio::test]
async fn a_server_that_does_not_do_ranges_is_told_with_a_way_out() {
    let whole = Answer { status: "200 OK", headers: Vec::new(), body: vec![0; 10], length: 10 };
    assert!(error(vec![whole]).await.contains("download it, and give its path"));
    assert!(error(vec![part(3, 10, "a")]).await.contains("another range than was asked for"));
    let mut silent = part(0, 10, "a");
    silent.headers.remove(0);
    assert!(error(vec![silent]).await.contains("does not say which range"));
    assert!(error(vec![refusal("404 Not Found")]).await.contains("404"));
}

#[test]
fn a_wait_is_read_from_seconds_or_a_date() {
    let read = |text: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().expect("ASCII"));
        retry_after(&headers, Timestamp(784_111_770_000_000))
    };
    assert_eq!(read("3"), Some(Duration::from_secs(3)));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
    assert_eq!(read("soon"), None);
}

#[test]
fn ranges_are_read_as_servers_write_them() {
    let read = |text: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, text.parse().expect("ASCII"));
        content_range(&headers)
    };
    assert_eq!(read("bytes 5-9/100"), Some((5, 100)));
    assert_eq!(read("bytes 5-9/*"), None);
    assert_eq!(read("bytes */100"), None);
}
