//! `sluice silence` against a running pipeline: what it adds mutes alerts, and a token is asked for and never shown.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Process, until};

const TOKEN: &str = "a-token-that-nobody-may-see";
/// Where the tests keep it.
const VARIABLE: &str = "TOKEN_OF_THE_TEST";

/// A pipeline that has nothing to do but to watch itself, with a rule that always fires.
fn start(folder: &Path) -> (Process, String) {
    let state = folder.join("alerts.json");
    let text = format!(
        "[sources.meter]\ntype = \"monitor\"\ninterval = \"500ms\"\n\
         [stages.alerts]\ntype = \"alert_evaluator\"\ninputs = [\"meter\"]\nstate_file = \"{}\"\n\
         [stages.alerts.rules.always]\nmetric = \"memory_budget_bytes\"\nthreshold = \">= 0\"\n\
         [sinks.api]\ntype = \"api\"\ninputs = [\"meter\", \"alerts\"]\nlisten = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n",
        state.display()
    );
    let toml = folder.join("pipeline.toml");
    fs::write(&toml, text).expect("writable");
    let process = Process::sluice(&[Path::new("run"), &toml]);
    process.wait_for("dashboard at ");
    let log = process.log();
    let (_, address) = log.split_once("dashboard at ").expect("it says where");
    let (url, _) = address.split_once("/performance").expect("it says where");
    (process, url.to_owned())
}

/// What protects the only alert from being told, as the state file has it.
fn suppressed_by(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("alerts.json")).unwrap_or_default();
    let saved: Value = serde_json::from_str(&text).unwrap_or_default();
    Some(saved["active"][0]["alert"]["suppressed_by"].as_str()?.to_owned())
}

/// The API of one pipeline, asked by `sluice silence`.
struct Silences {
    url: String,
}

impl Silences {
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.arg("silence").args(arguments).args(["--url", &self.url]);
        command.env(VARIABLE, TOKEN).env_remove("SLUICE_API_TOKEN").env("USER", "ann");
        let output = command.output().expect("the binary is there");
        for text in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(text).contains(TOKEN), "{arguments:?} shows the token");
        }
        output
    }

    /// The output of a command that has to succeed.
    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.run(&[arguments, &["--token-env", VARIABLE]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// What a command that has to fail says.
    fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

#[test]
fn a_silence_mutes_until_it_is_expired() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_process, url) = start(folder.path());
    let silences = Silences { url };
    let id = silences.ask(&["add", "always", "metric=~memory.*", "-d", "2h", "-c", "it is known"]);
    let id = id.trim();
    until("the alert to be muted", || suppressed_by(folder.path()).as_deref() == Some(id));

    let table = silences.ask(&["list"]);
    let line = table.lines().find(|line| line.starts_with(id)).expect("it is listed");
    for part in ["active", "1h59m", "ann", "rule=\"always\" metric=~\"memory.*\"  # it is known"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let shown: Value = serde_json::from_str(&silences.ask(&["list", "--json"])).expect("JSON");
    assert_eq!((&shown[0]["id"], &shown[0]["created_by"]), (&Value::from(id), &Value::from("ann")));
    assert_eq!(silences.ask(&["list", "-q"]).trim(), id);

    assert_eq!(silences.ask(&["expire", id]).trim(), id);
    until("the alert to be heard", || suppressed_by(folder.path()).is_none());
    assert_eq!(silences.ask(&["list", "-q"]), "");
    assert_eq!(silences.ask(&["list", "-q", "--all"]).trim(), id);
}

#[test]
fn what_can_not_be_done_is_told_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_process, url) = start(folder.path());
    let silences = Silences { url };
    let with_token = |arguments: &[&str]| silences.fail(&[arguments, &["--token-env", VARIABLE]].concat());
    assert!(silences.fail(&["list"]).contains("401"), "without a token");
    assert!(silences.fail(&["list", "--token", "wrong"]).contains("401"), "with a wrong one");
    assert!(silences.fail(&["list", "--token-env", "NOT_SET"]).contains("NOT_SET is not set"));
    assert!(with_token(&["add", "lag", "endpoint=~(", "-c", "x"]).contains("regular expression"));
    assert!(with_token(&["add", "severity!=x", "-c", "x"]).contains("every alert"));
    assert!(with_token(&["expire", "no-such-id"]).contains("no silence `no-such-id`"));
    let nobody = Silences { url: "http://127.0.0.1:9".to_owned() };
    assert!(nobody.fail(&["list"]).contains("does the pipeline run"));
}
