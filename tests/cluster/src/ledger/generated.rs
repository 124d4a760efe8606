//! Ledgers made up as they are played: real mainnet transactions in new slots, with valid hash links, skipped slots,
//! dead and orphaned forks and banks made anew.
//!
//! A slot depends on nothing but the seed, its position and its parent, so it is made when it is asked for; what
//! stays in memory is the chain of parents (about 50 bytes a slot) and the slots made last.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use prost::Message;
use rand::Rng;
use rand::rngs::StdRng;
use yellowstone_grpc_proto::prelude::{
    Reward, RewardType, SubscribeUpdateAccountInfo, SubscribeUpdateTransactionInfo,
};

use super::block::{Block, Fate, Version};
use super::load::load_bytes;
use super::poh::{self, Hash, Shape};
use super::{FIRST_SLOT, LedgerSlot, signing};
use crate::random::{digest, random};

/// Slots kept ready: more than the usual replay window, so that endpoints replay what others played.
const KEPT_SLOTS: usize = 192;
/// Unix seconds of the first slot; a time in April 2025, when the real transactions were made.
const FIRST_BLOCK_TIME: i64 = 1_744_200_000;
/// Skipped slots below the first one, so that heights differ from slots as they do on mainnet.
const SKIPPED_BEFORE: u64 = 5_000_000;
/// Room for the field of an index.
const INDEX_BYTES: usize = 11;
/// Every so many slots a block pays staking rewards.
const STAKING_PERIOD: u64 = 97;

/// What to make up.
#[derive(Debug, Clone)]
pub struct GeneratedLedger {
    /// Equal seeds give equal ledgers.
    pub seed: u64,
    /// Number of slots; `None` is without end.
    pub slots: Option<u64>,
    /// The first slot.
    pub first_slot: u64,
    /// Transactions in a slot.
    pub transactions_per_slot: RangeInclusive<usize>,
    /// Whether the first two slots play two real mainnet blocks whole.
    pub mainnet_blocks: bool,
    /// Whether slots are skipped, forked, dead and made anew; without, all are plain.
    pub forks: bool,
    /// Hashing of a slot.
    pub shape: Shape,
}

impl Default for GeneratedLedger {
    fn default() -> Self {
        Self {
            seed: 0,
            slots: None,
            first_slot: FIRST_SLOT,
            transactions_per_slot: 20..=120,
            mainnet_blocks: true,
            forks: true,
            shape: Shape::default(),
        }
    }
}

/// The real mainnet blocks of which generated ledgers are made: slots 332254855 and 254170887.
pub fn mainnet_blocks() -> &'static [Block] {
    static BLOCKS: OnceLock<Vec<Block>> = OnceLock::new();
    BLOCKS.get_or_init(|| {
        let first = include_bytes!("../../data/mainnet-332254855.confirmed_block.pb.zst");
        let second = include_bytes!("../../data/mainnet-254170887.get_block.json.zst");
        let first = load_bytes("mainnet-332254855", first, Some(332_254_855));
        let second = load_bytes("mainnet-254170887", second, Some(254_170_887));
        let files = [first, second].map(|file| file.expect("the crate's own data files are whole"));
        files.into_iter().flat_map(|file| file.blocks).collect()
    })
}

/// What a slot builds on.
#[derive(Debug, Clone, Copy)]
struct Parent {
    slot: u64,
    hash: Hash,
    height: u64,
}

#[derive(Debug)]
struct Made {
    /// The parent of each position's slot, as far as was played.
    parents: Vec<Parent>,
    kept: VecDeque<(u64, Arc<LedgerSlot>)>,
}

/// Makes slots of a [`GeneratedLedger`].
#[derive(Debug)]
pub struct Generator {
    settings: GeneratedLedger,
    made: Mutex<Made>,
}

/// What happens to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    Plain,
    Skipped,
    Orphaned,
    Dead,
    Reset,
    DeadThenPlain,
    OrphanedThenPlain,
}

impl Generator {
    pub(crate) fn new(settings: GeneratedLedger) -> Self {
        let genesis = Parent {
            slot: settings.first_slot.saturating_sub(1),
            hash: digest("genesis", &[settings.seed]),
            height: settings.first_slot.saturating_sub(SKIPPED_BEFORE),
        };
        let made = Made { parents: vec![genesis], kept: VecDeque::new() };
        Self { settings, made: Mutex::new(made) }
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.settings.slots
    }

    pub(crate) fn position_from(&self, slot: u64) -> u64 {
        let position = slot.saturating_sub(self.settings.first_slot);
        self.settings.slots.map_or(position, |slots| position.min(slots))
    }

    pub(crate) fn number(&self, position: u64) -> Option<u64> {
        let there = self.settings.slots.is_none_or(|slots| position < slots);
        there.then_some(self.settings.first_slot + position)
    }

    /// Told from the parents: the slot behind builds on this one.
    pub(crate) fn is_canonical(&self, position: u64) -> bool {
        let Some(slot) = self.number(position) else { return false };
        if let Some(parent) = self.lock().parents.get(position as usize + 1) {
            return parent.slot == slot;
        }
        self.at(position).is_some_and(|slot| slot.canonical().is_some())
    }

