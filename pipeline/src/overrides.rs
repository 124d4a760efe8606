//! What every command that reads a pipeline takes to change its values.

use std::path::{Path, PathBuf};

use clap::Args;
use sluice_config::diagnostic::Diagnostics;

use crate::layers::Environment;
use crate::plan::Plan;

/// Arguments of every command that reads a pipeline.
#[derive(Debug, Clone, Default, Args)]
pub struct Overrides {
    /// Sets an option, over the file and the environment: `stages.NAME.OPTION=VALUE`, `pipeline.OPTION=VALUE`. May be
    /// given several times.
    #[arg(long = "set", value_name = "PLACE=VALUE")]
    pub set: Vec<String>,
    /// Sets the profile, over the file and the environment; the same as `--set pipeline.profile=NAME`.
    #[arg(long, value_name = "NAME", value_parser = ["aggressive", "balanced", "conservative"])]
    pub profile: Option<String>,
    /// Reads variables from this file, too; those of the environment go first.
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

impl Overrides {
    /// Reads and checks the pipeline at `path` with these.
    ///
    /// # Errors
    /// Everything that is wrong with it, warnings included.
    pub fn load(&self, path: &Path) -> Result<Plan, Diagnostics> {
        let environment = match &self.env_file {
            Some(file) => Environment::with_file(file).map_err(|error| error.diagnostics())?,
            None => Environment::process(),
        };
        let profile = self.profile.iter().map(|name| format!("pipeline.profile={name}"));
        let set: Vec<String> = profile.chain(self.set.iter().cloned()).collect();
        Plan::load_with(path, &environment, &set)
    }
}
