//! The options of `type = "parquet"`, and how the sink is made of them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_stages::component::{
    Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role, Start,
};
use sluice_stages::slot::{SLOTS_PER_EPOCH, Slot};
use sluice_stages::stage::Flow;

use super::arrivals::Arrivals;
use super::cells::KeyFormat;
use super::commit::Committer;
use super::dataset::{Dataset, Track};
use super::disk::RealDisk;
use super::encode::Encoder;
use super::engine::Engine;
use super::folder::{Folder, Settings};
use super::planner::{Planner, PlannerConfig};
use super::range::CommitRange;
use super::schema::FORMAT_VERSION;
use super::sink::ParquetSink;

/// Slots of a file: some three minutes of mainnet, a thousand files an epoch.
const DEFAULT_COMMIT_SLOTS: u64 = 432;
/// Frames that may wait behind holes: a dozen slots of mainnet with everything, or a few hundred without accounts.
const DEFAULT_MAX_WAITING_BYTES: usize = 256 << 20;
/// zstd's fastest level that still finds most of what there is to find: 335 to 397 MB of frames a second on a core.
const DEFAULT_COMPRESSION_LEVEL: i32 = 1;
/// zstd's highest level.
const MAX_COMPRESSION_LEVEL: i32 = 22;

/// Writes Parquet files, each a fixed range of slots, complete and durable or not there at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetOptions {
    /// The output folder. Made if it is not there; belongs to one sink of one running pipeline.
    pub path: PathBuf,
    /// Slots of a file; has to divide an epoch's 432,000. Default 432. Fixed once the folder has files.
    #[serde(default = "default_commit_slots")]
    pub commit_slots: u64,
    /// Where to begin if the folder is empty: `"tip"` (default) for the file range that the chain is in, or a slot.
    /// A folder with files goes on after the first range that is complete and has none after it.
    #[serde(default)]
    pub start_slot: StartSlot,
    /// What to write. Default everything; of what no source subscribes to, nothing is written. Fixed once the folder
    /// has files.
    #[serde(default = "default_datasets")]
    pub datasets: Vec<Dataset>,
    /// Keys, hashes and signatures as `"base58"` text (default) or as raw `"bytes"`. Fixed once the folder has files.
    #[serde(default)]
    pub keys: KeyFormat,
    /// Level of zstd, 1 to 22. Default 1: level 3 takes a third longer and saves 7 %. Fixed once the folder has files.
    #[serde(default = "default_compression_level")]
    pub compression_level: i32,
    /// Most bytes of frames that wait behind a missing slot before they are let go and fetched again later. Default
    /// 256 MiB.
    #[serde(default = "default_max_waiting_bytes", with = "sluice_config::units::bytes")]
    #[schemars(with = "String")]
    pub max_waiting_bytes: usize,
    /// Datasets that a range has to have to count as there, besides those of which the folder has files. No option: whoever
    /// fills a folder sets it, and knows which ones the pipeline writes.
    #[serde(skip)]
    pub required: Vec<Dataset>,
}

fn default_commit_slots() -> u64 {
    DEFAULT_COMMIT_SLOTS
}

fn default_datasets() -> Vec<Dataset> {
    Dataset::ALL.to_vec()
}

fn default_compression_level() -> i32 {
    DEFAULT_COMPRESSION_LEVEL
}

fn default_max_waiting_bytes() -> usize {
    DEFAULT_MAX_WAITING_BYTES
}

/// Where an empty folder begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StartSlot {
    /// With the range that holds this slot.
    At(Slot),
    /// With the range that the chain is in.
    Word(StartWord),
    /// The default: as `"tip"`.
    #[default]
    #[serde(skip)]
    Unset,
}

/// A start that is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartWord {
    /// The range that the chain is in.
    Tip,
}

impl ParquetOptions {
    /// Options for `path` with all defaults.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            commit_slots: DEFAULT_COMMIT_SLOTS,
            start_slot: StartSlot::default(),
            datasets: default_datasets(),
            keys: KeyFormat::default(),
            compression_level: DEFAULT_COMPRESSION_LEVEL,
            max_waiting_bytes: DEFAULT_MAX_WAITING_BYTES,
            required: Vec::new(),
        }
    }

    /// The datasets that have a file for each range that was filled from blocks: of those that were chosen, the ones that
    /// any way of recovery can give. Without transactions there are none of what is made of them.
    pub fn fillable(&self, with_transactions: bool) -> Vec<Dataset> {
        let is_fillable = |dataset: &Dataset| {
            dataset.track() == Track::Content && (with_transactions || !dataset.needs_transactions())
        };
        self.datasets.iter().copied().filter(is_fillable).collect()
    }

    /// Checks that the folder, if it was used before, was made with the same settings; nothing in it is touched.
    ///
    /// # Errors
    /// If it was not, with both values, or if its settings can't be read.
    pub fn check_folder(&self) -> Result<(), BuildError> {
        self.settings().check(&self.path)
    }

    fn settings(&self) -> Settings {
        let chosen = Dataset::ALL.into_iter().filter(|dataset| self.datasets.contains(dataset));
        Settings {
            format_version: FORMAT_VERSION,
            commit_slots: self.commit_slots,
            keys: self.keys,
            compression_level: self.compression_level,
            datasets: chosen.collect(),
        }
    }

    fn start(&self) -> Start {
        match self.start_slot {
            StartSlot::At(slot) => Start::At(CommitRange::containing(slot, self.commit_slots).first),
            StartSlot::Word(StartWord::Tip) | StartSlot::Unset => Start::TipRoundedDown(self.commit_slots),
        }
    }
}

