//! `sluice verify`: audits an output folder offline.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use sluice_sinks::verify::{VerifyOptions, verify};

use super::run::EXIT_FAILED;
use crate::report;

/// Arguments of `sluice verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The output folder.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The folder was written from a filtered subscription: don't hold transactions to their block's count.
    #[arg(long)]
    pub filtered: bool,
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

/// Audits the folder. The exit code is 1 if it does not keep its promises, or can't be read.
pub fn run(args: &VerifyArgs) -> ExitCode {
    let options = VerifyOptions { filtered: args.filtered, ..VerifyOptions::default() };
    let found = match verify(&args.dir, options) {
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
    if found.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
}
