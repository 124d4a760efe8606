//! The pure stages in a row, as the example pipelines wire them.

use sluice_stages::batch::{Batch, Item};
use sluice_stages::block::{Block, Part};
use sluice_stages::commitment::{Commitment, CommitmentOptions};
use sluice_stages::dedupe::Dedupe;
use sluice_stages::filter::TransactionFilters;
use sluice_stages::frame::Kind;
use sluice_stages::gap_detector::GapDetector;
use sluice_stages::merge::Merge;
use sluice_stages::recovery::plan::{Fetch, Fetched, Planner};
use sluice_stages::slot::{Commitment as Level, Slot, Timestamp};
use sluice_stages::stage::{Event, Metric, Output, Stage};

use super::mutant::Mutant;
use super::scenario::Scenario;

/// What came out of a step.
#[derive(Default)]
pub(super) struct Yield {
    pub(super) blocks: Vec<std::sync::Arc<Block>>,
    pub(super) events: Vec<Event>,
}

pub(super) struct Pipeline {
    merge: Merge,
    dedupe: Dedupe,
    gap_detector: GapDetector,
    planner: Planner,
    commitment: Commitment,
    mutant: Option<Mutant>,
    /// The slot of the first block meta that the ledger saw: where a pipeline begins that begins with the tip.
    pub(super) first_meta: Option<Slot>,
}

impl Pipeline {
    pub(super) fn new(scenario: &Scenario, mutant: Option<Mutant>, seed: u64) -> Self {
        let scope = scenario.subscription.scope();
        let filters = TransactionFilters::try_new(scenario.subscription.selected_transactions());
        let planner = Planner::new(
            scenario.recovery.clone(),
            scope,
            filters.expect("scenarios filter by votes, not by keys"),
            (0..scenario.links.len() as u16).collect(),
            scenario.start,
            seed,
        );
        let mut commitment = scenario.commitment.clone();
        if mutant == Some(Mutant::EmitsUnsettled) {
            commitment = CommitmentOptions { level: Level::Processed, ..commitment };
        }
        Self {
            merge: Merge::new(scenario.merge.clone()),
            dedupe: Dedupe::new(scenario.dedupe.clone()),
            gap_detector: GapDetector::new(scenario.gap_detector.clone(), scope, scenario.start),
            planner,
            commitment: Commitment::new(commitment),
            mutant,
            first_meta: None,
        }
    }

    /// A batch from the source at position `input`.
    pub(super) fn on_batch(&mut self, now: Timestamp, input: usize, batch: Batch, out: &mut Yield) {
        let mut merged = Output::default();
        self.merge.on_batch(now, input, batch, &mut merged);
        let batch = self.pass(now, merged, out);
        let mut deduped = Output::default();
        self.dedupe.on_batch(now, 0, batch, &mut deduped);
        if self.mutant == Some(Mutant::DropsEchoes) {
            deduped.items.retain(|item| !matches!(item, Item::Echo(_)));
        }
        self.note_first_meta(&deduped.items);
        let batch = self.pass(now, deduped, out);
        let mut ledger = Output::default();
        self.gap_detector.on_batch(now, 0, batch, &mut ledger);
        self.after_ledger(now, ledger, out);
    }

    pub(super) fn on_tick(&mut self, now: Timestamp, out: &mut Yield) {
        let mut ledger = Output::default();
        self.gap_detector.on_tick(now, &mut ledger);
        self.after_ledger(now, ledger, out);
        let mut settled = Output::default();
        self.commitment.on_tick(now, &mut settled);
        self.deliver(now, settled, out);
    }

    pub(super) fn on_pressure(&mut self, now: Timestamp, out: &mut Yield) {
        let mut nothing = Output::default();
        self.dedupe.on_pressure(now, &mut nothing);
        let mut ledger = Output::default();
        self.gap_detector.on_pressure(now, &mut ledger);
        self.after_ledger(now, ledger, out);
        let mut settled = Output::default();
        self.commitment.on_pressure(now, &mut settled);
        self.deliver(now, settled, out);
    }

    pub(super) fn on_fetched(&mut self, now: Timestamp, fetch: Fetch, fetched: Fetched, out: &mut Yield) {
        let mut recovered = Output::default();
        self.planner.on_fetched(now, fetch, fetched, &mut recovered);
        self.after_recovery(now, recovered, out);
    }

    pub(super) fn ask_again(&mut self, now: Timestamp, slot: Slot) {
        self.planner.on_request(now, &[slot]);
    }

    pub(super) fn next_fetch(&mut self, now: Timestamp) -> Option<Fetch> {
        self.planner.next_fetch(now).filter(|_| self.mutant != Some(Mutant::NeverFetches))
    }

    pub(super) fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        self.dedupe.metrics(show);
        self.gap_detector.metrics(show);
        self.planner.metrics(show);
        self.commitment.metrics(show);
    }

    fn after_ledger(&mut self, now: Timestamp, ledger: Output, out: &mut Yield) {
        let batch = self.pass(now, ledger, out);
        let mut recovered = Output::default();
        self.planner.on_batch(now, batch, &mut recovered);
        self.after_recovery(now, recovered, out);
    }

    fn after_recovery(&mut self, now: Timestamp, recovered: Output, out: &mut Yield) {
        let batch = self.pass(now, recovered, out);
        let mut settled = Output::default();
        self.commitment.on_batch(now, 0, batch, &mut settled);
        self.deliver(now, settled, out);
    }

    fn deliver(&mut self, now: Timestamp, settled: Output, out: &mut Yield) {
        for item in self.pass(now, settled, out) {
            let Item::Block(mut block) = item else { continue };
            if self.mutant == Some(Mutant::LosesTransactions) && block.slot() % 7 == 3 {
                block = std::sync::Arc::new(without_last_transaction(&block));
            }
            if self.mutant == Some(Mutant::EmitsTwice) {
                out.blocks.push(std::sync::Arc::clone(&block));
            }
            out.blocks.push(block);
        }
    }

    /// What every stage's output has beside its items goes where the runner would send it.
    fn pass(&mut self, now: Timestamp, mut output: Output, out: &mut Yield) -> Batch {
        out.events.append(&mut output.events);
        if !output.requests.is_empty() {
            self.planner.on_request(now, &output.requests);
        }
        output.items
    }

    fn note_first_meta(&mut self, items: &[Item]) {
        let meta = |item: &Item| match item {
            Item::Update(update) if update.frame.header.kind == Kind::BlockMeta => {
                Some(update.frame.header.slot)
            }
            _ => None,
        };
        self.first_meta = self.first_meta.or_else(|| items.iter().find_map(meta));
    }
}

fn without_last_transaction(block: &Block) -> Block {
    let updates = block.transactions.updates().unwrap_or_default();
    let kept = updates.split_last().map_or(&[][..], |(_, kept)| kept);
    Block { transactions: Part::Whole(kept.into()), ..block.clone() }
}
