//! Silences: read, made and expired.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sluice_stages::matcher::Matcher;
use sluice_stages::silence::{NewSilence, Silence, SilenceState};
use utoipa::openapi::schema::{AdditionalProperties, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, OneOf, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::api::problem::Problem;
use crate::api::query::{Body, Nothing, Params, Segment};
use crate::api::shared::{Api, Shared};

/// What the name of a label looks like.
const NAME: &str = "^[a-zA-Z_][a-zA-Z0-9_]*$";
/// Characters of a label's name.
const MOST_NAME: usize = 200;
/// Characters of a value.
const MOST_VALUE: usize = 1_000;

/// A time in which alerts that fit are not told.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SilenceView {
    /// Tells it apart from all others.
    id: String,
    /// `pending`, `active` or `expired`.
    state: &'static str,
    /// What an alert has to fit, all of it, e.g. `rule="lag"`.
    matchers: Vec<String>,
    /// When it begins, unix milliseconds.
    starts_ms: u64,
    /// When it ends, unix milliseconds.
    ends_ms: u64,
    /// Who wanted it.
    created_by: String,
    /// Why.
    comment: String,
}

/// Silences, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SilencesView {
    /// All that are kept; expired ones for five days.
    silences: Vec<SilenceView>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(in crate::api) enum Operator {
    /// It is the value.
    #[default]
    #[serde(rename = "=")]
    Equal,
    /// It is not.
    #[serde(rename = "!=")]
    NotEqual,
    /// The whole of it matches the regular expression.
    #[serde(rename = "=~")]
    Matches,
    /// It does not.
    #[serde(rename = "!~")]
    NotMatches,
}

/// What a label has to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct MatcherBody {
    name: String,
    #[serde(default)]
    operator: Operator,
    value: String,
}

impl ToSchema for MatcherBody {
    fn name() -> Cow<'static, str> {
        "Matcher".into()
    }
}

/// Any text is a value, but only some are expressions, which no derived description can say.
impl PartialSchema for MatcherBody {
    fn schema() -> RefOr<Schema> {
        let text = || {
            ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(MOST_VALUE))
        };
        let value = text().description(Some("The value."));
        let expression = text().format(Some(SchemaFormat::Custom("regex".to_owned())));
        let expression = expression.description(Some("The expression, which the whole value has to match."));
        OneOf::builder()
            .description(Some("What a label has to be: a value, or what a regular expression matches."))
            .item(described(["=", "!="], value))
            .item(described(["=~", "!~"], expression).required("operator"))
            .into()
    }
}

/// A matcher with these operators.
fn described(operators: [&str; 2], value: ObjectBuilder) -> ObjectBuilder {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let name = text().pattern(Some(NAME)).min_length(Some(1)).max_length(Some(MOST_NAME));
    let name = name.description(Some("The label: `rule`, `severity`, `endpoint` or any other."));
    let operator = text().enum_values(Some(operators)).description(Some("How it is compared. Default `=`."));
    let known = AdditionalProperties::FreeForm(false);
    let object = ObjectBuilder::new().property("name", name).property("operator", operator);
    let object = object.property("value", value).required("name").required("value");
    object.additional_properties(Some(known))
}

/// A new silence.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SilenceBody {
    /// What an alert has to fit, all of it; not all of them may fit a label that is not there.
    #[schema(min_items = 1, max_items = 32)]
    matchers: Vec<MatcherBody>,
    /// How long it holds, from now on.
    #[schema(minimum = 1, maximum = 31_536_000)]
    #[serde(deserialize_with = "whole_number")]
    duration_seconds: u64,
    /// Who wants it.
    #[schema(min_length = 1, max_length = 200, pattern = "[^\\s\\u0085]")]
    created_by: String,
    /// Why.
    #[schema(min_length = 1, max_length = 1_000, pattern = "[^\\s\\u0085]")]
    comment: String,
}

/// A whole number as JSON knows it: `60.0` is one, too.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = number.as_f64().filter(|value| value.fract() == 0.0 && (0.0..=1e15).contains(value));
    number.as_u64().or(whole.map(|value| value as u64)).ok_or_else(|| D::Error::custom("not a whole number"))
}

impl SilenceBody {
    fn matchers(&self) -> Result<Vec<Matcher>, Problem> {
        self.matchers.iter().map(MatcherBody::matcher).collect()
    }

