//! Endpoints that lie so that only the chain of hashes can tell: each lie is found and named, and with the proof enforced
//! and an honest endpoint beside the liar the files are those of an honest run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sluice_cluster::Lie;
use sluice_cluster::cluster::Config;
use sluice_cluster::faults::Profile;
use sluice_cluster::server::Running as Served;
use sluice_sinks::verify::{Progress, ProveOptions, VerifyOptions, prove, verify};
use sluice_stages::stage::Event;
use sluice_stages::watch::{Reported, Watch};
use sluice_stages::yellowstone::health::EndpointState;
use tokio::sync::broadcast;

use crate::support::{Lossless, all_metrics, assert_same, audited, files, run_until, serve, small_ledger};

/// Slots that are compared, unless `SLUICE_LIE_SLOTS` says how many; two of three are lied about, each at a random place.
const SLOTS: u64 = 75;
/// Slots of a file.
const COMMIT_SLOTS: u64 = 25;
/// Slots behind them: the last one has to become final and to have a child.
const TAIL_SLOTS: u64 = 16;
/// Time from slot to slot.
const SLOT_TIME: Duration = Duration::from_millis(40);
/// How much longer than the ledger itself a run may take: many times what a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(25);
/// The ledger's first slot.
const FIRST: u64 = sluice_cluster::ledger::FIRST_SLOT;

/// When a run has taken too long.
fn deadline() -> Instant {
    Instant::now() + SLOT_TIME * slots() as u32 + PATIENCE
}

fn slots() -> u64 {
    let wanted = std::env::var("SLUICE_LIE_SLOTS").ok().and_then(|slots| slots.parse::<u64>().ok());
    wanted.unwrap_or(SLOTS).next_multiple_of(COMMIT_SLOTS)
}

/// Who lies about which slot, and how.
type Lies = Vec<(usize, u64, Lie)>;

/// All lies in turn, about two slots of three, by either endpoint.
fn all_lies() -> Lies {
    let about = (FIRST..FIRST + slots()).filter(|slot| slot % 3 != 0);
    about.zip(Lie::ALL.into_iter().cycle()).map(|(slot, lie)| (slot as usize % 2, slot, lie)).collect()
}

async fn served_with(lies: Lies) -> Served {
    let config = Config {
        endpoints: 2,
        faults: Profile::None,
        slot_time: SLOT_TIME,
        finalized_after: 8,
        mixed_servers: false,
        lies,
        ..Config::default()
    };
    serve(small_ledger(slots() + TAIL_SLOTS), config, 2).await
}

/// What a lie is called: by some, a part of it has to be in the words.
fn names(lie: Lie) -> &'static [&'static str] {
    match lie {
        // What the entry lacks can't be guessed; an entry that is left without transactions looks like a tick.
        Lie::TransactionLeftOut => &["does not follow from the signatures", "does not follow from the entry"],
        Lie::TransactionAdded => &["was never executed"],
        // Of one entry, or of two.
        Lie::TransactionsSwapped => &["have changed places", "does not follow from the signatures"],
        Lie::SignatureChanged => &["does not follow from the signatures"],
        Lie::EntryLeftOut => &["an entry before it is missing"],
        Lie::EntrySplit => &["one entry was cut in two"],
        Lie::HashCountChanged => &["lead to its hash"],
        Lie::WrongParent => &["does not follow from the parent's blockhash"],
        Lie::TransactionHidden => &["does not sign its message"],
        Lie::TransactionRepeated => &["is in the block twice"],
    }
}

/// Findings: the slot, the first entry that breaks, the endpoint, and what was said.
type Findings = BTreeSet<(u64, u32, usize, String)>;

/// Gathers what is found while a pipeline runs.
#[derive(Default)]
struct Gathered {
    reports: Option<broadcast::Receiver<Reported>>,
    findings: Findings,
}

