//! The four promises under simulation: thousands of seeds, and proof that the simulation can fail.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sluice_tests::simulation::{Digest, Failure, Mutant, Report, Scenario, run, run_mutant};

/// Seeds that each run of the tests plays.
const SEEDS: u64 = 4_000;
/// Failures that are told in full.
const TOLD_FAILURES: usize = 8;
/// Seeds within which each mutant has to be caught.
const MUTANT_SEEDS: u64 = 200;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")))
}

/// Plays each seed once, on all cores.
fn play_all(seeds: u64) -> Vec<(Scenario, Result<Report, Box<Failure>>)> {
    let next = AtomicU64::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds)
                {
                    let scenario = Scenario::from_seed(seed);
                    let mut result = run(&scenario);
                    if let Ok(report) = &mut result {
                        // Of thousands of runs only the failures' traces are of interest.
                        report.trace = String::new();
                    }
                    results.lock().expect("nobody panics while holding it").push((scenario, result));
                }
            });
        }
    });
    results.into_inner().expect("all threads have ended")
}

fn play_one(seed: u64) {
    let scenario = Scenario::from_seed(seed);
    println!("{scenario:#?}");
    match run(&scenario) {
        Ok(report) => println!("{}seed {seed} keeps all promises, {} slots", report.trace, report.slots),
        Err(failure) => panic!("{}{failure}", failure.trace),
    }
}

/// All runs over one ledger end with the same output.
fn assert_reproducible(runs: &[(Scenario, Result<Report, Box<Failure>>)]) {
    let mut digests: BTreeMap<u64, (Digest, u64)> = BTreeMap::new();
    for (scenario, result) in runs.iter().filter(|(scenario, _)| scenario.takes_all()) {
        let Ok(report) = result else { continue };
        let (digest, seed) =
            *digests.entry(scenario.ledger_number()).or_insert((report.digest, scenario.seed));
        assert_eq!(digest, report.digest, "seeds {seed} and {} differ over one ledger", scenario.seed);
    }
}

#[test]
fn every_seed_keeps_the_four_promises() {
    if let Some(seed) = variable("SLUICE_SEED") {
        return play_one(seed);
    }
    let runs = play_all(variable("SLUICE_SEEDS").unwrap_or(SEEDS));
    let mut failures: Vec<&Failure> =
        runs.iter().filter_map(|(_, result)| result.as_ref().err()).map(Box::as_ref).collect();
    failures.sort_by_key(|failure| failure.seed);
    let told: Vec<String> = failures.iter().take(TOLD_FAILURES).map(|failure| failure.to_string()).collect();
    assert!(failures.is_empty(), "{} seeds fail\n{}", failures.len(), told.join("\n"));
    assert_reproducible(&runs);
    let mut ways = [0; 3];
    for report in runs.iter().filter_map(|(_, result)| result.as_ref().ok()) {
        ways.iter_mut().zip(report.ways).for_each(|(sum, count)| *sum += count);
    }
    println!("blocks out: {} live, {} by replay, {} by RPC", ways[0], ways[1], ways[2]);
    assert!(ways.iter().all(|&count| count > runs.len() / 10), "a way is hardly ever taken: {ways:?}");
}

#[test]
fn equal_seeds_give_equal_traces() {
    for seed in 0..20 {
        let trace = || match run(&Scenario::from_seed(seed)) {
            Ok(report) => report.trace,
            Err(failure) => failure.trace,
        };
        let first = trace();
        assert!(!first.is_empty());
        assert_eq!(first, trace(), "seed {seed}");
    }
}

#[test]
fn every_mutant_is_caught() {
    for mutant in Mutant::ALL {
        let caught = (0..MUTANT_SEEDS).find_map(|seed| run_mutant(&Scenario::from_seed(seed), mutant).err());
        let failure = caught.unwrap_or_else(|| panic!("nobody notices that the pipeline {mutant:?}"));
        println!("{mutant:?}: seed {}: {}", failure.seed, failure.violation);
    }
}
