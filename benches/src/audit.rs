//! What a `proof` costs a pipeline at mainnet's pace: off, audit and enforce in turn, on the same feed.
//!
//! ```text
//!  this process ── 3 endpoints, 400 ms a slot, 64 × 62,500 hashes ══ loopback ⇉ a process for each lap:
//!    source ×3, merge, dedupe, gap detector, proof, commitment, delays
//! ```
//!
//! The feed is made before the first lap. What is printed of each lap: the processor time of the pipeline's process as a
//! share of one core, slots that were proven, and the commit delay, from a slot's finalized status to its block at the
//! sink. "No lag" is a delay that proving leaves as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice::kinds::{Kind, kind};
use sluice::plan::Plan;
use sluice::runner;
use sluice_cluster::ledger::Shape;
use sluice_stages::batch::Item;
use sluice_stages::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Role as NodeRole};
use sluice_stages::edge::Inbox;
use sluice_stages::frame::SlotStatus;
use sluice_stages::node::{NodeContext, NodeError, Sink};
use sluice_stages::slot::{Slot, Timestamp};
use sluice_stages::stage::{Flow, Metric};
use sluice_stages::yellowstone::YellowstoneOptions;
use tokio::runtime::Runtime;

use crate::feed::Feed;
use crate::server::Server;
use crate::usage;

/// Mainnet's ticks in a slot, and hashes from one to the next.
const MAINNET: Shape = Shape { ticks: 64, hashes_per_tick: 62_500 };
/// Mainnet's slot time.
const SLOT_TIME: Duration = Duration::from_millis(400);
/// Endpoints that send the same.
const ENDPOINTS: usize = 3;
/// Longest time to drain.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often it is looked whether everything has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long a lap may take longer than its feed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Modes of the proof, in the order of a round.
const MODES: [&str; 3] = ["off", "audit", "enforce"];

static KINDS: &[Kind] = &[
    kind::<YellowstoneOptions>(),
    kind::<sluice_stages::merge::MergeOptions>(),
    kind::<sluice_stages::dedupe::DedupeOptions>(),
    kind::<sluice_stages::gap_detector::GapDetectorOptions>(),
    kind::<sluice_stages::proof::ProofOptions>(),
    kind::<sluice_stages::commitment::CommitmentOptions>(),
    kind::<DelayOptions>(),
];

/// What proving costs a pipeline at mainnet's pace.
#[derive(Debug, Parser)]
#[command(name = "audit")]
struct Cli {
    /// Rounds; in each, every mode runs once.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Slots that are served; each takes 400 ms, and a second or so to make.
    #[arg(long, default_value_t = 60)]
    slots: u64,
    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Runs one pipeline.
    #[command(hide = true)]
    Lap {
        /// The job, as JSON.
        job: String,
    },
}

/// What a lap is told.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    mode: String,
    urls: Vec<String>,
    updates: u64,
    patience: Duration,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    cpu: Duration,
    took: Duration,
    blocks: u64,
    proven: u64,
    failed: u64,
    /// Milliseconds: median, 99th percentile, longest.
    delays: [f64; 3],
}

