//! What the rounds come to.

use std::fmt::Write as _;

use crate::contender::{Contender, Outcome, Served};

/// What a client did in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lap {
    /// Who.
    pub contender: Contender,
    /// What it said.
    pub outcome: Outcome,
    /// Whether every row was there once.
    pub whole: bool,
}

/// The laps of each round.
#[derive(Debug, Default)]
pub struct Report {
    rounds: Vec<Vec<Lap>>,
}

/// Least, middle and most of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(numbers: impl Iterator<Item = f64>) -> Option<Self> {
        let mut numbers: Vec<f64> = numbers.collect();
        numbers.sort_by(f64::total_cmp);
        let (&least, &most) = (numbers.first()?, numbers.last()?);
        Some(Self { least, median: numbers[numbers.len() / 2], most })
    }

    fn text(self, decimals: usize) -> String {
        let Self { least, median, most } = self;
        format!("{median:.decimals$} ({least:.decimals$} – {most:.decimals$})")
    }
}

impl Report {
    /// Adds a round.
    pub fn add(&mut self, round: Vec<Lap>) {
        self.rounds.push(round);
    }

    /// Whether every row of every round was there once.
    pub fn is_whole(&self) -> bool {
        self.rounds.iter().flatten().all(|lap| lap.whole)
    }

    /// The table.
    pub fn show(&self, served: &Served) -> String {
        let mut text = format!(
            "{:<10}{:>32}{:>22}{:>24}{:>12}  {}\n",
            "", "updates per CPU-second", "µs an update", "ratio to bare", "peak MiB", "rows"
        );
        for contender in Contender::ALL {
            if let Some(line) = self.line(contender, served) {
                text.push_str(&line);
            }
        }
        if let Some(cost) = self.ratio(Contender::Ingest3, Contender::Ingest1) {
            writeln!(text, "three endpoints cost {} times what one does", cost.text(2))
                .expect("a string takes all");
        }
        for (one, other) in
            [(Contender::Monitored, Contender::Parquet), (Contender::Watched, Contender::Monitored)]
        {
            if let (Some(cost), Some(wall)) = (self.ratio(one, other), self.wall_ratio(one, other)) {
                let (cost, wall) = (cost.text(3), wall.text(3));
                writeln!(
                    text,
                    "{one} costs {cost} times the CPU of {other}, and {wall} times its time on the wall"
                )
                .expect("a string takes all");
            }
        }
        text
    }

    fn line(&self, contender: Contender, served: &Served) -> Option<String> {
        let laps = || self.rounds.iter().flatten().filter(move |lap| lap.contender == contender);
        let seconds = |lap: &Lap| lap.outcome.cpu_seconds;
        let updates = served.updates as f64;
        let peak = Spread::of(laps().map(|lap| lap.outcome.peak_bytes as f64 / f64::from(1 << 20)))?;
        if laps().any(|lap| !lap.whole) {
            return Some(format!("{contender:<10}{:>78}{:>12.0}  LOST\n", "no score", peak.most));
        }
        let rate = Spread::of(laps().map(|lap| updates / seconds(lap)))?;
        let cost = Spread::of(laps().map(|lap| seconds(lap) / updates * 1e6))?;
        // Costs are to each other as rates are, the other way round.
        let ratio = self.ratio(Contender::Bare, contender).map(|ratio| ratio.text(2));
        let rows = if contender == Contender::Bare { "counted" } else { "all, once" };
        Some(format!(
            "{contender:<10}{:>32}{:>22}{:>24}{:>12.0}  {rows}\n",
            rate.text(0),
            cost.text(2),
            ratio.unwrap_or_default(),
            peak.most
        ))
    }

    /// What one costs by what another costs, in the same round.
    fn ratio(&self, one: Contender, other: Contender) -> Option<Spread> {
        self.ratio_of(one, other, |outcome| outcome.cpu_seconds)
    }

    fn wall_ratio(&self, one: Contender, other: Contender) -> Option<Spread> {
        self.ratio_of(one, other, |outcome| outcome.wall_seconds)
    }

    fn ratio_of(&self, one: Contender, other: Contender, value: impl Fn(&Outcome) -> f64) -> Option<Spread> {
        let cost = |round: &[Lap], who: Contender| {
            round.iter().find(|lap| lap.contender == who).map(|lap| value(&lap.outcome))
        };
        Spread::of(self.rounds.iter().filter_map(|round| Some(cost(round, one)? / cost(round, other)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;

    fn lap(contender: Contender, cpu_seconds: f64, whole: bool) -> Lap {
        Lap {
            contender,
            outcome: Outcome { cpu_seconds, wall_seconds: cpu_seconds, peak_bytes: 1 << 20, tally: None },
            whole,
        }
    }

    fn served() -> Served {
        let (whole, in_files) = (Tally::default(), Tally::default());
        Served { urls: Vec::new(), updates: 1_000, bytes: 0, whole, in_files }
    }

    #[test]
    fn ratios_are_those_of_a_round_not_of_medians() {
        let mut report = Report::default();
        for (bare, ingest) in [(3.0, 1.0), (6.0, 2.0), (9.0, 3.0)] {
            report.add(vec![lap(Contender::Bare, bare, true), lap(Contender::Ingest1, ingest, true)]);
        }
        let shown = report.show(&served());
        assert!(shown.contains("3.00 (3.00 – 3.00)"), "{shown}");
        assert!(shown.contains("500 (333 – 1000)"), "{shown}");
    }

    #[test]
    fn whoever_lost_a_row_has_no_score() {
        let mut report = Report::default();
        report.add(vec![lap(Contender::Bare, 1.0, true), lap(Contender::Parquet, 1.0, true)]);
        report.add(vec![lap(Contender::Bare, 1.0, true), lap(Contender::Parquet, 0.1, false)]);
        let shown = report.show(&served());
        assert!(!report.is_whole());
        assert!(shown.contains("LOST") && !shown.contains("10.00"), "{shown}");
    }
}
