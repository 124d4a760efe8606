//! What lies in the folders of the `parquet` sinks: read when somebody asks, and kept for a few seconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sluice_stages::slot::Timestamp;
use sluice_stages::watch::Watch;
use tokio::sync::Mutex;

use crate::parquet::{CommitRange, Dataset};

/// Files that are looked at in one dataset: years of mainnet.
const MAX_FILES: usize = 200_000;
/// How long a listing is good for: a folder of a year's files takes a second to read.
const LISTING_AGE: Duration = Duration::from_secs(5);

/// The files of one dataset of one sink.
#[derive(Debug)]
pub(super) struct Listed {
    /// The sink's name.
    pub(super) sink: String,
    /// The dataset.
    pub(super) dataset: Dataset,
    /// Their ranges and sizes, rising by slot.
    pub(super) files: Vec<(CommitRange, u64)>,
}

/// The last listing.
#[derive(Debug, Default)]
pub(super) struct Listing {
    last: Mutex<Option<(Timestamp, Arc<Vec<Listed>>)>>,
}

impl Listing {
    /// The listing; read anew if the last one is old. Whoever asks meanwhile waits for the same one.
    pub(super) async fn get(&self, now: Timestamp, watch: &Watch) -> Arc<Vec<Listed>> {
        let mut last = self.last.lock().await;
        if let Some((at, listing)) = &*last
            && now.since(*at) < LISTING_AGE
        {
            return Arc::clone(listing);
        }
        let folders = folders(watch);
        let read =
            tokio::task::spawn_blocking(move || folders.into_iter().flat_map(list).collect::<Vec<_>>());
        let listing = Arc::new(read.await.unwrap_or_default());
        *last = Some((now, Arc::clone(&listing)));
        listing
    }
}

/// The names and folders of the `parquet` sinks.
fn folders(watch: &Watch) -> Vec<(String, PathBuf)> {
    let nodes = watch.configuration()["nodes"].as_array();
    let sinks = nodes.into_iter().flatten().filter(|node| node["type"] == "parquet");
    let folder = |node: &serde_json::Value| {
        Some((node["name"].as_str()?.to_owned(), PathBuf::from(node["options"]["path"].as_str()?)))
    };
    sinks.filter_map(folder).collect()
}

fn list((sink, root): (String, PathBuf)) -> Vec<Listed> {
    let of = |dataset: Dataset| Listed {
        sink: sink.clone(),
        dataset,
        files: files_of(&root.join(dataset.name())),
    };
    Dataset::ALL.into_iter().map(of).filter(|listed| !listed.files.is_empty()).collect()
}

/// The committed files below `folder`, in its folders of epochs. What can't be read is not there yet, or any more.
fn files_of(folder: &Path) -> Vec<(CommitRange, u64)> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let epochs = entries(folder).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let files = epochs.flat_map(|epoch| entries(&epoch.path()));
    let ranges = files.filter_map(|file| {
        let range = CommitRange::from_file_name(file.file_name().to_str()?)?;
        Some((range, file.metadata().ok()?.len()))
    });
    let mut found: Vec<_> = ranges.take(MAX_FILES).collect();
    found.sort_by_key(|(range, _)| range.first);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_has_no_files() {
        assert_eq!(files_of(Path::new("/nowhere/at/all")), []);
    }
}
