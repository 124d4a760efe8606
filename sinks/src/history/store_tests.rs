use sluice_config::Secret;
use sluice_stages::sample::{Reading, Sample};

use super::super::rollup::Rollup;
use super::*;

const HOUR: u64 = 3_600;

fn at(second: u64) -> Timestamp {
    Timestamp(second * 1_000_000)
}

fn sample(second: u64, value: f64) -> Sample {
    Sample { at: at(second), readings: vec![Reading::new("lag_slots", value).with("node", "a")] }
}

async fn write(store: &Store, samples: impl IntoIterator<Item = Sample>) {
    let mut rollup = Rollup::new(&store.pipeline, Vec::new(), 10);
    samples.into_iter().for_each(|sample| rollup.add(&sample));
    let rows = rollup.rows();
    store.write(Write { series: rollup.new_series(), rows: &rows, changes: &[] }).await.expect("written");
}

fn query(from: u64, to: u64, step: u64) -> SeriesQuery {
    SeriesQuery {
        metric: "lag_slots".to_owned(),
        matchers: vec![matcher::Matcher::equal("node", "a")],
        from: at(from),
        to: at(to),
        step: Duration::from_secs(step),
    }
}

fn change(id: i64, rule: &str, state: AlertState, severity: Severity) -> AlertChange {
    let alert = Alert {
        fingerprint: Arc::from("00000000000000aa"),
        rule: Arc::from(rule),
        severity,
        state,
        metric: Arc::from("lag_slots"),
        labels: Labels::new(),
        value: 9.0,
        threshold: 5.0,
        message: Arc::from("too far behind"),
        active_at: at(1),
        fired_at: Some(at(2)),
        resolved_at: None,
        suppressed_by: None,
    };
    AlertChange { id, at: at(u64::try_from(id).expect("positive")), alert }
}

async fn sqlite(folder: &tempfile::TempDir) -> Store {
    let options = HistoryOptions { path: Some(folder.path().join("sub/h.db")), ..HistoryOptions::default() };
    Store::open(&options, "p").await.expect("a store")
}

/// What every store has to do, whichever it is.
async fn keeps_thins_out_and_forgets(open: impl AsyncFn() -> Store) {
    let store = open().await;
    write(&store, (0..90).map(|second| sample(10 * HOUR + second, second as f64))).await;
    store.close().await;

    // A restart in the middle of a minute goes on with it.
    let store = open().await;
    write(&store, (90..120).map(|second| sample(10 * HOUR + second, second as f64))).await;
    assert_eq!(store.metrics().await.expect("metrics"), ["lag_slots"]);
    let seconds =
        store.series(&query(10 * HOUR, 10 * HOUR + 119, 1), at(11 * HOUR)).await.expect("an answer");
    assert_eq!(seconds[0].points.len(), 120);
    assert_eq!(seconds[0].labels.get("node").map(|node| &**node), Some("a"));
    let minutes =
        store.series(&query(10 * HOUR, 10 * HOUR + 119, 60), at(11 * HOUR)).await.expect("an answer");
    let last = minutes[0].points[1];
    assert_eq!((last.min, last.max, last.mean, last.last), (60.0, 119.0, 89.5, 119.0));

    // Two days later seconds are gone and minutes are there; a year later only hours.
    store.prune(at(58 * HOUR)).await.expect("pruned");
    let seconds =
        store.series(&query(10 * HOUR, 10 * HOUR + 119, 1), at(11 * HOUR)).await.expect("an answer");
    assert!(seconds.is_empty());
    let minutes =
        store.series(&query(10 * HOUR, 10 * HOUR + 119, 1), at(58 * HOUR)).await.expect("an answer");
    assert_eq!(minutes[0].points.len(), 2, "what has no seconds any more is answered from minutes");
    store.prune(at(365 * 24 * HOUR)).await.expect("pruned");
    let hours =
        store.series(&query(0, 300 * 24 * HOUR, 86_400), at(365 * 24 * HOUR)).await.expect("an answer");
    assert_eq!((hours[0].points.len(), hours[0].points[0].max), (1, 119.0));
    store.close().await;
}

