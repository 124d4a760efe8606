//! A pipeline that watches itself: what it measures reaches the rules, and what they say is told once and kept.

use std::time::Duration;

use sluice_cluster::cluster::Config;
use sluice_cluster::faults::Profile;

use crate::support::{Lossless, parse, run_until, serve, small_ledger};

/// Nobody listens there.
const DEAD_ENDPOINT: &str = "http://127.0.0.1:9";

fn watching(path: &std::path::Path) -> String {
    let (history, state) = (path.join("history.db"), path.join("alerts.json"));
    format!(
        "[sources.meter]\ntype = \"monitor\"\ninterval = \"500ms\"\n\
         [stages.alerts]\ntype = \"alert_evaluator\"\ninputs = [\"meter\"]\ngroup_wait = \"1s\"\nstate_file = \"{}\"\n\
         [stages.alerts.rules.endpoint_down]\nfor = \"1s\"\n\
         [sinks.kept]\ntype = \"history\"\ninputs = [\"meter\", \"alerts\"]\npath = \"{}\"\nwrite_interval = \"500ms\"\n",
        state.display(),
        history.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_down_is_told_once_and_again_not_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config {
        endpoints: 1,
        faults: Profile::None,
        slot_time: Duration::from_millis(40),
        ..Config::default()
    };
    let served = serve(small_ledger(2_000), config, 1).await;
    let mut pipeline = Lossless::new(&served, &folder.path().join("out"), 10);
    pipeline.urls.push(DEAD_ENDPOINT.to_owned());
    let text = format!("{}{}", pipeline.text(), watching(folder.path()));

    let (watch, result) = run_until(parse(&text), |watch| {
        watch.sum("alert_notices_total") > 0 && watch.sum("history_written_rows_total") > 0
    })
    .await;
    result.expect("drained without an error");
    assert_eq!(watch.by_label("alerts_firing").get("error"), Some(&1));
    assert_eq!((watch.sum("history_failures_total"), watch.sum("alert_rule_failures_total")), (0, 0));
    assert!(watch.sum("monitor_series") > 30, "{}", watch.sum("monitor_series"));

    let (watch, result) = run_until(parse(&text), |watch| watch.sum("monitor_samples_total") > 8).await;
    result.expect("drained without an error");
    assert_eq!(watch.by_label("alerts_firing").get("error"), Some(&1));
    assert_eq!(watch.sum("alert_notices_total"), 0, "told before the restart");
}
