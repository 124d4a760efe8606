use super::*;

#[test]
fn tries_are_spaced_out_more_and_more_and_then_the_slot_is_a_hole_that_is_tried_for_ever() {
    let mut planner = planner();
    gap(&mut planner, 10, 10);
    child_of(&mut planner, 10, 0);
    let mut now = Timestamp(0);
    let mut waits = Vec::new();
    let mut holes = 0;
    for _ in 0..8 {
        assert_eq!(fetches(&mut planner, now), [block_of(10)]);
        let out = fail(&mut planner, now, block_of(10));
        holes +=
            out.events.iter().filter(|event| matches!(event, Event::HoleOpened { slot: 10, .. })).count();
        let due = planner.searches[&10].due;
        waits.push(due.since(now));
        assert!(fetches(&mut planner, Timestamp(due.0 - 1)).is_empty());
        now = due;
    }
    assert_eq!(holes, 1, "a hole is reported once");
    let options = RecoveryOptions::default();
    assert!(waits[0] >= options.min_backoff / 2 && waits[0] <= options.min_backoff * 2);
    assert!(waits[3..].iter().all(|&wait| wait == options.hole_interval));
    let out = bring(&mut planner, block_of(10), 10, whole(10, 9));
    assert_eq!(slots(&out), [10], "a hole that can be had after all is filled");
}

#[test]
fn a_slot_is_a_hole_no_later_for_nodes_that_rest_and_is_tried_when_they_are() {
    for rest in [Duration::from_secs(10), Duration::from_secs(600)] {
        let mut planner = planner();
        gap(&mut planner, 10, 10);
        let (mut now, options) = (Timestamp(0), RecoveryOptions::default());
        for attempt in 0..=options.max_retries {
            assert_eq!(fetches(&mut planner, now), [block_of(10)]);
            let resting =
                Fetched::Failed { reason: "no".to_owned(), retry_after: Some(rest), first_available: None };
            let mut out = Output::default();
            planner.on_fetched(now, block_of(10), resting, &mut out);
            assert_eq!(out.events.len(), usize::from(attempt == options.max_retries), "{:?}", out.events);
            if attempt < options.max_retries {
                now = now.after(options.min_backoff * 2_u32.pow(attempt + 1));
            }
        }
        assert_eq!(planner.searches[&10].due.since(now), rest.min(options.hole_interval));
    }
}
