//! Transaction filters with the protocol's own rules, for slots that were fetched whole and have to be cut down to what
//! a filtered subscription would have brought.
//!
//! A filter matches when all of its parts do: vote, failed, first signature, `account_include` (any), `account_exclude`
//! (none), `account_required` (all). Accounts are the message's keys, those loaded from look-up tables, and, with
//! `token_accounts`, owners of the transaction's token balances. Several filters are joined by "or".

use hashbrown::HashSet;

use crate::transaction::{TokenBalance, Transaction};
use crate::yellowstone::filters::{Selection, TokenAccounts, TransactionFilterOptions};

type Key = [u8; 32];

/// A key or signature in a filter that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option}: `{text}` is not base58 of the right length")]
pub struct FilterError {
    /// The option that holds it.
    pub option: &'static str,
    /// What it says.
    pub text: String,
}

/// One filter, its keys decoded.
#[derive(Debug, Clone)]
pub struct TransactionFilter {
    vote: Option<bool>,
    failed: Option<bool>,
    signature: Option<[u8; 64]>,
    account_include: HashSet<Key, foldhash::fast::RandomState>,
    account_exclude: HashSet<Key, foldhash::fast::RandomState>,
    account_required: Vec<Key>,
    token_accounts: Option<TokenAccounts>,
}

impl TransactionFilter {
    /// Decodes the keys of `options`.
    ///
    /// # Errors
    /// If one of them is not base58 of 32 bytes (64 for the signature).
    pub fn try_new(options: &TransactionFilterOptions) -> Result<Self, FilterError> {
        Ok(Self {
            vote: options.vote,
            failed: options.failed,
            signature: options.signature.as_deref().map(signature).transpose()?,
            account_include: keys("account_include", &options.account_include)?.into_iter().collect(),
            account_exclude: keys("account_exclude", &options.account_exclude)?.into_iter().collect(),
            account_required: keys("account_required", &options.account_required)?,
            token_accounts: options.token_accounts,
        })
    }

    /// Whether a server would have sent this transaction, which was read from `body`.
    pub fn matches(&self, transaction: &Transaction, body: &[u8]) -> bool {
        self.vote.is_none_or(|vote| vote == transaction.is_vote)
            && self.failed.is_none_or(|failed| failed == transaction.err.is_some())
            && self.signature.is_none_or(|signature| transaction.signature.of(body) == signature)
            && self.matches_accounts(transaction, body)
    }

    fn matches_accounts(&self, transaction: &Transaction, body: &[u8]) -> bool {
        let asks = !self.account_include.is_empty()
            || !self.account_exclude.is_empty()
            || !self.account_required.is_empty();
        if !asks {
            return true;
        }
        let mut included = self.account_include.is_empty();
        let mut excluded = false;
        let mut required = self.account_required.clone();
        self.each_account(transaction, body, |key| {
            included = included || self.account_include.contains(key);
            excluded = excluded || self.account_exclude.contains(key);
            required.retain(|wanted| wanted != key);
        });
        included && !excluded && required.is_empty()
    }

    fn each_account(&self, transaction: &Transaction, body: &[u8], mut each: impl FnMut(&Key)) {
        for place in transaction.all_account_keys() {
            each(place.array(body));
        }
        let Some(mode) = self.token_accounts else { return };
        let before = &transaction.pre_token_balances;
        let after = &transaction.post_token_balances;
        let counted =
            |balance: &&TokenBalance| mode == TokenAccounts::All || has_changed(balance, before, body);
        for owner in after.iter().filter(counted).filter_map(|balance| owner(balance, body)) {
            each(&owner);
        }
        // What is gone counts in both modes; what is still there was looked at above, with its owner of now.
        let counted = |balance: &&TokenBalance| mode == TokenAccounts::All || is_closed(balance, after, body);
        for owner in before.iter().filter(counted).filter_map(|balance| owner(balance, body)) {
            each(&owner);
        }
    }
}

/// The filters of a subscription, joined by "or".
#[derive(Debug, Clone)]
pub enum TransactionFilters {
    /// Everything matches.
    Everything,
    /// What any of these matches; nothing, if there are none.
    Any(Vec<TransactionFilter>),
}

impl TransactionFilters {
    /// Decodes the filters of `selection`.
    ///
    /// # Errors
    /// As [`TransactionFilter::try_new`].
    pub fn try_new(selection: &Selection<TransactionFilterOptions>) -> Result<Self, FilterError> {
        if *selection == Selection::Everything {
            return Ok(Self::Everything);
        }
        let filters = selection.named().map(|(_, options)| TransactionFilter::try_new(options));
        Ok(Self::Any(filters.collect::<Result<_, _>>()?))
    }

