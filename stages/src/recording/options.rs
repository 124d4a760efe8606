//! The options of a replay and of a recorder.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::player::{Guests, Player};
use super::reader::Reader;
use super::recorder::Recorder;
use super::source::ReplaySource;
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use crate::slot::Slot;
use crate::stage::Flow;
use crate::yellowstone::options::union;

/// Highest level that zstd has.
pub(crate) const MAX_COMPRESSION_LEVEL: i32 = 22;

/// Plays a recording: one that `sluice record` or a recorder made, or frames of [u32 big-endian
/// length]`SubscribeUpdate`, packed with zstd or gzip or not at all. Ends with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayOptions {
    /// The recording.
    pub path: PathBuf,
    /// How fast: `"original"`, a factor such as `10` or `0.5`, or `"max"`, as fast as the pipeline takes it. Default
    /// `"original"`. Recordings that say neither when updates came nor when servers made them are played as with `"max"`.
    #[serde(default)]
    pub speed: Speed,
    /// Begins with the first block of the recording that is about this slot or a later one, a megabyte or so before the
    /// slot itself. Default: with the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_slot: Option<Slot>,
    /// Begins with what came so long after the beginning, such as `"10m"`. With `first_slot`, both have to be reached.
    /// Default 0s.
    #[serde(default, with = "sluice_config::units::duration", skip_serializing_if = "Duration::is_zero")]
    #[schemars(with = "String")]
    pub skip: Duration,
}

/// How fast a recording is played.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Speed {
    /// So many times as fast as it was.
    Factor(f64),
    /// A word.
    Word(SpeedWord),
}

/// A speed that is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SpeedWord {
    /// As it was.
    Original,
    /// As fast as it goes.
    Max,
}

impl Default for Speed {
    fn default() -> Self {
        Self::Word(SpeedWord::Original)
    }
}

impl Speed {
    /// How many times as fast as it was; `None` for as fast as it goes.
    pub fn factor(self) -> Option<f64> {
        match self {
            Self::Factor(factor) => Some(factor),
            Self::Word(SpeedWord::Original) => Some(1.0),
            Self::Word(SpeedWord::Max) => None,
        }
    }
}

impl Component for ReplayOptions {
    const KIND: &'static str = "replay";
    const ROLE: Role = Role::Source;
    const ACCEPTS: Accepts = Accepts::Nothing;
    const EMITS: Emits = Emits::Only(Flow::Updates);
    const SUMMARY: &'static str = "plays a recording of updates again, at its own speed or any other";

    fn problems(&self) -> Vec<Problem> {
        match self.speed {
            Speed::Factor(factor) if !(factor.is_finite() && factor > 0.0) => vec![Problem {
                option: "speed".to_owned(),
                message: format!("{factor} is no speed"),
                help: "give a factor above 0, \"original\" or \"max\"".to_owned(),
            }],
            _ => Vec::new(),
        }
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        let other = |error: super::reader::RecordingError| BuildError::Other(error.to_string());
        let mut reader = Reader::open(&self.path).map_err(other)?;
        for endpoint in reader.endpoints() {
            context.scope = union(context.scope, endpoint.scope);
        }
        if self.first_slot.is_some() || !self.skip.is_zero() {
            reader.skip_to(self.first_slot, self.skip).map_err(other)?;
        }
        let player = Player::new(&[], Guests::of(context));
        Ok(Node::Source(Box::new(ReplaySource::new(reader, player, self.speed.factor()))))
    }
}

/// Records the updates that come, for a `replay`: raw, with their arrival times, sessions and endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecorderOptions {
    /// The file to make; it must not be there.
    pub path: PathBuf,
    /// How often what came is made durable. Default 1s: what a power cut may take.
    #[serde(default = "default_sync_interval", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub sync_interval: Duration,
    /// zstd's level, 1 to 22. Default 3: it keeps up with mainnet on a third of a core.
    #[serde(default = "default_compression_level")]
    pub compression_level: i32,
}

fn default_sync_interval() -> Duration {
    Duration::from_secs(1)
}

fn default_compression_level() -> i32 {
    3
}

impl RecorderOptions {
    /// The defaults, for a recording at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            sync_interval: default_sync_interval(),
            compression_level: default_compression_level(),
        }
    }
}

/// The problem with a level that zstd does not have.
pub(crate) fn level_problem(level: i32) -> Option<Problem> {
    (!(1..=MAX_COMPRESSION_LEVEL).contains(&level)).then(|| Problem {
        option: "compression_level".to_owned(),
        message: format!("{level} is not a level of zstd"),
        help: "use 1 (fast) to 22 (small)".to_owned(),
    })
}

impl Component for RecorderOptions {
    const KIND: &'static str = "recorder";
    const ROLE: Role = Role::Sink;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Updates);
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str = "records raw updates with their arrival times, to be replayed";

    fn problems(&self) -> Vec<Problem> {
        level_problem(self.compression_level).into_iter().collect()
    }

    fn claims(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        let file = OpenOptions::new().write(true).create_new(true).open(&self.path);
        match file {
            Ok(file) => Ok(Node::Sink(Box::new(Recorder::new(self, file)))),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(BuildError::Other(format!(
                    "{} is there already, and no recording is overwritten; remove it or give another name",
                    self.path.display()
                )))
            }
            Err(source) => Err(BuildError::Io { path: self.path, source }),
        }
    }
}
