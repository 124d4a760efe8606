//! What the sinks that deliver have in common (`webhook`, `file`, `console`, `email`): records, filters, messages, the
//! rules of sending them, and what is kept on disk about that.

pub(crate) mod alert_record;
pub(crate) mod alert_text;
pub(crate) mod alertmanager;
pub(crate) mod batches;
pub(crate) mod breaker;
mod cells;
pub(crate) mod counters;
pub(crate) mod courier;
pub(crate) mod cursor;
pub(crate) mod dead_letters;
mod durable;
pub(crate) mod encoding;
pub(crate) mod filters;
#[cfg(test)]
pub(crate) mod harness;
pub(crate) mod limit;
pub(crate) mod line_maker;
mod missed;
pub(crate) mod notices;
pub(crate) mod options;
pub(crate) mod record;
pub(crate) mod record_message;
pub(crate) mod retry;
pub(crate) mod signing;
pub(crate) mod state_folder;
pub(crate) mod template;
#[cfg(test)]
pub(crate) mod testing;
mod transaction_record;
pub(crate) mod waiting;
pub(crate) mod waiting_file;

pub use filters::FilterOptions;
pub use options::RetryOptions;
pub use record::RecordKind;
pub(crate) use sluice_stages::time_text;
