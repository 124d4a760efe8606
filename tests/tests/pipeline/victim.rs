//! A process that is killed: this very program, running one ignored test.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Names the pipeline's file to the process.
const PIPELINE: &str = "SLUICE_VICTIM_PIPELINE";
/// Tells it more.
const MORE: &str = "SLUICE_VICTIM_MORE";

/// A process that does not outlive its test.
pub(crate) struct Victim(Child);

impl Victim {
    /// Starts the ignored test of this name for a pipeline.
    pub(crate) fn start(test: &str, pipeline: &Path, more: &str) -> Self {
        let mut command = Command::new(env::current_exe().expect("it runs"));
        command.args(["--exact", test, "--ignored"]).env(PIPELINE, pipeline).env(MORE, more);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("it can be started again"))
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("it can be waited for").is_none()
    }

    /// Ends it without a chance to do anything about it.
    pub(crate) fn kill(mut self) {
        assert!(self.is_running(), "it ended by itself");
        self.0.kill().expect("it runs");
        self.0.wait().expect("it can be waited for");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// In the process: its pipeline's file, and what else it was told; `None` if nobody started it for that.
pub(crate) fn task() -> Option<(std::path::PathBuf, String)> {
    let pipeline = env::var_os(PIPELINE)?;
    Some((Path::new::<OsStr>(&pipeline).to_owned(), env::var(MORE).unwrap_or_default()))
}
