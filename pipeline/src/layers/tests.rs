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
        ("PERFORMANCE_MODE", "conservative", "ams.max_requests_per_second", "20"),
        ("COMMITMENT_STRATEGY", "adaptive", "live.strategy", "\"adaptive\""),
        ("MAX_THROUGHPUT", "4321", "live.thresholds.max_throughput", "4321"),
        ("MAX_LATENCY", "321", "live.thresholds.max_latency", "\"321ms\""),
        ("GRPC_FAILOVER_ENABLED", "true", "ams.mode", "\"failover\""),
        ("GRPC_HEALTH_CHECK_INTERVAL", "1500", "ams.health_check_interval", "\"1s500ms\""),
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
fn a_variable_that_no_node_makes_anything_of_is_a_warning() {
    let warnings = |text: &str, variables: &[(&str, &str)]| {
        parse(text, variables).unwrap_or_else(|wrong| panic!("{wrong}")).warnings.render(false)
    };
    let adaptive = TEXT.replace("\"commitment\"", "\"commitment\"\nstrategy = \"adaptive\"");
    let listed =
        TEXT.replace("url = \"http://a\"", "endpoints = [{ url = \"http://a\" }, { url = \"http://b\" }]");
    for (name, set, needed, other) in [
        ("MAX_LATENCY", "9", "`strategy = \"adaptive\"`", &adaptive),
        ("MAX_THROUGHPUT", "9", "`strategy = \"adaptive\"`", &adaptive),
        ("GRPC_FAILOVER_ENABLED", "true", "two `endpoints` or more", &listed),
    ] {
        let shown = warnings(TEXT, &[(name, set)]);
        assert!(shown.contains(&format!("{name} changes nothing in this pipeline")), "{shown}");
        assert!(shown.contains(needed), "{shown}");
        assert!(!warnings(other, &[(name, set)]).contains("changes nothing"), "{name}");
    }
    for together in [
        [("MAX_LATENCY", "9"), ("COMMITMENT_STRATEGY", "adaptive")],
        [("GRPC_FAILOVER_ENABLED", "1"), ("GRPC_ENDPOINTS", "http://a,http://b")],
    ] {
        assert!(!warnings(TEXT, &together).contains("changes nothing"), "{together:?}");
    }
}

