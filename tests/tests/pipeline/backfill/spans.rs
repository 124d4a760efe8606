//! The ways to say which slots: `--since` and `--epoch`.

use sluice_cluster::cluster::Level;

use super::*;

/// How far the slot of a time may be off: "now" is the time of a block up to 64 slots behind the tip, and the search ends
/// within two seconds.
const NEAR_SLOTS: u64 = 64 + 6;

fn args(pipeline: PathBuf, epoch: Option<u64>, since: Option<Duration>) -> BackfillArgs {
    super::args(pipeline, BackfillSlots { slots: None, epoch, since })
}

/// The first slots of the files of blocks.
fn firsts(files: &BTreeMap<String, Vec<u8>>) -> Vec<u64> {
    let first = |name: &String| name.strip_prefix("blocks/epoch=200/")?.split('-').next()?.parse().ok();
    files.keys().filter_map(first).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn since_fills_the_files_of_that_time_up_to_the_last_one_that_is_final() {
    let past = Past::of(1_500, Profile::None).await;
    let (_root, out) = folder();
    let pipeline = past.pipeline(&out, past.served.rpc_url(), "requests_per_second = 2000, burst = 100");
    let cluster = past.served.cluster();
    let tip = cluster.tip(past.served.now(), Level::Finalized).expect("it was played");
    let time = |slot: u64| {
        let block = (0..64).find_map(|more| match cluster.truth().slot(slot - more) {
            Some(TruthSlot::Block(version)) => version.block.block_time,
            _ => None,
        });
        block.expect("blocks have times")
    };
    let wanted = tip - 800;
    let ago = Duration::from_secs((time(tip) - time(wanted)).unsigned_abs());
    assert_eq!(backfill::run(args(pipeline.clone(), None, Some(ago))).await, ExitCode::SUCCESS);
    let filled = files(&out);
    let firsts = firsts(&filled);
    let begun = firsts[0];
    assert!(
        (begun.saturating_sub(NEAR_SLOTS)..begun + COMMIT_SLOTS + NEAR_SLOTS).contains(&wanted),
        "{wanted}: {firsts:?}"
    );
    let expected: Vec<u64> = (begun..).step_by(COMMIT_SLOTS as usize).take(firsts.len()).collect();
    assert_eq!(firsts, expected, "without a gap");
    let end = begun + firsts.len() as u64 * COMMIT_SLOTS;
    assert!(end <= tip && end + COMMIT_SLOTS + NEAR_SLOTS > tip, "{firsts:?} up to {tip}");
    let compared: Vec<&String> = filled.keys().filter(|name| past.live.contains_key(*name)).collect();
    assert!(compared.len() > 6, "{compared:?}");
    let differing: Vec<&&String> = compared
        .iter()
        .filter(|name| filled[**name] != past.live[**name] && name.ends_with("parquet"))
        .collect();
    assert!(differing.is_empty(), "{differing:?}");
    let too_short = args(pipeline, None, Some(Duration::from_secs(1)));
    assert_eq!(backfill::run(too_short).await, ExitCode::FAILURE, "no file has ended since then");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_is_under_way_is_filled_as_far_as_it_is_final_and_one_to_come_not_at_all() {
    let past = Past::of(1_000, Profile::None).await;
    let node = limited::start(Arc::clone(&past.served), Limit::generous()).await;
    let (_root, out) = folder();
    let pipeline = past.pipeline(&out, &node.url, "requests_per_second = 2000, burst = 100");
    let code = backfill::run(args(pipeline.clone(), Some(200), None)).await;
    assert_eq!(code, ExitCode::from(EXIT_HOLES), "most of it is to come");
    assert_same(&past.live, &files(&out), "the files of what is final");
    node.take_asked();
    let code = backfill::run(args(pipeline, Some(201), None)).await;
    assert_eq!(code, ExitCode::from(EXIT_HOLES));
    assert_eq!(node.take_asked(), Vec::<u64>::new(), "there is no block of it yet");
    assert_same(&past.live, &files(&out), "nothing was added");
}
