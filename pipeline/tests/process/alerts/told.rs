//! What a channel has told, read from what it looks like there.

use std::fmt;

use serde_json::Value;

/// One alert in one notice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    rule: String,
    state: String,
    severity: String,
    /// The labels as `name="value"`, with commas between.
    labels: String,
}

impl Told {
    /// The alerts of a notice in Sluice's own JSON, as files hold it and webhooks are sent it.
    pub(super) fn from_json(text: &str) -> Vec<Self> {
        let record: Value = serde_json::from_str(text).expect("a record is JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let alert = |alert: &Value| {
            let labels = alert["labels"].as_object().expect("labels").iter();
            let labels: Vec<_> = labels.map(|(name, value)| format!("{name}={value}")).collect();
            Self {
                rule: text(&alert["rule"]),
                state: text(&alert["state"]),
                severity: text(&alert["severity"]),
                labels: labels.join(","),
            }
        };
        record["alerts"].as_array().expect("alerts").iter().map(alert).collect()
    }

    /// The alert of a line for people, as consoles and mails have it: `TIME SEVERITY state rule: … {labels}`.
    pub(super) fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (_, severity) = (words.next()?, words.next()?);
        let (state, rule) = (words.next()?, words.next()?.strip_suffix(':')?);
        let known = ["INFO", "WARNING", "ERROR", "CRITICAL"].contains(&severity);
        let (_, labels) = line.rsplit_once('{')?;
        (known && ["firing", "resolved"].contains(&state)).then(|| Self {
            rule: rule.to_owned(),
            state: state.to_owned(),
            severity: severity.to_lowercase(),
            labels: labels.trim_end_matches('}').to_owned(),
        })
    }

    /// The alerts of a mail: those of its text part.
    pub(super) fn from_mail(mail: &str) -> Vec<Self> {
        // Quoted-printable: long lines are broken behind a `=`, and a `=` is written by its number.
        let unfolded = mail.replace("=\r\n", "").replace("=\n", "").replace("=3D", "=");
        unfolded.lines().filter_map(Self::from_line).collect()
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, state, severity, labels } = self;
        write!(f, "{severity} {rule} {state} {{{labels}}}")
    }
}