    fn new_silence(self, api: &Api) -> Result<NewSilence, Problem> {
        const YEAR_SECONDS: u64 = 31_536_000;
        if !(1..=YEAR_SECONDS).contains(&self.duration_seconds) {
            return Err(invalid("duration_seconds", "give 1 to 31536000"));
        }
        for (field, text, most) in [("created_by", &self.created_by, 200), ("comment", &self.comment, 1_000)]
        {
            // U+FEFF is a space to JSON Schema, if not to Unicode.
            if text.chars().all(|letter| letter.is_whitespace() || letter == '\u{feff}') {
                return Err(invalid(field, "it says nothing"));
            }
            if text.chars().count() > most {
                return Err(invalid(field, &format!("it has more than {most} characters")));
            }
        }
        let (now, matchers) = (api.now(), self.matchers()?);
        if !matchers.is_empty() && matchers.iter().all(Matcher::fits_empty) {
            let detail = "it would silence every alert: name at least one label with a value";
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        Ok(NewSilence {
            matchers,
            starts_at: now,
            ends_at: now.after(Duration::from_secs(self.duration_seconds)),
            created_by: self.created_by,
            comment: self.comment,
        })
    }
}

impl MatcherBody {
    /// Whether the value is one that the description allows.
    fn is_described(&self) -> bool {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let named = (1..=MOST_NAME).contains(&self.name.len()) && self.name.bytes().all(is_name);
        let characters = self.value.chars().count();
        named
            && !self.name.starts_with(|first: char| first.is_ascii_digit())
            && (1..=MOST_VALUE).contains(&characters)
    }

    fn matcher(&self) -> Result<Matcher, Problem> {
        if !self.is_described() {
            return Err(invalid("matchers", "give a label's name, and a value of 1 to 1000 characters"));
        }
        let operator = match self.operator {
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
            Operator::Matches => "=~",
            Operator::NotMatches => "!~",
        };
        let value = self.value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let text = format!("{}{operator}\"{value}\"", self.name);
        Matcher::from_str(&text).map_err(|error| invalid("matchers", &error.to_string()))
    }
}

fn invalid(field: &str, reason: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("`{field}` can't be used: {reason}"))
}

fn view(silence: &Silence, api: &Api) -> SilenceView {
    SilenceView {
        id: silence.id.to_string(),
        state: match silence.state(api.now()) {
            SilenceState::Pending => "pending",
            SilenceState::Active => "active",
            SilenceState::Expired => "expired",
        },
        matchers: silence.matchers.iter().map(ToString::to_string).collect(),
        starts_ms: silence.starts_at.as_millis(),
        ends_ms: silence.ends_at.as_millis(),
        created_by: silence.created_by.clone(),
        comment: silence.comment.clone(),
    }
}

/// All silences, the newest first.
#[utoipa::path(
    get, path = "/api/v1/silences", tag = "alerts",
    responses((status = 200, description = "The silences", body = SilencesView))
)]
pub(in crate::api) async fn list(
    State(api): Shared,
    Params(Nothing {}): Params<Nothing>,
) -> Json<SilencesView> {
    Json(SilencesView { silences: api.silences.list().iter().map(|silence| view(silence, &api)).collect() })
}

/// Makes a silence, which holds at once.
#[utoipa::path(
    post, path = "/api/v1/silences", tag = "alerts", request_body = SilenceBody,
    responses((status = 201, description = "It holds", body = SilenceView))
)]
pub(in crate::api) async fn add(
    State(api): Shared,
    Params(Nothing {}): Params<Nothing>,
    Body(body): Body<SilenceBody>,
) -> Result<impl IntoResponse, Problem> {
    let silence = api.silences.add(body.new_silence(&api)?, api.now())?;
    Ok((StatusCode::CREATED, Json(view(&silence, &api))))
}

/// One silence that is not over; those that are stand in the list.
#[utoipa::path(
    get, path = "/api/v1/silences/{id}", tag = "alerts",
    params(("id" = String, Path, description = "The silence")),
    responses((status = 200, description = "The silence", body = SilenceView))
)]
pub(in crate::api) async fn one(
    State(api): Shared,
    Segment(id): Segment<String>,
    Params(Nothing {}): Params<Nothing>,
) -> Result<Json<SilenceView>, Problem> {
    let silence = api.silences.get(&id).filter(|silence| silence.state(api.now()) != SilenceState::Expired);
    let silence = silence.ok_or_else(|| Problem::not_found("there is no such silence, or it is over"))?;
    Ok(Json(view(&silence, &api)))
}

/// Ends a silence now.
#[utoipa::path(
    delete, path = "/api/v1/silences/{id}", tag = "alerts",
    params(("id" = String, Path, description = "The silence")),
    responses(
        (status = 200, description = "It is over", body = SilenceView),
    )
)]
pub(in crate::api) async fn expire(
    State(api): Shared,
    Segment(id): Segment<String>,
    Params(Nothing {}): Params<Nothing>,
) -> Result<Json<SilenceView>, Problem> {
    let silence = api.silences.expire(&id, api.now())?;
    Ok(Json(view(&silence, &api)))
}