impl Gathered {
    fn gather(&mut self, watch: &Watch) {
        let reports = self.reports.get_or_insert_with(|| watch.reports());
        loop {
            match reports.try_recv() {
                Ok(Reported {
                    event: Event::ProofFailed { slot, index: Some(index), endpoint, reason },
                    ..
                }) => {
                    self.findings.insert((slot, index, usize::from(endpoint), reason));
                }
                Ok(_) => {}
                Err(broadcast::error::TryRecvError::Lagged(lost)) => panic!("{lost} reports were lost"),
                Err(_) => return,
            }
        }
    }

    /// What of the lies was not found where it is, or not called what it is.
    fn unnamed(&self, served: &Served, lies: &Lies) -> Vec<(usize, u64, Lie)> {
        let is_named = |&(endpoint, slot, lie): &(usize, u64, Lie)| {
            let Some(index) = served.cluster().breaks_at(endpoint, slot) else { return true };
            let first = || index == 0 && lie != Lie::WrongParent;
            let is_so = |(about, at, who, reason): &(u64, u32, usize, String)| {
                let is_there = (*about, *at as usize, *who) == (slot, index, endpoint);
                // Of a first entry it can't be told as long as its parent is not proven.
                let is_called = names(lie).iter().any(|name| reason.contains(name))
                    || first() && reason.contains("the parent's blockhash");
                is_there && is_called
            };
            self.findings.iter().any(is_so)
        };
        lies.iter().filter(|lie| !is_named(lie)).copied().collect()
    }

    /// Asserts that all that was lied about is named, and nothing else.
    fn assert_complete(&self, served: &Served, lies: &Lies) {
        let unnamed = self.unnamed(served, lies);
        let about =
            |slot: u64| self.findings.iter().filter(move |finding| finding.0 == slot).collect::<Vec<_>>();
        for (endpoint, slot, lie) in &unnamed {
            let place = served.cluster().breaks_at(*endpoint, *slot);
            eprintln!("{lie:?} of endpoint {endpoint} about {slot} at {place:?}: {:?}", about(*slot));
        }
        assert!(unnamed.is_empty(), "{} of {} lies are not named", unnamed.len(), lies.len());
        assert_eq!(self.false_alarms(lies), Vec::<&_>::new());
    }

    /// Findings about what was no lie.
    fn false_alarms(&self, lies: &Lies) -> Vec<&(u64, u32, usize, String)> {
        let is_lie = |slot, who| lies.iter().any(|&(endpoint, about, _)| (endpoint, about) == (who, slot));
        self.findings.iter().filter(|(slot, _, who, _)| !is_lie(*slot, *who)).collect()
    }
}

/// Whether the files of `dataset` are there for all slots that are compared.
fn is_committed(pipeline: &Lossless, dataset: &str) -> bool {
    (FIRST..FIRST + slots())
        .step_by(COMMIT_SLOTS as usize)
        .all(|first| pipeline.file(dataset, first).exists())
}

