//! What all requests share, and the sink that feeds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use sluice_stages::node::{Clock, NodeContext};
use sluice_stages::silence::Silences;
use sluice_stages::slot::Timestamp;
use sluice_stages::watch::Watch;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use super::frame::{Frame, Last};
use super::listing::Listing;
use super::options::ApiOptions;
use super::rate_limit::RateLimit;
use super::state::Live;
use super::token::Token;
use crate::history::HistoryReader;

/// Frames that a client of the stream may be behind before it misses some: a minute.
const FRAMES_CAPACITY: usize = 64;

/// What handlers are given.
pub(super) type Shared = State<Arc<Api>>;

/// What all requests share.
pub(super) struct Api {
    /// The pipeline.
    pub(super) watch: Watch,
    /// The time.
    pub(super) clock: Clock,
    /// When this sink started.
    pub(super) started: Timestamp,
    /// Asks sources to stop: the pipeline drains once it is cancelled.
    pub(super) draining: CancellationToken,
    /// Ends streams.
    pub(super) closing: CancellationToken,
    /// Silences, shared with alert evaluators.
    pub(super) silences: Silences,
    /// The history, if the pipeline keeps one.
    pub(super) history: HistoryReader,
    /// What it was told.
    pub(super) options: ApiOptions,
    /// What clients have to send.
    pub(super) token: Option<Token>,
    /// Requests by address.
    pub(super) rate_limit: Mutex<RateLimit>,
    /// Room for clients of streams.
    pub(super) streams: Arc<Semaphore>,
    /// Frames of the stream.
    pub(super) frames: broadcast::Sender<Arc<Frame>>,
    /// The listing of output folders.
    pub(super) listing: Listing,
    last_frame: Mutex<Last>,
    live: Mutex<Live>,
}

impl Api {
    /// All that one request shares with others, for `options`.
    pub(super) fn new(
        options: ApiOptions,
        context: &NodeContext,
        silences: Silences,
        history: HistoryReader,
    ) -> Self {
        Self {
            watch: context.watch.clone(),
            clock: context.clock,
            started: context.clock.now(),
            draining: context.stop.clone(),
            closing: CancellationToken::new(),
            silences,
            history,
            token: options.token.as_ref().map(Token::new),
            rate_limit: Mutex::new(RateLimit::new(options.requests_per_second, options.burst)),
            streams: Arc::new(Semaphore::new(options.max_streams)),
            frames: broadcast::Sender::new(FRAMES_CAPACITY),
            listing: Listing::default(),
            last_frame: Mutex::default(),
            live: Mutex::new(Live::new(options.recent_slots, options.recent_transactions)),
            options,
        }
    }

    /// What is remembered. Held for as long as a page of it takes to copy, never over an await.
    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What clients of the stream were sent last. Held while a frame is made.
    pub(super) fn last_frame(&self) -> MutexGuard<'_, Last> {
        self.last_frame.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time now.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
