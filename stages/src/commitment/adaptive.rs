//! Which level suits the conditions: a pure rule, and the hysteresis that keeps it from flapping.
//!
//! Every measure has a limit, and its *strain* is how many times its limit it is:
//!
//! | measure | strain | at most |
//! | --- | --- | --- |
//! | latency (p90 from the wire to here) | ÷ `max_latency` | finalized |
//! | throughput (transactions but votes, a second) | ÷ `max_throughput` | confirmed |
//! | fork rate (slots seen and passed over) | ÷ `max_fork_rate` | finalized |
//! | skip rate (slots passed over, not seen) | ÷ `max_skip_rate` | finalized |
//! | slot time (silence since included) | ÷ `max_slot_time` | finalized |
//! | endpoint health (share that delivers) | `min_healthy_endpoints` ÷ it | finalized |
//!
//! A strain of at most 1 allows processed, one of at most `severe_factor` asks for confirmed, one above for finalized.
//! The measure that asks for most decides. Many transactions alone are no sign of instability, so they never ask for more
//! than confirmed. What is not known asks for nothing.
//!
//! ```text
//!               worse for fall_back_after: at once to what is asked for
//!        ┌──────────────────────────────────────────────┐
//!   processed ←────────── confirmed ←────────── finalized
//!               calm for return_after (doubled by each relapse, 8 times at most): one step
//! ```
//!
//! Calm means that the rule would allow the lower level even if all limits were `calm_share` of what they are.

mod thresholds;

use std::fmt;
use std::time::Duration;

pub use self::thresholds::Thresholds;
use crate::slot::{Commitment as Level, Timestamp};

/// Relapses lengthen the way back by at most this factor: eight minutes by default.
const MOST_PATIENCE: u32 = 8;

/// What passes the stage, measured. `None` is not known (yet).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Conditions {
    /// What nine of ten live slots took at most from the socket to here.
    pub latency: Option<Duration>,
    /// Transactions a second, votes aside.
    pub throughput: Option<f64>,
    /// The share of slots that were seen and passed over.
    pub fork_rate: Option<f64>,
    /// The share of slots that were passed over and never seen.
    pub skip_rate: Option<f64>,
    /// The mean time of a slot, the silence since the last one included.
    pub slot_time: Option<Duration>,
    /// The share of endpoints that deliver whole slots.
    pub healthy_endpoints: Option<f64>,
}

/// One of the measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// [`Conditions::latency`].
    Latency,
    /// [`Conditions::throughput`].
    Throughput,
    /// [`Conditions::fork_rate`].
    ForkRate,
    /// [`Conditions::skip_rate`].
    SkipRate,
    /// [`Conditions::slot_time`].
    SlotTime,
    /// [`Conditions::healthy_endpoints`].
    Endpoints,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Latency, Self::Throughput, Self::ForkRate, Self::SkipRate, Self::SlotTime, Self::Endpoints];

    /// The word in metrics, events and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::ForkRate => "fork_rate",
            Self::SkipRate => "skip_rate",
            Self::SlotTime => "slot_time",
            Self::Endpoints => "endpoints",
        }
    }

    /// How many times its limit the measure is; `None` if it is not known.
    pub fn strain(self, conditions: &Conditions, limits: &Thresholds) -> Option<f64> {
        let seconds = |time: Duration| time.as_secs_f64();
        let (value, limit) = match self {
            Self::Latency => (conditions.latency.map(seconds), seconds(limits.max_latency)),
            Self::Throughput => (conditions.throughput, f64::from(limits.max_throughput)),
            Self::ForkRate => (conditions.fork_rate, limits.max_fork_rate),
            Self::SkipRate => (conditions.skip_rate, limits.max_skip_rate),
            Self::SlotTime => (conditions.slot_time.map(seconds), seconds(limits.max_slot_time)),
            // Fewer are worse. None at all is infinitely bad.
            Self::Endpoints => {
                return conditions.healthy_endpoints.map(|share| limits.min_healthy_endpoints / share);
            }
        };
        value.map(|value| value / limit)
    }

    fn most(self) -> Level {
        match self {
            Self::Throughput => Level::Confirmed,
            _ => Level::Finalized,
        }
    }
}

/// What the conditions ask for, and which measure asks for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The lowest level that they allow.
    pub level: Level,
    /// The measure with the highest strain of those that ask for the level; none if all is well.
    pub measure: Option<(Measure, f64)>,
}

