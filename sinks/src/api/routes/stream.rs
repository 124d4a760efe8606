//! The stream of server-sent events: one frame a second, made once for all clients. Whoever comes begins with the last
//! frame, so that all who look see the same.
//!
//! A client that is slow misses frames, is told so, and gets everything anew: it is never waited for, and holds no more
//! than its socket's buffer.

use std::convert::Infallible;
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
use crate::api::frame::{Frame, Last, Topic, event};
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
/// A frame each second, with one event for each topic: the first in full, the next ones with only what changed of `slots`
/// and `events`. The data of each is what the resource of the same name answers. The event `frame` ends each frame, and
/// has its `number` and time (`now_ms`); all clients get the same under one number. A client that is too slow misses
/// frames and then gets everything anew.
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

/// The topics that each frame has in full.
fn states(api: &Api) -> Vec<(Topic, String)> {
    vec![
        part(Topic::Metrics, &metrics::latest(api, &|_| true)),
        part(Topic::Graph, &graph::view(api, false)),
        part(Topic::Endpoints, &endpoints::views(api)),
        part(Topic::Alerts, &alerts::first_page(api, ALERTS_A_FRAME)),
        part(Topic::Recovery, &recovery::overview(api)),
    ]
}

/// The topics that a frame has only what is new of: these slots, and events behind number `after`.
fn news(api: &Api, slots: &[SlotView], after: u64) -> Vec<(Topic, String)> {
    let events = api.live().events.list(after, &[], EVENTS_A_FRAME);
    let slots = (!slots.is_empty()).then(|| part(Topic::Slots, &slots));
    slots.into_iter().chain((!events.is_empty()).then(|| part(Topic::Events, &events))).collect()
}

fn part(topic: Topic, data: &impl Serialize) -> (Topic, String) {
    (topic, event(topic.name(), data))
}

/// Frames from now on, and what to begin with: the last frame as all others have it, with all slots and events. It is
/// made for the first client of a second, and good for all who come before the next frame.
fn join(api: &Api) -> (Receiver<Arc<Frame>>, Arc<Frame>) {
    let mut last = api.last_frame();
    // Nothing is sent meanwhile: what comes next is the frame behind the one to begin with.
    let frames = api.frames.subscribe();
    if let Some(first) = &last.first {
        return (frames, Arc::clone(first));
    }
    let (mut slots, newest) = {
        let live = api.live();
        (live.slots.list(None, &[], FIRST_SLOTS), live.events.newest())
    };
    slots.reverse();
    let news = news(api, &slots, newest.saturating_sub(EVENTS_A_FRAME as u64));
    let first = Arc::new(match &last.frame {
        Some(frame) => frame.beginning_with(news),
        None => {
            last.number += 1;
            Frame::new(last.number, api.now(), states(api).into_iter().chain(news).collect())
        }
    });
    last.first = Some(Arc::clone(&first));
    (frames, first)
}

/// Sends what has changed since the last call, with events behind number `after`, to all who read.
pub(in crate::api) fn send_frame(api: &Api, after: u64) {
    let mut last = api.last_frame();
    let changed = api.live().slots.take_changed();
    *last = Last { number: last.number, ..Last::default() };
    if api.frames.receiver_count() > 0 {
        last.number += 1;
        let parts = states(api).into_iter().chain(news(api, &changed, after)).collect();
        let frame = Arc::new(Frame::new(last.number, api.now(), parts));
        last.frame = Some(Arc::clone(&frame));
        // The last reader may have gone since.
        api.frames.send(frame).ok();
    }
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
            Ok(frame) => Some(frame.of(&self.topics)),
            Err(RecvError::Lagged(missed)) => {
                // What it missed and what is still kept for it are in what it gets anew.
                let (frames, first) = join(&self.api);
                (self.frames, self.first) = (frames, Some(first.of(&self.topics)));
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
    let ((frames, first), closing) = (join(&api), api.closing.clone());
    let first = Some(first.of(&topics));
    let client = Client { api, topics, frames, closing, first, _room: room };
    let events = futures::stream::unfold(client, async |mut client| {
        let bytes = client.next().await?;
        Some((Ok::<_, Infallible>(bytes), client))
    });
    let body = futures::stream::once(async { Ok(Bytes::from_static(RETRY)) }).chain(events).fuse();
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(body)).into_response())
}
