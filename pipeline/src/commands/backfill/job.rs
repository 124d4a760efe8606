//! Fills ranges of a pipeline's files: what `sluice backfill` and `sluice repair` have in common.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sluice_sinks::parquet::{Dataset, Inventory, Missing, ParquetOptions};
use sluice_stages::backfill::{RpcBlocksOptions, SlotRange};
use sluice_stages::car::{CarOptions, CarRoot};
use sluice_stages::recovery::rpc::RpcOptions;
use sluice_stages::slot::Slot;
use sluice_stages::stage::Event;
use sluice_stages::watch::Reported;
use sluice_stages::yellowstone::filters::Selection;
use tokio::sync::broadcast::{self, error::TryRecvError};

use super::progress::Progress;
use super::rewrite::{Rewritten, options_of, rewrite, rpc, transactions};
use super::slots::SlotSpan;
use crate::plan::Plan;
use crate::runner::{self, Running};
use crate::signals::Signals;

/// Questions under way at a time at one node, unless the command line or the node's options say more: enough for a rate of 50 at a quarter of a second
/// an answer. Four times as many blocks may wait, as far as the pipeline's memory allows.
const DEFAULT_WORKERS: usize = 12;
/// How often the bar moves, and reports are read.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Reasons that are remembered; a node without a history has one for each file.
const MAX_REASONS: usize = 1_000;

/// Where blocks come from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// The RPC nodes of the pipeline's recovery, with so many questions at a time, if that was said.
    Rpc(Option<usize>),
    /// An archive, by its path or url, with its published root if that was given; the RPC nodes, if there are any, prove its
    /// ends.
    Car(String, Option<CarRoot>),
}

/// The folder of one sink, and what it is to hold.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// The folder.
    pub(crate) path: PathBuf,
    /// Slots of a file.
    pub(crate) commit_slots: u64,
    /// The datasets that a range has to have.
    pub(crate) required: Vec<Dataset>,
    /// The span that has to be there.
    pub(crate) span: SlotSpan,
}

impl Output {
    /// The ranges that are not there.
    pub(crate) fn missing(&self) -> anyhow::Result<Missing> {
        let inventory = Inventory::read(&self.path, self.commit_slots, &self.required)?;
        Ok(inventory.missing(self.span.first, self.span.last))
    }
}

/// A folder that a plan writes to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Slots of a file.
    pub(crate) commit_slots: u64,
    /// The datasets that each range gets.
    pub(crate) required: Vec<Dataset>,
}

impl Target {
    /// The same with what it is to hold.
    pub(crate) fn holding(self, span: SlotSpan) -> Output {
        Output { path: self.path, commit_slots: self.commit_slots, required: self.required, span }
    }
}

/// The folders that a plan writes to.
pub(crate) fn targets(plan: &Plan) -> Vec<Target> {
    let with_transactions = transactions(plan) != Selection::Nothing;
    let target = |(_, files): (&str, &ParquetOptions)| Target {
        path: files.path.clone(),
        commit_slots: files.commit_slots,
        required: files.fillable(with_transactions),
    };
    options_of::<ParquetOptions>(plan).map(target).collect()
}

/// Checks that the folders that a plan writes to, as far as they were used before, hold files of the plan's size and make:
/// what is missing in them can't be told otherwise.
pub(crate) fn check_folders(plan: &Plan) -> anyhow::Result<()> {
    Ok(options_of::<ParquetOptions>(plan).try_for_each(|(_, files)| files.check_folder())?)
}

/// The stretches of all outputs, joined where they touch.
fn joined(missing: &[Missing]) -> Vec<SlotRange> {
    let mut stretches: Vec<SlotRange> = missing.iter().flat_map(Missing::stretches).copied().collect();
    stretches.sort_unstable();
    let mut joined: Vec<SlotRange> = Vec::new();
    for stretch in stretches {
        match joined.last_mut() {
            Some(last) if stretch.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(stretch.last)
            }
            _ => joined.push(stretch),
        }
    }
    joined
}

fn ranges(missing: &[Missing]) -> u64 {
    missing.iter().map(Missing::ranges).sum()
}

/// What became of a job.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Ranges that were there before.
    pub(crate) there: u64,
    /// Ranges that were written.
    pub(crate) written: u64,
    /// What each output still lacks.
    pub(crate) holes: Vec<Missing>,
    /// What was said of slots that could not be had.
    reasons: BTreeMap<Slot, String>,
    /// How long it took.
    took: Duration,
    /// Why the pipeline ended before its time, if it did.
    pub(crate) failure: Option<anyhow::Error>,
}

