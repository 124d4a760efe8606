//! How the commands show what is wrong with a pipeline.

use std::io::{self, IsTerminal as _};

use sluice_config::diagnostic::Diagnostics;

/// The exit code of a wrong configuration: `EX_CONFIG` of sysexits.
pub const EXIT_CONFIG: u8 = 78;

/// Shows everything on stderr, with colours if that is a terminal and `NO_COLOR` is not set.
pub fn show(diagnostics: &Diagnostics) {
    if diagnostics.found().is_empty() {
        return;
    }
    let wants_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let text = diagnostics.render(io::stderr().is_terminal() && wants_colours);
    write_or_ignore(io::stderr().lock(), &format!("{text}\n\n"));
}

/// Writes `text` to stdout.
pub(crate) fn print(text: &str) {
    write_or_ignore(io::stdout().lock(), text);
}

/// Writes `text` to stderr.
pub(crate) fn print_error(text: &str) {
    write_or_ignore(io::stderr().lock(), text);
}

/// Whoever closed the pipe that this is written to (`head`, say) has read enough.
fn write_or_ignore(mut to: impl io::Write, text: &str) {
    if let Err(error) = to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        tracing::debug!(%error, "output not read to its end");
    }
}

/// "1 stage", "2 stages".
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
