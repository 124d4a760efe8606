//! `sluice repair`: finds the files that an output folder lacks, and fetches them.
//!
//! What is looked at lies between the first and the last range of which there is anything. Exit codes as those of
//! `sluice backfill`; with `--dry-run` 0 if nothing is missing, else 4.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use sluice_sinks::parquet::{Inventory, Missing, ParquetOptions};

use super::backfill::job::{Origin, Output, check_folders, fill, targets};
use super::backfill::rewrite::take_out;
use super::backfill::{EXIT_HOLES, MAX_WORKERS, RewriteError, SlotSpan, finish, load};
use super::run::EXIT_FAILED;
use crate::kinds::erase;
use crate::overrides::Overrides;
use crate::plan::{Plan, PlanNode};
use crate::report;

/// Arguments of `sluice repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// The output folder, if the pipeline has several or it was moved, and the pipeline's file.
    #[arg(value_names = ["DIR", "PIPELINE.toml"], num_args = 1..=2, required = true)]
    pub paths: Vec<PathBuf>,
    /// Only list what is missing.
    #[arg(long)]
    pub dry_run: bool,
    /// Blocks fetched at a time, at most; fewer while the node pushes back.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_WORKERS))]
    pub workers: Option<u64>,
    /// Values over those of the file.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Lists what is missing, and fetches it.
pub async fn run(args: RepairArgs) -> ExitCode {
    let (folder, pipeline) = match args.paths.as_slice() {
        [folder, pipeline] => (Some(folder.as_path()), pipeline),
        [pipeline, ..] => (None, pipeline),
        [] => return ExitCode::from(EXIT_FAILED),
    };
    if folder.is_none() && pipeline.is_dir() {
        let path = pipeline.display();
        report::print_error(&format!(
            "{path} is a folder: name the pipeline that writes it, too, since it says where to fetch from: sluice repair \
             {path} PIPELINE.toml\n"
        ));
        return ExitCode::from(EXIT_FAILED);
    }
    let plan = match load(&args.overrides, pipeline) {
        Ok(plan) => plan,
        Err(code) => return code,
    };
    let found = examine(plan, folder);
    let (plan, examined) = match found {
        Ok(found) => found,
        Err(error) => return finish(Err(error)),
    };
    report::print(&describe(&examined));
    if examined.iter().all(|one| one.missing.is_empty()) {
        return ExitCode::SUCCESS;
    }
    if args.dry_run {
        return ExitCode::from(EXIT_HOLES);
    }
    if let Err(error) = check_folders(&plan) {
        return finish(Err(error));
    }
    let workers = args.workers.and_then(|workers| usize::try_from(workers).ok());
    finish(fill(plan, examined.into_iter().map(|one| one.output).collect(), Origin::Rpc(workers)).await)
}

/// A folder and what it lacks.
struct Examined {
    output: Output,
    missing: Missing,
    inventory: Inventory,
}

/// Looks at each folder that holds anything. The plan that comes back writes to no other.
fn examine(mut plan: Plan, folder: Option<&Path>) -> anyhow::Result<(Plan, Vec<Examined>)> {
    if let Some(folder) = folder {
        ensure!(folder.is_dir(), "{} is not a folder", folder.display());
        point_to(&mut plan, folder)?;
    }
    let mut examined = Vec::new();
    for target in targets(&plan) {
        let inventory = Inventory::read(&target.path, target.commit_slots, &target.required)?;
        let Some((first, last)) = inventory.extent() else { continue };
        let missing = inventory.missing(first, last);
        let output =
            Output { commit_slots: inventory.commit_slots(), ..target.holding(SlotSpan { first, last }) };
        examined.push(Examined { output, missing, inventory });
    }
    keep_files(&mut plan, |path| examined.iter().any(|one| one.output.path == path));
    Ok((plan, examined))
}

/// Leaves of the pipeline's sinks of files the one that writes `folder`; the only one there is writes to wherever the folder
/// is now.
fn point_to(plan: &mut Plan, folder: &Path) -> anyhow::Result<()> {
    let wanted = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let is_it = |path: &Path| path.canonicalize().is_ok_and(|path| path == wanted);
    let paths: Vec<PathBuf> = targets(plan).into_iter().map(|target| target.path).collect();
    let found = paths.iter().find(|path| is_it(path)).or_else(|| paths.first().filter(|_| paths.len() == 1));
    let Some(found) = found else {
        if paths.is_empty() {
            bail!(RewriteError::NoFiles);
        }
        bail!("none of the pipeline's {} parquet sinks writes to {}", paths.len(), folder.display());
    };
    for node in &mut plan.nodes {
        let Some(files) = node.options.as_any().downcast_ref::<ParquetOptions>() else { continue };
        if files.path == *found {
            node.options = erase(ParquetOptions { path: folder.to_owned(), ..files.clone() });
        }
    }
    keep_files(plan, |path| path == folder);
    Ok(())
}

/// Takes out the sinks of files that write elsewhere.
fn keep_files(plan: &mut Plan, is_kept: impl Fn(&Path) -> bool) {
    let goes = |node: &PlanNode| {
        node.options.as_any().downcast_ref::<ParquetOptions>().is_some_and(|files| !is_kept(&files.path))
    };
    while let Some(at) = plan.nodes.iter().position(goes) {
        take_out(&mut plan.nodes, at);
    }
}

fn describe(examined: &[Examined]) -> String {
    let mut text = String::new();
    for Examined { output, missing, inventory } in examined {
        let SlotSpan { first, last } = output.span;
        let path = output.path.display();
        // A string takes everything.
        writeln!(text, "{path}: slots {first} to {last}, {} ranges missing", missing.ranges()).ok();
        for stretch in missing.stretches() {
            writeln!(text, "  {}..={} ({} slots)", stretch.first, stretch.last, stretch.slots()).ok();
        }
        for lag in inventory.lags() {
            let what = match lag.is_recoverable {
                true => "they can be made again",
                false => "no RPC node has them; only replays and spools do",
            };
            writeln!(
                text,
                "  `{}` lacks {} ranges that the blocks are there for: {what}",
                lag.dataset,
                lag.ranges.len()
            )
            .ok();
        }
    }
    text
}
