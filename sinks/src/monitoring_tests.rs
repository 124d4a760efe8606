//! What `config/monitoring/` asks Prometheus for is what the nodes show.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PREFIX: &str = "sluice_";

/// Names with the prefix in `text`, without those of recorded series, files and jobs.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let named = words.filter_map(|word| word.strip_prefix(PREFIX));
    named
        .filter(|name| {
            !["rules", "rules_test", "token", "recordings", "data", "stream", "delivery", "dashboard"]
                .contains(name)
        })
        .map(str::to_owned)
        .collect()
}

/// All Rust code below a folder.
fn code(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            code(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(&path).expect("readable"));
        }
    }
}

#[test]
fn every_metric_that_is_asked_for_is_shown_by_some_node() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut shown = String::new();
    code(&root.join("stages/src"), &mut shown);
    code(&root.join("sinks/src"), &mut shown);
    let mut asked = BTreeSet::new();
    for file in ["sluice_rules.yml", "sluice_rules_test.yml", "sluice_dashboard.json"] {
        asked.extend(names(&fs::read_to_string(root.join("config/monitoring").join(file)).expect("there")));
    }
    assert!(asked.len() > 30, "{asked:?}");
    let unknown: Vec<_> = asked.iter().filter(|name| !shown.contains(&format!("\"{name}\""))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_dashboard_is_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/monitoring/sluice_dashboard.json");
    let dashboard: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path).expect("there")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{}", panel["title"]);
    }
}
