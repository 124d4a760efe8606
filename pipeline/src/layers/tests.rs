use sluice_config::diagnostic::Diagnostics;

use crate::plan::Plan;

const TEXT: &str = r#"
[sources.ams]
type = "yellowstone"
url = "http://a"
[stages.slots]
type = "gap_detector"
inputs = ["ams"]
[stages.whole]
type = "recovery"
inputs = ["slots"]
rpc = { url = "http://rpc" }
[stages.live]
type = "commitment"
inputs = ["whole"]
[stages.some]
type = "batcher"
inputs = ["live"]
[sinks.none]
type = "discard"
inputs = ["some"]
"#;

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Plan, Diagnostics> {
    let get = |name: &str| {
        let pair = variables.iter().find(|(known, _)| *known == name);
        pair.map(|(_, value)| (*value).to_owned())
    };
    Plan::parse("p.toml", text, &get)
}

fn plan(variables: &[(&str, &str)]) -> serde_json::Value {
    parse(TEXT, variables).unwrap_or_else(|wrong| panic!("{wrong}")).resolved()
}

/// The value of an option: `NODE.path`, or `.path` for `[pipeline]`.
fn value(plan: &serde_json::Value, place: &str) -> serde_json::Value {
    let (node, path) = place.split_once('.').expect("a place");
    let table = match node {
        "" => &plan["pipeline"],
        name => {
            let nodes = plan["nodes"].as_array().expect("nodes");
            &nodes.iter().find(|node| node["name"] == name).expect("the node")["options"]
        }
    };
    path.split('.').fold(table, |table, step| &table[step]).clone()
}

#[test]
fn every_variable_changes_what_it_names() {
    for (name, set, place, expected) in [
        ("PERFORMANCE_MODE", "Aggressive", ".profile", "\"aggressive\""),
        ("PERFORMANCE_MODE", "aggressive", "live.level", "\"processed\""),
        ("PERFORMANCE_MODE", "aggressive", "some.batch_size", "200"),
        ("PERFORMANCE_MODE", "conservative", "whole.rpc.requests_per_second", "20"),
        ("COMMITMENT_STRATEGY", "adaptive", "live.strategy", "\"adaptive\""),
        ("MAX_THROUGHPUT", "4321", "live.thresholds.max_throughput", "4321"),
        ("MAX_LATENCY", "321", "live.thresholds.max_latency", "\"321ms\""),
        ("SLOT_RECOVERY_ENABLED", "false", "whole.enabled", "false"),
        ("SLOT_RECOVERY_BATCH_SIZE", "7", "whole.batch_size", "7"),
        ("SLOT_RECOVERY_MAX_RETRIES", "9", "whole.max_retries", "9"),
        ("MAX_MEMORY_MB", "2047", ".memory_limit", "\"2047MiB\""),
        ("MAX_CPU_PERCENT", "33", ".max_cpu_percent", "33"),
    ] {
        assert_ne!(value(&plan(&[]), place).to_string(), expected, "{name} would change nothing");
        assert_eq!(value(&plan(&[(name, set)]), place).to_string(), expected, "{name}");
    }
}

#[test]
fn wrong_values_are_all_told_at_once_with_name_value_and_what_is_allowed() {
    let variables = [("PERFORMANCE_MODE", "fast"), ("MAX_CPU_PERCENT", "101"), ("MAX_MEMORY_MB", "2GB")];
    let wrong =
        parse(&TEXT.replace("inputs = [\"ams\"]", "inputs = [\"am\"]"), &variables).expect_err("wrong");
    assert_eq!(wrong.errors(), 4, "{wrong}");
    let text = wrong.render(false);
    for expected in [
        "error[invalid-value]: PERFORMANCE_MODE can't be `fast`\n --> environment:1:18\n",
        "1 | PERFORMANCE_MODE=fast\n  |                  ^^^^ expected one of `aggressive`, `balanced`, `conservative`",
        "MAX_CPU_PERCENT can't be `101`",
        "expected a whole number of percent from 1 to 100",
        "MAX_MEMORY_MB can't be `2GB`",
        " --> p.toml:7:11",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    assert_eq!(plan(&[("PERFORMANCE_MODE", "")]), plan(&[]));
}

#[test]
fn a_variable_that_has_no_use_here_is_a_warning() {
    let text = TEXT.replace("recovery", "commitment").replace("rpc = { url = \"http://rpc\" }", "");
    let plan = parse(&text, &[("SLOT_RECOVERY_MAX_RETRIES", "9")]).unwrap_or_else(|wrong| panic!("{wrong}"));
    let shown = plan.warnings.render(false);
    assert!(shown.contains("SLOT_RECOVERY_MAX_RETRIES changes nothing in this pipeline"), "{shown}");
    assert!(shown.contains("it is for nodes of type `recovery`"), "{shown}");
}

#[test]
fn the_file_goes_over_the_profile() {
    let text = TEXT.replace("type = \"commitment\"", "type = \"commitment\"\nlevel = \"processed\"");
    let plan = parse(&format!("[pipeline]\nprofile = 'conservative'{text}"), &[]).expect("valid").resolved();
    assert_eq!(value(&plan, "live.level"), "processed");
    assert_eq!(value(&plan, "some.batch_size"), 50);
}

#[test]
fn no_profile_lowers_the_level_of_what_files_are_made_from() {
    let text = TEXT.replace("type = \"discard\"", "type = \"parquet\"\npath = \"out\"");
    let text = format!(
        "{text}[stages.early]\ntype = \"commitment\"\ninputs = [\"whole\"]\n[sinks.two]\ntype = \"discard\"\ninputs = [\"early\"]\n"
    );
    let plan = parse(&text, &[("PERFORMANCE_MODE", "aggressive")]).unwrap_or_else(|wrong| panic!("{wrong}"));
    let plan = plan.resolved();
    assert_eq!(value(&plan, "live.level"), "finalized");
    assert_eq!(value(&plan, "early.level"), "processed");
}

#[test]
fn an_unknown_profile_is_reported_where_it_is_written() {
    let wrong = parse(&format!("[pipeline]\nprofile = 'agressive'{TEXT}"), &[]).expect_err("unknown");
    let text = wrong.render(false);
    assert!(text.contains("p.toml:2:11") && text.contains("did you mean `aggressive`?"), "{text}");
}

#[test]
fn files_are_refused_behind_an_adaptive_level_that_may_fall_below_finalized() {
    let text = TEXT.replace("type = \"discard\"", "type = \"parquet\"\npath = \"out\"");
    let with =
        |options: &str| text.replace("type = \"commitment\"", &format!("type = \"commitment\"\n{options}"));
    let wrong = parse(&with("strategy = \"adaptive\"\nlevel = \"confirmed\""), &[]).expect_err("too low");
    assert!(
        wrong.render(false).contains("needs a `commitment` with level = \"finalized\" before it"),
        "{wrong}"
    );
    let adaptive = [("COMMITMENT_STRATEGY", "adaptive"), ("PERFORMANCE_MODE", "aggressive")];
    let plan = parse(&with(""), &adaptive).unwrap_or_else(|wrong| panic!("{wrong}")).resolved();
    assert_eq!([value(&plan, "live.strategy"), value(&plan, "live.level")], ["adaptive", "finalized"]);
}
