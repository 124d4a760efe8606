//! Recent events, as people read them.

use std::collections::VecDeque;

use serde::Serialize;
use sluice_stages::stage::Event;
use sluice_stages::watch::{Reported, Watch};
use utoipa::ToSchema;

/// Events that are kept. Discards and commits are many and told elsewhere; the rest is rare.
const EVENTS_CAPACITY: usize = 1_000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::api) struct EventView {
    /// Counts events since the start.
    pub(in crate::api) id: u64,
    /// When, unix milliseconds.
    pub(in crate::api) at_ms: u64,
    /// The node that reported it.
    pub(in crate::api) node: String,
    /// What happened, e.g. `gap_found`, `hole_opened`, `commitment_switched`, `committed`.
    pub(in crate::api) kind: &'static str,
    /// The slot that it is about; the first one, if it is about several.
    pub(in crate::api) slot: Option<u64>,
    /// The last slot, if it is about several.
    pub(in crate::api) last_slot: Option<u64>,
    /// The endpoint that it is about.
    pub(in crate::api) endpoint: Option<String>,
    /// A few words for people.
    pub(in crate::api) message: String,
}

/// Recent events.
#[derive(Debug, Default)]
pub(in crate::api) struct EventLog {
    events: VecDeque<EventView>,
    count: u64,
}

impl EventLog {
    /// Takes in what a node reported.
    pub(in crate::api) fn push(&mut self, report: &Reported, watch: &Watch) {
        self.count += 1;
        let mut view = view(&report.event, watch);
        (view.id, view.at_ms, view.node) = (self.count, report.at.as_millis(), report.node.to_string());
        if self.events.len() >= EVENTS_CAPACITY {
            self.events.pop_front();
        }
        self.events.push_back(view);
    }

    /// The number of the newest event.
    pub(in crate::api) fn newest(&self) -> u64 {
        self.count
    }

    /// Events behind number `after`, the newest first, at most `limit`; of the kinds `kinds`, if any is given.
    pub(in crate::api) fn list(&self, after: u64, kinds: &[&str], limit: usize) -> Vec<EventView> {
        let newer = self.events.iter().rev().take_while(|event| event.id > after);
        let wanted = newer.filter(|event| kinds.is_empty() || kinds.contains(&event.kind));
        wanted.take(limit).cloned().collect()
    }
}

fn view(event: &Event, watch: &Watch) -> EventView {
    let endpoint = |id| Some(watch.endpoint(id).to_owned());
    let (kind, slot, last_slot, endpoint, message) = match event {
        Event::Connected { endpoint: id } => ("connected", None, None, endpoint(*id), "connected".to_owned()),
        Event::Disconnected { endpoint: id, reason } => {
            ("disconnected", None, None, endpoint(*id), reason.clone())
        }
        Event::DutyChanged { endpoint: id, duty, reason } => {
            ("duty_changed", None, None, endpoint(*id), format!("{duty}: {reason}"))
        }
        Event::Malformed { endpoint: id, slot, reason } => {
            ("malformed", *slot, None, endpoint(*id), reason.clone())
        }
        Event::Contradiction { slot, reason, endpoints } => {
            let names: Vec<&str> = endpoints.iter().map(|&id| watch.endpoint(id)).collect();
            let between = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
            ("contradiction", Some(*slot), None, None, format!("{reason}{between}"))
        }
        Event::ProvenWrong { slot, endpoint: id, reason } => {
            ("proven_wrong", Some(*slot), None, endpoint(*id), (*reason).to_owned())
        }
        Event::ProofFailed { slot, reason, endpoint: id, .. } => {
            ("proof_failed", Some(*slot), None, endpoint(*id), reason.clone())
        }
        Event::GapFound { first, last } => {
            ("gap_found", Some(*first), Some(*last), None, "slots are missing".to_owned())
        }
        Event::GapFilled { slot, way } => ("gap_filled", Some(*slot), None, None, way.name().to_owned()),
        Event::HoleOpened { slot, reason } => ("hole_opened", Some(*slot), None, None, reason.clone()),
        Event::Discarded { slot, reason } => ("discarded", Some(*slot), None, None, (*reason).to_owned()),
        Event::GivenUp { first, last } => {
            ("given_up", Some(*first), Some(*last), None, "memory was short".to_owned())
        }
        Event::CommitmentSwitched { level, reason, .. } => {
            ("commitment_switched", None, None, None, format!("{level}: {reason}"))
        }
        Event::Committed { dataset, first, last, rows } => {
            ("committed", Some(*first), Some(*last), None, format!("{dataset}: {rows} rows"))
        }
        Event::CommitFailed { first, reason } => ("commit_failed", Some(*first), None, None, reason.clone()),
        Event::SpoolFailed { reason } => ("spool_failed", None, None, None, reason.clone()),
        Event::SpoolResumed { lost_updates } => {
            ("spool_resumed", None, None, None, format!("{lost_updates} updates went past it"))
        }
    };
    EventView { id: 0, at_ms: 0, node: String::new(), kind, slot, last_slot, endpoint, message }
}

#[cfg(test)]
mod tests {
    use sluice_stages::slot::Timestamp;

    use super::*;

    #[test]
    fn events_are_bounded_and_told_by_their_numbers() {
        let (mut log, watch) = (EventLog::default(), Watch::default());
        for slot in 1..=EVENTS_CAPACITY as u64 + 5 {
            let event = Event::GapFound { first: slot, last: slot };
            log.push(&Reported { node: "slots".into(), event, at: Timestamp(slot) }, &watch);
        }
        let newest = log.newest();
        assert_eq!(log.events.len(), EVENTS_CAPACITY);
        assert_eq!(
            log.list(newest - 2, &[], 10).iter().map(|event| event.id).collect::<Vec<_>>(),
            [newest, newest - 1]
        );
        assert_eq!(log.list(0, &["hole_opened"], 10), []);
    }
}
