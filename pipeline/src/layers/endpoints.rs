//! `GRPC_ENDPOINTS`: the endpoints of a pipeline from one variable, whatever the file lists.

use serde::Deserialize;
use serde_json::Value;
use sluice_config::diagnostic::{Span, quote};
use sluice_config::document::{Document, NodeTable, Section};
use sluice_config::layers::{Assignment, Place, Precedence, value_at};
use sluice_stages::http_url;

use super::text::string;
use crate::redact::{self, REDACTED};

/// The kind of source that has endpoints.
pub(super) const KIND: &str = "yellowstone";

/// Options of a source that belong to the endpoint that it had: a token must not be sent to another provider.
const OF_ONE_ENDPOINT: [&str; 6] = ["url", "endpoints", "x_token", "headers", "region", "tls"];

/// An element of the JSON list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    url: String,
    name: Option<String>,
    region: Option<String>,
    priority: Option<u32>,
    token: Option<String>,
    role: Option<Role>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Active,
    Standby,
}

impl Endpoint {
    fn at(url: &str) -> Self {
        Self { url: url.to_owned(), name: None, region: None, priority: None, token: None, role: None }
    }

    fn toml(&self) -> String {
        let texts = [("name", &self.name), ("region", &self.region), ("token", &self.token)];
        let mut parts = vec![format!("url = {}", string(&self.url))];
        parts.extend(
            texts.iter().filter_map(|(key, text)| Some(format!("{key} = {}", string(text.as_ref()?)))),
        );
        parts.extend(self.priority.map(|priority| format!("priority = {priority}")));
        parts.extend(self.role.map(|role| match role {
            Role::Active => "role = \"active\"".to_owned(),
            Role::Standby => "role = \"standby\"".to_owned(),
        }));
        format!("{{ {} }}", parts.join(", "))
    }
}

fn is_json(text: &str) -> bool {
    text.starts_with(['[', '{'])
}

/// The list as TOML, or what is wrong with it, without secrets.
pub(super) fn read(text: &str) -> Result<String, String> {
    let endpoints = if is_json(text) {
        read_json(text)?
    } else {
        text.split(',').map(str::trim).map(Endpoint::at).collect()
    };
    if endpoints.is_empty() {
        return Err("expected one endpoint at least".to_owned());
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        if let Err(error) = http_url::parse_verbatim(&endpoint.url) {
            let shown = quote(&redact::server(&endpoint.url));
            return Err(format!("endpoint {}: {shown} is not an http or https url: it {error}", index + 1));
        }
    }
    if let Some((again, first)) = http_url::repeated(endpoints.iter().map(|endpoint| endpoint.url.as_str())) {
        return Err(format!("endpoint {} is endpoint {}, too", again + 1, first + 1));
    }
    let endpoints: Vec<_> = endpoints.iter().map(Endpoint::toml).collect();
    Ok(format!("[{}]", endpoints.join(", ")))
}

/// Messages of the JSON reader show values, so only its place and its kind of error are told.
fn read_json(text: &str) -> Result<Vec<Endpoint>, String> {
    let list: Vec<Value> = serde_json::from_str(text).map_err(|error| {
        format!("this is not a JSON list (line {}, column {})", error.line(), error.column())
    })?;
    let read = |(index, value): (usize, Value)| match value {
        Value::String(url) => Ok(Endpoint::at(&url)),
        value => serde_json::from_value(value.clone())
            .map_err(|_| format!("endpoint {}: {}", index + 1, fault(&value))),
    };
    list.into_iter().enumerate().map(read).collect()
}

/// What is wrong with an element of the list.
fn fault(value: &Value) -> String {
    const TEXTS: [&str; 4] = ["url", "name", "region", "token"];
    let Some(object) = value.as_object() else { return "expected an object or a url".to_owned() };
    if !object.contains_key("url") {
        return "`url` is missing".to_owned();
    }
    for (key, value) in object {
        let wrong = match key.as_str() {
            key if TEXTS.contains(&key) => !value.is_string() && !value.is_null(),
            "priority" => {
                value.as_u64().is_none_or(|number| u32::try_from(number).is_err()) && !value.is_null()
            }
            "role" => !matches!(value.as_str(), Some("active" | "standby")) && !value.is_null(),
            _ => return format!("there is no field {}", quote(key)),
        };
        if wrong {
            let expected = match key.as_str() {
                "priority" => "a whole number",
                "role" => "`active` or `standby`",
                _ => "a string",
            };
            return format!("`{key}` must be {expected}");
        }
    }
    "this can't be read".to_owned()
}

