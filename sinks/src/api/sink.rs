//! The sink: takes its inbox empty at once, counts seconds, and owns the server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use sluice_stages::batch::Batch;
use sluice_stages::edge::Inbox;
use sluice_stages::node::{Clock, NodeContext, NodeError, Sink};
use sluice_stages::silence::Silences;
use sluice_stages::slot::Timestamp;
use sluice_stages::stage::Metric;
use sluice_stages::watch::{Reported, Watch};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::guard::Token;
use super::options::ApiOptions;
use super::rate_limit::RateLimit;
use super::routes;
use super::server;
use super::state::Live;
use super::stream::{Frame, frame_of};
use crate::history::HistoryReader;

/// How often streams are fed.
const TICK: Duration = Duration::from_secs(1);
/// Frames that a client of the stream may be behind before it misses some: a minute.
const FRAMES_CAPACITY: usize = 64;
/// How long connections may go on with what they are at once the pipeline has ended.
const GRACE: Duration = Duration::from_millis(250);

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
    pub(super) listing: routes::datasets::ListingCache,
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
            listing: routes::datasets::ListingCache::default(),
            live: Mutex::new(Live::new(options.recent_slots, options.recent_transactions)),
            options,
        }
    }

    /// What is remembered. Held for as long as a page of it takes to copy, never over an await.
    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time now.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn on_batch(&self, batch: &Batch) {
        let mut live = self.live();
        batch.iter().for_each(|item| live.on_item(item));
    }

    fn on_report(&self, report: &Reported) {
        self.live().on_report(report, &self.watch);
    }

    /// Counts a second, and feeds the streams if anybody reads them.
    fn on_tick(&self, last_event: &mut u64) {
        let now = self.now();
        self.live().on_tick(now, &self.watch);
        let after = std::mem::replace(last_event, self.live().events.newest());
        let changed = self.live().slots.take_changed();
        if self.frames.receiver_count() > 0 {
            let frame = frame_of(self, changed, after);
            // The last reader may have gone since.
            self.frames.send(Arc::new(frame)).ok();
        }
    }

    fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        show(Metric::new("api_streams", self.frames.receiver_count() as u64));
        show(Metric::new("api_discarded_readings_total", self.live().series.discarded));
    }
}

/// The sink, ready to run.
pub(super) struct ApiSink {
    pub(super) options: ApiOptions,
    pub(super) listener: std::net::TcpListener,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) silences: Silences,
    pub(super) history: HistoryReader,
}

impl Sink for ApiSink {
    fn run(self: Box<Self>, inbox: Inbox, context: NodeContext) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move { self.serve(inbox, context).await })
    }
}

impl ApiSink {
    async fn serve(self, inbox: Inbox, context: NodeContext) -> Result<(), NodeError> {
        let fatal = |error: std::io::Error| NodeError::Fatal(format!("can't listen: {error}"));
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(fatal)?;
        let address = listener.local_addr().map_err(fatal)?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        tracing::info!(node = %context.name, "dashboard at {scheme}://{address}/performance");
        let api = Arc::new(Api::new(self.options, &context, self.silences, self.history));
        let server = server::serve(listener, self.tls, Arc::clone(&api));
        let feed = feed(&api, inbox, &context);
        tokio::pin!(server);
        tokio::select! {
            () = &mut server => return Err(NodeError::Fatal("the listener has ended".to_owned())),
            () = feed => {}
        }
        // What is being answered may end; streams are told to.
        api.closing.cancel();
        tokio::time::timeout(GRACE, server).await.ok();
        Ok(())
    }
}

/// Reads the inbox, the reports and the clock until the inbox ends.
async fn feed(api: &Api, mut inbox: Inbox, context: &NodeContext) {
    let mut reports = Some(api.watch.reports());
    let mut last_event = 0;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            received = inbox.recv() => match received {
                Some((_, batch)) => api.on_batch(&batch),
                None => return,
            },
            report = next_report(&mut reports) => api.on_report(&report),
            _ = ticks.tick() => {
                api.on_tick(&mut last_event);
                context.metrics.show(|show| api.metrics(show));
            }
        }
    }
}

/// The next report; never, once there are no more.
async fn next_report(reports: &mut Option<broadcast::Receiver<Reported>>) -> Reported {
    while let Some(open) = reports {
        match open.recv().await {
            Ok(report) => return report,
            Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "events not shown"),
            Err(RecvError::Closed) => *reports = None,
        }
    }
    std::future::pending().await
}
