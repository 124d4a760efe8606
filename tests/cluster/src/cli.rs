//! The command line of a simulated cluster, for a binary that offers one.

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::cluster::{Cluster, Config};
use crate::faults::Profile;
use crate::ledger::{GeneratedLedger, Ledger, LedgerError, LedgerFile};
use crate::server::{Running, ServeError, ServeOptions};

/// A simulated Solana cluster on this machine: Yellowstone gRPC endpoints and a JSON-RPC server.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// Plays a file (`ConfirmedBlock` protobuf, `getBlock` JSON, or recorded updates) instead of made-up slots; may
    /// be given several times, in the order of the slots. `@SLOT` numbers a block that carries no number.
    #[arg(long, value_name = "FILE[@SLOT]")]
    pub ledger: Vec<LedgerFile>,
    /// Number of made-up slots; without it there is no end.
    #[arg(long, value_name = "N")]
    pub slots: Option<u64>,
    /// Number of Yellowstone endpoints.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub endpoints: usize,
    /// Port of the first endpoint, the others follow; without it free ones are taken.
    #[arg(long, value_name = "P")]
    pub grpc_port: Option<u16>,
    /// Port of the RPC server; without it a free one is taken.
    #[arg(long, value_name = "P")]
    pub rpc_port: Option<u16>,
    /// Seeds the faults.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Seeds the made-up slots.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub ledger_seed: u64,
    /// What goes wrong: none, default or harsh.
    #[arg(long, value_name = "PROFILE", default_value_t = Profile::Default)]
    pub faults: Profile,
    /// Time from slot to slot, at least 1ms if there is no end.
    #[arg(long, value_name = "TIME", default_value = "400ms")]
    pub slot_time: SlotTime,
    /// Slots that each endpoint can replay.
    #[arg(long, value_name = "N", default_value_t = 150)]
    pub replay_window: u64,
    /// The `x-token` that endpoints ask for.
    #[arg(long, value_name = "TOKEN")]
    pub x_token: Option<String>,
}

/// A duration with its unit: `400ms`, `1s`, `250us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotTime(pub Duration);

impl FromStr for SlotTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.find(|one: char| !one.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let invalid = || format!("{text:?} is no time; write it like 400ms, 1s or 250us");
        let number = number.parse().map_err(|_| invalid())?;
        match unit.trim() {
            "s" => Ok(Self(Duration::from_secs(number))),
            "ms" => Ok(Self(Duration::from_millis(number))),
            "us" | "µs" => Ok(Self(Duration::from_micros(number))),
            _ => Err(invalid()),
        }
    }
}

/// Why a cluster could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The ledger can't be played.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It can't be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl ClusterArgs {
    /// Reads or prepares the ledger.
    pub fn ledger(&self) -> Result<Ledger, LedgerError> {
        if self.ledger.is_empty() {
            let settings =
                GeneratedLedger { seed: self.ledger_seed, slots: self.slots, ..GeneratedLedger::default() };
            return Ok(Ledger::generated(settings));
        }
        Ledger::open(&self.ledger)
    }

    /// The cluster that was asked for.
    pub fn cluster(&self) -> Result<Cluster, LedgerError> {
        let config = Config {
            endpoints: self.endpoints,
            seed: self.seed,
            faults: self.faults,
            slot_time: self.slot_time.0,
            replay_window: self.replay_window,
            x_token: self.x_token.clone(),
            unix_start: None,
            ..Config::default()
        };
        Ok(Cluster::new(self.ledger()?, config))
    }
}

/// Serves a cluster until `stop` is ready; prints the addresses, one a line.
pub async fn run(args: ClusterArgs, stop: impl Future<Output = ()>) -> Result<(), ClusterError> {
    let cluster = args.cluster()?;
    let options =
        ServeOptions { grpc_port: args.grpc_port, rpc_port: args.rpc_port, ..ServeOptions::default() };
    let running = Running::start(cluster, options).await?;
    for (index, url) in running.grpc_urls().iter().enumerate() {
        println!("endpoint {index}  {url}");
    }
    println!("rpc         {}", running.rpc_url());
    stop.await;
    Ok(running.shutdown().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_times_need_a_unit() {
        assert_eq!("400ms".parse(), Ok(SlotTime(Duration::from_millis(400))));
        assert_eq!("2s".parse(), Ok(SlotTime(Duration::from_secs(2))));
        for bad in ["400", "ms", "-1ms", "1h"] {
            assert!(bad.parse::<SlotTime>().is_err(), "{bad}");
        }
    }
}
