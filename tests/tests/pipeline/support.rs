//! A pipeline's TOML, its run until a condition holds, and what is in its folder afterwards.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sluice::kinds::{KINDS, Kind};
use sluice::plan::Plan;
use sluice::runner::{self, RunError, Watch};
use sluice_cluster::cluster::{Cluster, Config};
use sluice_cluster::ledger::{GeneratedLedger, Ledger};
use sluice_cluster::server::{Running as Served, ServeOptions};
use sluice_sinks::verify::{Report, VerifyOptions, verify};

/// How long a condition may take before the test gives up: many times what a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long a drain may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// Slots from epoch to epoch.
const EPOCH_SLOTS: u64 = 432_000;

/// Patience that suits a cluster whose slots take milliseconds.
const SOURCE_OPTIONS: &str =
    "reconnect_min = \"20ms\"\nreconnect_max = \"500ms\"\nidle_timeout = \"4s\"\nprogress_timeout = \"3s\"\n";
const RECOVERY_OPTIONS: &str = "hedge_after = \"1s\"\ntip_interval = \"1s\"\nmin_backoff = \"50ms\"\n\
                                max_backoff = \"500ms\"\nhole_interval = \"1s\"\n";

/// The lossless path from endpoints to a folder.
pub(crate) struct Lossless {
    /// Endpoints.
    pub(crate) urls: Vec<String>,
    /// The RPC node.
    pub(crate) rpc_url: String,
    /// The output folder.
    pub(crate) out: PathBuf,
    /// Slots of a file.
    pub(crate) commit_slots: u64,
    /// Where an empty folder begins.
    pub(crate) start_slot: u64,
    /// More lines for `[pipeline]`.
    pub(crate) settings: String,
    /// More lines for each source.
    pub(crate) source: String,
    /// Whether the endpoints are a group of one source.
    pub(crate) grouped: bool,
    /// More lines for the recovery.
    pub(crate) recovery: String,
    /// The lines of a proof behind the recovery, if there is one.
    pub(crate) proof: Option<String>,
}

impl Lossless {
    /// The path from all endpoints of `served` to `out`, from the first slot on.
    pub(crate) fn new(served: &Served, out: &Path, commit_slots: u64) -> Self {
        let start_slot = served.cluster().truth().first_slot().expect("a ledger has slots");
        Self {
            urls: served.grpc_urls().to_vec(),
            rpc_url: served.rpc_url().to_owned(),
            out: out.to_owned(),
            commit_slots,
            start_slot,
            settings: String::new(),
            source: "transactions = true\n".to_owned(),
            grouped: false,
            recovery: String::new(),
            proof: None,
        }
    }

    /// Its TOML.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("[pipeline]\n{}\n", self.settings);
        let mut names = Vec::new();
        if self.grouped {
            let urls: Vec<_> = self.urls.iter().map(|url| format!("{{ url = \"{url}\" }}")).collect();
            write!(
                text,
                "[sources.main]\ntype = \"yellowstone\"\nendpoints = [{}]\n{SOURCE_OPTIONS}{}\n",
                urls.join(", "),
                self.source
            )
            .expect("a string takes everything");
            names.push("\"main\"".to_owned());
        }
        let single = self.urls.iter().enumerate().filter(|_| !self.grouped);
        for (position, url) in single {
            let name = format!("endpoint_{position}");
            let source = &self.source;
            write!(
                text,
                "[sources.{name}]\ntype = \"yellowstone\"\nurl = \"{url}\"\n{SOURCE_OPTIONS}{source}\n"
            )
            .expect("a string takes everything");
            names.push(format!("\"{name}\""));
        }
        text.push_str(&stages(&names.join(", ")));
        let Self { rpc_url, recovery, .. } = self;
        write!(
            text,
            "[stages.whole]\ntype = \"recovery\"\ninputs = [\"slots\"]\n{RECOVERY_OPTIONS}{recovery}"
        )
        .expect("a string takes everything");
        writeln!(
            text,
            "rpc = {{ url = \"{rpc_url}\", requests_per_second = 500, burst = 500, timeout = \"2s\" }}"
        )
        .expect("a string takes everything");
        let settled = if self.proof.is_some() { "proven" } else { "whole" };
        if let Some(proof) = &self.proof {
            write!(text, "[stages.proven]\ntype = \"proof\"\ninputs = [\"whole\"]\n{proof}")
                .expect("a string takes everything");
        }
        write!(
            text,
            "[stages.final]\ntype = \"commitment\"\ninputs = [\"{settled}\"]\nlevel = \"finalized\"\n"
        )
        .expect("a string takes everything");
        text.push_str(&self.sink("files", "final"));
        text
    }

    /// The sink alone.
    pub(crate) fn sink(&self, name: &str, input: &str) -> String {
        format!(
            "[sinks.{name}]\ntype = \"parquet\"\ninputs = [\"{input}\"]\npath = \"{}\"\ncommit_slots = {}\nstart_slot = {}\n",
            self.out.display(),
            self.commit_slots,
            self.start_slot
        )
    }

    /// Runs until all ranges up to that of `slot` are committed, and drains. Panics with the metrics if that takes too
    /// long.
    pub(crate) async fn run_until_committed(&self, slot: u64) -> Watch {
        let (watch, result) = run_until(self.plan(), |_| self.is_committed(slot)).await;
        result.expect("drained without an error");
        watch
    }

    /// Whether all ranges up to that of `slot` are committed; they may be so in any order.
    pub(crate) fn is_committed(&self, slot: u64) -> bool {
        let mut firsts = (self.start_slot..=slot).step_by(self.commit_slots as usize);
        firsts.all(|first| self.file("blocks", first).exists())
    }

    /// Its plan.
    pub(crate) fn plan(&self) -> Plan {
        parse(&self.text())
    }

    /// The file of a dataset that holds `slot`.
    pub(crate) fn file(&self, dataset: &str, slot: u64) -> PathBuf {
        let first = slot - slot % self.commit_slots;
        let name = format!("{first:012}-{:012}.parquet", first + self.commit_slots - 1);
        self.out.join(dataset).join(format!("epoch={}", first / EPOCH_SLOTS)).join(name)
    }
}

