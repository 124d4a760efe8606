//! What the `parquet` sinks have written: committed ranges and files.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::listing::Listed;
use crate::api::problem::Problem;
use crate::api::query::{DEFAULT_PAGE, MAX_INTEGER, MAX_PAGE, Nothing, Params, Segment, within};
use crate::api::shared::Shared;
use crate::parquet::{CommitRange, Dataset};

/// Ranges in an answer; more of them are a folder full of holes.
const MAX_RANGES: usize = 1_000;

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
    let listing = api.listing.get(api.now(), &api.watch).await;
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
    let listing = api.listing.get(api.now(), &api.watch).await;
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
}
