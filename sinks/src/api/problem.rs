//! Errors as clients get them: problem documents of RFC 9457.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sluice_stages::silence::SilenceError;
use utoipa::ToSchema;

use crate::history::HistoryError;

/// The media type of problem documents.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request has no other answer (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// The status in words.
    pub(super) title: String,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    pub(super) status: u16,
    /// What is wrong with this request, and what to do about it.
    pub(super) detail: String,
    /// Boxed, since hardly any has one and every fallible function returns this.
    #[serde(skip)]
    headers: Box<HeaderMap>,
}

impl Problem {
    /// A problem with this status.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            headers: Box::default(),
        }
    }

    /// 400: the parameter `name` can't be used.
    pub(super) fn parameter(name: &str, reason: impl AsRef<str>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            format!("the parameter `{name}` can't be used: {}", reason.as_ref()),
        )
    }

    /// 404: there is no such thing.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// The same with a header more.
    #[must_use]
    pub(super) fn with(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The same, to be tried again after some seconds.
    #[must_use]
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        self.with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A struct of texts and a number is always JSON.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        (status, *self.headers, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response()
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<SilenceError> for Problem {
    fn from(error: SilenceError) -> Self {
        let status = match &error {
            SilenceError::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            SilenceError::Full => StatusCode::CONFLICT,
            // What is over is no silence any more; the list remembers it.
            SilenceError::Unknown(_) | SilenceError::Expired(_) => StatusCode::NOT_FOUND,
        };
        Self::new(status, error.to_string())
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        let retryable = error.is_retryable();
        let status =
            if retryable { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNPROCESSABLE_ENTITY };
        let problem = Self::new(status, error.to_string());
        if retryable { problem.retry_after(1) } else { problem }
    }
}
