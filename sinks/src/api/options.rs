//! Options of `api`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_config::secret::Secret;
use sluice_stages::component::Problem;

/// Next to what people use for Grafana, and used by nothing well known.
const DEFAULT_PORT: u16 = 3002;
/// The largest request is a silence with 32 matchers.
const DEFAULT_MAX_BODY_BYTES: usize = 64 << 10;
/// A dashboard needs some twenty requests to begin with and none after.
const DEFAULT_REQUESTS_PER_SECOND: u32 = 500;
/// Two seconds' worth at once.
const DEFAULT_BURST: u32 = 1_000;
/// An answer takes milliseconds; the history may have to read a million rows.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Some 20 KB each.
const DEFAULT_MAX_CONNECTIONS: usize = 2_048;
/// Each is sent some 10 KB a second.
const DEFAULT_MAX_STREAMS: usize = 1_024;
/// Half an hour of mainnet; some 200 bytes each.
const DEFAULT_RECENT_SLOTS: usize = 4_096;
/// Half a minute of mainnet with its votes; some 110 bytes each.
const DEFAULT_RECENT_TRANSACTIONS: usize = 100_000;
/// The shortest token that can't be guessed over a network.
const MIN_TOKEN_BYTES: usize = 16;

/// Serves the REST API, the dashboard and the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiOptions {
    /// The address and port to listen on. Default `127.0.0.1:3002`: this machine only. Any other than a loopback address
    /// needs a `token`.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// The bearer token that clients have to send, 16 bytes or more. Default none, which loopback addresses alone may
    /// have.
    pub token: Option<Secret>,
    /// Certificate and key to serve HTTPS with: `tls = { cert = "…", key = "…" }`. Default none: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Names, beside those of this machine, by which clients may call a server without a token (the `Host` header):
    /// others are refused, so that no web page can reach it through a name of its own. Default none.
    pub allowed_hosts: Vec<String>,
    /// The largest body of a request. Default 64KiB.
    #[serde(with = "sluice_config::units::bytes")]
    #[schemars(with = "String")]
    pub max_body_bytes: usize,
    /// Requests a second that one client address may make. Default 500.
    pub requests_per_second: u32,
    /// Requests that one client address may make at once. Default 1000.
    pub burst: u32,
    /// How long a request's headers and body may take to come, and its answer to be made. A client that reads nothing of
    /// what it is sent is let go after three times that. Default 10s.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub request_timeout: Duration,
    /// Most connections at a time; never more than half of the files that the process may open. Default 2048.
    pub max_connections: usize,
    /// Most clients of `/api/v1/stream` at a time. Default 1024.
    pub max_streams: usize,
    /// Slots that are remembered. Default 4096: half an hour.
    pub recent_slots: usize,
    /// Transactions that can be looked up by their signature. Default 100000: half a minute of mainnet.
    pub recent_transactions: usize,
}

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate and those that vouch for it, PEM, the server's own first.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT),
            token: None,
            tls: None,
            allowed_hosts: Vec::new(),
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
            requests_per_second: DEFAULT_REQUESTS_PER_SECOND,
            burst: DEFAULT_BURST,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            max_streams: DEFAULT_MAX_STREAMS,
            recent_slots: DEFAULT_RECENT_SLOTS,
            recent_transactions: DEFAULT_RECENT_TRANSACTIONS,
        }
    }
}

impl ApiOptions {
    /// What can't work.
    pub(super) fn found(&self) -> Vec<Problem> {
        let zero = |option: &str| Problem {
            option: option.to_owned(),
            message: "nobody could be served".to_owned(),
            help: "give 1 or more, or leave it out for the default".to_owned(),
        };
        self.token_problem().into_iter().chain(self.zeros().map(zero)).collect()
    }

    fn token_problem(&self) -> Option<Problem> {
        let problem = |message: String, help: &str| Problem {
            option: "token".to_owned(),
            message,
            help: help.to_owned(),
        };
        match &self.token {
            None if !self.listen.ip().is_loopback() => Some(problem(
                format!("everyone who reaches {} could read and silence", self.listen),
                "give a token, such as `token = \"${SLUICE_API_TOKEN}\"`, or listen on 127.0.0.1",
            )),
            Some(token) if token.expose().len() < MIN_TOKEN_BYTES => Some(problem(
                format!("a token of fewer than {MIN_TOKEN_BYTES} bytes can be guessed"),
                "use a random one, such as `openssl rand -hex 32` gives",
            )),
            _ => None,
        }
    }

    fn zeros(&self) -> impl Iterator<Item = &'static str> + use<> {
        let numbers = [
            ("max_body_bytes", self.max_body_bytes == 0),
            ("requests_per_second", self.requests_per_second == 0),
            ("burst", self.burst == 0),
            ("request_timeout", self.request_timeout.is_zero()),
            ("max_connections", self.max_connections == 0),
            ("max_streams", self.max_streams == 0),
            ("recent_slots", self.recent_slots == 0),
        ];
        numbers.into_iter().filter(|(_, zero)| *zero).map(|(option, _)| option)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> Vec<String> {
        let options: ApiOptions = serde_json::from_str(text).expect("valid");
        options.found().into_iter().map(|problem| problem.option).collect()
    }

    #[test]
    fn only_this_machine_may_come_without_a_token() {
        assert_eq!(problems_of("{}"), [""; 0]);
        assert_eq!(problems_of(r#"{"listen": "[::1]:80"}"#), [""; 0]);
        assert_eq!(problems_of(r#"{"listen": "0.0.0.0:3002"}"#), ["token"]);
        assert_eq!(problems_of(r#"{"listen": "0.0.0.0:3002", "token": "0123456789abcdef"}"#), [""; 0]);
        assert_eq!(problems_of(r#"{"token": "short"}"#), ["token"]);
    }
}
