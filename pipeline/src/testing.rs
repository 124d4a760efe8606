//! Pipelines that the tests of several commands share.

/// Two sources that are merged, and a second path to the sink.
pub(crate) const WHOLE: &str = r#"[pipeline]
name = "two \"ways\""
[sources.ams]
type = "yellowstone"
url = "http://a"
[sources.us]
type = "yellowstone"
url = "http://b"
[stages.all]
type = "merge"
inputs = ["ams", "us"]
[stages.once]
type = "dedupe"
inputs = ["all"]
capacity_items = 10
[stages.slow]
type = "batcher"
inputs = ["us"]
[sinks.none]
type = "discard"
inputs = [
  "once", { from = "slow", when_full = "drop_newest" },
]
"#;

/// An unknown option and an unknown input.
pub(crate) const BROKEN: &str = r#"[sources.ams]
type = "yellowstone"
url = "http://a"
[stages.all]
type = "merge"
max_lag = 5
inputs = ["ams", "nobody"]
[sinks.none]
type = "discard"
inputs = ["all"]
"#;
