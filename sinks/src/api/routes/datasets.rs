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
    /// What to give as `from_sink` with it; none if the page ends with all files that begin with a slot.
    next_sink: Option<String>,
}

/// Which files are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct FilesParams {
    /// Only files that begin with this slot or a later one.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    from_slot: Option<u64>,
    /// Of the files that begin with `from_slot`, only those of this sink or of one behind it by name.
    from_sink: Option<String>,
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
    Ok(Json(page(own, from, params.from_sink.as_deref().unwrap_or_default(), limit)))
}

/// The first `limit` files by slot and sink, from the one on that `from` and `from_sink` name.
fn page<'l>(
    listing: impl Iterator<Item = &'l Listed>,
    from: u64,
    from_sink: &str,
    limit: usize,
) -> FilesView {
    let files = listing.flat_map(|listed| {
        let is_before = |first: u64| (first, listed.sink.as_str()) < (from, from_sink);
        let begin = listed.files.partition_point(|(range, _)| is_before(range.first));
        listed.files[begin..].iter().take(limit + 1).map(|(range, bytes)| FileView {
            sink: listed.sink.clone(),
            path: range.path(listed.dataset).display().to_string(),
            first_slot: range.first,
            last_slot: range.last,
            bytes: *bytes,
        })
    });
    let mut files: Vec<FileView> = files.collect();
    files.sort_by(|one, other| (one.first_slot, &one.sink).cmp(&(other.first_slot, &other.sink)));
    let next = files.get(limit).map(|file| (file.first_slot, file.sink.clone()));
    files.truncate(limit);
    let is_split = |(slot, _): &(u64, String)| files.last().is_some_and(|last| last.first_slot == *slot);
    let next_sink = next.clone().filter(is_split).map(|(_, sink)| sink);
    FilesView { next: next.map(|(slot, _)| slot), next_sink, files }
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
    fn pages_end_with_several_sinks_of_the_same_ranges() {
        let files = |count: u64| (0..count).map(|at| (CommitRange::containing(at * 10, 10), 1)).collect();
        let listed = |sink: &str, count| Listed {
            sink: sink.to_owned(),
            dataset: Dataset::Blocks,
            files: files(count),
        };
        let listing = [listed("b", 3), listed("a", 4), listed("c", 2)];
        for limit in 1..=10 {
            let (mut seen, mut from, mut from_sink) = (Vec::new(), 0, String::new());
            for pages in 0.. {
                assert!(pages < 9, "a page for each file is enough");
                let page = page(listing.iter(), from, &from_sink, limit);
                seen.extend(page.files.into_iter().map(|file| (file.first_slot, file.sink)));
                let Some(next) = page.next else { break };
                (from, from_sink) = (next, page.next_sink.unwrap_or_default());
            }
            let shown: Vec<String> = seen.iter().map(|(slot, sink)| format!("{sink}{slot}")).collect();
            assert_eq!(shown.join(" "), "a0 b0 c0 a10 b10 c10 a20 b20 a30", "{limit} a page");
        }
    }
}
