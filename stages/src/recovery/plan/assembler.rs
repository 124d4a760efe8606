//! Puts a fetched slot together, by the same rules as the live stream's.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::batch::{Lane, Scope, Update, Want};
use crate::block::{Block, Part, Way};
use crate::filter::TransactionFilters;
use crate::frame::{BlockMeta, Kind};
use crate::gap_detector::{Assembly, OpenSlot};
use crate::slot::{Hash, Slot};
use crate::transaction::{Transaction, check};

/// Makes blocks of what fetches bring.
pub(crate) struct Assembler {
    /// What the pipeline's sources subscribe to.
    scope: Scope,
    /// What filtered subscriptions ask for.
    filters: TransactionFilters,
    scratch: Transaction,
}

impl Assembler {
    /// An assembler for what sources subscribe to.
    pub(crate) fn new(scope: Scope, filters: TransactionFilters) -> Self {
        Self { scope, filters, scratch: Transaction::default() }
    }

    /// Puts a fetched slot together by the ledger's rules. A replay brings every version that was executed to its end.
    pub(crate) fn assemble(
        &mut self,
        slot: Slot,
        way: Way,
        updates: Vec<Update>,
    ) -> Result<Vec<Block>, String> {
        let mut open = OpenSlot::default();
        let mut lanes: SmallVec<[Lane; 1]> = SmallVec::new();
        let is_single = blockhashes(&updates)? < 2;
        for mut update in updates {
            check(&mut update.frame, &mut self.scratch).map_err(|error| error.to_string())?;
            if update.frame.header.slot != slot {
                return Err(format!("an update of slot {} instead", update.frame.header.slot));
            }
            if is_single {
                // One bank delivered all of it, whatever its number: a replay is of frozen slots only.
                update.frame.header.bank_id = 0;
            } else if update.frame.header.bank_id == 0 && update.frame.header.kind != Kind::Slot {
                return Err("several versions came, and no telling which part is of which".to_owned());
            }
            if !lanes.contains(&update.lane()) {
                lanes.push(update.lane());
            }
            take_in(&mut open, update)?;
        }
        lanes.iter().for_each(|&lane| self.close_lane(&mut open, lane, way));
        self.assemble_versions(&open, way)
    }

    fn assemble_versions(&mut self, open: &OpenSlot, way: Way) -> Result<Vec<Block>, String> {
        let mut blocks = Vec::new();
        for blockhash in open.versions() {
            match open.assemble(blockhash, self.scope_of(way), way) {
                Assembly::Block(block) => blocks.push(self.complete(*block, way)),
                Assembly::Incomplete => return Err("transactions are missing".to_owned()),
                Assembly::Contradiction(reason) => return Err(reason.to_owned()),
            }
        }
        if blocks.is_empty() { Err("no block meta came".to_owned()) } else { Ok(blocks) }
    }

    /// A fetched lane is covered from its first update to its last.
    fn close_lane(&self, open: &mut OpenSlot, lane: Lane, way: Way) {
        let state = open.lane(lane);
        state.announced = true;
        state.after_parent = way == Way::Replay;
        state.settled = true;
    }

    /// RPC has neither entries nor accounts.
    fn scope_of(&self, way: Way) -> Scope {
        match way {
            // A block is always fetched whole; filters are applied here.
            Way::Rpc if self.scope.transactions != Want::Nothing => {
                Scope { transactions: Want::Everything, ..Scope::default() }
            }
            Way::Rpc => Scope::default(),
            Way::Live | Way::Replay => self.scope,
        }
    }

    /// Leaves what a filtered subscription would have brought.
    fn filter(&mut self, block: &mut Block) {
        if self.scope.transactions != Want::Filtered {
            return;
        }
        let Some(updates) = block.transactions.updates() else { return };
        let mut matching = Vec::new();
        for update in updates {
            let body = update.frame.body();
            if self.scratch.read(body).is_ok() && self.filters.matches(&self.scratch, body) {
                matching.push(update.clone());
            }
        }
        block.transactions = Part::Whole(Arc::from(matching));
    }

    fn complete(&mut self, mut block: Block, way: Way) -> Block {
        if way == Way::Rpc {
            self.filter(&mut block);
            let lacking =
                |want: Want| if want == Want::Nothing { Part::NotSubscribed } else { Part::Missing };
            block.entries = lacking(self.scope.entries);
            block.accounts = lacking(self.scope.accounts);
        }
        // A replay that lost entries may have lost accounts as well, which nothing else would show.
        if block.entries.is_missing() && self.scope.accounts != Want::Nothing {
            block.accounts = Part::Missing;
        }
        block
    }
}

/// How many versions the block metas among `updates` are of.
fn blockhashes(updates: &[Update]) -> Result<usize, String> {
    let mut hashes: SmallVec<[Hash; 1]> = SmallVec::new();
    for update in updates.iter().filter(|update| update.frame.header.kind == Kind::BlockMeta) {
        let meta = BlockMeta::read(update.frame.body()).map_err(|error| error.to_string())?;
        if !hashes.contains(&meta.blockhash) {
            hashes.push(meta.blockhash);
        }
    }
    Ok(hashes.len())
}

fn take_in(open: &mut OpenSlot, update: Update) -> Result<(), String> {
    match update.frame.header.kind {
        Kind::Transaction => {
            open.on_transaction(&update);
        }
        Kind::Entry => {
            open.on_entry(&update);
        }
        Kind::Account => open.on_account(update, None),
        Kind::BlockMeta => {
            let meta = BlockMeta::read(update.frame.body()).map_err(|error| error.to_string())?;
            let lane = update.lane();
            open.lane(lane).meta = Some((meta, update));
        }
        _ => {}
    }
    Ok(())
}
