//! How a group chooses among its members.

use std::time::Duration;

use super::{Duty, Group};
use crate::slot::Timestamp;
use crate::yellowstone::endpoints::{EndpointRole, Mode};

/// How long a new choice has to come up before the next best is tried beside it: three round trips around the globe.
const START_GRACE: Duration = Duration::from_secs(1);

/// Latencies this close are the same: what is left is noise.
const LATENCY_STEP_MS: f64 = 25.0;

/// How much faster another endpoint of the same priority has to be to be worth a change.
const LATENCY_MARGIN_MS: f64 = 50.0;

/// What members are sorted by: the lower the better.
type Rank = (bool, EndpointRole, u32, u64, u64, usize);

impl Group {
    /// Who may be connected to. If nobody may, those may who are only resting. While none of those serves who were never
    /// proven wrong, the others may, too: what they send is better than nothing, and is held against RPC.
    pub(super) fn eligible(&mut self, now: Timestamp) -> Vec<bool> {
        let honest: Vec<bool> = self.members.iter().map(|member| !member.is_quarantined(now)).collect();
        let may_all = !self.members.iter().any(|member| member.is_up(now));
        self.any_will_do = may_all;
        let may_try: Vec<bool> = self.members.iter_mut().map(|member| member.may_try(now)).collect();
        let eligible: Vec<bool> =
            honest.iter().zip(&may_try).map(|(&honest, &may_try)| may_try && (honest || may_all)).collect();
        match eligible.contains(&true) {
            true => eligible,
            false if may_all => vec![true; self.members.len()],
            false => honest,
        }
    }

    /// How long another endpoint has shown a slot that this one has not.
    fn behind(&self, now: Timestamp, member: usize) -> Duration {
        let next = self.members[member].tip() + 1;
        self.seen.range(next..).next().map_or(Duration::ZERO, |(_, &first)| now.since(first))
    }

    pub(super) fn is_usable(&self, now: Timestamp, member: usize) -> bool {
        self.is_up(now, member) && self.behind(now, member) < self.policy.max_lag
    }

    fn is_up(&self, now: Timestamp, member: usize) -> bool {
        let one = &self.members[member];
        one.is_up(now) || self.any_will_do && one.shows_slots()
    }

    /// Whether a member can't be waited for: it neither delivers nor has just begun to try.
    fn has_failed(&self, now: Timestamp, member: usize) -> bool {
        let fresh = self.members[member].is_fresh(now, START_GRACE);
        match self.policy.mode {
            // The hedge covers for one that lags.
            Mode::Hedged => {
                let lost = self.behind(now, member) >= self.policy.failback_after;
                (!self.is_up(now, member) && !fresh) || (self.is_up(now, member) && lost)
            }
            Mode::Race | Mode::Failover => !self.is_usable(now, member) && !fresh,
        }
    }

    fn is_settled(&self, now: Timestamp, member: usize) -> bool {
        self.members[member].well_for(now).is_some_and(|well| well >= self.policy.failback_after)
    }

    fn rank(&self, now: Timestamp, member: usize) -> Rank {
        let one = &self.members[member];
        let latency = (one.arrival_ms() / LATENCY_STEP_MS) as u64;
        let errors = (one.error_rate() * 100.0) as u64;
        (!self.is_usable(now, member), one.policy.role, one.policy.priority, latency, errors, member)
    }

    fn best(&self, now: Timestamp, among: impl Fn(usize) -> bool) -> Option<usize> {
        let members = (0..self.members.len()).filter(|&member| among(member));
        members.min_by_key(|&member| self.rank(now, member))
    }

    /// Failover and hedged: the one that leads, and the hedge.
    pub(super) fn lead(&mut self, now: Timestamp, eligible: &[bool]) -> Vec<bool> {
        let mut wanted = vec![false; self.members.len()];
        let best = self.best(now, |member| eligible[member]);
        let current = self.primary.filter(|&primary| eligible[primary]);
        let primary = match (current, best) {
            (Some(current), Some(best)) if self.has_failed(now, current) && self.is_usable(now, best) => {
                Some(best)
            }
            (Some(current), _) => self.preferred(now, current, eligible).or(Some(current)),
            (None, best) => best,
        };
        self.primary = primary;
        let Some(primary) = primary else { return wanted };
        wanted[primary] = true;
        if self.policy.mode == Mode::Hedged
            && let Some(hedge) = self.hedge(now, primary, eligible)
        {
            wanted[hedge] = true;
        }
        wanted
    }

    /// A settled member that goes before `current`.
    fn preferred(&self, now: Timestamp, current: usize, eligible: &[bool]) -> Option<usize> {
        let order = |member: usize| (self.members[member].policy.role, self.members[member].policy.priority);
        let faster = |member: usize| {
            let (own, other) = (self.members[current].arrival_ms(), self.members[member].arrival_ms());
            order(member) == order(current) && other + LATENCY_MARGIN_MS < own
        };
        let better = |member: usize| order(member) < order(current) || faster(member);
        self.best(now, |member| eligible[member] && self.is_settled(now, member) && better(member))
    }

    /// The second one while the first lags; it stays until the first has settled.
    fn hedge(&self, now: Timestamp, primary: usize, eligible: &[bool]) -> Option<usize> {
        let others = |member: usize| member != primary && eligible[member];
        let present = |member: usize| self.members[member].order.duty == Duty::Active;
        let stays = self.best(now, |member| others(member) && present(member) && self.is_usable(now, member));
        let lags = self.is_up(now, primary) && self.behind(now, primary) >= self.policy.max_lag;
        match stays {
            Some(hedge) if !self.is_settled(now, primary) => Some(hedge),
            _ if lags => self.best(now, |member| others(member) && self.is_usable(now, member)),
            _ => None,
        }
    }

    /// Race: all that are active by role, and as many of the others as these lack.
    pub(super) fn race(&mut self, now: Timestamp, eligible: &[bool]) -> Vec<bool> {
        let all = 0..self.members.len();
        let regular = |member: usize| self.members[member].policy.role == EndpointRole::Active;
        let mut wanted: Vec<bool> = all.clone().map(|member| regular(member) && eligible[member]).collect();
        let failed = |member: usize| !eligible[member] || self.has_failed(now, member);
        let missing = all.clone().filter(|&member| regular(member) && failed(member)).count();
        let settled =
            all.clone().filter(|&member| regular(member)).all(|member| self.is_settled(now, member));
        let present = |member: usize| self.members[member].order.duty == Duty::Active;
        let mut covers: Vec<usize> = all
            .filter(|&member| !regular(member) && eligible[member] && self.is_usable(now, member))
            .collect();
        let covering = covers.iter().filter(|&&member| present(member)).count();
        covers.sort_by_key(|&member| (!present(member), self.rank(now, member)));
        let places = if settled { missing } else { missing.max(covering) };
        covers.into_iter().take(places).for_each(|member| wanted[member] = true);
        if !wanted.contains(&true)
            && let Some(last) = self.best(now, |member| eligible[member])
        {
            wanted[last] = true;
        }
        wanted
    }
}
