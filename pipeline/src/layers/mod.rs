//! The layers of a pipeline's values that are not in its file.
//!
//! ```text
//! default < profile < file < environment < --set
//! ```

mod cpu_alert;
mod endpoints;
mod environment;
mod forms;
mod needs;
mod profiles;
mod text;
mod variables;
mod webhook;

use std::num::NonZero;

use sluice_config::diagnostic::Sources;
use sluice_config::document::Document;

pub use environment::{EnvFileError, Environment};
pub(crate) use variables::Settled;

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
