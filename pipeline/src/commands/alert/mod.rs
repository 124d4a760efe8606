//! `sluice alert test`: runs alert rules over a given or recorded series in virtual time.

mod replay;
mod series;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use sluice_stages::alert_evaluator::AlertEvaluatorOptions;
use sluice_stages::component::Component as _;
use sluice_stages::sample::Sample;

use super::run::EXIT_FAILED;
use crate::report::{self, EXIT_CONFIG, count};
use replay::{Replay, replay};
use series::SeriesFile;

/// The largest file that is read: an hour of samples of a large pipeline.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Arguments of `sluice alert`.
#[derive(Debug, Args)]
pub struct AlertArgs {
    #[command(subcommand)]
    command: AlertCommand,
}

#[derive(Debug, Subcommand)]
enum AlertCommand {
    /// Run rules over a series, and check what is expected of them; exit code 1 if it does not happen.
    Test(TestArgs),
}

/// Arguments of `sluice alert test`.
#[derive(Debug, Args)]
struct TestArgs {
    /// The rules: the options of an `alert_evaluator`, as they stand in a pipeline below `[stages.NAME]`.
    #[arg(value_name = "RULES.toml")]
    rules: PathBuf,
    /// What to run them over: a TOML file of series in promtool's notation with what is expected, or samples as JSON
    /// lines (`.jsonl`). Without it the rules are only checked.
    #[arg(long, value_name = "FILE")]
    series: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &AlertArgs) -> ExitCode {
    let AlertCommand::Test(test) = &args.command;
    let options = match rules(&test.rules) {
        Ok(options) => options,
        Err(error) => {
            report::print_error(&format!("{}: {error:#}\n", test.rules.display()));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let Some(path) = &test.series else {
        report::print(&format!(
            "{}: {} to evaluate\n",
            test.rules.display(),
            count(options.rules().len(), "rule")
        ));
        return ExitCode::SUCCESS;
    };
    match series(path).map(|(samples, file)| replay(&options, &samples, &file)) {
        Ok(replayed) => {
            report::print(&describe(&replayed));
            if replayed.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
        }
        Err(error) => {
            report::print_error(&format!("{}: {error:#}\n", path.display()));
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::metadata(path).context("can't read it")?.len();
    if bytes > MAX_FILE_BYTES {
        bail!("{bytes} bytes are more than the {MAX_FILE_BYTES} that are read, cut it");
    }
    fs::read_to_string(path).context("can't read it")
}

fn rules(path: &Path) -> anyhow::Result<AlertEvaluatorOptions> {
    let options: AlertEvaluatorOptions = toml::from_str(&read(path)?)?;
    let problems = options.problems();
    if let Some(first) = problems.first() {
        let lines: Vec<_> = problems
            .iter()
            .map(|problem| format!("  `{}`: {}; {}", problem.option, problem.message, problem.help))
            .collect();
        tracing::debug!(option = first.option, "rules can't be used");
        bail!("{}\n{}", count(problems.len(), "problem"), lines.join("\n"));
    }
    Ok(options)
}

/// The samples of a file, and what it expects.
fn series(path: &Path) -> anyhow::Result<(Vec<Sample>, SeriesFile)> {
    let text = read(path)?;
    let is_json = path
        .extension()
        .is_some_and(|extension| ["jsonl", "ndjson", "json"].map(Some).contains(&extension.to_str()));
    if is_json {
        return Ok((recorded(&text)?, SeriesFile::default()));
    }
    let file: SeriesFile = toml::from_str(&text)?;
    Ok((file.samples()?, file))
}

fn recorded(text: &str) -> anyhow::Result<Vec<Sample>> {
    let mut samples: Vec<Sample> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = number + 1;
        let sample: Sample =
            serde_json::from_str(line).with_context(|| format!("line {number} is not a sample"))?;
        if samples.last().is_some_and(|last| last.at > sample.at) {
            bail!("line {number} is of an earlier time than the one before it, sort the lines by `at`");
        }
        samples.push(sample);
    }
    Ok(samples)
}

fn describe(replayed: &Replay) -> String {
    let mut text = String::new();
    for line in &replayed.timeline {
        // A string takes everything.
        writeln!(text, "{line}").ok();
    }
    for failure in &replayed.failures {
        writeln!(text, "FAILED {failure}").ok();
    }
    let met = replayed.expectations - replayed.failures.len();
    writeln!(text, "{} of {} met", met, count(replayed.expectations, "expectation")).ok();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "default_rules = false\ngroup_wait = '10s'\n[rules.behind]\nmetric = 'lag_slots'\nthreshold = '> 150'\nfor = '5s'\nseverity = 'error'";

    fn run_over(series: &str) -> Replay {
        let options: AlertEvaluatorOptions = toml::from_str(RULES).expect("rules");
        let file: SeriesFile = toml::from_str(series).expect("series");
        replay(&options, &file.samples().expect("samples"), &file)
    }

    const SERIES: &str = "[[series]]\nmetric = 'lag_slots'\nvalues = '10x9 200x9 10x400'\n";

    #[test]
    fn what_happens_as_expected_passes() {
        let expected = "[[alerts]]\nat = '14s'\nrule = 'behind'\nstate = 'pending'\n\
            [[alerts]]\nat = '15s'\nrule = 'behind'\nstate = 'firing'\n\
            [[alerts]]\nat = '20s'\nrule = 'behind'\nstate = 'inactive'\n\
            [[notices]]\nat = '25s'\n\
            [[notices]]\nat = '5m25s'\n";
        let replayed = run_over(&format!("{SERIES}{expected}"));
        // Over before the group's first flush: nobody is told at any time.
        assert_eq!((replayed.expectations, replayed.failures), (5, vec![]));
    }

    #[test]
    fn notices_are_named_with_their_alerts() {
        let series = "[[series]]\nmetric = 'lag_slots'\nvalues = '200x60 10x400'\n";
        let expected = "[[notices]]\nat = '15s'\nfiring = ['behind']\n[[notices]]\nat = '5m15s'\nresolved = ['behind']\n";
        let replayed = run_over(&format!("{series}{expected}"));
        assert_eq!(replayed.failures, Vec::<String>::new());
    }

    #[test]
    fn what_does_not_happen_fails_and_says_what_did() {
        let expected = "[[alerts]]\nat = '14s'\nrule = 'behind'\nstate = 'firing'\n[[notices]]\nat = '25s'\nfiring = ['behind']\n";
        let replayed = run_over(&format!("{SERIES}{expected}"));
        let expected =
            ["at 14s: `behind` is pending, not firing", "at 25s: told of nothing, not of firing [behind]"];
        assert_eq!(replayed.failures, expected);
    }

    #[test]
    fn recorded_samples_come_in_order() {
        let line = |at: u64| format!("{{\"at\":{at},\"readings\":[]}}\n");
        assert_eq!(recorded(&format!("{}\n{}", line(1), line(2))).expect("in order").len(), 2);
        let error = recorded(&format!("{}{}", line(2), line(1))).expect_err("not in order").to_string();
        assert!(error.starts_with("line 2 is of an earlier time"), "{error}");
    }
}
