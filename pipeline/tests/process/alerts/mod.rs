//! What goes wrong is told: an endpoint is killed, a hole is forced, the stream falls silent, and the right alert with the
//! right severity reaches the console, a file, an HTTP server and an SMTP server, once, and so does its end. Nothing else
//! is told, and no restart tells anything twice.
//!
//! The pipeline is `sluice run` with the default rules; only times are shorter, all of them, so that a rule that would ring
//! by mistake has the time to. Windows are what they are, so each test takes half a minute.

mod hook;
mod mail;
mod told;

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sluice_cluster::ledger::GeneratedLedger;
use sluice_cluster::{Cluster, Config, Ledger, Link, Profile, Proxy, Running, ServeOptions};

use crate::support::{Process, until};
use hook::Hook;
use mail::Mails;
use told::Told;

/// The endpoints by their names.
const ENDPOINTS: [&str; 3] = ["a", "b", "c"];
/// Samples after which the shortest windows are full and rules have something to read.
const SAMPLES_OF_WINDOW: usize = 24;
/// Samples after which whatever would be told by mistake has been told: ten seconds of windows, and then some.
const SAMPLES_OF_PEACE: usize = 32;

/// A cluster behind links that can break, the channels, and the pipeline between them.
struct Scene {
    endpoints: Vec<Proxy>,
    rpc: Proxy,
    hook: Hook,
    mail_port: u16,
    mails: Mails,
    folder: tempfile::TempDir,
    /// Lines of the console of all runs.
    console: Mutex<Vec<String>>,
    process: Option<Process>,
    /// Bytes of the file of samples that were looked at, and the lines in them.
    measured: Mutex<(u64, usize)>,
    /// Kept so that it goes on serving.
    _served: Running,
}

impl Scene {
    /// A running pipeline that has measured itself for a while.
    async fn begin() -> Self {
        let config = Config {
            endpoints: ENDPOINTS.len(),
            faults: Profile::None,
            slot_time: Duration::from_millis(50),
            finalized_after: 8,
            unix_start: None,
            ..Config::default()
        };
        let ledger = GeneratedLedger {
            transactions_per_slot: 3..=15,
            mainnet_blocks: false,
            ..GeneratedLedger::default()
        };
        let options = ServeOptions { start_after_subscriptions: ENDPOINTS.len(), ..ServeOptions::default() };
        let cluster = Cluster::new(Ledger::generated(ledger), config);
        let served = Running::start(cluster, options).await.expect("loopback has ports");
        let mut endpoints = Vec::new();
        for url in served.grpc_urls() {
            endpoints.push(Proxy::start(url).await);
        }
        let (mail_port, mails) = mail::serve();
        let mut scene = Self {
            endpoints,
            rpc: Proxy::start(served.rpc_url()).await,
            hook: Hook::start().await,
            mail_port,
            mails,
            folder: tempfile::tempdir().expect("a folder"),
            console: Mutex::default(),
            process: None,
            measured: Mutex::default(),
            _served: served,
        };
        scene.start();
        scene.until_measured(SAMPLES_OF_WINDOW);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn toml(&self) -> String {
        let named =
            |(name, link): (&&str, &Proxy)| format!("{{ name = \"{name}\", url = \"{}\" }}", link.url);
        let endpoints: Vec<_> = ENDPOINTS.iter().zip(&self.endpoints).map(named).collect();
        include_str!("pipeline.toml")
            .replace("ENDPOINTS", &endpoints.join(", "))
            .replace("RPC_URL", &self.rpc.url)
            .replace("HOOK_URL", &self.hook.url)
            .replace("MAIL_PORT", &self.mail_port.to_string())
            .replace("FOLDER", &self.folder.path().display().to_string())
    }

    /// Starts the pipeline, or starts it again.
    fn start(&mut self) {
        let toml = self.path("pipeline.toml");
        fs::write(&toml, self.toml()).expect("writable");
        self.process = Some(Process::sluice(&[Path::new("run"), &toml]));
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("it was started")
    }

    /// Asks the pipeline to end, and starts it again.
    fn restart(&mut self) {
        let process = self.process.take().expect("it runs");
        process.signal("TERM");
        until("the pipeline to drain", || process.log().contains("drained"));
        self.console().extend(process.unread_lines());
        let (status, log) = process.end();
        assert_eq!(status.code(), Some(0), "{log}");
        self.start();
    }

    /// Kills the pipeline, and starts it again.
    fn kill_and_start(&mut self) {
        let process = self.process.take().expect("it runs");
        self.console().extend(process.unread_lines());
        process.kill();
        self.start();
    }

    /// Samples that were measured so far, in all runs.
    fn measured(&self) -> usize {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut file) = fs::File::open(self.path("samples.jsonl")) else { return 0 };
        let (mut text, (read, count)) = (Vec::new(), &mut *measured);
        file.seek(SeekFrom::Start(*read)).and_then(|_| file.read_to_end(&mut text)).expect("readable");
        *read += text.len() as u64;
        *count += text.iter().filter(|byte| **byte == b'\n').count();
        *count
    }

