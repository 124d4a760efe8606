//! `sluice demo`: the whole thing on one machine.
//!
//! Starts a simulated cluster, runs the example pipeline `config/pipelines/demo.toml` against it, and stops it once all
//! slots that were asked for are in files, or when it is told to. Its dashboard is there meanwhile. Then audits the folder and compares it with what the cluster knows to be
//! true. Exits with 0 only if everything matched.

mod compare;
mod summary;

use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sluice_cluster::cluster::{Cluster, Config};
use sluice_cluster::faults::Profile;
use sluice_cluster::ledger::{GeneratedLedger, Ledger};
use sluice_cluster::server::{Running as Served, ServeOptions};
use sluice_sinks::verify::{VerifyOptions, verify};
use toml::{Table, Value};

use super::run::EXIT_FAILED;
use crate::plan::Plan;
use crate::runner::{self, Running, Watch};
use crate::signals::Signals;
use summary::Summary;

/// The example that is run.
const EXAMPLE: &str = include_str!("../../../../config/pipelines/demo.toml");
/// Its name in messages.
const EXAMPLE_NAME: &str = "config/pipelines/demo.toml";
/// Mainnet's time from slot to slot.
const MAINNET_SLOT_TIME: Duration = Duration::from_millis(400);
/// Slots played behind those that are asked for: the last one has to become final, and to have a child.
const TAIL_SLOTS: u64 = 16;
/// How long the pipeline may be busy after the cluster has played everything: retries of RPC's worst lies, and a margin
/// for slow machines.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the folder is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Arguments of `sluice demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Slots to take in, rounded up to whole files.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    slots: u64,
    /// An empty or new folder for the output. Default: a new one among the system's temporary files.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seeds the faults, and nothing else.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Seeds the ledger.
    #[arg(long, value_name = "S", default_value_t = 0)]
    ledger_seed: u64,
    /// How much goes wrong: none, default or harsh.
    #[arg(long, value_name = "PROFILE", default_value_t = Profile::Default)]
    faults: Profile,
    /// Number of Yellowstone endpoints.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=32))]
    endpoints: u16,
    /// Times mainnet's pace: 1 is a slot each 400 ms.
    #[arg(long, value_name = "X", default_value_t = 4.0)]
    speed: f64,
    /// Goes on, with the dashboard, until it is interrupted; then checks all that came in.
    #[arg(long)]
    keep_serving: bool,
}

/// Where the example's dashboard listens.
const DASHBOARD: &str = "127.0.0.1:3002";

/// When a demo stops by itself.
struct Goal<'g> {
    /// These files are there; none if it goes on until a signal.
    files: Option<&'g [PathBuf]>,
    /// So many slots are what the progress is measured by.
    slots: u64,
    /// This long, at most, until the files are there.
    patience: Duration,
}

/// Runs the demo.
pub async fn run(args: DemoArgs) -> ExitCode {
    match demo(args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILED),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn demo(args: DemoArgs) -> anyhow::Result<bool> {
    ensure!(args.speed.is_finite() && args.speed > 0.0, "--speed has to be a number above 0, such as 4");
    let out = output_folder(args.out.as_deref())?;
    let mut example: Table = EXAMPLE.parse().context(EXAMPLE_NAME)?;
    let commit_slots = commit_slots(&example)?;
    let slots = args.slots.next_multiple_of(commit_slots);
    let served = serve(&args, (!args.keep_serving).then_some(slots + TAIL_SLOTS)).await?;
    let first = served.cluster().truth().first_slot().context("the ledger is empty")?;
    ensure!(first.is_multiple_of(commit_slots), "the ledger does not begin with a file's first slot");
    let dashboard = free_address()?;
    adapt(&mut example, &served, &out, first)?;
    section(&mut example, &["sinks", "api"])?.insert("listen".to_owned(), Value::from(dashboard.to_string()));
    let plan = Plan::parse(EXAMPLE_NAME, &toml::to_string(&example)?, &|_: &str| None);
    let plan = plan.map_err(|wrong| anyhow::anyhow!("{}", wrong.render(false)))?;
    let deadline = plan.settings.shutdown_deadline;
    println!(
        "{slots} slots from {} endpoints, faults {}, into {}",
        args.endpoints,
        args.faults,
        out.display()
    );
    println!("dashboard at http://{dashboard}/performance");

    let began = Instant::now();
    let running = runner::start(plan)?;
    let watch = running.watch();
    let played = MAINNET_SLOT_TIME.div_f64(args.speed) * u32::try_from(slots + TAIL_SLOTS + 32)?;
    let files: Vec<PathBuf> = (first..first + slots)
        .step_by(usize::try_from(commit_slots)?)
        .map(|first| blocks_file(&out, first, commit_slots))
        .collect();
    let wanted = (!args.keep_serving).then_some(files.as_slice());
    let goal = Goal { files: wanted, slots, patience: played + PATIENCE };
    let outcome = drive(running, &goal, deadline).await;
    let took = began.elapsed();
    let truth = served.cluster().truth();
    let faults = served.cluster().fault_counts().values().sum();
    served.shutdown().await?;
    outcome?;

    let slots = if args.keep_serving { slots_there(&out, first, commit_slots) } else { slots };
    let range = first..first + slots;
    let folder = out.clone();
    let audit = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        Ok((verify(&folder, VerifyOptions::default())?, compare::compare(&folder, &truth, range)?))
    });
    let (report, comparison) = audit.await??;
    let summary =
        Summary { watch: &watch, report: &report, comparison: &comparison, out: &out, slots, took, faults };
    println!("{summary}");
    Ok(summary.is_good())
}

