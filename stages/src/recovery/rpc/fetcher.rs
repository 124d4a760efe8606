//! Blocks from one RPC node: `getBlocks` and `getBlock`, at the node's pace.
//!
//! In: slots. Out: lists of slots, or the frames of a block ([`convert`]), or a typed error. When a request may be sent is
//! decided by the node's [`Standing`]. There are no retries here; the planner knows better what is urgent.

use std::sync::MutexGuard;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use solana_client::client_error::reqwest;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_client::rpc_client::RpcClientConfig;
use solana_client::rpc_request::RpcRequest;

use super::error::{FetchError, classify};
use super::gate::Gate;
use super::options::{RpcOptions, headers};
use super::sender::HttpSender;
use super::standing::{Outcome, Standing};
use crate::frame::Frame;
use crate::node::Clock;
use crate::recovery::convert::{self, ConvertError};
use crate::recovery::ledger_format::MAX_VERSION;
use crate::slot::{Commitment, Slot};

/// Most slots that nodes list in one `getBlocks`.
pub const MAX_LISTED_SLOTS: u64 = 500_000;

/// Largest answer that is read: a block at an epoch's boundary has up to 100 MB on the wire and grows by half in JSON.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Times `timeout` that a whole answer may take: 100 MB in a minute is 14 Mbit/s.
const ANSWER_TIMEOUTS: u32 = 6;

/// A pause from this long on is told in the log: shorter ones come and go all the time at a provider's limit.
const TOLD_PAUSE: Duration = Duration::from_secs(5);

/// JSON-RPC's "invalid params".
const INVALID_PARAMS: i64 = -32602;

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
    /// What it is called in the log; urls hold keys.
    name: String,
    client: RpcClient,
    clock: Clock,
    gate: Gate,
}

impl RpcFetcher {
    /// A fetcher for the node called `name`; nothing is sent yet. `options` has no [`RpcOptions::problems`].
    ///
    /// # Errors
    /// If the system's TLS can't be set up, or a header is not usable.
    pub fn try_new(name: impl Into<String>, options: &RpcOptions, clock: Clock) -> Result<Self, FetchError> {
        let unusable = || FetchError::Refused { code: 0, message: "a header is not usable".to_owned() };
        let http = reqwest::Client::builder()
            .default_headers(headers(&options.headers).ok_or_else(unusable)?)
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.timeout)
            .read_timeout(options.timeout)
            .timeout(options.timeout.saturating_mul(ANSWER_TIMEOUTS))
            .build()
            .map_err(|error| FetchError::Transport(error.without_url().to_string()))?;
        let sender = HttpSender::new(http, options.url.clone(), MAX_ANSWER_BYTES, clock);
        Ok(Self {
            name: name.into(),
            client: RpcClient::new_sender(sender, RpcClientConfig::default()),
            clock,
            gate: Gate::new(Standing::new(options)),
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

    /// The first slot that the node keeps the block of.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn first_available(&self) -> Result<Slot, FetchError> {
        self.ask(RpcRequest::GetFirstAvailableBlock, json!([]), 0).await
    }

    /// How the node stands now.
    pub fn standing(&self) -> MutexGuard<'_, Standing> {
        self.gate.standing()
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
        self.standing().pass(self.clock.now())?;
        let _passage = self.gate.pass().await;
        self.turn().await?;
        let began = self.clock.now();
        self.standing().on_sent();
        let answer = self.client.send(request, params).await.map_err(|error| classify(&error, slot));
        let now = self.clock.now();
        let (pause, left) = {
            let mut standing = self.standing();
            let pause = standing.on_outcome(now, now.since(began), outcome(answer.as_ref().err()));
            (pause, standing.pause_left(now))
        };
        if let Some(pause) = pause {
            self.tell(pause);
        }
        // The wait that is kept, not the one that was asked for.
        answer.map_err(|error| if left.is_zero() { error } else { error.with_wait(left) })
    }

    /// Waits for a place in the rate limit. A pause that the node asks for meanwhile is not waited for: another node may be
    /// free.
    async fn turn(&self) -> Result<(), FetchError> {
        let wait = {
            let (mut standing, now) = (self.standing(), self.clock.now());
            standing.pause(now)?;
            standing.turn(now)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        self.standing().pause(self.clock.now())
    }

    fn tell(&self, pause: Duration) {
        let (node, seconds) = (&self.name, pause.as_secs());
        if pause >= TOLD_PAUSE {
            tracing::warn!(node, seconds, "the RPC node asked for a pause; it is left alone until then");
        } else {
            tracing::debug!(node, ?pause, "the RPC node asked for a pause");
        }
    }
}

/// What an answer says of the node.
fn outcome(error: Option<&FetchError>) -> Outcome {
    match error {
        Some(FetchError::RateLimited { retry_after }) => Outcome::RateLimited(*retry_after),
        Some(FetchError::Unavailable { retry_after, .. }) => Outcome::Unavailable(*retry_after),
        // The last two are never sent, so nothing comes of them.
        Some(FetchError::Transport(_) | FetchError::Resting { .. } | FetchError::Paused { .. }) => {
            Outcome::Failed
        }
        Some(FetchError::Malformed { .. } | FetchError::Refused { .. } | FetchError::CleanedUp { .. }) => {
            Outcome::Useless
        }
        Some(FetchError::ClaimedSkipped { .. } | FetchError::NotAvailableYet { .. }) | None => {
            Outcome::Answered
        }
    }
}

/// Blocks are not served below confirmed.
fn rpc_commitment(commitment: Commitment) -> &'static str {
    match commitment {
        Commitment::Processed | Commitment::Confirmed => "confirmed",
        Commitment::Finalized => "finalized",
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
