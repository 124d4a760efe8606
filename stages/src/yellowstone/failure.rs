//! What an error of a gRPC server means. Pure.
//!
//! Servers of several families speak the protocol and report the same thing with different codes, so the text decides
//! where the code does not:
//!
//! | family | `from_slot` too old | too new | not supported | client too slow |
//! | --- | --- | --- | --- | --- |
//! | Yellowstone | OUT_OF_RANGE, INTERNAL before 2026-04 "broadcast from X is not available, last available: Y" | INTERNAL "failed to get replay response" | INTERNAL "from_slot is not supported" | INTERNAL "lagged …" |
//! | richat | INVALID_ARGUMENT "failed to get replay position for slot X", "… first available (slot): Y" | as too old | INVALID_ARGUMENT "… replay … not enabled" | "… lagged" |
//! | LaserStream | DATA_LOSS | | | |
//!
//! OUT_OF_RANGE is also what tonic itself says of a message beyond the receive limit.

use std::fmt;
use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::slot::Slot;

/// Longest text of a server that is shown: enough for any known message, too short for an HTML page.
const MAX_DETAIL_CHARS: usize = 300;

/// What went wrong, as far as it makes a difference to what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The replay asked for begins before the server's window.
    ReplayTooOld {
        /// The first slot that it still has, where it says so.
        available: Option<Slot>,
    },
    /// The replay asked for begins after the server's newest whole slot.
    ReplayTooNew,
    /// The server keeps nothing to replay.
    ReplayUnsupported,
    /// We read too slowly and the server let go of us.
    Lagged,
    /// The token is missing, wrong, or not good for this.
    Unauthenticated,
    /// Too many requests or streams.
    RateLimited {
        /// How long the server asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// A message beyond `max_message_bytes`.
    MessageTooLarge,
    /// The server does not take our filters.
    Rejected,
    /// The server has no such method.
    Unimplemented,
    /// The server could not be reached, or the connection broke.
    Unavailable,
    /// The server ended the stream without an error.
    Ended,
    /// Nothing at all came for `idle_timeout`.
    Idle,
    /// No new slot came for `progress_timeout`, whatever else did.
    Stalled,
    /// Anything else.
    Other(Code),
}

impl FailureKind {
    /// The word for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReplayTooOld { .. } => "replay_too_old",
            Self::ReplayTooNew => "replay_too_new",
            Self::ReplayUnsupported => "replay_unsupported",
            Self::Lagged => "lagged",
            Self::Unauthenticated => "unauthenticated",
            Self::RateLimited { .. } => "rate_limited",
            Self::MessageTooLarge => "message_too_large",
            Self::Rejected => "rejected",
            Self::Unimplemented => "unimplemented",
            Self::Unavailable => "unavailable",
            Self::Ended => "ended",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Other(_) => "other",
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(self) -> bool {
        !matches!(
            self,
            Self::ReplayTooOld { .. }
                | Self::ReplayUnsupported
                | Self::Unauthenticated
                | Self::MessageTooLarge
                | Self::Rejected
                | Self::Unimplemented
        )
    }

    /// What an operator can do about it, empty if nothing.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Unauthenticated => "check x_token and headers",
            Self::RateLimited { .. } => "the endpoint's plan may allow fewer streams",
            Self::MessageTooLarge => "raise max_message_bytes",
            Self::Rejected => "the endpoint refuses these filters",
            Self::Lagged => "the pipeline is slower than the stream: see the edges' blocked time",
            _ => "",
        }
    }
}

/// An ended or refused stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it means.
    pub kind: FailureKind,
    /// What the server or the transport said, cut to a readable length.
    pub detail: String,
}

impl Failure {
    /// A failure that needs no more words.
    pub fn of(kind: FailureKind) -> Self {
        Self { kind, detail: String::new() }
    }

    /// Classifies what a server or tonic answered.
    pub fn from_status(status: &Status) -> Self {
        let text = status.message().to_ascii_lowercase();
        let kind = replay_kind(status.code(), &text)
            .or_else(|| size_kind(status.code(), &text))
            .or_else(|| rate_kind(status, &text))
            .unwrap_or_else(|| code_kind(status.code(), &text));
        Self { kind, detail: detail(status) }
    }

    /// A connection that could not be had.
    pub fn from_transport(error: &tonic::transport::Error) -> Self {
        let mut text = error.to_string();
        append_sources(&mut text, std::error::Error::source(error));
        Self { kind: FailureKind::Unavailable, detail: shorten(&text) }
    }

