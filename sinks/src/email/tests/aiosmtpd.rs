//! Against a server that no one here wrote: Python's aiosmtpd, with STARTTLS and a login.
//!
//! It needs a Python that has it: `python3 -m venv V && V/bin/pip install aiosmtpd cryptography`, and
//! `SLUICE_TEST_PYTHON=V/bin/python`. Without it the test says so and passes.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use sluice_stages::alert::Severity;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::*;

const PASSWORD: &str = "correct horse";

struct Server {
    lines: Lines<BufReader<ChildStdout>>,
    port: u64,
    /// Ends with this.
    _child: Child,
}

impl Server {
    async fn start(folder: &Path) -> Option<Self> {
        let python = std::env::var("SLUICE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut import = Command::new(&python);
        import.args(["-c", "import aiosmtpd, cryptography"]).stderr(Stdio::null());
        if !import.status().await.is_ok_and(|status| status.success()) {
            return None;
        }
        let mut child = Command::new(python)
            .args(["-c", include_str!("server.py")])
            .arg(folder)
            .args(["sluice", PASSWORD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = next(&mut lines).await["port"].as_u64().expect("a port");
        Some(Self { lines, port, _child: child })
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = tokio::time::timeout(std::time::Duration::from_secs(60), lines.next_line()).await;
    serde_json::from_str(&line.expect("in time").expect("readable").expect("the server runs")).expect("JSON")
}

fn start(server: &Server, folder: &Path, password: &str, more: Value) -> RunningSink {
    let mut text = json!({
        "server": "localhost", "port": server.port, "ca_file": folder.join("cert.pem"),
        "username": "sluice", "password": password, "from": "sluice@example.org", "to": ["ops@example.com"],
        "retry": {"min_backoff": "10ms", "max_backoff": "50ms", "reset_timeout": "50ms"}, "drain_timeout": "500ms",
    });
    text.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
    RunningSink::start::<EmailOptions>(&text.to_string())
}

#[tokio::test]
async fn a_real_server_takes_mails_over_starttls_from_who_logs_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut server) = Server::start(folder.path()).await else {
        eprintln!("skipped: `pip install aiosmtpd cryptography` and set SLUICE_TEST_PYTHON to its python");
        return;
    };
    let sink = start(&server, folder.path(), PASSWORD, json!({}));
    sink.tell(notice("latency", Severity::Error)).await;
    let mail = next(&mut server.lines).await;
    assert_eq!((&mail["tls"], &mail["user"]), (&json!(true), &json!("sluice")));
    assert_eq!(
        (&mail["sender"], &mail["recipients"]),
        (&json!("sluice@example.org"), &json!(["ops@example.com"]))
    );
    let data = mail["data"].as_str().expect("a mail");
    assert!(data.contains("Message-ID: <alert_") && data.contains("References: <group-"), "{data}");
    sink.end().await.expect("ended well");

    let wrong = start(&server, folder.path(), "wrong", json!({}));
    wrong.tell(notice("latency", Severity::Error)).await;
    until("tried again", || wrong.metric("delivery_retries_total") >= Some(2.0)).await;
    assert_eq!(wrong.metric("delivery_dead_letters_total"), Some(0.0), "a wrong password can be put right");
    wrong.end().await.expect("ended well");

    let untrusted = start(&server, folder.path(), PASSWORD, json!({"ca_file": null}));
    untrusted.tell(notice("latency", Severity::Error)).await;
    until("tried again", || untrusted.metric("delivery_retries_total") >= Some(1.0)).await;
    assert_eq!(
        untrusted.metric("delivery_messages_total"),
        Some(0.0),
        "nothing is sent to a server in disguise"
    );
    untrusted.end().await.expect("ended well");
}
