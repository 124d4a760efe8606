//! Health checks: what an endpoint answers to a ping and a few questions.

use std::time::{Duration, Instant};

use rand::Rng;

use super::client::{self, answered};
use super::crew::Crew;
use super::failure::{Failure, FailureKind};
use super::health::{CheckReport, EndpointState};
use crate::component::Endpoint;

/// How far checks are spread, as a share of their interval: many pipelines check the same endpoints.
const SPREAD: f64 = 0.1;

/// Checks the endpoint at `place` for as long as it is polled.
pub(super) async fn run(crew: &Crew, place: usize) {
    let endpoint = &crew.endpoints[place];
    loop {
        let outcome = check(endpoint).await;
        match &outcome {
            Ok(report) => endpoint.health.on_check(crew.now(), report),
            Err(failure) => on_failure(endpoint, failure),
        }
        crew.tell(|group, _| group.on_check(place, outcome.is_ok()));
        let spread = rand::rng().random_range(1.0 - SPREAD..1.0 + SPREAD);
        tokio::time::sleep(endpoint.options.health_check_interval.mul_f64(spread)).await;
    }
}

/// Asks an endpoint for all that health checks want to know.
///
/// # Errors
/// If it can't be reached or answers none of the questions.
pub(super) async fn check(endpoint: &Endpoint) -> Result<CheckReport, Failure> {
    let options = &endpoint.options;
    let channel = endpoint.link.channel(options).await?;
    let mut round_trip = None;
    let began = Instant::now();
    let pong = answered(client::ping(channel.clone(), options).await)?;
    note(&mut round_trip, pong.is_some(), began.elapsed());
    endpoint.link.turn().await;
    let began = Instant::now();
    let version = answered(client::version(channel.clone(), options).await)?;
    note(&mut round_trip, version.is_some(), began.elapsed());
    endpoint.link.turn().await;
    // A server that has seen no whole slot yet answers with an error, and is well all the same.
    let slot = client::newest_slot(channel.clone(), options).await.ok();
    endpoint.link.turn().await;
    let first_replayable = client::first_replayable_slot(channel, options).await.ok().flatten();
    let round_trip = round_trip.ok_or_else(|| Failure::of(FailureKind::Unimplemented))?;
    Ok(CheckReport { round_trip, version, slot, first_replayable })
}

fn note(round_trip: &mut Option<Duration>, answered: bool, took: Duration) {
    if answered {
        *round_trip = Some(round_trip.map_or(took, |known| known.min(took)));
    }
}

fn on_failure(endpoint: &Endpoint, failure: &Failure) {
    match failure.kind {
        FailureKind::RateLimited { .. } => {
            endpoint.health.on_rate_limited();
            endpoint.link.on_failure(failure.kind);
        }
        FailureKind::Unimplemented => {}
        kind => {
            endpoint.health.on_error(&failure.to_string());
            // While a subscription is open, it knows better whether the connection is broken.
            let open = [EndpointState::Active, EndpointState::Standby];
            if !open.contains(&endpoint.health.snapshot().state) {
                endpoint.link.on_failure(kind);
            }
        }
    }
}