    pub(crate) fn at(&self, position: u64) -> Option<Arc<LedgerSlot>> {
        if self.settings.slots.is_some_and(|slots| position >= slots) {
            return None;
        }
        let mut made = self.lock();
        if let Some((_, slot)) = made.kept.iter().find(|(kept, _)| *kept == position) {
            return Some(Arc::clone(slot));
        }
        let mut next = (made.parents.len() as u64 - 1).min(position);
        loop {
            let slot = Arc::new(self.make(next, made.parents[next as usize]));
            made.keep(next, &slot);
            if next == position {
                return Some(slot);
            }
            next += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        // Each change leaves the parents consistent, so a panic elsewhere does not spoil them.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, position: u64, parent: Parent) -> LedgerSlot {
        let slot = self.settings.first_slot + position;
        let one = |fates: &[Fate]| {
            let version = |(ordinal, fate): (usize, &Fate)| {
                let (block, encoded) = self.block(position, ordinal as u64, parent);
                Arc::new(Version::with_encoded(block, fate.clone(), ordinal as u8, encoded))
            };
            fates.iter().enumerate().map(version).collect()
        };
        let dead = Fate::Dead("transaction failed to verify".to_owned());
        let versions = match self.story(position) {
            Story::Plain => one(&[Fate::Canonical]),
            Story::Skipped => Vec::new(),
            Story::Orphaned => one(&[Fate::Orphaned]),
            Story::Dead => one(&[dead]),
            Story::Reset => one(&[Fate::Reset, Fate::Canonical]),
            Story::DeadThenPlain => one(&[dead, Fate::Canonical]),
            Story::OrphanedThenPlain => one(&[Fate::Orphaned, Fate::Canonical]),
        };
        LedgerSlot::new(slot, versions)
    }

    /// The last slot is plain, so that a ledger ends with a block.
    fn story(&self, position: u64) -> Story {
        let real = self.settings.mainnet_blocks && position < mainnet_blocks().len() as u64;
        let last = self.settings.slots.is_some_and(|slots| position + 1 == slots);
        if real || last || position == 0 || !self.settings.forks {
            return Story::Plain;
        }
        match random("story", &[self.settings.seed, position]).random_range(0..1000) {
            0..50 => Story::Skipped,
            50..70 => Story::Orphaned,
            70..85 => Story::Dead,
            85..100 => Story::Reset,
            100..115 => Story::DeadThenPlain,
            115..130 => Story::OrphanedThenPlain,
            _ => Story::Plain,
        }
    }

    fn block(&self, position: u64, ordinal: u64, parent: Parent) -> (Block, Vec<Bytes>) {
        let slot = self.settings.first_slot + position;
        let mut random = random("block", &[self.settings.seed, position, ordinal]);
        let real =
            mainnet_blocks().get(position as usize).filter(|_| self.settings.mainnet_blocks && ordinal == 0);
        let (transactions, encoded) = match real {
            Some(block) => whole(block),
            None => self.transactions(slot, ordinal, &mut random),
        };
        let rewards = match real {
            Some(block) => block.rewards.clone(),
            None => self.rewards(position, &transactions),
        };
        let (entries, blockhash) =
            poh::forge(parent.hash, slot, &transactions, self.settings.shape, &mut random);
        let block = Block {
            slot,
            parent_slot: parent.slot,
            blockhash: bs58::encode(blockhash).into_string(),
            parent_blockhash: bs58::encode(parent.hash).into_string(),
            block_time: Some(FIRST_BLOCK_TIME + position as i64 * 2 / 5),
            block_height: Some(parent.height + 1),
            rewards,
            num_partitions: None,
            accounts: accounts(slot, &transactions, &mut random),
            transactions,
            told_entries: entries.len() as u64,
            entries,
        };
        (block, encoded)
    }

    fn transactions(&self, slot: u64, ordinal: u64, random: &mut StdRng) -> Encoded {
        let count = random.random_range(self.settings.transactions_per_slot.clone());
        let pool = templates();
        let draw = |index| {
            let template = &pool[random.random_range(0..pool.len())];
            template.renamed(index, [self.settings.seed, slot, ordinal, index])
        };
        (0..count as u64).map(draw).unzip()
    }

    fn rewards(&self, position: u64, transactions: &[SubscribeUpdateTransactionInfo]) -> Vec<Reward> {
        let fees: u64 = transactions.iter().filter_map(|info| info.meta.as_ref()).map(|meta| meta.fee).sum();
        let leader = position / 4;
        let reward = |name: &str, kind: RewardType, lamports: u64, commission: &str| Reward {
            pubkey: bs58::encode(digest(name, &[self.settings.seed, leader])).into_string(),
            lamports: lamports as i64,
            post_balance: 1_000_000_000 + position * 5_000 + lamports,
            reward_type: kind as i32,
            commission: commission.to_owned(),
            commission_bps: String::new(),
        };
        let mut rewards = vec![reward("leader", RewardType::Fee, fees / 2, "")];
        if position % STAKING_PERIOD == STAKING_PERIOD / 2 {
            rewards.push(reward("voter", RewardType::Voting, 7_001, "5"));
            rewards.push(reward("staker", RewardType::Staking, 133_011, "5"));
        }
        rewards
    }
}

impl Made {
    fn keep(&mut self, position: u64, slot: &Arc<LedgerSlot>) {
        if position + 1 == self.parents.len() as u64 {
            let before = self.parents[position as usize];
            self.parents.push(slot.canonical().map_or(before, |version| successor(&version.block, before)));
        }
        if self.kept.len() == KEPT_SLOTS {
            self.kept.pop_front();
        }
        self.kept.push_back((position, Arc::clone(slot)));
    }
}

fn successor(block: &Block, before: Parent) -> Parent {
    Parent {
        slot: block.slot,
        hash: poh::hash(&block.blockhash).unwrap_or(before.hash),
        height: block.block_height.unwrap_or(before.height + 1),
    }
}

/// Transactions, and each one's encoded `SubscribeUpdateTransactionInfo`.
type Encoded = (Vec<SubscribeUpdateTransactionInfo>, Vec<Bytes>);

fn whole(block: &Block) -> Encoded {
    let encoded = block.transactions.iter().map(|info| Bytes::from(info.encode_to_vec()));
    (block.transactions.clone(), encoded.collect())
}

/// A real transaction, prepared to be given another name without encoding it anew.
struct Template {
    info: SubscribeUpdateTransactionInfo,
    /// Encoded without its index, which is the last field.
    encoded: Vec<u8>,
    /// Where its signature is: its own field and the transaction's first.
    signatures: Vec<usize>,
}

fn templates() -> &'static [Template] {
    static TEMPLATES: OnceLock<Vec<Template>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        mainnet_blocks().iter().flat_map(|block| &block.transactions).map(Template::new).collect()
    })
}

