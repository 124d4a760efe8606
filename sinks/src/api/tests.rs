//! The API as clients see it: over a socket, from a pipeline of one sink.

mod hostile;
mod served;
mod streamed;

use std::sync::Arc;

use serde_json::{Value, json};
use sluice_config::secret::Secret;
use sluice_stages::alert::{Alert, AlertItem, AlertState, Severity};
use sluice_stages::batch::Item;
use sluice_stages::node::Clock;
use sluice_stages::sample::{Labels, Reading, Sample};
use sluice_stages::slot::Timestamp;

use super::openapi::document;
use super::options::ApiOptions;
use crate::parquet::testing::{Chain, block_of};
use served::Served;

const TOKEN: &str = "0123456789abcdef";

fn alert() -> Item {
    let text = |text: &str| -> Arc<str> { text.into() };
    Item::Alert(Arc::new(AlertItem::Changed(Alert {
        fingerprint: text("00"),
        rule: text("lag"),
        severity: Severity::Critical,
        state: AlertState::Firing,
        metric: text("lag_slots"),
        labels: Labels::new(),
        value: f64::NAN,
        threshold: 10.0,
        message: text("lag"),
        active_at: Timestamp(5_000_000),
        fired_at: Some(Timestamp(6_000_000)),
        resolved_at: None,
        suppressed_by: None,
    })))
}

#[tokio::test]
async fn what_comes_in_is_shown() {
    let served = Served::start(ApiOptions::default());
    let chain = Chain::generate(10, 12, 3);
    let slot = chain.slots()[0];
    let block = block_of(&chain, slot);
    let signature = {
        let updates = block.transactions.updates().expect("subscribed");
        bs58::encode(updates[1].frame.key()).into_string()
    };
    let now = Clock::start().now();
    let sample = Sample { at: now, readings: vec![Reading::new("lag_slots", 3.0).with("endpoint", "ams")] };
    let items = vec![Item::Block(block), Item::Sample(Arc::new(sample)), alert()];
    served.feed.send(items).await.expect("open");
    let view = served.until(&format!("/api/v1/slots/{slot}"), |_| true).await;
    assert_eq!((&view["state"], &view["transactions"]), (&json!("complete"), &json!(3)));
    let found = served.get(&format!("/api/v1/transactions/{signature}")).await.json();
    assert_eq!((&found["slot"], &found["index"]), (&json!(slot), &json!(1)));
    let metrics = served.get("/api/v1/performance/metrics?endpoint=ams").await.json();
    assert_eq!(metrics["readings"][0]["value"], json!(3.0));
    let history = served.get("/api/v1/history?metric=lag_slots").await.json();
    assert_eq!(
        (&history["origin"], &history["series"][0]["points"][0]["last"]),
        (&json!("memory"), &json!(3.0))
    );
    let alerts = served.get("/api/v1/alerts?state=firing&severity=critical").await.json();
    assert_eq!((&alerts["total"], &alerts["alerts"][0]["value"]), (&json!(1), &Value::Null));
    served.end().await;
}

#[tokio::test]
async fn every_error_is_a_problem_document() {
    let served = Served::start(ApiOptions { max_body_bytes: 100, ..ApiOptions::default() });
    let json = ("Content-Type", "application/json");
    let long = format!("/api/v1/slots?limit={}", "1".repeat(9_000));
    let cases = [
        ("GET", "/nowhere", vec![], "", 404),
        ("PUT", "/api/v1/slots", vec![], "", 405),
        ("GET", "/api/v1/slots", vec![("Accept", "text/html")], "", 406),
        ("GET", "/api/v1/slots?limt=5", vec![], "", 400),
        ("GET", "/api/v1/graph?x=1", vec![], "", 400),
        ("GET", "/api/v1/slots?limit=0", vec![], "", 400),
        ("GET", "/api/v1/slots?limit=5&limit=6", vec![], "", 400),
        ("GET", "/api/v1/slots/abc", vec![], "", 400),
        ("GET", "/api/v1/slots/7", vec![], "", 404),
        ("GET", "/api/v1/slots", vec![("Host", "evil.example")], "", 421),
        ("GET", long.as_str(), vec![], "", 414),
        ("GET", "/api/v1/transactions/0OIl", vec![], "", 400),
        ("POST", "/api/v1/silences", vec![], "{}", 415),
        ("POST", "/api/v1/silences", vec![json], "{", 400),
        ("POST", "/api/v1/silences", vec![json], "{}", 422),
        ("POST", "/api/v1/silences", vec![json], &"x".repeat(200), 413),
        ("DELETE", "/api/v1/silences/x", vec![], "", 404),
        ("GET", "/api/v1/stream?topics=x", vec![], "", 400),
        ("GET", "/api/v1/nodes/x/tap", vec![], "", 404),
    ];
    for (method, path, headers, body, status) in cases {
        let answer = served.send(method, path, &headers, body).await;
        let shown = &path[..path.len().min(60)];
        assert_eq!(answer.status, status, "{method} {shown}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {shown}");
        assert_eq!(answer.json()["status"], json!(status), "{method} {shown}");
    }
    assert!(served.get("/api/v1/slots?limt=5").await.body.contains("limt"), "names the parameter");
    let refused = served.send("PUT", "/api/v1/slots", &[], "").await;
    assert_eq!(refused.header("allow"), Some("GET,HEAD"));
    served.end().await;
}

