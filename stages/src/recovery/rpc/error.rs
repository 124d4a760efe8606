//! Why something could not be fetched, as the node's answers tell.

use std::time::Duration;

use solana_client::client_error::{ClientError, ClientErrorKind};
use solana_client::rpc_custom_error as code;
use solana_client::rpc_request::RpcError;
use thiserror::Error;

use super::sender::Refusal;
use crate::slot::Slot;

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
    /// The node, or a proxy before it, is in trouble and says when to come back.
    #[error("the node is not available: HTTP status {status}")]
    Unavailable {
        /// HTTP's status.
        status: u16,
        /// The wait that it asked for.
        retry_after: Duration,
    },
    /// Nothing was sent: the node asked for a pause, which is not over.
    #[error("the node asked for a pause, of which {} s are left", retry_after.as_secs_f64().ceil())]
    Paused {
        /// What is left of it.
        retry_after: Duration,
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
            | Self::Unavailable { .. }
            | Self::Paused { .. }
            | Self::Resting { .. }
            | Self::Transport(_)
            | Self::Malformed { .. } => true,
        }
    }

    /// When to come back at the earliest, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            Self::Unavailable { retry_after, .. }
            | Self::Paused { retry_after }
            | Self::Resting { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// The same with `wait` as the time to come back, if it is an error that has one.
    pub(crate) fn with_wait(self, wait: Duration) -> Self {
        match self {
            Self::RateLimited { .. } => Self::RateLimited { retry_after: Some(wait) },
            Self::Unavailable { status, .. } => Self::Unavailable { status, retry_after: wait },
            Self::Paused { .. } => Self::Paused { retry_after: wait },
            Self::Resting { .. } => Self::Resting { retry_after: wait },
            other => other,
        }
    }
}

/// What solana-client's error is here, for a question about `slot`.
pub(super) fn classify(error: &ClientError, slot: Slot) -> FetchError {
    if let Some(refusal) = Refusal::of(error) {
        return match refusal {
            Refusal::RateLimited { retry_after } => FetchError::RateLimited { retry_after: *retry_after },
            Refusal::Status { status: status @ (400..=407 | 410..=428), .. } => {
                FetchError::Refused { code: i64::from(*status), message: "HTTP".to_owned() }
            }
            Refusal::Status { status: status @ 500..=599, retry_after: Some(retry_after) } => {
                FetchError::Unavailable { status: *status, retry_after: *retry_after }
            }
            Refusal::Status { .. } | Refusal::Transport(_) => FetchError::Transport(refusal.to_string()),
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
