//! Endpoints that lie so that only the chain of hashes can tell: with the proof enforced, and an honest endpoint beside
//! the liar, the files are those of an honest run.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_cluster::Lie;
use sluice_cluster::cluster::Config;
use sluice_cluster::faults::Profile;
use sluice_sinks::verify::{Progress, ProveOptions, VerifyOptions, prove, verify};

use crate::support::{Lossless, assert_same, files, serve, small_ledger};

/// Slots that are compared, unless `SLUICE_LIE_SLOTS` says how many; two of three are lied about, each at a random place.
const SLOTS: u64 = 75;
/// Slots of a file.
const COMMIT_SLOTS: u64 = 25;
/// Slots behind them: the last one has to become final and to have a child.
const TAIL_SLOTS: u64 = 16;
/// The ledger's first slot.
const FIRST: u64 = sluice_cluster::ledger::FIRST_SLOT;

fn slots() -> u64 {
    let wanted = std::env::var("SLUICE_LIE_SLOTS").ok().and_then(|slots| slots.parse::<u64>().ok());
    wanted.unwrap_or(SLOTS).next_multiple_of(COMMIT_SLOTS)
}

/// The files of a run in which endpoints lie, and the slots that failed by then.
async fn files_with(lies: Vec<(usize, u64, Lie)>) -> (BTreeMap<String, Vec<u8>>, u64) {
    let config = Config {
        endpoints: 2,
        faults: Profile::None,
        slot_time: Duration::from_millis(40),
        finalized_after: 8,
        mixed_servers: false,
        lies,
        ..Config::default()
    };
    let served = serve(small_ledger(slots() + TAIL_SLOTS), config, 2).await;
    let root = tempfile::tempdir().expect("a folder");
    let mut pipeline = Lossless::new(&served, root.path(), COMMIT_SLOTS);
    pipeline.source = "transactions = true\nentries = true\n".to_owned();
    pipeline.proof = Some("mode = \"enforce\"\n".to_owned());
    let watch = pipeline.run_until_committed(FIRST + slots() - 1).await;
    served.shutdown().await.expect("the cluster served to its end");
    let mut report = verify(root.path(), VerifyOptions::default()).expect("readable");
    let options = ProveOptions { hashes: true, ..ProveOptions::default() };
    prove(root.path(), options, &Progress::default(), &mut report).expect("readable");
    assert!(report.is_clean(), "{report}");
    let proven = report.proven.expect("it was asked for");
    assert_eq!(proven.counted + proven.proven, report.blocks, "{report}");
    (files(root.path()), watch.sum("proof_failed_total"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_healed_by_the_honest_endpoint() {
    let (honest, failed) = files_with(Vec::new()).await;
    assert_eq!(failed, 0);
    let about = (FIRST..FIRST + slots()).filter(|slot| slot % 3 != 0);
    let lies = about.zip(Lie::ALL.into_iter().cycle()).map(|(slot, lie)| (slot as usize % 2, slot, lie));
    let (healed, failed) = files_with(lies.collect()).await;
    assert!(failed > 0, "no lie came as far as the proof");
    // No RPC has entries: where no replay brought them in time they are a hole of that dataset, and of no other.
    let (entries, content): (BTreeMap<_, _>, BTreeMap<_, _>) =
        honest.into_iter().partition(|(name, _)| name.starts_with("entries/"));
    let (healed_entries, healed_content): (BTreeMap<_, _>, BTreeMap<_, _>) =
        healed.into_iter().partition(|(name, _)| name.starts_with("entries/"));
    assert_same(&content, &healed_content, "with lies about two slots of three");
    for (name, bytes) in &healed_entries {
        assert!(entries.get(name) == Some(bytes), "{name} is not the one of the honest run");
    }
}
