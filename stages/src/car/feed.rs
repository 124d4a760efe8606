//! The bytes of an archive, from a file or over HTTP, eight megabytes at a time.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE, RETRY_AFTER};
use sluice_config::secret::Secret;
use thiserror::Error;

/// Bytes read at once: enough to keep a long way to the server busy, few enough to be asked for again.
const CHUNK_BYTES: u64 = 8 << 20;
/// Tries of one chunk; with the waits between them some two minutes.
const MAX_TRIES: u32 = 10;
/// The first wait between two tries, doubled each time.
const MIN_WAIT: Duration = Duration::from_millis(250);
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Longest time to connect, and longest time without a byte.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why there are no more bytes.
#[derive(Debug, Error)]
pub(super) enum FeedError {
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server does not do what this needs.
    #[error("the archive's server {0}")]
    Server(String),
    /// The server can't be reached, or breaks off.
    #[error("the archive's server can't be reached: {0}")]
    Transport(String),
    /// A bug.
    #[error("the reader of the archive panicked")]
    Panicked,
}

impl FeedError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Transport(_))
    }
}

/// Where bytes come from.
pub(super) enum Feed {
    /// A file, and its path for errors; away only while a blocking thread reads it.
    File(Option<File>, PathBuf),
    /// A server.
    Http(Box<Http>),
}

/// A server, and how far it was read.
pub(super) struct Http {
    client: reqwest::Client,
    url: Secret,
    offset: u64,
    length: Option<u64>,
}

impl Feed {
    pub(super) fn file(path: PathBuf) -> Result<Self, FeedError> {
        match File::open(&path) {
            Ok(file) => Ok(Self::File(Some(file), path)),
            Err(source) => Err(FeedError::File { path, source }),
        }
    }

    pub(super) fn http(url: Secret) -> Result<Self, FeedError> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(TIMEOUT)
            .read_timeout(TIMEOUT)
            .build()
            .map_err(transport)?;
        Ok(Self::Http(Box::new(Http { client, url, offset: 0, length: None })))
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FeedError> {
        match self {
            Self::Http(http) => http.next().await,
            Self::File(file, path) => {
                let mut reading = file.take().ok_or(FeedError::Panicked)?;
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = Vec::new();
                    let result = reading.by_ref().take(CHUNK_BYTES).read_to_end(&mut bytes);
                    (reading, result.map(|_| bytes))
                });
                let (reading, bytes) = read.await.map_err(|_| FeedError::Panicked)?;
                *file = Some(reading);
                let bytes = bytes.map_err(|source| FeedError::File { path: path.clone(), source })?;
                Ok((!bytes.is_empty()).then(|| Bytes::from(bytes)))
            }
        }
    }
}

impl Http {
    async fn next(&mut self) -> Result<Option<Bytes>, FeedError> {
        if self.length.is_some_and(|length| self.offset >= length) {
            return Ok(None);
        }
        let mut wait = MIN_WAIT;
        for _ in 1..MAX_TRIES {
            match self.fetch().await {
                Err((error, asked)) if error.is_retryable() => {
                    tracing::debug!(%error, "asking for the archive again");
                    tokio::time::sleep(asked.unwrap_or(wait).min(MAX_WAIT)).await;
                    wait = (wait * 2).min(MAX_WAIT);
                }
                result => return result.map(Some).map_err(|(error, _)| error),
            }
        }
        self.fetch().await.map(Some).map_err(|(error, _)| error)
    }

    /// One range; the wait is what the server asks for.
    async fn fetch(&mut self) -> Result<Bytes, (FeedError, Option<Duration>)> {
        let last = self.offset.saturating_add(CHUNK_BYTES - 1);
        let range = format!("bytes={}-{last}", self.offset);
        let request = self.client.get(self.url.expose()).header(RANGE, range);
        let mut response = request.send().await.map_err(|error| (transport(error), None))?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err((
                FeedError::Transport(format!("HTTP status {status}")),
                retry_after(response.headers()),
            ));
        }
        if status != StatusCode::PARTIAL_CONTENT {
            let what = match status.is_success() {
                true => "does not serve ranges of the file".to_owned(),
                false => format!("answers with HTTP status {status}"),
            };
            return Err((FeedError::Server(what), None));
        }
        let (first, length) = content_range(response.headers())
            .ok_or_else(|| (FeedError::Server("does not say which range it sends".to_owned()), None))?;
        if first != self.offset || self.length.is_some_and(|known| known != length) {
            return Err((
                FeedError::Server("sends another range, or another file, than before".to_owned()),
                None,
            ));
        }
        let wanted = CHUNK_BYTES.min(length.saturating_sub(first));
        let mut bytes = BytesMut::new();
        while let Some(part) = response.chunk().await.map_err(|error| (transport(error), None))? {
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > wanted {
                return Err((FeedError::Server("sends more than was asked for".to_owned()), None));
            }
        }
        if (bytes.len() as u64) < wanted {
            return Err((FeedError::Transport("the answer broke off".to_owned()), None));
        }
        self.offset += wanted;
        self.length = Some(length);
        Ok(bytes.freeze())
    }
}

/// reqwest's errors name the url, which may hold a key.
fn transport(error: reqwest::Error) -> FeedError {
    FeedError::Transport(error.without_url().to_string())
}

/// Reads `bytes FIRST-LAST/LENGTH`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let (range, length) =
        headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, length.parse().ok()?))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_servers_write_them() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, text.parse().expect("ASCII"));
            content_range(&headers)
        };
        assert_eq!(read("bytes 5-9/100"), Some((5, 100)));
        assert_eq!(read("bytes 5-9/*"), None);
        assert_eq!(read("bytes */100"), None);
    }
}
