//! What the stream sends at one moment, by topic.

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
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
    /// All of them.
    pub(in crate::api) const ALL: [Self; 7] = [
        Self::Metrics,
        Self::Graph,
        Self::Endpoints,
        Self::Slots,
        Self::Alerts,
        Self::Recovery,
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

/// What is sent at one moment, by topic, ready for the wire.
pub(in crate::api) struct Frame {
    parts: Vec<(Topic, String)>,
    /// All parts: what most clients want, the same bytes for each of them.
    whole: Bytes,
}

impl Frame {
    /// A frame of these parts.
    pub(in crate::api) fn new(parts: Vec<(Topic, String)>) -> Self {
        let whole = parts.iter().map(|(_, text)| text.as_str()).collect::<String>().into();
        Self { parts, whole }
    }

    /// The parts that a client wants, as one piece.
    pub(in crate::api) fn of(&self, topics: &[Topic]) -> Bytes {
        if Topic::ALL.iter().all(|topic| topics.contains(topic)) {
            return self.whole.clone();
        }
        let wanted = self.parts.iter().filter(|(topic, _)| topics.contains(topic));
        wanted.map(|(_, text)| text.as_str()).collect::<String>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_everything_share_the_bytes_and_others_get_their_part() {
        let part = |topic: Topic| (topic, format!("event: {}\n\n", topic.name()));
        let frame = Frame::new(vec![part(Topic::Metrics), part(Topic::Slots)]);
        let (one, other) = (frame.of(&Topic::ALL), frame.of(&Topic::ALL));
        assert_eq!((&one[..], one.as_ptr()), (&b"event: metrics\n\nevent: slots\n\n"[..], other.as_ptr()));
        assert_eq!(&frame.of(&[Topic::Slots, Topic::Alerts])[..], b"event: slots\n\n");
    }
}
