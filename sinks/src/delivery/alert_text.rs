//! Notices as people read them: a line for each alert.

use sluice_stages::alert::{Alert, Notice, Severity};

use super::alert_record::{MAX_ALERTS, state_name};
use super::time_text::rfc3339;

/// A line for each alert.
pub(crate) fn text_of(notice: &Notice, colors: bool) -> String {
    let at = rfc3339(notice.at);
    let mut text: String =
        notice.alerts.iter().take(MAX_ALERTS).map(|alert| line_of(&at, alert, colors)).collect();
    let more = notice.alerts.len().saturating_sub(MAX_ALERTS);
    if more > 0 {
        text.push_str(&format!("{at} … and {more} more alerts of {}\n", printable(&notice.group_key)));
    }
    text
}

fn line_of(at: &str, alert: &Alert, colors: bool) -> String {
    let severity = painted(alert.severity, colors);
    let labels: Vec<_> = alert.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let line = format!(
        "{state} {rule}: {message} [{metric} {value}, threshold {threshold}] {{{labels}}}",
        state = state_name(alert.state),
        rule = alert.rule,
        message = alert.message,
        metric = alert.metric,
        value = alert.value,
        threshold = alert.threshold,
        labels = labels.join(","),
    );
    format!("{at} {severity} {}\n", printable(&line))
}

/// The severity in its colour: what is worse is louder.
fn painted(severity: Severity, colors: bool) -> String {
    let word = severity.name().to_uppercase();
    let code = match severity {
        Severity::Info => "36",
        Severity::Warning => "33",
        Severity::Error => "31",
        Severity::Critical => "1;37;41",
    };
    if colors { format!("\x1b[{code}m{word:<8}\x1b[0m") } else { format!("{word:<8}") }
}

/// One line, without what a terminal would obey: names of endpoints and the like come from elsewhere.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::testing::alert;

    #[test]
    fn a_terminal_is_told_nothing_that_it_would_obey() {
        let mut alert = alert("x", Severity::Info);
        alert.message = "a\x1b[2J\nb".into();
        let line = line_of("now", &alert, false);
        assert_eq!(line.matches(|char: char| char.is_control()).collect::<Vec<_>>(), ["\n"]);
        assert!(line_of("now", &alert, true).starts_with("now \x1b[36mINFO    \x1b[0m "));
    }
}
