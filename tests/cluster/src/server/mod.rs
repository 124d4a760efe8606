//! Serves a cluster on the loopback interface by the wall clock.
//!
//! ```text
//!  endpoint 0 ── gRPC listener ── one stream per subscriber, pulled by the client's flow control
//!  endpoint 1 ── gRPC listener ──┘
//!  RPC        ── HTTP listener
//! ```
//!
//! No stream has a queue of its own: a slow client simply reads the script later. Each listener is one task; shutdown
//! ends the streams, then the listeners, and waits for both for a bounded time.

mod clock;
mod codec;
mod geyser;
mod json_rpc;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;

use clock::Clock;

/// How long a shutdown waits for clients to let go.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Where and when to serve.
#[derive(Debug, Clone, Default)]
pub struct ServeOptions {
    /// Port of the first endpoint, the others follow; `None` takes free ones.
    pub grpc_port: Option<u16>,
    /// Port of the RPC side; `None` takes a free one.
    pub rpc_port: Option<u16>,
    /// Time stands still until so many subscriptions are open, so that all see the ledger from its start; 0 starts at
    /// once.
    pub start_after_subscriptions: usize,
}

/// What was served so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Subscriptions opened.
    pub subscriptions: u64,
    /// Those of them that asked for a replay.
    pub replays: u64,
    /// Requests along an open stream that asked for a replay.
    pub replays_along_streams: u64,
    /// Calls of the other methods of endpoints.
    pub unary_calls: u64,
    /// Updates sent.
    pub updates: u64,
    /// Bytes of updates sent, before compression.
    pub bytes: u64,
    /// HTTP requests to the RPC side.
    pub rpc_requests: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    subscriptions: AtomicU64,
    replays: AtomicU64,
    replays_along_streams: AtomicU64,
    unary_calls: AtomicU64,
    updates: AtomicU64,
    bytes: AtomicU64,
    rpc_requests: AtomicU64,
}

/// What the servers share.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    cluster: Cluster,
    clock: Arc<Clock>,
    counters: Arc<Counters>,
    cancel: CancellationToken,
}

/// A cluster that is being served. Dropping it ends the servers at once; [`Running::shutdown`] lets streams end
/// first.
#[derive(Debug)]
pub struct Running {
    grpc_urls: Vec<String>,
    rpc_url: String,
    context: Context,
    tasks: JoinSet<Result<(), ServeError>>,
}

/// Why a server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port can't be had.
    #[error("can't listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The gRPC server failed.
    #[error("gRPC server failed")]
    Grpc(#[from] tonic::transport::Error),
    /// The RPC server failed.
    #[error("RPC server failed")]
    Rpc(#[source] std::io::Error),
    /// The port range goes beyond the last port.
    #[error("ports from {0} on do not suffice")]
    Ports(u16),
}

impl Running {
    /// Starts all servers of a cluster.
    pub async fn start(cluster: Cluster, options: ServeOptions) -> Result<Self, ServeError> {
        let clock = Clock::new(cluster.clone(), options.start_after_subscriptions);
        let context = Context {
            cluster,
            clock: Arc::new(clock),
            counters: Arc::default(),
            cancel: CancellationToken::new(),
        };
        let mut tasks = JoinSet::new();
        let mut grpc_urls = Vec::new();
        for (index, endpoint) in context.cluster.endpoints().iter().enumerate() {
            let listener = listen(port(options.grpc_port, index)?).await?;
            grpc_urls.push(url(&listener)?);
            tasks.spawn(geyser::serve(listener, Arc::clone(endpoint), context.clone()));
        }
        let listener = listen(options.rpc_port.unwrap_or_default()).await?;
        let rpc_url = url(&listener)?;
        tasks.spawn(json_rpc::serve(listener, context.clone()));
        Ok(Self { grpc_urls, rpc_url, context, tasks })
    }

    /// URLs of the Yellowstone endpoints, in order.
    pub fn grpc_urls(&self) -> &[String] {
        &self.grpc_urls
    }

    /// URL of the RPC side.
    pub fn rpc_url(&self) -> &str {
        &self.rpc_url
    }

    /// The cluster that is served.
    pub fn cluster(&self) -> &Cluster {
        &self.context.cluster
    }

    /// Time since the cluster's start, as its endpoints see it.
    pub fn now(&self) -> Duration {
        self.context.clock.now()
    }

    /// What was served so far.
    pub fn progress(&self) -> Progress {
        let counters = &self.context.counters;
        Progress {
            subscriptions: counters.subscriptions.load(Ordering::Relaxed),
            replays: counters.replays.load(Ordering::Relaxed),
            replays_along_streams: counters.replays_along_streams.load(Ordering::Relaxed),
            unary_calls: counters.unary_calls.load(Ordering::Relaxed),
            updates: counters.updates.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            rpc_requests: counters.rpc_requests.load(Ordering::Relaxed),
        }
    }

    /// Ends all streams and servers. The first failure of a server is the result.
    pub async fn shutdown(mut self) -> Result<(), ServeError> {
        self.context.cancel.cancel();
        let drain = async {
            let mut result = Ok(());
            while let Some(joined) = self.tasks.join_next().await {
                result = result.and(joined.unwrap_or(Ok(())));
            }
            result
        };
        // What does not let go in time ends with the set of tasks.
        tokio::time::timeout(SHUTDOWN_GRACE, drain).await.unwrap_or(Ok(()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.context.cancel.cancel();
    }
}

fn port(first: Option<u16>, index: usize) -> Result<u16, ServeError> {
    let Some(first) = first.filter(|&port| port != 0) else { return Ok(0) };
    u16::try_from(usize::from(first) + index).map_err(|_| ServeError::Ports(first))
}

async fn listen(port: u16) -> Result<TcpListener, ServeError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

fn url(listener: &TcpListener) -> Result<String, ServeError> {
    let address = listener.local_addr().map_err(ServeError::Rpc)?;
    Ok(format!("http://{address}"))
}
