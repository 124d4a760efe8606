//! What a kind of node tells the rest of the program about itself.
//!
//! A source, stage or sink is one file: its options (a serde struct whose fields are documented), its implementation of
//! [`Component`], and the node that [`Component::build`] makes of the options. One line in the pipeline's table of kinds
//! registers it; dispatch, validation, `sluice list` and the JSON schema follow from that.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::batch::{EndpointId, Scope};
use crate::node::{Sink, Source, Transform};
use crate::slot::Slot;
use crate::stage::{Flow, Stage};
use crate::yellowstone::EndpointOptions;
use crate::yellowstone::health::EndpointHealth;
use crate::yellowstone::link::Link;

/// The section of the TOML in which a kind stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `[sources.NAME]`: brings updates in.
    Source,
    /// `[stages.NAME]`: transforms.
    Stage,
    /// `[sinks.NAME]`: takes items out.
    Sink,
}

/// What a kind takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// It is a source.
    Nothing,
    /// One flow.
    Only(Flow),
    /// Any of several, mixed as they come.
    AnyOf(&'static [Flow]),
    /// Whatever comes.
    Any,
}

/// What a kind gives out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emits {
    /// It is a sink.
    Nothing,
    /// One flow.
    Only(Flow),
    /// What comes in.
    Same,
}

/// A problem with an option that its type alone can't rule out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The option, e.g. `commit_slots` or `filters.transactions.all.account_include`.
    pub option: String,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// What to do instead.
    pub help: String,
}

/// A kind of node; implemented by its options.
pub trait Component: DeserializeOwned + Serialize + JsonSchema {
    /// The word after `type =`.
    const KIND: &'static str;
    /// Where it stands.
    const ROLE: Role;
    /// What it takes in.
    const ACCEPTS: Accepts;
    /// What it gives out.
    const EMITS: Emits;
    /// One line that says what it is for.
    const SUMMARY: &'static str;

    /// Checks what types can't. Pure: no file is opened, no name resolved.
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// Folders and files that belong to this node alone.
    fn claims(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Makes the node. Reads what it has to (a folder's listing, say), but starts nothing.
    ///
    /// # Errors
    /// If something outside the options is not as it has to be.
    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError>;
}

/// A node, ready to run.
pub enum Node {
    /// A source.
    Source(Box<dyn Source>),
    /// A pure stage.
    Stage(Box<dyn Stage>),
    /// A stage that does I/O.
    Transform(Box<dyn Transform>),
    /// A sink.
    Sink(Box<dyn Sink>),
}

/// Why a node could not be made.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A file or folder.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Anything else, with what to do about it.
    #[error("{0}")]
    Other(String),
}

/// An endpoint that a source of this pipeline reads from.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its position in [`BuildContext::endpoints`].
    pub id: EndpointId,
    /// Its name: the source's, with its own behind a slash if the source has several.
    pub name: Arc<str>,
    /// How to reach it.
    pub options: Arc<EndpointOptions>,
    /// What is known of it, kept up to date by its source.
    pub health: Arc<EndpointHealth>,
    /// Its connection, shared by all that ask it for something.
    pub link: Arc<Link>,
}

impl Endpoint {
    /// An endpoint of which nothing is known yet.
    pub fn new(id: EndpointId, name: Arc<str>, options: EndpointOptions) -> Self {
        let link = Arc::new(Link::new(&options));
        Self { id, name, options: Arc::new(options), health: Arc::default(), link }
    }
}

/// Where a pipeline begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With this slot: an output says that it has everything before.
    At(Slot),
    /// With the first slot, of those that the number divides, at or before the tip.
    TipRoundedDown(u64),
    /// With the tip: nothing before it is looked for.
    Tip,
}

impl Start {
    /// The first slot that is looked for, if `tip` is the first that is known.
    pub fn floor(self, tip: Slot) -> Slot {
        match self {
            Self::At(slot) => slot,
            Self::TipRoundedDown(slots) => tip - tip % slots.max(1),
            Self::Tip => tip,
        }
    }
}

/// What nodes share while they are made. Sinks are made first, then sources, then stages.
#[derive(Debug)]
pub struct BuildContext {
    /// The name of the node that is being made.
    pub node: String,
    /// Endpoints registered by sources.
    pub endpoints: Vec<Endpoint>,
    /// What the sources subscribe to, taken together.
    pub scope: Scope,
    /// Where to begin, as sinks said: the earliest wins.
    pub start: Start,
    /// What nodes of a pipeline hold in common, one value of each type: a pool of connections, say. Whoever is made
    /// first puts it in.
    pub shared: http::Extensions,
}

impl BuildContext {
    /// Nothing registered yet.
    pub fn new() -> Self {
        Self {
            node: String::new(),
            endpoints: Vec::new(),
            scope: Scope::default(),
            start: Start::Tip,
            shared: http::Extensions::new(),
        }
    }

    /// Registers the endpoint called `name`.
    ///
    /// # Errors
    /// If there are more than an [`EndpointId`] can number.
    pub fn register(&mut self, name: Arc<str>, options: EndpointOptions) -> Result<Endpoint, BuildError> {
        let id = EndpointId::try_from(self.endpoints.len())
            .map_err(|_| BuildError::Other("more than 65,536 endpoints".to_owned()))?;
        let endpoint = Endpoint::new(id, name, options);
        self.endpoints.push(endpoint.clone());
        Ok(endpoint)
    }

    /// Notes that an output wants to begin with `start`.
    pub fn begin_with(&mut self, start: Start) {
        self.start = match (self.start, start) {
            (Start::Tip, other) | (other, Start::Tip) => other,
            (Start::At(first), Start::At(second)) => Start::At(first.min(second)),
            (Start::At(slot), _) | (_, Start::At(slot)) => Start::At(slot),
            (Start::TipRoundedDown(first), Start::TipRoundedDown(second)) => {
                Start::TipRoundedDown(first.max(second))
            }
        };
    }
}

impl Default for BuildContext {
    fn default() -> Self {
        Self::new()
    }
}
