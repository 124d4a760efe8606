//! `[pipeline]`: what is said of the pipeline as a whole.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[pipeline]`. All of it can be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The pipeline's name, a label of its metrics and log lines. Default: `pipeline`.
    pub name: String,
    /// The most bytes of frames that may be in flight in the whole pipeline; when they are, sources stop reading until
    /// some are done with. Default: 2GiB, over a minute of mainnet's transactions.
    #[serde(with = "crate::units::bytes")]
    #[schemars(with = "String")]
    pub memory_limit: usize,
    /// How long a stop may take until what is still running is ended by force. Default: 30s, the grace that container
    /// schedulers give.
    #[serde(with = "crate::units::duration")]
    #[schemars(with = "String")]
    pub shutdown_deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "pipeline".to_owned(),
            memory_limit: 2 << 30,
            shutdown_deadline: Duration::from_secs(30),
        }
    }
}