#[tokio::test]
async fn requests_beyond_the_rate_are_told_when_to_come_again() {
    let served = Served::start(ApiOptions { requests_per_second: 1, burst: 2, ..ApiOptions::default() });
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(served.get("/api/v1/graph").await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert!(served.get("/api/v1/graph").await.header("retry-after").is_some());
    served.end().await;
}

#[tokio::test]
async fn with_a_token_only_the_shell_of_the_dashboard_is_open() {
    let served = Served::start(ApiOptions { token: Some(Secret::new(TOKEN)), ..ApiOptions::default() });
    for path in ["/performance", "/performance/main.js", "/api/v1/health/live", "/openapi.json"] {
        assert_eq!(served.get(path).await.status, 200, "{path}");
    }
    let refused = served.get("/api/v1/graph").await;
    assert_eq!((refused.status, refused.header("www-authenticate").is_some()), (401, true));
    let authorization = format!("Bearer {TOKEN}");
    for (value, status) in [(authorization.as_str(), 200), ("Bearer 0123456789abcdeF", 401), ("Basic x", 401)]
    {
        let answer = served.send("GET", "/api/v1/graph", &[("Authorization", value)], "").await;
        assert_eq!(answer.status, status, "{value}");
        assert!(!answer.body.contains(TOKEN));
    }
    served.end().await;
}

#[tokio::test]
async fn an_answer_that_is_known_is_not_sent_again() {
    let served = Served::start(ApiOptions::default());
    let first = served.get("/api/v1/config").await;
    let tag = first.header("etag").expect("tagged").to_owned();
    let again = served.send("GET", "/api/v1/config", &[("If-None-Match", &tag)], "").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let zipped = served.send("GET", "/openapi.json", &[("Accept-Encoding", "gzip")], "").await;
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    served.end().await;
}

#[tokio::test]
async fn a_silence_is_made_read_and_ended() {
    let served = Served::start(ApiOptions::default());
    let body = json!({
        "matchers": [{"name": "rule", "operator": "=~", "value": "lag|\"q\""}],
        "duration_seconds": 60.0, "created_by": "ann", "comment": "moving",
    });
    let json_type = [("Content-Type", "application/json")];
    let made = served.send("POST", "/api/v1/silences", &json_type, &body.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    for nothing in [" ", "\u{85}", "\u{feff}"] {
        let mut said = body.clone();
        said["comment"] = json!(nothing);
        assert_eq!(served.send("POST", "/api/v1/silences", &json_type, &said.to_string()).await.status, 422);
    }
    let path = format!("/api/v1/silences/{}", made.json()["id"].as_str().expect("an id"));
    assert_eq!(served.get(&path).await.json()["state"], json!("active"));
    assert_eq!(served.send("DELETE", &path, &[], "").await.json()["state"], json!("expired"));
    assert_eq!(served.send("DELETE", &path, &[], "").await.status, 404, "what is over is there no more");
    served.end().await;
}

#[test]
fn every_route_is_described_with_its_errors() {
    let document = serde_json::to_value(document(true)).expect("JSON");
    assert!(document["openapi"].as_str().expect("a version").starts_with("3.1"));
    let paths = document["paths"].as_object().expect("paths");
    let source = include_str!("router.rs");
    let routed = source.split(".route(").skip(1).filter_map(|rest| rest.split('"').nth(1));
    let aliases = ["/api/v1/performance/history"];
    for path in routed.filter(|path| !aliases.contains(path)) {
        assert!(paths.contains_key(path), "{path} is not described");
    }
    for (path, item) in paths {
        for operation in item.as_object().expect("operations").values() {
            let errors = &operation["responses"]["429"]["content"];
            assert!(errors["application/problem+json"].is_object(), "{path}");
            assert!(operation["summary"].is_string(), "{path} has no summary");
        }
    }
    let dataset = &document["paths"]["/api/v1/graph"]["get"]["responses"];
    assert!(dataset["401"].is_object());
}
