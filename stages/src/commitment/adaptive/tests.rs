use proptest::prelude::*;

use super::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Timestamp {
    Timestamp(millis * 1_000)
}

/// Mainnet on a good day.
fn calm() -> Conditions {
    Conditions {
        latency: Some(millis(120)),
        throughput: Some(700.0),
        fork_rate: Some(0.01),
        skip_rate: Some(0.03),
        slot_time: Some(millis(400)),
        healthy_endpoints: Some(1.0),
    }
}

#[test]
fn each_measure_asks_for_what_the_table_says() {
    let limits = Thresholds::default();
    type Set = fn(f64) -> Conditions;
    let strained: [(Measure, Level, Set); 6] = [
        (Measure::Latency, Level::Finalized, |strain| Conditions {
            latency: Some(millis(500).mul_f64(strain)),
            ..calm()
        }),
        (Measure::Throughput, Level::Confirmed, |strain| Conditions {
            throughput: Some(1_000.0 * strain),
            ..calm()
        }),
        (Measure::ForkRate, Level::Finalized, |strain| Conditions {
            fork_rate: Some(0.05 * strain),
            ..calm()
        }),
        (Measure::SkipRate, Level::Finalized, |strain| Conditions {
            skip_rate: Some(0.15 * strain),
            ..calm()
        }),
        (Measure::SlotTime, Level::Finalized, |strain| Conditions {
            slot_time: Some(millis(600).mul_f64(strain)),
            ..calm()
        }),
        (Measure::Endpoints, Level::Finalized, |strain| Conditions {
            healthy_endpoints: Some(0.5 / strain),
            ..calm()
        }),
    ];
    for (measure, most, conditions) in strained {
        let levels = [0.99, 1.01, 1.99, 2.01, f64::INFINITY].map(|strain| {
            let strain = if measure == Measure::Endpoints { strain } else { strain.min(1e6) };
            optimal_commitment(&conditions(strain), &limits)
        });
        let expected = [Level::Processed, Level::Confirmed, Level::Confirmed, most, most];
        assert_eq!(levels.map(|verdict| verdict.level), expected, "{measure:?}");
        assert_eq!(levels[1].measure.map(|(measure, _)| measure), Some(measure));
    }
}

#[test]
fn what_is_not_known_asks_for_nothing() {
    let verdict = optimal_commitment(&Conditions::default(), &Thresholds::default());
    assert_eq!(verdict, Verdict { level: Level::Processed, measure: None });
}

#[test]
fn the_measure_that_asks_for_most_decides_however_strained_others_are() {
    let conditions = Conditions { throughput: Some(50_000.0), fork_rate: Some(0.11), ..calm() };
    let verdict = optimal_commitment(&conditions, &Thresholds::default());
    assert_eq!(verdict.level, Level::Finalized);
    assert_eq!(verdict.measure.map(|(measure, _)| measure), Some(Measure::ForkRate));
}

/// What happens over a trace that is looked at each 200 ms: the time in ms, the new level and the reason.
fn switches(floor: Level, millis: u64, conditions: impl Fn(u64) -> Conditions) -> Vec<(u64, Level, String)> {
    let mut switcher = Switcher::new(floor);
    let looks = (0..millis).step_by(200);
    looks
        .filter_map(|now| {
            let switch = switcher.step(at(now), &conditions(now), &Thresholds::default())?;
            assert!(switch.to >= floor && switch.to == switcher.level());
            Some((now, switch.to, switch.reason.to_string()))
        })
        .collect()
}

/// Numbers that look random and are the same in every run.
fn noise(seed: u64) -> f64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[test]
fn two_hours_of_calm_with_its_noise_switch_nothing() {
    let trace = |now: u64| Conditions {
        latency: Some(millis(80 + (noise(now) * 300.0) as u64)),
        throughput: Some(500.0 + 450.0 * noise(now + 1)),
        fork_rate: Some(0.03 * noise(now + 2)),
        skip_rate: Some(0.02 + 0.08 * noise(now + 3)),
        slot_time: Some(millis(380 + (noise(now + 4) * 60.0) as u64)),
        healthy_endpoints: Some(if noise(now + 5) < 0.1 { 2.0 / 3.0 } else { 1.0 }),
    };
    assert_eq!(switches(Level::Processed, 7_200_000, trace), []);
}

