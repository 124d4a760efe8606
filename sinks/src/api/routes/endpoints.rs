//! The endpoints and how they do.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sluice_stages::batch::EndpointId;
use sluice_stages::component::Endpoint;
use sluice_stages::stage::{Label, Metric};
use sluice_stages::yellowstone::health::EndpointState;
use utoipa::ToSchema;

use crate::api::query::{Nothing, Params};
use crate::api::shared::{Api, Shared};

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct EndpointView {
    /// Its name.
    name: String,
    /// Where it stands, as the TOML says.
    region: Option<String>,
    /// What it is doing: `connecting`, `active`, `standby` (slots only), `resting` (after failures) or `quarantined`.
    state: &'static str,
    /// Whether its stream is open.
    connected: bool,
    /// Half of the last minute's requests were answered within this, in milliseconds; none before the first.
    round_trip_p50_ms: Option<f64>,
    /// Ninety-nine in a hundred were.
    round_trip_p99_ms: Option<f64>,
    /// The share of requests and sessions that failed lately: 0 to 1.
    error_rate: f64,
    /// What went wrong last.
    last_error: Option<String>,
    /// What it says that it runs.
    version: Option<String>,
    /// The highest slot that it has sent since it was connected.
    tip_slot: Option<u64>,
    /// How many slots it is behind the one that is furthest.
    behind_slots: Option<u64>,
    /// Updates that it was the first to send.
    wins_total: u64,
    /// Updates that another had sent before.
    repeats_total: u64,
    /// Its share of all first updates: 0 to 1.
    win_share: f64,
    /// Updates that its source has read, by kind; this and what follows count all endpoints of one source together.
    updates_total: BTreeMap<String, u64>,
    /// Bytes that its source has read.
    bytes_total: u64,
    /// Subscriptions that were accepted.
    sessions_total: u64,
    /// Streams that ended, by reason.
    disconnects_total: BTreeMap<String, u64>,
    /// Messages that could not be read.
    malformed_total: u64,
}

/// All endpoints.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct EndpointsView {
    /// In the order of the TOML.
    endpoints: Vec<EndpointView>,
}

/// What all nodes show, by name.
struct Boards(Vec<(String, Vec<Metric>)>);

impl Boards {
    fn read(api: &Api) -> Self {
        let own = |(name, _, metrics): (&str, &str, Vec<Metric>)| (name.to_owned(), metrics);
        Self(api.watch.metrics().into_iter().map(own).collect())
    }

    /// A metric of the node `node`, by its labels.
    fn of<'b>(&'b self, node: &'b str, metric: &'b str) -> impl Iterator<Item = &'b Metric> {
        let boards = self.0.iter().filter(move |(name, _)| name == node);
        boards.flat_map(|(_, metrics)| metrics).filter(move |found| found.name == metric)
    }

    fn value(&self, node: &str, metric: &str) -> u64 {
        self.of(node, metric).map(|metric| metric.value as u64).sum()
    }

    fn by_word(&self, node: &str, metric: &str) -> BTreeMap<String, u64> {
        let words = self.of(node, metric).filter_map(|metric| match metric.label {
            Some((_, Label::Word(word))) if metric.value > 0.0 => {
                Some((word.to_owned(), metric.value as u64))
            }
            _ => None,
        });
        words.collect()
    }

    /// What any node shows of an endpoint.
    fn of_endpoint(&self, id: EndpointId, metric: &str) -> u64 {
        let all = self.0.iter().flat_map(|(_, metrics)| metrics).filter(|found| found.name == metric);
        let own = all.filter(|found| matches!(found.label, Some((_, Label::Endpoint(of))) if of == id));
        own.map(|found| found.value as u64).sum()
    }
}

/// The name of an endpoint's source: all of it, unless the source has several.
fn source_of(endpoint: &str) -> &str {
    endpoint.split('/').next().unwrap_or(endpoint)
}

/// A source of one endpoint says so itself; of several, each one's state does.
fn is_connected(endpoint: &Endpoint, boards: &Boards) -> bool {
    if source_of(&endpoint.name) == &*endpoint.name {
        return boards.value(&endpoint.name, "source_connected") > 0;
    }
    matches!(endpoint.health.snapshot().state, EndpointState::Active | EndpointState::Standby)
}

fn view(endpoint: &Endpoint, boards: &Boards) -> EndpointView {
    let node = source_of(&endpoint.name);
    let health = endpoint.health.snapshot();
    let connected = is_connected(endpoint, boards);
    let alone = node.len() == endpoint.name.len();
    let tip = if alone { health.slot.max(boards.value(node, "source_tip_slot")) } else { health.slot };
    EndpointView {
        name: endpoint.name.to_string(),
        state: health.state.name(),
        round_trip_p50_ms: health.round_trip_ms.map(|latency| latency.p50),
        round_trip_p99_ms: health.round_trip_ms.map(|latency| latency.p99),
        error_rate: health.error_rate,
        last_error: health.last_error.clone(),
        version: health.version.clone(),
        region: endpoint.options.region.clone(),
        connected,
        tip_slot: Some(tip).filter(|tip| *tip > 0 && connected),
        behind_slots: None,
        wins_total: boards.of_endpoint(endpoint.id, "first_updates_total"),
        repeats_total: boards.of_endpoint(endpoint.id, "duplicate_updates_total"),
        win_share: 0.0,
        updates_total: boards.by_word(node, "source_updates_total"),
        bytes_total: boards.value(node, "source_bytes_total"),
        sessions_total: boards.value(node, "source_sessions_total"),
        disconnects_total: boards.by_word(node, "source_disconnects_total"),
        malformed_total: boards.value(node, "source_malformed_total"),
    }
}

/// The names of all endpoints, and whether their streams are open.
pub(in crate::api) fn connections(api: &Api) -> Vec<(String, bool)> {
    let boards = Boards::read(api);
    let connected = |one: &Endpoint| (one.name.to_string(), is_connected(one, &boards));
    api.watch.endpoints().iter().map(connected).collect()
}

/// All endpoints now.
pub(in crate::api) fn views(api: &Api) -> EndpointsView {
    let boards = Boards::read(api);
    let mut endpoints: Vec<_> =
        api.watch.endpoints().iter().map(|endpoint| view(endpoint, &boards)).collect();
    let tip = endpoints.iter().filter_map(|endpoint| endpoint.tip_slot).max().unwrap_or(0);
    let wins: u64 = endpoints.iter().map(|endpoint| endpoint.wins_total).sum();
    for endpoint in &mut endpoints {
        endpoint.behind_slots = endpoint.tip_slot.map(|own| tip - own);
        endpoint.win_share = endpoint.wins_total as f64 / wins.max(1) as f64;
    }
    EndpointsView { endpoints }
}

/// The endpoints: whether they are connected, how far they are, and how often they come first.
#[utoipa::path(
    get, path = "/api/v1/endpoints", tag = "pipeline",
    responses((status = 200, description = "The endpoints", body = EndpointsView))
)]
pub(in crate::api) async fn endpoints(
    State(api): Shared,
    Params(Nothing {}): Params<Nothing>,
) -> Json<EndpointsView> {
    Json(views(&api))
}
