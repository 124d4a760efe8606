//! The filters of a subscription, as they stand in the TOML.
//!
//! A kind of update is switched on whole (`transactions = true`) or by tables of named filters
//! (`[sources.NAME.transactions.FILTER]`), which are joined by "or". A name shows up in each update that its filter
//! matched. The protocol's cuckoo filters are not offered: they match too much by design, so a slot fetched another
//! way could never be filtered to the same rows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::batch::Want;

/// What is wanted of one kind of update.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selection<F> {
    /// None of it: the key is not there, or `false`.
    #[default]
    Nothing,
    /// All of it: `true`.
    Everything,
    /// What matches any of these filters.
    Named(BTreeMap<String, F>),
}

impl<F> Selection<F> {
    /// Whether nothing is asked for.
    pub fn is_nothing(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Everything => false,
            Self::Named(filters) => filters.is_empty(),
        }
    }

    /// The named filters.
    pub fn named(&self) -> impl Iterator<Item = (&String, &F)> {
        let filters = match self {
            Self::Named(filters) => Some(filters),
            Self::Nothing | Self::Everything => None,
        };
        filters.into_iter().flatten()
    }

    /// How much this asks for, where `takes_all` tells whether a filter matches everything.
    pub fn want(&self, takes_all: impl Fn(&F) -> bool) -> Want {
        match self {
            Self::Everything => Want::Everything,
            _ if self.is_nothing() => Want::Nothing,
            _ if self.named().any(|(_, filter)| takes_all(filter)) => Want::Everything,
            _ => Want::Filtered,
        }
    }
}

impl<F: Serialize> Serialize for Selection<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => serializer.serialize_bool(false),
            Self::Everything => serializer.serialize_bool(true),
            Self::Named(filters) => filters.serialize(serializer),
        }
    }
}

impl<'de, F: Deserialize<'de>> Deserialize<'de> for Selection<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: serde's untagged enums forget where in the file a value stands.
        deserializer.deserialize_any(SelectionVisitor(PhantomData))
    }
}

struct SelectionVisitor<F>(PhantomData<F>);

