//! One endpoint, as its group sees it.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Duty, MemberPolicy, Order};
use crate::recovery::pace::{Breaker, BreakerPolicy};
use crate::slot::{Slot, Timestamp};
use crate::yellowstone::failure::FailureKind;
use crate::yellowstone::health::{EndpointState, Ewma};

/// New slots that a session has to show before its endpoint is trusted again: the first comes with any session.
const SLOTS_OF_PROGRESS: u32 = 2;

/// Proven offences within [`OFFENCE_WINDOW`] that put an endpoint into quarantine: one may be a bit that flipped.
const OFFENCES: usize = 3;

/// How long an offence is remembered.
const OFFENCE_WINDOW: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, Default)]
struct Session {
    new_slots: u32,
    tip: Slot,
    /// New slots shown since it serves in full; `None` while it does not.
    served: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) policy: MemberPolicy,
    pub(super) order: Order,
    breaker: Breaker,
    session: Option<Session>,
    /// When it got its order.
    since: Timestamp,
    /// Whether it has failed since.
    failed: bool,
    well_since: Option<Timestamp>,
    arrival_ms: Ewma,
    errors: Ewma,
    offences: VecDeque<Timestamp>,
    quarantined_until: Timestamp,
}

impl Member {
    pub(super) fn new(policy: MemberPolicy, breaker: BreakerPolicy, now: Timestamp) -> Self {
        Self {
            policy,
            order: Order { duty: Duty::Standby, from_slot: None },
            breaker: Breaker::new(breaker),
            session: None,
            since: now,
            failed: false,
            well_since: None,
            arrival_ms: Ewma::default(),
            errors: Ewma::default(),
            offences: VecDeque::new(),
            quarantined_until: Timestamp(0),
        }
    }

    pub(super) fn open(&mut self, serving: bool) {
        self.session = Some(Session { served: serving.then_some(0), ..Session::default() });
    }

    pub(super) fn serve(&mut self) {
        if let Some(session) = &mut self.session {
            session.served = Some(0);
        }
    }

    pub(super) fn on_new_slot(&mut self) {
        let Some(session) = &mut self.session else { return };
        session.new_slots += 1;
        session.served = session.served.map(|served| served + 1);
        if session.new_slots == SLOTS_OF_PROGRESS {
            self.breaker.on_answer();
            self.errors.record(0.0);
        }
    }

    pub(super) fn on_tip(&mut self, slot: Slot, late: Duration) {
        if let Some(session) = &mut self.session {
            session.tip = session.tip.max(slot);
            self.arrival_ms.record(late.as_secs_f64() * 1_000.0);
        }
    }

    pub(super) fn end(&mut self, now: Timestamp, kind: FailureKind) {
        self.session = None;
        let about_replay = matches!(
            kind,
            FailureKind::ReplayTooOld { .. } | FailureKind::ReplayTooNew | FailureKind::ReplayUnsupported
        );
        // A server that wants to be asked less is there, and one that can't replay can do the rest.
        if about_replay || matches!(kind, FailureKind::RateLimited { .. }) {
            return;
        }
        self.failed = true;
        self.errors.record(1.0);
        self.breaker.on_failure(now);
    }

    pub(super) fn leave(&mut self) {
        self.session = None;
    }

    pub(super) fn on_check(&mut self, answered: bool) {
        self.errors.record(if answered { 0.0 } else { 1.0 });
    }

    /// Notes that its data was proven wrong, and puts it into quarantine if that happens too often and it `may` be.
    pub(super) fn on_offence(&mut self, now: Timestamp, quarantine: Duration, may: bool) {
        self.offences.retain(|&at| now.since(at) < OFFENCE_WINDOW);
        self.offences.push_back(now);
        let on_probation =
            self.quarantined_until > Timestamp(0) && now < self.quarantined_until.after(quarantine);
        let most = if on_probation { 1 } else { OFFENCES };
        if self.offences.len() > OFFENCES {
            self.offences.pop_front();
        }
        if may && self.offences.len() >= most {
            self.offences.clear();
            self.quarantined_until = now.after(quarantine);
        }
    }

    pub(super) fn assign(&mut self, now: Timestamp, order: Order) {
        self.order = order;
        self.since = now;
        self.failed = false;
        if let (Some(session), false) = (&mut self.session, order.duty == Duty::Active) {
            session.served = None;
        }
    }

    pub(super) fn note_well(&mut self, now: Timestamp, well: bool) {
        self.well_since = well.then(|| self.well_since.unwrap_or(now));
    }

    /// Whether it may be connected to; a rest that is over ends with one trial.
    pub(super) fn may_try(&mut self, now: Timestamp) -> bool {
        self.breaker.is_closed() || self.breaker.is_probing(now) || self.breaker.pass(now).is_ok()
    }

    pub(super) fn is_quarantined(&self, now: Timestamp) -> bool {
        self.quarantined_until > now
    }

    /// Whether its session shows slots.
    pub(super) fn shows_slots(&self) -> bool {
        self.session.is_some_and(|session| session.tip > 0) && self.breaker.is_closed()
    }

    /// Whether its session shows slots and nothing is held against it.
    pub(super) fn is_up(&self, now: Timestamp) -> bool {
        self.shows_slots() && !self.is_quarantined(now)
    }

    /// Whether it has had its order for less than `grace`, and has not failed since.
    pub(super) fn is_fresh(&self, now: Timestamp, grace: Duration) -> bool {
        !self.failed && now.since(self.since) < grace
    }

    /// How long it has been doing well.
    pub(super) fn well_for(&self, now: Timestamp) -> Option<Duration> {
        self.well_since.map(|since| now.since(since))
    }

    pub(super) fn tip(&self) -> Slot {
        self.session.map_or(0, |session| session.tip)
    }

    pub(super) fn is_serving(&self) -> bool {
        self.served() > 0
    }

    /// New slots shown since it serves in full.
    pub(super) fn served(&self) -> u32 {
        self.session.and_then(|session| session.served).unwrap_or(0)
    }

    /// How much later than others it shows slots, in milliseconds.
    pub(super) fn arrival_ms(&self) -> f64 {
        self.arrival_ms.get().unwrap_or_default()
    }

    /// The share of its sessions and checks that failed lately.
    pub(super) fn error_rate(&self) -> f64 {
        self.errors.get().unwrap_or_default()
    }

    pub(super) fn state(&self, now: Timestamp) -> EndpointState {
        let serves = self.session.is_some_and(|session| session.served.is_some());
        match (self.order.duty, self.session.is_some()) {
            (Duty::Rest, _) if self.is_quarantined(now) => EndpointState::Quarantined,
            (Duty::Rest, _) => EndpointState::Resting,
            (_, false) => EndpointState::Connecting,
            (Duty::Active, true) if serves => EndpointState::Active,
            _ => EndpointState::Standby,
        }
    }
}
