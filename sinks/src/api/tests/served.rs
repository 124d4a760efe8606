//! A running API to send requests to.

use std::net::SocketAddr;

use serde_json::Value;
use sluice_stages::component::{BuildContext, Component, Node};
use sluice_stages::edge::{EdgeConfig, Inbox, Outbox, connect};
use sluice_stages::node::{Clock, EventSink, MetricBoard, NodeContext, RequestSender};
use sluice_stages::watch::Watch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::options::ApiOptions;

/// A running API, and the edge that feeds it.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    pub(super) feed: Outbox,
    task: JoinHandle<()>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    headers: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

impl Served {
    pub(super) fn start(options: ApiOptions) -> Self {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = probe.local_addr().expect("bound");
        drop(probe);
        let mut context = BuildContext::new();
        let built = ApiOptions { listen: address, ..options }.build(&mut context).expect("valid");
        let Node::Sink(sink) = built else { panic!("an API is a sink") };
        let (mut feed, mut inbox) = (Outbox::default(), Inbox::default());
        connect(&mut feed, &mut inbox, EdgeConfig::default());
        let (events, _) = mpsc::channel(1);
        let context = NodeContext {
            name: "api".to_owned(),
            stop: CancellationToken::new(),
            clock: Clock::start(),
            budget: sluice_stages::budget::Budget::new(1 << 20),
            events: EventSink::new("api", events),
            requests: RequestSender::default(),
            metrics: MetricBoard::default(),
            watch: Watch::default(),
        };
        let task = tokio::spawn(async move { sink.run(inbox, context).await.expect("runs to its end") });
        Self { address, feed, task }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text.push_str("Host: localhost\r\n");
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let mut stream = TcpStream::connect(self.address).await.expect("listens");
        stream.write_all(text.as_bytes()).await.expect("sent");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("read");
        parse(&String::from_utf8_lossy(&bytes))
    }

    /// Waits until the API has taken in what was sent: `path` answers with what `is_there` wants.
    pub(super) async fn until(&self, path: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..500 {
            let answer = self.get(path).await;
            if answer.status == 200 && is_there(&answer.json()) {
                return answer.json();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("never came: {path}");
    }

    pub(super) async fn end(self) {
        drop(self.feed);
        self.task.await.expect("no panic");
    }
}

pub(super) fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, headers: headers.to_owned(), body: body.to_owned() }
}
