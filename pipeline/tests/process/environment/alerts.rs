//! `ALERT_WEBHOOK_URL`, and the alert of `MAX_CPU_PERCENT`.

use std::time::Duration;

use super::stand_in::StandIn;
use super::{DEAD, Text, calm, serve};
use crate::support::until;

/// Rules that are told at once, and nobody who tells.
const RULES: &str = "[sources.meter]
type = \"monitor\"
interval = \"500ms\"
[stages.rules]
type = \"alert_evaluator\"
inputs = [\"meter\"]
group_wait = \"0s\"
[stages.rules.rules.endpoint_down]
for = \"0s\"
[stages.rules.rules.cpu]
for = \"0s\"
";

fn accept(_: &str) -> String {
    "{}".to_owned()
}

fn is_told(receiver: &StandIn, rule: &str) -> bool {
    receiver.bodies().iter().any(|body| body.contains(&format!("\"{rule}\"")))
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_webhook_url_is_where_alerts_arrive() {
    let served = serve(calm(1, Duration::from_millis(50))).await;
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), StandIn::start(accept));
    let mut text = Text::new(&served);
    text.endpoints =
        format!("endpoints = [{{ url = \"{}\" }}, {{ url = \"{DEAD}\" }}]", served.grpc_urls()[0]);
    text.more = RULES.replace("[stages.rules.rules.cpu]\nfor = \"0s\"\n", "");
    let run = text.run(folder.path(), &[("ALERT_WEBHOOK_URL", &format!("{}/canary-path", receiver.url))]);
    until("the alert", || is_told(&receiver, "endpoint_down"));
    assert!(!run.stop().contains("canary-path"));
}

#[tokio::test(flavor = "multi_thread")]
async fn max_cpu_percent_is_watched_and_told() {
    let served = serve(calm(1, Duration::from_millis(5))).await;
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), StandIn::start(accept));
    let mut text = Text::new(&served);
    text.more = RULES.to_owned();
    let variables = [("ALERT_WEBHOOK_URL", receiver.url.as_str()), ("MAX_CPU_PERCENT", "1")];
    let run = text.run(folder.path(), &variables);
    until("the alert", || is_told(&receiver, "cpu"));
    let told = receiver.bodies().concat();
    assert!(told.contains("over 1 percent of"), "{told}");
    run.stop();
}
