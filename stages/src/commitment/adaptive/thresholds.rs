//! When conditions are bad, and how fast to act on it: the options of an adaptive commitment.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::component::Problem;

/// When conditions are bad, and how fast to act on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// The longest that nine of ten slots may take from the socket to here. Default 500ms: a slot and a quarter.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub max_latency: Duration,
    /// The most transactions a second, votes aside. Default 1000: mainnet's usual rate.
    pub max_throughput: u32,
    /// The largest share of slots that were seen and then orphaned. Default 0.05: mainnet has under 0.01.
    pub max_fork_rate: f64,
    /// The largest share of slots that were skipped. Default 0.15: mainnet has 0.02 to 0.05.
    pub max_skip_rate: f64,
    /// The longest time that a slot may take, on average. Default 600ms: one and a half times the nominal time.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub max_slot_time: Duration,
    /// The smallest share of endpoints that deliver whole slots. Default 0.5.
    pub min_healthy_endpoints: f64,
    /// How many times its limit a measure must be to ask for finalized instead of confirmed. Default 2.
    pub severe_factor: f64,
    /// The share of each limit that a measure must stay below on the way back. Default 0.8.
    pub calm_share: f64,
    /// How long conditions must be bad before the level rises. Default 1s: measures are over many slots already.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub fall_back_after: Duration,
    /// How long conditions must be calm before the level goes back by one step. Default 1m.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub return_after: Duration,
    /// Slots that are measured together. Default 64: half a minute.
    pub window_slots: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_latency: Duration::from_millis(500),
            max_throughput: 1_000,
            max_fork_rate: 0.05,
            max_skip_rate: 0.15,
            max_slot_time: Duration::from_millis(600),
            min_healthy_endpoints: 0.5,
            severe_factor: 2.0,
            calm_share: 0.8,
            fall_back_after: Duration::from_secs(1),
            return_after: Duration::from_secs(60),
            window_slots: 64,
        }
    }
}

/// The fewest and the most slots that can be measured together: a rate of fewer says nothing, and a window of an hour is
/// no longer about now.
const WINDOW_SLOTS: std::ops::RangeInclusive<usize> = 16..=9_000;

impl Thresholds {
    /// What can't be, of the options called `prefix`.
    pub(in crate::commitment) fn problems(&self, prefix: &str) -> Vec<Problem> {
        let share = |value: f64| value > 0.0 && value <= 1.0;
        let checks = [
            ("max_latency", !self.max_latency.is_zero(), "no slot takes no time", "give 1ms or more"),
            (
                "max_throughput",
                self.max_throughput > 0,
                "every transaction would be one too many",
                "give 1 or more",
            ),
            ("max_fork_rate", share(self.max_fork_rate), "it is a share", "give a number above 0, 1 at most"),
            ("max_skip_rate", share(self.max_skip_rate), "it is a share", "give a number above 0, 1 at most"),
            ("max_slot_time", !self.max_slot_time.is_zero(), "no slot takes no time", "give 1ms or more"),
            (
                "min_healthy_endpoints",
                share(self.min_healthy_endpoints),
                "it is a share",
                "give a number above 0, 1 at most",
            ),
            (
                "severe_factor",
                self.severe_factor >= 1.0 && self.severe_factor.is_finite(),
                "finalized would be asked for before confirmed",
                "give 1 or more",
            ),
            ("calm_share", share(self.calm_share), "it is a share", "give a number above 0, 1 at most"),
            (
                "window_slots",
                WINDOW_SLOTS.contains(&self.window_slots),
                "rates over so many slots say nothing about now",
                "give 16 to 9000",
            ),
        ];
        let wrong = checks.into_iter().filter(|(_, is_right, ..)| !is_right);
        wrong
            .map(|(option, _, message, help)| Problem {
                option: format!("{prefix}.{option}"),
                message: message.to_owned(),
                help: help.to_owned(),
            })
            .collect()
    }
}
