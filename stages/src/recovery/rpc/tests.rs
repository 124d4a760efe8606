//! A node made of canned answers stands in for the network's.

use std::time::Duration;

use super::super::fake_node::{FakeNode, result};
use super::*;

fn fetcher(node: &FakeNode) -> RpcFetcher {
    RpcFetcher::try_new("rpc", &RpcOptions::new(&node.url), Clock::start()).expect("valid options")
}

fn error(code: i64, message: &str) -> (&'static str, String) {
    (
        "200 OK",
        json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": code, "message": message } }).to_string(),
    )
}

async fn block_error(answer: (&'static str, String)) -> FetchError {
    let node = FakeNode::start(vec![answer]).await;
    fetcher(&node).block(5, Commitment::Confirmed).await.expect_err("an error was answered")
}

#[tokio::test]
async fn a_nodes_errors_are_told_apart() {
    use FetchError as E;
    assert!(matches!(block_error(error(-32007, "Slot 5 was skipped")).await, E::ClaimedSkipped { slot: 5 }));
    assert!(matches!(block_error(error(-32009, "missing")).await, E::ClaimedSkipped { .. }));
    assert!(matches!(block_error(error(-32004, "not available")).await, E::NotAvailableYet { .. }));
    assert!(matches!(block_error(result(Value::Null)).await, E::NotAvailableYet { .. }));
    assert!(matches!(block_error(error(-32005, "behind by 42 slots")).await, E::Transport(_)));
    assert!(matches!(block_error(error(-32601, "no such method")).await, E::Refused { code: -32601, .. }));
    assert!(matches!(
        block_error(error(-32007, "50/second request limit reached")).await,
        E::RateLimited { .. }
    ));
    let cleaned = error(-32001, "Block 5 cleaned up, does not exist on node. First available block: 77");
    assert!(matches!(block_error(cleaned).await, E::CleanedUp { first_available: Some(77), .. }));
}

#[tokio::test]
async fn what_is_not_json_rpc_is_told_apart() {
    use FetchError as E;
    let limited = ("429 Too Many Requests\r\nretry-after: 3", "slow down".to_owned());
    let error = block_error(limited).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert!(matches!(block_error(("502 Bad Gateway", String::new())).await, E::Transport(_)));
    assert!(matches!(block_error(("403 Forbidden", String::new())).await, E::Refused { code: 403, .. }));
    assert!(matches!(block_error(("200 OK", "<html>".to_owned())).await, E::Malformed { .. }));
    assert!(matches!(block_error(("200 OK", "[]".to_owned())).await, E::Malformed { .. }));
    assert!(matches!(block_error(("200 OK", "{}".to_owned())).await, E::Malformed { .. }));
    assert!(matches!(block_error(result(json!({ "blockhash": 3 }))).await, E::Malformed { .. }));
}

#[tokio::test]
async fn a_pause_is_read_from_seconds_or_a_date_whatever_the_status() {
    use FetchError as E;
    let away = ("503 Service Unavailable\r\nretry-after: 8", String::new());
    let error = block_error(away).await;
    assert!(
        matches!(error, E::Unavailable { status: 503, retry_after } if retry_after.as_secs() == 8),
        "{error}"
    );
    let far = ("429 Too Many Requests\r\nretry-after: Fri, 01 Jan 9999 00:00:00 GMT", String::new());
    assert_eq!(block_error(far).await.retry_after(), Some(Duration::from_secs(3_600)), "at most an hour");
    assert!(matches!(block_error(("503 Service Unavailable", String::new())).await, E::Transport(_)));
}

#[tokio::test]
async fn nothing_is_sent_in_a_pause_and_nobody_sleeps_through_it() {
    let node = FakeNode::start(vec![("429 Too Many Requests\r\nretry-after: 86400", String::new())]).await;
    let fetcher = fetcher(&node);
    fetcher.slot(Commitment::Confirmed).await.expect_err("the limit");
    let error = fetcher.slot(Commitment::Confirmed).await.expect_err("the pause");
    assert!(matches!(error, FetchError::Paused { .. }), "{error}");
    assert_eq!(node.requests().len(), 1);
}

#[tokio::test]
async fn the_key_in_the_url_is_never_shown() {
    let url = "http://127.0.0.1:1/key/s3cret";
    let fetcher = RpcFetcher::try_new("rpc", &RpcOptions::new(url), Clock::start()).expect("valid options");
    let error = fetcher.block(5, Commitment::Finalized).await.expect_err("nobody listens");
    assert!(matches!(error, FetchError::Transport(_)));
    assert!(!format!("{error} {error:?} {:?}", RpcOptions::new(url)).contains("s3cret"));
}

#[tokio::test]
async fn a_node_that_is_down_is_left_alone_and_probed() {
    let fetcher = RpcFetcher::try_new("rpc", &RpcOptions::new("http://127.0.0.1:1"), Clock::start())
        .expect("valid options");
    for _ in 0..5 {
        let error = fetcher.slot(Commitment::Confirmed).await.expect_err("nobody listens");
        assert!(matches!(error, FetchError::Transport(_)));
    }
    assert!(fetcher.standing().rests(fetcher.clock.now()));
    let error = fetcher.slot(Commitment::Confirmed).await.expect_err("the breaker is open");
    assert!(matches!(error, FetchError::Resting { .. }));
}

#[tokio::test]
async fn blocks_are_asked_for_whole_and_listed_within_what_was_asked() {
    let empty = json!({
        "blockhash": "4sGjMW1sUnHzSxGspuhpqLDx6wiyjNtZAMdL4VZHirAn",
        "previousBlockhash": "4sGjMW1sUnHzSxGspuhpqLDx6wiyjNtZAMdL4VZHirAn",
        "parentSlot": 4, "transactions": [], "blockTime": null, "blockHeight": null,
    });
    let node = FakeNode::start(vec![result(json!([3, 5])), result(empty), result(json!([9]))]).await;
    let fetcher = fetcher(&node);
    assert_eq!(fetcher.blocks(3, 6, Commitment::Finalized).await.expect("a list"), [3, 5]);
    let block = fetcher.block(5, Commitment::Confirmed).await.expect("a block");
    assert_eq!((block.slot, block.frames.len()), (5, 1));
    let error = fetcher.blocks(3, 6, Commitment::Finalized).await.expect_err("9 was not asked for");
    assert!(matches!(error, FetchError::Malformed { slot: 3, .. }));
    let requests = node.requests();
    assert_eq!(requests[0]["params"], json!([3, 6, { "commitment": "finalized" }]));
    assert_eq!(requests[1]["method"], "getBlock");
    assert_eq!(requests[1]["params"][1]["encoding"], "base64");
    assert_eq!(requests[1]["params"][1]["rewards"], true);
}

#[tokio::test]
async fn a_provider_that_knows_no_newer_version_is_asked_for_version_0() {
    let node = FakeNode::start(vec![error(-32602, "invalid params"), result(Value::Null)]).await;
    let error = fetcher(&node).block(5, Commitment::Confirmed).await.expect_err("null is no block");
    assert!(matches!(error, FetchError::NotAvailableYet { .. }));
    let versions: Vec<Value> = node
        .requests()
        .iter()
        .map(|request| request["params"][1]["maxSupportedTransactionVersion"].clone())
        .collect();
    assert_eq!(versions, [1, 0]);
}

#[test]
fn problems_are_named() {
    let options: RpcOptions =
        toml::from_str("url = 'ftp://x'\nburst = 0\ntimeout = '0s'\nheaders = { 'a b' = 'c' }")
            .expect("valid TOML");
    let named: Vec<String> = options.problems().into_iter().map(|problem| problem.option).collect();
    assert_eq!(named, ["url", "burst", "timeout", "headers"]);
    assert!(RpcOptions::new("https://host/?api-key=1").problems().is_empty());
}
