//! Urls without what they may hold of secrets: scheme, host and port are shown, all else is not.
//!
//! Providers put keys of any length into paths, queries and names of users. What can't be taken apart is not shown at all.

use serde_json::Value;
use url::Url;

/// What stands in the place of what is not shown.
pub(crate) const REDACTED: &str = "[redacted]";

/// Any text; the urls in it are shown as by [`server`]. What stands before and behind them stays.
pub(crate) fn url(text: &str) -> String {
    text.split_inclusive(char::is_whitespace).map(word).collect()
}

/// The same with every text in it. What is a secret as a whole ([`sluice_config::Secret`]) is left out before.
pub(crate) fn value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(url(&text)),
        Value::Array(list) => Value::Array(list.into_iter().map(self::value).collect()),
        Value::Object(table) => {
            Value::Object(table.into_iter().map(|(key, inner)| (key, self::value(inner))).collect())
        }
        other => other,
    }
}

fn word(word: &str) -> String {
    let end = word.trim_end();
    let space = &word[end.len()..];
    let is_meant =
        |scheme: &str| end.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    match end.find("://") {
        Some(colon) => {
            // A url may stand in quotes or behind other signs.
            let before = end[..colon].trim_end_matches(is_scheme_char);
            format!("{before}{}{space}", server(&end[before.len()..]))
        }
        None if is_meant("http:") || is_meant("https:") => format!("{REDACTED}{space}"),
        None => word.to_owned(),
    }
}

/// What is meant to be the url of a server: its scheme, host and port, as far as it is one.
pub(crate) fn server(text: &str) -> String {
    let text = text.trim();
    let known = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
    let Some((scheme, rest)) = known else {
        return if text.is_empty() { String::new() } else { REDACTED.to_owned() };
    };
    let (authority, behind) = rest.split_at(rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => (format!("{REDACTED}@"), host),
        None => (String::new(), authority),
    };
    // With an `@` behind it, what looks like the host may be the begin of a password with a slash in it.
    if behind.contains('@') || !is_host(scheme, host) {
        return format!("{scheme}://{REDACTED}");
    }
    let behind = if matches!(behind, "" | "/") { behind.to_owned() } else { format!("/{REDACTED}") };
    format!("{scheme}://{user}{host}{behind}")
}

fn is_scheme_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+-.".contains(c)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_scheme_char)
}

/// Whether `text` is a host, perhaps with a port.
fn is_host(scheme: &str, text: &str) -> bool {
    Url::parse(&format!("{scheme}://{text}")).is_ok_and(|url| url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_server_scheme_host_and_port_are_shown() {
        for (text, shown) in [
            ("http://host:1/", "http://host:1/"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("https://u:p@host", "https://[redacted]@host"),
            ("https://host/v2/short/", "https://host/[redacted]"),
            ("https://host/?api-key=k&x=1#f", "https://host/[redacted]"),
            ("https://host?dG9rZW4=", "https://host/[redacted]"),
            ("", ""),
        ] {
            assert_eq!(server(text), shown);
        }
    }

    #[test]
    fn what_can_not_be_taken_apart_is_not_shown() {
        for (text, shown) in [
            ("host.example/?api-key=hunter2", "[redacted]"),
            ("hunter2", "[redacted]"),
            ("https:/host/?api-key=hunter2", "[redacted]"),
            ("https://user:hunter2@host:99999", "https://[redacted]"),
            ("https://u:hunter2", "https://[redacted]"),
            ("https://u:12/hunter2@host", "https://[redacted]"),
            ("https://u:12\\hunter2@host", "https://[redacted]"),
            ("https://", "https://[redacted]"),
            ("hunter2 https://host", "[redacted]"),
        ] {
            assert_eq!(server(text), shown);
        }
    }

    #[test]
    fn in_any_text_only_urls_are_changed() {
        for (text, shown) in [
            ("no url", "no url"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            (" see https://wiki/run/lag\nsoon ", " see https://wiki/[redacted]\nsoon "),
            (r#"{"to":"https://h/key"}"#, r#"{"to":"https://h/[redacted]"#),
            ("postgres://u:hunter2@db/x", "postgres://[redacted]@db/[redacted]"),
            ("HTTPS:/host/hunter2", "[redacted]"),
        ] {
            assert_eq!(url(text), shown);
        }
    }
}
