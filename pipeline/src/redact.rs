//! Urls without what they may hold of secrets.

use serde_json::Value;
use url::Url;

/// A part of a url's path that is at least as long as this may be a key: uuids have 32 digits, most keys more.
const KEY_CHARS: usize = 20;

/// What stands in the place of what is not shown.
pub(crate) const REDACTED: &str = "[redacted]";

/// `text`; if it is a url, without a user's name and password, long parts of its path, its fragment, and the values of its
/// query.
pub(crate) fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://").filter(|_| Url::parse(text).is_ok()) else {
        return text.to_owned();
    };
    let (rest, fragment) = match rest.split_once('#') {
        Some((rest, _)) => (rest, "#[redacted]"),
        None => (rest, ""),
    };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{REDACTED}@{host}"),
        None => authority.to_owned(),
    };
    let path = path.map_or_else(String::new, |path| format!("/{}", each(path, "/", part)));
    let query = query.map_or_else(String::new, |query| format!("?{}", each(query, "&", pair)));
    format!("{scheme}://{host}{path}{query}{fragment}")
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

fn each(text: &str, separator: &str, shown: fn(&str) -> String) -> String {
    text.split(separator).map(shown).collect::<Vec<_>>().join(separator)
}

fn part(part: &str) -> String {
    if part.chars().count() >= KEY_CHARS { REDACTED.to_owned() } else { part.to_owned() }
}

fn pair(pair: &str) -> String {
    format!("{}={REDACTED}", pair.split_once('=').map_or(pair, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_their_keys() {
        for (text, shown) in [
            ("http://host:1/", "http://host:1/"),
            ("https://u:p@host", "https://[redacted]@host"),
            ("https://host/v2/0123456789abcdef0123456789abcdef/", "https://host/v2/[redacted]/"),
            ("https://host/?api-key=k&x=1#f", "https://host/?api-key=[redacted]&x=[redacted]#[redacted]"),
            ("no url", "no url"),
        ] {
            assert_eq!(url(text), shown);
        }
    }
}
