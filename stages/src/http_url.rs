//! Urls of HTTP servers, as options and variables give them.
//!
//! Parsers differ: that of browsers mends `https:/host` and takes spaces out, that of connections refuses both. A url is
//! good here if both read it, so that what is valid can be connected to.

use http::Uri;
use thiserror::Error;
use url::{ParseError, Url};

/// The schemes, as they have to be written.
const SCHEMES: [&str; 2] = ["http://", "https://"];

/// What is wrong with a url. Its texts hold nothing of the url.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UrlError {
    /// It does not begin with a scheme.
    #[error("does not begin with http:// or https://")]
    Scheme,
    /// A part of it can't be read.
    #[error("can't be read: {0}")]
    Part(ParseError),
    /// It holds what connections don't take.
    #[error("holds a character that urls can't, or has no host")]
    Unusable,
}

/// Reads `text` for a client that escapes what has to be.
///
/// # Errors
/// If it can't be connected to.
pub fn parse(text: &str) -> Result<Url, UrlError> {
    let has =
        |scheme: &&str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if !SCHEMES.iter().any(has) {
        return Err(UrlError::Scheme);
    }
    let url = Url::parse(text).map_err(UrlError::Part)?;
    if url.has_host() && is_uri(url.as_str()) { Ok(url) } else { Err(UrlError::Unusable) }
}

/// Reads `text` for a client that takes it as it is, as gRPC's does.
///
/// # Errors
/// If it can't be connected to.
pub fn parse_verbatim(text: &str) -> Result<Url, UrlError> {
    let url = parse(text)?;
    if is_uri(text) { Ok(url) } else { Err(UrlError::Unusable) }
}

fn is_uri(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
}

/// The first of `urls` that stands for the same server as one before it: its place, and the other's. What differs only in
/// case, in the default port or in the slash behind the host is the same; what is no url is like no other.
pub fn repeated<'u>(urls: impl IntoIterator<Item = &'u str>) -> Option<(usize, usize)> {
    let mut seen: Vec<Option<Url>> = Vec::new();
    for url in urls {
        let url = parse(url).ok();
        if let Some(first) = seen.iter().position(|other| url.is_some() && *other == url) {
            return Some((seen.len(), first));
        }
        seen.push(url);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_connected_to_are_read() {
        for text in [
            "http://127.0.0.1:10000",
            "https://host",
            "HTTPS://Host:443/x?k=v",
            "https://u:p@h/",
            "http://[::1]:1",
        ] {
            assert!(parse_verbatim(text).is_ok(), "{text}");
        }
        assert!(parse("https://host/a b").is_ok() && parse_verbatim("https://host/a b").is_err());
    }

    #[test]
    fn what_one_parser_mends_and_the_other_refuses_is_wrong() {
        for (text, expected) in [
            ("https:/host/?api-key=hunter2", UrlError::Scheme),
            ("https:host", UrlError::Scheme),
            ("host.example/?api-key=hunter2", UrlError::Scheme),
            (" https://host", UrlError::Scheme),
            ("ftp://host", UrlError::Scheme),
            ("", UrlError::Scheme),
            ("https://", UrlError::Part(ParseError::EmptyHost)),
            ("https://u:hunter2@host:99999", UrlError::Part(ParseError::InvalidPort)),
            ("https://u:hun", UrlError::Part(ParseError::InvalidPort)),
            ("https://host ", UrlError::Unusable),
            ("https://ho\tst", UrlError::Unusable),
        ] {
            assert_eq!(parse_verbatim(text), Err(expected), "{text}");
            assert!(!expected.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn the_same_server_is_found_however_it_is_written() {
        assert_eq!(repeated(["http://a", "http://b", "http://A:80/"]), Some((2, 0)));
        assert_eq!(repeated(["http://a", "https://a", "http://a:81", "http://a/x", "", ""]), None);
    }
}
