//! Options that several sinks share.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_stages::component::Problem;

use super::breaker::Breaker;
use super::retry::Backoff;

/// How a receiver that does not take a message is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryOptions {
    /// How long one try may take, from the first byte sent to the last one read. Default 15s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// About the first wait between tries; doubled with each, with jitter. Default 500ms.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub min_backoff: Duration,
    /// The longest wait between tries, unless the receiver asks for more (`Retry-After`, up to an hour). Default 1m.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub max_backoff: Duration,
    /// Failures in a row after which nothing is tried for `reset_timeout`. Default 5.
    pub error_threshold: u32,
    /// How long nothing is tried then. Default 30s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub reset_timeout: Duration,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(15),
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(60),
            error_threshold: 5,
            reset_timeout: Duration::from_secs(30),
        }
    }
}

impl RetryOptions {
    /// How tries are spaced.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff { min: self.min_backoff, max: self.max_backoff }
    }

    /// A breaker that is closed.
    pub(crate) fn breaker(&self) -> Breaker {
        Breaker::new(self.error_threshold, self.reset_timeout)
    }

    /// What types can't rule out.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (option, duration) in [
            ("retry.timeout", self.timeout),
            ("retry.min_backoff", self.min_backoff),
            ("retry.reset_timeout", self.reset_timeout),
        ] {
            if duration.is_zero() {
                problems.push(problem(option, "it is zero", "give it a time, such as \"500ms\" or \"15s\""));
            }
        }
        if self.max_backoff < self.min_backoff {
            let help = "make it at least as long as `min_backoff`";
            problems.push(problem("retry.max_backoff", "it is shorter than the first wait", help));
        }
        if self.error_threshold == 0 {
            let help = "use 1 or more; 5 is the default";
            problems.push(problem("retry.error_threshold", "nothing would ever be tried", help));
        }
        problems
    }
}

/// A problem, in fewer words.
pub(crate) fn problem(option: &str, message: impl Into<String>, help: &str) -> Problem {
    Problem { option: option.to_owned(), message: message.into(), help: help.to_owned() }
}

/// The problem of a number that has to be positive, if it is not.
pub(crate) fn zero(option: &str, is_zero: bool) -> Option<Problem> {
    is_zero.then(|| {
        problem(option, "it is 0, so nothing could ever be delivered", "leave it out for the default")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fine_and_what_is_not_is_named() {
        assert_eq!(RetryOptions::default().problems(), []);
        let options = RetryOptions {
            timeout: Duration::ZERO,
            min_backoff: Duration::from_secs(2),
            max_backoff: Duration::from_secs(1),
            error_threshold: 0,
            reset_timeout: Duration::ZERO,
        };
        let named: Vec<_> = options.problems().into_iter().map(|problem| problem.option).collect();
        let expected = ["retry.timeout", "retry.reset_timeout", "retry.max_backoff", "retry.error_threshold"];
        assert_eq!(named, expected);
    }
}
