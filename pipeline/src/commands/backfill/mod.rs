//! `sluice backfill`: writes the files of past slots, the same ones that the live stream would have written.
//!
//! Exit codes: 0 all files are there, 1 the pipeline failed, 4 some files are not there, 78 the pipeline is not valid. What
//! is there is not fetched again, so a backfill that was stopped goes on where it was.

pub(super) mod job;
mod progress;
pub(super) mod rewrite;
mod slots;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use sluice_sinks::parquet::MAX_SLOT;
use sluice_stages::car::CarRoot;
use sluice_stages::recovery::pool::RpcList;

use self::job::{Origin, Outcome, check_folders, fill, targets};
pub use self::rewrite::RewriteError;
pub use self::slots::SlotSpan;
use super::run::EXIT_FAILED;
use crate::overrides::Overrides;
use crate::plan::Plan;
use crate::report::{self, EXIT_CONFIG};

/// Some files are not there.
pub const EXIT_HOLES: u8 = 4;

/// Most questions that may be under way at a time.
pub(super) const MAX_WORKERS: u64 = 256;

/// Arguments of `sluice backfill`.
#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// The pipeline's file; `-` is standard input.
    #[arg(value_name = "PIPELINE.toml")]
    pub pipeline: PathBuf,
    /// Which slots.
    #[command(flatten)]
    pub what: BackfillSlots,
    /// Blocks fetched at a time from all RPC nodes together, at most; fewer while they push back. Default 12 for each node,
    /// or its `max_in_flight` if that is more.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_WORKERS))]
    pub workers: Option<u64>,
    /// Read an Old Faithful archive instead, a file or a url, which takes no RPC calls but for its first and last block.
    #[arg(long, value_name = "PATH|URL", conflicts_with = "workers")]
    pub car: Option<String>,
    /// The root that was published for the archive's epoch, `bafyrei…`; another archive is refused.
    #[arg(long, value_name = "CID", requires = "car")]
    pub car_root: Option<CarRoot>,
    /// Values over those of the file.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Which slots; rounded up to whole files.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct BackfillSlots {
    /// Slots: `A..B` without B, `A..=B` with it; up to 999999999999. Those that are to come are told as missing.
    #[arg(long, value_name = "A..B")]
    pub slots: Option<SlotSpan>,
    /// An epoch of 432,000 slots.
    #[arg(long, value_name = "E")]
    pub epoch: Option<u64>,
    /// From so long ago to now, e.g. 2h or 30m.
    #[arg(long, value_name = "TIME", value_parser = sluice_config::units::parse_duration)]
    pub since: Option<Duration>,
}

/// Fills the files.
pub async fn run(args: BackfillArgs) -> ExitCode {
    let plan = match load(&args.overrides, &args.pipeline) {
        Ok(plan) => plan,
        Err(code) => return code,
    };
    finish(backfill(plan, &args).await)
}

/// Reads the pipeline, and shows what is wrong with it.
pub(super) fn load(overrides: &Overrides, path: &Path) -> Result<Plan, ExitCode> {
    let plan = overrides.load(path).map_err(|diagnostics| {
        report::show(&diagnostics);
        ExitCode::from(EXIT_CONFIG)
    })?;
    report::show(&plan.warnings);
    Ok(plan)
}

/// Shows what became of it.
pub(super) fn finish(outcome: anyhow::Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(outcome) => {
            report::print(&outcome.describe());
            match &outcome.failure {
                Some(error) => tracing::error!("{error:#}"),
                None if outcome.is_whole() => return ExitCode::SUCCESS,
                None => {}
            }
            ExitCode::from(if outcome.failure.is_some() { EXIT_FAILED } else { EXIT_HOLES })
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn backfill(plan: Plan, args: &BackfillArgs) -> anyhow::Result<Outcome> {
    let targets = targets(&plan);
    ensure!(!targets.is_empty(), RewriteError::NoFiles);
    check_folders(&plan)?;
    let commit_slots = targets.iter().map(|target| target.commit_slots).max().unwrap_or(1);
    let span = span(rewrite::rpc(&plan), &args.what, commit_slots).await?;
    let workers = args.workers.map(usize::try_from).transpose()?;
    let origin = args.car.clone().map_or(Origin::Rpc(workers), |place| Origin::Car(place, args.car_root));
    fill(plan, targets.into_iter().map(|target| target.holding(span)).collect(), origin).await
}

async fn span(
    rpc: Result<RpcList, RewriteError>,
    what: &BackfillSlots,
    commit_slots: u64,
) -> anyhow::Result<SlotSpan> {
    if let Some(span) = what.slots {
        return Ok(span);
    }
    if let Some(epoch) = what.epoch {
        return SlotSpan::of_epoch(epoch).with_context(|| {
            format!("epoch {epoch} ends behind slot {MAX_SLOT}, the last that files can be of")
        });
    }
    let ago = what.since.context("give --slots, --epoch or --since")?;
    slots::since(&rpc?, ago, commit_slots).await
}
