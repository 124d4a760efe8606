//! The store: one set of tables and statements for SQLite and PostgreSQL.
//!
//! ```text
//!  series (id, pipeline, metric, labels)       points (series, resolution, at, low, high, total, samples, latest)
//!  alert_changes (pipeline, id, at, rule, severity, state, body)
//! ```
//!
//! Rows are merged into what is there, so the same interval may be written in several pieces.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sluice_stages::alert::{Alert, AlertState, Severity};
use sluice_stages::matcher;
use sluice_stages::sample::Labels;
use sluice_stages::slot::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, PgConnection, Postgres, QueryBuilder, Sqlite};

use super::options::HistoryOptions;
use super::query::{
    Aggregate, AlertChange, AlertPage, AlertQuery, HistoryError, MAX_PAGE, MAX_ROWS, MAX_SERIES, Resampler,
    Series, SeriesQuery,
};
use super::rollup::{NewSeries, RESOLUTIONS, RowKey, SeriesId};

/// Connections: one writes, the others read for the API.
const CONNECTIONS: u32 = 4;
/// How long a connection may take, and SQLite's lock.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows of one statement: eight values each stay far below what SQLite (32,766) and PostgreSQL (65,535) take.
const ROWS_PER_STATEMENT: usize = 500;

const SCHEMA: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS series (id BIGINT PRIMARY KEY, pipeline TEXT NOT NULL, metric TEXT NOT NULL, \
     labels TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS series_by_metric ON series (pipeline, metric)",
    "CREATE TABLE IF NOT EXISTS points (series BIGINT NOT NULL, resolution BIGINT NOT NULL, at BIGINT NOT NULL, \
     low DOUBLE PRECISION NOT NULL, high DOUBLE PRECISION NOT NULL, total DOUBLE PRECISION NOT NULL, \
     samples BIGINT NOT NULL, latest DOUBLE PRECISION NOT NULL, PRIMARY KEY (series, resolution, at))",
    "CREATE TABLE IF NOT EXISTS alert_changes (pipeline TEXT NOT NULL, id BIGINT NOT NULL, at BIGINT NOT NULL, \
     rule TEXT NOT NULL, severity TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL, \
     PRIMARY KEY (pipeline, id))",
    "CREATE INDEX IF NOT EXISTS alert_changes_by_time ON alert_changes (pipeline, at)",
];

const MERGE_POINTS: &str = " ON CONFLICT (series, resolution, at) DO UPDATE SET \
    low = CASE WHEN excluded.low < points.low THEN excluded.low ELSE points.low END, \
    high = CASE WHEN excluded.high > points.high THEN excluded.high ELSE points.high END, \
    total = points.total + excluded.total, samples = points.samples + excluded.samples, latest = excluded.latest";

/// A pool of connections.
#[derive(Debug, Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Runs the same code on whichever pool there is; `$database` is its type.
macro_rules! on_pool {
    ($store:expr, |$pool:ident, $database:ident| $body:expr) => {
        match &$store.pool {
            Pool::Sqlite($pool) => {
                type $database = Sqlite;
                $body
            }
            Pool::Postgres($pool) => {
                type $database = Postgres;
                $body
            }
        }
    };
}

/// An open store of one pipeline.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pool: Pool,
    pipeline: Arc<str>,
    keep: [Duration; 3],
}

/// What is written together, or not at all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'w> {
    /// Series that may be new.
    pub(super) series: &'w [NewSeries],
    /// Rows, each key once.
    pub(super) rows: &'w [(RowKey, Aggregate)],
    /// Changes of alerts.
    pub(super) changes: &'w [AlertChange],
}

impl Store {
    /// Opens the store and makes its tables.
    ///
    /// # Errors
    /// If it can't be reached or used.
    pub(super) async fn open(options: &HistoryOptions, pipeline: &str) -> Result<Self, HistoryError> {
        let pool = match (&options.url, options.file()) {
            (Some(url), _) => Pool::Postgres(open_postgres(url.expose()).await?),
            (None, file) => Pool::Sqlite(open_sqlite(&file.unwrap_or_default()).await?),
        };
        let store = Self { pool, pipeline: Arc::from(pipeline), keep: options.keep() };
        on_pool!(store, |pool, _Db| for statement in SCHEMA {
            sqlx::query(statement).execute(pool).await?;
        });
        Ok(store)
    }

