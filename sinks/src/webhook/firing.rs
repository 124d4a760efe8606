//! What fires, and what Alertmanager has not heard of yet: pure.
//!
//! Of each alert only the last state counts, so a receiver that is away costs no more than the alerts there are. An end
//! stays until Alertmanager has it: an alert whose end it missed would last there for as long as others are posted.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_stages::alert::{Alert, AlertState};

/// Alerts that are kept; a storm beyond that is no longer told one by one.
const MAX_ALERTS: usize = 10_000;

/// The alerts that fire, and those whose end was not posted.
#[derive(Debug, Default)]
pub(super) struct Firing {
    alerts: BTreeMap<Arc<str>, Known>,
    /// Numbers changes.
    changes: u64,
}

#[derive(Debug)]
struct Known {
    alert: Alert,
    /// The number of its last change.
    change: u64,
    /// The last change of it that Alertmanager has; 0 if it has to hear of it.
    posted: u64,
    /// Whether Alertmanager may know that it fires.
    was_tried: bool,
}

/// What was posted: an alert and the number of its change.
pub(super) type Posted = (Arc<str>, u64);

impl Firing {
    /// Takes in a change; false if it was one alert too many.
    pub(super) fn on_changed(&mut self, alert: Alert) -> bool {
        let key = Arc::clone(&alert.fingerprint);
        self.changes += 1;
        if alert.state == AlertState::Firing && alert.suppressed_by.is_none() {
            return self.fire(key, alert);
        }
        let Some(known) = self.alerts.get_mut(&key) else { return true };
        if !known.was_tried {
            self.alerts.remove(&key);
        } else if known.alert.state == AlertState::Firing {
            // What is silenced or inhibited here ends there as well.
            if alert.state == AlertState::Resolved {
                known.alert = alert;
            }
            known.alert.state = AlertState::Resolved;
            known.change = self.changes;
        }
        true
    }

    fn fire(&mut self, key: Arc<str>, alert: Alert) -> bool {
        let change = self.changes;
        if let Some(known) = self.alerts.get_mut(&key) {
            (known.alert, known.change) = (alert, change);
            return true;
        }
        let has_room = self.alerts.len() < MAX_ALERTS;
        if has_room {
            self.alerts.insert(key, Known { alert, change, posted: 0, was_tried: false });
        }
        has_room
    }

    /// Takes in what an alert that fires shows now; it is told with the next post.
    pub(super) fn on_measured(&mut self, alert: &Alert) {
        if let Some(known) = self.alerts.get_mut(&alert.fingerprint)
            && known.alert.state == alert.state
        {
            known.alert = alert.clone();
        }
    }

    /// Has all that fires posted again.
    pub(super) fn remind(&mut self) {
        self.alerts.values_mut().for_each(|known| known.posted = 0);
    }

    /// Up to `most` alerts that Alertmanager has to hear of, as they are now; the caller posts them.
    pub(super) fn due(&mut self, most: usize) -> (Vec<Alert>, Vec<Posted>) {
        let due = self.alerts.iter_mut().filter(|(_, known)| known.posted != known.change);
        let taken = due.take(most).map(|(key, known)| {
            known.was_tried = true;
            (known.alert.clone(), (Arc::clone(key), known.change))
        });
        taken.unzip()
    }

    /// Alertmanager has these, or will never take them. Those that are over are forgotten.
    pub(super) fn on_posted(&mut self, posted: &[Posted]) {
        for (key, change) in posted {
            let Some(known) = self.alerts.get_mut(key) else { continue };
            known.posted = *change;
            if known.change == *change && known.alert.state == AlertState::Resolved {
                self.alerts.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_stages::alert::Severity;

    use super::*;
    use crate::delivery::testing::{alert, resolved};

    fn states(firing: &mut Firing) -> Vec<AlertState> {
        firing.due(9).0.iter().map(|alert| alert.state).collect()
    }

    fn post(firing: &mut Firing) -> Vec<AlertState> {
        let (alerts, posted) = firing.due(9);
        firing.on_posted(&posted);
        alerts.iter().map(|alert| alert.state).collect()
    }

    #[test]
    fn what_fires_is_told_until_it_is_over() {
        let mut firing = Firing::default();
        assert!(firing.on_changed(alert("latency", Severity::Error)));
        assert_eq!((post(&mut firing), post(&mut firing)), (vec![AlertState::Firing], vec![]));
        firing.remind();
        assert_eq!(post(&mut firing), [AlertState::Firing]);
        firing.on_changed(resolved("latency", Severity::Error));
        assert_eq!(states(&mut firing), [AlertState::Resolved]);
        assert_eq!(states(&mut firing), [AlertState::Resolved], "until it is posted");
        post(&mut firing);
        firing.remind();
        assert_eq!(states(&mut firing), [], "forgotten");
    }

    #[test]
    fn a_change_while_a_post_is_on_its_way_is_told_after_it() {
        let mut firing = Firing::default();
        firing.on_changed(alert("latency", Severity::Error));
        let (_, posted) = firing.due(9);
        firing.on_changed(resolved("latency", Severity::Error));
        firing.on_posted(&posted);
        assert_eq!(post(&mut firing), [AlertState::Resolved]);
    }

    #[test]
    fn what_was_never_told_is_not_resolved_and_what_is_silenced_is() {
        let mut firing = Firing::default();
        firing.on_changed(resolved("holes", Severity::Error));
        firing.on_changed(Alert { state: AlertState::Pending, ..alert("latency", Severity::Error) });
        firing.on_changed(alert("short", Severity::Error));
        firing.on_changed(resolved("short", Severity::Error));
        assert_eq!(post(&mut firing), []);
        firing.on_changed(alert("latency", Severity::Error));
        post(&mut firing);
        let silenced = Alert { suppressed_by: Some("silence".into()), ..alert("latency", Severity::Error) };
        firing.on_changed(silenced);
        assert_eq!(post(&mut firing), [AlertState::Resolved]);
    }

    #[test]
    fn a_storm_is_bounded() {
        let mut firing = Firing::default();
        let accepted = (0..MAX_ALERTS + 5)
            .filter(|number| firing.on_changed(alert(&format!("rule-{number}"), Severity::Info)))
            .count();
        assert_eq!((accepted, firing.due(usize::MAX).0.len()), (MAX_ALERTS, MAX_ALERTS));
    }

    #[test]
    fn what_an_alert_shows_is_told_with_the_next_post_and_rings_no_bell() {
        let mut firing = Firing::default();
        firing.on_changed(alert("latency", Severity::Error));
        post(&mut firing);
        let now = Alert { value: 77.0, ..alert("latency", Severity::Error) };
        firing.on_measured(&now);
        firing.on_measured(&Alert { value: 5.0, ..alert("unknown", Severity::Error) });
        assert!(post(&mut firing).is_empty());
        firing.remind();
        assert_eq!(firing.due(9).0.iter().map(|alert| alert.value).collect::<Vec<_>>(), [77.0]);
        firing.on_changed(resolved("latency", Severity::Error));
        firing.on_measured(&now);
        assert_eq!(states(&mut firing), [AlertState::Resolved], "what is over stays so");
    }
}