#[test]
fn the_profile_is_for_each_node_of_a_list() {
    let nodes = "rpc = [{ url = \"http://a\", requests_per_second = 7 }, { url = \"http://b\" }]";
    let text = TEXT.replace("rpc = { url = \"http://rpc\" }", nodes);
    let plan = parse(&text, &[("PERFORMANCE_MODE", "aggressive")]).unwrap_or_else(|wrong| panic!("{wrong}"));
    let rpc = value(&plan.resolved(), "whole.rpc");
    assert_eq!([&rpc[0]["requests_per_second"], &rpc[1]["requests_per_second"]], [7, 100]);
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

/// A pipeline with this beside it.
fn with_alerts(more: &str, url: &str) -> Result<Plan, Diagnostics> {
    parse(&format!("{TEXT}{more}"), &[("ALERT_WEBHOOK_URL", url)])
}

/// The names of the nodes of a kind, and the names of what they read.
fn reads(plan: &serde_json::Value, kind: &str) -> Vec<(String, Vec<String>)> {
    let texts = |value: &serde_json::Value| serde_json::from_value(value.clone()).expect("texts");
    let nodes = plan["nodes"].as_array().expect("nodes").iter().filter(|node| node["type"] == kind);
    nodes.map(|node| (node["name"].as_str().expect("a name").to_owned(), texts(&node["inputs"]))).collect()
}

const MONITOR: &str = "[sources.pulse]\ntype = \"monitor\"\n";
const RULES: &str = "[stages.rules]\ntype = \"alert_evaluator\"\ninputs = [\"pulse\"]\n";

#[test]
fn an_alert_webhook_url_brings_what_it_needs_and_no_more() {
    let one = |name: &str, from: &str| vec![(name.to_owned(), vec![from.to_owned()])];
    for (more, rules, sink) in [
        (String::new(), one("alert_rules", "alert_monitor"), one("alert_webhook", "alert_rules")),
        (MONITOR.to_owned(), one("alert_rules", "pulse"), one("alert_webhook", "alert_rules")),
        (
            format!("{MONITOR}{RULES}[sinks.x]\ntype = \"discard\"\ninputs = [\"rules\"]\n"),
            one("rules", "pulse"),
            one("alert_webhook", "rules"),
        ),
        (
            format!(
                "{MONITOR}{RULES}[sinks.tell]\ntype = \"webhook\"\nurl = \"http://old\"\ninputs = [\"rules\"]\n"
            ),
            one("rules", "pulse"),
            one("tell", "rules"),
        ),
    ] {
        let plan =
            with_alerts(&more, "https://hooks/T/secret").unwrap_or_else(|wrong| panic!("{wrong}\n{more}"));
        let name = &sink[0].0;
        let origin = plan.origins.option(name, "url").map(|origin| origin.place.clone());
        assert_eq!(origin.as_deref(), Some("environment ALERT_WEBHOOK_URL"));
        let plan = plan.resolved();
        assert_eq!((reads(&plan, "alert_evaluator"), reads(&plan, "webhook")), (rules, sink), "{more}");
    }
}

#[test]
fn a_wrong_alert_webhook_url_is_told_without_its_token() {
    let wrong = with_alerts("", "htps://hooks/T/hunter2").expect_err("no such scheme").render(false);
    assert!(wrong.contains("ALERT_WEBHOOK_URL can't be `htps://hooks/[redacted]`"), "{wrong}");
    assert!(wrong.contains("expected an http or https url") && !wrong.contains("hunter2"), "{wrong}");
}

#[test]
fn a_bound_on_processors_is_watched_by_every_evaluator_that_has_no_rule_of_its_own() {
    let sink = "[sinks.x]\ntype = \"discard\"\ninputs = [\"rules\"]\n";
    let rule = |more: &str, set: &str| {
        let text = format!("{TEXT}{MONITOR}{RULES}{more}{sink}");
        let plan = parse(&text, &[("MAX_CPU_PERCENT", set)]).unwrap_or_else(|wrong| panic!("{wrong}"));
        value(&plan.resolved(), "rules.rules.cpu")
    };
    let limit = crate::layers::cores() as f64 / 2.0;
    let watched = rule("", "50");
    assert_eq!(
        (&watched["metric"], &watched["fire_when"]),
        (&"cpu_cores".into(), &format!("> {limit}").into())
    );
    assert!(rule("", "").is_null(), "nobody asked for it");
    let own = rule("rules = { cpu = { metric = \"cpu_cores\", fire_when = \"> 7\" } }\n", "50");
    assert_eq!(own["fire_when"], "> 7");
    let changed = rule("rules = { cpu = { for = \"5s\" } }\n", "50");
    assert_eq!((&changed["for"], &changed["fire_when"]), (&"5s".into(), &format!("> {limit}").into()));
}

const THREE: &str = r#"
[sources.ams]
type = "yellowstone"
url = "http://a"
x_token = "of_a"
transactions = true
[sources.us]
type = "yellowstone"
url = "http://b"
[sources.asia]
type = "yellowstone"
url = "http://c"
[stages.first]
type = "merge"
inputs = ["us", { from = "ams", capacity_items = 7 }, "asia"]
[sinks.none]
type = "discard"
inputs = ["first"]
"#;

#[test]
fn grpc_endpoints_are_all_the_endpoints_that_there_are() {
    let list = r#"[{"url":"http://x","region":"ams","priority":2,"token":"hunter2"},{"url":"https://y"}]"#;
    let plan = parse(THREE, &[("GRPC_ENDPOINTS", list)]).unwrap_or_else(|wrong| panic!("{wrong}")).resolved();
    let sources: Vec<_> = reads(&plan, "yellowstone").into_iter().map(|(name, _)| name).collect();
    assert_eq!(sources, ["ams"]);
    let endpoints = value(&plan, "ams.endpoints");
    assert_eq!([&endpoints[0]["url"], &endpoints[1]["url"]], ["http://x", "https://y"]);
    assert_eq!((&endpoints[0]["region"], &endpoints[0]["priority"]), (&"ams".into(), &2.into()));
    assert_eq!(endpoints[0]["token"], "[redacted]");
    assert!(value(&plan, "ams.x_token").is_null(), "a token is not sent to another provider");
    assert_eq!(value(&plan, "ams.transactions"), true, "what is subscribed to stays");
    assert_eq!(reads(&plan, "merge"), [("first".to_owned(), vec!["ams".to_owned()])]);
}

#[test]
fn wrong_grpc_endpoints_are_told_without_their_tokens() {
    let list = r#"[{"url":"ftp://x","token":"hunter2"}]"#;
    let wrong = parse(THREE, &[("GRPC_ENDPOINTS", list)]).expect_err("no such scheme").render(false);
    assert!(wrong.contains("endpoint 1: `ftp://x` is not an http or https url"), "{wrong}");
    assert!(wrong.contains("GRPC_ENDPOINTS can't be") && !wrong.contains("hunter2"), "{wrong}");
}
