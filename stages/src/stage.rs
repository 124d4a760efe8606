//! What every stage is: a state machine that is called with a batch, a tick or the end, and pushes to its output.

use std::fmt;

use crate::batch::{Batch, EndpointId, Item};
use crate::block::Way;
use crate::slot::{Commitment, Slot, Timestamp};

/// The families of items that edges carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Single messages: updates, echoes, sessions.
    Updates,
    /// Whole slots: blocks, statuses, gaps.
    Blocks,
    /// What the performance monitor measured.
    Samples,
    /// What an alert evaluator says.
    Alerts,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Updates => "updates",
            Self::Blocks => "blocks",
            Self::Samples => "samples",
            Self::Alerts => "alerts",
        })
    }
}

/// A pure state machine: no clock, task, channel, lock, socket or log of its own.
pub trait Stage: Send {
    /// Takes a batch from the input edge at position `input` of the node's `inputs`.
    fn on_batch(&mut self, now: Timestamp, input: usize, batch: Batch, out: &mut Output);

    /// Time has passed. Called at least ten times a second.
    fn on_tick(&mut self, now: Timestamp, out: &mut Output) {
        let _ = (now, out);
    }

    /// Whether there is memory for more than what comes by itself. Called before each tick; without a call there is.
    fn on_room(&mut self, has_room: bool) {
        let _ = has_room;
    }

    /// Memory is short and sources wait: give back what can be had again later. Called at most once a second.
    fn on_pressure(&mut self, now: Timestamp, out: &mut Output) {
        let _ = (now, out);
    }

    /// All inputs have ended; whatever is held back goes out now or never.
    fn on_end(&mut self, now: Timestamp, out: &mut Output) {
        let _ = (now, out);
    }

    /// Shows the current value of each metric.
    fn metrics(&self, show: &mut dyn FnMut(Metric)) {
        let _ = show;
    }
}

/// What a stage pushes out of a call.
#[derive(Debug, Default)]
pub struct Output {
    /// Goes to every output edge, in order.
    pub items: Batch,
    /// Positions in `items` at which a batch has to end, rising.
    cuts: Vec<usize>,
    /// Goes to the log, the counters and the alert evaluator.
    pub events: Vec<Event>,
    /// Slots that have to be fetched (again), for the recovery stages upstream.
    pub requests: Vec<Slot>,
}

impl Output {
    /// Pushes an item.
    pub fn push(&mut self, item: Item) {
        self.items.push(item);
    }

    /// Ends a batch behind the items pushed so far.
    pub fn cut(&mut self) {
        self.cuts.push(self.items.len());
    }

    /// The items, in batches that end where they were cut.
    pub fn into_batches(mut self) -> impl Iterator<Item = Batch> {
        self.cuts.push(self.items.len());
        let mut items = self.items.into_iter();
        let mut taken = 0;
        self.cuts.into_iter().filter_map(move |cut| {
            let batch: Batch = items.by_ref().take(cut - taken).collect();
            taken = cut;
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// Reports an event.
    pub fn report(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// One value of one metric. The full name is `sluice_<name>`; a name that ends in `_total` is a counter, all others are
/// gauges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// The name without its prefix.
    pub name: &'static str,
    /// At most one label of its own beside the node's.
    pub label: Option<(&'static str, Label)>,
    /// The value.
    pub value: f64,
}

impl Metric {
    /// A metric without a label of its own.
    pub fn new(name: &'static str, value: u64) -> Self {
        Self { name, label: None, value: value as f64 }
    }

    /// A slot without a label of its own; none while it is 0, which stands for a slot that is not known yet. Whoever takes
    /// differences of slots would take that for one at the chain's begin.
    pub fn slot(name: &'static str, slot: Slot) -> Option<Self> {
        (slot > 0).then(|| Self::new(name, slot))
    }

    /// The same with a label.
    pub fn with(self, key: &'static str, label: impl Into<Label>) -> Self {
        Self { label: Some((key, label.into())), ..self }
    }
}

/// The value of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// A word from the code.
    Word(&'static str),
    /// An endpoint, shown by its name.
    Endpoint(EndpointId),
}

impl From<&'static str> for Label {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl From<EndpointId> for Label {
    fn from(endpoint: EndpointId) -> Self {
        Self::Endpoint(endpoint)
    }
}

/// Something that an operator may want to read about, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A subscription was accepted.
    Connected {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// A subscription ended or could not be had.
    Disconnected {
        /// The endpoint.
        endpoint: EndpointId,
        /// Why, without secrets.
        reason: String,
    },
    /// An endpoint of a group is used in another way from now on.
    DutyChanged {
        /// The endpoint.
        endpoint: EndpointId,
        /// `active`, `standby` or `rest`.
        duty: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// An update was not usable.
    Malformed {
        /// The endpoint that sent it.
        endpoint: EndpointId,
        /// The slot, where it could be read.
        slot: Option<Slot>,
        /// Which field, and what is wrong with it.
        reason: String,
    },
    /// Two endpoints contradict each other, or one itself.
    Contradiction {
        /// The slot.
        slot: Slot,
        /// What about.
        reason: &'static str,
        /// The endpoints that delivered the slot, as long as it is not known which of them is wrong.
        endpoints: Vec<EndpointId>,
    },
    /// What an endpoint delivered is not what the slot turned out to be.
    ProvenWrong {
        /// The slot.
        slot: Slot,
        /// The endpoint.
        endpoint: EndpointId,
        /// Who says so.
        reason: &'static str,
    },
    /// A slot's proof-of-history chain does not hold, or can't be checked.
    ProofFailed {
        /// The slot.
        slot: Slot,
        /// The first entry that does not follow from the one before; `None` if its entries did not come.
        index: Option<u32>,
        /// What is wrong with it.
        reason: String,
        /// The endpoint that delivered it.
        endpoint: EndpointId,
    },
    /// Slots are missing.
    GapFound {
        /// The first.
        first: Slot,
        /// The last.
        last: Slot,
    },
    /// A slot that was missing is there.
    GapFilled {
        /// The slot.
        slot: Slot,
        /// How it came.
        way: Way,
    },
    /// A slot can't be had for now.
    HoleOpened {
        /// The slot.
        slot: Slot,
        /// What the last try said.
        reason: String,
    },
    /// A slot of a dead or orphaned fork was let go.
    Discarded {
        /// The slot.
        slot: Slot,
        /// `dead` or `orphaned`.
        reason: &'static str,
    },
    /// Memory was short, and these slots will be fetched again.
    GivenUp {
        /// The first.
        first: Slot,
        /// The last.
        last: Slot,
    },
    /// The commitment stage works at another level from now on.
    CommitmentSwitched {
        /// The old level.
        from: Commitment,
        /// The new level.
        level: Commitment,
        /// Which measure was over its limit by how much, or how long conditions were calm.
        reason: String,
    },
    /// A file is durable.
    Committed {
        /// The dataset.
        dataset: &'static str,
        /// The first slot that the file covers.
        first: Slot,
        /// The last.
        last: Slot,
        /// Rows in it.
        rows: u64,
    },
    /// A spool can't write to its disk; the pipeline goes on without it.
    SpoolFailed {
        /// What the disk said.
        reason: String,
    },
    /// A spool writes again.
    SpoolResumed {
        /// Updates that went past it in between: a crash before they are committed may lose of them what no replay has.
        lost_updates: u64,
    },
    /// A file could not be made durable and will be tried again.
    CommitFailed {
        /// The first slot that the file covers.
        first: Slot,
        /// What the disk said.
        reason: String,
    },
}
