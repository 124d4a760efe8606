//! How to reach an RPC node, and how much it may be asked.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_config::secret::Secret;
use solana_client::client_error::reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::component::Problem;
use crate::http_url;

/// How to reach an RPC node, and how much it may be asked.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RpcOptions {
    /// The node's url. It is never shown, since many providers put the key in it.
    pub url: Secret,
    /// Headers sent with each request. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// Requests each second. Default 50, a small paid plan's, or, of a recovery, as the pipeline's profile says;
    /// public nodes allow about 10.
    #[serde(default = "default_requests_per_second")]
    pub requests_per_second: u32,
    /// Requests at once before they are spaced out. Default 100: two seconds' worth.
    #[serde(default = "default_burst")]
    pub burst: u32,
    /// Most requests under way at a time; within it, their number adapts to what the node bears. Default 8, as many as
    /// recovery asks for: a mainnet block is 2 to 8 MB of JSON, so this bounds memory, too.
    #[serde(default = "default_max_in_flight")]
    pub max_in_flight: usize,
    /// Longest time without a byte of an answer, and longest time to connect. Default 10s: nodes take seconds to find old
    /// blocks, and while one is waited for, another can't be asked for. A whole answer may take six times as long.
    #[serde(default = "default_timeout", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

fn default_requests_per_second() -> u32 {
    50
}

fn default_burst() -> u32 {
    100
}

fn default_max_in_flight() -> usize {
    8
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

impl RpcOptions {
    /// The defaults, for the node at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: Secret::new(url),
            headers: BTreeMap::new(),
            requests_per_second: default_requests_per_second(),
            burst: default_burst(),
            max_in_flight: default_max_in_flight(),
            timeout: default_timeout(),
        }
    }

    /// What types can't rule out; options are named relative to this table.
    pub fn problems(&self) -> Vec<Problem> {
        let problem = |option: &str, message: &str, help: &str| Problem {
            option: option.to_owned(),
            message: message.to_owned(),
            help: help.to_owned(),
        };
        let mut problems = Vec::new();
        if let Err(error) = http_url::parse(self.url.expose()) {
            problems.push(problem("url", &error.to_string(), "write it like https://host"));
        }
        let numbers = [
            ("requests_per_second", self.requests_per_second == 0),
            ("burst", self.burst == 0),
            ("max_in_flight", self.max_in_flight == 0),
            ("timeout", self.timeout.is_zero()),
        ];
        for (option, _) in numbers.iter().filter(|(_, zero)| *zero) {
            problems.push(problem(option, "must be more than zero", "leave it out for the default"));
        }
        if headers(&self.headers).is_none() {
            problems.push(problem("headers", "hold a character that headers can't", "visible ASCII only"));
        }
        problems
    }
}
/// The headers as they are sent; `None` if one can't be.
pub(super) fn headers(options: &BTreeMap<String, Secret>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in options {
        let mut value = HeaderValue::from_str(value.expose()).ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    Some(headers)
}