async fn pages_alerts(store: Store) {
    let (firing, resolved) = (AlertState::Firing, AlertState::Resolved);
    let changes = [
        change(1, "lag", firing, Severity::Warning),
        change(2, "hole", firing, Severity::Critical),
        change(3, "lag", resolved, Severity::Warning),
    ];
    let write = Write { series: &[], rows: &[], changes: &changes };
    store.write(write).await.expect("written");
    store.write(write).await.expect("written again is no other change");
    let ids = async |query: AlertQuery| {
        let page = store.alerts(&query).await.expect("a page");
        (page.changes.iter().map(|change| change.id).collect::<Vec<_>>(), page.next)
    };
    let page = AlertQuery { limit: 2, ..AlertQuery::default() };
    assert_eq!(ids(page.clone()).await, (vec![3, 2], Some(2)));
    assert_eq!(ids(AlertQuery { before: Some(2), ..page.clone() }).await, (vec![1], None));
    assert_eq!(ids(AlertQuery { states: vec![firing], ..page.clone() }).await, (vec![2, 1], None));
    assert_eq!(
        ids(AlertQuery { severities: vec![Severity::Critical], ..page.clone() }).await,
        (vec![2], None)
    );
    assert_eq!(ids(AlertQuery { rule: Some("lag".to_owned()), ..page.clone() }).await, (vec![3, 1], None));
    let range = AlertQuery { from: Some(at(2)), to: Some(at(2)), ..page.clone() };
    assert_eq!(ids(range).await, (vec![2], None));
    let injected = AlertQuery { rule: Some("' OR 1=1 --".to_owned()), ..page.clone() };
    assert_eq!(ids(injected).await, (vec![], None));
    assert_eq!(store.alerts(&page).await.expect("a page").changes[0], changes[2]);
    store.close().await;
}

#[tokio::test]
async fn sqlite_keeps_thins_out_and_forgets() {
    let folder = tempfile::tempdir().expect("a folder");
    keeps_thins_out_and_forgets(async || sqlite(&folder).await).await;
    pages_alerts(sqlite(&folder).await).await;
}

#[tokio::test]
async fn questions_beyond_the_bounds_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = sqlite(&folder).await;
    let mut rollup = Rollup::new("p", Vec::new(), 10_000);
    let reading = |number: usize| Reading::new("lag_slots", 1.0).with("node", format!("n{number}"));
    rollup.add(&Sample { at: at(0), readings: (0..=MAX_SERIES).map(reading).collect() });
    let rows = rollup.rows();
    store.write(Write { series: rollup.new_series(), rows: &rows, changes: &[] }).await.expect("written");
    let all = SeriesQuery { matchers: Vec::new(), ..query(0, 10, 1) };
    assert!(matches!(store.series(&all, at(10)).await, Err(HistoryError::TooManySeries(_))));
    let some = SeriesQuery { matchers: vec!["node=~n1.*".parse().expect("a matcher")], ..query(0, 3_599, 1) };
    assert_eq!(store.series(&some, at(10)).await.expect("an answer").len(), 111);
    let long = SeriesQuery { to: at(10_999), ..some };
    assert!(matches!(store.series(&long, at(10)).await, Err(HistoryError::TooManyRows(1_221_000))));
}

/// Runs where a PostgreSQL server is told of, e.g. `SLUICE_TEST_POSTGRES_URL=postgres://postgres@127.0.0.1/postgres`;
/// the database is written to.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: set SLUICE_TEST_POSTGRES_URL"]
async fn postgres_keeps_thins_out_and_forgets() {
    let url = std::env::var("SLUICE_TEST_POSTGRES_URL").expect("SLUICE_TEST_POSTGRES_URL");
    let options = HistoryOptions { url: Some(Secret::new(url)), ..HistoryOptions::default() };
    let pipeline = format!("test-{}", rand::random::<u64>());
    let open = async || Store::open(&options, &pipeline).await.expect("a store");
    keeps_thins_out_and_forgets(open).await;
    pages_alerts(open().await).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_as_such_without_the_password() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let url = format!("postgres://sluice:hunter2@127.0.0.1:{port}/x");
    let error = open_postgres(&url).await.expect_err("nobody listens").to_string();
    assert!(error.contains("refused") && !error.contains("hunter2"), "{error}");
}
