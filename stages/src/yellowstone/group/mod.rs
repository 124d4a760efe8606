//! Which endpoints of a source are subscribed to in full, which stand by, and which rest. Pure: time comes in.
//!
//! ```text
//!                 failure of an active one, or it lags         its place is wanted back
//!   Standby ───────────────────────────────────────> Active ─────────────────────────────> Standby
//!      ^                                               │        once another one serves
//!      │ rest is over: one trial                       │
//!      └────────────────────── Rest <──────────────────┘ `error_threshold` failures in a row, or proven wrong
//! ```
//!
//! An endpoint that fails or lags is replaced at once, since another one may be tried at no risk. The way back is slow:
//! a preferred endpoint has to do well for `failback_after` first, so that one that comes and goes is not followed. An
//! endpoint that is replaced while it still serves goes on until its successor has shown new slots, so that the two
//! overlap. Rests and quarantines are never kept to by all endpoints at once: when nobody is left, everybody is tried. An
//! endpoint that comes out of quarantine is on probation for as long again: one offence puts it back.

mod member;
mod select;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use super::endpoints::{EndpointRole, Mode};
use super::failure::FailureKind;
use super::health::EndpointState;
use crate::recovery::pace::BreakerPolicy;
use crate::slot::{Slot, Timestamp};
use crate::tip::Tip;
use member::Member;

/// Slots whose first arrival is remembered: half a minute of mainnet; who is further behind is behind anyway.
const REMEMBERED_SLOTS: u64 = 64;

/// How far before the newest slot a promoted endpoint is asked to begin: servers replay whole slots only, and two leaders'
/// turns may be skipped.
const OVERLAP_SLOTS: u64 = 8;

/// New slots that a successor has to show before its predecessor stands by.
const SLOTS_OF_OVERLAP: u32 = 2;

/// The options that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupPolicy {
    /// How the endpoints work together.
    pub mode: Mode,
    /// Failures in a row after which one is left alone.
    pub error_threshold: u32,
    /// For how long.
    pub reset_timeout: Duration,
    /// How much later than another one may show a slot.
    pub max_lag: Duration,
    /// How long a preferred one has to do well before it takes over again.
    pub failback_after: Duration,
    /// How long one is not used after its data was proven wrong.
    pub quarantine: Duration,
}

/// What an endpoint is to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberPolicy {
    /// 1 goes before 2.
    pub priority: u32,
    /// What it is for.
    pub role: EndpointRole,
}

/// What an endpoint has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// Not to be connected.
    Rest,
    /// To be subscribed to slots.
    Standby,
    /// To be subscribed in full.
    Active,
}

/// What an endpoint has to do, and from where on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// What to do.
    pub duty: Duty,
    /// Where a promoted endpoint should begin, if it can replay that far.
    pub from_slot: Option<Slot>,
}

/// A change of duty, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The endpoint's place in the group.
    pub member: usize,
    /// What it does from now on.
    pub duty: Duty,
    /// Why.
    pub reason: &'static str,
}

/// The endpoints of one source.
#[derive(Debug)]
pub struct Group {
    policy: GroupPolicy,
    members: Vec<Member>,
    /// When each slot was shown first, by anyone.
    seen: BTreeMap<Slot, Timestamp>,
    tip: Tip,
    /// Whether quarantine is no bar, since nobody else serves.
    any_will_do: bool,
    /// The one that is preferred now, except in races.
    primary: Option<usize>,
    changes: Vec<Change>,
}

impl Group {
    /// A group whose first decision has been taken.
    pub fn new(policy: GroupPolicy, members: &[MemberPolicy], now: Timestamp) -> Self {
        let breaker = BreakerPolicy {
            failures_to_open: policy.error_threshold,
            min_rest: policy.reset_timeout,
            max_rest: policy.reset_timeout,
        };
        let member = |member: &MemberPolicy| Member::new(*member, breaker, now);
        let members = members.iter().map(member).collect();
        let mut group = Self {
            policy,
            members,
            seen: BTreeMap::new(),
            tip: Tip::default(),
            any_will_do: false,
            primary: None,
            changes: Vec::new(),
        };
        group.decide(now);
        group.changes.clear();
        group
    }

    /// A session of `member` was opened; it serves in full if `serving`.
    pub fn on_opened(&mut self, now: Timestamp, member: usize, serving: bool) {
        self.members[member].open(serving);
        self.decide(now);
    }

