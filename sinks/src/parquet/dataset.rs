//! The datasets, and which of them stand and fall together.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One table of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dataset {
    /// One row for each block: hashes, parent, time, count.
    Blocks,
    /// One row for each transaction.
    Transactions,
    /// One row for each instruction, outer and inner, in order of execution.
    Instructions,
    /// One row for each token balance before or after a transaction.
    TokenBalances,
    /// One row for each reward of a block.
    Rewards,
    /// One row for each slot without a block, with the proof of that.
    SkippedSlots,
    /// One row for each entry of the proof-of-history chain.
    Entries,
    /// One row for each account written in a slot, as it was at the slot's end.
    Accounts,
}

impl Dataset {
    /// All of them, in the order in which a range's files are published: `blocks` is the last of those that every way
    /// of recovery can give, so its file says that the range is there.
    pub const ALL: [Self; 8] = [
        Self::Transactions,
        Self::Instructions,
        Self::TokenBalances,
        Self::Rewards,
        Self::SkippedSlots,
        Self::Blocks,
        Self::Entries,
        Self::Accounts,
    ];

    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Transactions => "transactions",
            Self::Instructions => "instructions",
            Self::TokenBalances => "token_balances",
            Self::Rewards => "rewards",
            Self::SkippedSlots => "skipped_slots",
            Self::Entries => "entries",
            Self::Accounts => "accounts",
        }
    }

    /// The dataset with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dataset| dataset.name() == name)
    }

    /// The track that it is made on.
    pub fn track(self) -> Track {
        match self {
            Self::Entries => Track::Entries,
            Self::Accounts => Track::Accounts,
            _ => Track::Content,
        }
    }

    /// Whether it is made of transactions.
    pub fn needs_transactions(self) -> bool {
        matches!(self, Self::Transactions | Self::Instructions | Self::TokenBalances)
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Datasets that are made of the same content and so wait for the same holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Track {
    /// What every way of recovery can give: block meta, transactions, and what is in them.
    Content,
    /// Entries: live streams and replay alone have them.
    Entries,
    /// Accounts: live streams and replay alone have them.
    Accounts,
}

impl Track {
    /// All tracks, in the order in which a range's files are published. The content comes last, because a restart takes a
    /// range whose content is there for done: a crash in between must not leave entries and accounts behind.
    pub const ALL: [Self; 3] = [Self::Entries, Self::Accounts, Self::Content];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_words_of_the_configuration() {
        for dataset in Dataset::ALL {
            let word = serde_json::to_string(&dataset).expect("a word");
            assert_eq!(word, format!("\"{dataset}\""));
            assert_eq!(Dataset::from_name(dataset.name()), Some(dataset));
        }
    }

    #[test]
    fn blocks_is_published_after_everything_else_of_its_track() {
        let last = Dataset::ALL.into_iter().rfind(|dataset| dataset.track() == Track::Content);
        assert_eq!(last, Some(Dataset::Blocks));
    }
}