    /// Writes all of it in one transaction.
    ///
    /// # Errors
    /// If the store refuses; nothing of it was written then.
    pub(super) async fn write(&self, write: Write<'_>) -> Result<(), HistoryError> {
        on_pool!(self, |pool, Db| {
            let mut transaction = pool.begin().await?;
            for part in write.series.chunks(ROWS_PER_STATEMENT) {
                let mut query = QueryBuilder::<Db>::new("INSERT INTO series (id, pipeline, metric, labels) ");
                query.push_values(part, |mut row, series| {
                    row.push_bind(series.id).push_bind(&*self.pipeline);
                    row.push_bind(&*series.metric).push_bind(&*series.labels);
                });
                query.push(" ON CONFLICT (id) DO NOTHING").build().execute(&mut *transaction).await?;
            }
            for part in write.rows.chunks(ROWS_PER_STATEMENT) {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO points (series, resolution, at, low, high, total, samples, latest) ",
                );
                query.push_values(part, |mut row, ((series, resolution, at), values)| {
                    row.push_bind(series).push_bind(*resolution as i64).push_bind(*at as i64);
                    row.push_bind(values.min).push_bind(values.max).push_bind(values.sum);
                    row.push_bind(values.count).push_bind(values.last);
                });
                query.push(MERGE_POINTS).build().execute(&mut *transaction).await?;
            }
            for part in write.changes.chunks(ROWS_PER_STATEMENT) {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO alert_changes (pipeline, id, at, rule, severity, state, body) ",
                );
                query.push_values(part, |mut row, change| {
                    row.push_bind(&*self.pipeline).push_bind(change.id).push_bind(change.at.0 as i64);
                    row.push_bind(&*change.alert.rule).push_bind(change.alert.severity.name());
                    row.push_bind(word(change.alert.state)).push_bind(body(&change.alert));
                });
                query
                    .push(" ON CONFLICT (pipeline, id) DO NOTHING")
                    .build()
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
        });
        Ok(())
    }

    /// Deletes what is older than it has to be.
    ///
    /// # Errors
    /// If the store refuses.
    pub(super) async fn prune(&self, now: Timestamp) -> Result<(), HistoryError> {
        let before = |keep: Duration| now.0.saturating_sub(micros(keep)) as i64;
        on_pool!(self, |pool, _Db| {
            for (resolution, keep) in RESOLUTIONS.into_iter().zip(self.keep) {
                let old = "DELETE FROM points WHERE series IN (SELECT id FROM series WHERE pipeline = $1) \
                           AND resolution = $2 AND at < $3";
                let query = sqlx::query(old).bind(&*self.pipeline).bind(resolution as i64);
                query.bind(before(keep) / 1_000_000).execute(pool).await?;
            }
            let old = "DELETE FROM alert_changes WHERE pipeline = $1 AND at < $2";
            sqlx::query(old).bind(&*self.pipeline).bind(before(self.keep[2])).execute(pool).await?;
        });
        Ok(())
    }

    /// The series that fit.
    ///
    /// # Errors
    /// If the question is too large, or the store fails.
    pub(super) async fn series(
        &self,
        query: &SeriesQuery,
        now: Timestamp,
    ) -> Result<Vec<Series>, HistoryError> {
        let fitting = self.fitting(query).await?;
        let resolution = self.resolution(query, now);
        let (from, to) = query.seconds();
        let rows = ((to - from) / resolution + 1).saturating_mul(fitting.len() as u64);
        if rows > MAX_ROWS {
            return Err(HistoryError::TooManyRows(rows));
        }
        let mut found = Vec::with_capacity(fitting.len());
        for (id, labels) in fitting {
            let mut resampler = Resampler::new(query.step_seconds());
            for (at, row) in self.rows(id, resolution, from, to).await? {
                resampler.take(at, row);
            }
            let points = resampler.points();
            if !points.is_empty() {
                found.push(Series { metric: Arc::from(query.metric.as_str()), labels, points });
            }
        }
        Ok(found)
    }

    /// The names of all metrics.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) async fn metrics(&self) -> Result<Vec<String>, HistoryError> {
        let all = "SELECT DISTINCT metric FROM series WHERE pipeline = $1 ORDER BY metric";
        Ok(on_pool!(self, |pool, _Db| {
            sqlx::query_scalar(all).bind(&*self.pipeline).fetch_all(pool).await?
        }))
    }

    /// A page of alert changes.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) async fn alerts(&self, asked: &AlertQuery) -> Result<AlertPage, HistoryError> {
        let limit = asked.limit.clamp(1, MAX_PAGE);
        let rows: Vec<(i64, i64, String)> = on_pool!(self, |pool, Db| {
            let mut query =
                QueryBuilder::<Db>::new("SELECT id, at, body FROM alert_changes WHERE pipeline = ");
            query.push_bind(&*self.pipeline);
            if let Some(before) = asked.before {
                query.push(" AND id < ").push_bind(before);
            }
            if let Some(from) = asked.from {
                query.push(" AND at >= ").push_bind(from.0 as i64);
            }
            if let Some(to) = asked.to {
                query.push(" AND at <= ").push_bind(i64::try_from(to.0).unwrap_or(i64::MAX));
            }
            if let Some(rule) = &asked.rule {
                query.push(" AND rule = ").push_bind(rule);
            }
            let states = asked.states.iter().copied().map(word).collect();
            let severities = asked.severities.iter().copied().map(Severity::name).collect();
            let sets: [(&str, Vec<&str>); 2] = [("state", states), ("severity", severities)];
            for (column, words) in sets.into_iter().filter(|(_, words)| !words.is_empty()) {
                // The words are this program's own.
                query.push(format!(" AND {column} IN ('{}')", words.join("', '")));
            }
            query.push(" ORDER BY id DESC LIMIT ").push_bind(limit as i64 + 1);
            query.build_query_as().fetch_all(pool).await?
        });
        Ok(page(rows, limit))
    }

    /// Closes all connections, so that a SQLite file is left whole without its side files.
    pub(super) async fn close(&self) {
        on_pool!(self, |pool, _Db| pool.close().await);
    }

    async fn fitting(&self, query: &SeriesQuery) -> Result<Vec<(SeriesId, Labels)>, HistoryError> {
        let all = "SELECT id, labels FROM series WHERE pipeline = $1 AND metric = $2 ORDER BY labels";
        let rows: Vec<(i64, String)> = on_pool!(self, |pool, _Db| {
            sqlx::query_as(all).bind(&*self.pipeline).bind(&query.metric).fetch_all(pool).await?
        });
        let fits = |labels: &Labels| {
            matcher::all_fit(&query.matchers, |name| labels.get(name).map(|value| &**value))
        };
        let read = |(id, labels): (i64, String)| Some((id, serde_json::from_str::<Labels>(&labels).ok()?));
        let fitting: Vec<_> = rows.into_iter().filter_map(read).filter(|(_, labels)| fits(labels)).collect();
        match fitting.len() {
            few if few <= MAX_SERIES => Ok(fitting),
            many => Err(HistoryError::TooManySeries(many)),
        }
    }

    /// The coarsest rows that are fine enough for the step; coarser ones where those don't reach back to the begin of the
    /// range any more.
    fn resolution(&self, query: &SeriesQuery, now: Timestamp) -> u64 {
        let fine =
            RESOLUTIONS.iter().rposition(|resolution| *resolution <= query.step_seconds()).unwrap_or(0);
        let age = now.since(query.from);
        let reaches = (fine..RESOLUTIONS.len()).find(|&at| self.keep[at] >= age);
        RESOLUTIONS[reaches.unwrap_or(RESOLUTIONS.len() - 1)]
    }

    async fn rows(
        &self,
        series: SeriesId,
        resolution: u64,
        from: u64,
        to: u64,
    ) -> Result<Vec<(u64, Aggregate)>, HistoryError> {
        type Row = (i64, f64, f64, f64, i64, f64);
        let range = "SELECT at, low, high, total, samples, latest FROM points \
                     WHERE series = $1 AND resolution = $2 AND at >= $3 AND at <= $4 ORDER BY at";
        let rows: Vec<Row> = on_pool!(self, |pool, _Db| {
            let query = sqlx::query_as(range).bind(series).bind(resolution as i64);
            query.bind((from - from % resolution) as i64).bind(to as i64).fetch_all(pool).await?
        });
        let read = |(at, min, max, sum, count, last): Row| {
            (u64::try_from(at).unwrap_or(0), Aggregate { min, max, sum, count, last })
        };
        Ok(rows.into_iter().map(read).collect())
    }
}

