//! `sluice tap`: shows what a node of a running pipeline gives out, as JSON lines.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::api_client::{Api, ApiArgs};
use super::run::EXIT_FAILED;
use crate::signals::Signals;

/// Arguments of `sluice tap`.
#[derive(Debug, Args)]
pub struct TapArgs {
    /// The node, by its name in the TOML.
    node: String,
    /// Ends after so many lines. Default: goes on until it is interrupted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: Option<u64>,
    /// Lines a second, at most. Default: 1000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// Only what fits: `kind=transaction`, `slot=1234`, `endpoint=ams`. Several have to fit together.
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter)]
    filter: Vec<(String, String)>,
    #[command(flatten)]
    api: ApiArgs,
}

fn filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key @ ("kind" | "slot" | "endpoint"), value)) => Ok((key.to_owned(), value.to_owned())),
        _ => Err("use kind=…, slot=… or endpoint=…".to_owned()),
    }
}

/// Shows items until the limit, the pipeline's end or a signal.
pub async fn run(args: TapArgs) -> ExitCode {
    let mut signals = Signals::listen();
    let shown = tokio::select! {
        shown = show(args) => shown,
        () = signals.next() => Ok(()),
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn show(args: TapArgs) -> anyhow::Result<()> {
    let api = Api::new(args.api)?;
    let mut query: Vec<(&str, String)> =
        args.filter.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    query.extend(args.limit.map(|limit| ("limit", limit.to_string())));
    query.extend(args.rate.map(|rate| ("rate", rate.to_string())));
    let mut lines = api.open(&["api", "v1", "nodes", &args.node, "tap"], &query).await?;
    let mut out = std::io::stdout();
    while let Some(piece) = lines.chunk().await? {
        // Whoever closed the pipe that this is written to (`head`, say) has read enough.
        if out.write_all(&piece).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_a_key_that_is_known() {
        assert_eq!(filter("kind=block"), Ok(("kind".to_owned(), "block".to_owned())));
        assert!(filter("colour=red").is_err() && filter("kind").is_err());
    }
}
