//! One slot that is still open: who delivered what of it, and which version of it is whole.
//!
//! Content is kept by index ([`Candidates`]); a lane is what one bank of one session delivered, and its block meta says
//! which version (blockhash) that bank is. A version is whole when the lanes bound to it have, taken together, each index
//! from 0 to the count that their metas name. A lane that broke off before its meta vouches for nothing: its content may
//! belong to a bank that was thrown away.

use std::sync::Arc;

use hashbrown::HashMap;
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use super::claims::Claim;
use crate::account::Account;
use crate::batch::{Arrival, EndpointId, Lane, Scope, SessionId, Update, Want};
use crate::block::{Block, Part, Way};
use crate::candidates::{Candidates, Delivered, Offer, Which};
use crate::dispute::{Delivery, Testimony, same_meta};
use crate::entry::Entry;
use crate::frame::BlockMeta;
use crate::slot::{Commitment, Hash, Slot, Timestamp};

/// The last write to an account that a lane delivered.
#[derive(Debug, Clone)]
struct LastWrite {
    write_version: u64,
    update: Update,
}

/// What one bank of one session delivered.
#[derive(Debug)]
pub(crate) struct LaneState {
    pub(crate) lane: Lane,
    /// The lane's meta, which binds it to a version.
    pub(crate) meta: Option<(BlockMeta, Update)>,
    /// Position of its first content in the session's stream.
    pub(crate) first_position: Option<u64>,
    /// When that came.
    pub(crate) first_seen_at: Timestamp,
    /// When the meta came.
    pub(crate) completed_at: Option<Timestamp>,
    /// The session had announced the bank before its first content came.
    pub(crate) announced: bool,
    /// The session had shown the parent's meta before this lane's first content came: nothing can be missing in front.
    pub(crate) after_parent: bool,
    /// The slot was confirmed in this session behind the meta: nothing more comes.
    pub(crate) settled: bool,
    /// The bank failed or was thrown away.
    pub(crate) dead: bool,
    pub(super) transactions: Delivered,
    pub(super) entries: Delivered,
    /// What came of weighing it against other lanes.
    pub(super) claim: Claim,
    accounts: HashMap<[u8; 32], LastWrite, foldhash::fast::RandomState>,
}

impl LaneState {
    fn new(lane: Lane) -> Self {
        Self {
            lane,
            meta: None,
            first_position: None,
            first_seen_at: Timestamp(0),
            completed_at: None,
            announced: false,
            after_parent: false,
            settled: false,
            dead: false,
            transactions: Delivered::default(),
            entries: Delivered::default(),
            claim: Claim::default(),
            accounts: HashMap::default(),
        }
    }

    pub(super) fn is_bound_to(&self, blockhash: Hash) -> bool {
        !self.dead && self.meta.is_some_and_hash(blockhash)
    }

    /// Everything of the bank came through this session, from its first update to its last.
    fn covers(&self) -> bool {
        self.settled && self.may_cover()
    }

    /// Everything of the bank came through this session so far.
    pub(crate) fn may_cover(&self) -> bool {
        !self.dead && self.meta.is_some() && (self.announced || self.after_parent)
    }
}

trait BoundMeta {
    fn is_some_and_hash(&self, blockhash: Hash) -> bool;
}

impl BoundMeta for Option<(BlockMeta, Update)> {
    fn is_some_and_hash(&self, blockhash: Hash) -> bool {
        self.as_ref().is_some_and(|(meta, _)| meta.blockhash == blockhash)
    }
}

/// Parts of a version that have been let out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Emitted {
    pub(crate) entries: bool,
    pub(crate) accounts: bool,
}

/// A slot that is still open.
#[derive(Debug, Default)]
pub(crate) struct OpenSlot {
    transactions: Candidates,
    pub(super) entries: Candidates,
    pub(crate) lanes: SmallVec<[LaneState; 4]>,
    /// When the first meta came.
    pub(crate) meta_at: Option<Timestamp>,
    /// Versions that were let out.
    pub(crate) emitted: SmallVec<[(Hash, Emitted); 1]>,
}

/// What can be said of one version of a slot.
pub(crate) enum Assembly {
    /// Transactions are missing.
    Incomplete,
    /// What was delivered contradicts itself.
    Contradiction(&'static str),
    /// Transactions are whole; other parts are as they are.
    Block(Box<Block>),
}

impl OpenSlot {
    /// The state of `lane`, made if it is new.
    pub(crate) fn lane(&mut self, lane: Lane) -> &mut LaneState {
        let position = self.lanes.iter().rposition(|state| state.lane == lane && !state.dead);
        let position = position.unwrap_or_else(|| {
            self.lanes.push(LaneState::new(lane));
            self.lanes.len() - 1
        });
        &mut self.lanes[position]
    }

