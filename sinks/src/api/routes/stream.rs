//! The stream of server-sent events: one frame a second, made once for all clients.
//!
//! A client that is slow misses frames, is told so, and gets everything anew: it is never waited for, and holds no more
//! than its socket's buffer.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::{alerts, endpoints, graph, metrics, recovery};
use crate::api::frame::{Frame, Topic};
use crate::api::problem::Problem;
use crate::api::query::Params;
use crate::api::shared::{Api, Shared};
use crate::api::state::SlotView;

/// Slots that a client is shown to begin with.
const FIRST_SLOTS: usize = 512;
/// Events that a client is shown to begin with, and at most in one frame.
const EVENTS_A_FRAME: usize = 100;
/// Alerts in a frame.
const ALERTS_A_FRAME: usize = 200;

/// What the stream is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct StreamParams {
    /// Topics, with commas between them. Default: all.
    #[param(
        example = "metrics,slots",
        pattern = "^(metrics|graph|endpoints|slots|alerts|recovery|events)(,(metrics|graph|endpoints|slots|alerts|recovery|events))*$"
    )]
    topics: Option<String>,
}

impl StreamParams {
    fn topics(&self) -> Result<Vec<Topic>, Problem> {
        let Some(words) = &self.topics else { return Ok(Topic::ALL.to_vec()) };
        let topic = |word: &str| {
            let unknown = |_| Problem::parameter("topics", format!("there is no topic `{word}`"));
            serde_json::from_value(word.into()).map_err(unknown)
        };
        words.split(',').map(topic).collect()
    }
}

/// The pipeline live: server-sent events.
///
/// One event for each topic, at once in full and then each second; of `slots` and `events` only what changed. The data
/// of each is what the resource of the same name answers. A client that is too slow misses frames and then gets
/// everything anew.
#[utoipa::path(
    get, path = "/api/v1/stream", tag = "stream", params(StreamParams),
    responses((status = 200, description = "Events for as long as the client reads", content_type = "text/event-stream", body = String))
)]
pub(in crate::api) async fn stream(
    State(api): Shared,
    Params(params): Params<StreamParams>,
) -> Result<Response, Problem> {
    begin(api, params.topics()?)
}

/// The frame of this second: `changed` slots, and events behind number `after`.
pub(in crate::api) fn frame_of(api: &Api, changed: Vec<SlotView>, after: u64) -> Frame {
    let mut parts = Vec::with_capacity(Topic::ALL.len());
    for topic in Topic::ALL {
        let text = match topic {
            Topic::Metrics => event(topic, &metrics::latest(api, &|_| true)),
            Topic::Graph => event(topic, &graph::view(api, false)),
            Topic::Endpoints => event(topic, &endpoints::views(api)),
            Topic::Slots if changed.is_empty() => continue,
            Topic::Slots => event(topic, &changed),
            Topic::Alerts => event(topic, &alerts::first_page(api, ALERTS_A_FRAME)),
            Topic::Recovery => event(topic, &recovery::overview(api)),
            Topic::Events => {
                let events = api.live().events.list(after, &[], EVENTS_A_FRAME);
                if events.is_empty() {
                    continue;
                }
                event(topic, &events)
            }
        };
        parts.push((topic, text));
    }
    Frame::new(parts)
}

/// Everything that a client has to know to begin with.
fn first_frame(api: &Api) -> Frame {
    let mut slots = api.live().slots.list(None, &[], FIRST_SLOTS);
    slots.reverse();
    let newest = api.live().events.newest();
    frame_of(api, slots, newest.saturating_sub(EVENTS_A_FRAME as u64))
}

fn event(topic: Topic, data: &impl Serialize) -> String {
    let mut text = String::new();
    // Views hold texts and finite numbers, and JSON has no line breaks of its own. Writing to a string can't fail.
    let data = serde_json::to_string(data).unwrap_or_default();
    write!(text, "event: {}\ndata: {data}\n\n", topic.name()).ok();
    text
}

/// Where a client is.
struct Client {
    api: Arc<Api>,
    topics: Vec<Topic>,
    frames: Receiver<Arc<Frame>>,
    closing: CancellationToken,
    begun: bool,
    _room: OwnedSemaphorePermit,
}

impl Client {
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(self.everything("retry: 2000\n\n"));
        }
        let received = tokio::select! {
            received = self.frames.recv() => received,
            () = self.closing.cancelled() => return None,
        };
        match received {
            Ok(frame) => {
                let bytes = frame.of(&self.topics);
                // A comment shows that the connection lives.
                Some(if bytes.is_empty() { Bytes::from_static(b":\n\n") } else { bytes })
            }
            Err(RecvError::Lagged(missed)) => Some(self.everything(&format!(": missed {missed} frames\n\n"))),
            Err(RecvError::Closed) => None,
        }
    }

    fn everything(&self, before: &str) -> Bytes {
        let mut text = before.to_owned();
        text.push_str(&String::from_utf8_lossy(&first_frame(&self.api).of(&self.topics)));
        text.into()
    }
}

/// Begins a stream.
fn begin(api: Arc<Api>, topics: Vec<Topic>) -> Result<Response, Problem> {
    let room = Arc::clone(&api.streams).try_acquire_owned().map_err(|_| {
        let detail = format!("{} clients read the stream already", api.options.max_streams);
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(5)
    })?;
    let (frames, closing) = (api.frames.subscribe(), api.closing.clone());
    let client = Client { api, topics, frames, closing, begun: false, _room: room };
    let body = futures::stream::unfold(client, async |mut client| {
        let bytes = client.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), client))
    })
    .fuse();
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(body)).into_response())
}
