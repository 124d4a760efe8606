//! `sluice run`: runs a pipeline until it is told to stop.
//!
//! The first SIGINT or SIGTERM asks the sources to stop and drains the rest; a second one ends the program at once.
//! Exit codes: 0 drained, 1 a node failed, 3 not drained within the deadline, 78 the pipeline is not valid, 130 ended by
//! the second signal.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use sluice_config::settings::Settings;
use tokio::time::{MissedTickBehavior, interval};

use crate::layers;
use crate::overrides::Overrides;
use crate::report::{self, EXIT_CONFIG};
use crate::runner::{self, RunError, Running, Watch};
use crate::signals::Signals;

/// A node failed, or could not be made.
pub const EXIT_FAILED: u8 = 1;
/// Not drained within the deadline.
pub const EXIT_DEADLINE: u8 = 3;
/// Ended by a second signal.
pub const EXIT_SIGNALLED: u8 = 130;

/// How often a line says how the pipeline is doing.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Arguments of `sluice run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The pipeline's file; `-` is standard input.
    #[arg(value_name = "PIPELINE.toml")]
    pub pipeline: PathBuf,
    /// Keeps this file up to date with all metrics, as Prometheus text; written anew every 10 s and at the end.
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Values over those of the file.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Runs the pipeline.
pub async fn run(args: RunArgs) -> ExitCode {
    let plan = match args.overrides.load(&args.pipeline) {
        Ok(plan) => plan,
        Err(diagnostics) => {
            report::show(&diagnostics);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    report::show(&plan.warnings);
    let (name, deadline) = (plan.settings.name.clone(), plan.settings.shutdown_deadline);
    let encoding_threads = bound_encoding(&plan.settings);
    let running = match runner::start(plan) {
        Ok(running) => running,
        Err(failure) => {
            tracing::error!(error = %failure, "not started");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    tracing::info!(pipeline = name, encoding_threads, "running");
    match drive(running, deadline, args.metrics).await {
        Ok(()) => {
            tracing::info!(pipeline = name, "drained");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(%error, "ended");
            ExitCode::from(match error {
                RunError::Deadline { .. } => EXIT_DEADLINE,
                RunError::Node { .. } | RunError::Panicked { .. } => EXIT_FAILED,
            })
        }
    }
}

/// Gives encoding, compression and proofs, which all run on rayon's global pool, their share of the processors, and returns
/// the number of threads that they have.
fn bound_encoding(settings: &Settings) -> usize {
    let threads = settings.encoding_threads(layers::cores());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    if let Err(error) = pool.thread_name(|index| format!("encode-{index}")).build_global() {
        // Only if somebody has used the pool before.
        tracing::warn!(%error, threads, "encoding threads are not bounded");
    }
    rayon::current_num_threads()
}

/// Waits for the pipeline's end while listening to signals and showing progress.
async fn drive(running: Running, deadline: Duration, metrics: Option<PathBuf>) -> Result<(), RunError> {
    let watch = running.watch();
    let stop = running.stopper();
    let joined = running.join(deadline);
    tokio::pin!(joined);
    let mut signals = Signals::listen();
    let mut progress = Progress::start();
    loop {
        tokio::select! {
            result = &mut joined => {
                write_metrics(metrics.as_deref(), &watch);
                return result;
            }
            () = signals.next() => {
                if stop.is_cancelled() {
                    tracing::warn!("ended at once by a second signal");
                    std::process::exit(i32::from(EXIT_SIGNALLED));
                }
                tracing::info!(deadline_s = deadline.as_secs(), "stopping: sources first, then the rest drains");
                stop.cancel();
            }
            () = progress.due() => {
                progress.show(&watch);
                write_metrics(metrics.as_deref(), &watch);
            }
        }
    }
}

/// Replaces the metrics file in one step, so that whoever reads it never sees half of it.
fn write_metrics(path: Option<&Path>, watch: &Watch) {
    let Some(path) = path else { return };
    let staged = path.with_extension("tmp");
    let written = std::fs::write(&staged, watch.exposition()).and_then(|()| std::fs::rename(&staged, path));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "metrics not written");
    }
}

struct Progress {
    ticks: tokio::time::Interval,
    last: Instant,
    transactions: u64,
}

impl Progress {
    fn start() -> Self {
        let mut ticks = interval(PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        Self { ticks, last: Instant::now(), transactions: 0 }
    }

    async fn due(&mut self) {
        self.ticks.tick().await;
    }

    fn show(&mut self, watch: &Watch) {
        let updates = watch.sum("first_updates_total");
        let rate = updates.saturating_sub(self.transactions) as f64 / self.last.elapsed().as_secs_f64();
        (self.transactions, self.last) = (updates, Instant::now());
        tracing::info!(
            tip = watch.sum("tip_slot"),
            watermark = watch.sum("watermark_slot"),
            updates_per_second = rate as u64,
            gaps = watch.sum("ledger_gaps_total"),
            searching = watch.sum("recovery_searches"),
            holes = watch.sum("holes"),
            memory_bytes = watch.budget().used_bytes(),
            "progress"
        );
    }
}
