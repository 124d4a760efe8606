//! No secret is ever shown, however much is logged and whatever goes wrong with it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Cluster, Pipeline, Process};

/// The secrets, each to be recognised by its place.
const TOKEN: &str = "canary-token-51b7";
const HEADER: &str = "canary-header-90ac";
const API_KEY: &str = "canary-key-e3d2";

fn pipeline(cluster: &Cluster, folder: &Path) -> Pipeline {
    let mut pipeline = Pipeline::new(cluster, folder.join("out"), 5);
    pipeline.rpc_url.push_str(&format!("/?api-key={API_KEY}"));
    pipeline.source = format!("x_token = \"{TOKEN}\"\nheaders = {{ authorization = \"{HEADER}\" }}\n");
    pipeline
}

fn assert_hidden(text: &str) {
    for secret in [TOKEN, HEADER, API_KEY] {
        let shown = text.lines().find(|line| line.contains(secret));
        assert!(shown.is_none(), "{shown:?}");
    }
}

#[test]
fn a_wrong_token_is_told_with_what_to_do_and_not_shown_even_in_a_trace() {
    let cluster = Cluster::start(1, &["--slot-time", "50ms", "--faults", "none", "--x-token", "sesame"]);
    let folder = tempfile::tempdir().expect("a folder");
    let rpc_address = cluster.rpc_url.replace("http://", "");
    let toml = pipeline(&cluster, folder.path()).write("pipeline.toml");
    let process = Process::logging(&[Path::new("run"), &toml], "trace");
    process.wait_for("check x_token");
    // The RPC node is asked meanwhile, with its key in the url.
    process.wait_for(&rpc_address);
    process.signal("TERM");
    let (status, log) = process.end();
    assert!(status.success());
    assert_hidden(&log);
}

#[test]
fn an_rpc_node_that_is_not_there_is_told_without_its_key() {
    let mut cluster = Cluster::start(1, &["--slot-time", "20ms", "--faults", "default", "--x-token", TOKEN]);
    let folder = tempfile::tempdir().expect("a folder");
    cluster.rpc_url = "http://127.0.0.1:1".to_owned();
    let toml = pipeline(&cluster, folder.path()).write("pipeline.toml");
    let process = Process::logging(&[Path::new("run"), &toml], "trace");
    process.wait_for("connected");
    process.wait_for("gap found");
    process.wait_for("127.0.0.1:1");
    process.signal("TERM");
    let (_, log) = process.end();
    assert_hidden(&log);
}

#[test]
fn commands_that_show_a_pipeline_show_no_value_of_a_variable() {
    let cluster = Cluster::start(1, &["--slots", "1"]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut good = Pipeline::new(&cluster, folder.path().join("out"), 5);
    good.source = "x_token = \"${TOKEN}\"\n".to_owned();
    let good = good.write("good.toml");
    let bad = folder.path().join("bad.toml");
    let text =
        fs::read_to_string(&good).expect("just written").replace("transactions = true", "transactions = 7");
    let text = text.replace("x_token", "idle_timeout = \"${TOKEN}\"\nx_tokn");
    fs::write(&bad, text).expect("writable");
    for arguments in [vec!["validate"], vec!["graph"], vec!["graph", "--format", "mermaid"], vec!["run"]] {
        let paths: &[&Path] = if arguments[0] == "run" { &[&bad] } else { &[&good, &bad] };
        for path in paths {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
            let output = command.args(&arguments).arg(path).env("TOKEN", TOKEN).output().expect("it runs");
            assert_eq!(output.status.success(), *path == good, "{arguments:?}");
            assert_hidden(&String::from_utf8_lossy(&output.stdout));
            assert_hidden(&String::from_utf8_lossy(&output.stderr));
        }
    }
}
