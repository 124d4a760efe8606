//! Alerts for Alertmanager's own intake, `POST /api/v2/alerts`: the set of those that fire, posted when it changes and
//! once a minute, each with a time at which it ends by itself. So a Sluice that has died leaves no alert behind, and a
//! restarted Alertmanager learns of all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_stages::alert::{Alert, AlertState};
use sluice_stages::node::Clock;
use sluice_stages::slot::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::delivery::alert_record::Teller;
use crate::delivery::alertmanager::PostedAlert;
use crate::delivery::counters::{Counters, add};
use crate::delivery::courier::{Courier, Message, Outcome};
use crate::delivery::limit::fingerprint;

/// How often alerts that fire are posted again, as Prometheus does it.
const RESEND_INTERVAL: Duration = Duration::from_secs(60);
/// How long an alert lasts without being posted again: four intervals, as Prometheus has it.
const LIFETIME: Duration = Duration::from_secs(240);
/// Alerts that are posted at once; Alertmanager takes any number, but a message has to end somewhere.
const MAX_POSTED: usize = 1_000;
/// Alerts that are kept; a storm beyond that is no longer told one by one.
const MAX_FIRING: usize = 10_000;

/// What fires, and what Alertmanager has to be told, pure.
#[derive(Debug, Default)]
pub(super) struct Firing {
    alerts: BTreeMap<Arc<str>, Alert>,
    /// Changes that were not posted yet.
    changed: BTreeMap<Arc<str>, Alert>,
}

impl Firing {
    /// Takes in a change; false if it was one alert too many.
    pub(super) fn on_changed(&mut self, alert: Alert) -> bool {
        let key = Arc::clone(&alert.fingerprint);
        let fires = alert.state == AlertState::Firing && alert.suppressed_by.is_none();
        if fires {
            if self.alerts.len() >= MAX_FIRING && !self.alerts.contains_key(&key) {
                return false;
            }
            self.alerts.insert(Arc::clone(&key), alert.clone());
            self.changed.insert(key, alert);
        } else if let Some(told) = self.alerts.remove(&key) {
            // Alertmanager knows it as firing. What is silenced or inhibited here ends there as well.
            let over = if alert.state == AlertState::Resolved { alert } else { told };
            let over = Alert { state: AlertState::Resolved, ..over };
            self.changed.insert(key, over);
        }
        true
    }

    /// What has changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<Alert> {
        std::mem::take(&mut self.changed).into_values().collect()
    }

    /// All that fires.
    pub(super) fn all(&self) -> Vec<Alert> {
        self.alerts.values().cloned().collect()
    }
}

/// Posts what a pipeline's alerts are.
pub(super) struct Intake {
    pub(super) changes: mpsc::Receiver<Alert>,
    pub(super) teller: Teller,
    pub(super) external_url: String,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Clock,
    pub(super) courier: Courier,
}

impl Intake {
    /// Posts until the other end of `changes` is gone.
    pub(super) async fn run(mut self) {
        let mut firing = Firing::default();
        let mut resend = tokio::time::interval_at(Instant::now() + RESEND_INTERVAL, RESEND_INTERVAL);
        resend.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let alerts = tokio::select! {
                change = self.changes.recv() => match change {
                    Some(change) => self.take_in(change, &mut firing),
                    None => return,
                },
                _ = resend.tick() => firing.all(),
            };
            for part in alerts.chunks(MAX_POSTED) {
                self.post(part).await;
            }
        }
    }

    /// Takes in a change and those that wait behind it, so that a storm is one message.
    fn take_in(&mut self, change: Alert, firing: &mut Firing) -> Vec<Alert> {
        let mut next = Some(change);
        while let Some(change) = next {
            if !firing.on_changed(change) {
                add(&self.counters.held_back, 1);
            }
            next = self.changes.try_recv().ok();
        }
        firing.take_changed()
    }

    async fn post(&mut self, alerts: &[Alert]) {
        let now = self.clock.now();
        let Some(message) = message(alerts, &self.teller, &self.external_url, now) else { return };
        if self.courier.deliver(&message).await == Outcome::Delivered {
            add(&self.counters.notices, alerts.len() as u64);
        }
    }
}

fn message(alerts: &[Alert], teller: &Teller, external_url: &str, now: Timestamp) -> Option<Message> {
    let ends_at = now.after(LIFETIME);
    let posted: Vec<_> =
        alerts.iter().map(|alert| PostedAlert::new(alert, teller, external_url, ends_at)).collect();
    let body = serde_json::to_vec(&posted).ok()?;
    let id = format!("alerts_{}", fingerprint(&String::from_utf8_lossy(&body)));
    Some(Message { id, content_type: "application/json".to_owned(), body: body.into() })
}

#[cfg(test)]
mod tests {
    use sluice_stages::alert::Severity;

    use super::*;
    use crate::delivery::testing::{alert, resolved};

    #[test]
    fn what_fires_is_told_until_it_is_over() {
        let mut firing = Firing::default();
        assert!(firing.on_changed(alert("latency", Severity::Error)));
        assert_eq!(firing.take_changed().len(), 1);
        assert_eq!((firing.take_changed().len(), firing.all().len()), (0, 1));
        firing.on_changed(resolved("latency", Severity::Error));
        let changed = firing.take_changed();
        assert_eq!((changed.len(), changed[0].state, firing.all().len()), (1, AlertState::Resolved, 0));
    }

    #[test]
    fn what_was_never_told_is_not_resolved_and_what_is_silenced_is() {
        let mut firing = Firing::default();
        firing.on_changed(resolved("holes", Severity::Error));
        let pending = Alert { state: AlertState::Pending, ..alert("latency", Severity::Error) };
        firing.on_changed(pending);
        assert_eq!(firing.take_changed(), []);
        firing.on_changed(alert("latency", Severity::Error));
        let silenced = Alert { suppressed_by: Some("silence".into()), ..alert("latency", Severity::Error) };
        firing.take_changed();
        firing.on_changed(silenced);
        assert_eq!(firing.take_changed()[0].state, AlertState::Resolved);
    }

    #[test]
    fn a_storm_is_bounded() {
        let mut firing = Firing::default();
        let accepted = (0..MAX_FIRING + 5)
            .filter(|number| firing.on_changed(alert(&format!("rule-{number}"), Severity::Info)))
            .count();
        assert_eq!((accepted, firing.all().len()), (MAX_FIRING, MAX_FIRING));
    }
}
