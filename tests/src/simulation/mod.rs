//! The whole pipeline from a seed: one thread, virtual time, no socket.
//!
//! ```text
//!  cluster (pure) ─ links ─ merge ─ dedupe ─ gap detector ─ planner ─ commitment ─ oracle
//!     │      every link: reconnects, clogs, latency          │   ▲                  │
//!     └────────────────────── replays, RPC ◄── fetches ──────┘   └── asked again ───┘
//! ```
//!
//! A seed decides everything: the ledger, how much goes wrong and where, how endpoints, network and RPC behave, and
//! every option of the stages ([`Scenario`]). A storm of faults ends in a calm, by the end of which nothing may be
//! missing. The `oracle` compares each block that comes out with the cluster's ground truth, and a run that breaks a
//! promise says which and where ([`Failure`]). Mutants ([`Mutant`]) break the pipeline on purpose, so that a test can
//! show that the oracle would notice.

mod driver;
mod fetches;
mod link;
mod mutant;
mod oracle;
mod pipeline;
mod replay;
mod scenario;
mod trace;
mod world;

pub use driver::{Failure, Report, run, run_mutant};
pub use mutant::Mutant;
pub use oracle::{Digest, Violation};
pub use scenario::{LinkHabits, Scenario};

use std::time::Duration;

use sluice_stages::slot::Timestamp;

/// What the pipeline's clock shows when the cluster's shows zero; the cluster's own `created_at` agrees.
const EPOCH: Timestamp = Timestamp(1_744_200_000_000_000);

/// The pipeline's time at a time of the cluster's.
fn timestamp(now: Duration) -> Timestamp {
    EPOCH.after(now)
}
