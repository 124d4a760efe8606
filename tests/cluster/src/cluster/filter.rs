//! What a subscriber asked for. The rules are the server plugin's: filters of one kind are alternatives, the fields
//! of one filter must all hold, a list's values are alternatives.

use std::collections::{HashMap, HashSet};

use tonic::Status;
use yellowstone_grpc_proto::cuckoo::CuckooFilter;
use yellowstone_grpc_proto::prelude::subscribe_request_filter_accounts_filter::Filter as DataFilter;
use yellowstone_grpc_proto::prelude::subscribe_request_filter_accounts_filter_lamports::Cmp;
use yellowstone_grpc_proto::prelude::subscribe_request_filter_accounts_filter_memcmp::Data;
use yellowstone_grpc_proto::prelude::{
    CommitmentLevel, CuckooFilter as CuckooRequest, SlotStatus, SubscribeRequest,
    SubscribeRequestFilterAccounts, SubscribeRequestFilterBlocks, SubscribeRequestFilterSlots,
    SubscribeRequestFilterTransactions, SubscribeUpdateAccountInfo, SubscribeUpdateTransactionInfo,
    TokenAccountExpansionControlFlag, TokenBalance,
};

use super::timeline::Level;

/// Size of a token account, and where its state is.
const TOKEN_ACCOUNT_BYTES: usize = 165;
const TOKEN_STATE_OFFSET: usize = 108;

type Key = Vec<u8>;

/// Accounts listed one by one, or in a filter that takes some others for them too.
#[derive(Debug)]
struct Keys {
    listed: HashSet<Key>,
    cuckoo: Option<CuckooFilter<[u8; 32]>>,
}

impl Keys {
    fn try_new(listed: &[String], cuckoo: Option<&CuckooRequest>) -> Result<Self, Status> {
        let listed = listed.iter().map(|text| key(text)).collect::<Result<_, _>>()?;
        Ok(Self { listed, cuckoo: cuckoo.map(CuckooFilter::from) })
    }

    fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.cuckoo.is_none()
    }

    fn contains(&self, key: &[u8]) -> bool {
        let in_filter = |cuckoo: &CuckooFilter<[u8; 32]>| {
            <[u8; 32]>::try_from(key).is_ok_and(|key| cuckoo.contains(&key))
        };
        self.listed.contains(key) || self.cuckoo.as_ref().is_some_and(in_filter)
    }
}

/// A checked subscription request.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    pub(crate) level: Option<Level>,
    slots: Vec<(String, SubscribeRequestFilterSlots)>,
    accounts: Vec<(String, AccountFilter)>,
    transactions: Vec<(String, TransactionFilter)>,
    transaction_statuses: Vec<(String, TransactionFilter)>,
    pub(crate) blocks: Vec<(String, BlockFilter)>,
    metas: Vec<String>,
    entries: Vec<String>,
    slices: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct AccountFilter {
    keys: Keys,
    owners: Keys,
    data: Vec<DataFilter>,
    signed: Option<bool>,
}

#[derive(Debug)]
struct TransactionFilter {
    vote: Option<bool>,
    failed: Option<bool>,
    signature: Option<Key>,
    include: Keys,
    exclude: Keys,
    required: HashSet<Key>,
    owners: Option<TokenAccountExpansionControlFlag>,
}

/// What of a block a subscriber wants in one message.
#[derive(Debug)]
pub(crate) struct BlockFilter {
    include: Keys,
    pub(crate) transactions: bool,
    pub(crate) accounts: bool,
    pub(crate) entries: bool,
}

impl Filters {
    pub(crate) fn try_new(request: &SubscribeRequest) -> Result<Self, Status> {
        let commitment = CommitmentLevel::try_from(request.commitment.unwrap_or_default())
            .map_err(|_| Status::invalid_argument("failed to create filter: unknown commitment"))?;
        let slices = request.accounts_data_slice.iter();
        Ok(Self {
            level: Some(Level::of(commitment)),
            slots: sorted(&request.slots, |filter| Ok(*filter))?,
            accounts: sorted(&request.accounts, AccountFilter::try_new)?,
            transactions: sorted(&request.transactions, TransactionFilter::try_new)?,
            transaction_statuses: sorted(&request.transactions_status, TransactionFilter::try_new)?,
            blocks: sorted(&request.blocks, BlockFilter::try_new)?,
            metas: names(request.blocks_meta.keys()),
            entries: names(request.entry.keys()),
            slices: slices.map(|slice| (slice.offset as usize, slice.length as usize)).collect(),
        })
    }