    /// The filters of several subscriptions, joined.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Any(mut first), Self::Any(second)) => {
                first.extend(second);
                Self::Any(first)
            }
            _ => Self::Everything,
        }
    }

    /// Whether any filter matches this transaction, which was read from `body`.
    pub fn matches(&self, transaction: &Transaction, body: &[u8]) -> bool {
        match self {
            Self::Everything => true,
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(transaction, body)),
        }
    }
}

/// A token account that is new, or holds another amount than before.
fn has_changed(after: &TokenBalance, before: &[TokenBalance], body: &[u8]) -> bool {
    let same_account = |balance: &&TokenBalance| {
        balance.account_index == after.account_index && owner(balance, body).is_some()
    };
    // The last one stands, should a node ever report an account twice.
    let earlier = before.iter().rev().find(same_account);
    earlier.is_none_or(|earlier| earlier.amount.of(body) != after.amount.of(body))
}

fn is_closed(before: &TokenBalance, after: &[TokenBalance], body: &[u8]) -> bool {
    let same_account = |balance: &TokenBalance| {
        balance.account_index == before.account_index && owner(balance, body).is_some()
    };
    !after.iter().any(same_account)
}

/// The owner of a token account; old blocks don't tell.
fn owner(balance: &TokenBalance, body: &[u8]) -> Option<Key> {
    let mut owner = [0; 32];
    five8::decode_32(balance.owner.text(body), &mut owner).ok()?;
    Some(owner)
}

fn keys(option: &'static str, texts: &[String]) -> Result<Vec<Key>, FilterError> {
    let decode = |text: &String| {
        let mut key = [0; 32];
        match five8::decode_32(text.as_str(), &mut key) {
            Ok(()) => Ok(key),
            Err(_) => Err(FilterError { option, text: text.clone() }),
        }
    };
    texts.iter().map(decode).collect()
}

