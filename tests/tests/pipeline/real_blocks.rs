//! Real mainnet blocks, played by the cluster and taken in by the pipeline, come out with every field of every dataset
//! as an independent decoder reads it from the data file.

use std::time::Duration;

use serde_json::Value;
use sluice_cluster::cluster::Config;
use sluice_cluster::faults::Profile;
use sluice_cluster::ledger::{Ledger, load_bytes};

use crate::oracle::{self, Rows};
use crate::rows;
use crate::support::{Lossless, audited, serve, until};

/// How the blocks come into the pipeline.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// From a stream that was open before the block was made.
    Live,
    /// By RPC, as the stream opens when all is over.
    Rpc,
}

struct RealBlock {
    slot: u64,
    file: &'static [u8],
    is_json: bool,
    transactions: usize,
    votes: usize,
    failed: usize,
}

const NEW: RealBlock = RealBlock {
    slot: 332_254_855,
    file: include_bytes!("../../cluster/data/mainnet-332254855.confirmed_block.pb.zst"),
    is_json: false,
    transactions: 1_445,
    votes: 1_085,
    failed: 262,
};
const ANSWERED: RealBlock = RealBlock {
    slot: 254_170_887,
    file: include_bytes!("../../cluster/data/mainnet-254170887.get_block.json.zst"),
    is_json: true,
    transactions: 602,
    votes: 158,
    failed: 305,
};
const OLD: RealBlock = RealBlock {
    slot: 43_200_000,
    file: include_bytes!("../../cluster/data/mainnet-43200000.confirmed_block.pb.zst"),
    is_json: false,
    transactions: 208,
    votes: 192,
    failed: 3,
};

impl RealBlock {
    fn expected(&self) -> Rows {
        let bytes = zstd::decode_all(self.file).expect("zstd");
        match self.is_json {
            true => oracle::from_json(&bytes, self.slot),
            false => oracle::from_protobuf(&bytes, self.slot),
        }
    }

    fn ledger(&self) -> Ledger {
        let loaded = load_bytes("block", self.file, Some(self.slot)).expect("a ledger file");
        Ledger::listed(vec![loaded]).expect("a ledger")
    }
}

async fn assert_comes_out_whole(block: &RealBlock, way: Way) {
    let config = Config {
        endpoints: 2,
        faults: Profile::None,
        slot_time: Duration::from_millis(100),
        confirmed_after: 1,
        finalized_after: 2,
        ..Config::default()
    };
    let served = serve(block.ledger(), config, if way == Way::Live { 2 } else { 0 }).await;
    if way == Way::Rpc {
        let end = served.cluster().end().expect("the ledger has an end");
        until("the ledger to be played", None, || served.now() > end).await;
    }
    let root = tempfile::tempdir().expect("a folder");
    let mut pipeline = Lossless::new(&served, root.path(), 1);
    if way == Way::Rpc {
        pipeline.recovery = "replay = false\n".to_owned();
    }
    let watch = pipeline.run_until_committed(block.slot).await;
    let recovered = watch.by_label("recovered_slots_total").get("rpc").copied().unwrap_or_default();
    assert_eq!(recovered > 0, way == Way::Rpc, "{recovered} slots by RPC");
    served.shutdown().await.expect("the cluster served to its end");
    audited(root.path());
    assert_rows(&pipeline, block);
}

fn assert_rows(pipeline: &Lossless, block: &RealBlock) {
    let expected = block.expected();
    let is = |row: &&Value, column: &str| row[column] == true;
    assert_eq!(expected.transactions.len(), block.transactions);
    assert_eq!(expected.transactions.iter().filter(|row| is(row, "is_vote")).count(), block.votes);
    assert_eq!(expected.transactions.iter().filter(|row| !row["err"].is_null()).count(), block.failed);
    for (dataset, expected) in [
        ("blocks", &expected.blocks),
        ("transactions", &expected.transactions),
        ("instructions", &expected.instructions),
        ("token_balances", &expected.token_balances),
        ("rewards", &expected.rewards),
        ("skipped_slots", &Vec::new()),
    ] {
        let found = rows::read(&pipeline.file(dataset, block.slot));
        assert_eq!(found.len(), expected.len(), "{dataset}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found, expected, "{dataset}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_with_lookups_and_inner_instructions_comes_out_whole_from_the_stream() {
    assert_comes_out_whole(&NEW, Way::Live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_with_lookups_and_inner_instructions_comes_out_whole_from_rpc() {
    assert_comes_out_whole(&NEW, Way::Rpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_an_rpc_answer_comes_out_whole_from_the_stream() {
    assert_comes_out_whole(&ANSWERED, Way::Live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_an_rpc_answer_comes_out_whole_from_rpc() {
    assert_comes_out_whole(&ANSWERED, Way::Rpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_older_than_compute_units_comes_out_whole_from_both() {
    assert_comes_out_whole(&OLD, Way::Live).await;
    assert_comes_out_whole(&OLD, Way::Rpc).await;
}
