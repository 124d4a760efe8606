//! The bytes of an archive, from a file or over HTTP, eight megabytes at a time.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, RANGE, RETRY_AFTER};
use sluice_config::secret::Secret;
use thiserror::Error;

use crate::node::Clock;
use crate::slot::Timestamp;
use crate::time_text;

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
/// Longest time that an answer may take, however it trickles: below 28 KB/s an epoch would take a year.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

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
    clock: Clock,
    /// Where the chunk begins that is read.
    offset: u64,
    /// What there is of it: an answer that broke off is gone on with behind what it brought.
    part: BytesMut,
    /// The file's length and version, once an answer told them. Neither may change while it is read.
    length: Option<u64>,
    version: Option<HeaderValue>,
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
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(transport)?;
        let (clock, part) = (Clock::start(), BytesMut::new());
        Ok(Self::Http(Box::new(Http { client, url, clock, offset: 0, part, length: None, version: None })))
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
        let (mut wait, mut tries) = (MIN_WAIT, 0);
        loop {
            let before = self.part.len();
            let (error, asked) = match self.fetch().await {
                Ok(()) => return Ok(Some(self.take())),
                Err(failed) => failed,
            };
            if self.part.len() > before {
                (wait, tries) = (MIN_WAIT, 0);
            }
            tries += 1;
            if tries >= MAX_TRIES || !error.is_retryable() {
                return Err(error);
            }
            tracing::debug!(%error, "asking for the archive again");
            tokio::time::sleep(asked.unwrap_or(wait).min(MAX_WAIT)).await;
            wait = (wait * 2).min(MAX_WAIT);
        }
    }

    /// The chunk; what is read next is behind it.
    fn take(&mut self) -> Bytes {
        self.offset += self.part.len() as u64;
        self.part.split().freeze()
    }

    /// Reads on to the end of the chunk; the wait is what the server asks for.
    async fn fetch(&mut self) -> Result<(), (FeedError, Option<Duration>)> {
        let first = self.offset + self.part.len() as u64;
        let range = format!("bytes={first}-{}", self.offset.saturating_add(CHUNK_BYTES - 1));
        let request = self.client.get(self.url.expose()).header(RANGE, range);
        let mut response = request.send().await.map_err(|error| (transport(error), None))?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err((
                FeedError::Transport(format!("HTTP status {status}")),
                retry_after(response.headers(), self.clock.now()),
            ));
        }
        let length =
            self.check(status, response.headers(), first).map_err(|what| (FeedError::Server(what), None))?;
        let wanted = CHUNK_BYTES.min(length.saturating_sub(self.offset));
        while let Some(part) = response.chunk().await.map_err(|error| (transport(error), None))? {
            if (self.part.len() + part.len()) as u64 > wanted {
                return Err((FeedError::Server("sends more than was asked for".to_owned()), None));
            }
            self.part.extend_from_slice(&part);
        }
        match (self.part.len() as u64) < wanted {
            true => Err((FeedError::Transport("the answer broke off".to_owned()), None)),
            false => Ok(()),
        }
    }

    /// The file's length, from an answer that is of the right part of the same file as all before.
    fn check(&mut self, status: StatusCode, headers: &HeaderMap, wanted: u64) -> Result<u64, String> {
        if status == StatusCode::RANGE_NOT_SATISFIABLE && self.length.is_some() {
            return Err(
                "has less of the file than before: it was changed while it was read; start again".to_owned()
            );
        }
        if status != StatusCode::PARTIAL_CONTENT {
            return Err(match status.is_success() {
                true => "does not serve ranges of the file; download it, and give its path".to_owned(),
                false => format!("answers with HTTP status {status}"),
            });
        }
        let (first, length) = content_range(headers).ok_or("does not say which range it sends")?;
        if first != wanted {
            return Err(format!("sends another range than was asked for: from byte {first}, not {wanted}"));
        }
        let version = headers.get(ETAG).or_else(|| headers.get(LAST_MODIFIED));
        let differs = |known: &HeaderValue| version.is_some_and(|version| version != known);
        if self.length.is_some_and(|known| known != length) || self.version.as_ref().is_some_and(differs) {
            return Err(
                "has another file than before: it was changed while it was read; start again".to_owned()
            );
        }
        self.length = Some(length);
        if self.version.is_none() {
            self.version = version.cloned();
        }
        Ok(length)
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

/// The wait that the server asks for.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    time_text::retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
