//! What the demo prints at its end.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use sluice_sinks::verify::Report;

use super::compare::Comparison;
use crate::runner::Watch;

/// The end of a demo.
pub(super) struct Summary<'s> {
    pub(super) watch: &'s Watch,
    pub(super) report: &'s Report,
    pub(super) comparison: &'s Comparison,
    pub(super) out: &'s Path,
    pub(super) slots: u64,
    pub(super) took: Duration,
    pub(super) faults: u64,
}

impl Summary<'_> {
    /// Whether everything matched.
    pub(super) fn is_good(&self) -> bool {
        self.report.is_clean()
            && self.comparison.count == 0
            && self.report.slots == self.slots
            && self.watch.sum("holes") == 0
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (watch, report) = (self.watch, self.report);
        let recovered = watch.by_label("recovered_slots_total");
        let by = |way: &str| recovered.get(way).copied().unwrap_or(0);
        writeln!(f)?;
        writeln!(
            f,
            "slots                {} ({} blocks, {} skipped)",
            report.slots, report.blocks, report.skipped
        )?;
        for (dataset, rows) in &report.rows {
            writeln!(f, "  {dataset:<18} {rows} rows")?;
        }
        writeln!(f, "faults injected      {}", self.faults)?;
        writeln!(f, "duplicates discarded {}", watch.sum("duplicate_updates_total"))?;
        writeln!(f, "forks discarded      {}", watch.sum("discarded_blocks_total"))?;
        let (replay, rpc) = (by("replay"), by("rpc"));
        let (live, skipped) = (by("live"), by("skip_proven"));
        writeln!(
            f,
            "gaps recovered       {} (replay {replay}, rpc {rpc}, came late {live}, proven skips {skipped})",
            replay + rpc + live + skipped
        )?;
        writeln!(f, "holes                {}", watch.sum("holes"))?;
        writeln!(f, "peak frames held     {} MiB", watch.budget().peak_bytes() >> 20)?;
        writeln!(f, "time                 {:.1} s", self.took.as_secs_f64())?;
        writeln!(f, "files                {} in {}", report.files, self.out.display())?;
        writeln!(f, "sha256               {}", report.digest)?;
        for violation in &report.violations {
            writeln!(f, "violation: {violation}")?;
        }
        for difference in &self.comparison.differences {
            writeln!(f, "difference: {difference}")?;
        }
        if report.slots != self.slots {
            writeln!(f, "difference: {} slots were asked for", self.slots)?;
        }
        let compared = (self.comparison.slots, self.comparison.transactions);
        match self.is_good() {
            true => write!(f, "\nOK: {} slots, {} transactions equal the chain's", compared.0, compared.1),
            false => write!(
                f,
                "\nFAILED: {} differences from the chain, {} violations",
                self.comparison.count,
                report.violations.len()
            ),
        }
    }
}
