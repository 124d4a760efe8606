//! Who takes part, what each is told, and what each has to say.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::tally::Tally;

/// A client that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// A tonic client that decodes each update with prost and drops it.
    Bare,
    /// Sluice with one endpoint, up to whole and final slots.
    Ingest1,
    /// The same with three endpoints that send the same.
    Ingest3,
    /// Sluice with one endpoint, up to files.
    Parquet,
    /// The same with all that watches it: monitor, alert rules, history, and the API with a dashboard and a tap on it.
    Monitored,
    /// The same with [`CROWD`] clients of the API's stream.
    Watched,
}

/// Clients of the stream of [`Contender::Watched`].
pub const CROWD: usize = 1_000;

impl Contender {
    /// Those that show what an update costs, in the order of a round.
    pub const COST: [Self; 4] = [Self::Bare, Self::Ingest1, Self::Ingest3, Self::Parquet];
    /// All, in the order of a round.
    pub const ALL: [Self; 6] =
        [Self::Bare, Self::Ingest1, Self::Ingest3, Self::Parquet, Self::Monitored, Self::Watched];

    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Ingest1 => "ingest-1",
            Self::Ingest3 => "ingest-3",
            Self::Parquet => "parquet",
            Self::Monitored => "monitored",
            Self::Watched => "watched",
        }
    }

    /// Endpoints that it subscribes to.
    pub fn endpoints(self) -> usize {
        if self == Self::Ingest3 { 3 } else { 1 }
    }

    /// Whether it writes files.
    pub fn writes(self) -> bool {
        matches!(self, Self::Parquet | Self::Monitored | Self::Watched)
    }

    /// Clients that read its API's stream; none if it has no API.
    pub fn readers(self) -> Option<usize> {
        match self {
            Self::Bare | Self::Ingest1 | Self::Ingest3 | Self::Parquet => None,
            Self::Monitored => Some(1),
            Self::Watched => Some(CROWD),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Contender {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|contender| contender.name() == word);
        let all = || Self::ALL.map(Self::name).join(", ");
        known.ok_or_else(|| format!("there is no contender `{word}`; use one of {}", all()))
    }
}

/// What the server process serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Its endpoints.
    pub urls: Vec<String>,
    /// Updates that each sends.
    pub updates: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is in all slots.
    pub whole: Tally,
    /// What can be in files.
    pub in_files: Tally,
}

/// What a client process is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Who it is.
    pub contender: Contender,
    /// What is served.
    pub served: Served,
    /// Where files go, if it writes any.
    pub folder: PathBuf,
    /// Where its API listens, if it has one.
    pub api: SocketAddr,
}

/// What a client process says at its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Seconds of processor time that it took.
    pub cpu_seconds: f64,
    /// Seconds from its first update to its last.
    pub wall_seconds: f64,
    /// Its highest resident set.
    pub peak_bytes: u64,
    /// What came out, where the process itself can tell.
    pub tally: Option<Tally>,
}