    /// The lane of `session` that a status without a bank id is about, if there is just one.
    pub(crate) fn only_lane_of(&mut self, session: SessionId) -> Option<&mut LaneState> {
        let mut lanes = self.lanes.iter_mut().filter(|state| state.lane.session == session && !state.dead);
        let first = lanes.next()?;
        lanes.next().is_none().then_some(first)
    }

    /// The version that `endpoint` called `bank_id` in any of its sessions: ids outlive a reconnect.
    pub(crate) fn version_of_bank(&self, endpoint: EndpointId, bank_id: u64) -> Option<Hash> {
        let known = |state: &&LaneState| {
            bank_id != 0
                && !state.dead
                && (state.lane.session.endpoint, state.lane.bank_id) == (endpoint, bank_id)
        };
        let metas = self.lanes.iter().filter(known).filter_map(|state| state.meta.as_ref());
        metas.map(|(meta, _)| meta.blockhash).next_back()
    }

    /// Takes a transaction in; says what it was.
    pub(crate) fn on_transaction(&mut self, update: &Update) -> Offer {
        let offer = self.transactions.offer(update);
        if let Offer::New(which) | Offer::Repeat(which) = offer {
            self.lane(update.lane()).transactions.insert(update.frame.header.index, which);
        }
        offer
    }

    /// Takes an entry in; says what it was.
    pub(crate) fn on_entry(&mut self, update: &Update) -> Offer {
        let offer = self.entries.offer(update);
        if let Offer::New(which) | Offer::Repeat(which) = offer {
            self.lane(update.lane()).entries.insert(update.frame.header.index, which);
        }
        offer
    }

    /// Takes word that `lane` delivered the first candidates at these indexes of transactions too.
    pub(crate) fn on_transactions_echo(&mut self, lane: Lane, indexes: std::ops::Range<u32>) {
        let known = indexes.start..indexes.end.min(self.transactions.end());
        let delivered = &mut self.lane(lane).transactions;
        known.for_each(|index| {
            delivered.insert(index, Which::First);
        });
    }

    /// Takes word that `lane` delivered the first candidates at these indexes of entries too.
    pub(crate) fn on_entries_echo(&mut self, lane: Lane, indexes: std::ops::Range<u32>) {
        let known = indexes.start..indexes.end.min(self.entries.end());
        let delivered = &mut self.lane(lane).entries;
        known.for_each(|index| {
            delivered.insert(index, Which::First);
        });
    }

    /// Takes a write to an account in; within a lane the highest write version is the last write.
    pub(crate) fn on_account(&mut self, update: Update, write_version: Option<u64>) {
        let Ok(account) = Account::read(update.frame.body()) else { return };
        let write_version = write_version.unwrap_or(account.write_version);
        let pubkey = *account.pubkey;
        let accounts = &mut self.lane(update.lane()).accounts;
        match accounts.get_mut(&pubkey) {
            Some(last) if last.write_version > write_version => {}
            Some(last) => *last = LastWrite { write_version, update },
            None => {
                accounts.insert(pubkey, LastWrite { write_version, update });
            }
        }
    }

    /// Versions that have a lane, in the order in which their metas came.
    pub(crate) fn versions(&self) -> SmallVec<[Hash; 2]> {
        let mut versions = SmallVec::new();
        for (meta, _) in self.live_metas() {
            if !versions.contains(&meta.blockhash) {
                versions.push(meta.blockhash);
            }
        }
        versions
    }

    /// A meta of each live lane that has one.
    pub(crate) fn live_metas(&self) -> impl Iterator<Item = &(BlockMeta, Update)> {
        self.lanes.iter().filter(|lane| !lane.dead).filter_map(|lane| lane.meta.as_ref())
    }

    /// The endpoints that have said which version they deliver.
    pub(crate) fn endpoints(&self) -> Vec<EndpointId> {
        let bound = self.lanes.iter().filter(|lane| !lane.dead && lane.meta.is_some());
        let mut endpoints: Vec<EndpointId> = bound.map(|lane| lane.lane.session.endpoint).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        endpoints
    }

    /// How each lane that brought content did so; `name` names endpoints.
    pub(crate) fn arrivals(&self, slot: Slot, name: impl Fn(EndpointId) -> Arc<str>) -> Vec<Arrival> {
        let brought = self.lanes.iter().filter(|lane| lane.first_position.is_some());
        let arrival = |lane: &LaneState| Arrival {
            slot,
            endpoint: name(lane.lane.session.endpoint),
            session: lane.lane.session,
            blockhash: lane.meta.as_ref().map(|(meta, _)| meta.blockhash),
            first_seen_at: lane.first_seen_at,
            completed_at: lane.completed_at,
            transactions: lane.transactions.count(),
            entries: lane.entries.count(),
            accounts: lane.accounts.len() as u32,
            standing: None,
        };
        brought.map(arrival).collect()
    }