fn signature(text: &str) -> Result<[u8; 64], FilterError> {
    let mut signature = [0; 64];
    match five8::decode_64(text, &mut signature) {
        Ok(()) => Ok(signature),
        Err(_) => Err(FilterError { option: "signature", text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Hash;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use prost::Message;
    use yellowstone_grpc_proto::prelude::{
        self as proto, SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo, TransactionError,
        TransactionStatusMeta, UiTokenAmount,
    };

    fn text(key: u8) -> String {
        Hash([key; 32]).to_base58()
    }

    fn balances() -> impl Strategy<Value = Vec<proto::TokenBalance>> {
        let balance =
            (0_u32..4, 0_u8..8, 0_u8..3).prop_map(|(account_index, owner, amount)| proto::TokenBalance {
                account_index,
                owner: if owner == 7 { String::new() } else { text(owner) },
                ui_token_amount: Some(UiTokenAmount {
                    amount: amount.to_string(),
                    ..UiTokenAmount::default()
                }),
                ..proto::TokenBalance::default()
            });
        proptest::collection::btree_map(0_u32..4, balance, 0..4).prop_map(|balances| {
            let numbered = |(account_index, balance)| proto::TokenBalance { account_index, ..balance };
            balances.into_iter().map(numbered).collect()
        })
    }

    fn keys_of(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0_u8..8, count)
    }

    prop_compose! {
        fn transaction()(
            is_vote: bool, failed: bool, statics in keys_of(1..4), writable in keys_of(0..2),
            readonly in keys_of(0..2), before in balances(), after in balances(),
        ) -> SubscribeUpdateTransaction {
            let bytes = |keys: Vec<u8>| keys.into_iter().map(|key| vec![key; 32]).collect::<Vec<_>>();
            let message = proto::Message {
                account_keys: bytes(statics),
                recent_blockhash: vec![0; 32],
                ..proto::Message::default()
            };
            let meta = TransactionStatusMeta {
                err: failed.then(|| TransactionError { err: vec![0; 4] }),
                loaded_writable_addresses: bytes(writable),
                loaded_readonly_addresses: bytes(readonly),
                pre_token_balances: before,
                post_token_balances: after,
                ..TransactionStatusMeta::default()
            };
            let info = SubscribeUpdateTransactionInfo {
                signature: vec![1; 64],
                is_vote,
                transaction: Some(proto::Transaction { signatures: vec![vec![1; 64]], message: Some(message) }),
                meta: Some(meta),
                index: 0,
            };
            SubscribeUpdateTransaction { transaction: Some(info), slot: 1, bank_id: 0 }
        }
    }

    prop_compose! {
        fn options()(
            vote: Option<bool>, failed: Option<bool>, include in keys_of(0..3), exclude in keys_of(0..3),
            required in keys_of(0..3), mode in 0..3,
        ) -> TransactionFilterOptions {
            let texts = |keys: Vec<u8>| keys.into_iter().map(text).collect::<Vec<_>>();
            TransactionFilterOptions {
                vote,
                failed,
                signature: None,
                account_include: texts(include),
                account_exclude: texts(exclude),
                account_required: texts(required),
                token_accounts: [None, Some(TokenAccounts::All), Some(TokenAccounts::BalanceChanged)][mode as usize],
            }
        }
    }

    /// The rules once more, on decoded messages, sets and texts.
    fn naive(options: &TransactionFilterOptions, update: &SubscribeUpdateTransaction) -> bool {
        let info = update.transaction.as_ref().expect("generated with it");
        let meta = info.meta.as_ref().expect("generated with it");
        let message =
            info.transaction.as_ref().and_then(|it| it.message.as_ref()).expect("generated with it");
        let loaded = meta.loaded_writable_addresses.iter().chain(&meta.loaded_readonly_addresses);
        let mut accounts: Vec<String> =
            message.account_keys.iter().chain(loaded).map(|key| text(key[0])).collect();
        let amount =
            |balance: &proto::TokenBalance| balance.ui_token_amount.clone().unwrap_or_default().amount;
        let find = |list: &[proto::TokenBalance], index: u32| {
            list.iter().find(|it| it.account_index == index && !it.owner.is_empty()).map(amount)
        };
        let all = options.token_accounts == Some(TokenAccounts::All);
        if options.token_accounts.is_some() {
            for balance in &meta.post_token_balances {
                if all || find(&meta.pre_token_balances, balance.account_index) != Some(amount(balance)) {
                    accounts.push(balance.owner.clone());
                }
            }
            for balance in &meta.pre_token_balances {
                if all || find(&meta.post_token_balances, balance.account_index).is_none() {
                    accounts.push(balance.owner.clone());
                }
            }
        }
        let named = |key: &String| accounts.contains(key);
        options.vote.is_none_or(|vote| vote == info.is_vote)
            && options.failed.is_none_or(|failed| failed == meta.err.is_some())
            && (options.account_include.is_empty() || options.account_include.iter().any(named))
            && !options.account_exclude.iter().any(named)
            && options.account_required.iter().all(named)
    }

    fn read(update: &SubscribeUpdateTransaction) -> (Transaction, Vec<u8>) {
        let body = update.encode_to_vec();
        let mut transaction = Transaction::default();
        transaction.read(&body).expect("a valid update");
        (transaction, body)
    }

    proptest! {
        #[test]
        fn a_filter_agrees_with_the_rules_spelled_out(update in transaction(), options in options()) {
            let (transaction, body) = read(&update);
            let filter = TransactionFilter::try_new(&options).expect("valid keys");
            prop_assert_eq!(filter.matches(&transaction, &body), naive(&options, &update));
        }

        #[test]
        fn filters_are_joined_by_or(update in transaction(), first in options(), second in options()) {
            let (transaction, body) = read(&update);
            let matches = |options: &TransactionFilterOptions| {
                TransactionFilter::try_new(options).expect("valid keys").matches(&transaction, &body)
            };
            let named = [("a".to_owned(), first.clone()), ("b".to_owned(), second.clone())];
            let both = TransactionFilters::try_new(&Selection::Named(named.into())).expect("valid keys");
            prop_assert_eq!(both.matches(&transaction, &body), matches(&first) || matches(&second));
        }
    }

    #[test]
    fn a_signature_picks_its_transaction() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let update = transaction().new_tree(&mut runner).expect("a transaction").current();
        let (transaction, body) = read(&update);
        let matches = |signature: [u8; 64]| {
            let mut text = [0; 88];
            let length = five8::encode_64(&signature, &mut text);
            let text = String::from_utf8_lossy(&text[..usize::from(length)]).into_owned();
            let options = TransactionFilterOptions { signature: Some(text), ..Default::default() };
            TransactionFilter::try_new(&options).expect("a signature").matches(&transaction, &body)
        };
        assert!(matches([1; 64]) && !matches([2; 64]));
    }

    #[test]
    fn a_wrong_key_names_its_option() {
        let options =
            TransactionFilterOptions { account_exclude: vec!["0OIl".to_owned()], ..Default::default() };
        let error = TransactionFilter::try_new(&options).expect_err("not base58");
        assert_eq!((error.option, error.text.as_str()), ("account_exclude", "0OIl"));
    }
}
