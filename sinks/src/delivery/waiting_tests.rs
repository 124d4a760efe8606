use std::collections::BTreeMap;

use proptest::prelude::*;
use sluice_stages::alert::Severity;

use super::*;
use crate::delivery::testing::{notice, over, resolved};

const SECOND: u64 = 1_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * SECOND)
}

fn waiting(capacity: usize, most: u32) -> Waiting {
    Waiting::new("ops", capacity, Some(most), Kept::default())
}

/// What is told now, until nothing more is.
fn told(waiting: &mut Waiting, now: Timestamp) -> Vec<Notice> {
    let mut told = Vec::new();
    while let Next::Tell(notice) = waiting.next(now) {
        told.push(notice);
        waiting.done();
    }
    told
}

fn summary_value(notice: &Notice) -> Option<f64> {
    let alert = &notice.alerts[0];
    (&*alert.rule == "notices_held_back").then_some(alert.value)
}

#[test]
fn the_end_of_what_was_told_is_told_when_there_is_room_and_opens_nothing() {
    let mut waiting = waiting(8, 1);
    waiting.push(at(0), notice("crit", Severity::Critical));
    assert_eq!(told(&mut waiting, at(0)), [notice("crit", Severity::Critical)]);
    waiting.push(at(30), over("crit", Severity::Critical));
    assert_eq!(waiting.next(at(30)), Next::At(at(60)));
    assert_eq!(told(&mut waiting, at(60)), [over("crit", Severity::Critical)]);
    assert_eq!(waiting.next(at(300)), Next::Idle, "nothing was missed, so there is no summary");
}

#[test]
fn the_newest_of_each_group_stands_for_those_before_it() {
    let mut waiting = waiting(8, 1);
    waiting.push(at(0), notice("first", Severity::Info));
    assert_eq!(told(&mut waiting, at(0)).len(), 1);
    waiting.push(at(1), notice("crit", Severity::Critical));
    let mut both = over("crit", Severity::Critical);
    both.alerts.push(resolved("other", Severity::Error));
    waiting.push(at(2), both);
    waiting.push(at(3), notice("crit", Severity::Critical));
    assert_eq!(waiting.next(at(3)), Next::At(at(60)));
    let Next::Tell(newest) = waiting.next(at(60)) else { panic!("there is room") };
    let rules: Vec<_> = newest.alerts.iter().map(|alert| (&*alert.rule, alert.state)).collect();
    assert_eq!(rules, [("crit", AlertState::Firing), ("other", AlertState::Resolved)]);
    waiting.done();
    let summary = told(&mut waiting, at(120));
    assert_eq!((summary[0].is_firing(), summary_value(&summary[0])), (false, Some(2.0)));
    assert_eq!((waiting.take_held_back(), waiting.next(at(300))), (2, Next::Idle));
}

#[test]
fn what_has_no_place_is_summed_up_and_the_summary_ends() {
    let mut waiting = waiting(2, 1);
    for (rule, severity) in [("a", Severity::Info), ("b", Severity::Error), ("c", Severity::Critical)] {
        waiting.push(at(0), notice(rule, severity));
    }
    waiting.push(at(0), over("d", Severity::Info));
    let rules: Vec<_> = (0..5)
        .flat_map(|minute| told(&mut waiting, at(60 * minute)))
        .map(|told| (told.alerts[0].rule.to_string(), told.severity(), told.is_firing()))
        .collect();
    let told = |rule: &str, severity, firing| (rule.to_owned(), severity, firing);
    let expected = [
        told("notices_held_back", Severity::Error, true),
        told("c", Severity::Critical, true),
        told("d", Severity::Info, false),
        told("notices_held_back", Severity::Error, false),
    ];
    assert_eq!(rules, expected, "the mildest went; what ends something did not");
}

#[test]
fn at_the_end_resolutions_are_told_and_the_rest_is_summed_up() {
    let mut waiting = waiting(8, 1);
    for rule in ["a", "b", "c"] {
        waiting.push(at(0), notice(rule, Severity::Error));
    }
    assert_eq!(told(&mut waiting, at(0)).len(), 1);
    waiting.push(at(1), over("a", Severity::Error));
    let mut last = Vec::new();
    while let Next::Tell(notice) = waiting.last(at(2)) {
        waiting.done();
        last.push(notice);
        assert!(last.len() < 9, "it ends");
    }
    assert_eq!(last[0], over("a", Severity::Error));
    assert_eq!((summary_value(&last[1]), last[1].is_firing()), (Some(2.0), true));
}

#[test]
fn what_is_on_its_way_comes_first_after_a_restart() {
    let mut waiting = waiting(8, 1);
    waiting.push(at(0), notice("a", Severity::Error));
    waiting.push(at(0), notice("b", Severity::Error));
    assert_eq!(waiting.next(at(0)), Next::Tell(notice("a", Severity::Error)));
    let (_, kept) = waiting.kept();
    assert_eq!(kept.len(), 2);
    let mut next = Waiting::new("ops", 8, None, kept.clone());
    assert_eq!(told(&mut next, at(9)), [notice("a", Severity::Error), notice("b", Severity::Error)]);
    assert_eq!(next.kept().1, &Kept::default());
}

proptest! {
    #[test]
    fn no_minute_tells_more_than_the_limit_nothing_is_forgotten_and_the_last_word_is_told(
        pushes in proptest::collection::vec((0..30 * SECOND, 0..4usize, any::<bool>()), 1..200),
        most in 1..10u32,
    ) {
        let mut waiting = waiting(4, most);
        let (mut now, mut times, mut all, mut last) = (0, Vec::new(), Vec::new(), BTreeMap::new());
        for (wait, group, fires) in &pushes {
            now += wait;
            let rule = format!("rule-{group}");
            let notice =
                if *fires { notice(&rule, Severity::Critical) } else { over(&rule, Severity::Critical) };
            last.insert(rule, notice.is_firing());
            waiting.push(Timestamp(now), notice);
            let some = told(&mut waiting, Timestamp(now));
            times.extend(some.iter().map(|_| now));
            all.extend(some);
        }
        for _ in 0..20 {
            now += 60 * SECOND;
            let some = told(&mut waiting, Timestamp(now));
            times.extend(some.iter().map(|_| now));
            all.extend(some);
        }
        let counted: f64 = all.iter().map(|notice| summary_value(notice).unwrap_or(1.0)).sum();
        prop_assert_eq!(counted, pushes.len() as f64);
        for (rule, fires) in last {
            let word = all.iter().rfind(|notice| *notice.alerts[0].rule == *rule);
            prop_assert_eq!(word.map(Notice::is_firing), Some(fires));
        }
        for (position, &first) in times.iter().enumerate() {
            let within = times[position..].iter().take_while(|&&at| at < first + 60 * SECOND).count();
            prop_assert!(within <= most as usize);
        }
    }
}
