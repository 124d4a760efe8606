//! Whatever goes wrong, and however many endpoints there are, the same slots give the same files.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_cluster::cluster::Config;
use sluice_cluster::faults::Profile;

use crate::support::{Lossless, assert_same, audited, files, serve, small_ledger};

/// Slots that are compared.
const SLOTS: u64 = 75;
/// Slots of a file.
const COMMIT_SLOTS: u64 = 25;
/// Slots behind them: the last one has to become final and to have a child.
const TAIL_SLOTS: u64 = 16;

struct Weather {
    faults: Profile,
    endpoints: usize,
    seed: u64,
}

/// The files that a pipeline makes of the one ledger.
async fn files_in(weather: Weather) -> BTreeMap<String, Vec<u8>> {
    let Weather { faults, endpoints, seed } = weather;
    let config = Config {
        endpoints,
        seed,
        faults,
        slot_time: Duration::from_millis(20),
        finalized_after: 8,
        ..Config::default()
    };
    let served = serve(small_ledger(SLOTS + TAIL_SLOTS), config, 1).await;
    let root = tempfile::tempdir().expect("a folder");
    let pipeline = Lossless::new(&served, root.path(), COMMIT_SLOTS);
    let watch = pipeline.run_until_committed(pipeline.start_slot + SLOTS - 1).await;
    assert_eq!(watch.sum("holes"), 0);
    served.shutdown().await.expect("the cluster served to its end");
    let report = audited(root.path());
    assert_eq!(report.slots, SLOTS);
    files(root.path())
}

async fn assert_equal_in_all(weathers: impl IntoIterator<Item = Weather>) {
    let calm = files_in(Weather { faults: Profile::None, endpoints: 1, seed: 0 }).await;
    for weather in weathers {
        let Weather { faults, endpoints, seed } = weather;
        let files = files_in(weather).await;
        assert_same(&calm, &files, &format!("faults {faults}, {endpoints} endpoints, seed {seed}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_the_same_from_one_endpoint_and_from_three() {
    assert_equal_in_all([
        Weather { faults: Profile::None, endpoints: 3, seed: 1 },
        Weather { faults: Profile::Default, endpoints: 1, seed: 2 },
        Weather { faults: Profile::Default, endpoints: 3, seed: 3 },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_the_same_when_everything_goes_wrong() {
    assert_equal_in_all([
        Weather { faults: Profile::Harsh, endpoints: 1, seed: 4 },
        Weather { faults: Profile::Harsh, endpoints: 3, seed: 5 },
        Weather { faults: Profile::Harsh, endpoints: 3, seed: 6 },
    ])
    .await;
}
