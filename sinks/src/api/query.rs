//! Extractors that refuse what they don't know, with problem documents.

use axum::extract::{FromRequest, FromRequestParts, Json, Path, Query, Request};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;

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

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Json(body) = Json::<T>::from_request(request, state).await?;
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
