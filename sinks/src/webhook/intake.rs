//! Alerts for Alertmanager's own intake, `POST /api/v2/alerts`: the set of those that fire, posted when it changes and
//! once a minute, each with a time at which it ends by itself. So a Sluice that has died leaves no alert behind, and a
//! restarted Alertmanager learns of all of them.
//!
//! ```text
//!  sink's inbox ─→ IntakeQueue ─→ Firing (bounded, the last state of each alert) ─→ Intake: body of now ─→ courier
//!                                    └ bell of one ────────────────────────────────────┘
//! ```
//!
//! Each try posts what is so then: while Alertmanager is away nothing piles up, and when it is back it hears of what
//! fires and of what is over, with times that are not past.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_stages::alert::Alert;
use sluice_stages::slot::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::firing::{Firing, Posted};
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

/// The sink's end.
pub(super) struct IntakeQueue {
    firing: Arc<Mutex<Firing>>,
    /// It holds one ring, which stands for all changes since it was heard.
    bell: mpsc::Sender<()>,
    counters: Arc<Counters>,
}

impl IntakeQueue {
    /// Takes in a change; never waits.
    pub(super) fn push(&self, alert: Alert) {
        if !lock(&self.firing).on_changed(alert) {
            add(&self.counters.held_back, 1);
        }
        // A bell that rings already needs no other ring.
        self.bell.try_send(()).ok();
    }

    /// Takes in what an alert that fires shows now.
    pub(super) fn refresh(&self, alert: &Alert) {
        lock(&self.firing).on_measured(alert);
    }
}

/// Posts what a pipeline's alerts are.
struct Intake {
    firing: Arc<Mutex<Firing>>,
    bell: mpsc::Receiver<()>,
    teller: Teller,
    external_url: String,
    counters: Arc<Counters>,
}

/// Starts to post, among `tasks`, until the end that is returned is gone.
pub(super) fn start(
    teller: Teller,
    external_url: String,
    courier: Courier,
    tasks: &mut JoinSet<()>,
) -> IntakeQueue {
    let (bell, rung) = mpsc::channel(1);
    let firing = Arc::new(Mutex::new(Firing::default()));
    let counters = Arc::clone(&courier.service().counters);
    let queue = IntakeQueue { firing: Arc::clone(&firing), bell, counters: Arc::clone(&counters) };
    tasks.spawn(Intake { firing, bell: rung, teller, external_url, counters }.run(courier));
    queue
}

impl Intake {
    async fn run(mut self, mut courier: Courier) {
        let mut resend = tokio::time::interval_at(Instant::now() + RESEND_INTERVAL, RESEND_INTERVAL);
        resend.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                rung = self.bell.recv() => if rung.is_none() { return },
                _ = resend.tick() => lock(&self.firing).remind(),
            }
            if !self.post(&mut courier).await {
                let node = &courier.service().node;
                tracing::warn!(%node, kept = false, "ended with alerts that were not posted; they end by themselves");
                return;
            }
        }
    }

    /// Posts all that Alertmanager has to hear of; false if there is no more time.
    async fn post(&self, courier: &mut Courier) -> bool {
        loop {
            let mut posted = Vec::new();
            let outcome = courier.deliver_fresh(|now| self.message(now, &mut posted)).await;
            if outcome == Outcome::Abandoned {
                return false;
            }
            if posted.is_empty() {
                return true;
            }
            if outcome == Outcome::Delivered {
                add(&self.counters.notices, posted.len() as u64);
            }
            lock(&self.firing).on_posted(&posted);
        }
    }

    /// A body of what is so now, and in `posted` what it tells of; `None` if there is nothing to tell.
    fn message(&self, now: Timestamp, posted: &mut Vec<Posted>) -> Option<Message> {
        let alerts;
        (alerts, *posted) = lock(&self.firing).due(MAX_POSTED);
        let ends_at = now.after(LIFETIME);
        let post = |alert| PostedAlert::new(alert, &self.teller, &self.external_url, ends_at);
        let body = serde_json::to_vec(&alerts.iter().map(post).collect::<Vec<_>>()).ok()?;
        let id = format!("alerts_{}", fingerprint(&String::from_utf8_lossy(&body)));
        let content_type = "application/json".to_owned();
        (!alerts.is_empty()).then(|| Message { id, content_type, body: body.into() })
    }
}

fn lock(firing: &Mutex<Firing>) -> MutexGuard<'_, Firing> {
    firing.lock().unwrap_or_else(PoisonError::into_inner)
}
