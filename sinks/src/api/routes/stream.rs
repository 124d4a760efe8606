//! The stream of server-sent events: one frame a second, made once for all clients. So is what a client is shown to begin
//! with, at most once a second however many come.
//!
//! A client that is slow misses frames, is told so, and gets everything anew: it is never waited for, and holds no more
//! than its socket's buffer.

use std::convert::Infallible;
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
/// After how many milliseconds a client that lost its stream asks for another.
const RETRY: &[u8] = b"retry: 2000\n\n";

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
fn frame_of(api: &Api, changed: Vec<SlotView>, after: u64) -> Frame {
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

/// Everything that a client has to know to begin with. It is made for the first client of a second, and good for all who
/// come before the next frame: that one holds whatever has changed since the one before it.
fn first_frame(api: &Api) -> Arc<Frame> {
    let mut first = api.first_frame();
    let frame = first.get_or_insert_with(|| {
        let mut slots = api.live().slots.list(None, &[], FIRST_SLOTS);
        slots.reverse();
        let newest = api.live().events.newest();
        Arc::new(frame_of(api, slots, newest.saturating_sub(EVENTS_A_FRAME as u64)))
    });
    Arc::clone(frame)
}

/// Sends what has changed since the last call, with events behind number `after`, to all who read.
pub(in crate::api) fn send_frame(api: &Api, after: u64) {
    // Whoever begins to read now is shown what was before this frame and gets it, or what is after it.
    let mut first = api.first_frame();
    let changed = api.live().slots.take_changed();
    *first = None;
    if api.frames.receiver_count() > 0 {
        let frame = frame_of(api, changed, after);
        // The last reader may have gone since.
        api.frames.send(Arc::new(frame)).ok();
    }
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
    /// Sent before anything else.
    first: Option<Bytes>,
    _room: OwnedSemaphorePermit,
}

impl Client {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
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
            Err(RecvError::Lagged(missed)) => {
                // What it missed and what is still kept for it are in what it gets anew.
                self.frames = self.frames.resubscribe();
                self.first = Some(first_frame(&self.api).of(&self.topics));
                Some(format!(": missed {missed} frames\n\n").into())
            }
            Err(RecvError::Closed) => None,
        }
    }
}

/// Begins a stream.
fn begin(api: Arc<Api>, topics: Vec<Topic>) -> Result<Response, Problem> {
    let room = Arc::clone(&api.streams).try_acquire_owned().map_err(|_| {
        let detail = format!("{} clients read the stream already", api.options.max_streams);
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(5)
    })?;
    let (frames, closing) = (api.frames.subscribe(), api.closing.clone());
    let first = Some(first_frame(&api).of(&topics));
    let client = Client { api, topics, frames, closing, first, _room: room };
    let events = futures::stream::unfold(client, async |mut client| {
        let bytes = client.next().await?;
        Some((Ok::<_, Infallible>(bytes), client))
    });
    let body = futures::stream::once(async { Ok(Bytes::from_static(RETRY)) }).chain(events).fuse();
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(body)).into_response())
}