/// Runs whatever role the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.role {
        Some(Role::Lap { job }) => run_lap(job),
        // `cargo test --all-targets` runs benchmarks, too, and only wants to know that they start.
        None if !cli.bench => return ExitCode::SUCCESS,
        None => lead(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn lead(cli: &Cli) -> Result<()> {
    println!("making {} slots of {} hashes …", cli.slots, u64::from(MAINNET.ticks) * MAINNET.hashes_per_tick);
    let options = "url = 'http://127.0.0.1'\ntransactions = true\nentries = true";
    let feed = Feed::play(cli.slots, MAINNET, &toml::from_str(options)?)?;
    let due = feed.due(SLOT_TIME);
    let patience = due.last().copied().unwrap_or_default() + PATIENCE;
    println!("{} updates an endpoint; load average {}", feed.updates(), usage::load_average());
    println!(
        "{:<8} {:>10} {:>8} {:>7} {:>9} {:>9} {:>9}",
        "mode", "of a core", "proven", "failed", "p50 ms", "p99 ms", "max ms"
    );
    Runtime::new()?.block_on(async {
        for _ in 0..cli.rounds {
            for mode in MODES {
                let server = Server::start_paced(&feed.frames, ENDPOINTS, Some(due.clone())).await?;
                let (mode, urls) = (mode.to_owned(), server.urls.clone());
                let job = Job { mode, urls, updates: feed.updates(), patience };
                let outcome = tokio::task::spawn_blocking(move || lap(&job).map(|outcome| (job, outcome)));
                let (job, outcome) = outcome.await??;
                let [p50, p99, longest] = outcome.delays;
                println!(
                    "{:<8} {:>10.3} {:>8} {:>7} {p50:>9.2} {p99:>9.2} {longest:>9.2}",
                    job.mode,
                    outcome.cpu.as_secs_f64() / outcome.took.as_secs_f64(),
                    outcome.proven,
                    outcome.failed
                );
                if outcome.blocks != feed.whole().blocks {
                    bail!("{} of {} slots came out", outcome.blocks, feed.whole().blocks);
                }
            }
        }
        println!("load average {}", usage::load_average());
        Ok(())
    })
}

fn lap(job: &Job) -> Result<Outcome> {
    let me = std::env::current_exe().context("this program does not know where it is")?;
    let mut command = Command::new(me);
    let output = command.args(["lap", &serde_json::to_string(job)?]).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{} failed: {}", job.mode, output.status);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn run_lap(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job).context("not a job")?;
    let plan = Plan::parse_with(KINDS, "audit", &pipeline(&job), &|_: &str| None);
    let plan = plan.map_err(|found| anyhow::anyhow!("{found:?}"))?;
    let begun = Instant::now();
    let watch = Runtime::new()?.block_on(async {
        let running = runner::start(plan)?;
        let (watch, stop) = (running.watch(), running.stopper());
        let until_all_came = async {
            let all = || {
                let edges = watch.edges();
                let mut sources = edges.iter().filter(|(from, ..)| from.starts_with("endpoint"));
                sources.all(|(.., seen)| seen.sent_items > job.updates)
            };
            while !all() && begun.elapsed() < job.patience {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            stop.cancel();
        };
        let (result, ()) = tokio::join!(running.join(DEADLINE), until_all_came);
        result.context("the pipeline failed")?;
        anyhow::Ok(watch)
    })?;
    let micros = |name: &str| watch.sum(name) as f64 / 1e3;
    let outcome = Outcome {
        cpu: usage::cpu_time(),
        took: begun.elapsed(),
        blocks: watch.sum("delay_blocks_total"),
        proven: watch.sum("proof_proven_total"),
        failed: watch.sum("proof_failed_total"),
        delays: [micros("delay_p50_micros"), micros("delay_p99_micros"), micros("delay_max_micros")],
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn pipeline(job: &Job) -> String {
    let (mut text, mut names) = (String::new(), Vec::new());
    for (place, url) in job.urls.iter().enumerate() {
        let source = format!(
            "[sources.endpoint{place}]\ntype = 'yellowstone'\nurl = '{url}'\ntransactions = true\nentries = true\n"
        );
        text.push_str(&source);
        names.push(format!("'endpoint{place}'"));
    }
    let names = names.join(", ");
    write!(
        text,
        "[stages.first]\ntype = 'merge'\ninputs = [{names}]\n\
         [stages.once]\ntype = 'dedupe'\ninputs = ['first']\n\
         [stages.slots]\ntype = 'gap_detector'\ninputs = ['once']\n\
         [stages.proven]\ntype = 'proof'\ninputs = ['slots']\nmode = '{}'\n\
         [stages.final]\ntype = 'commitment'\ninputs = ['proven']\nlevel = 'finalized'\n\
         [sinks.end]\ntype = 'delays'\ninputs = ['final']\n",
        job.mode
    )
    .expect("strings take everything");
    text
}

/// A sink that measures how long after their finalized status blocks come.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DelayOptions {}

impl Component for DelayOptions {
    const KIND: &'static str = "delays";
    const ROLE: NodeRole = NodeRole::Sink;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Blocks);
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str = "measures how long after their finalized status blocks come";

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Sink(Box::new(Delays::default())))
    }
}

#[derive(Debug, Default)]
struct Delays {
    /// Heard first, of slots whose block has not come.
    finalized_at: BTreeMap<Slot, Timestamp>,
    micros: Vec<u64>,
}

impl Delays {
    fn take(&mut self, now: Timestamp, item: &Item) {
        match item {
            Item::Status(status) if status.status == SlotStatus::Finalized => {
                self.finalized_at.entry(status.slot).or_insert(status.at);
            }
            Item::Block(block) => {
                let at = self.finalized_at.remove(&block.slot()).unwrap_or(now);
                self.micros.push(now.since(at).as_micros() as u64);
            }
            _ => {}
        }
    }

    fn metrics(&mut self, show: &mut dyn FnMut(Metric)) {
        self.micros.sort_unstable();
        let at = |share: f64| {
            let place = (self.micros.len() as f64 * share) as usize;
            self.micros.get(place.min(self.micros.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        show(Metric::new("delay_blocks_total", self.micros.len() as u64));
        show(Metric::new("delay_p50_micros", at(0.5)));
        show(Metric::new("delay_p99_micros", at(0.99)));
        show(Metric::new("delay_max_micros", at(1.0)));
    }
}

impl Sink for Delays {
    fn run(
        mut self: Box<Self>,
        mut inbox: Inbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move {
            while let Some((_, batch)) = inbox.recv().await {
                let now = context.clock.now();
                batch.iter().for_each(|item| self.take(now, item));
            }
            context.metrics.show(|show| self.metrics(show));
            Ok(())
        })
    }
}
