//! What this process has used.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// Processor time of all threads since the process began, user and system.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The highest resident set so far.
///
/// # Errors
/// If the system does not say.
pub fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("can't read the process' status")?;
    peak_of(&status).context("the process' status has no VmHWM")
}

/// The load of the machine over the last minute, five and fifteen minutes; empty if the system does not say.
pub fn load_average() -> String {
    let line = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_bytes() {
        assert_eq!(peak_of("VmPeak:\t  99 kB\nVmHWM:\t    12 kB\n"), Some(12 << 10));
        assert_eq!(peak_of("VmPeak:\t  99 kB\n"), None);
    }

    #[test]
    fn processor_time_never_goes_back() {
        let before = cpu_time();
        assert!(
            std::hint::black_box((0..100_000_u64).fold(1, u64::wrapping_mul)) == 0 || cpu_time() > before
        );
        assert!(cpu_time() >= before);
    }
}
