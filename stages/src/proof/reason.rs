//! What can be wrong with a slot, and where.

use crate::slot::Slot;

/// Where a chain breaks, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Break {
    /// The first entry that does not hold; the number of entries if there is one too few.
    pub index: u32,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with an entry, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// There are none at all.
    #[error("there are no entries")]
    NoEntries,
    /// The index is missing, or there twice.
    #[error("the entry is missing")]
    EntryMissing,
    /// A transaction of the entry is missing.
    #[error("its transaction {0} is missing")]
    TransactionMissing(u32),
    /// The entries hold more transactions than came.
    #[error("it ends with transaction {ends}, and there are {held}")]
    TooFewTransactions {
        /// The end of the entry's transactions.
        ends: u64,
        /// Transactions that there are.
        held: u64,
    },
    /// The entries hold fewer transactions than came.
    #[error("the entries hold {ends} transactions, and there are {held}")]
    TooManyTransactions {
        /// Transactions in entries.
        ends: u64,
        /// Transactions that there are.
        held: u64,
    },
    /// More hashes than any cluster makes in the time; they are not recomputed.
    #[error("up to it the slot claims {0} hashes, more than there can be")]
    HashLimit(u64),
    /// More hashes than any tick takes; they are not recomputed.
    #[error("it claims {0} hashes, more than a tick can have")]
    LongEntry(u64),
    /// Another number of signatures than the message asks for.
    #[error("its transaction {transaction} has {held} signatures, and its message asks for {required}")]
    SignatureCount {
        /// The transaction.
        transaction: u32,
        /// Signatures that it has.
        held: u32,
        /// Signatures that its message asks for.
        required: u32,
    },
    /// Of a transaction with several signatures, one was made for something else.
    #[error("a signature of its transaction {0} does not sign its message: it is of another transaction")]
    SignatureForeign(u32),
    /// No signature stands in a block twice.
    #[error("a signature of its transaction {0} is in the block twice: something was repeated")]
    SignatureTwice(u32),
    /// The parent's blockhash is known as that of another slot.
    #[error("wrong parent: it names slot {named}, and its parent's blockhash is that of slot {of}")]
    ParentSlot {
        /// The parent that it names.
        named: Slot,
        /// The slot whose blockhash it builds on.
        of: Slot,
    },
    /// The named parent is known with another blockhash.
    #[error("wrong parent: it names slot {0}, whose blockhash is another than the one that it builds on")]
    ParentVersion(Slot),
    /// The first entry does not follow from the parent.
    #[error("it does not follow from the parent's blockhash")]
    Parent,
    /// Fewer hashes than claimed lead to the hash.
    #[error("num_hashes is {claimed}, and {needed} lead to its hash")]
    HashCount {
        /// What it claims.
        claimed: u64,
        /// What is right.
        needed: u64,
    },
    /// More hashes than claimed lead to the hash.
    #[error("num_hashes is {claimed}, and {needed} lead to its hash: an entry before it is missing")]
    EntryLeftOut {
        /// What it claims.
        claimed: u64,
        /// What is right.
        needed: u64,
    },
    /// A neighbour claims the same hash.
    #[error("an entry beside it claims the same hash: one entry was cut in two")]
    EntrySplit,
    /// With two neighbouring transactions exchanged it holds.
    #[error("its transactions {0} and {next} have changed places", next = .0 + 1)]
    TransactionsSwapped(u32),
    /// Without one transaction it holds.
    #[error("its transaction {0} was never executed")]
    TransactionAdded(u32),
    /// It has transactions, and nothing simpler explains it.
    #[error(
        "its hash does not follow from the signatures of its transactions: one is missing, added or changed"
    )]
    Transactions,
    /// It has no transactions, and nothing simpler explains it.
    #[error("its hash does not follow from the entry before: something between them is missing or changed")]
    Tick,
    /// The last entry is not the block's end.
    #[error("the last entry's hash is not the blockhash: the end is missing")]
    Unfinished,
}

impl Reason {
    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoEntries => "no_entries",
            Self::EntryMissing => "entry_missing",
            Self::TransactionMissing(_) => "transaction_missing",
            Self::TooFewTransactions { .. } | Self::TooManyTransactions { .. } => "transaction_count",
            Self::HashLimit(_) => "hash_limit",
            Self::LongEntry(_) => "hash_limit",
            Self::SignatureCount { .. } => "signature_count",
            Self::SignatureForeign(_) => "signature_foreign",
            Self::SignatureTwice(_) => "signature_twice",
            Self::ParentSlot { .. } | Self::ParentVersion(_) => "wrong_parent",
            Self::Parent => "parent",
            Self::HashCount { .. } => "hash_count",
            Self::EntryLeftOut { .. } => "entry_left_out",
            Self::EntrySplit => "entry_split",
            Self::TransactionsSwapped(_) => "transactions_swapped",
            Self::TransactionAdded(_) => "transaction_added",
            Self::Transactions => "transactions",
            Self::Tick => "tick",
            Self::Unfinished => "unfinished",
        }
    }
}
