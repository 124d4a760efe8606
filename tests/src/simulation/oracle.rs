//! Compares what comes out with the cluster's ground truth. Nothing here is shared with the code under test: frames are
//! read with prost.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use prost::Message;
use sha2::{Digest as _, Sha256};
use sluice_cluster::ledger::Block as TrueBlock;
use sluice_cluster::{Truth, TruthSlot};
use sluice_stages::batch::Update;
use sluice_stages::block::{Block, Part};
use sluice_stages::slot::Slot;
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude::{
    SubscribeUpdate, SubscribeUpdateAccountInfo, SubscribeUpdateBlockMeta, SubscribeUpdateEntry,
};

/// A hash over all that was emitted, in slot order.
pub type Digest = [u8; 32];

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A block that is not on the chain was emitted.
    NotCanonical {
        /// Its slot.
        slot: Slot,
    },
    /// A block was emitted with something else in it than the chain has.
    Wrong {
        /// Its slot.
        slot: Slot,
        /// Which part.
        part: &'static str,
    },
    /// A block was emitted again that had nothing new.
    Repeated {
        /// Its slot.
        slot: Slot,
    },
    /// Blocks did not come out at all.
    Missing {
        /// Their slots.
        slots: Vec<Slot>,
    },
    /// Entries or accounts did not come out although servers could replay them.
    MissingParts {
        /// Their slots.
        slots: Vec<Slot>,
    },
    /// Something grew beyond its bound.
    Unbounded {
        /// The metric.
        metric: &'static str,
        /// Its value.
        value: u64,
        /// The bound.
        bound: u64,
    },
    /// Something was fetched although nothing had gone wrong.
    NeedlessFetch,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCanonical { slot } => {
                write!(f, "slot {slot}: a block that is not on the chain came out")
            }
            Self::Wrong { slot, part } => write!(f, "slot {slot}: the {part} are not those of the chain"),
            Self::Repeated { slot } => write!(f, "slot {slot}: came out again with nothing new"),
            Self::Missing { slots } => write!(f, "slots {slots:?} never came out"),
            Self::MissingParts { slots } => write!(f, "slots {slots:?}: entries or accounts never came out"),
            Self::Unbounded { metric, value, bound } => write!(f, "{metric} is {value}, above {bound}"),
            Self::NeedlessFetch => write!(f, "a fetch although nothing had gone wrong"),
        }
    }
}

/// What has come out of a slot.
#[derive(Debug, Default)]
struct Emitted {
    entries: bool,
    accounts: bool,
    /// It may come once more, part by part: the sink asked for it.
    asked_again: bool,
    /// It came with all parts at some time.
    was_full: bool,
    digest: Digest,
}

pub(super) struct Oracle {
    truth: Truth,
    /// Only transactions that are no votes are expected.
    is_filtered: bool,
    emitted: BTreeMap<Slot, Emitted>,
    /// Slots of the chain that have to come out and did not yet.
    pub(super) outstanding: BTreeSet<Slot>,
}

impl Oracle {
    /// An oracle that expects all slots of the truth.
    pub(super) fn new(truth: Truth, is_filtered: bool) -> Self {
        let blocks = truth.slots().filter(|(_, slot)| slot.block().is_some());
        let outstanding = blocks.map(|(slot, _)| slot).collect();
        Self { truth, is_filtered, emitted: BTreeMap::new(), outstanding }
    }

    /// Nothing below `floor` is expected.
    pub(super) fn begin_with(&mut self, floor: Slot) {
        self.outstanding = self.outstanding.split_off(&floor);
    }

    /// Nothing from `end` on has to come out.
    pub(super) fn end_before(&mut self, end: Slot) {
        self.outstanding.split_off(&end);
    }

    pub(super) fn ask_again(&mut self, slot: Slot) {
        self.emitted.entry(slot).or_default().asked_again = true;
    }

    pub(super) fn on_block(&mut self, block: &Block) -> Result<(), Violation> {
        let slot = block.slot();
        let Some(TruthSlot::Block(version)) = self.truth.slot(slot) else {
            return Err(Violation::NotCanonical { slot });
        };
        if block.blockhash().to_base58() != version.block.blockhash {
            return Err(Violation::NotCanonical { slot });
        }
        let wrong = |part| Violation::Wrong { slot, part };
        check_meta(block, &version.block).ok_or_else(|| wrong("hashes, counts and rewards"))?;
        let digest = self.check_transactions(block, &version.block).ok_or_else(|| wrong("transactions"))?;
        check_entries(block, &version.block).ok_or_else(|| wrong("entries"))?;
        check_accounts(block, &version.block).ok_or_else(|| wrong("accounts"))?;
        self.outstanding.remove(&slot);
        self.note(slot, block, digest)
    }

