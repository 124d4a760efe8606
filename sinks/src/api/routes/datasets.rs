//! What the `parquet` sinks have written: committed ranges and files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sluice_stages::slot::Timestamp;
use tokio::sync::Mutex;
use utoipa::{IntoParams, ToSchema};

use super::{DEFAULT_PAGE, MAX_INTEGER, MAX_PAGE, Shared};
use crate::api::problem::Problem;
use crate::api::query::{Nothing, Params, Segment, within};
use crate::api::sink::Api;
use crate::parquet::{CommitRange, Dataset};

/// Files that are looked at in one dataset: years of mainnet.
const MAX_FILES: usize = 200_000;
/// Ranges in an answer; more of them are a folder full of holes.
const MAX_RANGES: usize = 1_000;
/// How long a listing is good for: a folder of a year's files takes a second to read.
const LISTING_AGE: Duration = Duration::from_secs(5);

/// Slots without a gap whose files are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::api) struct RangeView {
    /// The first slot.
    first_slot: u64,
    /// The last.
    last_slot: u64,
}

/// A dataset of a sink.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::api) struct DatasetView {
    /// The sink's name.
    sink: String,
    /// The dataset's name.
    dataset: &'static str,
    /// Durable files.
    files: u64,
    /// Their bytes.
    bytes: u64,
    /// Slots that they cover without a gap, rising; at most 1,000.
    ranges: Vec<RangeView>,
}

/// All datasets.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct DatasetsView {
    /// Those that have files.
    datasets: Vec<DatasetView>,
}

/// A file.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::api) struct FileView {
    /// The sink's name.
    sink: String,
    /// Where it lies in the sink's folder.
    path: String,
    /// The first slot that it covers.
    first_slot: u64,
    /// The last.
    last_slot: u64,
    /// Its size.
    bytes: u64,
}

/// A page of files.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct FilesView {
    /// The files, rising by slot.
    files: Vec<FileView>,
    /// What to give as `from_slot` for the next page; none on the last one.
    next: Option<u64>,
}

/// Which files are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct FilesParams {
    /// Only files that begin with this slot or a later one.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    from_slot: Option<u64>,
    /// Files in the answer. Default 100.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u64>,
}

/// The files of one dataset of one sink.
#[derive(Debug)]
struct Listed {
    sink: String,
    dataset: Dataset,
    /// Rising by slot.
    files: Vec<(CommitRange, u64)>,
}

/// The last listing.
#[derive(Debug, Default)]
pub(in crate::api) struct ListingCache {
    last: Mutex<Option<(Timestamp, Arc<Vec<Listed>>)>>,
}

impl ListingCache {
    /// The listing; read anew if the last one is old. Whoever asks meanwhile waits for the same one.
    async fn get(&self, api: &Api) -> Arc<Vec<Listed>> {
        let mut last = self.last.lock().await;
        if let Some((at, listing)) = &*last
            && api.now().since(*at) < LISTING_AGE
        {
            return Arc::clone(listing);
        }
        let folders = folders(api);
        let read =
            tokio::task::spawn_blocking(move || folders.into_iter().flat_map(list).collect::<Vec<_>>());
        let listing = Arc::new(read.await.unwrap_or_default());
        *last = Some((api.now(), Arc::clone(&listing)));
        listing
    }
}

/// The names and folders of the `parquet` sinks.
fn folders(api: &Api) -> Vec<(String, PathBuf)> {
    let nodes = api.watch.configuration()["nodes"].as_array();
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

/// Ranges that follow each other as one.
fn merged(files: &[(CommitRange, u64)]) -> Vec<RangeView> {
    let mut ranges: Vec<RangeView> = Vec::new();
    for (range, _) in files {
        match ranges.last_mut().filter(|last| last.last_slot + 1 == range.first) {
            Some(last) => last.last_slot = range.last,
            None => ranges.push(RangeView { first_slot: range.first, last_slot: range.last }),
        }
    }
    ranges.truncate(MAX_RANGES);
    ranges
}

/// What is on disk: for each dataset the slots whose files are durable.
#[utoipa::path(
    get, path = "/api/v1/datasets", tag = "datasets",
    responses((status = 200, description = "The datasets", body = DatasetsView))
)]
pub(in crate::api) async fn datasets(
    State(api): Shared,
    Params(Nothing {}): Params<Nothing>,
) -> Json<DatasetsView> {
    let listing = api.listing.get(&api).await;
    let view = |listed: &Listed| DatasetView {
        sink: listed.sink.clone(),
        dataset: listed.dataset.name(),
        files: listed.files.len() as u64,
        bytes: listed.files.iter().map(|(_, bytes)| bytes).sum(),
        ranges: merged(&listed.files),
    };
    Json(DatasetsView { datasets: listing.iter().map(view).collect() })
}

/// The files of a dataset.
#[utoipa::path(
    get, path = "/api/v1/datasets/{dataset}/files", tag = "datasets",
    params(("dataset" = String, Path, description = "The dataset, e.g. `transactions`"), FilesParams),
    responses((status = 200, description = "A page of files", body = FilesView))
)]
pub(in crate::api) async fn files(
    State(api): Shared,
    Segment(dataset): Segment<String>,
    Params(params): Params<FilesParams>,
) -> Result<Json<FilesView>, Problem> {
    let from = within("from_slot", params.from_slot.unwrap_or(0), 0..=MAX_INTEGER)?;
    let limit = within("limit", params.limit.unwrap_or(DEFAULT_PAGE), 1..=MAX_PAGE)? as usize;
    let known = Dataset::from_name(&dataset);
    let dataset = known.ok_or_else(|| Problem::not_found("there is no such dataset"))?;
    let listing = api.listing.get(&api).await;
    let own = listing.iter().filter(|listed| listed.dataset == dataset);
    let files = own.flat_map(|listed| {
        let begin = listed.files.partition_point(|(range, _)| range.first < from);
        listed.files[begin..].iter().take(limit + 1).map(|(range, bytes)| FileView {
            sink: listed.sink.clone(),
            path: range.path(dataset).display().to_string(),
            first_slot: range.first,
            last_slot: range.last,
            bytes: *bytes,
        })
    });
    let mut files: Vec<FileView> = files.collect();
    files.sort_by_key(|file| file.first_slot);
    let next = files.get(limit).map(|file| file.first_slot);
    files.truncate(limit);
    Ok(Json(FilesView { files, next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_follow_each_other_are_one() {
        let range = |first| (CommitRange::containing(first, 10), 1);
        let expected =
            [RangeView { first_slot: 0, last_slot: 19 }, RangeView { first_slot: 30, last_slot: 39 }];
        assert_eq!(merged(&[range(0), range(10), range(30)]), expected);
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_files() {
        assert_eq!(files_of(Path::new("/nowhere/at/all")), []);
    }
}
