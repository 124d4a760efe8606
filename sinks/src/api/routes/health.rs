//! Whether the process lives, and whether the pipeline does its work.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::endpoints;
use crate::api::query::{Nothing, Params};
use crate::api::shared::{Api, Shared};

/// How long the tip may stand still: mainnet has a slot each 400 ms, and the longest run of skips is some seconds.
pub(in crate::api) const STANDSTILL: Duration = Duration::from_secs(30);
/// The share of the memory limit at which sources are about to wait.
const MEMORY_WARNING: f64 = 0.95;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum Verdict {
    /// As it should be.
    Pass,
    /// It works, but not as it should.
    Warn,
    /// It does not work.
    Fail,
}

/// A part of the pipeline.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ComponentView {
    /// Its name.
    name: String,
    /// How it is.
    status: Verdict,
    /// Why, for people.
    detail: String,
}

/// How the pipeline is.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct HealthView {
    /// `fail` if no data can come through; the answer's status is 503 then.
    status: Verdict,
    /// Its parts.
    components: Vec<ComponentView>,
}

/// How the pipeline is now.
pub(in crate::api) fn view(api: &Api) -> HealthView {
    let mut components = vec![progress(api)];
    components.extend(sources(api));
    components.push(memory(api));
    components.push(holes(api));
    let connected =
        components.iter().any(|one| one.name.starts_with("source ") && one.status == Verdict::Pass);
    let has_sources = !api.watch.endpoints().is_empty();
    let worst = components.iter().map(|one| one.status).max().unwrap_or(Verdict::Pass);
    let status = match worst {
        _ if components[0].status == Verdict::Fail || (has_sources && !connected) => Verdict::Fail,
        Verdict::Fail => Verdict::Warn,
        other => other,
    };
    HealthView { status, components }
}

fn component(name: impl Into<String>, status: Verdict, detail: impl Into<String>) -> ComponentView {
    ComponentView { name: name.into(), status, detail: detail.into() }
}

fn progress(api: &Api) -> ComponentView {
    if api.draining.is_cancelled() {
        return component("progress", Verdict::Fail, "the pipeline was asked to stop");
    }
    let (tip, still) = api.live().progress.still_for(api.now());
    match (tip, still) {
        (0, still) if still < STANDSTILL => component("progress", Verdict::Warn, "no slot has come yet"),
        (_, still) if still < STANDSTILL => component("progress", Verdict::Pass, format!("at slot {tip}")),
        (0, _) => component("progress", Verdict::Fail, "no slot has come yet"),
        (tip, still) => {
            let detail = format!("at slot {tip} for {} s", still.as_secs());
            component("progress", Verdict::Fail, detail)
        }
    }
}

fn sources(api: &Api) -> impl Iterator<Item = ComponentView> {
    endpoints::connections(api).into_iter().map(|(name, connected)| {
        let (status, detail) =
            if connected { (Verdict::Pass, "connected") } else { (Verdict::Fail, "not connected") };
        component(format!("source {name}"), status, detail)
    })
}

fn memory(api: &Api) -> ComponentView {
    let budget = api.watch.budget();
    let share = budget.used_bytes() as f64 / budget.limit_bytes().max(1) as f64;
    let waits = budget.waiting() > 0 || share > MEMORY_WARNING;
    let status = if waits { Verdict::Warn } else { Verdict::Pass };
    component("memory", status, format!("{:.0} % of the limit in flight", share * 100.0))
}

fn holes(api: &Api) -> ComponentView {
    let holes = api.watch.sum("holes");
    let status = if holes > 0 { Verdict::Warn } else { Verdict::Pass };
    component("holes", status, format!("{holes} slots can't be had for now"))
}

/// How the pipeline and each part of it is.
///
/// 503 while no data can come through: no source is connected, the tip stands still, or the pipeline drains.
#[utoipa::path(
    get, path = "/api/v1/health", tag = "health",
    responses(
        (status = 200, description = "Data comes through", body = HealthView),
        (status = 503, description = "No data comes through", body = HealthView),
    )
)]
pub(in crate::api) async fn health(State(api): Shared, Params(Nothing {}): Params<Nothing>) -> Response {
    answer(&api)
}

/// Whether data comes through, as for load balancers: the same as `/api/v1/health`.
#[utoipa::path(
    get, path = "/api/v1/health/ready", tag = "health",
    responses(
        (status = 200, description = "Data comes through", body = HealthView),
        (status = 503, description = "No data comes through", body = HealthView),
    )
)]
pub(in crate::api) async fn ready(State(api): Shared, Params(Nothing {}): Params<Nothing>) -> Response {
    answer(&api)
}

fn answer(api: &Api) -> Response {
    let view = view(api);
    let status = if view.status == Verdict::Fail { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(view)).into_response()
}

/// That the process answers; never asks for a token.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct LiveView {
    /// Always `pass`.
    status: Verdict,
}

/// Whether the process lives.
#[utoipa::path(
    get, path = "/api/v1/health/live", tag = "health", security(()),
    responses((status = 200, description = "It does", body = LiveView))
)]
pub(in crate::api) async fn live(Params(Nothing {}): Params<Nothing>) -> Json<LiveView> {
    Json(LiveView { status: Verdict::Pass })
}