    /// Waits for so many more samples.
    fn until_measured(&self, samples: usize) {
        let end = self.measured() + samples;
        until(&format!("{samples} samples; {}", self.process().log()), || self.measured() >= end);
    }

    fn console(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each channel has told, sorted.
    fn told(&self) -> [(&'static str, Vec<String>); 4] {
        let lines = self.process.as_ref().map(Process::unread_lines).unwrap_or_default();
        self.console().extend(lines);
        let file = fs::read_to_string(self.path("alerts.jsonl")).unwrap_or_default();
        let sorted = |told: Vec<Told>| {
            let mut texts: Vec<_> = told.iter().map(ToString::to_string).collect();
            texts.sort();
            texts
        };
        [
            ("console", sorted(self.console().iter().filter_map(|line| Told::from_line(line)).collect())),
            ("file", sorted(file.lines().flat_map(Told::from_json).collect())),
            ("webhook", sorted(self.hook.bodies().iter().flat_map(|body| Told::from_json(body)).collect())),
            ("email", sorted(self.mails.all().iter().flat_map(|mail| Told::from_mail(mail)).collect())),
        ]
    }

    /// Waits until all channels have told as much as is expected, and asserts that it is what is expected.
    fn expect(&self, expected: &[&str]) {
        until(&format!("{expected:?} in all channels; {}", self.active()), || {
            self.told().iter().all(|(_, told)| told.len() >= expected.len())
        });
        let mut expected: Vec<_> = expected.iter().map(|text| (*text).to_owned()).collect();
        expected.sort();
        for (channel, told) in self.told() {
            assert_eq!(told, expected, "{channel}; {}", self.active());
        }
    }

    /// The alerts that are active, as the state file has them: `rule state suppressed_by`.
    fn active(&self) -> String {
        let text = fs::read_to_string(self.path("alerts.json")).unwrap_or_default();
        let saved: Value = serde_json::from_str(&text).unwrap_or_default();
        let show = |active: &Value| {
            let alert = &active["alert"];
            let muted = if alert["suppressed_by"].is_null() { "" } else { " muted" };
            format!(
                "{} {}{muted}",
                alert["rule"].as_str().unwrap_or_default(),
                alert["state"].as_str().unwrap_or_default()
            )
        };
        let active = saved["active"].as_array().cloned().unwrap_or_default();
        active.iter().map(show).collect::<Vec<_>>().join(", ")
    }

    fn until_active(&self, alert: &str) {
        until(&format!("{alert}, not {}", self.active()), || {
            self.active().split(", ").any(|active| active == alert)
        });
    }

    fn set_all(&self, link: Link) {
        self.endpoints.iter().for_each(|endpoint| endpoint.set(link));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_dies_is_named_once_over_restarts_and_so_is_its_return() {
    let mut scene = Scene::begin().await;
    scene.expect(&[]);
    scene.endpoints[1].set(Link::Dead);
    let down = "error endpoint_down firing {endpoint=\"main/b\"}";
    scene.expect(&[down]);
    scene.restart();
    scene.until_measured(SAMPLES_OF_PEACE / 2);
    scene.kill_and_start();
    scene.until_measured(SAMPLES_OF_PEACE / 2);
    scene.expect(&[down]);
    scene.endpoints[1].set(Link::Fine);
    let up = "error endpoint_down resolved {endpoint=\"main/b\"}";
    scene.expect(&[down, up]);

    // Now all of them: one alert explains the others.
    scene.set_all(Link::Dead);
    let none = "critical no_endpoint firing {}";
    scene.expect(&[down, up, none]);
    scene.until_active("endpoint_down firing muted");
    scene.set_all(Link::Fine);
    let some = "critical no_endpoint resolved {}";
    scene.expect(&[down, up, none, some]);
    scene.until_measured(SAMPLES_OF_PEACE);
    scene.expect(&[down, up, none, some]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_is_told_once_over_a_crash_and_its_consequences_are_not() {
    let mut scene = Scene::begin().await;
    // Neither endpoint nor RPC has what comes now.
    scene.rpc.set(Link::Dead);
    scene.set_all(Link::Dead);
    scene.until_measured(2);
    scene.set_all(Link::Fine);
    let opened = "critical hole firing {}";
    scene.expect(&[opened]);
    scene.until_active("recovery_failing firing muted");
    scene.kill_and_start();
    scene.until_measured(SAMPLES_OF_PEACE);
    scene.expect(&[opened]);
    scene.rpc.set(Link::Fine);
    let filled = "critical hole resolved {}";
    scene.expect(&[opened, filled]);
    scene.until_measured(SAMPLES_OF_PEACE);
    scene.expect(&[opened, filled]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_told_once_and_so_is_its_end() {
    let scene = Scene::begin().await;
    // RPC goes on: the pipeline does, too, and nothing but the silence is worth a word.
    scene.set_all(Link::Frozen);
    let quiet = "critical quiet_stream firing {window=\"10s\"}";
    scene.expect(&[quiet]);
    scene.set_all(Link::Fine);
    let over = "critical quiet_stream resolved {window=\"10s\"}";
    scene.expect(&[quiet, over]);
    scene.until_measured(SAMPLES_OF_PEACE);
    scene.expect(&[quiet, over]);
}
