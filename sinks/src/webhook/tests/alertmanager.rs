//! Against the real Alertmanager: what is posted is what its API shows.
//!
//! It needs `prometheus-alertmanager` (Debian's package of that name) in `PATH`, or its path in
//! `SLUICE_TEST_ALERTMANAGER`. Without it the test says so and passes.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sluice_stages::alert::{Alert, AlertItem, Severity};
use sluice_stages::batch::Item;
use sluice_stages::slot::Timestamp;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::*;
use crate::delivery::harness::RunningSink;
use crate::delivery::testing::{alert, resolved};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start_alertmanager(folder: &Path) -> Option<(String, Child)> {
    let program =
        std::env::var("SLUICE_TEST_ALERTMANAGER").unwrap_or_else(|_| "prometheus-alertmanager".to_owned());
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    std::fs::write(folder.join("am.yml"), "route: {receiver: none}\nreceivers: [{name: none}]\n")
        .expect("written");
    let child = Command::new(program)
        .current_dir(folder)
        .args(["--config.file=am.yml", "--storage.path=data", "--cluster.listen-address="])
        .arg(format!("--web.listen-address={free}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let url = format!("http://{free}");
    let up = async {
        while reqwest::get(format!("{url}/-/ready")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, up).await.expect("it starts");
    Some((url, child))
}

async fn active(url: &str) -> Vec<Value> {
    let answer = reqwest::get(format!("{url}/api/v2/alerts")).await.expect("it runs");
    answer.json().await.expect("JSON")
}

async fn until_active(url: &str, count: usize) -> Vec<Value> {
    let there = async {
        loop {
            let alerts = active(url).await;
            if alerts.len() == count {
                return alerts;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("what was posted")
}

#[tokio::test]
async fn a_real_alertmanager_shows_what_fires_and_drops_what_is_over() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let folder = tempfile::tempdir().expect("a folder");
    let Some((url, _child)) = start_alertmanager(folder.path()).await else {
        eprintln!("skipped: install prometheus-alertmanager, or set SLUICE_TEST_ALERTMANAGER to it");
        return;
    };
    let options = json!({"url": url, "format": "alertmanager_v2"}).to_string();
    let sink = RunningSink::start::<WebhookOptions>(&options);
    let send = |alert: Alert| sink.send(vec![Item::Alert(Arc::new(AlertItem::Changed(alert)))]);
    send(alert("latency", Severity::Error)).await;
    send(alert("holes", Severity::Critical)).await;
    let alerts = until_active(&url, 2).await;
    let latency = alerts.iter().find(|alert| alert["labels"]["alertname"] == "latency").expect("there");
    assert_eq!(latency["labels"], json!({"alertname": "latency", "severity": "error", "endpoint": "ams"}));
    assert_eq!(latency["annotations"]["value"], "1250.5");
    assert_eq!(latency["status"]["state"], "active");
    // It is over in the past, as Alertmanager's own clock sees it.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let at = Timestamp(0).after(now - Duration::from_secs(1));
    send(Alert { resolved_at: Some(at), ..resolved("latency", Severity::Error) }).await;
    let alerts = until_active(&url, 1).await;
    assert_eq!(alerts[0]["labels"]["alertname"], "holes");
    sink.end().await.expect("ended well");
}
