//! `history`: keeps what was measured and what was alerted, for as long as is asked, behind a connection pool.
//!
//! ```text
//!  samples, alerts ─→ sink ─ [queue, 512] ─→ writer ─ rollup ─→ SQLite file or PostgreSQL ←─ HistoryReader ←─ API
//!                       └─ full: history_discarded_total
//! ```
//!
//! In: [`Sample`](sluice_stages::sample::Sample)s and [`AlertItem`](sluice_stages::alert::AlertItem)s. Each sample is
//! merged into rows of one second, one minute and one hour at once, so a crash loses no more than the last few seconds
//! and a restart in the middle of an hour goes on with that hour. A store that is slow, full or away costs history and
//! never the pipeline: the writer tries again for as long as the pipeline runs, and what does not fit into the queue
//! meanwhile is counted and let go.

mod options;
mod query;
mod reader;
mod rollup;
mod sink;
mod store;

pub use options::HistoryOptions;
pub use query::{
    AlertChange, AlertPage, AlertQuery, HistoryError, MAX_PAGE, MAX_POINTS, MAX_ROWS, MAX_SERIES, Point,
    Series, SeriesQuery,
};
pub use reader::HistoryReader;