    /// Takes `secret` out of the detail, should a server have echoed it.
    #[must_use]
    pub fn redacted(mut self, secret: &str) -> Self {
        if !secret.is_empty() && self.detail.contains(secret) {
            self.detail = self.detail.replace(secret, "[redacted]");
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        match self.kind.advice() {
            "" => Ok(()),
            advice => write!(f, " ({advice})"),
        }
    }
}

impl std::error::Error for Failure {}

fn replay_kind(code: Code, text: &str) -> Option<FailureKind> {
    let told = |marker: &str| number_after(text, marker);
    if text.contains("is not available, last available") {
        return Some(FailureKind::ReplayTooOld { available: told("last available:") });
    }
    if text.contains("first available slot") {
        return Some(FailureKind::ReplayTooOld { available: told("first available slot:") });
    }
    if text.contains("failed to get replay position for slot") {
        return Some(FailureKind::ReplayTooOld { available: told("first available:") });
    }
    if text.contains("failed to get replay response") {
        return Some(FailureKind::ReplayTooNew);
    }
    if text.contains("from_slot is not supported")
        || (text.contains("replay") && text.contains("not enabled"))
    {
        return Some(FailureKind::ReplayUnsupported);
    }
    if text.contains("lagged") {
        return Some(FailureKind::Lagged);
    }
    (code == Code::DataLoss).then_some(FailureKind::ReplayTooOld { available: None })
}

fn size_kind(code: Code, text: &str) -> Option<FailureKind> {
    let own = text.contains("message length too large") || text.contains("while decompressing message");
    (own && matches!(code, Code::OutOfRange | Code::ResourceExhausted))
        .then_some(FailureKind::MessageTooLarge)
}

fn rate_kind(status: &Status, text: &str) -> Option<FailureKind> {
    // Tonic maps HTTP 429 from a proxy to UNAVAILABLE and keeps the number in the text.
    let limited = status.code() == Code::ResourceExhausted
        || text.contains("status code 429")
        || text.contains("too many requests");
    limited.then(|| FailureKind::RateLimited { retry_after: retry_after(status.metadata()) })
}

fn code_kind(code: Code, text: &str) -> FailureKind {
    match code {
        Code::Unauthenticated | Code::PermissionDenied => FailureKind::Unauthenticated,
        Code::InvalidArgument | Code::FailedPrecondition => FailureKind::Rejected,
        Code::Unimplemented => FailureKind::Unimplemented,
        Code::Unavailable | Code::Cancelled | Code::Aborted | Code::DeadlineExceeded => {
            FailureKind::Unavailable
        }
        Code::Internal | Code::Unknown if is_transport_text(text) => FailureKind::Unavailable,
        Code::Ok => FailureKind::Ended,
        other => FailureKind::Other(other),
    }
}

/// Whether a text is hyper's or h2's word for a broken connection, which tonic passes on as INTERNAL or UNKNOWN.
fn is_transport_text(text: &str) -> bool {
    [
        "h2 protocol error",
        "transport error",
        "unexpected eof",
        "connection reset",
        "broken pipe",
        "error reading a body",
    ]
    .iter()
    .any(|known| text.contains(known))
}

fn number_after(text: &str, marker: &str) -> Option<u64> {
    let (_, rest) = text.split_once(marker)?;
    let rest = rest.trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

fn retry_after(metadata: &MetadataMap) -> Option<Duration> {
    metadata.get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn detail(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    append_sources(&mut text, std::error::Error::source(status));
    shorten(&text)
}

fn append_sources(text: &mut String, mut source: Option<&(dyn std::error::Error + 'static)>) {
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(MAX_DETAIL_CHARS).collect();
    if text.chars().nth(MAX_DETAIL_CHARS).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: Code, text: &str) -> FailureKind {
        Failure::from_status(&Status::new(code, text)).kind
    }

    #[test]
    fn servers_of_every_family_are_understood() {
        use FailureKind as K;
        let too_old = |slot| K::ReplayTooOld { available: slot };
        let cases = [
            (Code::OutOfRange, "broadcast from 1 is not available, last available: 37", too_old(Some(37))),
            (Code::Internal, "broadcast from 7 is not available, last available: 12", too_old(Some(12))),
            (Code::InvalidArgument, "failed to get replay position for slot 42", too_old(None)),
            (
                Code::InvalidArgument,
                "failed to get replay position for slot 4; first available: 9",
                too_old(Some(9)),
            ),
            (Code::InvalidArgument, "replay is not available, first available slot: 88", too_old(Some(88))),
            (Code::DataLoss, "requested slot is gone", too_old(None)),
            (Code::Internal, "failed to get replay response", K::ReplayTooNew),
            (Code::Internal, "from_slot is not supported", K::ReplayUnsupported),
            (Code::InvalidArgument, "disk replay is not enabled for Processed", K::ReplayUnsupported),
            (Code::Internal, "lagged to send an update", K::Lagged),
            (Code::Internal, "lagged to receive geyser messages", K::Lagged),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes",
                K::MessageTooLarge,
            ),
            (
                Code::ResourceExhausted,
                "Error decompressing: size limit, of 4 bytes, exceeded while decompressing message",
                K::MessageTooLarge,
            ),
            (Code::ResourceExhausted, "too many subscriptions", K::RateLimited { retry_after: None }),
            (
                Code::Unavailable,
                "grpc-status header missing, mapped from HTTP status code 429",
                K::RateLimited { retry_after: None },
            ),
            (Code::Unauthenticated, "No valid auth token", K::Unauthenticated),
            (Code::PermissionDenied, "token expired", K::Unauthenticated),
            (Code::InvalidArgument, "failed to create filter: max amount of filters reached", K::Rejected),
            (Code::Unimplemented, "", K::Unimplemented),
            (Code::Unavailable, "server is shutting down try again later", K::Unavailable),
            (Code::Unknown, "transport error", K::Unavailable),
            (Code::Internal, "h2 protocol error: error reading a body from connection", K::Unavailable),
            (Code::OutOfRange, "unrelated range error", K::Other(Code::OutOfRange)),
            (Code::Internal, "something else", K::Other(Code::Internal)),
        ];
        for (code, text, expected) in cases {
            assert_eq!(kind(code, text), expected, "{code:?} {text}");
        }
    }

    #[test]
    fn a_wait_that_the_server_asks_for_is_read() {
        let mut status = Status::resource_exhausted("slow down");
        status.metadata_mut().insert("retry-after", "7".parse().expect("ascii"));
        let expected = FailureKind::RateLimited { retry_after: Some(Duration::from_secs(7)) };
        assert_eq!(Failure::from_status(&status).kind, expected);
    }

    #[test]
    fn no_secret_and_no_page_of_html_is_shown() {
        let status = Status::unauthenticated(format!("bad token s3cret {}", "x".repeat(10_000)));
        let shown = Failure::from_status(&status).redacted("s3cret").to_string();
        assert!(!shown.contains("s3cret") && shown.contains("check x_token"));
        assert!(shown.chars().count() < 400);
    }
}