impl Component for ParquetOptions {
    const KIND: &'static str = "parquet";
    const ROLE: Role = Role::Sink;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Blocks);
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str =
        "writes Parquet files that are complete, durable and byte-for-byte reproducible";

    fn problems(&self) -> Vec<Problem> {
        let problem = |option: &str, message: String, help: &str| Problem {
            option: option.to_owned(),
            message,
            help: help.to_owned(),
        };
        let mut problems = Vec::new();
        if self.commit_slots == 0 || !SLOTS_PER_EPOCH.is_multiple_of(self.commit_slots) {
            let message =
                format!("{} does not divide the {SLOTS_PER_EPOCH} slots of an epoch", self.commit_slots);
            problems.push(problem("commit_slots", message, "use 432, or 108, 216, 864, 1000, 2160"));
        }
        if !(1..=MAX_COMPRESSION_LEVEL).contains(&self.compression_level) {
            let message = format!("{} is not a level of zstd", self.compression_level);
            problems.push(problem("compression_level", message, "use 1 (fast) to 22 (small)"));
        }
        if !self.datasets.contains(&Dataset::Blocks) {
            let message = "`blocks` is missing".to_owned();
            problems.push(problem(
                "datasets",
                message,
                "add `blocks`: its files say which ranges are complete",
            ));
        }
        if self.max_waiting_bytes == 0 {
            let message = "nothing could wait for a missing slot".to_owned();
            problems.push(problem("max_waiting_bytes", message, "leave it out for 256 MiB"));
        }
        problems
    }

    fn claims(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        let settings = self.settings();
        let mut folder = Folder::open(&self.path, &settings)?;
        if let Start::At(first) = self.start() {
            folder.begin_with(first)?;
        }
        let start =
            folder.resume_slot(self.commit_slots, &self.required).map_or_else(|| self.start(), Start::At);
        context.begin_with(start);
        let floor = match start {
            Start::At(slot) => Some(slot),
            Start::TipRoundedDown(_) | Start::Tip => None,
        };
        let Self { commit_slots, keys, compression_level, max_waiting_bytes, required, .. } = self;
        let planner = PlannerConfig { commit_slots, max_waiting_bytes, floor };
        let planner = Planner::new(planner, folder.listing.committed(&required));
        let encoder = Encoder::try_new(&settings.datasets, keys, compression_level, commit_slots)
            .map_err(|error| BuildError::Other(error.to_string()))?;
        let committer = Committer::new(folder.root.clone(), RealDisk);
        let engine = Engine::new(planner, encoder, committer);
        let arrivals = Arrivals::new(folder.root.clone(), RealDisk, commit_slots);
        Ok(Node::Sink(Box::new(ParquetSink::new(engine, arrivals, folder))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_left_out_have_their_defaults() {
        let options: ParquetOptions = serde_json::from_str(r#"{"path": "out"}"#).expect("valid");
        assert_eq!(options, ParquetOptions::new("out"));
        assert_eq!(options.problems(), []);
        assert_eq!(options.start(), Start::TipRoundedDown(432));
    }

    #[test]
    fn a_start_is_a_word_or_a_slot_and_begins_a_range() {
        let start = |value: &str| {
            let text = format!(r#"{{"path": "out", "start_slot": {value}}}"#);
            serde_json::from_str::<ParquetOptions>(&text).map(|options| options.start())
        };
        assert_eq!(start("\"tip\"").expect("valid"), Start::TipRoundedDown(432));
        assert_eq!(start("1000").expect("valid"), Start::At(864));
        assert!(start("\"top\"").is_err());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let options = ParquetOptions {
            commit_slots: 7,
            compression_level: 0,
            datasets: vec![Dataset::Rewards],
            max_waiting_bytes: 0,
            ..ParquetOptions::new("out")
        };
        let problems = options.problems();
        let options: Vec<&str> = problems.iter().map(|problem| problem.option.as_str()).collect();
        assert_eq!(options, ["commit_slots", "compression_level", "datasets", "max_waiting_bytes"]);
    }
}
