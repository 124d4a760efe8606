//! Blocks from one RPC node: `getBlocks` and `getBlock`, at the node's pace.
//!
//! In: slots. Out: lists of slots, or the frames of a block ([`super::convert`]), or a typed error. A request passes
//! three gates in this order: the breaker (refuses at once while the node is down), as many requests at a time as the node
//! bears ([`super::concurrency`], at most `max_in_flight`), and the rate limit (waits for its turn, retries like all
//! others). There are no retries here; the planner knows better what is urgent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_config::secret::Secret;
use solana_client::client_error::reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use solana_client::client_error::{ClientError, ClientErrorKind, reqwest};
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_client::rpc_client::RpcClientConfig;
use solana_client::rpc_custom_error as code;
use solana_client::rpc_request::{RpcError, RpcRequest};
use thiserror::Error;

use super::concurrency::Gate;
use super::convert::{self, ConvertError};
use super::ledger_format::MAX_VERSION;
use super::pace::{Breaker, RateLimit};
use super::sender::{HttpSender, Refusal};
use crate::component::Problem;
use crate::frame::Frame;
use crate::node::Clock;
use crate::slot::{Commitment, Slot};
use crate::yellowstone::health::Ewma;

/// Most slots that nodes list in one `getBlocks`.
const MAX_LISTED_SLOTS: u64 = 500_000;

/// Largest answer that is read: a block at an epoch's boundary has up to 100 MB on the wire and grows by half in JSON.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Times `timeout` that a whole answer may take: 100 MB in a minute is 14 Mbit/s.
const ANSWER_TIMEOUTS: u32 = 6;

/// The pause after a "too many requests" that does not say how long.
const DEFAULT_PAUSE: Duration = Duration::from_millis(500);

/// JSON-RPC's "invalid params".
const INVALID_PARAMS: i64 = -32602;

/// How to reach an RPC node, and how much it may be asked.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RpcOptions {
    /// The node's url. It is never shown, since many providers put the key in it.
    pub url: Secret,
    /// Headers sent with each request. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// Requests each second. Default 50: a small paid plan's; public nodes allow about 10.
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
        let usable = |url: url::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        if !url::Url::parse(self.url.expose()).is_ok_and(usable) {
            problems.push(problem("url", "is not an http or https url", "write it like https://host"));
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

/// Why something could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The node says that the slot was skipped or that it lost the block; no proof of either.
    #[error("slot {slot}: the node calls it skipped or lost")]
    ClaimedSkipped {
        /// The slot.
        slot: Slot,
    },
    /// The node has not got there, or says so of a slot that it will never have.
    #[error("slot {slot}: not available yet")]
    NotAvailableYet {
        /// The slot.
        slot: Slot,
    },
    /// The node keeps less history than that.
    #[error("slot {slot}: no longer kept by the node")]
    CleanedUp {
        /// The slot.
        slot: Slot,
        /// The first slot that it keeps, if it said so.
        first_available: Option<Slot>,
    },
    /// The node wants to be asked less.
    #[error("rate limited by the node")]
    RateLimited {
        /// The wait that it asked for.
        retry_after: Option<Duration>,
    },
    /// The node failed again and again and is left alone for a while.
    #[error("the node is left alone after failing repeatedly")]
    Resting {
        /// When it will be asked again.
        retry_after: Duration,
    },
    /// The node could not be reached, did not answer, or answered as a proxy in trouble does.
    #[error("the node can't be reached: {0}")]
    Transport(String),
    /// The node answered with something that is not what was asked for.
    #[error("slot {slot}: malformed answer: {what}")]
    Malformed {
        /// The slot, or the first one of a list.
        slot: Slot,
        /// What is wrong with it.
        what: String,
    },
    /// The node refuses: no history, no such method, wrong key.
    #[error("the node refuses: {message} ({code})")]
    Refused {
        /// JSON-RPC's or HTTP's code.
        code: i64,
        /// What it said.
        message: String,
    },
}

impl FetchError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::CleanedUp { .. } | Self::Refused { .. } => false,
            Self::ClaimedSkipped { .. }
            | Self::NotAvailableYet { .. }
            | Self::RateLimited { .. }
            | Self::Resting { .. }
            | Self::Transport(_)
            | Self::Malformed { .. } => true,
        }
    }

    /// When to come back at the earliest, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            Self::Resting { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

/// A block as frames: its transactions by index, then its meta.
#[derive(Debug, Clone)]
pub struct FetchedBlock {
    /// The slot.
    pub slot: Slot,
    /// The frames.
    pub frames: Vec<Frame>,
}

/// Asks one RPC node.
pub struct RpcFetcher {
    client: RpcClient,
    clock: Clock,
    limit: Mutex<RateLimit>,
    breaker: Mutex<Breaker>,
    gate: Gate,
    latency_ms: Mutex<Ewma>,
    counts: Mutex<RpcCounts>,
}

/// What was counted of one RPC node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RpcCounts {
    /// Requests sent.
    pub requests: u64,
    /// Requests that were not answered as they should be, rate limits apart.
    pub errors: u64,
    /// Requests that were refused because there were too many.
    pub rate_limited: u64,
}