    pub(crate) fn level(&self) -> Level {
        self.level.unwrap_or(Level::Processed)
    }

    pub(crate) fn for_slot(&self, status: SlotStatus) -> Vec<&str> {
        let commitment = matches!(
            status,
            SlotStatus::SlotProcessed | SlotStatus::SlotConfirmed | SlotStatus::SlotFinalized
        );
        let own = status == self.level().status();
        let wants = |filter: &SubscribeRequestFilterSlots| {
            (own || !filter.filter_by_commitment()) && (commitment || filter.interslot_updates())
        };
        matching(&self.slots, wants)
    }

    pub(crate) fn for_account(&self, account: &SubscribeUpdateAccountInfo) -> Vec<&str> {
        matching(&self.accounts, |filter| filter.matches(account))
    }

    pub(crate) fn for_transaction(&self, info: &SubscribeUpdateTransactionInfo) -> Vec<&str> {
        matching(&self.transactions, |filter| filter.matches(info))
    }

    pub(crate) fn for_transaction_status(&self, info: &SubscribeUpdateTransactionInfo) -> Vec<&str> {
        matching(&self.transaction_statuses, |filter| filter.matches(info))
    }

    pub(crate) fn for_meta(&self) -> Vec<&str> {
        self.metas.iter().map(String::as_str).collect()
    }

    pub(crate) fn for_entry(&self) -> Vec<&str> {
        self.entries.iter().map(String::as_str).collect()
    }

    /// Whether account data is to be cut.
    pub(crate) fn has_slices(&self) -> bool {
        !self.slices.is_empty()
    }

    /// The parts of an account's data that were asked for, one behind the other.
    pub(crate) fn slice(&self, data: &[u8]) -> Vec<u8> {
        if self.slices.is_empty() {
            return data.to_vec();
        }
        let part = |&(offset, length): &(usize, usize)| {
            data.get(offset..offset.saturating_add(length)).unwrap_or_default()
        };
        self.slices.iter().flat_map(part).copied().collect()
    }
}

/// Filters in the order of their names, so that nothing depends on a hash map's order.
fn sorted<F, T>(
    filters: &HashMap<String, F>,
    convert: impl Fn(&F) -> Result<T, Status>,
) -> Result<Vec<(String, T)>, Status> {
    let mut all: Vec<_> = filters.iter().collect();
    all.sort_by_key(|(name, _)| name.as_str());
    all.into_iter().map(|(name, filter)| Ok((name.clone(), convert(filter)?))).collect()
}

fn names<'a>(keys: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut all: Vec<_> = keys.cloned().collect();
    all.sort();
    all
}

fn matching<T>(filters: &[(String, T)], matches: impl Fn(&T) -> bool) -> Vec<&str> {
    filters.iter().filter(|(_, filter)| matches(filter)).map(|(name, _)| name.as_str()).collect()
}

fn key(text: &str) -> Result<Key, Status> {
    let invalid =
        || Status::invalid_argument(format!("failed to create filter: Invalid Base58 string {text}"));
    bs58::decode(text).into_vec().map_err(|_| invalid())
}

impl AccountFilter {
    fn try_new(filter: &SubscribeRequestFilterAccounts) -> Result<Self, Status> {
        Ok(Self {
            keys: Keys::try_new(&filter.account, filter.cuckoo_accounts_filter.as_ref())?,
            owners: Keys::try_new(&filter.owner, None)?,
            data: filter.filters.iter().filter_map(|one| one.filter.clone()).collect(),
            signed: filter.nonempty_txn_signature,
        })
    }

    fn matches(&self, account: &SubscribeUpdateAccountInfo) -> bool {
        (self.keys.is_empty() || self.keys.contains(&account.pubkey))
            && (self.owners.is_empty() || self.owners.contains(&account.owner))
            && self.signed.is_none_or(|signed| signed == account.txn_signature.is_some())
            && self.data.iter().all(|filter| matches_data(filter, account))
    }
}

fn matches_data(filter: &DataFilter, account: &SubscribeUpdateAccountInfo) -> bool {
    match filter {
        DataFilter::Datasize(size) => account.data.len() as u64 == *size,
        DataFilter::TokenAccountState(_) => {
            account.data.len() == TOKEN_ACCOUNT_BYTES && account.data[TOKEN_STATE_OFFSET] != 0
        }
        DataFilter::Lamports(lamports) => match lamports.cmp {
            Some(Cmp::Eq(value)) => account.lamports == value,
            Some(Cmp::Ne(value)) => account.lamports != value,
            Some(Cmp::Lt(value)) => account.lamports < value,
            Some(Cmp::Gt(value)) => account.lamports > value,
            None => true,
        },
        DataFilter::Memcmp(memcmp) => {
            use base64::Engine;
            let wanted = match &memcmp.data {
                Some(Data::Bytes(bytes)) => bytes.clone(),
                Some(Data::Base58(text)) => bs58::decode(text).into_vec().unwrap_or_default(),
                Some(Data::Base64(text)) => {
                    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
                }
                None => Vec::new(),
            };
            let found = account.data.get(memcmp.offset as usize..).unwrap_or_default();
            found.starts_with(&wanted)
        }
    }
}