/// Everything between the sources and the recovery.
fn stages(sources: &str) -> String {
    format!(
        "[stages.first]\ntype = \"merge\"\ninputs = [{sources}]\n[stages.once]\ntype = \"dedupe\"\ninputs = [\"first\"]\n\
         [stages.slots]\ntype = \"gap_detector\"\ninputs = [\"once\"]\n"
    )
}

/// A plan of the usual kinds.
pub(crate) fn parse(text: &str) -> Plan {
    parse_with(KINDS, text)
}

/// A plan of the usual kinds with variables.
pub(crate) fn parse_with_variables(text: &str, variables: &dyn Fn(&str) -> Option<String>) -> Plan {
    Plan::parse("test.toml", text, &variables).unwrap_or_else(|wrong| panic!("{}", wrong.render(false)))
}

/// A plan of kinds of one's own.
pub(crate) fn parse_with(kinds: &'static [Kind], text: &str) -> Plan {
    let plan = Plan::parse_with(kinds, "test.toml", text, &|_: &str| None);
    plan.unwrap_or_else(|wrong| panic!("{}", wrong.render(false)))
}

/// Runs `plan` until `done` says so, and drains; ends early if the pipeline does.
pub(crate) async fn run_until(
    plan: Plan,
    mut done: impl FnMut(&Watch) -> bool,
) -> (Watch, Result<(), RunError>) {
    let running = runner::start(plan).expect("all nodes can be made");
    let (watch, stop) = (running.watch(), running.stopper());
    let joined = tokio::spawn(running.join(DEADLINE));
    until("the pipeline to get there", Some(&watch), || done(&watch) || joined.is_finished()).await;
    stop.cancel();
    let result = joined.await.expect("the runner does not panic");
    (watch, result)
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, watch: Option<&Watch>, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > PATIENCE {
            panic!("waited for {what} for {PATIENCE:?}\n{}", watch.map_or(String::new(), all_metrics));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// All metrics that are not zero, one a line.
pub(crate) fn all_metrics(watch: &Watch) -> String {
    let mut text = String::new();
    for (node, kind, metrics) in watch.metrics() {
        for metric in metrics.iter().filter(|metric| metric.value != 0.0) {
            writeln!(text, "{node} ({kind}) {} {:?} {}", metric.name, metric.label, metric.value)
                .expect("a string takes everything");
        }
    }
    for (from, to, stats) in watch.edges() {
        writeln!(text, "{from} -> {to} {stats:?}").expect("a string takes everything");
    }
    text
}

/// Serves `ledger`; its time stands still until `awaited` subscriptions are open.
pub(crate) async fn serve(ledger: Ledger, config: Config, awaited: usize) -> Served {
    let options = ServeOptions { start_after_subscriptions: awaited, ..ServeOptions::default() };
    Served::start(Cluster::new(ledger, config), options).await.expect("loopback has ports")
}

/// A ledger of `slots` small slots.
pub(crate) fn small_ledger(slots: u64) -> Ledger {
    Ledger::generated(GeneratedLedger {
        slots: Some(slots),
        transactions_per_slot: 3..=15,
        mainnet_blocks: false,
        ..GeneratedLedger::default()
    })
}

/// All files below `root` that have to be the same wherever the slots came from, by their path.
pub(crate) fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    collect(root, root, &mut found);
    found.retain(|name, _| !name.starts_with("arrivals/"));
    found
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            collect(root, &path, found);
        } else {
            let name = path.strip_prefix(root).expect("below").display().to_string();
            found.insert(name, fs::read(&path).expect("readable"));
        }
    }
}

/// Asserts that two folders hold the same files, and names those that differ.
pub(crate) fn assert_same(one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>, what: &str) {
    let names: Vec<_> = one.keys().chain(other.keys()).collect();
    let differing: Vec<_> = names.into_iter().filter(|name| one.get(*name) != other.get(*name)).collect();
    assert!(differing.is_empty(), "{what}: {differing:?}");
}

/// The audit's report of a folder, which has to be clean.
pub(crate) fn audited(root: &Path) -> Report {
    let report = verify(root, VerifyOptions::default()).expect("readable");
    assert!(report.is_clean(), "{report}");
    report
}
