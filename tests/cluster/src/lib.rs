//! A simulated Solana cluster: it plays a ledger as several endpoints that speak the Yellowstone gRPC protocol, and
//! as a JSON-RPC server, with faults from a seeded script.
//!
//! [`ledger`] is what is on the chain, [`cluster`] plays it in virtual time, [`server`] serves that on the loopback
//! interface, [`link`] stands between that and a client as a network does, and [`truth`] tells what a correct client ends
//! up with. Nothing here depends on the program under test.

pub mod cli;
pub mod cluster;
pub mod faults;
pub mod ledger;
pub mod link;
mod random;
pub mod server;
pub mod truth;

pub use cluster::{Cluster, Config, Emission, Endpoint, Level, Refusal, Rpc, RpcOutcome, Subscription};
pub use faults::{Fault, Profile};
pub use ledger::{GeneratedLedger, Ledger, LedgerError, LedgerFile, Lie};
pub use link::{Link, Proxy};
pub use server::{Progress, Running, ServeError, ServeOptions};
pub use truth::{Truth, TruthSlot};