    /// Slots between `floor` and `end` that came out without all of their parts.
    pub(super) fn lacking(&self, floor: Slot, end: Slot) -> Vec<Slot> {
        let range = self.emitted.range(floor..end);
        range.filter(|(_, emitted)| !emitted.was_full).map(|(&slot, _)| slot).collect()
    }

    /// The hash over all that came out.
    pub(super) fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        for (slot, emitted) in &self.emitted {
            hasher.update(slot.to_le_bytes());
            hasher.update(emitted.digest);
        }
        hasher.finalize().into()
    }

    /// The lowest slot that came out.
    pub(super) fn lowest(&self) -> Option<Slot> {
        self.emitted.keys().next().copied()
    }

    /// Number of slots that came out.
    pub(super) fn count(&self) -> usize {
        self.emitted.len()
    }

    fn note(&mut self, slot: Slot, block: &Block, digest: Digest) -> Result<(), Violation> {
        let is_first = !self.emitted.contains_key(&slot);
        let emitted = self.emitted.entry(slot).or_default();
        let (entries, accounts) = (!block.entries.is_missing(), !block.accounts.is_missing());
        let adds = entries && !emitted.entries || accounts && !emitted.accounts;
        if !is_first && !adds && !emitted.asked_again {
            return Err(Violation::Repeated { slot });
        }
        let anew = std::mem::take(&mut emitted.asked_again);
        emitted.entries = entries || emitted.entries && !anew;
        emitted.accounts = accounts || emitted.accounts && !anew;
        emitted.was_full |= emitted.entries && emitted.accounts;
        emitted.digest = digest;
        Ok(())
    }

    /// Byte for byte, whichever way they came.
    fn check_transactions(&self, block: &Block, truth: &TrueBlock) -> Option<Digest> {
        let updates = block.transactions.updates()?;
        let expected = truth.transactions.iter().filter(|info| !self.is_filtered || !info.is_vote);
        let expected: Vec<Vec<u8>> = expected.map(Message::encode_to_vec).collect();
        let mut hasher = Sha256::new().chain_update(&truth.blockhash);
        for (update, expected) in updates.iter().zip(&expected) {
            let same =
                update.frame.content() == expected.as_slice() && update.frame.header.slot == truth.slot;
            same.then(|| hasher.update(expected))?;
        }
        (updates.len() == expected.len()).then(|| hasher.finalize().into())
    }
}

fn decode(update: &Update) -> Option<UpdateOneof> {
    SubscribeUpdate::decode(update.frame.bytes().clone()).ok()?.update_oneof
}

/// Banks are numbered by each server, and entries are not counted by all.
fn check_meta(block: &Block, truth: &TrueBlock) -> Option<()> {
    let Some(UpdateOneof::BlockMeta(meta)) = decode(&block.meta_update) else { return None };
    let meta = SubscribeUpdateBlockMeta { entries_count: 0, bank_id: 0, ..meta };
    (meta == SubscribeUpdateBlockMeta { entries_count: 0, ..truth.meta(0) }).then_some(())
}

fn check_entries(block: &Block, truth: &TrueBlock) -> Option<()> {
    let Part::Whole(updates) = &block.entries else { return Some(()) };
    let entry = |update: &Update| match decode(update) {
        Some(UpdateOneof::Entry(entry)) => Some(SubscribeUpdateEntry { bank_id: 0, ..entry }),
        _ => None,
    };
    let entries: Option<Vec<SubscribeUpdateEntry>> = updates.iter().map(entry).collect();
    (entries? == truth.entries).then_some(())
}

/// The last write to each account, by key. Write versions are each node's own.
fn check_accounts(block: &Block, truth: &TrueBlock) -> Option<()> {
    let Part::Whole(updates) = &block.accounts else { return Some(()) };
    let account = |update: &Update| match decode(update) {
        Some(UpdateOneof::Account(update)) => update.account.map(unversioned),
        _ => None,
    };
    let accounts: Option<Vec<SubscribeUpdateAccountInfo>> = updates.iter().map(account).collect();
    let mut last = BTreeMap::new();
    for account in &truth.accounts {
        last.insert(account.pubkey.clone(), unversioned(account.clone()));
    }
    accounts?.into_iter().eq(last.into_values()).then_some(())
}

fn unversioned(account: SubscribeUpdateAccountInfo) -> SubscribeUpdateAccountInfo {
    SubscribeUpdateAccountInfo { write_version: 0, ..account }
}
