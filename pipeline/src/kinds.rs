//! The table of kinds. A source, stage or sink exists for the rest of the program by its line in [`KINDS`]: dispatch on
//! `type`, checks, `sluice list` and the JSON schema all read it.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;

use serde_json::Value;
use sluice_config::document::{OptionTable, Replaced, Section};
use sluice_config::graph::{Bridges, Gives, Takes};
use sluice_config::options::{self, Outcome};
use sluice_config::schema;
use sluice_stages::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use sluice_stages::stage::Flow;

use crate::redact;

/// Every kind, in the order in which data passes them.
pub static KINDS: &[Kind] = &[
    kind::<sluice_stages::yellowstone::YellowstoneOptions>(),
    kind::<sluice_stages::recording::ReplayOptions>(),
    kind::<sluice_stages::backfill::RpcBlocksOptions>(),
    kind::<sluice_stages::car::CarOptions>(),
    kind::<sluice_stages::monitor::MonitorOptions>(),
    kind::<sluice_stages::merge::MergeOptions>(),
    kind::<sluice_stages::spool::SpoolOptions>(),
    kind::<sluice_stages::dedupe::DedupeOptions>(),
    kind::<sluice_stages::gap_detector::GapDetectorOptions>(),
    kind::<sluice_stages::recovery::RecoveryOptions>(),
    kind::<sluice_stages::proof::ProofOptions>(),
    kind::<sluice_stages::commitment::CommitmentOptions>(),
    kind::<sluice_stages::batcher::BatcherOptions>(),
    kind::<sluice_stages::metrics_tap::MetricsTapOptions>(),
    kind::<sluice_stages::alert_evaluator::AlertEvaluatorOptions>(),
    kind::<sluice_sinks::parquet::ParquetOptions>(),
    kind::<sluice_stages::recording::RecorderOptions>(),
    kind::<sluice_sinks::webhook::WebhookOptions>(),
    kind::<sluice_sinks::file::FileOptions>(),
    kind::<sluice_sinks::console::ConsoleOptions>(),
    kind::<sluice_sinks::email::EmailOptions>(),
    kind::<sluice_sinks::api::ApiOptions>(),
    kind::<sluice_sinks::discard::DiscardOptions>(),
    kind::<sluice_sinks::history::HistoryOptions>(),
];

/// A kind of node, without its type.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The word after `type =`.
    pub name: &'static str,
    /// Where it stands.
    pub role: Role,
    /// What it takes in.
    pub accepts: Accepts,
    /// What it gives out.
    pub emits: Emits,
    /// One line that says what it is for.
    pub summary: &'static str,
    schema: fn() -> Value,
    read: ReadOptions,
}

type ReadOptions = fn(&str, &OptionTable<'_>, &[Replaced]) -> Outcome<Box<dyn AnyOptions>>;

/// The line that registers a component.
pub const fn kind<C: Component + Send + 'static>() -> Kind {
    Kind {
        name: C::KIND,
        role: C::ROLE,
        accepts: C::ACCEPTS,
        emits: C::EMITS,
        summary: C::SUMMARY,
        schema: schema::schema_of::<C>,
        read: read::<C>,
    }
}

fn read<C: Component + Send + 'static>(
    title: &str,
    table: &OptionTable<'_>,
    replaced: &[Replaced],
) -> Outcome<Box<dyn AnyOptions>> {
    let read: Outcome<C> = options::read(title, table, replaced);
    Outcome { options: read.options.map(erase), found: read.found }
}

impl Kind {
    /// The JSON schema of its options.
    pub fn schema(&self) -> Value {
        (self.schema)()
    }

    /// Its options, from the table of the node that messages call `title`.
    pub fn read(
        &self,
        title: &str,
        table: &OptionTable<'_>,
        replaced: &[Replaced],
    ) -> Outcome<Box<dyn AnyOptions>> {
        (self.read)(title, table, replaced)
    }

    /// The section that it stands in.
    pub fn section(&self) -> Section {
        section(self.role)
    }

    /// What it takes, as the graph calls it.
    pub fn takes(&self) -> Takes {
        match self.accepts {
            Accepts::Nothing => Takes::Nothing,
            Accepts::Only(flow) => Takes::Only(flow_word(flow)),
            Accepts::AnyOf(flows) => Takes::AnyOf(flows.iter().copied().map(flow_word).collect()),
            Accepts::Any => Takes::Any,
        }
    }

