//! `proof`: recomputes each slot's proof-of-history chain, so that a slot is whole because the chain says so.
//!
//! Blocks, statuses and gaps in; the same out, in the same order. From a block's entries and its transactions' signatures
//! the chain of hashes is recomputed from the parent's blockhash up to its own ([`chain`]). If it holds, no signature
//! stands there twice, and those of transactions with several sign their messages, then all transactions are there, in
//! their order, with their signatures, whoever delivered them. What no one can prove from the stream are the outcomes:
//! status, logs, balances, inner instructions and accounts are not in the chain. That a message is the one that was signed
//! is left to `sluice verify --signatures` where there is one signature.
//!
//! Which slot the parent's blockhash is of, the chain does not say. A block that names another parent than the slots known
//! before it do fails, too.
//!
//! ```text
//!  inbox ──→ prover ──→ outbox            the prover is pure; at most `max_in_flight` slots are under way
//!             │  ▲
//!        tasks│  │verdicts (as many as tasks)
//!             ▼  │
//!          rayon pool
//! ```
//!
//! | a slot is | when | `audit` | `enforce` |
//! | --- | --- | --- | --- |
//! | proven | its chain holds | passes | passes |
//! | counted | RPC delivered it, which has no entries | passes | passes |
//! | failed | its chain breaks, it names a wrong parent, or its entries did not come | passes, and is reported | is held back, reported, and fetched again |
//!
//! Where endpoints differ about a version, the gap detector passes what each says as a claim. A claim that holds goes on as
//! the slot, in either mode and whatever went on before; one that fails is reported with its endpoint, and that is all.
//!
//! A slot that is held back is counted in `proof_failed_total{reason}`, its endpoint in `proof_endpoint_failed_total`. It
//! is asked for at the recovery stages upstream, every [`REPEAT_AFTER`] until it comes in a form that passes, and given to
//! those downstream as a gap. Behind recovery the stage proves replays, too, so that is where `enforce` belongs; in front
//! of it only what the live streams bring is proven.
//!
//! Capacity: with `max_in_flight` slots under way nothing more is read. In `audit` nothing waits for its proof.

mod ancestry;
pub mod chain;
mod diagnosis;
mod merkle;
mod prover;
mod reason;
pub mod recording;
mod shell;
mod signers;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::{Scope, Want};
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use crate::stage::Flow;

pub use prover::{Prover, Task, Verdict};
use shell::Proof;

/// How long a slot that was asked for may take before it is asked for again: a few tries of recovery.
pub const REPEAT_AFTER: Duration = Duration::from_secs(5);

/// What the stage does with its findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing is proven.
    Off,
    /// Everything passes at once; what fails is reported.
    #[default]
    Audit,
    /// What fails does not pass, and is fetched again.
    Enforce,
}

/// Options of `proof`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProofOptions {
    /// `off`: nothing is proven. `audit`: all slots pass at once, and those that fail are reported. `enforce`: slots that
    /// fail are held back and fetched again. Default `audit`.
    pub mode: Mode,
    /// Slots that are proven at a time. Default 4: on two cores mainnet needs one, and a burst behind a gap is taken up.
    pub max_in_flight: usize,
    /// Hashes that a slot may claim, for itself and for each slot that was skipped before it. Default 16,000,000, four times
    /// mainnet's 64 ticks of 62,500: more is not recomputed, and of less no more than a slot's worth beyond what holds, so
    /// that an endpoint can't make up hours of work.
    pub max_hashes: u64,
}

impl Default for ProofOptions {
    fn default() -> Self {
        Self { mode: Mode::default(), max_in_flight: 4, max_hashes: DEFAULT_MAX_HASHES }
    }
}

/// Hashes that a slot may claim: four times mainnet's.
pub const DEFAULT_MAX_HASHES: u64 = 16_000_000;

impl Component for ProofOptions {
    const KIND: &'static str = "proof";
    const ROLE: Role = Role::Stage;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Blocks);
    const EMITS: Emits = Emits::Only(Flow::Blocks);
    const SUMMARY: &'static str =
        "Recomputes each slot's proof-of-history chain: what holds is whole, whoever delivered it.";

    fn problems(&self) -> Vec<Problem> {
        let zeros = [("max_in_flight", self.max_in_flight == 0), ("max_hashes", self.max_hashes == 0)];
        let zeros = zeros.iter().filter(|(_, zero)| *zero);
        let problem = |(option, _): &(&str, bool)| Problem {
            option: (*option).to_owned(),
            message: "nothing could ever be proven".to_owned(),
            help: "give 1 or more, or leave it out for the default".to_owned(),
        };
        zeros.map(problem).collect()
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        if self.mode != Mode::Off
            && let Some(lacking) = lacking(context.scope)
        {
            return Err(BuildError::Other(format!("there is nothing to prove: {lacking}")));
        }
        Ok(Node::Transform(Box::new(Proof { options: self })))
    }
}

/// What a subscription lacks for a proof.
fn lacking(scope: Scope) -> Option<&'static str> {
    match (scope.entries, scope.transactions) {
        (Want::Everything, Want::Everything) => None,
        (Want::Everything, _) => Some("no source subscribes to all transactions; add `transactions = true`"),
        _ => Some("no source subscribes to entries; add `entries = true`, or take the stage out"),
    }
}

#[cfg(test)]
mod tests;
