//! What the system says of this process and its disks: `/proc` and statvfs. Other systems than Linux say nothing.

use std::path::{Path, PathBuf};

/// Clock ticks a second in `/proc`: fixed to 100 for all of Linux' user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// One look at the system; what can't be read is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SystemReading {
    /// Memory that the process holds.
    pub(super) resident_bytes: Option<u64>,
    /// Processor time that it has used.
    pub(super) cpu_seconds: Option<f64>,
    /// Bytes that it has had written to disks.
    pub(super) written_bytes: Option<u64>,
    /// Bytes that all interfaces but the loopback have received and sent, of all processes in its network namespace.
    pub(super) network_bytes: Option<(u64, u64)>,
    /// Free and total bytes of the disks under the files and folders that nodes write to.
    pub(super) disks: Vec<(PathBuf, u64, u64)>,
}

impl SystemReading {
    /// Looks at this process, and at the disks under `places`.
    pub(super) fn take(places: &[PathBuf]) -> Self {
        let read = |file: &str| std::fs::read_to_string(Path::new("/proc/self").join(file)).ok();
        Self {
            resident_bytes: read("status").and_then(|text| resident_bytes(&text)),
            cpu_seconds: read("stat").and_then(|text| cpu_seconds(&text)),
            written_bytes: read("io").and_then(|text| number_after(&text, "write_bytes:")),
            network_bytes: read("net/dev").and_then(|text| network_bytes(&text)),
            disks: places.iter().filter_map(|place| disk(place)).collect(),
        }
    }
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident_bytes(status: &str) -> Option<u64> {
    number_after(status, "VmRSS:").map(|kib| kib * 1_024)
}

/// Fields 14 and 15 of `/proc/self/stat`; the name before them is in parentheses and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn network_bytes(dev: &str) -> Option<(u64, u64)> {
    let mut total = None;
    for (name, counters) in dev.lines().filter_map(|line| line.split_once(':')) {
        let fields: Vec<u64> = counters.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let (Some(received), Some(sent)) = (fields.first(), fields.get(8)) else { continue };
        if name.trim() != "lo" {
            let (so_far_received, so_far_sent) = total.unwrap_or((0, 0));
            total = Some((so_far_received + received, so_far_sent + sent));
        }
    }
    total
}

/// Free and total bytes of the disk under a file or folder, or under the nearest folder above it that is there.
#[cfg(unix)]
fn disk(place: &Path) -> Option<(PathBuf, u64, u64)> {
    let absolute = std::path::absolute(place).ok()?;
    let stat = absolute.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    (stat.f_blocks > 0).then(|| (place.to_owned(), bytes(stat.f_bavail), bytes(stat.f_blocks)))
}

#[cfg(not(unix))]
fn disk(_: &Path) -> Option<(PathBuf, u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_where_linux_puts_them() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2 << 20));
        let stat = "1 (a ) b) S 1 1 1 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 3 0 12 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        let dev = "Inter-| Receive\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n  eth0: 5 0 0 0 0 0 0 0 7 0 0 0 0 0 0 0\n eth1: 1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\n";
        assert_eq!(network_bytes(dev), Some((6, 9)));
        assert_eq!(number_after("write_bytes: 12\n", "write_bytes:"), Some(12));
    }

    #[test]
    fn what_makes_no_sense_is_absent() {
        assert_eq!(resident_bytes(""), None);
        assert_eq!(cpu_seconds("1 (x) S 1"), None);
        assert_eq!(network_bytes("lo: 9 0 0 0 0 0 0 0 9"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_holds_memory_and_a_folder_to_come_has_a_disk() {
        let reading = SystemReading::take(&[PathBuf::from("not/there/yet")]);
        assert!(reading.resident_bytes.is_some_and(|bytes| bytes > 0));
        let (_, free, total) = reading.disks[0].clone();
        assert!(free <= total && total > 0);
    }
}
