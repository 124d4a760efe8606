//! A simulated Solana cluster: it plays a ledger as several endpoints that speak the Yellowstone gRPC protocol, and as
//! a JSON-RPC server, with faults from a seeded script.

pub mod ledger;
mod random;