async fn open_sqlite(file: &std::path::Path) -> Result<SqlitePool, HistoryError> {
    if let Some(folder) = file.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(sqlx::Error::Io)?;
    }
    // `NORMAL` syncs at checkpoints only: a power cut may cost the last writes, never the file.
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(CONNECT_TIMEOUT);
    let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(CONNECT_TIMEOUT);
    Ok(pool.connect_with(options).await?)
}

async fn open_postgres(url: &str) -> Result<PgPool, HistoryError> {
    let options: PgConnectOptions = url.parse()?;
    // A pool only says that it waited in vain; one connection outside of it says why.
    let silent = |_| sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the server did not answer"));
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&options));
    connecting.await.map_err(silent)??.close().await?;
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(CONNECT_TIMEOUT);
    Ok(pool.connect_with(options.application_name("sluice")).await?)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn word(state: AlertState) -> &'static str {
    match state {
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
    }
}

fn body(alert: &Alert) -> String {
    // All of an alert is text, numbers and words, which JSON can hold.
    serde_json::to_string(alert).unwrap_or_default()
}

/// The page of `rows`, of which one more than `limit` was asked for.
fn page(rows: Vec<(i64, i64, String)>, limit: usize) -> AlertPage {
    let more = rows.len() > limit;
    let read = |(id, at, body): (i64, i64, String)| {
        let alert = serde_json::from_str(&body).ok()?;
        Some(AlertChange { id, at: Timestamp(u64::try_from(at).unwrap_or(0)), alert })
    };
    let last = rows.get(limit.saturating_sub(1)).map(|row| row.0);
    let changes = rows.into_iter().take(limit).filter_map(read).collect();
    AlertPage { changes, next: last.filter(|_| more) }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
