//! The HTTP transport under solana-client's `RpcClient`.
//!
//! Its own one sleeps through "429 Too Many Requests" by itself, up to ten minutes, and reads answers of any size. This
//! one reports the first, with the wait that the node asked for, and bounds the second. Typed refusals travel through
//! solana-client's error as the inner error of an I/O error, see [`Refusal::of`].

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use sluice_config::secret::Secret;
use solana_client::client_error::reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use solana_client::client_error::reqwest::{self, Client, Response, StatusCode};
use solana_client::client_error::{ClientError, ClientErrorKind};
use solana_client::rpc_request::{RpcError, RpcRequest, RpcResponseErrorData};
use solana_client::rpc_sender::{RpcSender, RpcTransportStats};
use thiserror::Error;

use crate::node::Clock;
use crate::time_text;

/// An answer that is not one of a node's RPC.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    /// 429.
    #[error("too many requests")]
    RateLimited {
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// Any other status that is not a success.
    #[error("HTTP status {status}")]
    Status {
        /// The status.
        status: u16,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No connection, no answer in time, or it broke off.
    #[error("{0}")]
    Transport(String),
    /// More bytes than are accepted.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// Not JSON-RPC.
    #[error("the answer is not JSON-RPC: {0}")]
    NotRpc(String),
}

impl Refusal {
    /// The refusal inside of solana-client's error, if that is what it is.
    pub(super) fn of(error: &ClientError) -> Option<&Self> {
        match error.kind() {
            ClientErrorKind::Io(error) => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }
}

impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> Self {
        ClientErrorKind::Io(io::Error::other(refusal)).into()
    }
}

/// Posts requests to one url.
pub(super) struct HttpSender {
    client: Client,
    url: Secret,
    max_answer_bytes: usize,
    clock: Clock,
}

impl HttpSender {
    pub(super) fn new(client: Client, url: Secret, max_answer_bytes: usize, clock: Clock) -> Self {
        Self { client, url, max_answer_bytes, clock }
    }

    async fn post(&self, body: String) -> Result<Value, Refusal> {
        let request = self.client.post(self.url.expose()).header(CONTENT_TYPE, "application/json").body(body);
        let response = request.send().await.map_err(transport)?;
        let status = response.status();
        if !status.is_success() {
            let retry_after = self.retry_after(response.headers());
            return Err(match status {
                StatusCode::TOO_MANY_REQUESTS => Refusal::RateLimited { retry_after },
                _ => Refusal::Status { status: status.as_u16(), retry_after },
            });
        }
        let bytes = self.read(response).await?;
        // Large answers are parsed beside the async threads, which have sockets to serve.
        let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice(&bytes)).await;
        match parsed {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Refusal::NotRpc(error.to_string())),
            Err(error) => Err(Refusal::Transport(error.to_string())),
        }
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if bytes.len() + chunk.len() > self.max_answer_bytes {
                return Err(Refusal::TooLarge(self.max_answer_bytes));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        time_text::retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, self.clock.now())
    }
}

#[async_trait]
impl RpcSender for HttpSender {
    async fn send(&self, request: RpcRequest, params: Value) -> Result<Value, ClientError> {
        // One request at a time on its connection: the id tells nothing apart.
        let body = request.build_request_json(1, params).to_string();
        let mut answer = self.post(body).await?;
        let Some(members) = answer.as_object_mut() else {
            return Err(Refusal::NotRpc("not an object".to_owned()).into());
        };
        match members.remove("error") {
            Some(error) if !error.is_null() => Err(node_error(&error)),
            _ => members
                .remove("result")
                .ok_or_else(|| Refusal::NotRpc("neither result nor error".to_owned()).into()),
        }
    }

    fn get_transport_stats(&self) -> RpcTransportStats {
        RpcTransportStats::default()
    }

    fn url(&self) -> String {
        self.url.to_string()
    }
}

/// What the node itself says; the code may be text at some providers.
fn node_error(error: &Value) -> ClientError {
    let code = &error["code"];
    let code = code.as_i64().or_else(|| code.as_str()?.parse().ok()).unwrap_or(0);
    let message = match error["message"].as_str() {
        Some(message) => message.to_owned(),
        None => error.to_string(),
    };
    let data = RpcResponseErrorData::Empty;
    ClientErrorKind::RpcError(RpcError::RpcResponseError { code, message, data }).into()
}

/// reqwest's errors name the url, which often holds a key.
fn transport(error: reqwest::Error) -> Refusal {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Refusal::Transport(text)
}
