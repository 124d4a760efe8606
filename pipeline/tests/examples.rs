//! The example pipelines of `config/pipelines`.

use std::fs;
use std::path::{Path, PathBuf};

use sluice::plan::Plan;
use sluice_config::substitute::Variables;

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/pipelines");
    let entries = fs::read_dir(folder).expect("the examples are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
}

/// Every variable that an example names without a default.
fn every_variable(name: &str) -> Option<String> {
    let value = match name {
        // Would add a webhook to each of them.
        "ALERT_WEBHOOK_URL" => return None,
        url if url.ends_with("_URL") => "http://127.0.0.1:1",
        token if token.ends_with("_TOKEN") => "text",
        _ => return None,
    };
    Some(value.to_owned())
}

fn parse(path: &Path, variables: &dyn Variables) -> Plan {
    let text = fs::read_to_string(path).expect("readable");
    let name = path.display().to_string();
    Plan::parse(&name, &text, variables).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

#[test]
fn every_example_is_valid_without_a_warning() {
    let examples = examples();
    assert!(examples.len() >= 2);
    for path in examples {
        let plan = parse(&path, &every_variable);
        assert_eq!(plan.warnings.found(), [], "{}", path.display());
    }
}

#[test]
fn the_demo_needs_no_environment() {
    let demo = examples().into_iter().find(|path| path.ends_with("demo.toml")).expect("it is there");
    let plan = parse(&demo, &|_: &str| None);
    let mut names: Vec<_> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "alerts", "ams", "api", "asia", "console", "files", "final", "first", "monitor", "once", "slots",
        "tap", "us", "whole",
    ];
    assert_eq!(names, expected);
}
