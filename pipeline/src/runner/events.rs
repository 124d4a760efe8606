//! The event log: one task that turns the events of all nodes into log lines, and passes them on to whoever watches.

use std::sync::Arc;

use sluice_stages::node::Clock;
use sluice_stages::stage::Event;
use sluice_stages::watch::{Reported, Watch};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::is_grave;

/// Starts the log; it ends when all senders are gone.
pub(super) fn spawn_log(
    capacity: usize,
    watch: Watch,
    clock: Clock,
) -> (mpsc::Sender<(Arc<str>, Event)>, JoinHandle<()>) {
    let (sender, mut events) = mpsc::channel::<(Arc<str>, Event)>(capacity);
    let log = tokio::spawn(async move {
        while let Some((node, event)) = events.recv().await {
            show(&watch, &node, &event);
            watch.publish(Reported { node, event, at: clock.now() });
        }
    });
    (sender, log)
}

fn show(watch: &Watch, node: &str, event: &Event) {
    if is_grave(event) {
        show_grave(watch, node, event);
        return;
    }
    match event {
        Event::Connected { endpoint } => {
            tracing::info!(node, endpoint = watch.endpoint(*endpoint), "connected");
        }
        Event::Disconnected { endpoint, reason } => {
            tracing::warn!(node, endpoint = watch.endpoint(*endpoint), reason, "disconnected");
        }
        Event::DutyChanged { endpoint, duty, reason } => {
            tracing::info!(node, endpoint = watch.endpoint(*endpoint), duty, reason, "duty changed");
        }
        Event::Malformed { endpoint, slot, reason } => {
            tracing::warn!(node, endpoint = watch.endpoint(*endpoint), slot, reason, "malformed update");
        }
        Event::GapFound { first, last } => tracing::info!(node, first, last, "gap found"),
        Event::GapFilled { slot, way } => tracing::info!(node, slot, way = way.name(), "gap filled"),
        Event::Discarded { slot, reason } => tracing::debug!(node, slot, reason, "discarded"),
        Event::GivenUp { first, last } => {
            tracing::warn!(node, first, last, "memory is short, to be fetched again");
        }
        Event::CommitmentSwitched { from, level, reason } => {
            tracing::warn!(node, %from, %level, reason, "commitment switched");
        }
        Event::Committed { dataset, first, last, rows } => {
            tracing::debug!(node, dataset, first, last, rows, "committed");
        }
        Event::SpoolResumed { lost_updates } => {
            tracing::warn!(node, lost_updates, "the spool writes again");
        }
        Event::HoleOpened { .. }
        | Event::SpoolFailed { .. }
        | Event::CommitFailed { .. }
        | Event::Contradiction { .. }
        | Event::ProvenWrong { .. }
        | Event::ProofFailed { .. } => {}
    }
}

fn show_grave(watch: &Watch, node: &str, event: &Event) {
    match event {
        Event::HoleOpened { slot, reason } => tracing::error!(node, slot, reason, "hole"),
        Event::CommitFailed { first, reason } => {
            tracing::error!(node, first, reason, "commit failed, to be tried again")
        }
        Event::SpoolFailed { reason } => {
            tracing::error!(node, reason, "the spool can't write, the pipeline goes on without it");
        }
        Event::ProofFailed { slot, index, reason, endpoint } => {
            tracing::error!(node, endpoint = watch.endpoint(*endpoint), slot, index, reason, "not proven");
        }
        Event::Contradiction { slot, reason, endpoints } => {
            let endpoints: Vec<&str> = endpoints.iter().map(|&id| watch.endpoint(id)).collect();
            tracing::warn!(node, slot, reason, endpoints = endpoints.join(", "), "contradiction");
        }
        Event::ProvenWrong { slot, endpoint, reason } => {
            tracing::error!(node, endpoint = watch.endpoint(*endpoint), slot, reason, "proven wrong");
        }
        _ => {}
    }
}
