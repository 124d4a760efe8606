//! One gRPC connection to one endpoint: how it is made, subscribed with and read from. No decisions are taken here.

use std::task::Poll;
use std::time::Duration;
use std::{fs, future, pin};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{CompressionEncoding, Streaming};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint as Target};
use tonic::{Request, Status};
use yellowstone_grpc_proto::geyser::geyser_client::GeyserClient;
use yellowstone_grpc_proto::geyser::{
    CommitmentLevel, GetSlotRequest, GetVersionRequest, PingRequest, SubscribeReplayInfoRequest,
    SubscribeRequest,
};

use super::codec::FrameCodec;
use super::failure::{Failure, FailureKind};
use super::options::{Compression, YellowstoneOptions};
use super::{request, windows};
use crate::slot::Slot;

/// The protocol's method.
const SUBSCRIBE_PATH: &str = "/geyser.Geyser/Subscribe";

/// Requests that wait to be sent: the subscription and a few pings. A ping that finds no room is left out.
const REQUEST_CAPACITY: usize = 8;

/// Most updates read at once: enough to make the cost of handing a batch on small for each of them.
const MAX_BATCH_UPDATES: usize = 256;

/// Most bytes read at once, give or take the last update; a batch is what waits for memory as one.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// A stream of updates, and the way to send requests along it. Dropping it ends the subscription.
pub struct Subscription {
    updates: Streaming<Bytes>,
    requests: mpsc::Sender<SubscribeRequest>,
    /// What is asked for now; pings repeat it.
    current: SubscribeRequest,
}

/// Why a read ended.
#[derive(Debug)]
pub enum Read {
    /// There is more to come.
    More,
    /// The stream is over.
    Over(Failure),
}

/// Connects to the endpoint; `window_bytes` is the receive window of each stream.
///
/// # Errors
/// If it can't be reached within `connect_timeout`, or its TLS settings are not usable.
pub async fn connect(options: &YellowstoneOptions, window_bytes: u32) -> Result<Channel, Failure> {
    let target = target(options)?
        .initial_stream_window_size(window_bytes)
        .initial_connection_window_size(windows::of_connection(window_bytes));
    within(options.connect_timeout, async { target.connect().await.map_err(|e| Failure::from_transport(&e)) })
        .await
}

/// Subscribes, from the tip or from `from_slot` on.
///
/// # Errors
/// If the server refuses, or does not answer within `connect_timeout`. That it has accepted says nothing about
/// `from_slot` yet: servers refuse it later, in the stream.
pub async fn subscribe(
    channel: Channel,
    options: &YellowstoneOptions,
    from_slot: Option<Slot>,
) -> Result<Subscription, Failure> {
    subscribe_with(channel, options, request::subscribe(options, from_slot)).await
}

/// Subscribes with a request of one's own.
///
/// # Errors
/// See [`subscribe`].
pub async fn subscribe_with(
    channel: Channel,
    options: &YellowstoneOptions,
    first: SubscribeRequest,
) -> Result<Subscription, Failure> {
    let (requests, receiver) = mpsc::channel(REQUEST_CAPACITY);
    let current = first.clone();
    requests.try_send(first).map_err(|_| Failure::of(FailureKind::Unavailable))?;
    let call = async {
        let mut grpc = grpc(channel, options);
        grpc.ready().await.map_err(|error| Failure::from_transport(&error))?;
        let codec = FrameCodec { compressed: options.compression != Compression::None };
        let path = http::uri::PathAndQuery::from_static(SUBSCRIBE_PATH);
        let request = with_headers(ReceiverStream::new(receiver), options)?;
        grpc.streaming(request, path, codec).await.map_err(|status| failure(&status, options))
    };
    let updates = within(options.connect_timeout, call).await?.into_inner();
    Ok(Subscription { updates, requests, current })
}

/// The first slot that the server can replay, `None` if it does not say.
///
/// # Errors
/// If the server does not answer within `connect_timeout`, or has no such method.
pub async fn first_replayable_slot(
    channel: Channel,
    options: &YellowstoneOptions,
) -> Result<Option<Slot>, Failure> {
    let mut client = GeyserClient::with_origin(channel, target(options)?.uri().clone());
    let request = with_headers(SubscribeReplayInfoRequest {}, options)?;
    let call =
        async { client.subscribe_replay_info(request).await.map_err(|status| failure(&status, options)) };
    Ok(within(options.connect_timeout, call).await?.into_inner().first_available)
}

/// The newest slot that the server has seen whole.
///
/// # Errors
/// If the server does not answer within `connect_timeout`, or has no such method.
pub async fn newest_slot(channel: Channel, options: &YellowstoneOptions) -> Result<Slot, Failure> {
    let mut client = GeyserClient::with_origin(channel, target(options)?.uri().clone());
    let request = GetSlotRequest { commitment: Some(CommitmentLevel::Processed as i32) };
    let request = with_headers(request, options)?;
    let call = async { client.get_slot(request).await.map_err(|status| failure(&status, options)) };
    Ok(within(options.connect_timeout, call).await?.into_inner().slot)
}

