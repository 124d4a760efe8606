//! Alerts against the programs whose meaning they take over: rules against Prometheus' own evaluation, tick for tick in
//! virtual time, and notices against a running Alertmanager.
//!
//! `promtool` and `prometheus-alertmanager` (Debian's packages `prometheus` and `prometheus-alertmanager`) are looked for in
//! `PATH`, or where `SLUICE_TEST_PROMTOOL` and `SLUICE_TEST_ALERTMANAGER` say. Without them the tests say so and pass;
//! `.ci/run` brings them. `SLUICE_SEED=123` plays other series.

mod alertmanager;
mod notices;
mod rules;

/// The seed of what is drawn at random.
fn seed() -> u64 {
    std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// The program called `name`, unless `variable` names another.
fn program(variable: &str, name: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| name.to_owned())
}