#[test]
fn an_outage_switches_as_the_rule_says_and_at_no_other_time() {
    // From 10 s on latency is over its limit, from 20 s on forks are many; all is well again from 60 s on.
    let trace = |now: u64| match now {
        10_000..20_000 => Conditions { latency: Some(millis(700)), ..calm() },
        20_000..60_000 => Conditions { latency: Some(millis(700)), fork_rate: Some(0.125), ..calm() },
        _ => calm(),
    };
    let expected = [
        (11_000, Level::Confirmed, "latency at 1.40 times its limit".to_owned()),
        (21_000, Level::Finalized, "fork_rate at 2.50 times its limit".to_owned()),
        (120_000, Level::Confirmed, "calm for 60 s".to_owned()),
        (180_200, Level::Processed, "calm for 60 s".to_owned()),
    ];
    assert_eq!(switches(Level::Processed, 3_600_000, trace), expected);
}

#[test]
fn a_bad_moment_shorter_than_the_delay_switches_nothing() {
    let trace = |now: u64| match now % 10_000 {
        0..800 => Conditions { latency: Some(millis(5_000)), ..calm() },
        _ => calm(),
    };
    assert_eq!(switches(Level::Processed, 600_000, trace), []);
}

#[test]
fn around_a_limit_the_level_rises_once_and_stays() {
    for (low, high, period) in [(450, 550, 4_000), (410, 600, 60_000), (100, 900, 20_000)] {
        let trace = |now: u64| {
            let latency = if now % period < period / 2 { high } else { low };
            Conditions { latency: Some(millis(latency)), ..calm() }
        };
        let switches = switches(Level::Processed, 3_600_000, trace);
        assert_eq!(switches.len(), 1, "{low} {high}: {switches:?}");
        assert_eq!(switches[0].1, Level::Confirmed);
    }
}

#[test]
fn relapses_make_the_way_back_longer() {
    // Bad for five seconds, then well for ninety: long enough to go back, but only if nothing is learnt.
    let trace = |now: u64| {
        let fork_rate = if now % 95_000 < 5_000 { 0.2 } else { 0.0 };
        Conditions { fork_rate: Some(fork_rate), ..calm() }
    };
    let switches = switches(Level::Confirmed, 3_600_000, trace);
    let times: Vec<_> = switches.into_iter().map(|(now, level, _)| (now, level)).collect();
    let expected = [(1_000, Level::Finalized), (65_000, Level::Confirmed), (96_000, Level::Finalized)];
    assert_eq!(times, expected, "after the relapse two minutes of calm never come");
}

#[test]
fn a_floor_of_finalized_never_switches() {
    let trace = |now: u64| Conditions { latency: Some(millis(now % 3_000)), ..calm() };
    assert_eq!(switches(Level::Finalized, 600_000, trace), []);
}

#[test]
fn thresholds_that_can_not_be_are_named() {
    let wrong =
        Thresholds { max_fork_rate: f64::NAN, severe_factor: 0.5, window_slots: 3, ..Thresholds::default() };
    let options: Vec<_> = wrong.problems("thresholds").into_iter().map(|problem| problem.option).collect();
    assert_eq!(options, ["thresholds.max_fork_rate", "thresholds.severe_factor", "thresholds.window_slots"]);
    assert!(Thresholds::default().problems("thresholds").is_empty());
}

fn any_conditions() -> impl Strategy<Value = Conditions> {
    let part = || prop::option::of(0.0..4.0f64);
    (part(), part(), part(), part(), part(), part()).prop_map(
        |(latency, rate, forks, skips, time, health)| Conditions {
            latency: latency.map(|strain| millis(500).mul_f64(strain)),
            throughput: rate.map(|strain| 1_000.0 * strain),
            fork_rate: forks.map(|strain| 0.05 * strain),
            skip_rate: skips.map(|strain| 0.15 * strain),
            slot_time: time.map(|strain| millis(600).mul_f64(strain)),
            healthy_endpoints: health.map(|strain| (0.5 * strain).min(1.0)),
        },
    )
}

proptest! {
    #[test]
    fn the_level_keeps_to_its_floor_rises_within_the_delay_and_returns_no_sooner_than_it_may(
        floor in prop::sample::select(vec![Level::Processed, Level::Confirmed, Level::Finalized]),
        trace in prop::collection::vec((any_conditions(), 1..400u64), 1..60),
    ) {
        let limits = Thresholds::default();
        let (mut switcher, mut now, mut changed_at) = (Switcher::new(floor), 0, 0);
        for (conditions, looks) in trace {
            let asked = optimal_commitment(&conditions, &limits).level;
            for look in 0..looks {
                now += 200;
                if let Some(switch) = switcher.step(at(now), &conditions, &limits) {
                    prop_assert!(switch.to != switch.from);
                    if switch.to < switch.from {
                        prop_assert!(now - changed_at >= 60_000);
                    }
                    changed_at = now;
                }
                prop_assert!(switcher.level() >= floor);
                if look >= 10 {
                    prop_assert!(switcher.level() >= asked, "two seconds suffice to be safe");
                }
            }
        }
    }
}