impl<'de, F: Deserialize<'de>> Visitor<'de> for SelectionVisitor<F> {
    type Value = Selection<F>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true` for everything, or a table of named filters")
    }

    fn visit_bool<E>(self, everything: bool) -> Result<Selection<F>, E> {
        Ok(if everything { Selection::Everything } else { Selection::Nothing })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Selection<F>, A::Error> {
        BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(Selection::Named)
    }
}

impl<F: JsonSchema> JsonSchema for Selection<F> {
    fn schema_name() -> Cow<'static, str> {
        format!("SelectionOf{}", F::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let filter = generator.subschema_for::<F>();
        json_schema!({
            "description": "true for everything, or a table of named filters",
            "anyOf": [{ "type": "boolean" }, { "type": "object", "additionalProperties": filter }],
        })
    }
}

/// A filter of transactions or of transaction statuses. What is not set does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TransactionFilterOptions {
    /// `true` for votes only, `false` for all but votes. Default: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vote: Option<bool>,
    /// `true` for failed ones only, `false` for successful ones only. Default: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<bool>,
    /// The one transaction with this first signature, base58.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Names at least one of these accounts, base58; accounts from look-up tables count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub account_include: Vec<String>,
    /// Names none of these accounts, base58.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub account_exclude: Vec<String>,
    /// Names all of these accounts, base58.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub account_required: Vec<String>,
    /// Owners of token accounts count as named, too. Default: they don't. Needs a server of protocol 14.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_accounts: Option<TokenAccounts>,
}

impl TransactionFilterOptions {
    /// Whether it matches every transaction.
    pub fn takes_all(&self) -> bool {
        self.vote.is_none()
            && self.failed.is_none()
            && self.signature.is_none()
            && self.account_include.is_empty()
            && self.account_exclude.is_empty()
            && self.account_required.is_empty()
    }
}

/// Which owners of token accounts count as accounts of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenAccounts {
    /// Owners with a token balance before or after.
    All,
    /// Owners whose token balance changed, or whose token account was closed.
    BalanceChanged,
}

/// A filter of account writes. What is not set does not restrict; `account` and `owner` are each joined by "or", all
/// else by "and".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountFilterOptions {
    /// One of these accounts, base58.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub account: Vec<String>,
    /// Owned by one of these programs, base58.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner: Vec<String>,
    /// Data that holds these bytes at these offsets; at most four, as servers allow no more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memcmp: Vec<MemcmpOptions>,
    /// Data of exactly this length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datasize: Option<u64>,
    /// `true` for token accounts only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_account_state: Option<bool>,
    /// A bound on the balance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lamports: Option<LamportsOptions>,
    /// `true` for writes by transactions only, `false` for those by the runtime only (sysvars, rewards).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonempty_txn_signature: Option<bool>,
}

impl AccountFilterOptions {
    /// Whether it matches every write.
    pub fn takes_all(&self) -> bool {
        *self == Self::default()
    }
}

/// Bytes that account data has to hold at an offset. Exactly one of `base58` and `base64` is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemcmpOptions {
    /// Offset in bytes.
    pub offset: u64,
    /// The bytes in base58.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base58: Option<String>,
    /// The bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// A bound on lamports. Exactly one is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LamportsOptions {
    /// Equal to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eq: Option<u64>,
    /// Not equal to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ne: Option<u64>,
    /// Less than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<u64>,
    /// Greater than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<u64>,
}

/// A filter of entries: the protocol has none but this switch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EntryFilterOptions {
    /// Also sends the notices that void a bank's entries (Alpenglow). Default: no.
    pub include_update_parent: bool,
}

/// A filter of whole blocks in one message. Large, and a second copy of what the other kinds bring: the pipeline's own
/// datasets don't need it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BlockFilterOptions {
    /// Keeps transactions and accounts that name one of these accounts, base58. Default: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub account_include: Vec<String>,
    /// Puts transactions in. Default of the servers: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_transactions: Option<bool>,
    /// Puts account writes in. Default of the servers: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_accounts: Option<bool>,
    /// Puts entries in. Default of the servers: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_entries: Option<bool>,
}

/// A filter of block metas: the protocol has none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BlockMetaFilterOptions {}

/// A filter of slot statuses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SlotFilterOptions {
    /// Only statuses of the subscription's commitment. Default: all three commitments.
    pub filter_by_commitment: bool,
    /// Also first shred, completed, created bank and dead. Default: no.
    pub interslot_updates: bool,
}

/// A filter of Alpenglow block footers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BlockFooterFilterOptions {
    /// Puts the certificates in. Default: no.
    pub include_certificates: bool,
}

/// A part of account data that is sent instead of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSliceOptions {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Table {
        transactions: Selection<TransactionFilterOptions>,
    }

    #[test]
    fn a_kind_is_everything_or_named_filters_and_reads_back() {
        for text in ["transactions = true\n", "transactions = false\n", "[transactions.dex]\nvote = false\n"]
        {
            let table: Table = toml::from_str(text).expect("valid");
            assert_eq!(toml::from_str::<Table>(&toml::to_string(&table).expect("serializable")), Ok(table));
        }
    }

    #[test]
    fn an_error_in_a_filter_says_where_it_stands() {
        let text = "[transactions.dex]\nvote = false\nfialed = true\n";
        let error = toml::from_str::<Table>(text).expect_err("no such option");
        let span = error.span().expect("a place");
        assert_eq!(&text[span], "fialed");
    }

    #[test]
    fn one_filter_without_restrictions_makes_it_everything() {
        let want = |text: &str| {
            let table: Table = toml::from_str(text).expect("valid");
            table.transactions.want(TransactionFilterOptions::takes_all)
        };
        assert_eq!(want("transactions = false"), Want::Nothing);
        assert_eq!(want("[transactions]"), Want::Nothing);
        assert_eq!(want("[transactions.a]\nfailed = true"), Want::Filtered);
        assert_eq!(want("[transactions.a]\nfailed = true\n[transactions.b]"), Want::Everything);
    }
}
