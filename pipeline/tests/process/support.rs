//! Child processes, and the folders that they leave.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use sluice_sinks::verify::{Report, VerifyOptions, verify};

/// Lines of stdout that are kept for whoever waits for one: far more than any test prints.
const MAX_LINES: usize = 10_000;
/// How long a condition may take before the test gives up: many times what a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The first slot of generated ledgers.
pub(crate) const FIRST_SLOT: u64 = 86_400_000;

/// A child that does not outlive its test.
pub(crate) struct Process {
    child: Child,
    /// What it has written to stderr.
    log: Arc<Mutex<String>>,
    /// Ends when stderr is closed.
    reader: Option<thread::JoinHandle<()>>,
    lines: mpsc::Receiver<String>,
}

impl Process {
    /// Starts `sluice` with arguments.
    pub(crate) fn sluice<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Self {
        Self::logging(arguments, "info")
    }

    /// Starts `sluice` with a log filter.
    pub(crate) fn logging<S: AsRef<std::ffi::OsStr>>(arguments: &[S], filter: &str) -> Self {
        Self::start(arguments, filter, &[])
    }

    /// Starts `sluice` with arguments and variables.
    pub(crate) fn with_variables<S: AsRef<std::ffi::OsStr>>(
        arguments: &[S],
        variables: &[(&str, &str)],
    ) -> Self {
        Self::start(arguments, "info", variables)
    }

