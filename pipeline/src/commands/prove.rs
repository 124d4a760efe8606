//! `sluice prove`: proves the slots of recorded streams, without a pipeline.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

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

/// Proves each slot and says what is wrong with those that can't be. The exit code is 1 if a chain breaks, or if nothing
/// could be proven.
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
    if recordings.unreadable() > 0 {
        let frames = recordings.unreadable();
        report::print_error(&format!(
            "{frames} frames can't be read; what they were about counts as missing\n"
        ));
    }
    if recordings.entries() == 0 && !findings.is_empty() {
        let what = "can't prove: no entries were recorded; record a source that has `entries = true`\n";
        report::print_error(what);
        return ExitCode::from(EXIT_FAILED);
    }
    let tally = Tally::of(&findings);
    report::print(&describe(&findings, &tally, begun.elapsed().as_secs_f64()));
    if tally.broken == 0 && tally.proven > 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
}

/// How many slots were found to be what.
#[derive(Default)]
struct Tally {
    proven: u64,
    broken: u64,
    joined: u64,
    unfinished: u64,
    hashes: u64,
}

impl Tally {
    fn of(findings: &[(Slot, Finding)]) -> Self {
        let mut tally = Self::default();
        for (_, finding) in findings {
            match finding {
                Finding::Proven(hashes) => {
                    tally.proven += 1;
                    tally.hashes += hashes;
                }
                Finding::Broken(_) => tally.broken += 1,
                Finding::Joined => tally.joined += 1,
                Finding::Unfinished => tally.unfinished += 1,
            }
        }
        tally
    }
}

fn read(args: &ProveArgs) -> anyhow::Result<Recordings> {
    let mut recordings = Recordings::default();
    // Endpoints, by the recording that they are in and their id there.
    let mut endpoints = BTreeMap::new();
    for (position, path) in args.recordings.iter().enumerate() {
        let mut reader = Reader::open(path)?;
        loop {
            let block = match reader.next_block() {
                Ok(Some(block)) => block,
                Ok(None) => break,
                // What came before it can be judged all the same.
                Err(error) => {
                    report::print_error(&format!("{error}: it is read up to there\n"));
                    break;
                }
            };
            for record in block.records {
                let Record::Frame { session, bytes, .. } = record else { continue };
                let next = endpoints.len();
                let endpoint = *endpoints.entry((position, session.endpoint)).or_insert(next);
                recordings.take(endpoint, bytes);
            }
        }
        if let Some(byte) = reader.torn_at() {
            report::print_error(&format!("{} breaks off at byte {byte}\n", path.display()));
        }
    }
    Ok(recordings)
}

fn describe(findings: &[(Slot, Finding)], tally: &Tally, seconds: f64) -> String {
    let mut text = String::new();
    for (slot, finding) in findings {
        let what = match finding {
            Finding::Proven(_) => continue,
            Finding::Joined => "joined in the middle".to_owned(),
            Finding::Unfinished => "left in the middle: its block meta did not come".to_owned(),
            Finding::Broken(broken) => format!("broken at entry {}: {}", broken.index, broken.reason),
        };
        // A string takes everything.
        writeln!(text, "slot {slot}: {what}").ok();
    }
    let Tally { proven, broken, joined, unfinished, hashes } = tally;
    let rate = *hashes as f64 / seconds.max(f64::EPSILON) / 1e6;
    writeln!(
        text,
        "{proven} slots proven, {broken} broken, {joined} joined and {unfinished} left in the middle; {hashes} hashes, \
         {rate:.1} million a second"
    )
    .ok();
    text
}
