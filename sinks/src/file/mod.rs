//! `file`: writes records of blocks, notices of alerts and samples to a file, a JSON line each, rotated by size and age.
//!
//! ```text
//!  inbox ─ task ─→ lines (rayon) ─→ file (blocking thread) ─→ every sync_interval: synced, then the cursor
//!                                     └ refused: nothing is read, tried again
//! ```
//!
//! Records of blocks are there at least once: the cursor beside the file (`<path>.cursor.json`) says behind which slot a
//! restart goes on, and what was written after it right before a crash is written again. Lines are never half there.

mod rotation;
mod sink;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_stages::component::{
    Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role, Start,
};
use sluice_stages::process_lock;
use sluice_stages::stage::Flow;

use crate::delivery::cursor::CursorFile;
use crate::delivery::options::{problem, zero};
use crate::delivery::{FilterOptions, RecordKind};
use rotation::{RotatingFile, Rotation};
use sink::FileSink;

/// Older files that may be kept: each rotation renames all of them.
const MAX_KEEP: usize = 10_000;

/// Options of `file`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileOptions {
    /// The file. Older ones are beside it, with `.1`, `.2`, … behind their name, and so are its cursor and its lock. A new
    /// one is begun if it is moved or removed.
    pub path: PathBuf,
    /// What is written: any of `transactions`, `blocks`, `skipped_slots`, `alerts`, `samples`. Default all that comes.
    #[serde(default = "all_records")]
    pub records: Vec<RecordKind>,
    /// Which transactions and notices are written. Default all.
    #[serde(default)]
    pub filters: FilterOptions,
    /// Most bytes of the file before it starts over. Default 64 MiB; the lines of one block are not torn apart.
    #[serde(default = "default_rotate_bytes", with = "sluice_config::units::bytes")]
    #[schemars(with = "String")]
    pub rotate_bytes: u64,
    /// Age of its first line at which the file starts over. Default 1d.
    #[serde(default = "default_rotate_age", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub rotate_age: Duration,
    /// Older files that stay. Default 10.
    #[serde(default = "default_keep")]
    pub keep: usize,
    /// How often what was written is made durable. Default 1s: that much may have to be written again after a crash.
    #[serde(default = "default_sync_interval", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub sync_interval: Duration,
}

fn all_records() -> Vec<RecordKind> {
    RecordKind::ALL.to_vec()
}

fn default_rotate_bytes() -> u64 {
    64 << 20
}

fn default_rotate_age() -> Duration {
    Duration::from_secs(86_400)
}

fn default_keep() -> usize {
    10
}

fn default_sync_interval() -> Duration {
    Duration::from_secs(1)
}

impl FileOptions {
    /// The path of a file beside it.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    }
}

impl Component for FileOptions {
    const KIND: &'static str = "file";
    const ROLE: Role = Role::Sink;
    const ACCEPTS: Accepts = Accepts::AnyOf(&[Flow::Blocks, Flow::Alerts, Flow::Samples]);
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str = "writes records and alerts to a file, a JSON line each, rotated";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.filters.problems();
        if self.path.file_name().is_none() {
            problems.push(problem("path", "it names no file", "write it like \"out/alerts.jsonl\""));
        }
        problems.extend(zero("rotate_bytes", self.rotate_bytes == 0));
        problems.extend(zero("rotate_age", self.rotate_age.is_zero()));
        problems.extend(zero("sync_interval", self.sync_interval.is_zero()));
        if self.keep > MAX_KEEP {
            let message = format!("{} files would be renamed at each rotation", self.keep);
            problems.push(problem("keep", message, "use 10000 or fewer, and a larger `rotate_bytes`"));
        }
        problems
    }

    fn claims(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        let failed = |source| BuildError::Io { path: self.path.clone(), source };
        let rotation = Rotation { bytes: self.rotate_bytes, age: self.rotate_age, keep: self.keep };
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let lock = process_lock::lock(&self.beside(".lock"), || {
            format!("{} is in use by another process; stop it, or write to another file", self.path.display())
        })?;
        let file = RotatingFile::open(&self.path, rotation).map_err(failed)?;
        let cursor = CursorFile::new(self.beside(".cursor.json"));
        let position =
            cursor.load().map_err(|source| BuildError::Io { path: cursor.path().to_owned(), source })?;
        if let Some(position) = &position {
            context.begin_with(Start::At(position.next_slot));
        }
        Ok(Node::Sink(Box::new(FileSink { options: self, file, cursor, position, lock })))
    }
}
