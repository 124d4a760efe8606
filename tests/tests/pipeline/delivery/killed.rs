//! A pipeline that is killed again and again while it delivers.

use super::*;
use crate::support::until;
use crate::victim::{self, Victim};

/// Slots of the ledger: enough for some deaths.
const LONG: u64 = 400;
const KILLS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process that another test starts and kills"]
async fn victim() {
    let Some((pipeline, _)) = victim::task() else { return };
    let text = fs::read_to_string(pipeline).expect("it was written");
    let (_, result) = run_until(parse(&text), |_| false).await;
    result.expect("killed before its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_keeps_ids_gets_every_record_once_however_often_the_pipeline_is_killed() {
    let served = cluster(LONG).await;
    let root = tempfile::tempdir().expect("a folder");
    let pipeline = Lossless::new(&served, &root.path().join("out"), COMMIT_SLOTS);
    let first = pipeline.start_slot;
    let receiver = Receiver::slow(&[], Duration::from_millis(30)).await;
    let file = root.path().join("pipeline.toml");
    let text = |items: usize, wait: u64| {
        let more =
            format!("batch_items = {items}\nbatch_wait = \"{wait}ms\"\ndrain_timeout = \"30s\"\n{HASTY}");
        pipeline.text() + &webhook("hook", &receiver.url, &root.path().join("state"), &more)
    };
    for kill in 0..KILLS {
        // Each run would cut messages elsewhere.
        fs::write(&file, text(11 + 6 * kill, 15 + 10 * kill as u64)).expect("writable");
        let before = receiver.received().len();
        let mut victim = Victim::start("delivery::killed::victim", &file, "");
        until("some deliveries", None, || receiver.received().len() > before + 5 || !victim.is_running())
            .await;
        victim.kill();
    }
    let last = first + LONG - 1;
    let done = || {
        receiver.taken().iter().any(|message| places(&message.records()).iter().any(|one| one.0 >= last - 3))
    };
    let (_, result) = run_until(parse(&text(9, 20)), |_| pipeline.is_committed(last) && done()).await;
    result.expect("drained without an error");

    let within = |place: &Place| place.0 <= last;
    let (mut ids, mut got) = (BTreeMap::new(), BTreeSet::new());
    for message in receiver.taken() {
        if let Some(known) = ids.insert(message.id.clone(), message.body.clone()) {
            assert_eq!(known, message.body, "the same id is the same message");
            continue;
        }
        for place in places(&message.records()).into_iter().filter(within) {
            assert!(got.insert(place), "{place:?} came under two ids, the second of which is {}", message.id);
        }
    }
    assert_eq!(got, expected(served.cluster(), LONG, |_| true));
}
