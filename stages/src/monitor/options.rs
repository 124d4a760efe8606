//! The options of `type = "monitor"`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shell::Shell;
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use crate::stage::Flow;

/// Measures the pipeline that it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorOptions {
    /// Time between two samples, 500ms to 5s. Default 1s. Nodes show their metrics twice a second.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub interval: Duration,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1) }
    }
}

impl Component for MonitorOptions {
    const KIND: &'static str = "monitor";
    const ROLE: Role = Role::Source;
    const ACCEPTS: Accepts = Accepts::Nothing;
    const EMITS: Emits = Emits::Only(Flow::Samples);
    const SUMMARY: &'static str = "Measures the pipeline that it stands in, once a second.";

    fn problems(&self) -> Vec<Problem> {
        let bounds = Duration::from_millis(500)..=Duration::from_secs(5);
        if bounds.contains(&self.interval) {
            return Vec::new();
        }
        vec![Problem {
            option: "interval".to_owned(),
            message: "the shortest window is ten seconds, and metrics are shown twice a second".to_owned(),
            help: "give 500ms to 5s".to_owned(),
        }]
    }

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Source(Box::new(Shell::new(self.interval))))
    }
}
