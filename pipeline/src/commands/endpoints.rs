//! `sluice endpoints`: probes a pipeline's endpoints and, with `--race`, tells who delivers first.
//!
//! Exit codes: 0 all endpoints can be subscribed to, 1 some can't, 78 the pipeline is not valid.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures::future::join_all;
use serde_json::{Value, json};
use sluice_config::units::parse_duration;
use sluice_stages::component::{BuildContext, Endpoint};
use sluice_stages::node::Clock;
use sluice_stages::yellowstone::probe::{Probe, Verdict, compete, probe};
use sluice_stages::yellowstone::race::{MAX_RACERS, Race, Standing};
use url::Url;

use crate::commands::run::EXIT_FAILED;
use crate::overrides::Overrides;
use crate::plan::Plan;
use crate::report::{self, EXIT_CONFIG};

/// The kind of the sources that have endpoints.
const KIND: &str = "yellowstone";

/// What is shown where nothing is known.
const NOTHING: &str = "-";

/// Arguments of `sluice endpoints`.
#[derive(Debug, Args)]
pub struct EndpointsArgs {
    /// The pipeline's file; `-` is standard input.
    #[arg(value_name = "PIPELINE.toml")]
    pub pipeline: PathBuf,
    /// Subscribes to all endpoints at once for so long (`60s`), and shows who delivers first.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub race: Option<Duration>,
    /// How to show it.
    #[arg(long, value_enum, default_value_t)]
    pub format: EndpointsFormat,
    /// Values over those of the file.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// How `sluice endpoints` shows what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum EndpointsFormat {
    /// For people.
    #[default]
    Text,
    /// For tools: JSON.
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        Err("nothing happens in no time; give `60s`, say".to_owned())
    } else {
        Ok(duration)
    }
}

