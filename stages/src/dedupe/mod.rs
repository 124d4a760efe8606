//! `dedupe`: each message once.
//!
//! Updates in; out go those that are new, in their order, and an [`Echo`] for each that was there: the bytes of a repeat
//! are let go, the fact that this lane had it too is not, since the ledger judges by it which version of a slot is
//! whole. What is new is also checked down to its last field, so that a garbled copy can't displace a good one (counter
//! `malformed_total`). Equality is by index and then by content (see [`crate::candidates`]).
//!
//! State is kept for each slot until it is `keep_slots` behind the highest finalized slot (or `max_slots` behind the tip
//! where nothing becomes final); what comes for a slot before that is discarded
//! (`dedupe_discarded_total{reason="late"}`).

use std::collections::BTreeMap;
use std::ops::Range;

use hashbrown::HashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::account::Account;
use crate::batch::{Batch, Echo, EndpointId, Item, Lane, Update};
use crate::candidates::{Candidates, Offer, Which};
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Role};
use crate::frame::{BlockMeta, Kind, SlotStatus};
use crate::slot::{Slot, Timestamp};
use crate::stage::{Event, Flow, Metric, Output, Stage};
use crate::tip::{PLAUSIBLE_JUMP_SLOTS, Tip};
use crate::transaction::{Transaction, check};

/// Options of `dedupe`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DedupeOptions {
    /// How many slots behind the highest finalized one repeats are still known. Default 8: final is what was processed
    /// some 32 slots ago, so an endpoint may be 16 seconds late; each slot more holds its frames in memory.
    pub keep_slots: u64,
    /// How many slots behind the tip repeats are known at most, for streams on which nothing becomes final. Default 512.
    pub max_slots: u64,
}

impl Default for DedupeOptions {
    fn default() -> Self {
        Self { keep_slots: 8, max_slots: 512 }
    }
}

impl Component for DedupeOptions {
    const KIND: &'static str = "dedupe";
    const ROLE: Role = Role::Stage;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Updates);
    const EMITS: Emits = Emits::Only(Flow::Updates);
    const SUMMARY: &'static str = "Lets each message through once, whichever endpoints repeat it.";

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Stage(Box::new(Dedupe::new(self))))
    }
}

#[derive(Debug, Default)]
struct Seen {
    transactions: Candidates,
    transaction_statuses: Candidates,
    entries: Candidates,
    accounts: HashMap<[u8; 32], SmallVec<[Update; 1]>, foldhash::fast::RandomState>,
    statuses: SmallVec<[(SlotStatus, Option<Slot>); 8]>,
    metas: SmallVec<[Update; 1]>,
    others: SmallVec<[Update; 1]>,
}

/// Updates first delivered, and repeats, of one endpoint.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    firsts: u64,
    repeats: u64,
}

/// The stage.
pub struct Dedupe {
    options: DedupeOptions,
    slots: BTreeMap<Slot, Seen>,
    tip: Tip,
    finalized: Slot,
    floor: Slot,
    scratch: Transaction,
    tallies: BTreeMap<EndpointId, Tally>,
    malformed: u64,
    late: u64,
    run: Option<Run>,
}

/// A run of repeats that is still growing.
struct Run {
    kind: Kind,
    lane: Lane,
    slot: Slot,
    indexes: Range<u32>,
}

impl Dedupe {
    /// A dedupe that has seen nothing.
    pub fn new(options: DedupeOptions) -> Self {
        Self {
            options,
            slots: BTreeMap::new(),
            tip: Tip::default(),
            finalized: 0,
            floor: 0,
            scratch: Transaction::default(),
            tallies: BTreeMap::new(),
            malformed: 0,
            late: 0,
            run: None,
        }
    }

    fn on_update(&mut self, update: Update, out: &mut Output) {
        let header = update.frame.header;
        if header.slot < self.floor {
            self.late += 1;
            return;
        }
        self.tip.observe(header.slot);
        if header.status() == Some(SlotStatus::Finalized) && header.slot <= self.tip.slot() {
            self.finalized = self.finalized.max(header.slot);
        }
        match header.kind {
            Kind::Transaction | Kind::TransactionStatus | Kind::Entry => self.on_indexed(update, out),
            Kind::Account => self.on_account(update, out),
            Kind::Slot => self.on_status(update, out),
            Kind::BlockMeta => self.on_meta(update, out),
            Kind::Block | Kind::BlockFooter | Kind::EntryUpdateParent => self.on_other(update, out),
            Kind::Ping | Kind::Pong => {}
        }
    }