/// The folder to write to, which is new or empty.
fn output_folder(wanted: Option<&Path>) -> anyhow::Result<PathBuf> {
    let Some(wanted) = wanted else {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        return Ok(std::env::temp_dir().join(format!("sluice-demo-{}-{nanos}", std::process::id())));
    };
    let mut entries = match std::fs::read_dir(wanted) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(wanted.to_owned()),
        Err(error) => return Err(error).with_context(|| format!("--out {}", wanted.display())),
    };
    if entries.next().is_some() {
        bail!("--out {}: the folder is not empty; name a new one, or remove it first", wanted.display());
    }
    Ok(wanted.to_owned())
}

async fn serve(args: &DemoArgs, slots: Option<u64>) -> anyhow::Result<Served> {
    let ledger = GeneratedLedger { seed: args.ledger_seed, slots, ..GeneratedLedger::default() };
    let config = Config {
        endpoints: usize::from(args.endpoints),
        seed: args.seed,
        faults: args.faults,
        slot_time: MAINNET_SLOT_TIME.div_f64(args.speed),
        unix_start: None,
        ..Config::default()
    };
    let options = ServeOptions { start_after_subscriptions: 1, ..ServeOptions::default() };
    Served::start(Cluster::new(Ledger::generated(ledger), config), options)
        .await
        .context("the simulated cluster can't be served")
}

fn section<'t>(table: &'t mut Table, path: &[&str]) -> anyhow::Result<&'t mut Table> {
    let mut found = table;
    for part in path {
        let next = found.get_mut(*part).and_then(Value::as_table_mut);
        found = next.with_context(|| format!("{EXAMPLE_NAME} has no [{}]", path.join(".")))?;
    }
    Ok(found)
}

fn commit_slots(example: &Table) -> anyhow::Result<u64> {
    let sink = example.get("sinks").and_then(|sinks| sinks.get("files"));
    let slots = sink.and_then(|sink| sink.get("commit_slots")).and_then(Value::as_integer);
    Ok(slots.context("the example has no commit_slots")?.try_into()?)
}

/// Points the example at the cluster and at the folder: as many sources as there are endpoints, each like the first.
fn adapt(example: &mut Table, served: &Served, out: &Path, first: u64) -> anyhow::Result<()> {
    let sources = section(example, &["sources"])?;
    let is_endpoint = |source: &Value| source.get("type").and_then(Value::as_str) == Some("yellowstone");
    let endpoints = sources.iter().filter(|(_, source)| is_endpoint(source));
    let (names, models): (Vec<String>, Vec<Value>) =
        endpoints.map(|(name, one)| (name.clone(), one.clone())).unzip();
    let model = models.into_iter().next().context("the example has no endpoint")?;
    sources.retain(|_, source| !is_endpoint(source));
    let mut inputs = Vec::new();
    for (position, url) in served.grpc_urls().iter().enumerate() {
        let name = names.get(position).cloned().unwrap_or_else(|| format!("endpoint_{}", position + 1));
        let mut source = model.clone();
        let options = source.as_table_mut().context("a source is a table")?;
        options.insert("url".to_owned(), Value::from(url.as_str()));
        options.insert("region".to_owned(), Value::from(name.as_str()));
        inputs.push(Value::from(name.as_str()));
        sources.insert(name, source);
    }
    section(example, &["stages", "first"])?.insert("inputs".to_owned(), Value::Array(inputs));
    section(example, &["stages", "whole", "rpc"])?.insert("url".to_owned(), Value::from(served.rpc_url()));
    let sink = section(example, &["sinks", "files"])?;
    sink.insert("path".to_owned(), Value::from(out.to_string_lossy().as_ref()));
    sink.insert("start_slot".to_owned(), Value::from(i64::try_from(first)?));
    let settings = section(example, &["pipeline"])?;
    settings.insert("memory_limit".to_owned(), Value::from("1GiB"));
    Ok(())
}