impl TransactionFilter {
    fn try_new(filter: &SubscribeRequestFilterTransactions) -> Result<Self, Status> {
        Ok(Self {
            vote: filter.vote,
            failed: filter.failed,
            signature: filter.signature.as_deref().map(key).transpose()?,
            include: Keys::try_new(&filter.account_include, filter.cuckoo_account_include.as_ref())?,
            exclude: Keys::try_new(&filter.account_exclude, None)?,
            required: filter.account_required.iter().map(|text| key(text)).collect::<Result<_, _>>()?,
            owners: filter.token_accounts.map(|_| filter.token_accounts()),
        })
    }

    fn matches(&self, info: &SubscribeUpdateTransactionInfo) -> bool {
        let failed = info.meta.as_ref().is_some_and(|meta| meta.err.is_some());
        let any_account = self.include.is_empty() && self.exclude.is_empty() && self.required.is_empty();
        self.vote.is_none_or(|vote| vote == info.is_vote)
            && self.failed.is_none_or(|wanted| wanted == failed)
            && self.signature.as_ref().is_none_or(|signature| *signature == info.signature)
            && (any_account || self.matches_accounts(info))
    }

    fn matches_accounts(&self, info: &SubscribeUpdateTransactionInfo) -> bool {
        let mut keys: HashSet<Key> = account_keys(info).cloned().collect();
        if let Some(which) = self.owners {
            keys.extend(token_owners(info, which));
        }
        (self.include.is_empty() || keys.iter().any(|key| self.include.contains(key)))
            && !keys.iter().any(|key| self.exclude.contains(key))
            && self.required.iter().all(|key| keys.contains(key))
    }
}

/// Owners of the token accounts that a transaction held, or whose balance it changed.
fn token_owners(info: &SubscribeUpdateTransactionInfo, which: TokenAccountExpansionControlFlag) -> Vec<Key> {
    let Some(meta) = &info.meta else { return Vec::new() };
    let amount = |side: &[TokenBalance], account| {
        let balance = side.iter().find(|balance| balance.account_index == account);
        balance.and_then(|balance| balance.ui_token_amount.as_ref()).map(|amount| amount.amount.clone())
    };
    let (before, after) = (&meta.pre_token_balances, &meta.post_token_balances);
    let changed = |balance: &&TokenBalance| {
        let account = balance.account_index;
        which == TokenAccountExpansionControlFlag::All || amount(before, account) != amount(after, account)
    };
    let owners = before.iter().chain(after).filter(changed).map(|balance| &balance.owner);
    owners.filter_map(|owner| bs58::decode(owner).into_vec().ok()).collect()
}

/// All accounts of a transaction, those from look-up tables too.
fn account_keys(info: &SubscribeUpdateTransactionInfo) -> impl Iterator<Item = &Key> {
    let message = info.transaction.as_ref().and_then(|transaction| transaction.message.as_ref());
    let loaded = info
        .meta
        .iter()
        .flat_map(|meta| meta.loaded_writable_addresses.iter().chain(&meta.loaded_readonly_addresses));
    message.into_iter().flat_map(|message| &message.account_keys).chain(loaded)
}

impl BlockFilter {
    fn try_new(filter: &SubscribeRequestFilterBlocks) -> Result<Self, Status> {
        Ok(Self {
            include: Keys::try_new(&filter.account_include, filter.cuckoo_account_include.as_ref())?,
            transactions: filter.include_transactions.unwrap_or(true),
            accounts: filter.include_accounts.unwrap_or(false),
            entries: filter.include_entries.unwrap_or(false),
        })
    }

    pub(crate) fn wants_transaction(&self, info: &SubscribeUpdateTransactionInfo) -> bool {
        self.include.is_empty() || account_keys(info).any(|key| self.include.contains(key))
    }

    pub(crate) fn wants_account(&self, account: &SubscribeUpdateAccountInfo) -> bool {
        self.include.is_empty() || self.include.contains(&account.pubkey)
    }
}