/// Probes the endpoints.
pub async fn run(args: EndpointsArgs) -> ExitCode {
    let plan = match args.overrides.load(&args.pipeline) {
        Ok(plan) => plan,
        Err(diagnostics) => {
            report::show(&diagnostics);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    report::show(&plan.warnings);
    let endpoints = match endpoints(plan) {
        Ok(endpoints) => endpoints,
        Err(message) => {
            report::print_error(&format!("error: {message}\n"));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let probes = join_all(endpoints.iter().map(probe)).await;
    if args.format == EndpointsFormat::Text {
        report::print(&table(&endpoints, &probes));
    }
    let standings = match args.race {
        Some(time) => race(&endpoints, time).await,
        None => Vec::new(),
    };
    match args.format {
        EndpointsFormat::Text if args.race.is_some() => report::print(&results(&endpoints, &standings)),
        EndpointsFormat::Text => {}
        EndpointsFormat::Json => {
            report::print(&format!("{:#}\n", record(&endpoints, &probes, &standings)));
        }
    }
    let fine = probes.iter().all(|probe| probe.filters == Verdict::Accepted);
    if fine { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
}

/// The endpoints of all sources, ready to be asked.
fn endpoints(plan: Plan) -> Result<Vec<Endpoint>, String> {
    let mut context = BuildContext::new();
    for node in plan.nodes.into_iter().filter(|node| node.kind.name == KIND) {
        context.node.clone_from(&node.name);
        let built = node.options.build(&mut context);
        built.map_err(|error| format!("source `{}`: {error}", node.name))?;
    }
    match context.endpoints.len() {
        0 => Err(format!("the pipeline has no source of type `{KIND}`")),
        1..=MAX_RACERS => Ok(context.endpoints),
        more => Err(format!("{more} endpoints are more than the {MAX_RACERS} that can be compared at once")),
    }
}

async fn race(endpoints: &[Endpoint], time: Duration) -> Vec<Standing> {
    let clock = Clock::start();
    let race = Arc::new(Mutex::new(Race::new(endpoints.len(), clock.now())));
    let mut racers = tokio::task::JoinSet::new();
    for (racer, endpoint) in endpoints.iter().cloned().enumerate() {
        let race = Arc::clone(&race);
        racers.spawn(async move { compete(&endpoint, racer, clock, &race).await });
    }
    tokio::time::sleep(time).await;
    racers.shutdown().await;
    race.lock().unwrap_or_else(PoisonError::into_inner).standings()
}

/// Scheme, host and port: paths and queries may hold a key.
fn address(endpoint: &Endpoint) -> String {
    let Ok(url) = Url::parse(&endpoint.options.url) else { return NOTHING.to_owned() };
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

fn tls(endpoint: &Endpoint) -> &'static str {
    // As it was checked: the scheme may be written in capitals.
    let is_https = Url::parse(&endpoint.options.url).is_ok_and(|url| url.scheme() == "https");
    if is_https { "yes" } else { "no" }
}

/// The slots behind the best of all.
fn lags(probes: &[Probe]) -> Vec<Option<u64>> {
    let best = probes.iter().filter_map(|probe| probe.slot).max().unwrap_or_default();
    probes.iter().map(|probe| probe.slot.map(|slot| best - slot)).collect()
}

/// The version's own words, where it comes wrapped in JSON.
fn version(probe: &Probe) -> Option<String> {
    let text = probe.version.as_deref()?;
    let parsed: Value = serde_json::from_str(text).unwrap_or_default();
    let word = |key: &str| parsed["version"][key].as_str().map(str::to_owned);
    match (word("package"), word("version")) {
        (Some(package), Some(version)) => Some(format!("{package} {version}")),
        _ => Some(text.chars().filter(|c| !c.is_control()).take(32).collect()),
    }
}

fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Refused(_) => "refused",
        Verdict::Unknown => NOTHING,
    }
}

fn or_nothing<T: ToString>(value: Option<T>) -> String {
    value.map_or(NOTHING.to_owned(), |value| value.to_string())
}

fn millis(value: Option<f64>) -> String {
    value.map_or(NOTHING.to_owned(), |value| format!("{value:.1} ms"))
}

fn table(endpoints: &[Endpoint], probes: &[Probe]) -> String {
    let head = [
        "endpoint",
        "address",
        "region",
        "version",
        "slot",
        "lag",
        "replay",
        "connect",
        "round trip",
        "first update",
        "TLS",
        "auth",
        "filters",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for ((endpoint, probe), lag) in endpoints.iter().zip(probes).zip(lags(probes)) {
        rows.push(vec![
            endpoint.name.to_string(),
            address(endpoint),
            or_nothing(endpoint.options.region.as_ref()),
            or_nothing(version(probe)),
            or_nothing(probe.slot),
            or_nothing(lag),
            or_nothing(probe.replay_slots),
            millis(probe.connect_ms),
            millis(probe.round_trip_ms),
            millis(probe.first_update_ms),
            tls(endpoint).to_owned(),
            verdict(&probe.auth).to_owned(),
            verdict(&probe.filters).to_owned(),
        ]);
    }
    let mut text = aligned(&rows);
    for (endpoint, probe) in endpoints.iter().zip(probes) {
        if let Some(error) = &probe.error {
            text.push_str(&format!("{}: {error}\n", endpoint.name));
        }
    }
    text
}

fn results(endpoints: &[Endpoint], standings: &[Standing]) -> String {
    if standings.is_empty() {
        return "\nnobody delivered anything that can be compared; let the race last longer\n".to_owned();
    }
    let head = ["updates", "endpoint", "first", "delivered", "missed", "p50 behind", "p90", "p99"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for one in standings {
        rows.push(vec![
            one.kind.to_owned(),
            endpoints.get(one.racer).map_or(NOTHING.to_owned(), |endpoint| endpoint.name.to_string()),
            format!("{:.1}%", one.win_share * 100.0),
            one.updates.to_string(),
            one.missed.to_string(),
            millis(Some(one.behind_p50_ms)),
            millis(Some(one.behind_p90_ms)),
            millis(Some(one.behind_p99_ms)),
        ]);
    }
    format!("\n{}", aligned(&rows))
}

/// Columns two spaces apart.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn record(endpoints: &[Endpoint], probes: &[Probe], standings: &[Standing]) -> Value {
    let one = |(place, ((endpoint, probe), lag)): (usize, ((&Endpoint, &Probe), Option<u64>))| {
        let race: Vec<&Standing> = standings.iter().filter(|one| one.racer == place).collect();
        json!({
            "name": &*endpoint.name,
            "address": address(endpoint),
            "region": endpoint.options.region,
            "tls": tls(endpoint) == "yes",
            "lag_slots": lag,
            "probe": probe,
            "race": race,
        })
    };
    let all = endpoints.iter().zip(probes).zip(lags(probes)).enumerate().map(one);
    Value::from(all.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use sluice_cluster::cluster::{Cluster, Config};
    use sluice_cluster::faults::Profile;
    use sluice_cluster::ledger::{GeneratedLedger, Ledger};
    use sluice_cluster::server::{Running, ServeOptions};

    use super::*;

    async fn cluster() -> Running {
        let ledger = Ledger::generated(GeneratedLedger {
            slots: Some(2_000),
            transactions_per_slot: 3..=8,
            mainnet_blocks: false,
            ..GeneratedLedger::default()
        });
        let config = Config {
            endpoints: 2,
            faults: Profile::None,
            slot_time: Duration::from_millis(20),
            ..Config::default()
        };
        Running::start(Cluster::new(ledger, config), ServeOptions::default()).await.expect("free ports")
    }

    fn parsed(urls: &[String]) -> Vec<Endpoint> {
        let listed: Vec<_> = urls.iter().map(|url| format!("{{ url = \"{url}\" }}")).collect();
        let text = format!(
            "[sources.main]\ntype = \"yellowstone\"\ntransactions = true\nconnect_timeout = \"2s\"\n\
             endpoints = [{}]\n[sinks.none]\ntype = \"discard\"\ninputs = [\"main\"]\n",
            listed.join(", ")
        );
        let plan = Plan::parse("p.toml", &text, &|_: &str| None);
        endpoints(plan.unwrap_or_else(|wrong| panic!("{}", wrong.render(false)))).expect("it has endpoints")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_probe_finds_is_shown_without_what_may_be_a_key() {
        let served = cluster().await;
        let mut urls: Vec<_> = served.grpc_urls().to_vec();
        urls.push("http://127.0.0.1:1/s3cret".to_owned());
        let endpoints = parsed(&urls);
        let probes = join_all(endpoints.iter().map(probe)).await;
        let text = table(&endpoints, &probes);
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("main/3: unavailable"), "{text}");
        assert_eq!(probes[2].filters, Verdict::Unknown);
        for probe in &probes[..2] {
            assert_eq!((&probe.auth, &probe.filters), (&Verdict::Accepted, &Verdict::Accepted), "{text}");
            assert!(probe.round_trip_ms.is_some() && probe.first_update_ms.is_some(), "{text}");
            assert!(version(probe).is_some_and(|version| version.starts_with("sluice-cluster ")), "{text}");
        }
        served.shutdown().await.expect("it served to its end");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_race_has_standings_of_every_endpoint_and_kind() {
        let served = cluster().await;
        let endpoints = parsed(served.grpc_urls());
        let standings = race(&endpoints, Duration::from_secs(3)).await;
        for kind in ["slot", "transaction", "block_meta"] {
            let of: Vec<_> = standings.iter().filter(|one| one.kind == kind).collect();
            assert_eq!(of.len(), 2, "{kind}: {standings:?}");
            let share: f64 = of.iter().map(|one| one.win_share).sum();
            assert!((share - 1.0).abs() < 1e-9 && of.iter().all(|one| one.updates > 10), "{of:?}");
        }
        let shown = results(&endpoints, &standings);
        assert!(shown.contains("main/1") && shown.contains("main/2"), "{shown}");
        served.shutdown().await.expect("it served to its end");
    }

    #[test]
    fn keys_in_paths_are_not_shown() {
        let endpoints = parsed(&["https://host:8443/s3cret?key=s3cret".to_owned()]);
        assert_eq!(address(&endpoints[0]), "https://host:8443");
    }

    #[test]
    fn a_version_in_json_is_unwrapped() {
        let probe = |version: &str| Probe { version: Some(version.to_owned()), ..lost() };
        let json = r#"{"version":{"package":"plugin","version":"1.2.3"}}"#;
        assert_eq!(version(&probe(json)).as_deref(), Some("plugin 1.2.3"));
        assert_eq!(version(&probe("1.0\n")).as_deref(), Some("1.0"));
    }

    fn lost() -> Probe {
        Probe {
            connect_ms: None,
            round_trip_ms: None,
            version: None,
            slot: None,
            replay_slots: None,
            auth: Verdict::Unknown,
            filters: Verdict::Unknown,
            first_update_ms: None,
            error: None,
        }
    }

    #[test]
    fn lag_is_measured_against_the_best() {
        let at = |slot| Probe { slot, ..lost() };
        assert_eq!(lags(&[at(Some(10)), at(None), at(Some(13))]), [Some(3), None, Some(0)]);
    }
}