    fn start<S: AsRef<std::ffi::OsStr>>(arguments: &[S], filter: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(arguments).env("RUST_LOG", filter).env("NO_COLOR", "1");
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary is there");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::sync_channel(MAX_LINES);
        // Whatever nobody waits for is read all the same, so that the child never waits for a pipe.
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                sender.try_send(line).ok();
            }
        });
        let log = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                written.lock().unwrap_or_else(PoisonError::into_inner).extend([line.as_ref(), "\n"]);
            }
        });
        Self { child, log, reader: Some(reader), lines }
    }

    /// The next line of its stdout.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    /// The lines of its stdout that nobody has read yet.
    pub(crate) fn unread_lines(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// What it has written to stderr so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the log says something.
    pub(crate) fn wait_for(&self, text: &str) {
        let log = || self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        while !log().contains(text) {
            assert!(
                began.elapsed() < PATIENCE,
                "waited for {text:?} for {PATIENCE:?} in this log:\n{}",
                log()
            );
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Sends a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(status.expect("there is a kill command").success(), "SIG{name} can be sent");
    }

    /// Ends it without a chance to do anything about it.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it can be waited for");
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_none()
    }

    /// Waits for its end; its exit status and its log.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        until("the process to end", || !self.is_running());
        let status = self.child.wait().expect("it can be waited for");
        self.reader.take().expect("not taken before").join().expect("no panic");
        (status, self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited for {what} for {PATIENCE:?}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// A cluster in a process of its own.
pub(crate) struct Cluster {
    /// Kept so that it goes on living.
    process: Process,
    /// Its endpoints.
    pub(crate) grpc_urls: Vec<String>,
    /// Its RPC side.
    pub(crate) rpc_url: String,
}

impl Cluster {
    /// Starts one with `endpoints` endpoints and more arguments.
    pub(crate) fn start(endpoints: usize, arguments: &[&str]) -> Self {
        let count = endpoints.to_string();
        let mut all = vec!["cluster", "--endpoints", &count];
        all.extend(arguments);
        let process = Process::sluice(&all);
        let url = || process.line().split_whitespace().last().expect("an address").to_owned();
        let grpc_urls = (0..endpoints).map(|_| url()).collect();
        let rpc_url = url();
        Self { process, grpc_urls, rpc_url }
    }

    /// Asserts that it lives.
    pub(crate) fn assert_alive(&mut self) {
        assert!(self.process.is_running(), "the cluster goes on living");
    }
}

/// The lossless path from a cluster to a folder, as TOML.
pub(crate) struct Pipeline {
    /// Endpoints.
    pub(crate) grpc_urls: Vec<String>,
    /// The RPC node.
    pub(crate) rpc_url: String,
    /// The output folder.
    pub(crate) out: PathBuf,
    /// Slots of a file.
    pub(crate) commit_slots: u64,
    /// More lines for `[pipeline]`.
    pub(crate) settings: String,
    /// The folder of a spool behind the merge, if there is one.
    pub(crate) spool: Option<PathBuf>,
    /// More lines for each source.
    pub(crate) source: String,
    /// Items that each edge but those into the merge holds; the usual number if absent.
    pub(crate) narrow_items: Option<usize>,
}

impl Pipeline {
    /// From the first slot of `cluster` to `out`.
    pub(crate) fn new(cluster: &Cluster, out: PathBuf, commit_slots: u64) -> Self {
        Self {
            grpc_urls: cluster.grpc_urls.clone(),
            rpc_url: cluster.rpc_url.clone(),
            out,
            commit_slots,
            settings: String::new(),
            spool: None,
            source: String::new(),
            narrow_items: None,
        }
    }

    /// Its TOML.
    pub(crate) fn text(&self) -> String {
        let source = |(position, url): (usize, &String)| {
            let more = &self.source;
            format!(
                "[sources.endpoint_{position}]\ntype = \"yellowstone\"\nurl = \"{url}\"\ntransactions = true\n\
                 reconnect_min = \"20ms\"\nreconnect_max = \"500ms\"\nidle_timeout = \"5s\"\nprogress_timeout = \"4s\"\n{more}\n"
            )
        };
        let sources: String = self.grpc_urls.iter().enumerate().map(source).collect();
        let names: Vec<_> =
            (0..self.grpc_urls.len()).map(|position| format!("\"endpoint_{position}\"")).collect();
        let Self { settings, rpc_url, out, commit_slots, .. } = self;
        let narrow = self.narrow_items.map_or(String::new(), |items| format!("capacity_items = {items}"));
        let (names, out) = (names.join(", "), out.display());
        let (spool, first) = match &self.spool {
            Some(path) => {
                let path = path.display();
                let stage =
                    format!("[stages.log]\ntype = \"spool\"\ninputs = [\"first\"]\npath = \"{path}\"\n");
                (stage, "log")
            }
            None => (String::new(), "first"),
        };
        format!(
            r#"[pipeline]
{settings}
{sources}
[stages.first]
type = "merge"
inputs = [{names}]
{narrow}
{spool}
[stages.once]
type = "dedupe"
inputs = ["{first}"]
{narrow}
[stages.slots]
type = "gap_detector"
inputs = ["once"]
{narrow}
[stages.whole]
type = "recovery"
inputs = ["slots"]
{narrow}
rpc = {{ url = "{rpc_url}", requests_per_second = 200, burst = 200, timeout = "2s" }}
hedge_after = "1s"
tip_interval = "1s"
min_backoff = "50ms"
max_backoff = "500ms"
hole_interval = "1s"
[stages.final]
type = "commitment"
inputs = ["whole"]
{narrow}
level = "finalized"
[sinks.files]
type = "parquet"
inputs = ["final"]
{narrow}
path = "{out}"
commit_slots = {commit_slots}
start_slot = {FIRST_SLOT}
"#
        )
    }

    /// Writes its TOML to a file of this name beside the folder.
    pub(crate) fn write(&self, name: &str) -> PathBuf {
        let path = self.out.with_file_name(name);
        fs::write(&path, self.text()).expect("writable");
        path
    }
}

/// Starts `sluice run`.
pub(crate) fn run(toml: &Path) -> Process {
    Process::sluice(&[Path::new("run"), toml])
}

/// The first slots of the ranges whose blocks are committed.
pub(crate) fn committed(out: &Path) -> Vec<u64> {
    let epoch = out.join("blocks").join(format!("epoch={}", FIRST_SLOT / 432_000));
    let entries = fs::read_dir(epoch).into_iter().flatten().map_while(Result::ok);
    let first = |name: &str| name.split('-').next().and_then(|first| first.parse().ok());
    let mut slots: Vec<u64> =
        entries.filter_map(|entry| first(&entry.file_name().to_string_lossy())).collect();
    slots.sort_unstable();
    slots
}

/// The Parquet files of ranges that begin before `end`, `arrivals` left out, by their path.
pub(crate) fn files_before(out: &Path, end: u64) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    collect(out, out, &mut found);
    found.retain(|name, _| {
        let file = name.rsplit('/').next().unwrap_or_default();
        let first: Option<u64> = file.split('-').next().and_then(|first| first.parse().ok());
        !name.starts_with("arrivals/") && first.is_some_and(|first| first < end)
    });
    found
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            let name = path.strip_prefix(root).expect("below").display().to_string();
            found.insert(name, fs::read(&path).expect("readable"));
        }
    }
}

/// Asserts that two sets of files are the same, and names those that differ.
pub(crate) fn assert_same(one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) {
    let names: Vec<_> = one.keys().chain(other.keys()).collect();
    let differing: Vec<_> = names.into_iter().filter(|name| one.get(*name) != other.get(*name)).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

/// The audit's report of a folder, which has to be clean.
pub(crate) fn audited(root: &Path) -> Report {
    let report = verify(root, VerifyOptions::default()).expect("readable");
    assert!(report.is_clean(), "{report}");
    report
}
