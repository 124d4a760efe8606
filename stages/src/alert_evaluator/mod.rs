//! `alert_evaluator`: says what is wrong, to whom it may concern, once.
//!
//! ```text
//!  samples ─→ rules ─ Changed ──────────────────────────────────────→ history, API
//!               ├─ Measured, once a second ───────────────────────────→ API
//!               └─ firing, over ─→ groups ─ silences, inhibition ─ Notice ─→ channels
//! ```
//!
//! In: [`Item::Sample`](crate::batch::Item)s, one evaluation each. Out: [`AlertItem`]s. All decisions are made by a pure
//! core ([`AlertEvaluator`]) that is told the time; the shell around it keeps the state file. At most 1,000 alerts a rule
//! are held; what is beyond is counted (`alert_series_beyond_limit_total`).
//!
//! Rules mean what they mean in Prometheus, groups what they mean in Alertmanager; the modules say where they differ, and
//! tests hold both against the real programs (`tests/tests/alerting`).

mod condition;
mod core;
mod defaults;
mod evaluator;
mod grouping;
mod inhibition;
mod measured;
mod options;
mod rule;
mod shell;
mod state;
mod unmeasured;

#[cfg(doc)]
use crate::alert::AlertItem;

pub use condition::{Condition, ConditionError};
pub use core::AlertEvaluator;
pub use evaluator::ALERTS_PER_RULE;
pub use grouping::GROUP_BY_ALL;
pub use inhibition::InhibitOptions;
pub use options::AlertEvaluatorOptions;
pub use rule::{OnNoData, Rule, RuleOptions};
