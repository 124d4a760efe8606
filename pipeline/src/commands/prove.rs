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
    /// zstd. Each subscription of each counts for itself; what one lacks another may have.
    #[arg(value_name = "RECORDING", required = true)]
    pub recordings: Vec<PathBuf>,
}

/// Proves each slot and says what is wrong with those that can't be. The exit code is 1 if a chain breaks, if a slot or a
/// block meta is missing, or if nothing could be proven.
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
    if let Some(lacking) = lacking(&recordings).filter(|_| !findings.is_empty()) {
        report::print_error(&format!("can't prove: {lacking}\n"));
        return ExitCode::from(EXIT_FAILED);
    }
    let tally = Tally::of(&findings);
    report::print(&describe(&findings, &tally, begun.elapsed().as_secs_f64()));
    let is_whole = tally.broken == 0 && tally.missing == 0;
    if is_whole && tally.proven > 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
}

/// What no slot can be proven without.
fn lacking(recordings: &Recordings) -> Option<&'static str> {
    if recordings.entries() == 0 {
        return Some("no entries were recorded; record a source that has `entries = true`");
    }
    let none = "no transactions were recorded; record a source that has `transactions = true`";
    (recordings.transactions() == 0).then_some(none)
}

/// How many slots were found to be what.
#[derive(Default)]
struct Tally {
    proven: u64,
    broken: u64,
    missing: u64,
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
                Finding::MetaMissing { .. } | Finding::Missing { .. } => tally.missing += 1,
                Finding::Joined => tally.joined += 1,
                Finding::Unfinished => tally.unfinished += 1,
            }
        }
        tally
    }
}

fn read(args: &ProveArgs) -> anyhow::Result<Recordings> {
    let mut recordings = Recordings::default();
    // Sessions, by the recording that they are in and their id there. An endpoint that connected anew joined anew.
    let mut sessions = BTreeMap::new();
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
                let next = sessions.len();
                recordings.take(*sessions.entry((position, session)).or_insert(next), bytes);
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
            Finding::MetaMissing { child, holds } => describe_without_meta(*child, *holds),
            Finding::Missing { since, child } => describe_missing(*slot, *since, *child),
        };
        // A string takes everything.
        writeln!(text, "slot {slot}: {what}").ok();
    }
    let Tally { proven, broken, missing, joined, unfinished, hashes } = tally;
    let rate = *hashes as f64 / seconds.max(f64::EPSILON) / 1e6;
    writeln!(
        text,
        "{proven} slots proven, {broken} broken, {joined} joined and {unfinished} left in the middle, {missing} missing; \
         {hashes} hashes, {rate:.1} million a second"
    )
    .ok();
    text
}

fn describe_without_meta(child: Slot, holds: bool) -> String {
    let rest = match holds {
        true => "its chain holds up to the blockhash that is named",
        false => "its chain can't be tied to a slot before it",
    };
    format!("its block meta is missing, slot {child} names it as its parent; {rest}")
}

fn describe_missing(slot: Slot, since: Slot, child: Slot) -> String {
    let before = match since {
        since if since < slot => format!("; nothing came of slots {since} to {} before it", slot - 1),
        _ => String::new(),
    };
    format!("missing, slot {child} names it as its parent{before}")
}
