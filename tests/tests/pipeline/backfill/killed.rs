//! A backfill whose process is killed with no chance to do anything about it.

use std::process::ExitCode;

use super::*;
use crate::victim::{self, Victim};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process that another test starts and kills"]
async fn victim() {
    let Some((pipeline, slots)) = victim::task() else { return };
    let slots = Some(slots.parse().expect("a span"));
    let what = BackfillSlots { slots, epoch: None, since: None };
    assert_eq!(backfill::run(args(pipeline, what)).await, ExitCode::SUCCESS);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_nothing_that_is_there_is_asked_for_again_and_the_files_are_the_same() {
    let past = Past::of(1_500, Profile::None).await;
    let node = limited::start(Arc::clone(&past.served), Limit::generous()).await;
    let (_root, out) = folder();
    let pipeline = past.pipeline(&out, &node.url, "requests_per_second = 300, burst = 10");
    let slots = format!("{}..{}", past.first, past.first + past.slots);
    let blocks = out.join("blocks/epoch=200");
    let committed = || fs::read_dir(&blocks).map_or(0, Iterator::count) as u64;
    let mut kills = 0;
    while committed() < 4 {
        let there = committed();
        let mut victim = Victim::start("backfill::killed::victim", &pipeline, &slots);
        until("another file", None, || committed() > there || !victim.is_running()).await;
        victim.kill();
        kills += 1;
    }
    let done = past.first + committed() * COMMIT_SLOTS;
    assert!(done < past.first + past.slots && kills >= 1, "{kills} kills");
    node.take_asked();
    assert_eq!(backfill::run(past.args(pipeline, past.slots)).await, ExitCode::SUCCESS);
    let again: Vec<u64> = node.take_asked().into_iter().filter(|&slot| slot < done).collect();
    assert_eq!(again, Vec::<u64>::new(), "these are there");
    audited(&out);
    assert_same(&past.live, &files(&out), "files differ after a kill");
}
