//! Pipelines that are broken on purpose.

/// A way to break the pipeline that a promise must not survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Repeats are let go without a word, so that nobody knows any more which endpoint has what.
    DropsEchoes,
    /// A slot is closed with whatever is there when its block meta comes.
    TrustsBlockMetas,
    /// Blocks go out before they are settled.
    EmitsUnsettled,
    /// Each block goes out twice.
    EmitsTwice,
    /// What is missing is never fetched.
    NeverFetches,
    /// A reconnect is not told from an unbroken stream.
    HidesReconnects,
    /// A transaction is left out of one block in some.
    LosesTransactions,
    /// Recovery believes that a slot is skipped when RPC says so.
    BelievesSkips,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::DropsEchoes,
        Self::TrustsBlockMetas,
        Self::EmitsUnsettled,
        Self::EmitsTwice,
        Self::NeverFetches,
        Self::HidesReconnects,
        Self::LosesTransactions,
        Self::BelievesSkips,
    ];
}
