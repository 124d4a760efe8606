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
    /// What values are taken where neither the file, nor the environment, nor a flag gives one. Default: `balanced`.
    pub profile: Profile,
    /// The most bytes of frames that may be in flight in the whole pipeline; when they are, sources stop reading until
    /// some are done with. What servers may send before it is read (the endpoints' receive windows) is part of it, a quarter
    /// at most unless a source asks for larger ones. Default: 2GiB, over a minute of mainnet's transactions.
    #[serde(with = "crate::units::bytes")]
    #[schemars(with = "String")]
    pub memory_limit: usize,
    /// How long a stop may take until what is still running is ended by force. Default: 30s, the grace that container
    /// schedulers give.
    #[serde(with = "crate::units::duration")]
    #[schemars(with = "String")]
    pub shutdown_deadline: Duration,
    /// How much of the machine's processors encoding, compression and proofs may take, in percent: it is the number of
    /// threads that they get, rounded, at least one. From 1 to 100. Default: 80, which leaves room for the network.
    pub max_cpu_percent: u8,
}

impl Settings {
    /// The threads that encoding may take on a machine with `cores`.
    pub fn encoding_threads(&self, cores: usize) -> usize {
        let hundredths = cores.saturating_mul(usize::from(self.max_cpu_percent));
        // Rounded to the nearest, so that the default leaves a machine with two cores both of them.
        (hundredths.saturating_add(50) / 100).clamp(1, cores.max(1))
    }
}

/// A set of values that suit each other, below everything that is said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// As early as can be: processed, batches of 200, 100 requests a second.
    Aggressive,
    /// In between: confirmed, batches of 100, 50 requests a second.
    #[default]
    Balanced,
    /// As safe as can be: finalized, batches of 50, 20 requests a second.
    Conservative,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aggressive, Self::Balanced, Self::Conservative];

    /// The word in the TOML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aggressive => "aggressive",
            Self::Balanced => "balanced",
            Self::Conservative => "conservative",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "pipeline".to_owned(),
            profile: Profile::default(),
            memory_limit: 2 << 30,
            shutdown_deadline: Duration::from_secs(30),
            max_cpu_percent: 80,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_gets_its_share_of_the_cores_and_at_least_one() {
        let threads = |percent: u8, cores: usize| {
            Settings { max_cpu_percent: percent, ..Settings::default() }.encoding_threads(cores)
        };
        assert_eq!([threads(80, 2), threads(80, 10), threads(50, 2), threads(1, 16)], [2, 8, 1, 1]);
        assert_eq!([threads(100, 3), threads(100, 0)], [3, 1]);
    }
}
