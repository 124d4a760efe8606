//! `GRPC_ENDPOINTS`, `GRPC_FAILOVER_ENABLED`, `GRPC_HEALTH_CHECK_INTERVAL`.

use std::time::Duration;

use sluice_cluster::cluster::Config;

use super::{DEAD, Text, calm, serve, states};
use crate::support::until;

const SLOT_TIME: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn grpc_endpoints_with_commas_are_connected_to_in_place_of_the_files() {
    let served = serve(calm(2, SLOT_TIME)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut text = Text::new(&served);
    text.endpoints = format!("url = \"{DEAD}\"");
    let run = text.run(folder.path(), &[("GRPC_ENDPOINTS", &served.grpc_urls().join(","))]);
    run.next_slot();
    until("both to be subscribed to", || served.progress().subscriptions >= 2);
    run.until_endpoints("two endpoints", |shown| states(shown) == ["active"; 2]).await;
    assert!(!run.stop().contains(DEAD), "the file's endpoint is not tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_endpoints_as_json_have_regions_priorities_and_tokens() {
    const TOKEN: &str = "sesame-7d1c";
    let served = serve(Config { x_token: Some(TOKEN.to_owned()), ..calm(2, SLOT_TIME) }).await;
    let [first, second] = served.grpc_urls() else { panic!("two endpoints") };
    let folder = tempfile::tempdir().expect("a folder");
    let list = format!(
        r#"[{{"url":"{first}","region":"ams","priority":2,"token":"{TOKEN}"}},
            {{"url":"{second}","region":"fra","priority":1,"token":"{TOKEN}"}}]"#
    );
    let variables = [("GRPC_ENDPOINTS", list.as_str()), ("GRPC_FAILOVER_ENABLED", "true")];
    let mut text = Text::new(&served);
    text.endpoints = format!("url = \"{DEAD}\"");
    let run = text.run(folder.path(), &variables);
    // Without its token the cluster lets nobody in.
    run.next_slot();
    run.until_endpoints("the second to lead", |shown| {
        let regions: Vec<_> = shown.iter().map(|endpoint| &endpoint["region"]).collect();
        regions == ["ams", "fra"] && states(shown) == ["standby", "active"]
    })
    .await;
    assert!(!run.stop().contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_failover_enabled_says_whether_one_endpoint_is_active_or_all_are() {
    let served = serve(calm(3, SLOT_TIME)).await;
    let folder = tempfile::tempdir().expect("a folder");
    for (file, value, expected) in
        [("race", "true", ["active", "standby", "standby"]), ("failover", "false", ["active"; 3])]
    {
        let mut text = Text::new(&served);
        text.endpoints.push_str(&format!("\nmode = \"{file}\""));
        let run = text.run(folder.path(), &[("GRPC_FAILOVER_ENABLED", value)]);
        run.until_endpoints(value, |shown| {
            let mut states = states(shown);
            states.sort_unstable();
            states == expected
        })
        .await;
        run.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_health_check_interval_is_how_often_endpoints_are_asked() {
    let served = serve(calm(1, SLOT_TIME)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let run = Text::new(&served).run(folder.path(), &[("GRPC_HEALTH_CHECK_INTERVAL", "100")]);
    run.next_slot();
    // Each check is four calls. At the default of 30 s this many would take ten minutes.
    until("twenty checks", || served.progress().unary_calls >= 80);
    run.stop();
}
