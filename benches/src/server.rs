//! The server of the comparison: `Subscribe` alone, with frames that are bytes already.
//!
//! Every subscriber gets all frames of its endpoint as fast as it takes them, whatever it asks for; then the stream
//! stays open and silent, as a real one does.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use yellowstone_grpc_proto::geyser::SubscribeRequest;
use yellowstone_grpc_proto::geyser::geyser_server::SERVICE_NAME;

/// Endpoints that are served, one listener each.
pub struct Server {
    /// Where, in order.
    pub urls: Vec<String>,
    tasks: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Server {
    /// Serves the frames as so many endpoints, each on a free port of its own.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start(frames: &Arc<[Bytes]>, endpoints: usize) -> Result<Self> {
        Self::start_paced(frames, endpoints, None).await
    }

    /// The same, with the time of each frame from the beginning of its subscription on.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start_paced(
        frames: &Arc<[Bytes]>,
        endpoints: usize,
        due: Option<Arc<[Duration]>>,
    ) -> Result<Self> {
        let mut server = Self { urls: Vec::new(), tasks: JoinSet::new() };
        for _ in 0..endpoints {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
            server.urls.push(format!("http://{}", listener.local_addr()?));
            let service = Subscribe { frames: Arc::clone(frames), due: due.clone() };
            let incoming = TcpListenerStream::new(listener)
                .and_then(|accepted| ready(accepted.set_nodelay(true).map(|()| accepted)));
            let serving = tonic::transport::Server::builder().add_service(service);
            server.tasks.spawn(serving.serve_with_incoming(incoming));
        }
        Ok(server)
    }

    /// Serves until a listener fails.
    ///
    /// # Errors
    /// What it failed with.
    pub async fn join(mut self) -> Result<()> {
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct Subscribe {
    frames: Arc<[Bytes]>,
    /// When each is sent; at once if that is not said.
    due: Option<Arc<[Duration]>>,
}

impl NamedService for Subscribe {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for Subscribe {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let subscribe = self.clone();
        Box::pin(async move { Ok(Grpc::new(RawCodec).streaming(subscribe, request).await) })
    }
}

impl StreamingService<SubscribeRequest> for Subscribe {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<SubscribeRequest>>) -> Self::Future {
        let frames = Arc::clone(&self.frames);
        let (due, begun) = (self.due.clone(), Instant::now());
        let all = stream::iter(0..frames.len()).then(move |position| {
            let frame = Ok(frames[position].clone());
            let due = due.as_ref().map(|due| begun + due[position]);
            async move {
                if let Some(due) = due.filter(|&due| due > Instant::now()) {
                    tokio::time::sleep_until(due).await;
                }
                frame
            }
        });
        // Held to the end: without it the client's side of the stream would be reset.
        let requests = request.into_inner();
        let silence = stream::once(async move {
            std::future::pending::<()>().await;
            drop(requests);
            Err(Status::internal("silence has no end"))
        });
        ready(Ok(Response::new(all.chain(silence).boxed())))
    }
}

/// Bytes out, requests in.
#[derive(Debug, Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = SubscribeRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, frame: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(frame);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = SubscribeRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<SubscribeRequest>, Status> {
        let request = SubscribeRequest::decode(buffer);
        request.map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}