    fn on_indexed(&mut self, mut update: Update, out: &mut Output) {
        let kind = update.frame.header.kind;
        let seen = self.slots.entry(update.frame.header.slot).or_default();
        let candidates = match kind {
            Kind::Transaction => &mut seen.transactions,
            Kind::TransactionStatus => &mut seen.transaction_statuses,
            _ => &mut seen.entries,
        };
        if let Some(which) = candidates.find(&update) {
            let original = candidates.get(update.frame.header.index, which).cloned();
            return self.on_indexed_repeat(update, which, original, out);
        }
        if let Err(error) = check(&mut update.frame, &mut self.scratch) {
            return self.refuse(&update, &error.to_string(), out);
        }
        match candidates.offer(&update) {
            Offer::New(_) => self.pass(update, out),
            Offer::Repeat(_) => {}
            Offer::Refused => self.refuse(&update, "the index is beyond any block's size", out),
        }
    }

    fn on_indexed_repeat(
        &mut self,
        update: Update,
        which: Which,
        original: Option<Update>,
        out: &mut Output,
    ) {
        self.tally(&update).repeats += 1;
        let header = update.frame.header;
        if which == Which::First && header.kind != Kind::TransactionStatus {
            return self.extend_run(header.kind, update.lane(), header.slot, header.index, out);
        }
        self.end_run(out);
        if let Some(original) = original {
            out.push(Item::Echo(Echo::Update(in_the_name_of(original, &update))));
        }
    }

    fn on_account(&mut self, mut update: Update, out: &mut Output) {
        let account = match Account::read(update.frame.body()) {
            Ok(account) => account,
            Err(error) => return self.refuse(&update, &error.to_string(), out),
        };
        let seen = self.slots.entry(update.frame.header.slot).or_default();
        let writes = seen.accounts.entry(*account.pubkey).or_default();
        let same = |write: &&Update| {
            Account::read(write.frame.body()).is_ok_and(|earlier| earlier.same_write(&account))
        };
        if let Some(original) = writes.iter().find(same) {
            // The repeat's own frame goes on where its write version matters to its lane; the state is shared.
            let echo = in_the_name_of(original.clone(), &update);
            return self.echo(
                &update,
                Echo::Account { update: echo, write_version: account.write_version },
                out,
            );
        }
        update.frame.header.checked = true;
        writes.push(update.clone());
        self.pass(update, out);
    }

    fn on_status(&mut self, update: Update, out: &mut Output) {
        let header = update.frame.header;
        let Some(status) = header.status() else { return };
        let seen = self.slots.entry(header.slot).or_default();
        if seen.statuses.contains(&(status, header.parent())) {
            let echo = update.clone();
            return self.echo(&update, Echo::Update(echo), out);
        }
        seen.statuses.push((status, header.parent()));
        self.pass(update, out);
    }

    fn on_meta(&mut self, mut update: Update, out: &mut Output) {
        let meta = match BlockMeta::read(update.frame.body()) {
            Ok(meta) => meta,
            Err(error) => return self.refuse(&update, &error.to_string(), out),
        };
        let seen = self.slots.entry(update.frame.header.slot).or_default();
        let same = |earlier: &&Update| BlockMeta::read(earlier.frame.body()).is_ok_and(|other| other == meta);
        if let Some(original) = seen.metas.iter().find(same) {
            let echo = in_the_name_of(original.clone(), &update);
            return self.echo(&update, Echo::Update(echo), out);
        }
        update.frame.header.checked = true;
        seen.metas.push(update.clone());
        self.pass(update, out);
    }

