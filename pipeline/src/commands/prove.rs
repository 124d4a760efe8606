//! `sluice prove`: proves the slots of recorded streams, without a pipeline.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use sluice_stages::proof::recording::{Finding, Recordings};
use sluice_stages::recording::format::Record;
use sluice_stages::recording::reader::Reader;
use sluice_stages::slot::Slot;

use super::run::EXIT_FAILED;
use crate::report;

/// Arguments of `sluice prove`.
#[derive(Debug, Args)]
pub struct ProveArgs {
    /// Recordings: those of `sluice record`, or frames of a big-endian u32 length and a `SubscribeUpdate`, plain, gzip or
    /// zstd. Each endpoint of each counts for itself; what one lacks another may have.
    #[arg(value_name = "RECORDING", required = true)]
    pub recordings: Vec<PathBuf>,
}

/// Proves each slot and says what is wrong with those that can't be. The exit code is 1 if a chain breaks.
pub fn run(args: &ProveArgs) -> ExitCode {
    let begun = Instant::now();
    let recordings = match read(args) {
        Ok(recordings) => recordings,
        Err(error) => {
            report::print_error(&format!("can't prove: {error:#}\n"));
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let findings = recordings.prove();
    report::print(&describe(&findings, begun.elapsed().as_secs_f64()));
    let broken = findings.iter().any(|(_, finding)| matches!(finding, Finding::Broken(_)));
    if broken { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS }
}

fn read(args: &ProveArgs) -> anyhow::Result<Recordings> {
    let mut recordings = Recordings::default();
    // Endpoints, by the recording that they are in and their id there.
    let mut endpoints = BTreeMap::new();
    for (position, path) in args.recordings.iter().enumerate() {
        let mut reader = Reader::open(path)?;
        while let Some(block) = reader.next_block()? {
            for record in block.records {
                let Record::Frame { session, bytes, .. } = record else { continue };
                let next = endpoints.len();
                let endpoint = *endpoints.entry((position, session.endpoint)).or_insert(next);
                recordings.take(endpoint, bytes).with_context(|| path.display().to_string())?;
            }
        }
        if let Some(byte) = reader.torn_at() {
            report::print_error(&format!("{} breaks off at byte {byte}\n", path.display()));
        }
    }
    Ok(recordings)
}

fn describe(findings: &[(Slot, Finding)], seconds: f64) -> String {
    let (mut text, mut proven, mut hashes) = (String::new(), 0_u64, 0_u64);
    for (slot, finding) in findings {
        let what = match finding {
            Finding::Proven(number) => {
                proven += 1;
                hashes += number;
                continue;
            }
            Finding::Joined => "joined in the middle".to_owned(),
            Finding::Unfinished => "its block meta did not come".to_owned(),
            Finding::Broken(broken) => format!("broken at entry {}: {}", broken.index, broken.reason),
        };
        // A string takes everything.
        writeln!(text, "slot {slot}: {what}").ok();
    }
    let rate = hashes as f64 / seconds.max(f64::EPSILON) / 1e6;
    let all = findings.len();
    writeln!(text, "{proven} of {all} slots proven; {hashes} hashes, {rate:.1} million a second").ok();
    text
}
