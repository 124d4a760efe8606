//! Sluice's side: the real pipeline from a TOML, run by the real runner.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use sluice::kinds::{Kind, kind};
use sluice::plan::Plan;
use sluice::runner::{self, Watch};

use crate::contender::Job;
use crate::feed::{COMMIT_SLOTS, Feed};
use crate::tally::{Tally, TallyOptions};

/// The kinds that pipelines here are made of.
static KINDS: &[Kind] = &[
    kind::<sluice_stages::yellowstone::YellowstoneOptions>(),
    kind::<sluice_stages::merge::MergeOptions>(),
    kind::<sluice_stages::dedupe::DedupeOptions>(),
    kind::<sluice_stages::gap_detector::GapDetectorOptions>(),
    kind::<sluice_stages::commitment::CommitmentOptions>(),
    kind::<sluice_sinks::parquet::ParquetOptions>(),
    kind::<sluice_stages::monitor::MonitorOptions>(),
    kind::<sluice_stages::alert_evaluator::AlertEvaluatorOptions>(),
    kind::<sluice_sinks::history::HistoryOptions>(),
    kind::<sluice_sinks::api::ApiOptions>(),
    kind::<TallyOptions>(),
];

/// How often it is looked whether everything has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Longest time to drain.
const DEADLINE: Duration = Duration::from_secs(60);
/// Items that a source sends beside its updates: the opening of its session.
const ITEMS_BESIDE_UPDATES: u64 = 1;

/// Runs a pipeline until its sources have had everything, drains it, and says what came out; nothing if that is files.
///
/// # Errors
/// If the pipeline can't be built, or a node fails.
pub async fn run(job: &Job) -> Result<Option<Tally>> {
    let plan = Plan::parse_with(KINDS, "comparison", &toml(job), &|_: &str| None);
    let plan = plan.map_err(|found| anyhow::anyhow!("{found:?}"))?;
    let running = runner::start(plan)?;
    let (watch, stop) = (running.watch(), running.stopper());
    let until_all_came = async {
        while !has_all(&watch, job.served.updates) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        stop.cancel();
    };
    let (result, ()) = tokio::join!(running.join(DEADLINE), until_all_came);
    result.context("the pipeline failed")?;
    let sum = |metric: &str| watch.sum(metric);
    Ok((!job.contender.writes()).then(|| Tally::from_metrics(sum)))
}

fn has_all(watch: &Watch, updates: u64) -> bool {
    let edges = watch.edges();
    let mut sources = edges.iter().filter(|(from, ..)| from.starts_with("endpoint"));
    sources.all(|(.., seen)| seen.sent_items >= updates + ITEMS_BESIDE_UPDATES)
}

fn toml(job: &Job) -> String {
    let urls = job.served.urls.iter().take(job.contender.endpoints()).enumerate();
    let mut text = String::new();
    let mut names = Vec::new();
    for (position, url) in urls {
        write!(text, "[sources.endpoint{position}]\ntype = 'yellowstone'\nurl = '{url}'\n")
            .expect("strings take everything");
        names.push(format!("'endpoint{position}'"));
    }
    let sink = match job.contender {
        contender if contender.writes() => format!(
            "type = 'parquet'\npath = '{}'\ncommit_slots = {COMMIT_SLOTS}\nstart_slot = {}",
            job.folder.display(),
            Feed::first_slot()
        ),
        _ => "type = 'tally'".to_owned(),
    };
    let names = names.join(", ");
    write!(
        text,
        "[stages.first]\ntype = 'merge'\ninputs = [{names}]\n\
         [stages.once]\ntype = 'dedupe'\ninputs = ['first']\n\
         [stages.slots]\ntype = 'gap_detector'\ninputs = ['once']\n\
         [stages.final]\ntype = 'commitment'\ninputs = ['slots']\n\
         [sinks.end]\ninputs = ['final']\n{sink}\n"
    )
    .expect("strings take everything");
    if job.contender.readers().is_some() {
        text.push_str(&watching(job));
    }
    text
}

/// All that watches a pipeline, with every option at its default but for where things are.
fn watching(job: &Job) -> String {
    let history = job.folder.with_file_name("history.db");
    format!(
        "[sources.meter]\ntype = 'monitor'\n\
         [stages.alerts]\ntype = 'alert_evaluator'\ninputs = ['meter']\n\
         [sinks.kept]\ntype = 'history'\ninputs = ['meter', 'alerts']\npath = '{}'\n\
         [sinks.api]\ntype = 'api'\ninputs = ['slots', 'meter', 'alerts']\nlisten = '{}'\n",
        history.display(),
        job.api
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::free_address;
    use crate::contender::{Contender, Served};
    use crate::server::Server;

    async fn run_on_feed(contender: Contender, slots: u64) -> (Feed, Option<Tally>, tempfile::TempDir) {
        let feed = Feed::generate(slots).expect("a perfect cluster");
        let server = Server::start(&feed.frames, contender.endpoints()).await.expect("free ports");
        let folder = tempfile::tempdir().expect("a folder");
        let served = Served {
            urls: server.urls.clone(),
            updates: feed.updates(),
            bytes: feed.bytes(),
            whole: feed.whole(),
            in_files: feed.in_files(),
        };
        let job = Job {
            contender,
            served,
            folder: folder.path().join("out"),
            api: free_address().expect("a port"),
        };
        let tally = run(&job).await.expect("a pipeline that drains");
        (feed, tally, folder)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn three_endpoints_let_everything_out_once() {
        let (feed, tally, _) = run_on_feed(Contender::Ingest3, 3).await;
        assert_eq!(tally, Some(feed.whole()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_hold_every_whole_range() {
        let (feed, _, folder) = run_on_feed(Contender::Parquet, COMMIT_SLOTS + 1).await;
        let read = crate::read_back::tally(&folder.path().join("out")).expect("readable files");
        assert_eq!(read, feed.in_files());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_pipeline_that_is_watched_writes_the_same() {
        let (feed, _, folder) = run_on_feed(Contender::Monitored, COMMIT_SLOTS + 1).await;
        let read = crate::read_back::tally(&folder.path().join("out")).expect("readable files");
        assert_eq!(read, feed.in_files());
        assert!(folder.path().join("history.db").exists());
    }
}
