//! The gRPC server of one endpoint: `Subscribe` with bytes that are already encoded, the unary calls through prost.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings};
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use yellowstone_grpc_proto::geyser::geyser_server::{Geyser, GeyserServer, SERVICE_NAME};
use yellowstone_grpc_proto::prelude::*;

use super::codec::RawCodec;
use super::{Context, ServeError};
use crate::cluster::{Emission, Endpoint, Level, Refusal, Subscription};
use crate::ledger::Version;

const SUBSCRIBE_PATH: &str = "/geyser.Geyser/Subscribe";
/// Updates taken from a subscription at once, so that one subscriber does not hold a thread for long.
const POLL_UPDATES: usize = 256;
/// Blocks for which a blockhash stays valid.
const BLOCKHASH_BLOCKS: u64 = 150;

/// Serves one endpoint until it is cancelled.
pub(super) async fn serve(
    listener: TcpListener,
    endpoint: Arc<Endpoint>,
    context: Context,
) -> Result<(), ServeError> {
    let cancelled = context.cancel.clone().cancelled_owned();
    let unary = GeyserServer::new(Unary { endpoint: Arc::clone(&endpoint), context: context.clone() })
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd);
    let service = GeyserService { endpoint, context, unary };
    let incoming = TcpListenerStream::new(listener).map(|accepted| {
        // Updates are small, and a subscriber compares arrival times: no waiting for a full segment.
        accepted.and_then(|stream| stream.set_nodelay(true).map(|()| stream))
    });
    let server = Server::builder().add_service(service);
    Ok(server.serve_with_incoming_shutdown(incoming, cancelled).await?)
}

/// Takes `Subscribe` out, hands the rest on.
#[derive(Debug, Clone)]
struct GeyserService {
    endpoint: Arc<Endpoint>,
    context: Context,
    unary: GeyserServer<Unary>,
}

impl NamedService for GeyserService {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for GeyserService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != SUBSCRIBE_PATH {
            self.context.counters.unary_calls.fetch_add(1, Ordering::Relaxed);
            return self.unary.call(request);
        }
        let token = request.headers().get("x-token").and_then(|value| value.to_str().ok());
        if let Err(refusal) = self.endpoint.admit(self.context.clock.now(), token) {
            return std::future::ready(Ok(refused(refusal))).boxed();
        }
        let subscribe = Subscribe { endpoint: Arc::clone(&self.endpoint), context: self.context.clone() };
        async move { Ok(grpc().streaming(subscribe, request).await) }.boxed()
    }
}

/// The client chooses the compression, as with the real plugin.
fn grpc() -> Grpc<RawCodec> {
    let mut encodings = EnabledCompressionEncodings::default();
    encodings.enable(CompressionEncoding::Gzip);
    encodings.enable(CompressionEncoding::Zstd);
    Grpc::new(RawCodec).apply_compression_config(encodings, encodings)
}

fn refused(refusal: Refusal) -> http::Response<Body> {
    match refusal {
        Refusal::Grpc(status) => status.into_http(),
        Refusal::Http(code) => {
            let mut response = http::Response::new(Body::empty());
            *response.status_mut() =
                http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::BAD_GATEWAY);
            response
        }
    }
}

struct Subscribe {
    endpoint: Arc<Endpoint>,
    context: Context,
}

impl StreamingService<SubscribeRequest> for Subscribe {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    /// Answers at once: clients may send their first request only when the stream is open.
    fn call(&mut self, request: Request<Streaming<SubscribeRequest>>) -> Self::Future {
        let session = Session {
            endpoint: Arc::clone(&self.endpoint),
            context: self.context.clone(),
            requests: Some(request.into_inner()),
            subscription: None,
            emissions: VecDeque::new(),
        };
        std::future::ready(Ok(Response::new(session.into_stream().boxed())))
    }
}

/// One stream, driven by the client's demand.
struct Session {
    endpoint: Arc<Endpoint>,
    context: Context,
    /// `None` once the client has said all it will.
    requests: Option<Streaming<SubscribeRequest>>,
    subscription: Option<Subscription>,
    emissions: VecDeque<Emission>,
}