    /// Whether anything of it has come.
    pub(crate) fn has_content(&self) -> bool {
        self.transactions.end() > 0
            || self.entries.end() > 0
            || self.lanes.iter().any(|lane| lane.meta.is_some())
    }

    /// Whether metas of different endpoints say different things of this version.
    pub(crate) fn has_rival_metas(&self, blockhash: Hash) -> bool {
        let mut metas = self.live_metas().filter(|(meta, _)| meta.blockhash == blockhash);
        let Some((first, _)) = metas.next() else { return false };
        metas.any(|(meta, _)| !same_meta(first, meta))
    }

    /// What each bank that is bound to this version says of it.
    pub(crate) fn testimony(&self, blockhash: Hash) -> Vec<Testimony> {
        let lanes: Vec<&LaneState> = self.lanes.iter().filter(|lane| lane.is_bound_to(blockhash)).collect();
        let end = lanes.iter().map(|lane| lane.transactions.end()).max().unwrap_or_default();
        let differs = |index: &u32| {
            let mut delivered = lanes.iter().filter_map(|lane| lane.transactions.at(*index));
            let covering = lanes.iter().filter(|lane| lane.transactions.end() > *index).count();
            let first = delivered.next();
            covering < lanes.len() || delivered.any(|other| Some(other) != first)
        };
        let disputed: Vec<u32> = (0..end).filter(differs).collect();
        let claim = |lane: &&LaneState| {
            let (meta, _) = lane.meta.as_ref()?;
            // Without a number two banks may have become one lane, by nobody's fault.
            let told = if lane.lane.bank_id == 0 { &[][..] } else { &disputed };
            let delivery = |&index: &u32| {
                let update = self.transactions.get(index, lane.transactions.at(index)?)?;
                let digest = Hash(Sha256::digest(update.frame.content()).into());
                Some(Delivery { index, signature: update.frame.key().try_into().ok()?, digest })
            };
            Some(Testimony {
                endpoint: lane.lane.session.endpoint,
                meta: *meta,
                end: lane.transactions.end(),
                deliveries: told.iter().filter_map(delivery).collect(),
            })
        };
        lanes.iter().filter_map(claim).collect()
    }

    /// Lets its content go, but not the memory of what was let out.
    pub(crate) fn shed(&mut self) {
        self.transactions = Candidates::default();
        self.entries = Candidates::default();
        self.lanes.clear();
    }

    /// Puts the version with this blockhash together as far as it goes.
    pub(crate) fn assemble(&self, blockhash: Hash, scope: Scope, way: Way) -> Assembly {
        let lanes: SmallVec<[&LaneState; 4]> =
            self.lanes.iter().filter(|lane| lane.is_bound_to(blockhash)).collect();
        self.assemble_lanes(&lanes, scope, way)
    }

    /// Puts together what some lanes of one version delivered.
    pub(super) fn assemble_lanes(&self, lanes: &[&LaneState], scope: Scope, way: Way) -> Assembly {
        let Some((meta, meta_update)) = widest_meta(lanes) else { return Assembly::Incomplete };
        if lanes.iter().any(|lane| lane.meta.as_ref().is_some_and(|(other, _)| contradicts(other, meta))) {
            return Assembly::Contradiction("metas of one blockhash name different parents");
        }
        let transactions = match self.assemble_transactions(lanes, meta, scope.transactions) {
            Ok(Part::Missing) => return Assembly::Incomplete,
            Ok(part) => part,
            Err(reason) => return Assembly::Contradiction(reason),
        };
        Assembly::Block(Box::new(Block {
            meta: *meta,
            meta_update: meta_update.clone(),
            transactions,
            entries: self.assemble_entries(lanes, meta, scope.entries),
            accounts: assemble_accounts(lanes, scope.accounts),
            way,
            witnesses: lanes.iter().map(|lane| lane.lane.session.endpoint).collect(),
            vouched: None,
        }))
    }

    fn assemble_transactions(
        &self,
        lanes: &[&LaneState],
        meta: &BlockMeta,
        want: Want,
    ) -> Result<Part, &'static str> {
        let count = meta.executed_transaction_count;
        match want {
            Want::Nothing => return Ok(Part::NotSubscribed),
            Want::Filtered => return Ok(self.assemble_filtered(lanes)),
            Want::Everything => {}
        }
        if lanes.iter().any(|lane| lane.transactions.end() > count) {
            return Err("more transactions than the block meta counts");
        }
        let complete = lanes.iter().filter_map(|lane| lane.complete_count());
        if complete.clone().min() != complete.max() {
            return Err("endpoints delivered different numbers of transactions of one block, each whole");
        }
        let delivered = lanes.iter().map(|lane| lane.transactions.count()).sum::<u32>();
        // That there are none is believed of who was there from the beginning: to others a count that is one too low
        // looks the same.
        let believed = count > 0 || lanes.iter().any(|lane| lane.announced || lane.after_parent);
        if delivered < count || !believed {
            return Ok(Part::Missing);
        }
        pick(&self.transactions, count, lanes, |lane| &lane.transactions)
    }