/// Asks for a sign of life.
///
/// # Errors
/// If the server does not answer within `connect_timeout`, or has no such method.
pub async fn ping(channel: Channel, options: &YellowstoneOptions) -> Result<(), Failure> {
    let mut client = GeyserClient::with_origin(channel, target(options)?.uri().clone());
    let request = with_headers(PingRequest { count: 1 }, options)?;
    let call = async { client.ping(request).await.map_err(|status| failure(&status, options)) };
    within(options.connect_timeout, call).await.map(drop)
}

/// What the server says that it runs: JSON of servers that are built on the plugin's own, any text from others.
///
/// # Errors
/// If the server does not answer within `connect_timeout`, or has no such method.
pub async fn version(channel: Channel, options: &YellowstoneOptions) -> Result<String, Failure> {
    let mut client = GeyserClient::with_origin(channel, target(options)?.uri().clone());
    let request = with_headers(GetVersionRequest {}, options)?;
    let call = async { client.get_version(request).await.map_err(|status| failure(&status, options)) };
    Ok(within(options.connect_timeout, call).await?.into_inner().version)
}

/// The answer to a question, if the server has a method for it: that it has not says nothing against it.
///
/// # Errors
/// Any other failure.
pub fn answered<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if failure.kind == FailureKind::Unimplemented => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl Subscription {
    /// Waits for an update and reads on until nothing more is ready or a batch is full, into `updates`, which is empty
    /// before. Cancel-safe: what was read is in `updates`, and there is something only when the call returns.
    pub async fn read(&mut self, updates: &mut Vec<Bytes>) -> Result<Read, Status> {
        let mut bytes = 0;
        future::poll_fn(|context| {
            loop {
                match pin::Pin::new(&mut self.updates).poll_next(context) {
                    Poll::Ready(Some(Ok(update))) => {
                        bytes += update.len();
                        updates.push(update);
                        if updates.len() >= MAX_BATCH_UPDATES || bytes >= MAX_BATCH_BYTES {
                            return Poll::Ready(Ok(Read::More));
                        }
                    }
                    Poll::Ready(Some(Err(status))) => return Poll::Ready(Err(status)),
                    Poll::Ready(None) => return Poll::Ready(Ok(Read::Over(Failure::of(FailureKind::Ended)))),
                    Poll::Pending if updates.is_empty() => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(Ok(Read::More)),
                }
            }
        })
        .await
    }

    /// Sends a ping, or the answer to one. Lost if the server does not read, in which case it learns nothing new from it.
    pub fn ping(&self, id: i32) -> bool {
        self.requests.try_send(request::ping_beside(self.current.clone(), id)).is_ok()
    }

    /// Asks for something else along the same stream; false if the server does not read.
    pub fn ask(&mut self, request: SubscribeRequest) -> bool {
        self.current = request.clone();
        self.requests.try_send(request).is_ok()
    }
}

/// What a status means, without the token in it.
pub fn failure(status: &Status, options: &YellowstoneOptions) -> Failure {
    let token = options.x_token.iter().chain(options.headers.values());
    token.fold(Failure::from_status(status), |failure, secret| failure.redacted(secret.expose()))
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(Failure { kind: FailureKind::Unavailable, detail: "no answer in time".to_owned() }),
    }
}

fn target(options: &YellowstoneOptions) -> Result<Target, Failure> {
    let target = Target::from_shared(options.url.clone())
        .and_then(|target| target.user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION"))))
        .map_err(|error| Failure::from_transport(&error))?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true);
    if target.uri().scheme_str() != Some("https") {
        return Ok(target);
    }
    target.tls_config(tls(options)?).map_err(|error| Failure::from_transport(&error))
}

fn tls(options: &YellowstoneOptions) -> Result<ClientTlsConfig, Failure> {
    let config = match &options.tls.ca_file {
        None => ClientTlsConfig::new().with_enabled_roots(),
        Some(path) => {
            let pem = fs::read(path).map_err(|error| Failure {
                kind: FailureKind::Unavailable,
                detail: format!("{}: {error}", path.display()),
            })?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
        }
    };
    Ok(match &options.tls.domain {
        Some(domain) => config.domain_name(domain),
        None => config,
    })
}

fn grpc(channel: Channel, options: &YellowstoneOptions) -> Grpc<Channel> {
    // The url's path, which some providers put a token in, goes before the method's.
    let origin = options.url.parse().unwrap_or_default();
    let grpc = Grpc::with_origin(channel, origin)
        .max_decoding_message_size(usize::try_from(options.max_message_bytes).unwrap_or(usize::MAX));
    match options.compression {
        Compression::None => grpc,
        Compression::Gzip => grpc.accept_compressed(CompressionEncoding::Gzip),
        Compression::Zstd => grpc.accept_compressed(CompressionEncoding::Zstd),
    }
}

fn with_headers<T>(message: T, options: &YellowstoneOptions) -> Result<Request<T>, Failure> {
    let mut request = Request::new(message);
    let token = options.x_token.as_ref().map(|token| ("x-token", token));
    let others = options.headers.iter().map(|(name, value)| (name.as_str(), value));
    for (name, value) in token.into_iter().chain(others) {
        let unusable =
            || Failure { kind: FailureKind::Rejected, detail: format!("header {name} is not usable") };
        let key = AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
        let value = AsciiMetadataValue::try_from(value.expose()).map_err(|_| unusable())?;
        request.metadata_mut().insert(key, value);
    }
    Ok(request)
}
