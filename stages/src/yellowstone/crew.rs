//! What the tasks of one source share: the group that decides, the orders that it gives, and the source's metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::group::{Duty, Group, GroupPolicy, MemberPolicy, Order};
use crate::batch::{EndpointId, Scope};
use crate::component::Endpoint;
use crate::edge::Outbox;
use crate::frame::Kind;
use crate::node::NodeContext;
use crate::slot::{Slot, Timestamp};
use crate::stage::{Event, Metric};

/// What one endpoint's task has seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    pub(super) updates: [u64; Kind::ALL.len()],
    /// Of all messages but pings and pongs.
    pub(super) bytes: u64,
    pub(super) malformed: u64,
    pub(super) unknown: u64,
    pub(super) sessions: u64,
    pub(super) ends: BTreeMap<&'static str, u64>,
    pub(super) connected: bool,
    /// The highest slot of the session, or of the one before while this one has brought none; 0 if there was none.
    pub(super) tip: Slot,
}

impl Counters {
    /// Counts a message of this kind and size. A ping is none of the bytes: a server at rest sends them for ever.
    pub(super) fn take(&mut self, kind: Kind, bytes: u64) {
        self.updates[kind as usize] += 1;
        if !kind.is_keepalive() {
            self.bytes += bytes;
        }
    }

    /// Updates without pings and pongs.
    fn updates_of_the_chain(&self) -> u64 {
        let kinds = Kind::ALL.into_iter().filter(|kind| !kind.is_keepalive());
        kinds.map(|kind| self.updates[kind as usize]).sum()
    }

    /// The session's highest slot is `tip` now, 0 if there is no session or it has brought none.
    pub(super) fn note_tip(&mut self, tip: Slot) {
        if tip > 0 {
            self.tip = tip;
        }
    }
}

/// Shared by the tasks of a source.
pub(super) struct Crew {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) scope: Scope,
    pub(super) outbox: Outbox,
    pub(super) context: NodeContext,
    group: Mutex<Group>,
    orders: Vec<watch::Sender<Order>>,
    counters: Mutex<Vec<Counters>>,
}