    /// What `member` sends from now on is the full subscription.
    pub fn on_serving(&mut self, now: Timestamp, member: usize) {
        self.members[member].serve();
        self.decide(now);
    }

    /// `member` shows `slot`, higher than any before in its session. Returns how much later than the first, if the slot can
    /// be believed.
    pub fn on_slot(&mut self, now: Timestamp, member: usize, slot: Slot) -> Option<Duration> {
        self.members[member].on_new_slot();
        if !self.tip.observe(slot) {
            return None;
        }
        let first = *self.seen.entry(slot).or_insert(now);
        let oldest = self.tip.slot().saturating_sub(REMEMBERED_SLOTS);
        self.seen = self.seen.split_off(&oldest);
        let late = now.since(first);
        self.members[member].on_tip(slot, late);
        self.decide(now);
        Some(late)
    }

    /// A session of `member`, or the try to have one, failed.
    pub fn on_ended(&mut self, now: Timestamp, member: usize, kind: FailureKind) {
        self.members[member].end(now, kind);
        self.decide(now);
    }

    /// A session of `member` was ended because it was told to rest.
    pub fn on_left(&mut self, now: Timestamp, member: usize) {
        self.members[member].leave();
        self.decide(now);
    }

    /// A health check of `member` was answered or not.
    pub fn on_check(&mut self, member: usize, answered: bool) {
        self.members[member].on_check(answered);
    }

    /// Data of `member` was proven wrong. Without another one that shows slots it is used all the same: what it sends is
    /// held against others' word where there is any.
    pub fn on_offence(&mut self, now: Timestamp, member: usize) {
        let others = (0..self.members.len()).filter(|&other| other != member);
        let has_other = others.into_iter().any(|other| self.members[other].is_up(now));
        self.members[member].on_offence(now, self.policy.quarantine, has_other);
        self.decide(now);
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Timestamp) {
        self.decide(now);
    }

    /// What each member has to do.
    pub fn orders(&self) -> impl Iterator<Item = Order> {
        self.members.iter().map(|member| member.order)
    }

    /// Changes since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// What `member` is doing.
    pub fn state(&self, now: Timestamp, member: usize) -> EndpointState {
        self.members[member].state(now)
    }

    /// The newest slot that is believed.
    pub fn tip(&self) -> Slot {
        self.tip.slot()
    }

    fn decide(&mut self, now: Timestamp) {
        for member in 0..self.members.len() {
            let well = self.is_usable(now, member);
            self.members[member].note_well(now, well);
        }
        let eligible = self.eligible(now);
        let wanted = match self.policy.mode {
            Mode::Race => self.race(now, &eligible),
            Mode::Failover | Mode::Hedged => self.lead(now, &eligible),
        };
        let served = |member: &Member| member.served() >= SLOTS_OF_OVERLAP;
        let succeeded = self.members.iter().zip(&wanted).any(|(member, wanted)| *wanted && served(member));
        let leaver = if succeeded { None } else { self.leaver(now, &wanted, &eligible) };
        for member in 0..self.members.len() {
            let stays = leaver == Some(member);
            let (duty, reason) = match (wanted[member], eligible[member]) {
                (true, _) => (Duty::Active, "takes part"),
                (false, true) if stays => (Duty::Active, "until its successor serves"),
                (false, true) => (Duty::Standby, "is not needed now"),
                (false, false) if self.members[member].is_quarantined(now) => {
                    (Duty::Rest, "its data was proven wrong")
                }
                (false, false) => (Duty::Rest, "failed too often"),
            };
            self.assign(now, member, duty, reason);
        }
    }

    /// The one that goes on serving until its successor does: of those that are well the one that has served most. One is
    /// enough, however often the choice has changed meanwhile.
    fn leaver(&self, now: Timestamp, wanted: &[bool], eligible: &[bool]) -> Option<usize> {
        let places = 0..self.members.len();
        let may = |&member: &usize| !wanted[member] && eligible[member] && self.members[member].is_serving();
        places.filter(may).max_by_key(|&member| (self.is_usable(now, member), self.members[member].served()))
    }

    fn assign(&mut self, now: Timestamp, member: usize, duty: Duty, reason: &'static str) {
        if self.members[member].order.duty == duty {
            return;
        }
        let shown = self.members[member].tip().min(self.tip.slot());
        let from_slot = (duty == Duty::Active && shown > OVERLAP_SLOTS).then(|| shown - OVERLAP_SLOTS);
        self.members[member].assign(now, Order { duty, from_slot });
        self.changes.push(Change { member, duty, reason });
    }
}
