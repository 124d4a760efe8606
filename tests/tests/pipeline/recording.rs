//! The recording of a real validator: what its stream gave and what its RPC gave are the same files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sluice_cluster::cluster::Config;
use sluice_cluster::faults::Profile;
use sluice_cluster::ledger::Ledger;
use sluice_cluster::server::Running as Served;

use crate::rows;
use crate::support::{Lossless, assert_same, audited, files, serve, until};

/// The slot that the recording joined in its middle.
const JOINED: u64 = 77;
/// The last slot that is compared: the recording breaks off in slot 213, and every slot needs a final child.
const LAST: u64 = 208;
/// What RPC can give, too.
const SHARED: [&str; 6] =
    ["blocks", "transactions", "instructions", "token_balances", "rewards", "skipped_slots"];

async fn served(awaited: usize) -> Served {
    let config = Config {
        endpoints: 1,
        faults: Profile::None,
        slot_time: Duration::from_millis(20),
        confirmed_after: 1,
        finalized_after: 3,
        mixed_servers: false,
        ..Config::default()
    };
    serve(Ledger::recorded_validator().expect("the crate's own recording"), config, awaited).await
}

fn pipeline(served: &Served, root: &Path) -> Lossless {
    let mut pipeline = Lossless::new(served, root, 1);
    pipeline.source = "transactions = true\naccounts = true\nentries = true\n".to_owned();
    pipeline
}

/// What only a stream can give.
const EXTRAS: [&str; 2] = ["entries", "accounts"];

/// Files of the datasets that RPC gives, too, up to [`LAST`].
fn shared(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(root);
    files.retain(|name, _| is_of(name, &SHARED) && first_slot(name) <= LAST);
    files
}

fn is_of(name: &str, datasets: &[&str]) -> bool {
    name.split_once('/').is_some_and(|(dataset, _)| datasets.contains(&dataset))
}

fn first_slot(name: &str) -> u64 {
    let file = name.rsplit('/').next().expect("a name");
    file.split('-').next().and_then(|first| first.parse().ok()).expect("a range")
}

#[tokio::test(flavor = "multi_thread")]
async fn rpc_alone_gives_byte_for_byte_what_the_stream_gave() {
    let (live_root, rpc_root) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));

    let cluster = served(1).await;
    let live = pipeline(&cluster, live_root.path());
    let watch = live.run_until_committed(LAST).await;
    let by_rpc = watch.by_label("recovered_slots_total").get("rpc").copied().unwrap_or_default();
    assert!((1..20).contains(&by_rpc), "{by_rpc} slots by RPC, of which {JOINED} has to be one");
    cluster.shutdown().await.expect("the cluster served to its end");

    let cluster = served(0).await;
    let end = cluster.cluster().end().expect("the recording has an end");
    until("the recording to be played", None, || cluster.now() > end).await;
    let mut rpc = pipeline(&cluster, rpc_root.path());
    rpc.recovery = "replay = false\n".to_owned();
    let watch = rpc.run_until_committed(LAST).await;
    let by_rpc = watch.by_label("recovered_slots_total").get("rpc").copied().unwrap_or_default();
    assert!(by_rpc > LAST - JOINED, "{by_rpc} slots by RPC");
    cluster.shutdown().await.expect("the cluster served to its end");

    let (live_files, rpc_files) = (shared(live_root.path()), shared(rpc_root.path()));
    assert_eq!(live_files.len() as u64, (LAST - JOINED + 1) * SHARED.len() as u64);
    assert_same(&live_files, &rpc_files, "the stream and RPC differ");
    audited(live_root.path());
    audited(rpc_root.path());
    assert_extras(&live);
    let is_extra = |name: &String| is_of(name, &EXTRAS) && first_slot(name) <= LAST;
    let extras: Vec<_> = files(rpc_root.path()).into_keys().filter(is_extra).collect();
    assert_eq!(extras, Vec::<String>::new(), "RPC has neither entries nor accounts");
}

/// Entries and accounts of whole slots are there, and none of the slot that was joined in its middle.
fn assert_extras(live: &Lossless) {
    for dataset in EXTRAS {
        assert!(!live.file(dataset, JOINED).exists(), "{dataset} of a slot that nobody has whole");
        let whole = (JOINED + 1..=LAST).filter(|&slot| live.file(dataset, slot).exists()).count() as u64;
        assert!(whole > (LAST - JOINED) * 9 / 10, "{dataset} of {whole} slots");
    }
    for slot in (JOINED + 1..=LAST).filter(|&slot| live.file("entries", slot).exists()) {
        let (blocks, entries) =
            (rows::read(&live.file("blocks", slot)), rows::read(&live.file("entries", slot)));
        let Some(block) = blocks.first() else { continue };
        let last = entries.last().expect("a block has entries");
        assert_eq!(last["hash"], block["blockhash"], "the last entry of slot {slot} is its blockhash");
    }
}
