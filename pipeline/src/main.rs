//! The binary `sluice`.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use sluice::{commands, open_files};
use tracing_subscriber::EnvFilter;

/// One update costs allocations in h2 and prost that glibc's allocator spends twice the time on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes the Solana chain in from several Yellowstone endpoints and lets each slot out exactly once.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, about, propagate_version = true)]
struct Cli {
    /// How log lines are written, on stderr. What is logged is set by RUST_LOG (default info).
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pipeline until SIGINT or SIGTERM.
    Run(commands::run::RunArgs),
    /// Record what a pipeline's sources bring, to be played again by a `replay` source.
    Record(commands::record::RecordArgs),
    /// Run the example pipeline on a simulated cluster, and check what came out.
    Demo(commands::demo::DemoArgs),
    /// Write the files of past slots, fetched by RPC; exit code 4 if some can't be had.
    Backfill(commands::backfill::BackfillArgs),
    /// Find the files that an output folder lacks, and fetch them.
    Repair(commands::repair::RepairArgs),
    /// Audit an output folder offline; exit code 1 if it does not keep its promises.
    Verify(commands::verify::VerifyArgs),
    /// Prove the slots of recorded streams by their proof-of-history chains; exit code 1 if one breaks.
    Prove(commands::prove::ProveArgs),
    /// Serve a simulated Solana cluster: Yellowstone endpoints and an RPC node, for any client.
    Cluster(commands::cluster::ClusterArgs),
    /// Check pipelines without running them; exit code 78 if one has errors.
    Validate(commands::validate::ValidateArgs),
    /// Print a pipeline with every value that it runs with, and where each came from.
    Config(commands::config::ConfigArgs),
    /// Probe a pipeline's endpoints, and race them against each other; exit code 1 if one can't be subscribed to.
    Endpoints(commands::endpoints::EndpointsArgs),
    /// Test alert rules over a series in virtual time.
    Alert(commands::alert::AlertArgs),
    /// Make, list and end silences of a running pipeline's alerts, through its API.
    Silence(commands::silence::SilenceArgs),
    /// Draw a pipeline.
    Graph(commands::graph::GraphArgs),
    /// Watch a running pipeline in the terminal, through its API.
    Top(commands::top::TopArgs),
    /// Show what a node of a running pipeline gives out, as JSON lines, through its API.
    Tap(commands::tap::TapArgs),
    /// List the kinds of sources, stages and sinks with their options.
    List(commands::list::ListArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.log_format);
    open_files::raise();
    match cli.command {
        Command::Run(args) => on_runtime(commands::run::run(args)),
        Command::Record(args) => on_runtime(commands::record::run(args)),
        Command::Demo(args) => on_runtime(commands::demo::run(args)),
        Command::Backfill(args) => on_runtime(commands::backfill::run(args)),
        Command::Repair(args) => on_runtime(commands::repair::run(args)),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Prove(args) => commands::prove::run(&args),
        Command::Cluster(args) => on_runtime(commands::cluster::run(args)),
        Command::Validate(args) => commands::validate::run(&args),
        Command::Config(args) => commands::config::run(&args),
        Command::Endpoints(args) => on_runtime(commands::endpoints::run(args)),
        Command::Alert(args) => commands::alert::run(&args),
        Command::Silence(args) => on_runtime(commands::silence::run(args)),
        Command::Graph(args) => commands::graph::run(&args),
        Command::Top(args) => on_runtime(commands::top::run(args)),
        Command::Tap(args) => on_runtime(commands::tap::run(args)),
        Command::List(args) => commands::list::run(&args),
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn on_runtime(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            tracing::error!(%error, "can't start the runtime");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_that_reads_a_pipeline_takes_the_same_values_over_it() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        let reads = |command: &&clap::Command| {
            let names = command.get_positionals().filter_map(clap::Arg::get_value_names).flatten();
            names.into_iter().any(|name| name.as_str() == "PIPELINE.toml")
        };
        let reading: Vec<&clap::Command> = cli.get_subcommands().filter(reads).collect();
        let names: Vec<&str> = reading.iter().map(|command| command.get_name()).collect();
        assert_eq!(
            names,
            ["run", "record", "backfill", "repair", "validate", "config", "endpoints", "graph"]
        );
        for command in reading {
            for long in ["set", "profile", "env-file"] {
                let has = command.get_arguments().any(|argument| argument.get_long() == Some(long));
                assert!(has, "{} takes no --{long}", command.get_name());
            }
        }
    }
}
