//! What the stream sends at one moment, by topic.

use std::sync::Arc;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use sluice_stages::slot::Timestamp;
use utoipa::ToSchema;

/// What a client may want to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum Topic {
    /// The latest sample.
    Metrics,
    /// Nodes and edges with their rates.
    Graph,
    /// Endpoints with their health.
    Endpoints,
    /// Slots that changed.
    Slots,
    /// Alerts that are not over, and the last that were.
    Alerts,
    /// Recovery, commitment and the counts of the slot map.
    Recovery,
    /// What happened.
    Events,
}

impl Topic {
    /// All of them, in the order of a frame.
    pub(in crate::api) const ALL: [Self; 7] = [
        Self::Metrics,
        Self::Graph,
        Self::Endpoints,
        Self::Alerts,
        Self::Recovery,
        Self::Slots,
        Self::Events,
    ];

    /// The word for it.
    pub(in crate::api) fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Graph => "graph",
            Self::Endpoints => "endpoints",
            Self::Slots => "slots",
            Self::Alerts => "alerts",
            Self::Recovery => "recovery",
            Self::Events => "events",
        }
    }
}

/// What closes a frame: whoever has read it has read all of the frame.
#[derive(Debug, Serialize)]
struct End {
    number: u64,
    now_ms: u64,
}

/// What is sent at one moment, by topic, ready for the wire.
pub(in crate::api) struct Frame {
    parts: Vec<(Topic, String)>,
    end: String,
    /// All parts: what most clients want, the same bytes for each of them.
    whole: Bytes,
}

impl Frame {
    /// Frame `number`, of these parts in their order.
    pub(in crate::api) fn new(number: u64, now: Timestamp, parts: Vec<(Topic, String)>) -> Self {
        Self::closed(parts, event("frame", &End { number, now_ms: now.as_millis() }))
    }

    fn closed(parts: Vec<(Topic, String)>, end: String) -> Self {
        let texts = parts.iter().map(|(_, text)| text.as_str());
        let whole = texts.chain([end.as_str()]).collect::<String>().into();
        Self { parts, end, whole }
    }

    /// The same frame for a client that begins with it: with these parts in place of its own of the same topics.
    pub(in crate::api) fn beginning_with(&self, full: Vec<(Topic, String)>) -> Self {
        let is_kept = |topic: &Topic| full.iter().all(|(other, _)| other != topic);
        let kept = self.parts.iter().filter(|(topic, _)| is_kept(topic)).cloned();
        Self::closed(kept.chain(full.iter().cloned()).collect(), self.end.clone())
    }

    /// The parts that a client wants, as one piece.
    pub(in crate::api) fn of(&self, topics: &[Topic]) -> Bytes {
        if Topic::ALL.iter().all(|topic| topics.contains(topic)) {
            return self.whole.clone();
        }
        let wanted = self.parts.iter().filter(|(topic, _)| topics.contains(topic));
        wanted.map(|(_, text)| text.as_str()).chain([self.end.as_str()]).collect::<String>().into()
    }
}

/// What the clients of the stream were sent last.
#[derive(Default)]
pub(in crate::api) struct Last {
    /// The number of the last frame.
    pub(in crate::api) number: u64,
    /// The last frame, if anybody was there to get it.
    pub(in crate::api) frame: Option<Arc<Frame>>,
    /// What those who have come since began with.
    pub(in crate::api) first: Option<Arc<Frame>>,
}

/// One event, ready for the wire.
pub(in crate::api) fn event(name: &str, data: &impl Serialize) -> String {
    // Views hold texts and finite numbers, and JSON has no line breaks of its own.
    format!("event: {name}\ndata: {}\n\n", serde_json::to_string(data).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = "event: frame\ndata: {\"number\":7,\"now_ms\":2000}\n\n";

    fn part(topic: Topic, data: &str) -> (Topic, String) {
        (topic, event(topic.name(), &data))
    }

    fn frame() -> Frame {
        Frame::new(7, Timestamp(2_000_000), vec![part(Topic::Metrics, "m"), part(Topic::Slots, "s")])
    }

    fn text(bytes: &Bytes) -> String {
        String::from_utf8_lossy(bytes).replace("event: ", "").replace("\ndata: ", " ").replace("\n\n", "\n")
    }

    #[test]
    fn clients_of_everything_share_the_bytes_and_others_get_their_part_and_the_end() {
        let frame = frame();
        let (one, other) = (frame.of(&Topic::ALL), frame.of(&Topic::ALL));
        assert_eq!(text(&one), "metrics \"m\"\nslots \"s\"\nframe {\"number\":7,\"now_ms\":2000}\n");
        assert_eq!(one.as_ptr(), other.as_ptr());
        let slots = frame.of(&[Topic::Slots, Topic::Alerts]);
        assert_eq!(text(&slots), "slots \"s\"\nframe {\"number\":7,\"now_ms\":2000}\n");
        assert_eq!(&frame.of(&[Topic::Alerts])[..], END.as_bytes(), "even nothing has an end");
    }

    #[test]
    fn whoever_begins_with_a_frame_is_given_full_parts_and_the_rest_as_all_others_have_it() {
        let first = frame().beginning_with(vec![part(Topic::Slots, "all"), part(Topic::Events, "e")]);
        let expected = "metrics \"m\"\nslots \"all\"\nevents \"e\"\nframe {\"number\":7,\"now_ms\":2000}\n";
        assert_eq!(text(&first.of(&Topic::ALL)), expected);
        assert_eq!(text(&first.of(&[Topic::Events])), "events \"e\"\nframe {\"number\":7,\"now_ms\":2000}\n");
    }
}
