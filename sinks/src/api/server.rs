//! Connections: accepted, bounded, and ended.
//!
//! HTTP/1.1 alone: a client can hold one request a connection, so the bound on connections is one on requests too.
//! A handshake, headers (64 KiB at most) and a body have to come within `request_timeout`, and the next request of a
//! connection within as long; a client that reads nothing of what it is sent for three times that is let go.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sluice_stages::component::BuildError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::guard::Peer;
use super::options::TlsFiles;
use super::patient::Patient;
use super::router;
use super::shared::Api;

/// For how many request timeouts a client may take nothing of what it is sent: streams send something each second.
const STALL_TIMEOUTS: u32 = 3;
/// Bytes of a request's line and headers.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Wait after the system refused a connection, which it does when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Certificate and key, ready to be used.
pub(super) fn tls_acceptor(files: &TlsFiles) -> Result<TlsAcceptor, BuildError> {
    let unusable = |path: &std::path::Path, error: &dyn std::fmt::Display| {
        BuildError::Other(format!("{}: {error}; give PEM files", path.display()))
    };
    let certificates = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(&files.cert, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unusable(&files.key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key));
    let mut config = config.map_err(|error| unusable(&files.cert, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `api.closing`; then lets what is being answered end.
pub(super) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, api: Arc<Api>) {
    let room = Arc::new(Semaphore::new(api.options.max_connections.min(half_of_files())));
    let (router, closing) = (router::router(&api), api.closing.clone());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (stream, peer, permit) = accept(&listener, &room) => {
                let (router, closing) = (router.clone(), closing.clone());
                let connection = Connection { router, peer, timeout: api.options.request_timeout, closing, permit };
                let tls = tls.clone();
                connections.spawn(async move { connection.run(stream, tls).await });
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, Peer, OwnedSemaphorePermit) {
    let permit = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, Peer(address.ip().to_canonical()), permit),
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Half of the files that the process may open: the rest is for the pipeline.
fn half_of_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    open_files(&limits).map_or(usize::MAX >> 4, |files| files / 2)
}

/// The soft limit of open files in the text of `/proc/self/limits`.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

struct Connection {
    router: Router,
    peer: Peer,
    /// How long the handshake may take, and each request's headers.
    timeout: Duration,
    closing: CancellationToken,
    permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        stream.set_nodelay(true).ok();
        match tls {
            None => self.serve(stream).await,
            Some(tls) => match tokio::time::timeout(self.timeout, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.serve(stream).await,
                Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
                Err(_) => tracing::debug!("no TLS handshake in time"),
            },
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { router, peer, timeout, closing, permit } = self;
        let service = TowerToHyperService::new(router.layer(Extension(peer)));
        let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
        builder.http1().timer(TokioTimer::new()).header_read_timeout(timeout).max_buf_size(MAX_HEADER_BYTES);
        let stream = Patient::new(stream, timeout * STALL_TIMEOUTS);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke off");
        }
        drop(permit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_open_files_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             7                    7                    processes\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(open_files(limits), Some(1_024));
        assert_eq!(
            open_files("Max open files            unlimited            unlimited            files"),
            None
        );
    }
}
