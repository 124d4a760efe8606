//! Schedules drawn at random: any endpoint is killed, frozen, slowed down or lies, in any order, as long as another one has
//! been well for a while.
//!
//! `SLUICE_SCHEDULES` says how many are run, `SLUICE_SEED` which is the first.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};
use rand::{Rng, SeedableRng};

use sluice_cluster::Lie;

use super::{Act, ENDPOINTS, Ended, Link, PROMOTION, SLOTS, Setting, run};
use crate::support::assert_same;
use std::collections::BTreeMap;
use std::time::Duration;

/// Schedules that are run unless somebody asks for more: one for each mode.
const SCHEDULES: u64 = 3;
/// Slots for which an endpoint has to be well before it can be the only one: what reconnecting takes at most.
const SETTLED_SLOTS: u64 = 45;
/// Slots at the end in which nothing happens any more.
const QUIET_SLOTS: u64 = 12;
/// The modes in turn.
const MODES: [&str; 3] = ["failover", "hedged", "race"];

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Acts that leave one endpoint well at any time.
fn schedule(random: &mut StdRng) -> Vec<Act> {
    let mut acts = Vec::new();
    // Since when each has been well; not at all, if it is not.
    let mut well = [Some(0); ENDPOINTS];
    let mut at = 15;
    while at < SLOTS - QUIET_SLOTS {
        let settled = |place: usize| {
            (0..ENDPOINTS).any(|other| {
                other != place && well[other].is_some_and(|since| since == 0 || since + SETTLED_SLOTS <= at)
            })
        };
        let harmable = (0..ENDPOINTS).filter(|&place| well[place].is_some() && settled(place));
        let ill = (0..ENDPOINTS).filter(|&place| well[place].is_none());
        let (harmed, healed) = (harmable.choose(random), ill.choose(random));
        match (harmed, healed) {
            (Some(place), None) => harm(place, at, &mut well, &mut acts, random),
            (Some(place), Some(_)) if random.random_bool(0.5) => {
                harm(place, at, &mut well, &mut acts, random);
            }
            (_, Some(place)) => {
                well[place] = Some(at);
                acts.push((at, place, Link::Fine));
            }
            (None, None) => {}
        }
        at += random.random_range(3..25);
    }
    acts
}

fn harm(
    place: usize,
    at: u64,
    well: &mut [Option<u64>; ENDPOINTS],
    acts: &mut Vec<Act>,
    random: &mut StdRng,
) {
    well[place] = None;
    let slow = Link::Slow(Duration::from_millis(random.random_range(200..1_500)));
    let link = *[Link::Dead, Link::Frozen, slow].choose(random).expect("there are three");
    acts.push((at, place, link));
}

/// Lies of every endpoint, about slots of its own.
fn lies(random: &mut StdRng) -> Vec<(usize, u64, Lie)> {
    let first = sluice_cluster::ledger::FIRST_SLOT;
    let about: Vec<u64> = (first + 5..first + SLOTS).filter(|_| random.random_bool(0.2)).collect();
    let lie = |slot| (random.random_range(0..ENDPOINTS), slot, *Lie::ALL.choose(random).expect("some"));
    about.into_iter().map(lie).collect()
}

fn assert_prompt(ended: &Ended, what: &str) {
    println!("{what}: promotions {:?}", ended.promotions);
    let slowest = ended.promotions.iter().max();
    assert!(slowest.is_none_or(|&slowest| slowest <= PROMOTION), "{what}: {:?}", ended.promotions);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_schedule_of_failures_changes_any_file() {
    let first = variable("SLUICE_SEED").unwrap_or(1);
    let quiet = run(&Setting::everything("race"), &[]).await;
    for seed in first..first + variable("SLUICE_SCHEDULES").unwrap_or(SCHEDULES) {
        let acts = schedule(&mut StdRng::seed_from_u64(seed));
        let what = format!("SLUICE_SEED={seed}: {acts:?}");
        println!("{what}");
        let ended = run(&Setting::everything(MODES[seed as usize % MODES.len()]), &acts).await;
        assert_prompt(&ended, &what);
        assert_same(&quiet.files, &ended.files, &what);
    }
}

/// Proven by their entries, since the only one that is well may lie. No RPC has entries: where no replay brought those of a
/// slot that was lied about in time they are a hole of that dataset, and of no other.
#[tokio::test(flavor = "multi_thread")]
async fn no_schedule_of_failures_and_lies_changes_what_is_written() {
    let first = variable("SLUICE_SEED").unwrap_or(1);
    let subscribed = "transactions = true\nentries = true\n";
    let setting = Setting { subscribed, proof: true, ..Setting::everything("race") };
    let quiet = run(&setting, &[]).await;
    for seed in first..first + variable("SLUICE_SCHEDULES").unwrap_or(1) {
        let mut random = StdRng::seed_from_u64(seed ^ 0x11e);
        let (acts, lies) = (schedule(&mut random), lies(&mut random));
        let what = format!("SLUICE_SEED={seed}: {acts:?}");
        println!("{what}, {} lies", lies.len());
        let mode = MODES[seed as usize % MODES.len()];
        let ended = run(&Setting { mode, lies, ..setting.clone() }, &acts).await;
        assert_prompt(&ended, &what);
        let content = |files: &BTreeMap<String, Vec<u8>>| {
            let mut files = files.clone();
            files.retain(|name, _| !name.starts_with("entries/"));
            files
        };
        assert_same(&content(&quiet.files), &content(&ended.files), &what);
        for (name, bytes) in ended.files.iter().filter(|(name, _)| name.starts_with("entries/")) {
            assert!(quiet.files.get(name) == Some(bytes), "{what}: {name}");
        }
    }
}
