//! Entity tags: an answer that the client has already is not sent again.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::problem::Problem;

/// The largest answer, which its bounds keep far below.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Tags answers to GET that are whole, and answers 304 to a client that names the tag.
pub(super) async fn conditional(request: Request, next: Next) -> Response {
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    if !is_get || response.status() != StatusCode::OK || is_endless(response.headers()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, MAX_ANSWER_BYTES).await else {
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer is too large").into_response();
    };
    let tag = tag(&bytes);
    let matches = known.is_some_and(|known| names(&known, &tag));
    if let Ok(value) = HeaderValue::from_str(&tag) {
        parts.headers.insert(header::ETAG, value);
    }
    if matches {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

fn is_endless(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.starts_with(b"text/event-stream") || kind.starts_with(b"application/x-ndjson")
}

/// Weak, since the same answer may be compressed or not.
fn tag(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("W/\"{hex}\"")
}

fn names(known: &HeaderValue, tag: &str) -> bool {
    let opaque = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    known
        .to_str()
        .is_ok_and(|known| known.split(',').any(|one| one.trim() == "*" || opaque(one) == opaque(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_compare_weakly() {
        let tag = tag(b"{}");
        let known = |text: String| HeaderValue::from_str(&text).expect("valid");
        assert!(names(&known(tag.clone()), &tag));
        assert!(names(&known(format!("\"x\", {}", tag.trim_start_matches("W/"))), &tag));
        assert!(names(&known("*".to_owned()), &tag));
        assert!(!names(&known("\"x\"".to_owned()), &tag));
    }
}