/// The files of a run in which endpoints lie, once all of them are named.
async fn files_with(lies: Lies) -> BTreeMap<String, Vec<u8>> {
    let served = served_with(lies.clone()).await;
    let root = tempfile::tempdir().expect("a folder");
    let mut pipeline = Lossless::new(&served, root.path(), COMMIT_SLOTS);
    pipeline.source = "transactions = true\nentries = true\n".to_owned();
    pipeline.proof = Some("mode = \"enforce\"\n".to_owned());
    let (mut gathered, deadline) = (Gathered::default(), deadline());
    let (watch, result) = run_until(pipeline.plan(), |watch| {
        gathered.gather(watch);
        let committed = ["blocks", "entries"].iter().all(|dataset| is_committed(&pipeline, dataset));
        committed && gathered.unnamed(&served, &lies).is_empty() || Instant::now() > deadline
    })
    .await;
    result.expect("drained without an error");
    gathered.assert_complete(&served, &lies);
    let committed = |dataset| is_committed(&pipeline, dataset);
    assert!(committed("blocks") && committed("entries"), "{}", all_metrics(&watch));
    assert_eq!(watch.sum("parquet_hole_ranges_total"), 0, "{}", all_metrics(&watch));
    served.shutdown().await.expect("the cluster served to its end");
    let mut report = verify(root.path(), VerifyOptions::default()).expect("readable");
    let options = ProveOptions { hashes: true, ..ProveOptions::default() };
    prove(root.path(), options, &Progress::default(), &mut report).expect("readable");
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.proven.as_ref().map(|proven| proven.proven), Some(report.blocks), "{report}");
    files(root.path())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_named_and_healed_by_the_honest_endpoint() {
    let honest = files_with(Vec::new()).await;
    let healed = files_with(all_lies()).await;
    assert!(honest.keys().any(|name| name.starts_with("entries/")));
    assert_same(&honest, &healed, "with lies about two slots of three");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_names_every_lie_of_whichever_endpoint() {
    let lies = all_lies();
    let served = served_with(lies.clone()).await;
    let root = tempfile::tempdir().expect("a folder");
    let mut pipeline = Lossless::new(&served, root.path(), COMMIT_SLOTS);
    pipeline.source = "transactions = true\nentries = true\n".to_owned();
    pipeline.proof = Some("mode = \"audit\"\n".to_owned());
    let (mut gathered, deadline) = (Gathered::default(), deadline());
    let (watch, result) = run_until(pipeline.plan(), |watch| {
        gathered.gather(watch);
        gathered.unnamed(&served, &lies).is_empty() || Instant::now() > deadline
    })
    .await;
    result.expect("drained without an error");
    gathered.assert_complete(&served, &lies);
    assert!(watch.by_label("proof_failed_total").len() >= 6, "each kind is counted: {}", all_metrics(&watch));
    served.shutdown().await.expect("the cluster served to its end");
}

/// Lies about what counts, parents and transactions say.
const OF_CONTENT: [Lie; 5] = [
    Lie::TransactionLeftOut,
    Lie::TransactionAdded,
    Lie::TransactionsSwapped,
    Lie::SignatureChanged,
    Lie::WrongParent,
];
/// The one of three that lies.
const LIAR: usize = 1;

/// The files of a run of a group of three endpoints without proofs.
async fn files_of_group(lies: Vec<(usize, u64, Lie)>) -> BTreeMap<String, Vec<u8>> {
    let is_lying = !lies.is_empty();
    let config = Config {
        endpoints: 3,
        faults: Profile::None,
        slot_time: Duration::from_millis(40),
        finalized_after: 8,
        mixed_servers: false,
        lies,
        ..Config::default()
    };
    let served = serve(small_ledger(slots() + TAIL_SLOTS), config, 3).await;
    let root = tempfile::tempdir().expect("a folder");
    let mut pipeline = Lossless::new(&served, root.path(), COMMIT_SLOTS);
    pipeline.grouped = true;
    let last = FIRST + slots() - 1;
    let (watch, result) = run_until(pipeline.plan(), |_| pipeline.is_committed(last)).await;
    result.expect("drained without an error");
    served.shutdown().await.expect("the cluster served to its end");
    audited(root.path());
    let snapshots = watch.endpoints().iter().map(|endpoint| endpoint.health.snapshot());
    let quarantines: Vec<u64> = snapshots.map(|health| health.counts.quarantines_total).collect();
    let expected = if is_lying { vec![0, 1, 0] } else { vec![0; 3] };
    assert_eq!(quarantines, expected, "{}", all_metrics(&watch));
    let liar = &watch.endpoints()[LIAR];
    let wrong: Vec<String> = watch.by_label("proven_wrong_total").into_keys().collect();
    assert_eq!(wrong, if is_lying { vec![liar.name.to_string()] } else { Vec::new() });
    assert_eq!(liar.health.snapshot().state == EndpointState::Quarantined, is_lying);
    files(root.path())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_liar_of_three_is_named_and_left_out_and_the_files_are_those_of_an_honest_run() {
    let honest = files_of_group(Vec::new()).await;
    let about = (FIRST + 1..FIRST + slots()).step_by(2);
    let lies: Vec<_> =
        about.zip(OF_CONTENT.into_iter().cycle()).map(|(slot, lie)| (LIAR, slot, lie)).collect();
    assert_same(&honest, &files_of_group(lies).await, "with RPC as the referee");
}
