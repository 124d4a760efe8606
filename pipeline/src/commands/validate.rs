//! `sluice validate`: checks pipelines without running them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use sluice_config::diagnostic::{Diagnostics, Phase, Severity};
use sluice_stages::component::Role;

use crate::overrides::Overrides;
use crate::plan::Plan;
use crate::report::{self, EXIT_CONFIG, count};

/// The parts of the check, in their order.
const PHASES: [(Phase, &str); 3] =
    [(Phase::Syntax, "syntax"), (Phase::Options, "options"), (Phase::Graph, "graph")];

/// Arguments of `sluice validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The pipelines' files; `-` is standard input.
    #[arg(required = true, value_name = "PIPELINE.toml")]
    pub pipelines: Vec<PathBuf>,
    /// How to show what was found.
    #[arg(long, value_enum, default_value_t)]
    pub format: ValidateFormat,
    /// Values over those of the files.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// How `sluice validate` shows what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ValidateFormat {
    /// For people: diagnostics on stderr, a summary on stdout.
    #[default]
    Text,
    /// For tools: one JSON list on stdout, with one object for each file.
    Json,
}

/// Checks every file. The exit code is 78 if one of them has an error.
pub fn run(args: &ValidateArgs) -> ExitCode {
    let outcomes: Vec<_> = args.pipelines.iter().map(|path| args.overrides.load(path)).collect();
    match args.format {
        ValidateFormat::Text => outcomes.iter().for_each(|outcome| {
            report::show(diagnostics(outcome));
            report::print(&summary(outcome));
        }),
        ValidateFormat::Json => {
            let records: Vec<_> = outcomes.iter().map(record).collect();
            report::print(&format!("{:#}\n", Value::from(records)));
        }
    }
    if outcomes.iter().all(Result::is_ok) { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG) }
}

fn diagnostics(outcome: &Result<Plan, Diagnostics>) -> &Diagnostics {
    match outcome {
        Ok(plan) => &plan.warnings,
        Err(diagnostics) => diagnostics,
    }
}

/// One line for the file, and one for each part of the check.
fn summary(outcome: &Result<Plan, Diagnostics>) -> String {
    let diagnostics = diagnostics(outcome);
    let verdict = match outcome {
        Ok(_) => "is valid".to_owned(),
        Err(_) => format!("has {}", count(diagnostics.errors(), "error")),
    };
    let warnings = match diagnostics.warnings() {
        0 => String::new(),
        warnings => format!(", {}", count(warnings, "warning")),
    };
    let mut text = format!("{} {verdict}{warnings}\n", diagnostics.source().name);
    for (phase, name) in PHASES {
        text.push_str(&format!("  {}\n", phase_line(outcome, phase, name)));
    }
    text
}

fn phase_line(outcome: &Result<Plan, Diagnostics>, phase: Phase, name: &str) -> String {
    let diagnostics = diagnostics(outcome);
    let errors_in = |phase: Phase| {
        let is_error = |severity: Severity| severity == Severity::Error;
        diagnostics.found().iter().filter(|one| one.code.phase() == phase && is_error(one.severity)).count()
    };
    match errors_in(phase) {
        0 if phase > Phase::Syntax && is_unparsed(diagnostics) => format!("- {name:<8} not checked"),
        0 => format!(
            "✓ {name:<8} {}",
            outcome.as_ref().map_or_else(|_| String::new(), |plan| facts(plan, phase))
        )
        .trim_end()
        .to_owned(),
        errors => format!("✗ {name:<8} {}", count(errors, "error")),
    }
}

/// Whether the text could not be taken apart at all.
fn is_unparsed(diagnostics: &Diagnostics) -> bool {
    use sluice_config::diagnostic::Code;
    diagnostics.found().iter().any(|one| matches!(one.code, Code::Syntax | Code::Unreadable))
}

fn facts(plan: &Plan, phase: Phase) -> String {
    let of = |role: Role| plan.nodes.iter().filter(|node| node.role == role).count();
    match phase {
        Phase::Syntax => count(plan.warnings.source().text.lines().count(), "line"),
        Phase::Options => {
            let parts = [(Role::Source, "source"), (Role::Stage, "stage"), (Role::Sink, "sink")];
            parts.map(|(role, noun)| count(of(role), noun)).join(", ")
        }
        Phase::Graph => count(plan.nodes.iter().map(|node| node.inputs.len()).sum(), "edge"),
    }
}

fn record(outcome: &Result<Plan, Diagnostics>) -> Value {
    let diagnostics = diagnostics(outcome);
    let nodes = outcome.as_ref().ok().map(|plan| {
        let node = |node: &crate::plan::PlanNode| json!({ "name": node.name, "type": node.kind.name });
        plan.nodes.iter().map(node).collect::<Vec<_>>()
    });
    json!({
        "file": diagnostics.source().name,
        "valid": outcome.is_ok(),
        "errors": diagnostics.errors(),
        "warnings": diagnostics.warnings(),
        "nodes": nodes,
        "diagnostics": diagnostics.records(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{BROKEN, WHOLE};

    fn outcome(text: &str) -> Result<Plan, Diagnostics> {
        Plan::parse("p.toml", text, &|_: &str| None)
    }

    #[test]
    fn a_valid_pipeline_is_summed_up_by_phase() {
        let expected = "p.toml is valid\n  ✓ syntax   23 lines\n  ✓ options  2 sources, 3 stages, 1 sink\n  ✓ graph    6 edges\n";
        assert_eq!(summary(&outcome(WHOLE)), expected);
    }

    #[test]
    fn a_broken_pipeline_shows_which_phases_failed() {
        let expected = "p.toml has 2 errors\n  ✓ syntax\n  ✗ options  1 error\n  ✗ graph    1 error\n";
        assert_eq!(summary(&outcome(BROKEN)), expected);
    }

    #[test]
    fn what_is_not_toml_is_not_checked_further() {
        let expected =
            "p.toml has 1 error\n  ✗ syntax   1 error\n  - options  not checked\n  - graph    not checked\n";
        assert_eq!(summary(&outcome("[")), expected);
    }

    #[test]
    fn tools_get_lines_and_columns() {
        let record = record(&outcome(BROKEN));
        assert_eq!((&record["valid"], &record["errors"]), (&json!(false), &json!(2)));
        assert_eq!(record["diagnostics"][0]["start"], json!({ "line": 6, "column": 1 }));
        assert_eq!(record["diagnostics"][0]["code"], "unknown-option");
    }
}
