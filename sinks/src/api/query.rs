//! Extractors that refuse what they don't know, with problem documents.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Json, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use super::shared::Api;

/// Where a page begins and how long it may be.
pub(super) const MAX_PAGE: u64 = 1_000;
/// A page, if nothing is said.
pub(super) const DEFAULT_PAGE: u64 = 100;
/// The highest number that JSON clients read exactly.
pub(super) const MAX_INTEGER: u64 = (1 << 53) - 1;

/// The query of a request. Types that deny unknown fields make unknown parameters errors.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(query) = Query::<T>::try_from_uri(&parts.uri)?;
        Ok(Self(query))
    }
}

/// No parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A part of the path.
pub(super) struct Segment<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segment<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(segment) = Path::<T>::from_request_parts(parts, state).await?;
        Ok(Self(segment))
    }
}

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        // Half of the time, so that this is said, and not that the answer is late.
        let limit = api.options.request_timeout / 2;
        let body = tokio::time::timeout(limit, Json::<T>::from_request(request, api));
        let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body has not come in time");
        let Json(body) = body.await.map_err(late)??;
        Ok(Self(body))
    }
}

/// `value`, if it lies within `range`.
pub(super) fn within(name: &str, value: u64, range: std::ops::RangeInclusive<u64>) -> Result<u64, Problem> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(Problem::parameter(name, format!("{value} is not from {} to {}", range.start(), range.end())))
}

/// `text`, if it has at most `most` characters.
pub(super) fn short(name: &str, text: Option<String>, most: usize) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.chars().count() > most => {
            Err(Problem::parameter(name, format!("it has more than {most} characters")))
        }
        other => Ok(other),
    }
}
