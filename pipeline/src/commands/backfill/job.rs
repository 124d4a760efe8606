//! Fills ranges of a pipeline's files: what `sluice backfill` and `sluice repair` have in common.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sluice_sinks::parquet::{CommitRange, Dataset, Inventory, ParquetOptions};
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
    pub(crate) fn missing(&self) -> anyhow::Result<Vec<CommitRange>> {
        let inventory = Inventory::read(&self.path, self.commit_slots, &self.required)?;
        Ok(inventory.missing(self.span.first, self.span.last))
    }

    /// Number of ranges in the span.
    fn ranges(&self) -> u64 {
        let range = |slot| CommitRange::containing(slot, self.commit_slots);
        (range(self.span.last).first - range(self.span.first).first) / self.commit_slots + 1
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

/// The ranges that any of the outputs lacks, joined where they touch.
pub(crate) fn stretches(missing: impl IntoIterator<Item = CommitRange>) -> Vec<SlotRange> {
    let mut ranges: Vec<CommitRange> = missing.into_iter().collect();
    ranges.sort_unstable();
    let mut joined: Vec<SlotRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
            _ => joined.push(SlotRange { first: range.first, last: range.last }),
        }
    }
    joined
}

/// What became of a job.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Ranges that were there before.
    pub(crate) there: u64,
    /// Ranges that were written.
    pub(crate) written: u64,
    /// Ranges that are still not there.
    pub(crate) holes: Vec<CommitRange>,
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
        self.holes.is_empty() && self.failure.is_none()
    }

    /// What an operator wants to know at the end.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!(
            "{} files' ranges written in {:.1} s, {} were there, {} missing\n",
            self.written,
            self.took.as_secs_f64(),
            self.there,
            self.holes.len()
        );
        for (hole, reason) in self.explained_holes() {
            // A string takes everything.
            writeln!(text, "  missing {}..={}: {reason}", hole.first, hole.last).ok();
        }
        text
    }

    /// The holes, those joined that touch and have the same reason: an epoch has a thousand ranges.
    fn explained_holes(&self) -> Vec<(SlotRange, String)> {
        let mut explained: Vec<(SlotRange, String)> = Vec::new();
        for hole in &self.holes {
            let reason = self.reason(*hole);
            match explained.last_mut() {
                Some((range, same)) if range.last.saturating_add(1) == hole.first && *same == reason => {
                    range.last = hole.last;
                }
                _ => explained.push((SlotRange { first: hole.first, last: hole.last }, reason)),
            }
        }
        explained
    }

    fn reason(&self, hole: CommitRange) -> String {
        let reason = self.reasons.range(hole.first..).next().filter(|(slot, _)| hole.contains(**slot));
        let reason = reason.or_else(|| self.reasons.range(hole.last..).next());
        reason.map_or("not reached".to_owned(), |(slot, why)| format!("slot {slot}: {why}"))
    }
}

/// Fills the outputs of `plan`.
pub(crate) async fn fill(plan: Plan, outputs: Vec<Output>, origin: Origin) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let mut missing = Vec::new();
    for output in &outputs {
        missing.extend(output.missing()?);
    }
    let all: u64 = outputs.iter().map(Output::ranges).sum();
    let there = all - missing.len() as u64;
    let stretches = stretches(missing.iter().copied());
    let mut outcome = Outcome {
        there,
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
    for output in &outputs {
        outcome.holes.extend(output.missing()?);
    }
    outcome.written = (missing.len() as u64).saturating_sub(outcome.holes.len() as u64);
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
    use super::*;

    #[test]
    fn holes_of_one_reason_are_told_in_one_line() {
        let holes = [0, 10, 20, 40].map(|first| CommitRange::containing(first, 10)).to_vec();
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
    fn ranges_that_touch_are_fetched_in_one_stretch() {
        let range = |first| CommitRange::containing(first, 10);
        let stretches =
            stretches([range(40), range(0), range(10), range(10), CommitRange::containing(20, 5)]);
        let expected = [SlotRange { first: 0, last: 24 }, SlotRange { first: 40, last: 49 }];
        assert_eq!(stretches, expected);
    }
}