impl Outcome {
    /// Whether everything is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.holes.iter().all(Missing::is_empty) && self.failure.is_none()
    }

    /// What an operator wants to know at the end.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!(
            "{} files' ranges written in {:.1} s, {} were there, {} missing\n",
            self.written,
            self.took.as_secs_f64(),
            self.there,
            ranges(&self.holes)
        );
        for (hole, reason) in self.explained_holes() {
            // A string takes everything.
            writeln!(text, "  missing {}..={}: {reason}", hole.first, hole.last).ok();
        }
        text
    }

    /// The holes, each as far as it has one reason: an epoch has a thousand ranges.
    fn explained_holes(&self) -> Vec<(SlotRange, String)> {
        let mut explained = Vec::new();
        for missing in &self.holes {
            for stretch in missing.stretches() {
                self.explain(missing, *stretch, &mut explained);
            }
        }
        explained
    }

    /// Goes from reason to reason: each stands for the ranges up to its own.
    fn explain(&self, missing: &Missing, stretch: SlotRange, explained: &mut Vec<(SlotRange, String)>) {
        let mut first = stretch.first;
        loop {
            let reason = self.reasons.range(first..).next();
            let end = reason.map_or(stretch.last, |(slot, _)| missing.range_of(*slot).last);
            let last = end.min(stretch.last);
            let reason = reason.map_or("not reached".to_owned(), |(slot, why)| format!("slot {slot}: {why}"));
            explained.push((SlotRange { first, last }, reason));
            match last.checked_add(1) {
                Some(next) if last < stretch.last => first = next,
                _ => return,
            }
        }
    }
}

/// Fills the outputs of `plan`.
pub(crate) async fn fill(plan: Plan, outputs: Vec<Output>, origin: Origin) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let look = || outputs.iter().map(Output::missing).collect::<anyhow::Result<Vec<Missing>>>();
    let missing = look()?;
    let stretches = joined(&missing);
    let mut outcome = Outcome {
        there: missing.iter().map(Missing::there).sum(),
        written: 0,
        holes: Vec::new(),
        reasons: BTreeMap::new(),
        took: Duration::ZERO,
        failure: None,
    };
    if !stretches.is_empty() {
        let slots = stretches.iter().map(|range| range.slots()).sum();
        let commit_slots = outputs.iter().map(|output| output.commit_slots).max().unwrap_or(1);
        let Rewritten { plan, left_out } = match origin {
            Origin::Rpc(workers) => filled_by_rpc(plan, stretches, commit_slots, workers)?,
            Origin::Car(place, root) => filled_by_car(plan, stretches, &place, root)?,
        };
        if !left_out.is_empty() {
            tracing::info!(sinks = left_out.join(", "), "left out: they are for what happens now");
        }
        let deadline = plan.settings.shutdown_deadline;
        let running = runner::start(plan)?;
        let mut reports = Reasons { reports: running.watch().reports(), found: BTreeMap::new() };
        outcome.failure = drive(running, deadline, slots, &mut reports).await.err();
        outcome.reasons = reports.found;
    }
    outcome.holes = look()?;
    outcome.written = ranges(&missing).saturating_sub(ranges(&outcome.holes));
    outcome.took = began.elapsed();
    Ok(outcome)
}

fn filled_by_rpc(
    plan: Plan,
    ranges: Vec<SlotRange>,
    commit_slots: u64,
    workers: Option<usize>,
) -> anyhow::Result<Rewritten> {
    let start = ranges.first().map_or(0, |range| range.first);
    let least = workers.unwrap_or(DEFAULT_WORKERS);
    let eager =
        |node: &RpcOptions| RpcOptions { max_in_flight: node.max_in_flight.max(least), ..node.clone() };
    let rpc: Vec<RpcOptions> = rpc(&plan)?.nodes().iter().map(eager).collect();
    let options = RpcBlocksOptions {
        max_in_flight: workers,
        transactions: transactions(&plan),
        commit_slots,
        ..RpcBlocksOptions::new(rpc, ranges)
    };
    Ok(rewrite(plan, options, start)?)
}

fn filled_by_car(
    plan: Plan,
    ranges: Vec<SlotRange>,
    place: &str,
    root: Option<CarRoot>,
) -> anyhow::Result<Rewritten> {
    let start = ranges.first().map_or(0, |range| range.first);
    let (rpc, transactions) = (rpc(&plan).ok(), transactions(&plan));
    let options = CarOptions { root, rpc, ranges, transactions, ..CarOptions::new(place) };
    Ok(rewrite(plan, options, start)?)
}

