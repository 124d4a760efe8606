//! The variables of the environment, as who sets them meets them: the binary runs with each, and what is looked at is
//! what the variable names, not the option that it goes to.

mod alerts;
mod commitment;
mod endpoints;
mod errors;
mod recovery;
mod resources;
mod stand_in;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sluice_cluster::cluster::{Cluster, Config};
use sluice_cluster::faults::Profile;
use sluice_cluster::ledger::{GeneratedLedger, Ledger};
use sluice_cluster::server::{Running as Served, ServeOptions};

use crate::support::{FIRST_SLOT, Process, until};

/// Nobody listens there.
const DEAD: &str = "http://127.0.0.1:9";

/// A cluster of this process, so that what it is asked can be counted. It has no end and no faults.
async fn serve(config: Config) -> Served {
    let ledger = GeneratedLedger { mainnet_blocks: false, ..GeneratedLedger::default() };
    Served::start(Cluster::new(Ledger::generated(ledger), config), ServeOptions::default())
        .await
        .expect("loopback has ports")
}

/// Endpoints without faults whose slots take this long.
fn calm(endpoints: usize, slot_time: Duration) -> Config {
    Config { endpoints, slot_time, faults: Profile::None, mixed_servers: false, ..Config::default() }
}

/// A pipeline from one source to the lines of its blocks, with an API to look at it.
struct Text {
    /// More lines of `[pipeline]`.
    settings: String,
    /// The source's endpoints, as its options say it.
    endpoints: String,
    /// The RPC node.
    rpc_url: String,
    /// More lines of the recovery.
    recovery: String,
    /// What the commitment reads.
    settled: &'static str,
    /// More lines of the commitment.
    commitment: String,
    /// More nodes.
    more: String,
}

impl Text {
    /// All endpoints of `served` in one source.
    fn new(served: &Served) -> Self {
        let urls = served.grpc_urls().iter().map(|url| format!("{{ url = \"{url}\" }}"));
        Self {
            settings: String::new(),
            endpoints: format!("endpoints = [{}]", urls.collect::<Vec<_>>().join(", ")),
            rpc_url: served.rpc_url().to_owned(),
            recovery: String::new(),
            settled: "whole",
            commitment: String::new(),
            more: String::new(),
        }
    }

    /// Adds files of so many slots from the ledger's first slot on.
    fn add_files(&mut self, out: &Path, commit_slots: u64) {
        write!(
            self.more,
            "[stages.final]\ntype = \"commitment\"\ninputs = [\"whole\"]\nlevel = \"finalized\"\n\
             [sinks.files]\ntype = \"parquet\"\ninputs = [\"final\"]\npath = \"{}\"\n\
             commit_slots = {commit_slots}\nstart_slot = {FIRST_SLOT}\n",
            out.display()
        )
        .expect("a string takes everything");
    }

    fn text(&self) -> String {
        let Self { settings, endpoints, rpc_url, recovery, settled, commitment, more } = self;
        format!(
            r#"[pipeline]
{settings}
[sources.chain]
type = "yellowstone"
{endpoints}
transactions = true
reconnect_min = "20ms"
reconnect_max = "500ms"
window_bytes = "1MiB"
[stages.once]
type = "dedupe"
inputs = ["chain"]
[stages.slots]
type = "gap_detector"
inputs = ["once"]
[stages.whole]
type = "recovery"
inputs = ["slots"]
rpc = {{ url = "{rpc_url}", requests_per_second = 500, burst = 500, timeout = "2s" }}
tip_interval = "1s"
min_backoff = "20ms"
max_backoff = "50ms"
hole_interval = "1h"
{recovery}
[stages.live]
type = "commitment"
inputs = ["{settled}"]
{commitment}
[sinks.lines]
type = "console"
inputs = ["live"]
records = ["blocks"]
[sinks.api]
type = "api"
inputs = ["live"]
listen = "127.0.0.1:0"
{more}
"#
        )
    }

    /// Runs it with variables.
    fn run(&self, folder: &Path, variables: &[(&str, &str)]) -> Run {
        let path = folder.join("pipeline.toml");
        fs::write(&path, self.text()).expect("writable");
        Run { process: Process::with_variables(&[Path::new("run"), &path], variables) }
    }
}

/// A pipeline that runs.
struct Run {
    process: Process,
}

impl Run {
    /// The API's answer at `path`, once it listens.
    async fn get(&self, path: &str) -> String {
        self.process.wait_for("dashboard at http://");
        let log = self.process.log();
        let address = log.split("dashboard at ").nth(1).and_then(|rest| rest.split("/performance").next());
        let url = format!("{}{path}", address.expect("it was waited for"));
        let answer = reqwest::get(url).await.expect("the API listens");
        answer.error_for_status().expect("an answer").text().await.expect("text")
    }

    /// The endpoints as the API shows them.
    async fn endpoints(&self) -> Vec<Value> {
        let answer: Value = serde_json::from_str(&self.get("/api/v1/endpoints").await).expect("JSON");
        answer["endpoints"].as_array().expect("a list").clone()
    }

    /// The sum of a metric's series whose line holds `label`.
    async fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.get("/metrics").await;
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The slot of the next block.
    fn next_slot(&self) -> u64 {
        let block: Value = serde_json::from_str(&self.process.line()).expect("JSON");
        block["slot"].as_u64().expect("a slot")
    }

    /// Waits until the API shows endpoints of which `test` holds.
    async fn until_endpoints(&self, what: &str, test: impl Fn(&[Value]) -> bool) {
        let mut shown = Vec::new();
        for _ in 0..900 {
            shown = self.endpoints().await;
            if test(&shown) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("waited for {what}: {shown:?}");
    }

    /// Stops it; its log.
    fn stop(self) -> String {
        self.process.signal("TERM");
        let (status, log) = self.process.end();
        assert!(status.success(), "{log}");
        log
    }
}

/// What the endpoints do, in their order.
fn states(endpoints: &[Value]) -> Vec<&str> {
    endpoints.iter().map(|endpoint| endpoint["state"].as_str().expect("a state")).collect()
}

/// Waits until the cluster is `slots` slots on.
fn until_slots(served: &Served, slots: u64) {
    until("the chain to go on", || tip(served) >= FIRST_SLOT + slots);
}

/// The newest slot of the chain.
fn tip(served: &Served) -> u64 {
    let level = sluice_cluster::cluster::Level::Processed;
    served.cluster().tip(served.now(), level).unwrap_or(FIRST_SLOT)
}