    fn assemble_filtered(&self, lanes: &[&LaneState]) -> Part {
        let Some(lane) = lanes.iter().find(|lane| lane.covers()) else { return Part::Missing };
        let indexes = 0..lane.transactions.end();
        let picked =
            indexes.filter_map(|index| self.transactions.get(index, lane.transactions.at(index)?).cloned());
        Part::Whole(picked.collect())
    }

    /// Entries are whole when they run from 0 without a hole to one whose hash is the blockhash, and hold the
    /// transactions that the meta counts. No count of the server's is needed.
    fn assemble_entries(&self, lanes: &[&LaneState], meta: &BlockMeta, want: Want) -> Part {
        if want == Want::Nothing {
            return Part::NotSubscribed;
        }
        let count = lanes.iter().map(|lane| lane.entries.end()).max().unwrap_or(0);
        let Ok(Part::Whole(entries)) = pick(&self.entries, count, lanes, |lane| &lane.entries) else {
            return Part::Missing;
        };
        let last = entries.last().is_some_and(|entry| entry.frame.key() == meta.blockhash.0);
        let read = entries.iter().filter_map(|entry| Entry::read(entry.frame.body()).ok());
        let transactions = read.map(|entry| u64::from(entry.executed_transaction_count)).sum::<u64>();
        if last && transactions == u64::from(meta.executed_transaction_count) {
            Part::Whole(entries)
        } else {
            Part::Missing
        }
    }
}

/// The meta with the highest count among those of one version: where counts differ, somebody is wrong, and closing a slot
/// too early loses data where waiting costs a fetch.
fn widest_meta<'a>(lanes: &[&'a LaneState]) -> Option<&'a (BlockMeta, Update)> {
    let metas = lanes.iter().filter_map(|lane| lane.meta.as_ref());
    metas.max_by_key(|(meta, _)| meta.executed_transaction_count)
}

pub(super) fn contradicts(one: &BlockMeta, other: &BlockMeta) -> bool {
    (one.parent_slot, one.parent_blockhash) != (other.parent_slot, other.parent_blockhash)
}

/// Picks the candidate at each of `count` indexes that the lanes agree on.
fn pick(
    candidates: &Candidates,
    count: u32,
    lanes: &[&LaneState],
    delivered: impl Fn(&LaneState) -> &Delivered,
) -> Result<Part, &'static str> {
    let usable: SmallVec<[&Delivered; 4]> = lanes.iter().map(|lane| delivered(lane)).collect();
    if usable.iter().any(|delivered| delivered.is_ambiguous()) {
        return Err("one bank delivered two updates for one index");
    }
    let mut picked = Vec::with_capacity(count as usize);
    for index in 0..count {
        let mut choices = usable.iter().filter_map(|delivered| delivered.at(index));
        let Some(which) = choices.next() else { return Ok(Part::Missing) };
        if choices.any(|other| other != which) {
            return Err("endpoints delivered different updates for one index of one block");
        }
        let Some(update) = candidates.get(index, which) else { return Ok(Part::Missing) };
        picked.push(update.clone());
    }
    Ok(Part::Whole(Arc::from(picked)))
}

/// The state that the lane which saw the whole bank ended with. Write versions of different nodes can't be compared, so
/// no two lanes are put together.
fn assemble_accounts(lanes: &[&LaneState], want: Want) -> Part {
    if want == Want::Nothing {
        return Part::NotSubscribed;
    }
    let Some(lane) = lanes.iter().find(|lane| lane.settled && lane.after_parent) else {
        return Part::Missing;
    };
    let mut last: Vec<(&[u8; 32], &LastWrite)> = lane.accounts.iter().collect();
    last.sort_unstable_by_key(|&(pubkey, _)| pubkey);
    Part::Whole(last.into_iter().map(|(_, write)| write.update.clone()).collect())
}

impl LaneState {
    /// The number of its transactions, if they are all that its own meta counts.
    fn complete_count(&self) -> Option<u32> {
        let count = self.meta.as_ref().map(|(meta, _)| meta.executed_transaction_count)?;
        (self.transactions.count() == count && self.transactions.end() == count).then_some(count)
    }

    /// Notes the commitment that the slot reached in this session.
    pub(crate) fn on_commitment(&mut self, commitment: Commitment) {
        self.settled |= commitment >= Commitment::Confirmed && self.meta.is_some();
    }
}
