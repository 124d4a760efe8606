//! `sluice cluster`: serves a simulated cluster until it is told to stop.

use std::process::ExitCode;

pub use sluice_cluster::cli::ClusterArgs;

use super::run::EXIT_FAILED;
use crate::signals::Signals;

/// Serves the cluster until SIGINT or SIGTERM.
pub async fn run(args: ClusterArgs) -> ExitCode {
    let mut signals = Signals::listen();
    match sluice_cluster::cli::run(args, async move { signals.next().await }).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the cluster can't be served: {:#}", anyhow::Error::from(error));
            ExitCode::from(EXIT_FAILED)
        }
    }
}
