//! A wrong value of any variable is told with the variable, the value and what is allowed, and nothing is started.

use std::fs;
use std::path::Path;

use crate::support::Process;

const PIPELINE: &str = "[sources.a]\ntype = \"yellowstone\"\nurl = \"http://a\"\n[sinks.b]\ntype = \"discard\"\ninputs = [\"a\"]\n";

/// Variables, a wrong value, that value as it may be shown, and what is allowed.
const WRONG: [(&str, &str, &str, &str); 13] = [
    ("PERFORMANCE_MODE", "turbo", "turbo", "one of `aggressive`, `balanced`, `conservative`"),
    ("COMMITMENT_STRATEGY", "maybe", "maybe", "one of `fixed`, `adaptive`"),
    ("MAX_THROUGHPUT", "0", "0", "a whole number of transactions a second from 1 to 10000000"),
    ("MAX_LATENCY", "fast", "fast", "a whole number of milliseconds from 1 to 86400000"),
    (
        "ALERT_WEBHOOK_URL",
        "ftp://hooks.example/canary",
        "ftp://hooks.example/[redacted]",
        "an http or https url",
    ),
    (
        "GRPC_ENDPOINTS",
        "http://a,tcp://b",
        "http://a,tcp://b",
        "endpoint 2: `tcp://b` is not an http or https url",
    ),
    ("GRPC_FAILOVER_ENABLED", "perhaps", "perhaps", "one of `true`, `false`, `1`, `0`"),
    ("GRPC_HEALTH_CHECK_INTERVAL", "30s", "30s", "a whole number of milliseconds from 100 to 86400000"),
    ("SLOT_RECOVERY_ENABLED", "on", "on", "one of `true`, `false`, `1`, `0`"),
    ("SLOT_RECOVERY_BATCH_SIZE", "-5", "-5", "a whole number of slots from 1 to 10000"),
    ("SLOT_RECOVERY_MAX_RETRIES", "1.5", "1.5", "a whole number of tries from 0 to 1000"),
    ("MAX_MEMORY_MB", "2GB", "2GB", "a whole number of megabytes from 16 to 16777216"),
    ("MAX_CPU_PERCENT", "101", "101", "a whole number of percent from 1 to 100"),
];

#[test]
fn a_wrong_value_of_any_variable_is_told_with_name_value_and_what_is_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.toml");
    fs::write(&path, PIPELINE).expect("writable");
    let run =
        |variables: &[(&str, &str)]| Process::with_variables(&[Path::new("run"), &path], variables).end();
    for (name, wrong, shown, allowed) in WRONG {
        let (status, log) = run(&[(name, wrong)]);
        assert_eq!(status.code(), Some(78), "{name}: {log}");
        assert!(log.contains(&format!("{name} can't be `{shown}`")), "{name}: {log}");
        assert!(log.contains(allowed), "{name}: {log}");
        assert!(log.contains("or unset it"), "{name}: {log}");
    }
    let all: Vec<_> = WRONG.iter().map(|&(name, wrong, ..)| (name, wrong)).collect();
    let (status, log) = run(&all);
    assert_eq!(status.code(), Some(78), "{log}");
    assert!(WRONG.iter().all(|(name, ..)| log.contains(&format!("{name} can't be"))), "{log}");
    assert!(!log.contains("canary"), "{log}");
}
