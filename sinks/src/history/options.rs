//! The options of `type = "history"`.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_config::Secret;
use sluice_stages::component::Problem;

/// Where the history is kept if nothing is said.
const DEFAULT_PATH: &str = "history.db";

/// Keeps what was measured and what was alerted, in a SQLite file or in PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryOptions {
    /// The SQLite file. Made if it is not there. Default `history.db` in the working directory.
    pub path: Option<PathBuf>,
    /// A PostgreSQL database instead, e.g. `postgres://user:password@host/database`. Several pipelines with names of
    /// their own can share one.
    pub url: Option<Secret>,
    /// Time between two writes; a crash loses no more than that. Default 5s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub write_interval: Duration,
    /// How long values of single seconds are kept. Default 1h.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub keep_seconds: Duration,
    /// How long values of minutes are kept. Default 14d.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub keep_minutes: Duration,
    /// How long values of hours are kept, and changes of alerts. Default 400d: a year and the same month before.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub keep_hours: Duration,
    /// Of what is measured over several windows, those that are kept: the history itself shows longer ones. Default
    /// `["10s"]`.
    pub windows: Vec<String>,
    /// Most series; readings of further ones are counted and left out. Default 5000, ten times what a pipeline with
    /// a dozen endpoints has.
    pub max_series: usize,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3_600);
        Self {
            path: None,
            url: None,
            write_interval: Duration::from_secs(5),
            keep_seconds: HOUR,
            keep_minutes: 14 * 24 * HOUR,
            keep_hours: 400 * 24 * HOUR,
            windows: vec!["10s".to_owned()],
            max_series: 5_000,
        }
    }
}

impl HistoryOptions {
    /// What can't work.
    pub(super) fn found(&self) -> Vec<Problem> {
        let problem = |option: &str, message: &str, help: &str| Problem {
            option: option.to_owned(),
            message: message.to_owned(),
            help: help.to_owned(),
        };
        let mut problems = Vec::new();
        if self.path.is_some() && self.url.is_some() {
            problems.push(problem("url", "there is a `path`, too", "give one of the two"));
        }
        let is_postgres = |url: &Secret| {
            ["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme))
        };
        if self.url.as_ref().is_some_and(|url| !is_postgres(url)) {
            problems.push(problem(
                "url",
                "this is not the URL of a PostgreSQL database",
                "begin it with `postgres://`, or give a `path` for SQLite",
            ));
        }
        if self.write_interval < Duration::from_millis(100) {
            problems.push(problem("write_interval", "this is too often", "give 100ms or more"));
        }
        let keeps = [("keep_seconds", 60), ("keep_minutes", 3_600), ("keep_hours", 3_600)];
        for ((option, least), kept) in keeps.into_iter().zip(self.keep()) {
            if kept < Duration::from_secs(least) {
                let help = if least == 60 { "give 1m or more" } else { "give 1h or more" };
                problems.push(problem(option, "there would be nothing to see", help));
            }
        }
        if self.max_series == 0 {
            problems.push(problem("max_series", "nothing would be kept", "give 1 or more"));
        }
        problems
    }

    /// The SQLite file, if it is one.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.url.is_none().then(|| self.path.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH)))
    }

    /// How long rows of each resolution are kept.
    pub(super) fn keep(&self) -> [Duration; 3] {
        [self.keep_seconds, self.keep_minutes, self.keep_hours]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_can_not_work_are_named() {
        let options = HistoryOptions {
            path: Some("a.db".into()),
            url: Some(Secret::new("mysql://u:p@h/d")),
            write_interval: Duration::ZERO,
            keep_seconds: Duration::ZERO,
            max_series: 0,
            ..HistoryOptions::default()
        };
        let named: Vec<_> = options.found().into_iter().map(|problem| problem.option).collect();
        assert_eq!(named, ["url", "url", "write_interval", "keep_seconds", "max_series"]);
        assert!(HistoryOptions::default().found().is_empty());
    }
}