impl Crew {
    pub(super) fn new(
        members: Vec<(Endpoint, MemberPolicy)>,
        policy: GroupPolicy,
        scope: Scope,
        outbox: Outbox,
        context: NodeContext,
    ) -> Self {
        let (endpoints, members): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let group = Group::new(policy, &members, context.clock.now());
        let orders = group.orders().map(watch::Sender::new).collect();
        let counters = Mutex::new(vec![Counters::default(); endpoints.len()]);
        Self { endpoints, scope, outbox, context, group: Mutex::new(group), orders, counters }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    /// The orders of the endpoint at `place`.
    pub(super) fn orders(&self, place: usize) -> watch::Receiver<Order> {
        self.orders[place].subscribe()
    }

    /// The place of an endpoint of this source.
    pub(super) fn place(&self, id: EndpointId) -> Option<usize> {
        self.endpoints.iter().position(|endpoint| endpoint.id == id)
    }

    /// Tells the group something and passes on what it decides.
    pub(super) fn tell<T>(&self, news: impl FnOnce(&mut Group, Timestamp) -> T) -> T {
        let now = self.now();
        let mut group = lock(&self.group);
        let answer = news(&mut group, now);
        for change in group.take_changes() {
            let duty = duty_name(change.duty);
            let endpoint = self.endpoints[change.member].id;
            self.context.events.report(Event::DutyChanged { endpoint, duty, reason: change.reason });
        }
        for (place, (order, sender)) in group.orders().zip(&self.orders).enumerate() {
            let changed = |known: &mut Order| std::mem::replace(known, order) != order;
            sender.send_if_modified(changed);
            self.endpoints[place].health.set_state(group.state(now, place));
            self.endpoints[place].health.set_best(group.tip());
        }
        answer
    }

    /// Shows what the task at `place` has counted, and everything else of the source.
    pub(super) fn show(&self, place: usize, counters: &Counters) {
        let mut all = lock(&self.counters);
        all[place].clone_from(counters);
        self.context.metrics.show(|show| {
            show_sums(&all, show);
            // A single endpoint has nothing to be compared with, but its round trip and errors count just as well.
            for (endpoint, counters) in self.endpoints.iter().zip(&*all) {
                show_own(endpoint.id, counters, show);
                show_health(endpoint, show);
            }
        });
    }
}

fn show_sums(all: &[Counters], show: &mut dyn FnMut(Metric)) {
    let sum = |one: fn(&Counters) -> u64| all.iter().map(one).sum::<u64>();
    for kind in Kind::ALL {
        let count = all.iter().map(|counters| counters.updates[kind as usize]).sum::<u64>();
        show(Metric::new("source_updates_total", count).with("kind", kind.name()));
    }
    show(Metric::new("source_bytes_total", sum(|one| one.bytes)));
    show(Metric::new("source_malformed_total", sum(|one| one.malformed)));
    show(Metric::new("source_unknown_total", sum(|one| one.unknown)));
    show(Metric::new("source_sessions_total", sum(|one| one.sessions)));
    let mut ends: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (&reason, &count) in all.iter().flat_map(|one| &one.ends) {
        *ends.entry(reason).or_default() += count;
    }
    for (reason, count) in ends {
        show(Metric::new("source_disconnects_total", count).with("reason", reason));
    }
    show(Metric::new("source_connected", sum(|one| u64::from(one.connected))));
    let tip = all.iter().map(|one| one.tip).max().unwrap_or_default();
    Metric::slot("source_tip_slot", tip).into_iter().for_each(show);
}

/// What one endpoint's task has counted: the same as the source's sums, for those who ask which endpoint it is.
fn show_own(endpoint: EndpointId, counters: &Counters, show: &mut dyn FnMut(Metric)) {
    let mut own = |name, value| show(Metric::new(name, value).with("endpoint", endpoint));
    own("endpoint_connected", u64::from(counters.connected));
    own("endpoint_updates_total", counters.updates_of_the_chain());
    own("endpoint_bytes_total", counters.bytes);
    own("endpoint_malformed_total", counters.malformed + counters.unknown);
    own("endpoint_sessions_total", counters.sessions);
    let tip = Metric::slot("endpoint_tip_slot", counters.tip);
    tip.map(|tip| tip.with("endpoint", endpoint)).into_iter().for_each(show);
}

fn show_health(endpoint: &Endpoint, show: &mut dyn FnMut(Metric)) {
    use super::health::EndpointState as State;
    let health = endpoint.health.snapshot();
    let mut gauge =
        |name, value: f64| show(Metric { value, ..Metric::new(name, 0).with("endpoint", endpoint.id) });
    let flag = |state| f64::from(u8::from(health.state == state));
    gauge("endpoint_active", flag(State::Active));
    gauge("endpoint_standby", flag(State::Standby));
    gauge("endpoint_resting", flag(State::Resting));
    gauge("endpoint_quarantined", flag(State::Quarantined));
    gauge("endpoint_lag_slots", health.lag_slots as f64);
    gauge("endpoint_error_rate", health.error_rate);
    gauge("endpoint_errors_total", health.counts.errors_total as f64);
    gauge("endpoint_rate_limited_total", health.counts.rate_limited_total as f64);
    gauge("endpoint_promotions_total", health.counts.promotions_total as f64);
    if let Some(round_trip) = health.round_trip_ms {
        gauge("endpoint_round_trip_seconds", round_trip.mean / 1_000.0);
    }
    if let Some(arrival) = health.first_arrival_ms {
        gauge("endpoint_first_arrival_seconds", arrival.mean / 1_000.0);
    }
}

fn duty_name(duty: Duty) -> &'static str {
    match duty {
        Duty::Rest => "rest",
        Duty::Standby => "standby",
        Duty::Active => "active",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(counters: &Counters) -> BTreeMap<&'static str, f64> {
        let mut shown = BTreeMap::new();
        show_own(0, counters, &mut |metric| {
            shown.insert(metric.name, metric.value);
        });
        shown
    }

    #[test]
    fn a_server_at_rest_that_answers_pings_sends_nothing() {
        let mut counters = Counters::default();
        counters.take(Kind::Transaction, 500);
        let before = shown(&counters);
        assert_eq!((before["endpoint_updates_total"], before["endpoint_bytes_total"]), (1.0, 500.0));
        for kind in [Kind::Ping, Kind::Pong].repeat(100) {
            counters.take(kind, 20);
        }
        assert_eq!(shown(&counters), before);
        assert_eq!(counters.updates[Kind::Pong as usize], 100, "the source's own metric tells kinds apart");
    }

    #[test]
    fn a_tip_is_shown_once_there_is_one_and_outlives_its_session() {
        let mut counters = Counters::default();
        counters.note_tip(0);
        assert!(!shown(&counters).contains_key("endpoint_tip_slot"));
        let mut names = Vec::new();
        show_sums(std::slice::from_ref(&counters), &mut |metric| names.push(metric.name));
        assert!(!names.contains(&"source_tip_slot"));
        for (tip, expected) in [(70, 70.0), (0, 70.0), (65, 65.0)] {
            counters.note_tip(tip);
            assert_eq!(shown(&counters)["endpoint_tip_slot"], expected);
        }
    }
}
