//! The layers of a pipeline's values that are not in its file, and what the commands take to change them.
//!
//! ```text
//! default < profile < file < environment < --set
//! ```

mod cpu_alert;
mod endpoints;
mod environment;
mod forms;
mod profiles;
mod variables;
mod webhook;

use std::num::NonZero;
use std::path::PathBuf;

use clap::Args;
use sluice_config::diagnostic::{Diagnostics, Sources};
use sluice_config::document::Document;

pub use environment::{EnvFileError, Environment};
pub(crate) use variables::Settled;

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
    pub fn load(&self, path: &std::path::Path) -> Result<Plan, Diagnostics> {
        let environment = match &self.env_file {
            Some(file) => Environment::with_file(file).map_err(|error| error.diagnostics())?,
            None => Environment::process(),
        };
        let profile = self.profile.iter().map(|name| format!("pipeline.profile={name}"));
        let set: Vec<String> = profile.chain(self.set.iter().cloned()).collect();
        Plan::load_with(path, &environment, &set)
    }
}

/// The processors of this machine.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Puts what follows from all other layers into the document: the profile, and the alert of a bound on processors.
pub(crate) fn complete(document: &mut Document<'_>, sources: &mut Sources) {
    profiles::apply(document, sources);
    cpu_alert::apply(document, cores());
}

#[cfg(test)]
mod tests;