    fn on_other(&mut self, update: Update, out: &mut Output) {
        let seen = self.slots.entry(update.frame.header.slot).or_default();
        let same = |earlier: &&Update| {
            earlier.frame.header.kind == update.frame.header.kind
                && earlier.frame.body() == update.frame.body()
        };
        if let Some(original) = seen.others.iter().find(same) {
            let echo = in_the_name_of(original.clone(), &update);
            return self.echo(&update, Echo::Update(echo), out);
        }
        seen.others.push(update.clone());
        self.pass(update, out);
    }

    fn pass(&mut self, update: Update, out: &mut Output) {
        self.end_run(out);
        self.tally(&update).firsts += 1;
        out.push(Item::Update(update));
    }

    fn echo(&mut self, repeat: &Update, echo: Echo, out: &mut Output) {
        self.end_run(out);
        self.tally(repeat).repeats += 1;
        out.push(Item::Echo(echo));
    }

    fn refuse(&mut self, update: &Update, reason: &str, out: &mut Output) {
        self.malformed += 1;
        out.report(Event::Malformed {
            endpoint: update.session.endpoint,
            slot: Some(update.frame.header.slot),
            reason: reason.to_owned(),
        });
    }

    fn tally(&mut self, update: &Update) -> &mut Tally {
        self.tallies.entry(update.session.endpoint).or_default()
    }

    fn extend_run(&mut self, kind: Kind, lane: Lane, slot: Slot, index: u32, out: &mut Output) {
        if let Some(run) = &mut self.run
            && (run.kind, run.lane, run.slot, run.indexes.end) == (kind, lane, slot, index)
        {
            run.indexes.end += 1;
            return;
        }
        self.end_run(out);
        self.run = Some(Run { kind, lane, slot, indexes: index..index + 1 });
    }

    /// Pushes the run that was growing, so that echoes keep their place among the updates.
    fn end_run(&mut self, out: &mut Output) {
        let Some(Run { kind, lane, slot, indexes }) = self.run.take() else { return };
        out.push(Item::Echo(match kind {
            Kind::Transaction => Echo::Transactions { lane, slot, indexes },
            _ => Echo::Entries { lane, slot, indexes },
        }));
    }

    fn forget(&mut self) {
        let by_finality = self.finalized.saturating_sub(self.options.keep_slots);
        let floor = by_finality.max(self.tip.slot().saturating_sub(self.options.max_slots));
        if floor > self.floor {
            self.floor = floor;
            self.slots = self.slots.split_off(&floor);
        }
        // Slots that only garbled numbers can be, if there are more than a few.
        let beyond = self.tip.slot().saturating_add(PLAUSIBLE_JUMP_SLOTS);
        if self.slots.len() as u64 > self.options.max_slots {
            self.slots.split_off(&beyond);
        }
    }
}

/// The original's bytes as a delivery of the repeat's lane.
fn in_the_name_of(original: Update, repeat: &Update) -> Update {
    let mut echo = original;
    echo.session = repeat.session;
    echo.received_at = repeat.received_at;
    echo.frame.header.bank_id = repeat.frame.header.bank_id;
    echo
}

impl Stage for Dedupe {
    fn on_batch(&mut self, _: Timestamp, _: usize, batch: Batch, out: &mut Output) {
        out.items.reserve(batch.len());
        for item in batch {
            match item {
                Item::Update(update) => self.on_update(update, out),
                other => {
                    self.end_run(out);
                    out.push(other);
                }
            }
        }
        self.end_run(out);
        self.forget();
    }

    fn on_pressure(&mut self, _: Timestamp, _: &mut Output) {
        // The ledger behind knows a repeat of these slots when it sees one; only the echo is lost.
        const KEPT_UNDER_PRESSURE_SLOTS: u64 = 4;
        self.slots = self.slots.split_off(&self.tip.slot().saturating_sub(KEPT_UNDER_PRESSURE_SLOTS));
    }

    fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        for (&endpoint, tally) in &self.tallies {
            show(Metric::new("first_updates_total", tally.firsts).with("endpoint", endpoint));
            show(Metric::new("duplicate_updates_total", tally.repeats).with("endpoint", endpoint));
        }
        show(Metric::new("malformed_total", self.malformed));
        show(Metric::new("dedupe_discarded_total", self.late).with("reason", "late"));
        show(Metric::new("dedupe_open_slots", self.slots.len() as u64));
    }
}

#[cfg(test)]
mod tests;
