//! `sluice record`: records what a pipeline's sources bring.
//!
//! Of the pipeline only its sources run, and a recorder behind them. SIGINT, SIGTERM or `--duration` end the recording.
//! Exit codes are those of `sluice run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use sluice_config::units;
use sluice_stages::component::{Component as _, Emits, Role};
use sluice_stages::edge::EdgeConfig;
use sluice_stages::recording::RecorderOptions;
use sluice_stages::stage::Flow;

use super::run::{EXIT_DEADLINE, EXIT_FAILED, EXIT_SIGNALLED};
use crate::kinds::{self, KINDS};
use crate::overrides::Overrides;
use crate::plan::{Plan, PlanEdge, PlanNode};
use crate::report::{self, EXIT_CONFIG};
use crate::runner::{self, RunError, Running, Watch};
use crate::signals::Signals;

/// Arguments of `sluice record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The pipeline's file; `-` is standard input.
    #[arg(value_name = "PIPELINE.toml")]
    pub pipeline: PathBuf,
    /// The recording to make; it must not be there.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// How long to record, such as `60s`; without it until SIGINT or SIGTERM.
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub duration: Option<Duration>,
    /// Values over those of the file.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Records.
pub async fn run(args: RecordArgs) -> ExitCode {
    let plan = match args.overrides.load(&args.pipeline) {
        Ok(plan) => plan,
        Err(diagnostics) => {
            report::show(&diagnostics);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    report::show(&plan.warnings);
    let deadline = plan.settings.shutdown_deadline;
    let plan = match recording(plan, &args) {
        Ok(plan) => plan,
        Err(reason) => {
            tracing::error!(reason, "not started");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let running = match runner::start(plan) {
        Ok(running) => running,
        Err(failure) => {
            tracing::error!(error = %failure, "not started");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    tracing::info!(out = %args.out.display(), "recording");
    let (begun, watch) = (Instant::now(), running.watch());
    let ended = drive(running, deadline, args.duration).await;
    report::print(&describe(&watch, &args, begun.elapsed()));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "ended");
            ExitCode::from(match error {
                RunError::Deadline { .. } => EXIT_DEADLINE,
                RunError::Node { .. } | RunError::Panicked { .. } => EXIT_FAILED,
            })
        }
    }
}

/// The sources of `plan` that bring updates, and a recorder behind them.
fn recording(plan: Plan, args: &RecordArgs) -> Result<Plan, String> {
    let Some(kind) = KINDS.iter().find(|kind| kind.name == RecorderOptions::KIND) else {
        return Err("there is no recorder".to_owned());
    };
    let brings_updates =
        |node: &PlanNode| node.role == Role::Source && node.kind.emits == Emits::Only(Flow::Updates);
    let mut nodes: Vec<PlanNode> = plan.nodes.into_iter().filter(brings_updates).collect();
    if nodes.is_empty() {
        return Err("the pipeline has no source of updates; there is nothing to record".to_owned());
    }
    let edge = |from| PlanEdge { from, config: EdgeConfig::default() };
    let inputs = (0..nodes.len()).map(edge).collect();
    // A name that no node of the pipeline can have, so that it is nobody's else.
    let name = "(recorder)".to_owned();
    let options = kinds::made(RecorderOptions::new(&args.out));
    nodes.push(PlanNode { name, role: Role::Sink, kind, options, inputs });
    Ok(Plan { nodes, ..plan })
}

/// Waits for the end of the recording.
async fn drive(running: Running, deadline: Duration, duration: Option<Duration>) -> Result<(), RunError> {
    let stop = running.stopper();
    let joined = running.join(deadline);
    tokio::pin!(joined);
    let mut signals = Signals::listen();
    let over = tokio::time::sleep(duration.unwrap_or(Duration::MAX));
    tokio::pin!(over);
    loop {
        tokio::select! {
            result = &mut joined => return result,
            () = signals.next() => {
                if stop.is_cancelled() {
                    tracing::warn!("ended at once by a second signal");
                    std::process::exit(i32::from(EXIT_SIGNALLED));
                }
                stop.cancel();
            }
            () = &mut over, if !stop.is_cancelled() => stop.cancel(),
        }
    }
}

fn describe(watch: &Watch, args: &RecordArgs, elapsed: Duration) -> String {
    let (updates, raw) = (watch.sum("recorder_updates_total"), watch.sum("source_bytes_total"));
    let bytes = std::fs::metadata(&args.out).map_or(0, |file| file.len());
    format!(
        "{updates} updates in {:.1}s, {raw} bytes raw, {bytes} bytes in {}\n",
        elapsed.as_secs_f64(),
        args.out.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::WHOLE;

    fn args() -> RecordArgs {
        RecordArgs {
            pipeline: PathBuf::new(),
            out: PathBuf::from("out.recording"),
            duration: None,
            overrides: Overrides::default(),
        }
    }

    #[test]
    fn only_the_sources_are_run_and_all_of_them_are_recorded() {
        let plan = Plan::parse("test.toml", WHOLE, &|_: &str| None).expect("valid");
        let plan = recording(plan, &args()).expect("there are sources");
        let names: Vec<_> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["ams", "us", "(recorder)"]);
        let read: Vec<_> = plan.nodes[2].inputs.iter().map(|edge| edge.from).collect();
        assert_eq!(read, [0, 1]);
    }
}