    /// What it gives, as the graph calls it.
    pub fn gives(&self) -> Gives {
        match self.emits {
            Emits::Nothing => Gives::Nothing,
            Emits::Only(flow) => Gives::Only(flow_word(flow)),
            Emits::Same => Gives::Same,
        }
    }
}

/// Options that were made by code and not read from a pipeline.
pub(crate) fn made<C: Component + Send + 'static>(options: C) -> Box<dyn AnyOptions> {
    Box::new(Erased(options))
}

/// The section in which nodes of a role stand.
pub fn section(role: Role) -> Section {
    match role {
        Role::Source => Section::Sources,
        Role::Stage => Section::Stages,
        Role::Sink => Section::Sinks,
    }
}

/// The word that users read for a flow.
pub fn flow_word(flow: Flow) -> &'static str {
    match flow {
        Flow::Updates => "updates",
        Flow::Blocks => "blocks",
        Flow::Samples => "samples",
        Flow::Alerts => "alerts",
    }
}

/// The stages of a table, for help with edges that don't fit.
pub(crate) struct StagesOf(pub(crate) &'static [Kind]);

impl Bridges for StagesOf {
    fn between(&self, from: &str, to: &str) -> Vec<&'static str> {
        let fits = |kind: &&Kind| match (kind.takes(), kind.gives()) {
            (Takes::Only(takes), Gives::Only(gives)) => takes == from && gives == to,
            _ => false,
        };
        self.0.iter().filter(fits).map(|kind| kind.name).collect()
    }
}

/// The options of a node, whatever its kind.
pub trait AnyOptions: Send {
    /// What types can't rule out; see [`Component::problems`].
    fn problems(&self) -> Vec<Problem>;

    /// Folders and files that belong to the node alone; see [`Component::claims`].
    fn claims(&self) -> Vec<PathBuf>;

    /// All options with their values, defaults included and secrets left out.
    fn resolved(&self) -> Value;

    /// The options as their own type, a [`Component`].
    fn as_any(&self) -> &dyn Any;

    /// Makes the node; see [`Component::build`].
    ///
    /// # Errors
    /// If something outside the options is not as it has to be.
    fn build(self: Box<Self>, context: &mut BuildContext) -> Result<Node, BuildError>;
}

impl fmt::Debug for dyn AnyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.resolved())
    }
}

struct Erased<C>(C);

/// Options whatever their kind, from those of one kind.
pub(crate) fn erase<C: Component + Send + 'static>(options: C) -> Box<dyn AnyOptions> {
    Box::new(Erased(options))
}

impl<C: Component + Send + 'static> AnyOptions for Erased<C> {
    fn problems(&self) -> Vec<Problem> {
        self.0.problems()
    }

    fn claims(&self) -> Vec<PathBuf> {
        self.0.claims()
    }

    fn resolved(&self) -> Value {
        // Options are what TOML can hold, and JSON can hold all of that. All that shows options gets them from here.
        redact::value(serde_json::to_value(&self.0).unwrap_or_default())
    }

    fn as_any(&self) -> &dyn Any {
        &self.0
    }

    fn build(self: Box<Self>, context: &mut BuildContext) -> Result<Node, BuildError> {
        self.0.build(context)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use sluice_config::schema::Node as Schema;

    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_is_described() {
        let mut names = HashSet::new();
        for kind in KINDS {
            assert!(names.insert(kind.name), "{} stands twice", kind.name);
            assert!(!kind.summary.is_empty(), "{}", kind.name);
        }
    }

    #[test]
    fn every_option_of_every_kind_is_described() {
        for kind in KINDS {
            let schema = kind.schema();
            for (name, option) in Schema::root(&schema).properties() {
                assert!(option.description().is_some(), "{}.{name} has no description", kind.name);
            }
        }
    }

    #[test]
    fn what_a_kind_takes_and_gives_suits_its_role() {
        for kind in KINDS {
            assert_eq!(kind.role == Role::Source, kind.accepts == Accepts::Nothing, "{}", kind.name);
            assert_eq!(kind.role == Role::Sink, kind.emits == Emits::Nothing, "{}", kind.name);
        }
    }
}
