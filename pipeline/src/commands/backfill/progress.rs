//! How far a backfill has come: a bar on a terminal, else a line every few seconds.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::report;
use crate::runner::Watch;

/// Without a terminal a line each so often is enough.
const PRINT_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    bar: ProgressBar,
    slots: u64,
    began: Instant,
    printed: Instant,
}

impl Progress {
    pub(super) fn start(slots: u64) -> Self {
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new(slots) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} slots  {msg}") {
            bar.set_style(style);
        }
        Self { bar, slots, began: Instant::now(), printed: Instant::now() }
    }

    pub(super) fn show(&mut self, watch: &Watch) {
        let (slots, message) = self.describe(watch);
        self.bar.set_position(slots);
        self.bar.set_message(message.clone());
        if self.bar.is_hidden() && self.printed.elapsed() >= PRINT_INTERVAL {
            self.printed = Instant::now();
            report::print_error(&format!("{slots}/{} slots  {message}\n", self.slots));
        }
    }

    pub(super) fn finish(&self, watch: &Watch) {
        self.bar.finish_and_clear();
        let (slots, message) = self.describe(watch);
        report::print_error(&format!("{slots}/{} slots  {message}\n", self.slots));
    }

    fn describe(&self, watch: &Watch) -> (u64, String) {
        let slots = watch.sum("backfill_slots_total");
        let rate = slots as f64 / self.began.elapsed().as_secs_f64().max(f64::EPSILON);
        let left = self.slots.saturating_sub(slots);
        let message = format!(
            "{rate:.1} slots/s  {} left  {} at a time  {} refused, {} failed  holes {}",
            time_left(left, rate),
            watch.sum("rpc_concurrency_limit"),
            watch.sum("backfill_pushbacks_total"),
            watch.sum("backfill_failures_total").saturating_sub(watch.sum("backfill_pushbacks_total")),
            watch.sum("holes"),
        );
        (slots, message + &waits(watch.sum("rpc_wait_seconds")))
    }
}

/// Why nothing moves, while that is so.
fn waits(seconds: u64) -> String {
    let wait = sluice_config::units::format_duration(Duration::from_secs(seconds));
    match seconds {
        0 => String::new(),
        _ => format!("  waits {wait}: the RPC nodes asked for it, or failed repeatedly"),
    }
}

fn time_left(slots: u64, rate: f64) -> String {
    let seconds = slots as f64 / rate;
    match Duration::try_from_secs_f64(seconds.ceil()) {
        Ok(left) => sluice_config::units::format_duration(left),
        Err(_) => "unknown time".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_unknown_until_something_was_done() {
        assert_eq!(time_left(100, 50.0), "2s");
        assert_eq!(time_left(100, 0.0), "unknown time");
        assert_eq!(time_left(0, 10.0), "0s");
    }

    #[test]
    fn a_wait_is_told_while_there_is_one() {
        assert_eq!(waits(0), "");
        assert!(waits(20).starts_with("  waits 20s: the RPC nodes"), "{}", waits(20));
    }
}
