mod alertmanager;
mod notices;
mod receiver;
mod records;

use receiver::{SECRET, TestReceiver};
use serde_json::{Value, json};

use super::*;
use crate::delivery::harness::options;

/// Options that suit a test's patience, with more of one's own.
fn hasty(receiver: &TestReceiver, more: Value) -> String {
    let mut options = json!({
        "url": receiver.url,
        "signing_secrets": [SECRET],
        "batch_wait": "20ms",
        "retry": {"timeout": "300ms", "min_backoff": "10ms", "max_backoff": "50ms", "reset_timeout": "50ms"},
        "drain_timeout": "500ms",
    });
    let own = options.as_object_mut().expect("an object");
    own.extend(more.as_object().cloned().expect("an object"));
    options.to_string()
}

#[test]
fn options_left_out_have_their_defaults_and_secrets_are_never_shown() {
    let text =
        r#"{"url": "https://hooks.example.com/T0/s3cr3t", "headers": {"Authorization": "Bearer s3cr3t"}}"#;
    let options: WebhookOptions = options(text);
    assert_eq!((options.batch_items, options.max_notices_per_minute), (500, 60));
    let shown = format!("{options:?}{}", serde_json::to_string(&options).expect("JSON"));
    assert!(!shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn every_problem_is_named_at_once() {
    let text = json!({
        "url": "ftp://example.com", "headers": {"no name": "x"}, "signing_secrets": ["x"], "template": "{{",
        "content_type": "a\nb", "batch_items": 0, "batch_bytes": 0, "max_queued_notices": 0,
        "max_notices_per_minute": 0, "filters": {"programs": ["x"]}, "retry": {"timeout": "0s"},
    });
    let options: WebhookOptions = serde_json::from_value(text).expect("the types are right");
    let problems = options.problems();
    let named: Vec<_> = problems.iter().map(|problem| problem.option.as_str()).collect();
    let expected = [
        "url",
        "headers",
        "signing_secrets",
        "template",
        "content_type",
        "filters.programs",
        "batch_items",
        "batch_bytes",
        "retry.timeout",
        "max_queued_notices",
        "max_notices_per_minute",
    ];
    assert_eq!(named, expected);
}

#[test]
fn the_intake_of_alertmanager_is_found_from_its_address() {
    let path = |url: &str| {
        let text = json!({"url": url, "format": "alertmanager_v2"}).to_string();
        options::<WebhookOptions>(&text).parsed_url().map(|url| url.path().to_owned())
    };
    for url in ["http://am:9093", "http://am:9093/", "http://am:9093/api/v2/alerts"] {
        assert_eq!(path(url).as_deref(), Some("/api/v2/alerts"), "{url}");
    }
    assert_eq!(path("http://proxy/am/").as_deref(), Some("/am/api/v2/alerts"));
}
