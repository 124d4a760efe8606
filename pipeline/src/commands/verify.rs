//! `sluice verify`: audits an output folder offline, and proves it if asked to.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use sluice_sinks::verify::{Progress, ProveOptions, Report, VerifyError, VerifyOptions, prove, verify};

use super::run::EXIT_FAILED;
use crate::report;

/// How often the progress bar moves.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// What `sluice verify --help` ends with.
const LIMITS: &str = "\
What is proven: --poh recomputes the chain of hashes from each block's parent to its own blockhash, so all signatures \
of the block are there, in their order, and none twice. --signatures shows that each message was signed by its signers, \
so nothing in it was changed. The blockhashes themselves are linked to each other by the audit.

Which signatures belong to one transaction is not in the chain: --poh alone holds them to the number that the message \
asks for, and takes the message at its word. With --signatures, too, no transaction can hide behind another's.

What no one can prove from what a stream delivers: the outcomes of transactions (status, fee, logs, balances, inner \
instructions, return data), accounts, rewards, block times, and that the cluster voted for these blocks.";

/// Arguments of `sluice verify`.
#[derive(Debug, Args)]
#[command(after_long_help = LIMITS)]
pub struct VerifyArgs {
    /// The output folder.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The folder was written from a filtered subscription: don't hold transactions to their block's count.
    #[arg(long)]
    pub filtered: bool,
    /// Recompute the proof-of-history chain of each block from `entries` and `transactions`. Blocks in ranges without
    /// entries are counted, not proven; if no block can be looked at, the exit code is 1. Add `--signatures` to prove where
    /// each transaction ends, too.
    #[arg(long)]
    pub poh: bool,
    /// Check each signature of each transaction (ed25519) over its message, put together from `transactions` and
    /// `instructions`. The exit code is 1 if a range has blocks and not both.
    #[arg(long)]
    pub signatures: bool,
    /// Do so for N blocks only, spread evenly over the folder.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// How to show the result.
    #[arg(long, value_enum, default_value_t)]
    pub format: VerifyFormat,
}

/// How `sluice verify` shows the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum VerifyFormat {
    /// For people.
    #[default]
    Text,
    /// For tools: one JSON object.
    Json,
}

/// Audits the folder. The exit code is 1 if it does not keep its promises, can't be read, or not all that was asked for
/// could be done.
pub fn run(args: &VerifyArgs) -> ExitCode {
    let found = match audit(args) {
        Ok(found) => found,
        Err(error) => {
            report::print_error(&format!("can't verify {error}\n"));
            return ExitCode::from(EXIT_FAILED);
        }
    };
    match args.format {
        VerifyFormat::Text => report::print(&format!("{found}\n")),
        VerifyFormat::Json => match serde_json::to_string_pretty(&found) {
            Ok(json) => report::print(&format!("{json}\n")),
            Err(error) => report::print_error(&format!("can't write the report: {error}\n")),
        },
    }
    if found.is_clean() && found.is_done() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
}

fn audit(args: &VerifyArgs) -> Result<Report, VerifyError> {
    let options = VerifyOptions { filtered: args.filtered, ..VerifyOptions::default() };
    let mut found = verify(&args.dir, options)?;
    let options = ProveOptions { hashes: args.poh, signatures: args.signatures, sample: args.sample };
    if options.hashes || options.signatures {
        prove_with_bar(args, options, &mut found)?;
    }
    Ok(found)
}

/// Proves, and shows meanwhile how far it has come.
fn prove_with_bar(args: &VerifyArgs, options: ProveOptions, found: &mut Report) -> Result<(), VerifyError> {
    let progress = &Progress::default();
    std::thread::scope(|scope| {
        let (done, ended) = mpsc::sync_channel::<()>(1);
        scope.spawn(move || {
            let bar = ProgressBar::no_length().with_style(style());
            while ended.recv_timeout(PROGRESS_INTERVAL).is_err_and(|error| error == RecvTimeoutError::Timeout)
            {
                show(&bar, progress);
            }
            bar.finish_and_clear();
        });
        let result = prove(&args.dir, options, progress, found);
        drop(done);
        result
    })
}

fn style() -> ProgressStyle {
    let template = "{bar:30} {pos}/{len} blocks {msg} eta {eta}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn show(bar: &ProgressBar, progress: &Progress) {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    bar.set_length(read(&progress.total));
    bar.set_position(read(&progress.done));
    let seconds = bar.elapsed().as_secs_f64().max(f64::EPSILON);
    let hashes = read(&progress.hashes) as f64 / seconds / 1e6;
    let signatures = read(&progress.signatures) as f64 / seconds;
    bar.set_message(format!("{hashes:.1} million hashes/s, {signatures:.0} signatures/s"));
}