/// The lowest level that suits `conditions`, by the rule in the module's documentation. The same arguments give the same
/// answer; nothing is remembered.
pub fn optimal_commitment(conditions: &Conditions, thresholds: &Thresholds) -> Verdict {
    verdict(conditions, thresholds, 1.0)
}

/// The same with all limits multiplied by `share`.
fn verdict(conditions: &Conditions, thresholds: &Thresholds, share: f64) -> Verdict {
    let mut verdict = Verdict { level: Level::Processed, measure: None };
    for measure in Measure::ALL {
        let Some(strain) = measure.strain(conditions, thresholds).map(|strain| strain / share) else {
            continue;
        };
        let asked = match strain {
            strain if strain <= 1.0 => continue,
            strain if strain <= thresholds.severe_factor => Level::Confirmed,
            _ => Level::Finalized,
        };
        let asked = asked.min(measure.most());
        let is_worse = verdict.measure.is_none_or(|(_, worst)| strain > worst);
        if asked > verdict.level || (asked == verdict.level && is_worse) {
            verdict = Verdict { level: asked, measure: Some((measure, strain)) };
        }
    }
    verdict
}

/// A change of the level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Switch {
    /// The level until now.
    pub from: Level,
    /// The level from now on.
    pub to: Level,
    /// Why.
    pub reason: Reason,
}

/// Why the level changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// A measure was this many times its limit.
    Strained(Measure, f64),
    /// Conditions were calm for this long.
    Calm(Duration),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strained(measure, strain) if strain.is_infinite() => {
                write!(f, "{} at its worst", measure.name())
            }
            Self::Strained(measure, strain) => write!(f, "{} at {strain:.2} times its limit", measure.name()),
            Self::Calm(time) => write!(f, "calm for {} s", time.as_secs()),
        }
    }
}

/// Applies the rule over time: fast to the safer level, slowly back, never below a floor.
#[derive(Debug, Clone)]
pub struct Switcher {
    floor: Level,
    level: Level,
    /// Since when conditions have asked for more than the level.
    worse_since: Option<Timestamp>,
    /// Since when they have been calm enough for less.
    calm_since: Option<Timestamp>,
    returned_at: Option<Timestamp>,
    /// What `return_after` is multiplied by.
    patience: u32,
}

impl Switcher {
    /// A switcher that begins at its floor.
    pub fn new(floor: Level) -> Self {
        Self { floor, level: floor, worse_since: None, calm_since: None, returned_at: None, patience: 1 }
    }

    /// The level now.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Looks at the conditions; the change that follows from them, if one does.
    pub fn step(
        &mut self,
        now: Timestamp,
        conditions: &Conditions,
        thresholds: &Thresholds,
    ) -> Option<Switch> {
        let asked = optimal_commitment(conditions, thresholds);
        if asked.level > self.level {
            self.calm_since = None;
            return self.fall_back(now, asked, thresholds);
        }
        self.worse_since = None;
        let calm = verdict(conditions, thresholds, thresholds.calm_share);
        if self.level == self.floor || calm.level >= self.level {
            self.calm_since = None;
            return None;
        }
        self.go_back(now, thresholds)
    }

    fn fall_back(&mut self, now: Timestamp, asked: Verdict, thresholds: &Thresholds) -> Option<Switch> {
        let since = *self.worse_since.get_or_insert(now);
        let (measure, strain) = asked.measure?;
        if now.since(since) < thresholds.fall_back_after {
            return None;
        }
        let relapsed = |at: Timestamp| now.since(at) < thresholds.return_after.saturating_mul(self.patience);
        self.patience = match self.returned_at {
            Some(at) if relapsed(at) => self.patience.saturating_mul(2).min(MOST_PATIENCE),
            _ => 1,
        };
        Some(self.switch(asked.level, Reason::Strained(measure, strain)))
    }

    fn go_back(&mut self, now: Timestamp, thresholds: &Thresholds) -> Option<Switch> {
        let calm = now.since(*self.calm_since.get_or_insert(now));
        if calm < thresholds.return_after.saturating_mul(self.patience) {
            return None;
        }
        self.returned_at = Some(now);
        let lower = match self.level {
            Level::Finalized => Level::Confirmed,
            Level::Confirmed | Level::Processed => Level::Processed,
        };
        Some(self.switch(lower.max(self.floor), Reason::Calm(calm)))
    }

    fn switch(&mut self, to: Level, reason: Reason) -> Switch {
        (self.worse_since, self.calm_since) = (None, None);
        let from = std::mem::replace(&mut self.level, to);
        Switch { from, to, reason }
    }
}

#[cfg(test)]
mod tests;