/// Waits for the pipeline's end; a signal asks it to end early.
async fn drive(
    running: Running,
    deadline: Duration,
    slots: u64,
    reasons: &mut Reasons,
) -> anyhow::Result<()> {
    let (watch, stop) = (running.watch(), running.stopper());
    let joined = running.join(deadline);
    tokio::pin!(joined);
    let mut signals = Signals::listen();
    let mut progress = Progress::start(slots);
    let mut is_interrupted = false;
    loop {
        tokio::select! {
            result = &mut joined => {
                progress.finish(&watch);
                reasons.read();
                result?;
                anyhow::ensure!(!is_interrupted, "stopped by a signal; what is there stays, start again to go on");
                return Ok(());
            }
            () = signals.next() => {
                is_interrupted = true;
                stop.cancel();
            }
            () = tokio::time::sleep(LOOK_INTERVAL) => {
                reasons.read();
                progress.show(&watch);
            }
        }
    }
}

/// Collects why slots could not be had.
struct Reasons {
    reports: broadcast::Receiver<Reported>,
    found: BTreeMap<Slot, String>,
}

impl Reasons {
    fn read(&mut self) {
        loop {
            match self.reports.try_recv() {
                Ok(Reported { event: Event::HoleOpened { slot, reason }, .. })
                    if self.found.len() < MAX_REASONS =>
                {
                    self.found.insert(slot, reason);
                }
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use sluice_sinks::parquet::MAX_SLOT;

    use super::*;

    /// What is missing of a folder that holds the files of blocks that begin with these slots.
    fn missing(span: SlotSpan, commit_slots: u64, there: &[Slot]) -> Missing {
        let root = tempfile::tempdir().expect("a folder");
        for first in there {
            let name = format!("blocks/epoch=0/{first:012}-{:012}.parquet", first + commit_slots - 1);
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, "").expect("written");
        }
        let output = Output { path: root.path().to_owned(), commit_slots, required: Vec::new(), span };
        output.missing().expect("readable")
    }

    #[test]
    fn holes_of_one_reason_are_told_in_one_line() {
        let holes = vec![missing(SlotSpan { first: 0, last: 49 }, 10, &[30])];
        let reasons = BTreeMap::from([(5, "lost".to_owned()), (49, "not final".to_owned())]);
        let outcome = Outcome { there: 0, written: 0, holes, reasons, took: Duration::ZERO, failure: None };
        let lines: Vec<String> = outcome.describe().lines().skip(1).map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "  missing 0..=9: slot 5: lost",
                "  missing 10..=29: slot 49: not final",
                "  missing 40..=49: slot 49: not final"
            ]
        );
    }

    #[test]
    fn holes_that_nobody_came_to_are_told_however_many_they_are() {
        let holes = vec![missing(SlotSpan { first: 0, last: MAX_SLOT }, 10, &[])];
        let reasons = BTreeMap::from([(7, "not final".to_owned())]);
        let outcome = Outcome { there: 0, written: 0, holes, reasons, took: Duration::ZERO, failure: None };
        assert!(!outcome.is_whole());
        let told = outcome.describe();
        assert!(told.contains("0 were there, 100000000000 missing"), "{told}");
        assert!(told.contains("  missing 0..=9: slot 7: not final"), "{told}");
        assert!(told.contains("  missing 10..=999999999999: not reached"), "{told}");
    }

    #[test]
    fn ranges_that_touch_are_fetched_in_one_stretch() {
        let first = missing(SlotSpan { first: 0, last: 49 }, 10, &[20, 30]);
        let second = missing(SlotSpan { first: 20, last: 24 }, 5, &[]);
        let expected = [SlotRange { first: 0, last: 24 }, SlotRange { first: 40, last: 49 }];
        assert_eq!(joined(&[first, second]), expected);
    }

    #[test]
    fn a_folder_of_files_of_another_size_is_refused_with_both_sizes() {
        let root = tempfile::tempdir().expect("a folder");
        let checked = |commit_slots: u64, path: &Path| {
            let text = format!(
                "[sources.a]\ntype = \"yellowstone\"\nurl = \"http://a\"\n[stages.b]\ntype = \"gap_detector\"\ninputs = [\"a\"]\n\
                 [stages.c]\ntype = \"recovery\"\ninputs = [\"b\"]\n[stages.d]\ntype = \"commitment\"\ninputs = [\"c\"]\n\
                 [sinks.e]\ntype = \"parquet\"\ninputs = [\"d\"]\npath = \"{}\"\ncommit_slots = {commit_slots}\n",
                path.display()
            );
            let plan = Plan::parse("p.toml", &text, &|_: &str| None);
            check_folders(&plan.unwrap_or_else(|wrong| panic!("{}", wrong.render(false))))
        };
        assert!(checked(432, &root.path().join("new")).is_ok());
        let made = r#"{"format_version":1,"commit_slots":25,"keys":"base58","compression_level":1,"datasets":["blocks"]}"#;
        fs::write(root.path().join("sluice.json"), made).expect("written");
        for other in [432, 16] {
            let error = checked(other, root.path()).expect_err("another size").to_string();
            assert!(error.contains(&format!("another commit_slots (25, now {other})")), "{error}");
        }
    }
}