/// The parts of a list of urls, for showing: what has no scheme may be the rest of a password with a comma in it, and stays
/// with the url before it.
fn urls(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (comma, _) in text.match_indices(',') {
        let next = text[comma + 1..].split(',').next().unwrap_or_default().trim();
        if next.is_empty() || next.contains("://") {
            parts.push(text[start..comma].trim());
            start = comma + 1;
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// `text` without tokens and without what urls hide.
pub(super) fn shown(text: &str) -> String {
    if !is_json(text.trim_start()) {
        return urls(text).into_iter().map(redact::server).collect::<Vec<_>>().join(",");
    }
    let Ok(Value::Array(list)) = serde_json::from_str(text) else { return REDACTED.to_owned() };
    let element = |value: Value| match value {
        Value::String(text) => Value::String(redact::server(&text)),
        Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| {
                let value = match (key.as_str(), value) {
                    ("url", Value::String(text)) => Value::String(redact::server(&text)),
                    ("name" | "region", Value::String(text)) => Value::String(text),
                    ("priority", Value::Number(number)) => Value::Number(number),
                    ("role", Value::String(text)) if matches!(text.as_str(), "active" | "standby") => {
                        Value::String(text)
                    }
                    _ => Value::String(REDACTED.to_owned()),
                };
                (key, value)
            })
            .collect(),
        _ => Value::String(REDACTED.to_owned()),
    };
    Value::Array(list.into_iter().map(element).collect()).to_string()
}

/// Gives the list to the first source, in place of the endpoint that it had, and takes the other sources of the kind out:
/// the list is all the endpoints that there are. False if there is no such source.
pub(super) fn apply<'a>(toml: &'a str, span: &Span, document: &mut Document<'a>) -> bool {
    let is_source = |node: &NodeTable<'_>| {
        node.section == Section::Sources && node.kind.as_ref().is_some_and(|kind| kind.get_ref() == KIND)
    };
    let mut sources = document.nodes.iter().filter(|node| is_source(node));
    let Some(first) = sources.next().map(|node| node.name.get_ref().clone()) else { return false };
    let others: Vec<String> = sources.map(|node| node.name.get_ref().clone()).collect();
    document.nodes.retain(|node| !(is_source(node) && others.contains(node.name.get_ref())));
    for node in &mut document.nodes {
        if let Some(inputs) = &mut node.inputs {
            redirect(inputs, &others, &first);
        }
        if is_source(node) {
            OF_ONE_ENDPOINT.iter().for_each(|option| drop(node.options.table.remove(*option)));
        }
    }
    let assignment = Assignment {
        place: Place::Node(Section::Sources, first),
        path: "endpoints".to_owned(),
        value: value_at(toml, span),
    };
    document.assign(&assignment, Precedence::Over, &|_| true);
    true
}

/// Whoever read one of `gone` reads `kept`, once.
fn redirect(inputs: &mut sluice_config::document::Inputs<'_>, gone: &[String], kept: &str) {
    let mut reads_kept = inputs.list.iter().any(|input| input.from.get_ref() == kept);
    inputs.list.retain_mut(|input| {
        if !gone.contains(input.from.get_ref()) {
            return true;
        }
        *input.from.get_mut() = kept.to_owned();
        !std::mem::replace(&mut reads_kept, true)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_commas_and_json_are_read() {
        assert_eq!(
            read("http://a:1, https://b").as_deref(),
            Ok("[{ url = \"http://a:1\" }, { url = \"https://b\" }]")
        );
        let json =
            r#"["http://a", {"url":"https://b","region":"ams","priority":2,"token":"t\"","role":"standby"}]"#;
        let expected = "[{ url = \"http://a\" }, { url = \"https://b\", region = \"ams\", token = 't\"', priority = 2, role = \"standby\" }]";
        assert_eq!(read(json).as_deref(), Ok(expected));
    }

    #[test]
    fn endpoints_are_shown_by_scheme_host_and_port() {
        for (text, expected) in [
            ("http://a,tcp://b", "http://a,tcp://b"),
            (
                "https://u:12,34@host:1/key?k=v , http://b:2",
                "https://[redacted]@host:1/[redacted],http://b:2",
            ),
            ("[12, \"http://a/key\"]", "[\"[redacted]\",\"http://a/[redacted]\"]"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_secrets() {
        for (text, expected) in [
            (
                "http://a,ftp://u:hunter2@b",
                "endpoint 2: `ftp://[redacted]@b` is not an http or https url: it does not begin with http:// or https://",
            ),
            (
                "http://a,,http://b",
                "endpoint 2: `` is not an http or https url: it does not begin with http:// or https://",
            ),
            ("http://a,http://b,http://A:80/", "endpoint 3 is endpoint 1, too"),
            (
                "host.example/?api-key=hunter2",
                "endpoint 1: `[redacted]` is not an http or https url: it does not begin with http:// or https://",
            ),
            (
                "https:/host/?api-key=hunter2",
                "endpoint 1: `[redacted]` is not an http or https url: it does not begin with http:// or https://",
            ),
            (
                "https://user:hunter2@host:99999",
                "endpoint 1: `https://[redacted]` is not an http or https url: it can't be read: invalid port number",
            ),
            (
                "https://u:hunter2,hunter2@host",
                "endpoint 1: `https://[redacted]` is not an http or https url: it can't be read: invalid port number",
            ),
            (
                "https://u:12,hunter2@host",
                "endpoint 2: `[redacted]` is not an http or https url: it does not begin with http:// or https://",
            ),
            (
                r#"[{"url":"https://user:hunter2@host:99999"}]"#,
                "endpoint 1: `https://[redacted]` is not an http or https url: it can't be read: invalid port number",
            ),
            (
                r#"["https://host/hunter2", "hunter2"]"#,
                "endpoint 2: `[redacted]` is not an http or https url: it does not begin with http:// or https://",
            ),
            ("[]", "expected one endpoint at least"),
            ("[{\"url\": hunter2}]", "this is not a JSON list (line 1, column 10)"),
            ("[{\"token\":\"hunter2\"}]", "endpoint 1: `url` is missing"),
            ("[{\"url\":\"http://a\",\"tokn\":\"hunter2\"}]", "endpoint 1: there is no field `tokn`"),
            (
                "[{\"url\":\"http://a\",\"priority\":\"hunter2\"}]",
                "endpoint 1: `priority` must be a whole number",
            ),
            (
                "[{\"url\":\"http://a\",\"role\":\"hunter2\"}]",
                "endpoint 1: `role` must be `active` or `standby`",
            ),
            ("[5]", "endpoint 1: expected an object or a url"),
        ] {
            assert_eq!(read(text), Err(expected.to_owned()), "{text}");
            assert!(!shown(text).contains("hunter2"), "{}", shown(text));
        }
    }
}
