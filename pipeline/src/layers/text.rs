//! Texts from outside, on their way into TOML.

use url::Url;

/// Whether `text` is a url that a client can connect to.
pub(super) fn is_http(text: &str) -> bool {
    let url = Url::parse(text).ok();
    url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
}

/// `text` as a TOML string.
pub(super) fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
