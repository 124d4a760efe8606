use super::*;
use crate::batch::SessionId;
use crate::block::Part;
use crate::fixtures::*;
use crate::frame::BlockMeta;

fn at(millis: u64) -> Timestamp {
    Timestamp(millis * 1_000)
}

/// A live block of `slot` with this many transactions, read `latency` ms before `now`.
fn block(slot: Slot, now: u64, latency: u64, count: u64) -> Block {
    let mut meta_update = meta(0, 0, slot, 0, (slot - 1, 0), count);
    meta_update.received_at = at(now - latency);
    Block {
        meta: BlockMeta::read(meta_update.frame.body()).expect("valid"),
        meta_update,
        transactions: Part::NotSubscribed,
        entries: Part::NotSubscribed,
        accounts: Part::NotSubscribed,
        way: Way::Live,
        witnesses: Default::default(),
        vouched: None,
    }
}

fn arrivals(slot: Slot, whole: &[(&str, bool)]) -> Vec<Arrival> {
    let arrival = |&(endpoint, is_whole): &(&str, bool)| Arrival {
        slot,
        endpoint: Arc::from(endpoint),
        session: SessionId { endpoint: 0, number: 0 },
        blockhash: None,
        first_seen_at: at(0),
        completed_at: is_whole.then(|| at(0)),
        transactions: 0,
        entries: 0,
        accounts: 0,
        standing: None,
    };
    whole.iter().map(arrival).collect()
}

#[test]
fn too_few_slots_say_nothing() {
    let mut observer = Observer::new(64);
    for slot in 100..115 {
        observer.on_block(at(slot * 400), &block(slot, slot * 400, 10, 5));
        observer.on_outcome(slot, Outcome::Canonical);
        observer.on_arrivals(&arrivals(slot, &[("ams", true)]));
    }
    assert_eq!(observer.conditions(at(100_000)), Conditions::default());
}

#[test]
fn rates_times_and_latency_are_those_of_the_window() {
    let mut observer = Observer::new(20);
    for slot in 100..200 {
        // Every tenth of the last twenty takes long.
        let latency = if slot % 10 == 0 { 900 } else { slot - 99 };
        observer.on_block(at(slot * 400), &block(slot, slot * 400, latency, 200));
    }
    let conditions = observer.conditions(at(199 * 400));
    assert_eq!(conditions.latency, Some(Duration::from_millis(100)), "the 18th of 20");
    assert_eq!(conditions.slot_time, Some(Duration::from_millis(400)));
    assert_eq!(conditions.throughput, Some(500.0), "200 each 400 ms");
}

#[test]
fn silence_makes_the_slot_time_grow() {
    let mut observer = Observer::new(20);
    (100..120).for_each(|slot| observer.on_block(at(slot * 400), &block(slot, slot * 400, 10, 0)));
    let conditions = observer.conditions(at(119 * 400 + 7_600));
    assert_eq!(conditions.slot_time, Some(Duration::from_millis(800)));
}

#[test]
fn what_was_fetched_or_comes_late_is_not_measured() {
    let mut observer = Observer::new(20);
    for slot in 100..120 {
        observer.on_block(at(slot * 400), &block(slot, slot * 400, 10, 0));
    }
    let fetched = Block { way: Way::Rpc, ..block(120, 90_000, 80_000, 0) };
    observer.on_block(at(90_000), &fetched);
    observer.on_block(at(48_000), &block(110, 48_000, 40_000, 0));
    let conditions = observer.conditions(at(119 * 400));
    assert_eq!(conditions.latency, Some(Duration::from_millis(10)));
    assert_eq!(observer.seen.len(), 20);
}

#[test]
fn forks_and_skips_are_shares_of_the_slots_whose_fate_is_known() {
    let mut observer = Observer::new(20);
    for slot in 100..140 {
        let outcome = match slot % 10 {
            3 => Outcome::Forked,
            5 | 7 => Outcome::Skipped,
            _ => Outcome::Canonical,
        };
        observer.on_outcome(slot, outcome);
    }
    let conditions = observer.conditions(at(0));
    assert_eq!((conditions.fork_rate, conditions.skip_rate), (Some(0.1), Some(0.2)));
    assert_eq!(observer.outcomes.len(), 20);
}

#[test]
fn an_endpoint_that_stops_delivering_is_missed_even_if_it_is_never_heard_of_again() {
    let mut observer = Observer::new(64);
    for slot in 100..120 {
        observer.on_arrivals(&arrivals(slot, &[("ams", true), ("us", true), ("asia", false)]));
    }
    assert_eq!(observer.conditions(at(0)).healthy_endpoints, Some(2.0 / 3.0));
    for slot in 120..160 {
        observer.on_arrivals(&arrivals(slot, &[("ams", true)]));
    }
    assert_eq!(observer.conditions(at(0)).healthy_endpoints, Some(1.0 / 3.0));
}

#[test]
fn votes_are_not_counted() {
    let votes = [true, false, true];
    let updates: Vec<Update> = votes
        .iter()
        .enumerate()
        .map(|(index, &vote)| transaction_of(0, 0, 100, 0, index as u64, vote))
        .collect();
    let block = Block { transactions: Part::Whole(Arc::from(updates)), ..block(100, 40_000, 0, 3) };
    assert_eq!(transactions(&block), 1);
}