/// The file of `blocks` that begins with `first`: the one of its range that is committed last.
fn blocks_file(out: &Path, first: u64, commit_slots: u64) -> PathBuf {
    let epoch = first / sluice_stages::slot::SLOTS_PER_EPOCH;
    let name = format!("{first:012}-{:012}.parquet", first + commit_slots - 1);
    out.join("blocks").join(format!("epoch={epoch}")).join(name)
}

/// The slots from `first` on whose files are there without a gap.
fn slots_there(out: &Path, first: u64, commit_slots: u64) -> u64 {
    let ranges = (0..).map(|range| first + range * commit_slots);
    let there = ranges.take_while(|first| blocks_file(out, *first, commit_slots).exists());
    there.count() as u64 * commit_slots
}

/// The example's own address, or one with a free port if that is taken.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(DASHBOARD).or_else(|_| TcpListener::bind("127.0.0.1:0"));
    listener.and_then(|listener| listener.local_addr()).context("no port for the dashboard")
}

/// Runs until the goal is reached, and drains.
async fn drive(running: Running, goal: &Goal<'_>, deadline: Duration) -> anyhow::Result<()> {
    let (watch, stop) = (running.watch(), running.stopper());
    let joined = running.join(deadline);
    tokio::pin!(joined);
    let mut signals = Signals::listen();
    let mut progress = Progress::start(goal.slots);
    let gave_up = tokio::time::sleep(goal.patience);
    tokio::pin!(gave_up);
    let mut failure = None;
    loop {
        tokio::select! {
            result = &mut joined => {
                progress.finish();
                result?;
                return failure.map_or(Ok(()), |failure| {
                    show_metrics(&watch);
                    Err(failure)
                });
            }
            () = signals.next() => {
                failure = goal.files.map(|_| anyhow::anyhow!("stopped by a signal"));
                stop.cancel();
            }
            () = &mut gave_up, if failure.is_none() && goal.files.is_some() => {
                failure = Some(anyhow::anyhow!("not done after {} s", goal.patience.as_secs()));
                stop.cancel();
            }
            () = tokio::time::sleep(POLL_INTERVAL), if !stop.is_cancelled() => {
                progress.show(&watch);
                if goal.files.is_some_and(|files| files.iter().all(|file| file.exists())) {
                    stop.cancel();
                }
            }
        }
    }
}

/// What a demo that did not come to its end leaves to find out why.
fn show_metrics(watch: &Watch) {
    for (node, kind, metrics) in watch.metrics() {
        for metric in metrics.iter().filter(|metric| metric.value != 0.0) {
            let label = metric.label.map_or(String::new(), |(key, label)| format!("{{{key}={label:?}}}"));
            eprintln!("{node} ({kind}) {}{label} {}", metric.name, metric.value);
        }
    }
}

struct Progress {
    bar: ProgressBar,
    began: Instant,
    printed: Instant,
}

/// Without a terminal a line each so often is enough.
const PRINT_INTERVAL: Duration = Duration::from_secs(5);

impl Progress {
    fn start(slots: u64) -> Self {
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new(slots) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} slots  {msg}") {
            bar.set_style(style);
        }
        Self { bar, began: Instant::now(), printed: Instant::now() }
    }

    fn show(&mut self, watch: &Watch) {
        let recovered: u64 = watch.by_label("recovered_slots_total").values().sum();
        let message = format!(
            "{:.0} tx/s  gaps {} found, {} filled, {} open  holes {}  endpoints {} up",
            watch.sum("tap_transactions_total") as f64 / self.began.elapsed().as_secs_f64(),
            watch.sum("recovery_found_slots_total"),
            recovered,
            watch.sum("recovery_searches"),
            watch.sum("holes"),
            watch.sum("source_connected"),
        );
        let slots = watch.sum("tap_blocks_total");
        self.bar.set_position(slots);
        self.bar.set_message(message.clone());
        if self.bar.is_hidden() && self.printed.elapsed() >= PRINT_INTERVAL {
            self.printed = Instant::now();
            println!("{slots} slots committed  {message}");
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