impl RpcFetcher {
    /// A fetcher; nothing is sent yet. `options` has no [`RpcOptions::problems`].
    ///
    /// # Errors
    /// If the system's TLS can't be set up, or a header is not usable.
    pub fn try_new(options: &RpcOptions, clock: Clock) -> Result<Self, FetchError> {
        let unusable = || FetchError::Refused { code: 0, message: "a header is not usable".to_owned() };
        let http = reqwest::Client::builder()
            .default_headers(headers(&options.headers).ok_or_else(unusable)?)
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.timeout)
            .read_timeout(options.timeout)
            .timeout(options.timeout.saturating_mul(ANSWER_TIMEOUTS))
            .build()
            .map_err(|error| FetchError::Transport(error.without_url().to_string()))?;
        let sender = HttpSender::new(http, options.url.clone(), MAX_ANSWER_BYTES);
        Ok(Self {
            client: RpcClient::new_sender(sender, RpcClientConfig::default()),
            clock,
            limit: Mutex::new(RateLimit::new(options.requests_per_second, options.burst)),
            breaker: Mutex::new(Breaker::default()),
            gate: Gate::new(options.max_in_flight),
            latency_ms: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// The slots from `first` to `last` that the node says have a block, in rising order.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn blocks(
        &self,
        first: Slot,
        last: Slot,
        commitment: Commitment,
    ) -> Result<Vec<Slot>, FetchError> {
        let mut slots = Vec::new();
        let mut next = first;
        while next <= last {
            let end = last.min(next.saturating_add(MAX_LISTED_SLOTS - 1));
            let params = json!([next, end, { "commitment": rpc_commitment(commitment) }]);
            let part: Vec<Slot> = self.ask(RpcRequest::GetBlocks, params, next).await?;
            let rising = part.windows(2).all(|pair| pair[0] < pair[1]);
            if !rising || part.iter().any(|slot| !(next..=end).contains(slot)) {
                let what = "a list of slots that was not asked for".to_owned();
                return Err(FetchError::Malformed { slot: next, what });
            }
            slots.extend(part);
            let Some(after) = end.checked_add(1) else { break };
            next = after;
        }
        Ok(slots)
    }

    /// The block of `slot`.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn block(&self, slot: Slot, commitment: Commitment) -> Result<FetchedBlock, FetchError> {
        let answer = match self.raw_block(slot, commitment, MAX_VERSION).await {
            // Some providers know no version above the one that is in use.
            Err(FetchError::Refused { code: INVALID_PARAMS, .. }) => {
                self.raw_block(slot, commitment, 0).await
            }
            answer => answer,
        }?;
        let malformed = |what: String| FetchError::Malformed { slot, what };
        // Megabytes of base64 and JSON are taken apart beside the async threads.
        let converted = tokio::task::spawn_blocking(move || convert::block(slot, answer)).await;
        let frames: Result<Vec<Frame>, ConvertError> =
            converted.map_err(|error| malformed(error.to_string()))?;
        Ok(FetchedBlock { slot, frames: frames.map_err(|error| malformed(error.to_string()))? })
    }

