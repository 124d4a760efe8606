//! The stream: what its clients are given, and when it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::served::Served;
use super::{ApiOptions, alert};

/// What each frame has in full.
const STATES: [&str; 5] = ["metrics", "graph", "endpoints", "alerts", "recovery"];

/// Texts of a frame by topic.
type Frame = BTreeMap<String, String>;

async fn begin(served: &Served, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).await.expect("listens");
    // An answer in HTTP/1.0 is not cut into chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream
}

/// The frames that a client is given until it has `wanted`, by their number and in their order.
async fn frames(stream: &mut TcpStream, wanted: usize) -> Vec<(u64, Frame)> {
    let (mut frames, mut frame, mut text) = (Vec::new(), Frame::new(), String::new());
    while frames.len() < wanted {
        let mut piece = vec![0; 64 << 10];
        let length = stream.read(&mut piece).await.expect("read");
        assert!(length > 0, "ended early: {text}");
        text.push_str(std::str::from_utf8(&piece[..length]).expect("text"));
        while let Some((block, rest)) = text.split_once("\n\n") {
            if let Some((topic, data)) =
                block.strip_prefix("event: ").and_then(|event| event.split_once("\ndata: "))
            {
                frame.insert(topic.to_owned(), data.to_owned());
            }
            if let Some(end) = frame.get("frame") {
                let end: Value = serde_json::from_str(end).expect("JSON");
                frames.push((end["number"].as_u64().expect("a number"), std::mem::take(&mut frame)));
            }
            text = rest.to_owned();
        }
    }
    frames
}

#[tokio::test]
async fn whoever_comes_when_is_given_the_same_under_one_number() {
    let served = Served::start(ApiOptions::default());
    let mut first = begin(&served, "/api/v1/stream").await;
    let first = tokio::spawn(async move { frames(&mut first, 5).await });
    let mut others = Vec::new();
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(170)).await;
        let mut other = begin(&served, "/api/v1/stream").await;
        others.push(tokio::spawn(async move { frames(&mut other, 3).await }));
    }
    let first = first.await.expect("no panic");
    let expected = first.iter().map(|(number, frame)| (*number, frame)).collect::<BTreeMap<_, _>>();
    let mut compared = 0;
    for other in others {
        let given = other.await.expect("no panic");
        let numbers = given.iter().map(|(number, _)| *number).collect::<Vec<_>>();
        assert_eq!(
            numbers,
            (numbers[0]..).take(given.len()).collect::<Vec<_>>(),
            "none twice, none left out"
        );
        for (number, frame) in given {
            let Some(expected) = expected.get(&number) else { continue };
            for topic in STATES {
                assert_eq!(frame.get(topic), expected.get(topic), "{topic} of frame {number}");
                assert!(frame.contains_key(topic), "{topic} of frame {number}");
            }
            assert_eq!(frame["frame"], expected["frame"]);
            compared += 1;
        }
    }
    assert!(compared > 12, "{compared} frames compared");
    served.end().await;
}

#[tokio::test]
async fn it_has_what_was_asked_for_and_ends_with_the_pipeline() {
    let served = Served::start(ApiOptions { max_streams: 1, ..ApiOptions::default() });
    served.feed.send(vec![alert()]).await.expect("open");
    served.until("/api/v1/alerts", |alerts| alerts["total"] == json!(1)).await;
    let mut stream = begin(&served, "/api/v1/stream?topics=alerts").await;
    for (number, frame) in frames(&mut stream, 2).await {
        assert!(frame["alerts"].contains("\"rule\":\"lag\""), "{frame:?}");
        assert_eq!(frame.keys().collect::<Vec<_>>(), ["alerts", "frame"], "frame {number}");
    }
    assert_eq!(served.get("/api/v1/stream").await.status, 503, "there is room for one");
    let mut rest = Vec::new();
    let (_, read) = tokio::join!(served.end(), stream.read_to_end(&mut rest));
    read.expect("ended in order");
}
