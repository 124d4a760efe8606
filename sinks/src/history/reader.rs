//! Reads the history, for the API.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sluice_stages::component::BuildContext;
use sluice_stages::node::Clock;

use super::query::{AlertPage, AlertQuery, HistoryError, Series, SeriesQuery};
use super::store::Store;

/// How long a question may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The history of a pipeline. Clones read the same one. Whoever builds first makes it; it answers
/// [`HistoryError::NotKept`] until a `history` sink has opened its store.
#[derive(Debug, Clone, Default)]
pub struct HistoryReader {
    store: Arc<OnceLock<(Store, Clock)>>,
}

impl HistoryReader {
    /// The reader of the pipeline that is being built.
    pub fn shared(context: &mut BuildContext) -> Self {
        context.shared.get_or_insert_with(Self::default).clone()
    }

    /// Whether a `history` sink has opened its store.
    pub fn is_open(&self) -> bool {
        self.store.get().is_some()
    }

    /// The series that fit, over a range: as long as rows of seconds are kept with their detail, else from minutes or
    /// hours.
    ///
    /// # Errors
    /// If no history is kept, the question is too large, or the store fails.
    pub async fn query(&self, query: &SeriesQuery) -> Result<Vec<Series>, HistoryError> {
        query.check()?;
        let (store, clock) = self.store()?;
        within(store.series(query, clock.now())).await
    }

    /// The names of the metrics that have a history, in their order.
    ///
    /// # Errors
    /// If no history is kept, or the store fails.
    pub async fn metrics(&self) -> Result<Vec<String>, HistoryError> {
        within(self.store()?.0.metrics()).await
    }

    /// Changes of alerts, the newest first.
    ///
    /// # Errors
    /// If no history is kept, or the store fails.
    pub async fn alerts(&self, query: &AlertQuery) -> Result<AlertPage, HistoryError> {
        within(self.store()?.0.alerts(query)).await
    }

    /// Lets it read `store` from now on.
    pub(super) fn open(&self, store: Store, clock: Clock) {
        // A pipeline has one history; of several the first is read.
        self.store.set((store, clock)).ok();
    }

    fn store(&self) -> Result<&(Store, Clock), HistoryError> {
        self.store.get().ok_or(HistoryError::NotKept)
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, HistoryError>>) -> Result<T, HistoryError> {
    tokio::time::timeout(QUERY_TIMEOUT, answer).await.map_err(|_| HistoryError::Timeout)?
}