    /// The node's newest slot.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn slot(&self, commitment: Commitment) -> Result<Slot, FetchError> {
        let params = json!([{ "commitment": commitment.to_string() }]);
        self.ask(RpcRequest::GetSlot, params, 0).await
    }

    /// When the block of `slot` was made, in seconds since the unix epoch; `None` if the node does not know.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn block_time(&self, slot: Slot) -> Result<Option<i64>, FetchError> {
        self.ask(RpcRequest::GetBlockTime, json!([slot]), slot).await
    }

    /// Whether the node is not left alone because it failed repeatedly.
    pub fn is_healthy(&self) -> bool {
        lock(&self.breaker).is_closed()
    }

    /// What was counted so far.
    pub fn counts(&self) -> RpcCounts {
        *lock(&self.counts)
    }

    /// The most requests at a time that the node seems to bear.
    pub fn concurrency_limit(&self) -> usize {
        self.gate.state().limit()
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.gate.state().in_flight()
    }

    /// What a request costs here: the mean time to an answer in milliseconds times what is in flight, for the choice of
    /// the cheaper of two.
    pub fn load(&self) -> f64 {
        let mean = lock(&self.latency_ms).get().unwrap_or(1.0).max(0.1);
        mean * (1 + self.in_flight()) as f64
    }

    async fn raw_block(&self, slot: Slot, commitment: Commitment, version: u8) -> Result<Value, FetchError> {
        let config = json!({
            "encoding": "base64",
            "transactionDetails": "full",
            "rewards": true,
            "maxSupportedTransactionVersion": version,
            "commitment": rpc_commitment(commitment),
        });
        let answer: Option<Value> = self.ask(RpcRequest::GetBlock, json!([slot, config]), slot).await?;
        answer.ok_or(FetchError::NotAvailableYet { slot })
    }

    /// Sends one request when it is its turn.
    async fn ask<T: DeserializeOwned>(
        &self,
        request: RpcRequest,
        params: Value,
        slot: Slot,
    ) -> Result<T, FetchError> {
        let now = self.clock.now();
        lock(&self.breaker).pass(now).map_err(|retry_after| FetchError::Resting { retry_after })?;
        let _passage = self.gate.pass().await;
        self.turn().await;
        lock(&self.counts).requests += 1;
        let began = self.clock.now();
        let answer = self.client.send(request, params).await.map_err(|error| classify(&error, slot));
        let took = self.clock.now().since(began);
        lock(&self.latency_ms).record(took.as_secs_f64() * 1_000.0);
        self.learn_from(answer.as_ref().err());
        answer
    }

    /// Waits for a place in the rate limit, and for the end of a pause that the node asked for meanwhile.
    async fn turn(&self) {
        let mut wait = lock(&self.limit).reserve(self.clock.now());
        while !wait.is_zero() {
            tokio::time::sleep(wait).await;
            wait = lock(&self.limit).pause_left(self.clock.now());
        }
    }

    fn learn_from(&self, error: Option<&FetchError>) {
        let now = self.clock.now();
        match error {
            Some(FetchError::Transport(_)) => {
                lock(&self.counts).errors += 1;
                self.gate.state().on_overload(now);
                lock(&self.breaker).on_failure(now);
            }
            Some(FetchError::RateLimited { retry_after }) => {
                lock(&self.counts).rate_limited += 1;
                self.gate.state().on_overload(now);
                lock(&self.breaker).on_answer();
                lock(&self.limit).pause(now, retry_after.unwrap_or(DEFAULT_PAUSE));
            }
            other => {
                let failed = matches!(other, Some(FetchError::Malformed { .. } | FetchError::Refused { .. }));
                lock(&self.counts).errors += u64::from(failed);
                self.gate.state().on_answer();
                lock(&self.breaker).on_answer();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blocks are not served below confirmed.
fn rpc_commitment(commitment: Commitment) -> &'static str {
    match commitment {
        Commitment::Processed | Commitment::Confirmed => "confirmed",
        Commitment::Finalized => "finalized",
    }
}

fn headers(options: &BTreeMap<String, Secret>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in options {
        let mut value = HeaderValue::from_str(value.expose()).ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    Some(headers)
}

fn classify(error: &ClientError, slot: Slot) -> FetchError {
    if let Some(refusal) = Refusal::of(error) {
        return match refusal {
            Refusal::RateLimited { retry_after } => FetchError::RateLimited { retry_after: *retry_after },
            Refusal::Status(status @ (400..=407 | 410..=428)) => {
                FetchError::Refused { code: i64::from(*status), message: "HTTP".to_owned() }
            }
            Refusal::Status(_) | Refusal::Transport(_) => FetchError::Transport(refusal.to_string()),
            Refusal::TooLarge(_) | Refusal::NotRpc(_) => {
                FetchError::Malformed { slot, what: refusal.to_string() }
            }
        };
    }
    match error.kind() {
        ClientErrorKind::RpcError(RpcError::RpcResponseError { code, message, .. }) => {
            classify_code(*code, message, slot)
        }
        ClientErrorKind::SerdeJson(error) => FetchError::Malformed { slot, what: error.to_string() },
        other => FetchError::Transport(other.to_string()),
    }
}

fn classify_code(code: i64, message: &str, slot: Slot) -> FetchError {
    match code {
        429 | -32429 => FetchError::RateLimited { retry_after: None },
        // Some providers use the number of "skipped" for their own limit.
        _ if message.contains("request limit") => FetchError::RateLimited { retry_after: None },
        code::JSON_RPC_SERVER_ERROR_SLOT_SKIPPED
        | code::JSON_RPC_SERVER_ERROR_LONG_TERM_STORAGE_SLOT_SKIPPED => FetchError::ClaimedSkipped { slot },
        code::JSON_RPC_SERVER_ERROR_BLOCK_NOT_AVAILABLE
        | code::JSON_RPC_SERVER_ERROR_BLOCK_STATUS_NOT_AVAILABLE_YET
        | code::JSON_RPC_SERVER_ERROR_MIN_CONTEXT_SLOT_NOT_REACHED => FetchError::NotAvailableYet { slot },
        code::JSON_RPC_SERVER_ERROR_BLOCK_CLEANED_UP => {
            FetchError::CleanedUp { slot, first_available: first_available(message) }
        }
        code::JSON_RPC_SERVER_ERROR_NODE_UNHEALTHY
        | code::JSON_RPC_SERVER_ERROR_NO_SNAPSHOT
        | code::JSON_RPC_SERVER_ERROR_LONG_TERM_STORAGE_UNREACHABLE
        | -32603 => FetchError::Transport(format!("{message} ({code})")),
        _ => FetchError::Refused { code, message: message.to_owned() },
    }
}

/// Reads "Block 5 cleaned up, does not exist on node. First available block: 77".
fn first_available(message: &str) -> Option<Slot> {
    let (_, number) = message.rsplit_once("First available block: ")?;
    number.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

#[cfg(test)]
#[path = "rpc_tests.rs"]
mod tests;
