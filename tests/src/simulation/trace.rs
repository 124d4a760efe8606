//! What happened, line by line: equal seeds give equal traces, and a failure shows its last lines.

use std::fmt::Write;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Trace {
    text: String,
}

impl Trace {
    pub(super) fn note(&mut self, now: Duration, what: std::fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let written = writeln!(self.text, "{:>12.6} {what}", now.as_secs_f64());
        debug_assert!(written.is_ok());
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}
