//! `filters = { … }` of the sinks that deliver: which transactions and alerts they are about.

use std::borrow::Cow;
use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_stages::alert::{Notice, Severity};
use sluice_stages::component::Problem;
use sluice_stages::transaction::Transaction;

type Key = [u8; 32];

/// Cuts down what is delivered. All parts have to match; a part that is left out matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilterOptions {
    /// Transactions that execute an instruction, outer or inner, of any of these programs. Base58. Default all.
    pub programs: Vec<String>,
    /// Transactions that name any of these accounts, loaded ones included. Base58. Default all.
    pub accounts: Vec<String>,
    /// `false` leaves votes out, `true` leaves everything else out. Default neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vote: Option<bool>,
    /// `false` leaves failed transactions out, `true` leaves everything else out. Default neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<bool>,
    /// Alerts that are at least this bad: `info`, `warning`, `error` or `critical`. Milder ones are left out of a notice, and
    /// a notice that is left with none is not delivered. Default info.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_severity: Option<Severity>,
}

impl FilterOptions {
    /// Keys that are none.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let lists = [("filters.programs", &self.programs), ("filters.accounts", &self.accounts)];
        let wrong = |(option, texts): (&str, &Vec<String>)| {
            let text = texts.iter().find(|text| key(text).is_none())?;
            Some(Problem {
                option: option.to_owned(),
                message: format!("`{text}` is not a key"),
                help: "write it in base58, as explorers show it: 32 bytes, 32 to 44 characters".to_owned(),
            })
        };
        lists.into_iter().filter_map(wrong).collect()
    }
}

/// The filters, their keys decoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters {
    programs: HashSet<Key>,
    accounts: HashSet<Key>,
    vote: Option<bool>,
    failed: Option<bool>,
    min_severity: Severity,
}

impl Filters {
    /// Decodes `options`, which have no [`FilterOptions::problems`].
    pub(crate) fn new(options: &FilterOptions) -> Self {
        let keys = |texts: &[String]| texts.iter().filter_map(|text| key(text)).collect();
        Self {
            programs: keys(&options.programs),
            accounts: keys(&options.accounts),
            vote: options.vote,
            failed: options.failed,
            min_severity: options.min_severity.unwrap_or(Severity::Info),
        }
    }

    /// What is delivered of a notice; `None` if none of its alerts is bad enough.
    pub(crate) fn narrow<'a>(&self, notice: &'a Notice) -> Option<Cow<'a, Notice>> {
        notice.at_least(self.min_severity)
    }

    /// Whether an alert of this severity is delivered.
    pub(crate) fn matches_severity(&self, severity: Severity) -> bool {
        severity >= self.min_severity
    }

    /// Whether a transaction, read from `body`, is delivered. `is_vote` is the content's verdict, not the node's.
    pub(crate) fn matches(&self, transaction: &Transaction, is_vote: bool, body: &[u8]) -> bool {
        self.vote.is_none_or(|vote| vote == is_vote)
            && self.failed.is_none_or(|failed| failed == transaction.err.is_some())
            && self.matches_programs(transaction, body)
            && self.matches_accounts(transaction, body)
    }

    fn matches_programs(&self, transaction: &Transaction, body: &[u8]) -> bool {
        let inner = transaction.inner_instructions.iter().map(|inner| inner.instruction.program_id_index);
        let outer = transaction.instructions.iter().map(|outer| outer.program_id_index);
        let wanted = |index: u32| {
            let program = transaction.account_key(index);
            program.is_some_and(|program| self.programs.contains(program.array::<32>(body)))
        };
        self.programs.is_empty() || outer.chain(inner).any(wanted)
    }

    fn matches_accounts(&self, transaction: &Transaction, body: &[u8]) -> bool {
        let mut keys = transaction.all_account_keys();
        self.accounts.is_empty() || keys.any(|key| self.accounts.contains(key.array::<32>(body)))
    }
}

fn key(text: &str) -> Option<Key> {
    let mut key = [0; 32];
    five8::decode_32(text, &mut key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parquet::testing::{Chain, block_of, bytes32};
    use sluice_stages::slot::Hash;

    /// How many of a test block's twelve transactions pass.
    fn passing(options: &FilterOptions) -> usize {
        let filters = Filters::new(options);
        let block = block_of(&Chain::generate(10, 10, 12), 10);
        let updates = block.transactions.updates().expect("whole");
        let mut transaction = Transaction::default();
        let passes = |update: &&sluice_stages::batch::Update| {
            transaction.read(update.frame.body()).expect("valid");
            filters.matches(&transaction, transaction.index == 1, update.frame.body())
        };
        updates.iter().filter(passes).count()
    }

    fn text(words: &[u64]) -> String {
        Hash(bytes32(words)).to_base58()
    }

    #[test]
    fn every_part_has_to_match() {
        assert_eq!(passing(&FilterOptions::default()), 12);
        assert_eq!(passing(&FilterOptions { vote: Some(false), ..FilterOptions::default() }), 11);
        assert_eq!(passing(&FilterOptions { failed: Some(false), ..FilterOptions::default() }), 9);
        assert_eq!(passing(&FilterOptions { failed: Some(true), ..FilterOptions::default() }), 3);
        let both = FilterOptions { failed: Some(false), vote: Some(true), ..FilterOptions::default() };
        assert_eq!(passing(&both), 1);
    }

    #[test]
    fn programs_are_those_that_execute_and_accounts_any_that_are_named() {
        // Transaction i has the static keys 0, i, 2i, 3i and executes 2i and 3i; every third one loads 900 to 902.
        let programs =
            |words: &[u64]| FilterOptions { programs: vec![text(words)], ..FilterOptions::default() };
        assert_eq!(passing(&programs(&[9])), 1, "3 × 3");
        assert_eq!(passing(&programs(&[12])), 2, "3 × 4 and 2 × 6");
        let accounts =
            |words: &[u64]| FilterOptions { accounts: vec![text(words)], ..FilterOptions::default() };
        assert_eq!(passing(&accounts(&[9])), 2, "named by the ninth, too");
        assert_eq!(passing(&accounts(&[901])), 4);
        assert_eq!(passing(&accounts(&[12345])), 0);
    }

    #[test]
    fn keys_that_are_none_are_named() {
        let options = FilterOptions {
            programs: vec![text(&[1]), "system".to_owned()],
            accounts: vec!["0OIl".to_owned()],
            ..FilterOptions::default()
        };
        let options: Vec<_> = options.problems().into_iter().map(|problem| problem.option).collect();
        assert_eq!(options, ["filters.programs", "filters.accounts"]);
    }
}
