//! What a variable may be, and the TOML value that it stands for.

use std::fmt;

use sluice_stages::http_url;

use super::endpoints;
use super::text::string;
use crate::redact;

/// What a variable may be.
pub(super) enum Form {
    /// One of several words, each with the TOML value that it stands for.
    Words(&'static [(&'static str, &'static str)]),
    /// A whole number of something.
    Whole {
        least: u64,
        most: u64,
        /// What it counts, e.g. "milliseconds".
        unit: &'static str,
        /// What stands behind the number in the TOML value; nothing if it is a plain number there.
        suffix: &'static str,
    },
    /// An http or https url whose path may be a secret.
    SecretUrl,
    /// A list of endpoints.
    Endpoints,
}

/// Yes or no.
pub(super) const BOOLEAN: Form =
    Form::Words(&[("true", "true"), ("false", "false"), ("1", "true"), ("0", "false")]);

impl Form {
    /// The TOML value that `text` stands for, or what is wrong with it.
    pub(super) fn read(&self, text: &str) -> Result<String, String> {
        let expected = || format!("expected {self}");
        match self {
            Self::Words(words) => {
                let word = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
                word.map(|(_, toml)| (*toml).to_owned()).ok_or_else(expected)
            }
            Self::Whole { least, most, suffix, .. } => {
                let number = text.parse::<u64>().ok().filter(|number| (least..=most).contains(&number));
                let number = number.ok_or_else(expected)?;
                Ok(if suffix.is_empty() { number.to_string() } else { format!("\"{number}{suffix}\"") })
            }
            Self::SecretUrl => http_url::parse(text).map(|_| string(text)).map_err(|_| expected()),
            Self::Endpoints => endpoints::read(text),
        }
    }

    /// `text` as it may be shown.
    pub(super) fn shown(&self, text: &str) -> String {
        match self {
            Self::Words(_) | Self::Whole { .. } => text.to_owned(),
            Self::SecretUrl => redact::server(text),
            Self::Endpoints => endpoints::shown(text),
        }
    }

    /// Whether values may hold secrets.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Self::SecretUrl | Self::Endpoints)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
                write!(f, "one of {}", words.join(", "))
            }
            Self::Whole { least, most, unit, .. } => {
                write!(f, "a whole number of {unit} from {least} to {most}")
            }
            Self::SecretUrl => f.write_str("an http or https url"),
            Self::Endpoints => f.write_str(
                "http or https urls with commas between, or a JSON list of objects with `url` and perhaps `region`, \
                 `priority`, `token`, `role`",
            ),
        }
    }
}