impl Session {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Status>> + Send {
        stream::unfold(Some(self), |session| async move {
            let mut session = session?;
            match session.next().await {
                Ok(Some(frame)) => Some((Ok(frame), Some(session))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            match self.emissions.pop_front() {
                Some(Emission::Frame(frame)) => return Ok(Some(self.count(frame))),
                Some(Emission::End(status)) => return Err(status),
                Some(Emission::Close) => return Ok(None),
                Some(Emission::Hang) => {
                    self.context.cancel.cancelled().await;
                    return Err(shutting_down());
                }
                None => {}
            }
            let Some(subscription) = &mut self.subscription else {
                if !self.open().await? {
                    return Ok(None);
                }
                continue;
            };
            let emissions = subscription.poll(self.context.clock.now(), POLL_UPDATES);
            let idle = emissions.is_empty();
            self.emissions.extend(emissions);
            self.wait(idle).await?;
        }
    }

    fn count(&self, frame: Bytes) -> Bytes {
        let counters = &self.context.counters;
        counters.updates.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
        frame
    }

    /// Opens the subscription with the client's first request; false if there is none.
    async fn open(&mut self) -> Result<bool, Status> {
        let Some(requests) = &mut self.requests else { return Ok(false) };
        let request = tokio::select! {
            () = self.context.cancel.cancelled() => return Err(shutting_down()),
            request = requests.message() => request?,
        };
        let Some(request) = request else { return Ok(false) };
        let opened = self.endpoint.open(self.context.clock.now(), &request)?;
        self.subscription = Some(opened);
        let counters = &self.context.counters;
        counters.subscriptions.fetch_add(1, Ordering::Relaxed);
        counters.replays.fetch_add(u64::from(request.from_slot.is_some()), Ordering::Relaxed);
        self.context.clock.subscribed();
        Ok(true)
    }

    /// Waits for what comes first: the next update, a request, the end. Without idling, only looks for a request.
    async fn wait(&mut self, idle: bool) -> Result<(), Status> {
        let Some(subscription) = &mut self.subscription else { return Ok(()) };
        let deadline = subscription.next_deadline();
        let due = async {
            if idle {
                self.context.clock.sleep_until(deadline).await;
            }
        };
        let request = async {
            match &mut self.requests {
                Some(requests) => requests.message().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.context.cancel.cancelled() => Err(shutting_down()),
            request = request => match request {
                Ok(Some(request)) => {
                    let asks = u64::from(request.from_slot.is_some());
                    self.context.counters.replays_along_streams.fetch_add(asks, Ordering::Relaxed);
                    subscription.update(self.context.clock.now(), &request)
                }
                // A client may close its side and read on; an error there shows on the way out too.
                Ok(None) | Err(_) => {
                    self.requests = None;
                    Ok(())
                }
            },
            () = due => Ok(()),
        }
    }
}

fn shutting_down() -> Status {
    Status::unavailable("server is shutting down")
}

/// The unary calls of an endpoint.
#[derive(Debug)]
struct Unary {
    endpoint: Arc<Endpoint>,
    context: Context,
}

impl Unary {
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let token = request.metadata().get("x-token").and_then(|value| value.to_str().ok());
        self.endpoint.check(self.context.clock.now(), token).map_err(|refusal| match refusal {
            Refusal::Grpc(status) => status,
            Refusal::Http(code) => Status::unavailable(format!("HTTP status {code}")),
        })
    }

    fn newest(&self, commitment: Option<i32>) -> Result<Arc<Version>, Status> {
        let newest = self.endpoint.newest(self.context.clock.now(), level(commitment)?);
        newest.ok_or_else(|| Status::internal("block not available"))
    }
}

fn level(commitment: Option<i32>) -> Result<Level, Status> {
    match CommitmentLevel::try_from(commitment.unwrap_or_default()) {
        Ok(CommitmentLevel::Processed) => Ok(Level::Processed),
        Ok(CommitmentLevel::Confirmed) => Ok(Level::Confirmed),
        Ok(CommitmentLevel::Finalized) => Ok(Level::Finalized),
        Err(_) => Err(Status::invalid_argument("unknown commitment")),
    }
}

type Updates<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl Geyser for Unary {
    type SubscribeStream = Updates<SubscribeUpdate>;
    type SubscribeDeshredStream = Updates<SubscribeUpdateDeshred>;
    type SubscribeGossipStream = Updates<SubscribeUpdateGossip>;

    /// Never called: [`GeyserService`] takes this path out, because prost would encode each update anew.
    async fn subscribe(
        &self,
        _: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("subscriptions are served elsewhere"))
    }

    async fn subscribe_deshred(
        &self,
        _: Request<Streaming<SubscribeDeshredRequest>>,
    ) -> Result<Response<Self::SubscribeDeshredStream>, Status> {
        Err(Status::unimplemented("this server has no deshred transactions"))
    }

    async fn subscribe_gossip(
        &self,
        _: Request<SubscribeGossipRequest>,
    ) -> Result<Response<Self::SubscribeGossipStream>, Status> {
        Err(Status::unimplemented("this server has no gossip"))
    }

    async fn subscribe_replay_info(
        &self,
        request: Request<SubscribeReplayInfoRequest>,
    ) -> Result<Response<SubscribeReplayInfoResponse>, Status> {
        self.check(&request)?;
        let first_available = self.endpoint.first_available(self.context.clock.now());
        Ok(Response::new(SubscribeReplayInfoResponse { first_available }))
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PongResponse>, Status> {
        self.check(&request)?;
        Ok(Response::new(PongResponse { count: request.get_ref().count }))
    }

    async fn get_latest_blockhash(
        &self,
        request: Request<GetLatestBlockhashRequest>,
    ) -> Result<Response<GetLatestBlockhashResponse>, Status> {
        self.check(&request)?;
        let block = &self.newest(request.get_ref().commitment)?.block;
        Ok(Response::new(GetLatestBlockhashResponse {
            slot: block.slot,
            blockhash: block.blockhash.clone(),
            last_valid_block_height: block.block_height.unwrap_or_default() + BLOCKHASH_BLOCKS,
        }))
    }

    async fn get_block_height(
        &self,
        request: Request<GetBlockHeightRequest>,
    ) -> Result<Response<GetBlockHeightResponse>, Status> {
        self.check(&request)?;
        let newest = self.newest(request.get_ref().commitment)?;
        let block_height = newest.block.block_height.unwrap_or_default();
        Ok(Response::new(GetBlockHeightResponse { block_height }))
    }

    async fn get_slot(&self, request: Request<GetSlotRequest>) -> Result<Response<GetSlotResponse>, Status> {
        self.check(&request)?;
        let slot = self.newest(request.get_ref().commitment)?.block.slot;
        Ok(Response::new(GetSlotResponse { slot }))
    }

    async fn is_blockhash_valid(
        &self,
        request: Request<IsBlockhashValidRequest>,
    ) -> Result<Response<IsBlockhashValidResponse>, Status> {
        self.check(&request)?;
        let asked = request.get_ref();
        let now = self.context.clock.now();
        let answer = self.endpoint.is_blockhash_valid(now, &asked.blockhash, level(asked.commitment)?);
        let (slot, valid) = answer.ok_or_else(|| Status::internal("block not available"))?;
        Ok(Response::new(IsBlockhashValidResponse { slot, valid }))
    }

    async fn get_version(
        &self,
        request: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        self.check(&request)?;
        let version = serde_json::json!({
            "version": {
                "package": "sluice-cluster",
                "version": env!("CARGO_PKG_VERSION"),
                "proto": self.endpoint.proto_version(),
            },
            "extra": { "endpoint": self.endpoint.index() },
        });
        Ok(Response::new(GetVersionResponse { version: version.to_string() }))
    }
}