impl Template {
    fn new(info: &SubscribeUpdateTransactionInfo) -> Self {
        let info = SubscribeUpdateTransactionInfo { index: 0, ..info.clone() };
        let encoded = info.encode_to_vec();
        let places = encoded.windows(info.signature.len()).enumerate();
        let signatures =
            places.filter(|(_, bytes)| *bytes == info.signature).map(|(place, _)| place).collect();
        Self { encoded, signatures, info }
    }

    /// The transaction under a signature of its own, which no longer verifies; if it has several, they do.
    fn renamed(&self, index: u64, name: [u64; 4]) -> (SubscribeUpdateTransactionInfo, Bytes) {
        if signing::has_several(&self.info) {
            let mut info = self.info.clone();
            info.index = index;
            signing::sign(&mut info, &name);
            let encoded = Bytes::from(info.encode_to_vec());
            return (info, encoded);
        }
        let signature = [digest("signature r", &name), digest("signature s", &name)].concat();
        let mut encoded = Vec::with_capacity(self.encoded.len() + INDEX_BYTES);
        encoded.extend_from_slice(&self.encoded);
        for &place in &self.signatures {
            encoded[place..place + signature.len()].copy_from_slice(&signature);
        }
        let only_index = SubscribeUpdateTransactionInfo { index, ..Default::default() };
        encoded.extend(only_index.encode_to_vec());
        let mut info = self.info.clone();
        info.index = index;
        if let Some(first) =
            info.transaction.as_mut().and_then(|transaction| transaction.signatures.first_mut())
        {
            first.clone_from(&signature);
        }
        info.signature = signature;
        (info, Bytes::from(encoded))
    }
}

/// Sysvars without a signature and token accounts written by transactions, some of them several times.
fn accounts(
    slot: u64,
    transactions: &[SubscribeUpdateTransactionInfo],
    random: &mut StdRng,
) -> Vec<SubscribeUpdateAccountInfo> {
    let mut out = vec![account("sysvar clock", &[], slot, None, random)];
    for _ in 0..transactions.len().min(4) {
        let key = random.random_range(0..50);
        let writer = &transactions[random.random_range(0..transactions.len())];
        for _ in 0..random.random_range(1..=2) {
            out.push(account("token", &[key], slot, Some(writer.signature.clone()), random));
        }
    }
    out.push(account("sysvar slot hashes", &[], slot, None, random));
    out.push(account("sysvar clock", &[], slot, None, random));
    for (position, one) in out.iter_mut().enumerate() {
        one.write_version = slot * 1_000 + position as u64;
    }
    out
}

fn account(
    name: &str,
    key: &[u64],
    slot: u64,
    txn_signature: Option<Vec<u8>>,
    random: &mut StdRng,
) -> SubscribeUpdateAccountInfo {
    let mut data = vec![0; if txn_signature.is_some() { 165 } else { 40 }];
    random.fill(data.as_mut_slice());
    data[..8].copy_from_slice(&slot.to_le_bytes());
    SubscribeUpdateAccountInfo {
        pubkey: digest(name, key).to_vec(),
        lamports: random.random_range(1..=5_000_000),
        owner: digest("owner", &[u64::from(txn_signature.is_some())]).to_vec(),
        executable: false,
        rent_epoch: u64::MAX,
        data,
        write_version: 0,
        txn_signature,
    }
}
